//! How much each home holds, for quotas: counted by one walk when a quota first asks (so also after a crash),
//! and from then on kept, since every change that the doors and the worker make goes through here. What others
//! do in a home (Samba, cp) is found by [`Homes::recount`], which the watch's scans call.
//!
//! An upload reserves room while it comes in and has it exactly when it is put in place: two uploads never both
//! get the last bytes. Hidden files count too; folders do not.

use super::{DEEPEST, HomeError, Homes};
use crate::account::{AccountName, Quota, VirtualPath};
use cap_std::fs::Dir;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What lies in a home, or is on its way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    pub bytes: u64,
    pub files: u64,
}

/// One number for each home that something happened in since the start.
#[derive(Debug, Default)]
pub(super) struct Usage {
    entries: Mutex<HashMap<AccountName, Arc<Entry>>>,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// `None` until somebody wants to know.
    held: Option<Held>,
    reserved: Held,
    /// Changes so far.
    changes: u64,
}

impl Usage {
    pub(super) fn entry(&self, account: &AccountName) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(account) {
            Some(entry) => Arc::clone(entry),
            None => Arc::clone(entries.entry(account.clone()).or_default()),
        }
    }
}

impl Entry {
    /// Nobody else changes what lies in the home, or counts it, while this is held: for a look and a rename, not
    /// for an fsync.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether sizes are wanted at all.
    pub(super) fn is_counted(&self) -> bool {
        self.held.is_some()
    }

    /// A file of `old` bytes, if any, has made way for one of `new` bytes, if any.
    pub(super) fn changed(&mut self, old: Option<u64>, new: Option<u64>) {
        self.changes += 1;
        if let Some(held) = &mut self.held {
            held.bytes = held.bytes.saturating_sub(old.unwrap_or(0)).saturating_add(new.unwrap_or(0));
            held.files = held.files.saturating_sub(u64::from(old.is_some())) + u64::from(new.is_some());
        }
    }

    /// Whether a file of `new` bytes may take the place of one of `old` bytes, if any. Others' reservations are
    /// not looked at: they were given on top of what lay here, and each is looked at like this in its turn.
    pub(super) fn has_room(&self, quota: Quota, old: Option<u64>, new: u64) -> Result<(), Quota> {
        let Some(held) = self.held else { return Ok(()) };
        let bytes = held.bytes.saturating_sub(old.unwrap_or(0)).saturating_add(new);
        let files = held.files + u64::from(old.is_none());
        // What does not grow is always let in: a home that is over its quota must not be stuck with its largest file.
        let over_bytes = quota.bytes.is_some_and(|most| bytes > most) && new > old.unwrap_or(0);
        let over_files = quota.files.is_some_and(|most| files > most) && old.is_none();
        if over_bytes || over_files { Err(quota) } else { Ok(()) }
    }
}

/// Room in a home for one upload that is under way; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    entry: Arc<Entry>,
    quota: Quota,
    taken: Held,
    /// Of the file that the upload replaces, as it was when the room was asked for.
    replaced: Option<u64>,
}

impl Reservation {
    /// Bytes that may be reserved in all, as things stand.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.quota.bytes.map_or(u64::MAX, |most| {
            let state = self.entry.lock();
            let others = state.reserved.bytes.saturating_sub(self.taken.bytes);
            let held = state.held.unwrap_or_default().bytes.saturating_add(others).saturating_sub(self.replaced.unwrap_or(0));
            most.saturating_sub(held)
        })
    }

    /// Reserves `bytes` in all, if there is room for them.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Quota> {
        let Some(more) = bytes.checked_sub(self.taken.bytes).filter(|more| *more > 0) else { return Ok(()) };
        let mut state = self.entry.lock();
        if let Some(most) = self.quota.bytes {
            let held = state.held.unwrap_or_default().bytes.saturating_sub(self.replaced.unwrap_or(0));
            if held.saturating_add(state.reserved.bytes).saturating_add(more) > most {
                return Err(self.quota);
            }
        }
        state.reserved.bytes += more;
        self.taken.bytes += more;
        Ok(())
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// The upload is in its place (or is none after all): what was reserved is held, and no more on its way.
    pub(super) fn end(&mut self, state: &mut State) {
        state.reserved.bytes = state.reserved.bytes.saturating_sub(self.taken.bytes);
        state.reserved.files = state.reserved.files.saturating_sub(self.taken.files);
        self.taken = Held::default();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.taken != Held::default() {
            let entry = Arc::clone(&self.entry);
            self.end(&mut entry.lock());
        }
    }
}

