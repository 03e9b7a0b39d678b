//! Stacks: documents that went through the feeder together, with separator sheets between them.
//!
//! A sheet that bears a separator code belongs to no document. Documents come in the order of their pages;
//! a stack without a separator is one document and is not parted.

use super::codes::{Code, Settings};
use super::fields::Extract;
use serde::{Deserialize, Serialize};

/// One document of a stack.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Its pages' numbers in the file, in order; never empty.
    pub pages: Vec<u32>,
    pub extract: Extract,
}

/// The pages of each document of a stack of `pages` pages; `None` where no separator sheet parts it.
#[must_use]
pub fn split(pages: &[u32], codes: &[Code], settings: &Settings) -> Option<Vec<Vec<u32>>> {
    let is_separator = |page: &u32| codes.iter().any(|code| code.page == *page && settings.is_separator(&code.text));
    if !pages.iter().any(is_separator) {
        return None;
    }
    let documents = pages.split(is_separator).filter(|part| !part.is_empty()).map(<[u32]>::to_vec).collect();
    Some(documents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocr::Quad;

    fn code(text: &str, page: u32) -> Code {
        Code { format: "CODE_128".into(), text: text.into(), page, quad: Quad([[0.0; 2]; 4]) }
    }

    #[test]
    fn sheets_part_a_stack_and_belong_to_nobody() {
        let settings = Settings::default();
        let pages: Vec<u32> = (1..=6).collect();
        assert_eq!(split(&pages, &[code("ASN12", 2)], &settings), None);
        let codes = [code("PATCHT", 1), code("ASN7", 2), code("PATCHT", 4), code("PATCHT", 5)];
        assert_eq!(split(&pages, &codes, &settings), Some(vec![vec![2, 3], vec![6]]));
        assert_eq!(split(&pages[..1], &codes, &settings), Some(vec![]));
    }

    #[test]
    fn no_separators_part_nothing() {
        let settings = Settings { separator: String::new(), ..Settings::default() };
        assert_eq!(split(&[1, 2], &[code("PATCHT", 1)], &settings), None);
    }
}
