//! Which names are sidecars, and which are no documents yet. The doors and the folder scan ask here,
//! so that what Inkport writes never comes back to it as an upload.

/// Suffixes of sidecars, the longer before the shorter that it ends with.
pub const SUFFIXES: [&str; 8] = [ERROR_SUFFIX, ".alto.xml", ".txt", ".json", ".hocr", ".md", ".csv", ".pdf"];

/// The sidecar of an upload that could not be read.
pub const ERROR_SUFFIX: &str = ".error.json";

const DOCUMENT_EXTENSIONS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "tif", "tiff", "pdf", "bmp", "gif", "webp", "pnm", "pbm", "pgm", "ppm"];

/// Extensions under which clients write a file until it is whole; they rename it then.
const TEMPORARY_EXTENSIONS: [&str; 6] = ["part", "partial", "tmp", "filepart", "lck", "crdownload"];

/// The suffix of a sidecar of a stack's document, `number` counted from 1: `.2.json`.
#[must_use]
pub fn part_suffix(number: u32, suffix: &str) -> String {
    format!(".{number}{suffix}")
}

/// The name of the file that `name` is a document of, where it is a stack's: `stack.tif` of `stack.tif.2`.
#[must_use]
pub fn stack_of(name: &str) -> Option<&str> {
    let (stack, number) = name.rsplit_once('.')?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    (is_number && (1..=9).contains(&number.len())).then_some(stack)
}

/// Every sidecar that a stack's document may have.
pub fn part_suffixes(number: u32) -> impl Iterator<Item = String> {
    SUFFIXES.iter().filter(|suffix| **suffix != ERROR_SUFFIX).map(move |suffix| part_suffix(number, suffix))
}

/// Sidecars of a stack's documents are looked for until this many numbers in a row have none: their client may have
/// taken some away.
pub const PART_GAP: u32 = 4;

/// Whether a file name ends as a document's does, in any case. Only a hint about names: what a file is,
/// its content says.
#[must_use]
pub fn has_document_extension(name: &str) -> bool {
    extension(name).is_some_and(|found| is_one_of(found, &DOCUMENT_EXTENSIONS))
}

/// Whether `name` (a file name, no path) is that of a sidecar: a known suffix behind a document's name,
/// or behind the name of a file that lies beside it (`base_exists` tells). A `.pdf` is one behind a document's
/// name only: `letter` and `letter.pdf` side by side are two documents. A day's table counts as one too.
#[must_use]
pub fn is_sidecar(name: &str, base_exists: &dyn Fn(&str) -> bool) -> bool {
    if is_day_file(name) {
        return true;
    }
    let Some((base, suffix)) = SUFFIXES.iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix))) else {
        return false;
    };
    let is_base = |base: &str| !base.is_empty() && (has_document_extension(base) || (suffix != ".pdf" && base_exists(base)));
    is_base(base) || stack_of(base).is_some_and(is_base)
}

/// The name of an account's table of a day, as `2026-11-29`; of the second on, where the first is taken.
#[must_use]
pub fn day_file(day: &str, number: u32) -> String {
    if number < 2 { format!("{day}.csv") } else { format!("{day}-{number}.csv") }
}

/// Whether `name` is one of those.
fn is_day_file(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".csv") else { return false };
    let (day, number) = stem.split_at_checked(10).unwrap_or(("", "x"));
    let is_digit = |at: usize, byte: u8| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    let counted = |number: &str| number.strip_prefix('-').is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    day.bytes().enumerate().all(|(at, byte)| is_digit(at, byte)) && (number.is_empty() || counted(number))
}

/// Whether `name` (a file name, no path) says by itself that it is hidden or not whole yet: a leading dot,
/// a temporary extension in any case, an editor's or office's `~`.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(['.', '~'])
        || name.ends_with('~')
        || extension(name).is_some_and(|found| is_one_of(found, &TEMPORARY_EXTENSIONS))
}

fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn is_one_of(extension: &str, known: &[&str]) -> bool {
    known.iter().any(|one| one.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_of_documents_are_known_by_name_alone() {
        let nothing_beside = |_: &str| false;
        for name in [
            "scan.jpg.txt", "scan.JPG.json", "scan.jpg.error.json", "a b.tiff.alto.xml", "x.pdf.pdf", "x.ppm.hocr", "x.png.md",
            "x.webp.csv",
        ] {
            assert!(is_sidecar(name, &nothing_beside), "{name}");
        }
        for name in ["stack.tif.1.json", "stack.tif.12.txt", "stack.pdf.3.alto.xml", "stack.pdf.3.pdf"] {
            assert!(is_sidecar(name, &nothing_beside), "{name}");
        }
        for name in ["stack.tif.0.json", "stack.tif.x.json", "stack.1.json", "1.json", ".1.json", "stack.tif.1", "letter.2.pdf"] {
            assert!(!is_sidecar(name, &nothing_beside), "{name}");
        }
        assert!(is_sidecar("upload.1.json", &|base| base == "upload"));
        for name in ["scan.jpg", "notes.txt", "letter.pdf", "data.json", ".txt", "txt", "", "scan.jpg.bak", "scan.jpg.TXT.zip"] {
            assert!(!is_sidecar(name, &nothing_beside), "{name}");
        }
    }

    #[test]
    fn sidecars_of_other_uploads_need_their_base() {
        let beside = |base: &str| base == "upload" || base == "notes";
        for name in ["upload.txt", "upload.json", "upload.error.json"] {
            assert!(is_sidecar(name, &beside), "{name}");
        }
        assert!(!is_sidecar("upload.pdf", &beside), "a PDF beside a file without an extension is a document");
        assert!(!is_sidecar("other.txt", &beside));
    }

    #[test]
    fn tables_of_days_are_no_documents() {
        for name in ["2026-11-29.csv", "2026-11-29-2.csv"] {
            assert!(is_sidecar(name, &|_| false), "{name}");
        }
        for name in [
            "2026-11-29.jpg", "2026-11-2.csv", "2026-11-29-22.csv", "2026-11-29x.csv", "2026-11-299.csv", ".csv",
            "größe-2026.csv",
        ] {
            assert!(!is_sidecar(name, &|_| false), "{name}");
        }
        assert_eq!((day_file("2026-11-29", 1), day_file("2026-11-29", 2)), ("2026-11-29.csv".into(), "2026-11-29-2.csv".into()));
    }

    #[test]
    fn names_of_unfinished_files() {
        for name in [".scan.jpg", "scan.jpg.part", "scan.jpg.TMP", "scan.filepart", "scan.jpg.LCK", "~$letter.doc", "scan.jpg~"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["scan.jpg", "part", "tmp.jpg", "scan~1.jpg", "a.parts"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