impl Homes {
    /// What the account's home holds; counted now if it was not yet. Blocking.
    pub fn held(&self, account: &AccountName) -> Result<Held, HomeError> {
        let entry = self.usage.entry(account);
        let mut state = entry.lock();
        self.counted(account, &mut state)
    }

    /// Room for one upload under this name (a new one, if none is given), nothing of it used yet. Refused if not
    /// even an empty file has room, or the quota's bytes are used up. Blocking.
    pub fn reserve(&self, account: &AccountName, quota: Quota, path: Option<&VirtualPath>) -> Result<Reservation, HomeError> {
        self.admit(account, quota, path, true)
    }

    /// Refused if [`reserve`](Self::reserve) would be, just now. Keeps nobody else out meanwhile.
    pub fn would_reserve(&self, account: &AccountName, quota: Quota, path: Option<&VirtualPath>) -> Result<(), HomeError> {
        self.admit(account, quota, path, false).map(drop)
    }

    fn admit(
        &self,
        account: &AccountName,
        quota: Quota,
        path: Option<&VirtualPath>,
        reserve: bool,
    ) -> Result<Reservation, HomeError> {
        let replaced = match path {
            Some(path) => self.identity(account, path)?.map(|file| file.bytes),
            None => None,
        };
        let entry = self.usage.entry(account);
        let mut state = entry.lock();
        let held = self.counted(account, &mut state)?;
        let files = u64::from(replaced.is_none());
        let none_left = |most: Option<u64>, used: u64| most.is_some_and(|most| used >= most);
        let bytes = held.bytes.saturating_add(state.reserved.bytes).saturating_sub(replaced.unwrap_or(0));
        if none_left(quota.bytes, bytes) || (files > 0 && none_left(quota.files, held.files + state.reserved.files)) {
            return Err(HomeError::OverQuota { quota });
        }
        let taken = if reserve { Held { bytes: 0, files } } else { Held::default() };
        state.reserved.files += taken.files;
        drop(state);
        Ok(Reservation { entry, quota, taken, replaced })
    }

    /// Counts a home again that was counted before, unless something changes in it meanwhile; then a later call
    /// will. Blocking, one walk.
    pub fn recount(&self, account: &AccountName) -> Result<(), HomeError> {
        let entry = self.usage.entry(account);
        let (before, changes) = {
            let state = entry.lock();
            (state.held, state.changes)
        };
        let Some(before) = before else { return Ok(()) };
        let now = self.count(account)?;
        let mut state = entry.lock();
        if state.changes == changes && now != before {
            tracing::debug!(account.name = %account, home.bytes = now.bytes, home.files = now.files, "a home was counted anew");
            state.held = Some(now);
        }
        Ok(())
    }

    fn counted(&self, account: &AccountName, state: &mut State) -> Result<Held, HomeError> {
        match state.held {
            Some(held) => Ok(held),
            None => Ok(*state.held.insert(self.count(account)?)),
        }
    }

    fn count(&self, account: &AccountName) -> Result<Held, HomeError> {
        let named = |source| super::error(self.root().join(account.as_str()), "counted", source);
        match self.dir.open_dir(account.as_str()) {
            Ok(home) => count(&home).map_err(named),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Held::default()),
            Err(source) => Err(named(source)),
        }
    }
}

/// Every regular file, hidden ones too, symlinks not followed. One that vanishes meanwhile is not there.
fn count(home: &Dir) -> io::Result<Held> {
    let mut held = Held::default();
    let mut folders = VecDeque::from([(home.try_clone()?, 0)]);
    while let Some((folder, depth)) = folders.pop_front() {
        let entries = match folder.entries() {
            Ok(entries) => entries,
            Err(_) if depth > 0 => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_file() {
                held.bytes = held.bytes.saturating_add(found.len());
                held.files += 1;
            } else if found.is_dir()
                && depth < DEEPEST
                && let Ok(folder) = entry.open_dir()
            {
                folders.push_back((folder, depth + 1));
            }
        }
    }
    Ok(held)
}
