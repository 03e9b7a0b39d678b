//! Whether the watch still sees: it changes a hidden file of its own now and then, in the folder of all
//! homes (in no home), and must see that by the same way as it sees everybody's files.

use crate::homes::Homes;
use std::fs;
use std::io;

/// The file. No account can have a name like it.
pub(super) const NAME: &str = ".inkport-canary";

/// Changes the file; answers whether the homes' own handle sees the change. It does not where the folder of all
/// homes was replaced by another while the daemon runs. Blocking.
pub(super) fn touch(homes: &Homes, sequence: u64) -> io::Result<bool> {
    let path = homes.root().join(NAME);
    let bytes = format!("{sequence}\n");
    fs::write(path, &bytes)?;
    Ok(homes.holds(NAME, bytes.as_bytes()))
}
