//! What an account allows one upload: its size, its place in the quota, and what becomes of its namesake.
//! Asked for before the first byte, grown while bytes come, and handed to [`Intake::accept`] with them.

use super::{Inner, Intake, IntakeError};
use crate::account::{Account, Existing, VirtualPath};
use crate::homes::Reservation;

/// Given back when dropped.
#[derive(Debug)]
pub struct Room {
    /// Bytes of one upload, by `limits.max-upload` and the account's own.
    pub(super) most: u64,
    pub(super) reservation: Option<Reservation>,
    pub(super) existing: Existing,
}

impl Room {
    /// Bytes that may come, as things stand.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.reservation.as_ref().map_or(self.most, |reservation| reservation.left().min(self.most))
    }

    /// To be asked while bytes come, with how many there are so far.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), IntakeError> {
        if bytes > self.most {
            return Err(IntakeError::TooLarge { limit: self.most });
        }
        let grown = self.reservation.as_mut().map_or(Ok(()), |reservation| reservation.grow_to(bytes));
        grown.map_err(|quota| IntakeError::Home(crate::homes::HomeError::OverQuota { quota }))
    }
}

impl Intake {
    /// Room for an upload of this account, under this name if it is known: refused where not a byte could come.
    /// Blocking; cheap but for the first time that a home's quota is asked for.
    pub fn room(&self, account: &Account, path: Option<&VirtualPath>) -> Result<Room, IntakeError> {
        self.inner.room(account, path, true)
    }

    /// Refused if [`room`](Self::room) would be, just now: for an upload that is announced. Blocking.
    pub fn may_come(&self, account: &Account, path: &VirtualPath) -> Result<(), IntakeError> {
        self.inner.room(account, Some(path), false)?;
        self.has_room_for(0)
    }
}

impl Inner {
    fn room(&self, account: &Account, path: Option<&VirtualPath>, reserve: bool) -> Result<Room, IntakeError> {
        let most = account.max_upload.map_or(self.limits.max_upload, |own| own.0.min(self.limits.max_upload));
        let existing = match path {
            // A temporary name is given up to another soon, a sidecar is made again: only documents have namesakes.
            Some(path) if account.existing != Existing::Replace && !self.is_document(&account.name, path) => Existing::Replace,
            _ => account.existing,
        };
        if existing == Existing::Refuse
            && let Some(path) = path
            // Of an empty one, a device's probe, nothing would be lost.
            && self.homes.identity(&account.name, path)?.is_some_and(|file| file.bytes > 0)
        {
            return Err(crate::homes::HomeError::Taken {
                path: self.homes.root().join(account.name.as_str()).join(path.relative()),
            }
            .into());
        }
        // What is kept beside its namesake replaces nothing.
        let replaces = path.filter(|_| existing != Existing::KeepBoth);
        let quota = account.quota();
        if !reserve {
            if quota.is_limit() {
                self.homes.would_reserve(&account.name, quota, replaces)?;
            }
            return Ok(Room { most, reservation: None, existing });
        }
        let reservation = quota.is_limit().then(|| self.homes.reserve(&account.name, quota, replaces)).transpose()?;
        Ok(Room { most, reservation, existing })
    }
}
