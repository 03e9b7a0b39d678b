//! Staged files, which go with their owner; and those that a failing disk would not let go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// As many as are remembered; what a disk holds on to beyond that waits for the sweep at the next start.
const MOST_LEFT: usize = 4096;

/// Staged files that could not be removed when their owners went: a disk that answers errors to writes does so
/// to removals too. Tried again when something new is staged. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftovers(Arc<Mutex<Vec<PathBuf>>>);

impl Leftovers {
    fn remember(&self, path: PathBuf) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() < MOST_LEFT {
            left.push(path);
        }
    }

    /// Removes what is left, up to the first that the disk still holds on to.
    pub(super) fn clear(&self) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(path) = left.pop() {
            if let Err(error) = remove(&path) {
                tracing::debug!(file.path = %path.display(), %error, "a staged file still cannot be removed");
                left.push(path);
                return;
            }
            tracing::info!(file.path = %path.display(), "a staged file that could not be removed is gone now");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file that goes with its owner.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) path: PathBuf,
    gone: bool,
    leftovers: Leftovers,
}

impl Hidden {
    pub(super) fn new(path: PathBuf, leftovers: &Leftovers) -> Self {
        Hidden { path, gone: false, leftovers: leftovers.clone() }
    }

    /// It has another name by now.
    pub(super) fn is_gone(&mut self) {
        self.gone = true;
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.gone
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(file.path = %self.path.display(), %error, "a staged file cannot be removed now; the next upload tries again");
            self.leftovers.remember(std::mem::take(&mut self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_holds_on_to_is_tried_again_and_the_list_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let leftovers = Leftovers::default();
        // A folder is what even root cannot remove as a file.
        let held = dir.path().join("held");
        fs::create_dir(&held).unwrap();
        drop(Hidden::new(held.clone(), &leftovers));
        drop(Hidden::new(dir.path().join("never made"), &leftovers));
        leftovers.clear();
        assert_eq!(leftovers.0.lock().unwrap().len(), 1, "still held");
        fs::remove_dir(&held).unwrap();
        fs::write(&held, b"let go").unwrap();
        leftovers.clear();
        assert!(!held.exists() && leftovers.0.lock().unwrap().is_empty());
        for number in 0..MOST_LEFT + 10 {
            leftovers.remember(dir.path().join(number.to_string()));
        }
        assert_eq!(leftovers.0.lock().unwrap().len(), MOST_LEFT);
    }
}
