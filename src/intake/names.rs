//! Which names are documents': everything but temporary names, hidden ones, and our own sidecars.

/// Names that clients give a file until it is whole.
const TEMPORARY: [&str; 4] = [".part", ".tmp", ".filepart", ".lck"];

/// What is added to an upload's name to make a sidecar's; a longer one before its own end.
const SIDECARS: [&str; 8] = [".error.json", ".json", ".txt", ".alto.xml", ".hocr", ".md", ".csv", ".pdf"];

/// Names that tell a document by themselves.
const DOCUMENTS: [&str; 15] =
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".pdf", ".bmp", ".gif", ".webp", ".pnm", ".pbm", ".pgm", ".ppm"];

/// Whether a file name says that it is not to be read until it gets another one: hidden, or a temporary suffix.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') || TEMPORARY.iter().any(|suffix| ends_with(name, suffix))
}

/// Whether a file name is a sidecar's: by a base that is a document's name, or (not for `.pdf`, which
/// is a document too) by a base that is there.
pub(super) fn is_sidecar(name: &str, base_exists: &dyn Fn(&str) -> bool) -> bool {
    let Some((base, suffix)) = SIDECARS.iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix))) else {
        return false;
    };
    !base.is_empty() && (DOCUMENTS.iter().any(|extension| ends_with(base, extension)) || (suffix != ".pdf" && base_exists(base)))
}

/// Whether the name ends so, in capitals or not.
fn ends_with(name: &str, suffix: &str) -> bool {
    name.len() >= suffix.len() && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_and_hidden_names_wait() {
        for name in ["a.part", "a.TMP", "a.jpg.filepart", "x.LCK", ".a.jpg"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["a.jpg", "part", "a.part.jpg", "a.tmpx", "ä"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn sidecars_are_told_by_their_base() {
        for name in ["a.jpg.txt", "a.JPG.json", "a.jpg.error.json", "a.tiff.alto.xml", "a.pdf.pdf", "a.png.pdf"] {
            assert!(is_sidecar(name, &|_| false), "{name}");
        }
        for name in ["a.txt", "a.jpg", "report.pdf", "notes.md", ".txt", "a.jpg.TXT"] {
            assert!(!is_sidecar(name, &|_| false), "{name}");
        }
        assert!(is_sidecar("scan0001.txt", &|base| base == "scan0001"));
        assert!(is_sidecar("letter.error.json", &|base| base == "letter"));
        assert!(!is_sidecar("scan0001.pdf", &|_| true));
    }
}
