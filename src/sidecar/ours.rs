//! Whether a file is one that Inkport wrote. An account may have files of its own under sidecars' names: they are
//! neither replaced nor removed. Text has no place for a sign, so a `.txt` is taken for ours.

use super::csv::{DAY_HEADER, HEADER};
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes from the beginning, and from the end, in which the sign stands.
const WINDOW: u64 = 4096;

/// Whether the file of a name that ends with `suffix` is ours by its content.
pub fn is_ours(suffix: &str, file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(WINDOW).read_to_end(&mut head)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut tail = Vec::new();
    file.take(WINDOW).read_to_end(&mut tail)?;
    let has = |text: &[u8], sign: &str| text.windows(sign.len()).any(|window| window == sign.as_bytes());
    Ok(match suffix {
        ".txt" => true,
        ".error.json" => head.starts_with(b"{\"schema\":\"inkport/error/"),
        ".json" => head.starts_with(b"{\"schema\":\"inkport/reading/"),
        ".hocr" => has(&head, "<meta name=\"ocr-system\" content=\"inkport "),
        ".alto.xml" => has(&head, "<processingStepDescription>inkport job "),
        ".md" => has(&tail, "<!-- inkport job "),
        ".csv" => {
            let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head);
            [HEADER, DAY_HEADER].iter().any(|header| text.starts_with(header.as_bytes()))
        }
        ".pdf" => has(&tail, "%inkport job "),
        _ => false,
    })
}
