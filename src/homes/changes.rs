//! What changes the files of a home: an upload put in its place, a client's deletes and renames. Each look at
//! what is replaced and the change itself are one step for [`usage`](super::usage), so the count stays exact
//! whoever races; fsyncs come after.

use super::usage::Reservation;
use super::{HomeError, Homes, copy_in, error, sync};
use crate::account::{AccountName, Existing, VirtualPath};
use crate::crashpoint;
use crate::job::FileIdentity;
use crate::spool::Staged;
use cap_std::fs::{Dir, Metadata, MetadataExt};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// Names that are tried for a file that is kept beside its namesake; then nobody finds his way any more.
const MOST_NAMESAKES: u32 = 1 << 20;
/// A name's bytes, on the file systems that we know.
const LONGEST_NAME: usize = 255;

impl Homes {
    /// Puts a staged file under its name, whatever lies there: replaces a file of that name atomically, fsyncs the
    /// folder. The folder must exist. Never follows a symlink at the name itself: it is replaced. Answers which
    /// file it is now: the staged one, unless the home lies on another file system than the spool.
    pub fn install(&self, account: &AccountName, path: &VirtualPath, staged: Staged) -> Result<FileIdentity, HomeError> {
        self.install_in(account, path, staged, None, true)
    }

    /// [`install`](Self::install) of an upload, within the room that was reserved for it; if not `replace`, only
    /// where nothing of that name lies ([`HomeError::Taken`]). Refused ([`HomeError::OverQuota`]) if there is no
    /// room for it as things stand now.
    pub fn install_upload(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        staged: Staged,
        room: Option<Reservation>,
        replace: bool,
    ) -> Result<FileIdentity, HomeError> {
        self.install_in(account, path, staged, room, replace)
    }

    /// Whether [`install_upload`](Self::install_upload) of so many bytes would have room as things stand.
    pub fn check_room(&self, account: &AccountName, path: &VirtualPath, room: &Reservation, bytes: u64) -> Result<(), HomeError> {
        let folder = self.folder(account, path).map_err(|source| error(self.shown(account, path), "looked at", source))?;
        let entry = self.usage.entry(account);
        let state = entry.lock();
        let room = state.has_room(room.quota(), bytes_of(&folder, path.file_name()), bytes);
        room.map_err(|quota| HomeError::OverQuota { quota })
    }

    fn install_in(
        &self,
        account: &AccountName,
        path: &VirtualPath,
        staged: Staged,
        mut room: Option<Reservation>,
        replace: bool,
    ) -> Result<FileIdentity, HomeError> {
        let named = |doing| move |source: io::Error| error(self.shown(account, path), doing, source);
        let folder = self.folder(account, path).map_err(named("written"))?;
        let name = path.file_name();
        let new = staged.bytes();
        let entry = self.usage.entry(account);
        let identity = {
            let mut state = entry.lock();
            let old = if state.is_counted() { bytes_of(&folder, name) } else { None };
            if let Some(room) = &room {
                state.has_room(room.quota(), old, new).map_err(|quota| HomeError::OverQuota { quota })?;
            }
            let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            let identity = match rename(CWD, staged.path(), &folder, name, flags) {
                Ok(()) => {
                    let identity = staged.identity();
                    staged.installed();
                    identity
                }
                Err(Errno::XDEV) if !replace && folder.symlink_metadata(name).is_ok() => {
                    return Err(HomeError::Taken { path: self.shown(account, path) });
                }
                Err(Errno::XDEV) => copy_in(&folder, name, &staged).map_err(named("written"))?,
                Err(Errno::EXIST) if !replace => return Err(HomeError::Taken { path: self.shown(account, path) }),
                Err(errno) => return Err(named("written")(errno.into())),
            };
            state.changed(old, Some(new));
            if let Some(room) = &mut room {
                room.end(&mut state);
            }
            identity
        };
        crashpoint::here("home-renamed");
        sync(&folder).map_err(named("synced"))?;
        crashpoint::here("home-synced");
        Ok(identity)
    }

    /// A client deletes a file. Not durable: after a power cut it may be there again.
    pub fn delete(&self, account: &AccountName, path: &VirtualPath) -> Result<(), HomeError> {
        let named = |source| error(self.shown(account, path), "removed", source);
        let folder = self.folder(account, path).map_err(named)?;
        self.unlink(account, &folder, path.file_name()).map_err(named)
    }

