//! Which upload a name may be the sidecar of. Only for waiting: what is a sidecar is `intake`'s and
//! `sidecar`'s business, and a name that merely looks like one costs a look into the ledger.

use crate::account::VirtualPath;
use crate::sidecar::names::{SUFFIXES, has_document_extension, stack_of};

/// `scan.jpg` of `scan.jpg.txt`, `stack.tif` of `stack.tif.2.txt`; nothing of a name without such a suffix.
pub(super) fn upload_of(path: &VirtualPath) -> Option<VirtualPath> {
    let name = path.file_name();
    let suffix = SUFFIXES.iter().find(|suffix| name.len() > suffix.len() && name.ends_with(**suffix))?;
    let base = &path.as_str()[..path.as_str().len() - suffix.len()];
    VirtualPath::new(stack_of(base).filter(|stack| has_document_extension(stack)).unwrap_or(base)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_named_by_their_sidecars() {
        let of = |path: &str| upload_of(&VirtualPath::new(path).unwrap()).map(|upload| upload.to_string());
        assert_eq!(of("/in/scan.jpg.txt").as_deref(), Some("/in/scan.jpg"));
        assert_eq!(of("/scan.jpg.error.json").as_deref(), Some("/scan.jpg"));
        assert_eq!(of("/scan.tiff.alto.xml").as_deref(), Some("/scan.tiff"));
        assert_eq!(of("/in/stack.tif.2.json").as_deref(), Some("/in/stack.tif"));
        assert_eq!(of("/letter.2.txt").as_deref(), Some("/letter.2"));
        assert_eq!(of("/scan.jpg"), None);
        assert_eq!(of("/in/.txt"), None);
    }
}
