//! What the kernel says about the homes while nobody asks: hints of files, through `notify`.
//!
//! May say too little (its queue overflows, it has only so many watches, a folder is replaced while it
//! looks): then `missed` is raised and a scan finds what it was. Never says what is true.

use super::{Health, canary, now};
use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::FsWord;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// A path that may have news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    pub path: PathBuf,
    /// It got this name just now.
    pub renamed: bool,
}

/// What the events raise beside hints.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something happened that no hint tells of.
    pub missed: AtomicBool,
    /// The kernel has no more watches: some folders are not watched.
    pub limited: AtomicBool,
    /// Our own file's change was seen.
    pub canary: AtomicBool,
    /// The folder of all homes is not the one that was opened: what is seen there says nothing.
    pub replaced: AtomicBool,
    pub health: Health,
}

impl Signals {
    /// The canary's change was seen.
    pub(super) fn saw_canary(&self) {
        if !self.replaced.load(Ordering::Acquire) {
            self.canary.store(true, Ordering::Release);
            self.health.update(|report| report.last_seen = Some(now()));
        }
    }
}

/// The kernel's events; dropped, they end.
#[derive(Debug)]
pub(super) struct Events {
    watcher: RecommendedWatcher,
    root: PathBuf,
    signals: Arc<Signals>,
}

impl Events {
    /// Asks for the events of every folder there is and will be. Never waits for who takes the hints.
    /// Blocking: it walks the folders that are there.
    pub(super) fn start(root: &Path, hints: mpsc::Sender<Hint>, signals: Arc<Signals>) -> notify::Result<Self> {
        let (raised, canary) = (Arc::clone(&signals), root.join(canary::NAME));
        let handler = move |event: notify::Result<notify::Event>| tell(event, &canary, &hints, &raised);
        // A symlink in a home may point at the whole machine.
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handler, config)?;
        let mut events = Events { watcher, root: root.to_owned(), signals };
        events.watch_all()?;
        Ok(events)
    }

    /// Asks again, for what is not watched; what is stays so. Blocking.
    pub(super) fn watch_all(&mut self) -> notify::Result<()> {
        self.signals.limited.store(false, Ordering::Release);
        match self.watcher.watch(&self.root, RecursiveMode::Recursive) {
            // What is watched by now still is; the scans find the rest.
            Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                self.signals.limited.store(true, Ordering::Release);
                Ok(())
            }
            watched => watched,
        }
    }
}

fn tell(event: notify::Result<notify::Event>, canary: &Path, hints: &mpsc::Sender<Hint>, signals: &Signals) {
    match event {
        Ok(event) if event.need_rescan() => {
            tracing::debug!("the kernel's queue of events overflowed; a scan finds what it held");
            signals.missed.store(true, Ordering::Release);
        }
        Ok(event) if is_news(&event.kind) => {
            let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)));
            for path in event.paths {
                if path == canary {
                    signals.saw_canary();
                } else if hints.try_send(Hint { path, renamed }).is_err() {
                    signals.missed.store(true, Ordering::Release);
                }
            }
        }
        Ok(_) => {}
        Err(error) => {
            if matches!(error.kind, ErrorKind::MaxFilesWatch) {
                signals.limited.store(true, Ordering::Release);
            }
            tracing::debug!(%error, "the kernel's report of new files has a gap; a scan closes it");
            signals.missed.store(true, Ordering::Release);
        }
    }
}

/// Whether a file may be new or complete after this.
fn is_news(kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Any => true,
        EventKind::Modify(ModifyKind::Metadata(kind)) => *kind == MetadataKind::WriteTime,
        EventKind::Modify(_) => true,
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        EventKind::Remove(_) | EventKind::Other => false,
    }
}

/// Whether the kernel cannot know what others do in this folder: it lies on another machine, or a program
/// makes it up. By the numbers of statfs(2).
pub(super) fn is_remote(root: &Path) -> bool {
    const REMOTE: [FsWord; 12] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE: sshfs and the like
        0x0102_1997, // 9p
        0x5346_414f, // AFS
        0x00c3_6400, // Ceph
        0x7375_7245, // Coda
        0x786f_4256, // VirtualBox
        0x0bad_0bd0, // Lustre
        0x4750_4653, // GPFS
    ];
    rustix::fs::statfs(root).is_ok_and(|found| REMOTE.contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::Flag;

    #[test]
    fn an_overflow_a_limit_and_a_full_channel_ask_for_a_scan() {
        let (hints, mut heard) = mpsc::channel(1);
        let canary = Path::new("/homes").join(canary::NAME);
        let told = |event| {
            let signals = Signals::default();
            tell(event, &canary, &hints, &signals);
            assert_eq!(signals.canary.load(Ordering::Relaxed), signals.health.report().last_seen.is_some());
            [signals.missed, signals.limited, signals.canary].map(AtomicBool::into_inner)
        };
        let created = |path: &str| {
            let kind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
            Ok(notify::Event::new(kind).add_path(path.into()))
        };
        assert_eq!(told(Ok(notify::Event::new(EventKind::Other).set_flag(Flag::Rescan))), [true, false, false]);
        assert_eq!(told(Err(notify::Error::new(ErrorKind::MaxFilesWatch))), [true, true, false]);
        assert_eq!(told(Err(notify::Error::generic("a gap"))), [true, false, false]);
        assert_eq!(told(created(canary.to_str().unwrap())), [false, false, true]);
        assert_eq!(told(created("/homes/a/1.jpg")), [false, false, false]);
        assert_eq!(told(created("/homes/a/2.jpg")), [true, false, false], "there is no room for it");
        assert_eq!(heard.try_recv().unwrap(), Hint { path: "/homes/a/1.jpg".into(), renamed: true });
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_local_folder_is_not_remote() {
        assert!(!is_remote(Path::new("/proc")));
        assert!(!is_remote(Path::new("/nowhere")));
    }
}
