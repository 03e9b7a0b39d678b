//! Which names are sidecars, and which are no documents yet. The doors and the folder scan ask here,
//! so that what Inkport writes never comes back to it as an upload.

/// Suffixes of sidecars, the longer before the shorter that it ends with.
const SUFFIXES: [&str; 8] = [ERROR_SUFFIX, ".alto.xml", ".txt", ".json", ".hocr", ".md", ".csv", ".pdf"];

/// The sidecar of an upload that could not be read.
pub const ERROR_SUFFIX: &str = ".error.json";

const DOCUMENT_EXTENSIONS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "tif", "tiff", "pdf", "bmp", "gif", "webp", "pnm", "pbm", "pgm", "ppm"];

/// Extensions under which clients write a file until it is whole; they rename it then.
const TEMPORARY_EXTENSIONS: [&str; 6] = ["part", "partial", "tmp", "filepart", "lck", "crdownload"];

/// Whether a file name ends as a document's does, in any case. Only a hint about names: what a file is,
/// its content says.
#[must_use]
pub fn has_document_extension(name: &str) -> bool {
    extension(name).is_some_and(|found| is_one_of(found, &DOCUMENT_EXTENSIONS))
}

/// Whether `name` (a file name, no path) is that of a sidecar: a known suffix behind a document's name,
/// or behind the name of a file that lies beside it (`base_exists` tells). A `.pdf` is one behind a document's
/// name only: `letter` and `letter.pdf` side by side are two documents.
#[must_use]
pub fn is_sidecar(name: &str, base_exists: &dyn Fn(&str) -> bool) -> bool {
    let Some((base, suffix)) = SUFFIXES.iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix))) else {
        return false;
    };
    !base.is_empty() && (has_document_extension(base) || (suffix != ".pdf" && base_exists(base)))
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
            "scan.jpg.txt",
            "scan.JPG.json",
            "scan.jpg.error.json",
            "a b.tiff.alto.xml",
            "x.pdf.pdf",
            "x.ppm.hocr",
            "x.png.md",
            "x.webp.csv",
        ] {
            assert!(is_sidecar(name, &nothing_beside), "{name}");
        }
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
    fn names_of_unfinished_files() {
        for name in [".scan.jpg", "scan.jpg.part", "scan.jpg.TMP", "scan.filepart", "scan.jpg.LCK", "~$letter.doc", "scan.jpg~"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["scan.jpg", "part", "tmp.jpg", "scan~1.jpg", "a.parts"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
