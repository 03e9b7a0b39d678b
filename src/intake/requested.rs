//! Uploads by request: under a free name, since a request names its file only for convenience; and once for each key.

use super::{Inner, IntakeError, Placed, Submitted, Upload, blocking, taken};
use crate::account::VirtualPath;
use crate::crashpoint;
use crate::homes::HomeError;
use crate::intake::slots::Slot;
use crate::job::{Door, JobId};
use crate::queue::{Queue, Request};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Instant;

/// Names that are tried; all but the first are made up and hardly ever taken.
const TRIES: usize = 4;
/// Bytes of a file name, with room for the longest sidecar's suffix.
const LONGEST_NAME: usize = 200;

impl Inner {
    pub(super) async fn submit(
        self: Arc<Self>,
        id: JobId,
        mut upload: Upload,
        request: Request,
    ) -> Result<Submitted, IntakeError> {
        let began = Instant::now();
        upload.room.grow_to(upload.staged.bytes())?;
        let account = upload.account.clone();
        let mut first_of_its_key = None;
        if let Some((key, _)) = &request.key {
            first_of_its_key = Some(self.requests.enter(&account, &stand_in(key)).await);
            if let Some(earlier) = self.queue.requested(account.clone(), key.clone()).await? {
                return Ok(Submitted::Earlier(earlier));
            }
        }
        let slot = self.free_name(&mut upload).await?;
        let path = upload.path.clone();
        let inner = Arc::clone(&self);
        let (placed, slot) = blocking(move || Ok((inner.place(upload)?, slot))).await?;
        let Some(Placed { mut job, .. }) = placed else { return Err(HomeError::NotAPlace { path: path.as_str().into() }.into()) };
        job.id = id;
        let bytes = job.bytes;
        let answer = match self.queue.enqueue_requested(job, request).await {
            Ok(Ok(id)) => {
                crashpoint::here("job-committed");
                taken(Door::Http, bytes, began);
                tracing::info!(job.id = %id, account.name = %account, upload.bytes = bytes, upload.door = ?Door::Http, "an upload was accepted");
                return Ok(Submitted::Job(id));
            }
            Ok(Err(earlier)) => Ok(Submitted::Earlier(earlier)),
            Err(error) => {
                tracing::error!(job.id = %id, account.name = %account, %error, "an upload has no job and is refused");
                Err(error.into())
            }
        };
        // The name was free, so nothing of anybody's is lost.
        let inner = Arc::clone(&self);
        let _ = blocking(move || {
            let removed = inner.homes.remove(&account, &path);
            drop((slot, first_of_its_key));
            if let Err(error) = removed {
                tracing::error!(account.name = %account, %error, "a refused upload cannot be removed; the next scan takes it");
            }
            Ok(())
        })
        .await;
        answer
    }

    /// Gives the upload a name that nothing has yet, and holds it.
    async fn free_name(self: &Arc<Self>, upload: &mut Upload) -> Result<Slot, IntakeError> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                upload.path = like(&upload.path, &ulid::Ulid::generate().to_string());
            }
            let (account, path) = (upload.account.clone(), upload.path.clone());
            let slot = self.slots.enter(&account, &path).await;
            let inner = Arc::clone(self);
            let (is_free, slot) = blocking(move || {
                inner.homes.ensure(&account)?;
                let is_free = match inner.homes.would_replace(&account, &path) {
                    Ok(found) => found.is_none() && inner.is_document(&account, &path),
                    Err(HomeError::NotAPlace { .. }) => false,
                    Err(error) => return Err(error.into()),
                };
                Ok((is_free, slot))
            })
            .await?;
            if is_free {
                return Ok(slot);
            }
        }
        Err(HomeError::NotAPlace { path: upload.path.as_str().into() }.into())
    }
}

/// A path that stands for a request's key among the slots: the same for the same key only.
fn stand_in(key: &str) -> VirtualPath {
    let digits: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    VirtualPath::new(&digits).expect("digits are a name")
}

/// In the same folder, of the same kind, and nobody else's: `/scan.jpg` becomes `/scan-7K3M9QXT.jpg`.
fn like(path: &VirtualPath, unique: &str) -> VirtualPath {
    let tail = &unique[unique.len().saturating_sub(8)..];
    let (stem, extension) = path.file_name().rsplit_once('.').unwrap_or((path.file_name(), ""));
    let stem = stem.trim_start_matches(['.', '~']);
    let mut end = stem.len().min(LONGEST_NAME - extension.len().min(LONGEST_NAME));
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let name = match (&stem[..end], extension) {
        ("", "") => format!("upload-{tail}"),
        (stem, "") => format!("{stem}-{tail}"),
        ("", extension) => format!("upload-{tail}.{extension}"),
        (stem, extension) => format!("{stem}-{tail}.{extension}"),
    };
    VirtualPath::new(&format!("{}/{name}", path.folder())).expect("a name with digits in it is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_of_the_same_kind() {
        let named = |path: &str| like(&VirtualPath::new(path).unwrap(), "01ARZ3NDEKTSV4RRFFQ69G5FAV").as_str().to_owned();
        assert_eq!(named("/scan.jpg"), "/scan-Q69G5FAV.jpg");
        assert_eq!(named("/in/letter"), "/in/letter-Q69G5FAV");
        assert_eq!(named("/.hidden.png"), "/hidden-Q69G5FAV.png");
        assert_eq!(named("/.jpg"), "/upload-Q69G5FAV.jpg");
        assert!(named(&format!("/{}.jpg", "é".repeat(127))).len() < 220);
        assert_ne!(stand_in("a"), stand_in("b"));
    }
}