    /// Removes one file of a folder.
    pub(super) fn unlink(&self, account: &AccountName, folder: &Dir, name: &str) -> io::Result<()> {
        let entry = self.usage.entry(account);
        let mut state = entry.lock();
        let old = if state.is_counted() { bytes_of(folder, name) } else { None };
        folder.remove_file(name)?;
        state.changed(old, None);
        Ok(())
    }

    /// A client renames a file or a folder; answers its name afterwards, which with [`Existing::KeepBoth`] may be
    /// another than it asked for. Not durable yet: [`sync_around`](Self::sync_around) is to follow.
    pub fn rename(
        &self,
        account: &AccountName,
        from: &VirtualPath,
        to: &VirtualPath,
        existing: Existing,
    ) -> Result<VirtualPath, HomeError> {
        let named = |source| error(self.shown(account, to), "renamed", source);
        let (source, target) = (self.folder(account, from).map_err(named)?, self.folder(account, to).map_err(named)?);
        let found = source.symlink_metadata(from.file_name()).map_err(named)?;
        if !found.is_file() && !found.is_dir() {
            return Err(HomeError::NotAPlace { path: self.shown(account, from) });
        }
        let mut to = to.clone();
        loop {
            let name = to.file_name();
            let entry = self.usage.entry(account);
            let mut state = entry.lock();
            let old = target.symlink_metadata(name).ok().filter(Metadata::is_file);
            // Of a file to itself, or to another name of itself, it does nothing.
            let is_itself = old.as_ref().is_some_and(|old| (old.dev(), old.ino()) == (found.dev(), found.ino()));
            let replace = existing == Existing::Replace || is_itself || old.as_ref().is_some_and(|old| old.len() == 0);
            let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match rename(&source, from.file_name(), &target, name, flags) {
                Ok(()) => {
                    state.changed(old.filter(|_| !is_itself).map(|old| old.len()), None);
                    return Ok(to);
                }
                Err(Errno::EXIST) if !replace && existing == Existing::KeepBoth => {
                    drop(state);
                    to = self.free_path(account, &to)?;
                }
                Err(Errno::EXIST) if !replace => return Err(HomeError::Taken { path: self.shown(account, &to) }),
                Err(errno) => return Err(named(errno.into())),
            }
        }
    }

    /// The first of `scan.jpg`, `scan-2.jpg`, `scan-3.jpg` … that nothing has. Few looks, however many have one:
    /// the numbers are taken to have no gaps, and where they have, a free one is found all the same.
    pub fn free_path(&self, account: &AccountName, path: &VirtualPath) -> Result<VirtualPath, HomeError> {
        let named = |source| error(self.shown(account, path), "looked at", source);
        let folder = self.folder(account, path).map_err(named)?;
        let is_free = |number: u32| match folder.symlink_metadata(numbered(path.file_name(), number)) {
            Ok(_) => Ok(false),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(source) => Err(named(source)),
        };
        if is_free(1)? {
            return Ok(path.clone());
        }
        let (mut taken, mut free) = (1, 2);
        while !is_free(free)? {
            (taken, free) = (free, free * 2);
            if free > MOST_NAMESAKES {
                return Err(HomeError::Taken { path: self.shown(account, path) });
            }
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if is_free(middle)? { free = middle } else { taken = middle }
        }
        let name = numbered(path.file_name(), free);
        VirtualPath::new(&format!("{}/{name}", path.folder()))
            .map_err(|_| HomeError::NotAPlace { path: self.shown(account, path) })
    }
}

/// Of the regular file of this name.
fn bytes_of(folder: &Dir, name: &str) -> Option<u64> {
    folder.symlink_metadata(name).ok().filter(Metadata::is_file).map(|file| file.len())
}

/// `scan-2.jpg` of `scan.jpg`; a long name gives way to its number.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (mut stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let tail = format!("-{number}{extension}");
    while stem.len() + tail.len() > LONGEST_NAME && !stem.is_empty() {
        let last = stem.char_indices().next_back().map_or(0, |(at, _)| at);
        stem = &stem[..last];
    }
    format!("{stem}{tail}")
}

/// `renameat2`; a file system that knows no flags is looked at first.
fn rename(from: impl AsFd, name: impl rustix::path::Arg + Copy, folder: &Dir, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    if flags.is_empty() {
        return rustix::fs::renameat(from, name, folder.as_fd(), to);
    }
    match rustix::fs::renameat_with(from.as_fd(), name, folder.as_fd(), to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) => match folder.symlink_metadata(to) {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::renameat(from, name, folder.as_fd(), to),
        },
        renamed => renamed,
    }
}
