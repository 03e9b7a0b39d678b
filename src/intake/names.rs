//! Which names are documents': everything but temporary names, hidden ones, and our own sidecars.

use crate::account::VirtualPath;

/// Names that clients give a file until it is whole.
const TEMPORARY: [&str; 4] = [".part", ".tmp", ".filepart", ".lck"];

/// What is added to an upload's name to make a sidecar's; the `.json` first, since its being there
/// says that all are, and a longer one before its own end.
pub(super) const SIDECARS: [&str; 8] = [".error.json", ".json", ".txt", ".alto.xml", ".hocr", ".md", ".csv", ".pdf"];

/// Names that tell a document by themselves.
const DOCUMENTS: [&str; 15] =
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".pdf", ".bmp", ".gif", ".webp", ".pnm", ".pbm", ".pgm", ".ppm"];

/// Not to be read until it gets another name: hidden (itself or a folder above), or a temporary suffix.
#[must_use]
pub fn is_temporary(path: &VirtualPath) -> bool {
    path.relative().split('/').any(|part| part.starts_with('.'))
        || TEMPORARY.iter().any(|suffix| ends_with(path.file_name(), suffix))
}

/// A sidecar of a file beside it: by a base that is a document's name, or (not for `.pdf`, which is a
/// document too) by a base that is there.
pub fn is_sidecar(path: &VirtualPath, is_there: impl FnOnce(&VirtualPath) -> bool) -> bool {
    let Some(suffix) = SIDECARS.iter().find(|suffix| path.file_name().ends_with(**suffix)) else { return false };
    let base = &path.as_str()[..path.as_str().len() - suffix.len()];
    if base.ends_with('/') {
        return false;
    }
    let Ok(base) = VirtualPath::new(base) else { return false };
    DOCUMENTS.iter().any(|extension| ends_with(base.file_name(), extension)) || (*suffix != ".pdf" && is_there(&base))
}

/// Whether the name ends so, in capitals or not.
fn ends_with(name: &str, suffix: &str) -> bool {
    name.len() >= suffix.len() && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> VirtualPath {
        VirtualPath::new(path).unwrap()
    }

    #[test]
    fn temporary_and_hidden_names_wait() {
        for name in ["/a.part", "/a.TMP", "/a.jpg.filepart", "/x.LCK", "/.a.jpg", "/.in/a.jpg", "/b/.c/a.jpg"] {
            assert!(is_temporary(&at(name)), "{name}");
        }
        for name in ["/a.jpg", "/part", "/a.part.jpg", "/a.tmpx", "/ä"] {
            assert!(!is_temporary(&at(name)), "{name}");
        }
    }

    #[test]
    fn sidecars_are_told_by_their_base() {
        for name in ["/a.jpg.txt", "/a.JPG.json", "/a.jpg.error.json", "/b/a.tiff.alto.xml", "/a.pdf.pdf", "/a.png.pdf"] {
            assert!(is_sidecar(&at(name), |_| false), "{name}");
        }
        for name in ["/a.txt", "/a.jpg", "/report.pdf", "/notes.md", "/.txt", "/b/.json", "/a.jpg.TXT"] {
            assert!(!is_sidecar(&at(name), |_| false), "{name}");
        }
        assert!(is_sidecar(&at("/scan0001.txt"), |base| base.as_str() == "/scan0001"));
        assert!(is_sidecar(&at("/letter.error.json"), |base| base.as_str() == "/letter"));
        assert!(!is_sidecar(&at("/scan0001.pdf"), |_| true));
    }
}
