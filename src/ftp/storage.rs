//! What libunftp does with files, done our way: its own backend answers what needs nothing of ours,
//! and an upload goes through [`receive`] and `intake`, so that the 226 it sends after
//! [`put`](StorageBackend::put) is true.
//!
//! libunftp turns an error's kind into the reply's code. Its text goes to the log; the client reads one of
//! ours where there is something to say that is neither a path of this machine nor its trouble.

use super::ascii::{self, Received, ToWire};
use super::auth::User;
use super::charset;
use super::listing::Entry;
use super::receive::{ReceiveError, receive};
use super::session::{Session, UploadGuard, lock};
use super::throttle::{Paced, Way};
use super::{Parts, blocking, sidecars};
use crate::account::{Account, Charset, Existing, Permission, VirtualPath};
use crate::homes::HomeError;
use crate::intake::{IntakeError, Room, Upload};
use crate::job::Door;
use crate::queue::{JobLedger, QueueError};
use crate::spool::{SpoolError, Staging};
use async_trait::async_trait;
use libunftp::options::ReplyText;
use std::fmt::Debug;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use unftp_core::storage::{Error, ErrorKind, FEATURE_RESTART, Fileinfo, Metadata, Result, StorageBackend};

/// How long RETR waits for the sidecar of an upload that is still being read.
const SIDECAR_WAIT: Duration = Duration::from_secs(20);
/// Between two looks at its job.
const SIDECAR_POLL: Duration = Duration::from_millis(100);
/// How long, and how many bytes, an upload that is refused for its form may go on.
const REFUSED_LINGER: Duration = Duration::from_secs(2);
const REFUSED_BYTES: u64 = 4 << 20;
/// What RETR reads from the disk at a time.
const BUFFER: usize = 256 * 1024;

/// One session's storage.
pub(super) struct Storage {
    parts: Arc<Parts>,
    pub session: Arc<Session>,
}

impl Storage {
    pub fn new(parts: Arc<Parts>, session: Arc<Session>) -> Self {
        Storage { parts, session }
    }

    /// Everything up to the durable job row.
    async fn take<R: AsyncRead + Unpin>(&self, user: &User, input: R, path: &VirtualPath) -> std::result::Result<u64, PutError> {
        if self.parts.is_draining() {
            return Err(PutError::Draining);
        }
        let parts = Arc::clone(&self.parts);
        let (user_now, target) = (user.clone(), path.clone());
        let begin = async { blocking(move || Ok(begin(&parts, &user_now, &target))).await.map_err(PutError::Panicked)? };
        let input = Paced::new(input, user.throttle.clone());
        let began = std::time::Instant::now();
        let (staged, room) = receive(input, begin, &self.session.control, self.parts.stall, user.account.tls_eof).await?;
        crate::meters::stage(crate::meters::Stage::Receive, began.elapsed());
        // Only now: a broken transfer leaves no folders either.
        self.make_folders(user, path).await?;
        let bytes = staged.bytes();
        let upload = Upload { account: user.account.name.clone(), path: path.clone(), staged, door: Door::Ftp, room };
        let accepted = self.parts.intake.accept(upload).await?;
        tracing::debug!(session.id = self.session.number, account.name = %user.account.name, upload.path = %path, upload.bytes = bytes, ?accepted, "an upload was taken");
        Ok(bytes)
    }

    /// Refuses what would be refused after the last byte, before the first: to be asked when an upload is
    /// announced. Everything is looked at again when it comes.
    pub async fn may_come(&self, user: &User, path: &VirtualPath) -> Result<()> {
        let (parts, user_now, target) = (Arc::clone(&self.parts), user.clone(), path.clone());
        let may_come = blocking(move || {
            let place = user_now.home.must_have_room_for(&target, makes_folders(&parts, &user_now)).map_err(PutError::NoPlace);
            Ok(place.and_then(|()| Ok(parts.intake.may_come(&user_now.account, &target)?)))
        });
        let refused = match may_come.await.map_err(PutError::Panicked).and_then(|may_come| may_come) {
            Ok(_) if self.parts.is_draining() => PutError::Draining,
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        drop(UploadGuard::begin(&self.parts.stats, &self.session));
        Err(self.refused(user, path, refused))
    }

    /// Whether so many bytes more could be taken now (ALLO).
    pub async fn has_room_for(&self, user: &User, bytes: u64) -> Result<()> {
        let (parts, user) = (Arc::clone(&self.parts), user.clone());
        let room = blocking(move || {
            let room = room(&parts, &user, None).and_then(|mut room| Ok(room.grow_to(bytes)?));
            Ok(room.and_then(|()| Ok(parts.intake.has_room_for(bytes)?)))
        });
        room.await.map_err(PutError::Panicked).and_then(|room| room).map_err(|error| error.reply())
    }

    /// Logs why an upload is not taken; answers what the client is told.
    fn refused(&self, user: &User, path: &VirtualPath, error: PutError) -> Error {
        let kind = error.kind();
        if kind == ErrorKind::LocalError || kind == ErrorKind::InsufficientStorageSpaceError {
            tracing::error!(session.id = self.session.number, account.name = %user.account.name, upload.path = %path, error = %Chain(&error), "an upload was not taken");
        } else if matches!(error, PutError::Intake(IntakeError::Full { .. } | IntakeError::Slow { .. })) {
            // `intake` says it once for all of them.
            tracing::debug!(session.id = self.session.number, account.name = %user.account.name, error = %Chain(&error), "an upload was not taken");
        } else {
            tracing::warn!(session.id = self.session.number, account.name = %user.account.name, upload.path = %path, error = %Chain(&error), "an upload was not taken");
        }
        error.reply()
    }

    /// Where `ftp.make-folders` says so: the folders that hold `path`. They stay if what they are for fails
    /// after all, since another session may rely on them by then.
    async fn make_folders(&self, user: &User, path: &VirtualPath) -> std::result::Result<(), PutError> {
        if !makes_folders(&self.parts, user) || path.folder().is_empty() {
            return Ok(());
        }
        let (homes, account, path) = (self.parts.homes.clone(), user.account.name.clone(), path.clone());
        Ok(blocking(move || Ok(homes.make_folders(&account, &path))).await.map_err(PutError::Panicked)??)
    }

    /// Answers the name that it has then.
    async fn rename_in_home(&self, user: &User, from: &VirtualPath, to: VirtualPath) -> Result<VirtualPath> {
        let (parts, account, from) = (Arc::clone(&self.parts), Arc::clone(&user.account), from.clone());
        let renamed = blocking(move || {
            let existing = if parts.intake.is_document(&account.name, &to) { account.existing } else { Existing::Replace };
            Ok(parts.homes.rename(&account.name, &from, &to, existing))
        });
        renamed.await.map_err(refuse_io)?.map_err(|error| match error {
            HomeError::Taken { .. } => {
                Error::new(ErrorKind::FileNameNotAllowedError, ReplyText("There is a file of that name already".to_owned()))
            }
            error => Error::new(ErrorKind::PermanentFileNotAvailable, error),
        })
    }

    /// Another time of modification, by way of `intake`.
    pub(super) async fn set_modified(&self, user: &User, path: &Path, modified: SystemTime) -> Result<()> {
        let path = Self::place(user, path)?;
        self.parts.intake.set_modified(&user.account.name, &path, modified).await.map_err(|error| {
            tracing::warn!(session.id = self.session.number, account.name = %user.account.name, upload.path = %path, error = %Chain(&error), "a time of modification was not set");
            Error::new(intake_kind(&error), error)
        })
    }

    /// The name that a file may have, of what the client called it. libunftp has put the working folder
    /// before it.
    pub(super) fn place(user: &User, path: &Path) -> Result<VirtualPath> {
        let text = path.to_str().map(|text| charset::heard(user.account.charset, text));
        let named = text.and_then(|text| VirtualPath::new(&text).ok());
        named.ok_or_else(|| ErrorKind::FileNameNotAllowedError.into())
    }

    /// Opens what RETR asks for; first waits, if it is a sidecar that is about to be written.
    async fn open(&self, user: &User, path: &Path, start: u64) -> Result<tokio::fs::File> {
        let path = Self::place(user, path)?;
        self.wait_for_sidecar(&user.account, &path).await?;
        let (homes, name) = (self.parts.homes.clone(), user.account.name.clone());
        let file = blocking(move || {
            Ok(homes.open_file(&name, &path).map_err(not_to_be_read).and_then(|mut file| {
                file.seek(io::SeekFrom::Start(start)).map_err(refuse_io)?;
                Ok(file)
            }))
        });
        let mut file = tokio::fs::File::from_std(file.await.map_err(refuse_io)??);
        file.set_max_buf_size(BUFFER);
        Ok(file)
    }

    async fn wait_for_sidecar(&self, account: &Account, path: &VirtualPath) -> Result<()> {
        let Some(upload) = sidecars::upload_of(path) else { return Ok(()) };
        let deadline = tokio::time::Instant::now() + SIDECAR_WAIT;
        loop {
            let (ledger, name, upload) = (self.parts.ledger.clone(), account.name.clone(), upload.clone());
            let job = blocking(move || Ok(ledger.newest(&name, &upload))).await.map_err(refuse_io)?;
            let job = job.map_err(|error| Error::new(ErrorKind::LocalError, error))?;
            if job.is_none_or(|job| job.state.is_final()) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(ErrorKind::TransientFileNotAvailable.into());
            }
            tokio::select! {
                () = tokio::time::sleep(SIDECAR_POLL) => {}
                () = self.session.control.lost() => return Err(ErrorKind::ConnectionClosed.into()),
            }
        }
    }
}

impl Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("session", &self.session.number).finish_non_exhaustive()
    }
}

/// Why an upload is not acknowledged; becomes a reply's code in [`PutError::kind`].
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("the daemon is stopping")]
    Draining,
    #[error("there is no place for it")]
    NoPlace(#[source] io::Error),
    #[error("it could not be begun")]
    Panicked(#[source] io::Error),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl PutError {
    fn kind(&self) -> ErrorKind {
        match self {
            PutError::Draining | PutError::Panicked(_) => ErrorKind::LocalError,
            PutError::NoPlace(error) if error.kind() == io::ErrorKind::IsADirectory => ErrorKind::FileNameNotAllowedError,
            PutError::NoPlace(error) => io_kind(error),
            PutError::Home(error) => home_kind(error),
            PutError::Receive(ReceiveError::Spool(error)) => spool_kind(error),
            PutError::Receive(
                ReceiveError::Stalled(_) | ReceiveError::Trickled(_) | ReceiveError::ControlLost | ReceiveError::Broken(_),
            ) => ErrorKind::ConnectionClosed,
            PutError::Receive(ReceiveError::Room(error)) | PutError::Intake(error) => intake_kind(error),
        }
    }
}

impl PutError {
    fn reply(self) -> Error {
        match self.told() {
            Some(text) => Error::new(self.kind(), ReplyText(text)),
            None => Error::new(self.kind(), self),
        }
    }

    /// What the client may know beyond the code.
    fn told(&self) -> Option<String> {
        match self {
            PutError::Draining
            | PutError::Receive(ReceiveError::Stalled(_) | ReceiveError::Trickled(_) | ReceiveError::Broken(_)) => {
                Some(format!("Not taken: {self}"))
            }
            PutError::Intake(error) | PutError::Receive(ReceiveError::Room(error)) => match error {
                IntakeError::Full { .. }
                | IntakeError::Slow { .. }
                | IntakeError::TooLarge { .. }
                | IntakeError::Home(HomeError::OverQuota { .. }) => Some(format!("Not taken: {error}")),
                IntakeError::Home(HomeError::Taken { .. }) => Some("Not taken: there is a file of that name already".to_owned()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Fails unless the account's clients may do this. Most is refused earlier, where there is more to say.
fn must(user: &User, permission: Permission) -> Result<()> {
    if user.account.may(permission) { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
}

/// A place for the upload and the room that it has, before a byte of it is read. Blocking.
fn begin(parts: &Parts, user: &User, path: &VirtualPath) -> std::result::Result<(Staging, Room), PutError> {
    let room = room(parts, user, Some(path))?;
    Ok((parts.intake.begin()?, room))
}

/// Whether folders that a name names are made where they are missing.
fn makes_folders(parts: &Parts, user: &User) -> bool {
    parts.make_folders && user.account.may(Permission::MakeFolder)
}

/// How much may come, under this name if one is given. Blocking.
fn room(parts: &Parts, user: &User, path: Option<&VirtualPath>) -> std::result::Result<Room, PutError> {
    if let Some(path) = path {
        user.home.must_have_room_for(path, makes_folders(parts, user)).map_err(PutError::NoPlace)?;
    }
    Ok(parts.intake.room(&user.account, path)?)
}

#[async_trait]
impl StorageBackend<User> for Storage {
    type Metadata = Entry;

    fn name(&self) -> &str {
        "inkport"
    }

    /// Downloads may restart; uploads may not, see [`StorageBackend::put`].
    fn supported_features(&self) -> u32 {
        FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Entry> {
        user.home.entry(&relative(user, path.as_ref())?).await.map_err(refuse_io)
    }

    async fn list<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<Vec<Fileinfo<PathBuf, Entry>>>
    where
        Entry: Metadata,
    {
        must(user, Permission::List)?;
        let path = relative(user, path.as_ref())?;
        let mut listed = user.home.list(&path).await.map_err(refuse_io)?;
        if user.account.charset.is_some() {
            let utf8 = self.session.is_utf8();
            for entry in &mut listed {
                if let Some(name) = entry.path.to_str() {
                    entry.path = PathBuf::from(charset::told(user.account.charset, utf8, name).into_owned());
                }
            }
        }
        Ok(listed)
    }

    /// What [`super::commands`] has made when the listing was asked for; so does [`StorageBackend::nlst`].
    async fn list_fmt<P: AsRef<Path> + Send + Debug>(&self, _user: &User, _path: P) -> Result<io::Cursor<Vec<u8>>> {
        Ok(io::Cursor::new(lock(&self.session.listing).take().unwrap_or_default()))
    }

    async fn nlst<P: AsRef<Path> + Send + Debug>(&self, _user: &User, _path: P) -> io::Result<io::Cursor<Vec<u8>>> {
        Ok(io::Cursor::new(lock(&self.session.listing).take().unwrap_or_default()))
    }

    async fn get_into<'a, P, W: ?Sized>(&self, user: &User, path: P, start_pos: u64, output: &'a mut W) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send,
        P: AsRef<Path> + Send + Debug,
    {
        must(user, Permission::Download)?;
        let mut file = self.open(user, path.as_ref(), start_pos).await?;
        let mut buffer = vec![0; BUFFER];
        let mut sent = 0;
        let mut text: Option<ToWire> = None;
        let mut converted = Vec::new();
        loop {
            let portion = user.throttle.as_ref().map_or(BUFFER, |throttle| throttle.portion(BUFFER));
            let read = file.read(&mut buffer[..portion]).await.map_err(refuse_io)?;
            let mut bytes = &buffer[..read];
            if sent == 0 && start_pos == 0 && self.session.is_ascii() && ascii::is_text(&bytes[..read.min(ascii::HEAD)]) {
                text = Some(ToWire::default());
            }
            if let Some(text) = &mut text {
                converted.clear();
                text.convert(bytes, &mut converted);
                bytes = &converted;
            }
            // A client that stops reading must not hold the file and the session for ever.
            let written = tokio::time::timeout(self.parts.stall, async {
                if read == 0 { output.flush().await } else { output.write_all(bytes).await }
            });
            match written.await {
                Ok(Ok(())) => sent += bytes.len() as u64,
                Ok(Err(error)) => return Err(Error::new(ErrorKind::ConnectionClosed, error)),
                Err(_) => return Err(ErrorKind::ConnectionClosed.into()),
            }
            if read == 0 {
                return Ok(sent);
            }
            if let Some(throttle) = &user.throttle {
                tokio::time::sleep_until(throttle.take(Way::Down, bytes.len())).await;
            }
        }
    }

    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        user: &User,
        path: P,
        start_pos: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        must(user, Permission::Download)?;
        Ok(Box::new(self.open(user, path.as_ref(), start_pos).await?))
    }

    /// libunftp sends 226 when this is `Ok`. A position comes from REST or from APPE to a file that
    /// has bytes: an upload is taken whole or not at all, so both are refused.
    async fn put<P: AsRef<Path> + Send + Debug, R: AsyncRead + Send + Sync + Unpin + 'static>(
        &self,
        user: &User,
        input: R,
        path: P,
        start_pos: u64,
    ) -> Result<u64> {
        must(user, Permission::Upload)?;
        if start_pos > 0 {
            tracing::info!(session.id = self.session.number, account.name = %user.account.name, "an upload was refused: it would go on with a file (REST or APPE)");
            // A client that is cut off while it sends may never read why.
            let _ = tokio::time::timeout(REFUSED_LINGER, tokio::io::copy(&mut input.take(REFUSED_BYTES), &mut tokio::io::sink()))
                .await;
            let text = "A file is taken whole or not at all: send it from its beginning, under a new name";
            return Err(Error::new(ErrorKind::CommandNotImplemented, ReplyText(text.to_owned())));
        }
        let path = Self::place(user, path.as_ref())?;
        let running = UploadGuard::begin(&self.parts.stats, &self.session);
        let taken = if self.session.is_ascii() {
            self.take(user, Received::new(input), &path).await
        } else {
            self.take(user, input, &path).await
        };
        match taken {
            Ok(bytes) => {
                running.accepted(bytes);
                Ok(bytes)
            }
            Err(error) => Err(self.refused(user, &path, error)),
        }
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        must(user, Permission::Delete)?;
        let (homes, name, path) = (self.parts.homes.clone(), user.account.name.clone(), Self::place(user, path.as_ref())?);
        blocking(move || Ok(homes.delete(&name, &path).map_err(not_to_be_read))).await.map_err(refuse_io)?
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        must(user, Permission::MakeFolder)?;
        user.home.files.mkd(user, relative(user, path.as_ref())?).await
    }

    /// The rename itself; then intake makes it durable and does whatever it means to a job. Were the
    /// daemon killed in between, the scan at the next start would find the file under its new name.
    async fn rename<P: AsRef<Path> + Send + Debug>(&self, user: &User, from: P, to: P) -> Result<()> {
        must(user, Permission::Rename)?;
        let (from, to) = (Self::place(user, from.as_ref())?, Self::place(user, to.as_ref())?);
        self.make_folders(user, &to).await.map_err(|error| Error::new(error.kind(), error))?;
        let to = self.rename_in_home(user, &from, to).await?;
        match self.parts.intake.renamed(&user.account.name, &from, &to).await {
            Ok(accepted) => {
                tracing::debug!(session.id = self.session.number, account.name = %user.account.name, upload.path = %to, ?accepted, "a file was renamed");
                Ok(())
            }
            Err(error) => {
                tracing::error!(session.id = self.session.number, account.name = %user.account.name, upload.path = %to, error = %Chain(&error), "a renamed file was not taken");
                Err(Error::new(intake_kind(&error), error))
            }
        }
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        must(user, Permission::Delete)?;
        let path = relative(user, path.as_ref())?;
        if path == "." {
            return Err(ErrorKind::PermissionDenied.into());
        }
        user.home.files.rmd(user, path).await
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, user: &User, path: P) -> Result<()> {
        user.home.must_be_folder(&relative(user, path.as_ref())?).await.map_err(refuse_io)
    }
}

/// Relative to the home, `.` for the home itself.
pub(super) fn relative(user: &User, path: &Path) -> Result<String> {
    relative_in(user.account.charset, path)
}

fn relative_in(charset: Option<Charset>, path: &Path) -> Result<String> {
    let text = charset::heard(charset, path.to_str().ok_or(ErrorKind::FileNameNotAllowedError)?);
    if text.contains('\0') {
        return Err(ErrorKind::FileNameNotAllowedError.into());
    }
    Ok(VirtualPath::new(&text).map_or_else(|_| ".".to_owned(), |path| path.relative().to_owned()))
}

fn refuse_io(error: io::Error) -> Error {
    let kind = io_kind(&error);
    Error::new(kind, error)
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::TooManyLinks => ErrorKind::PermanentFileNotAvailable,
        io::ErrorKind::NotADirectory => ErrorKind::PermanentDirectoryNotAvailable,
        io::ErrorKind::InvalidFilename => ErrorKind::FileNameNotAllowedError,
        // What leads out of the home is refused like this.
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::InsufficientStorageSpaceError,
        _ => ErrorKind::LocalError,
    }
}

fn home_kind(error: &HomeError) -> ErrorKind {
    match error {
        HomeError::NoSpace { .. } => ErrorKind::InsufficientStorageSpaceError,
        HomeError::Missing { .. } => ErrorKind::PermanentFileNotAvailable,
        HomeError::NotAPlace { .. } | HomeError::Taken { .. } => ErrorKind::FileNameNotAllowedError,
        HomeError::OverQuota { .. } => ErrorKind::ExceededStorageAllocationError,
        HomeError::Io { source, .. } => io_kind(source),
    }
}

/// To a reader, a name that cannot hold a file is a file that is not there.
fn not_to_be_read(error: HomeError) -> Error {
    let kind = match home_kind(&error) {
        ErrorKind::FileNameNotAllowedError => ErrorKind::PermanentFileNotAvailable,
        kind => kind,
    };
    Error::new(kind, error)
}

fn spool_kind(error: &SpoolError) -> ErrorKind {
    match error {
        SpoolError::NoSpace { .. } => ErrorKind::InsufficientStorageSpaceError,
        SpoolError::Io { .. } | SpoolError::Lost { .. } => ErrorKind::LocalError,
    }
}

fn intake_kind(error: &IntakeError) -> ErrorKind {
    match error {
        IntakeError::NoSpace { .. } | IntakeError::Queue(QueueError::NoSpace) => ErrorKind::InsufficientStorageSpaceError,
        IntakeError::TooLarge { .. } => ErrorKind::ExceededStorageAllocationError,
        IntakeError::Full { .. } | IntakeError::Slow { .. } => ErrorKind::TransientFileNotAvailable,
        IntakeError::Spool(error) => spool_kind(error),
        IntakeError::Home(error) => home_kind(error),
        IntakeError::Queue(_) => ErrorKind::LocalError,
    }
}

/// An error with its causes on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, expected) in [("/", "."), ("/../..", "."), ("/a/../../b", "b"), ("/a/./b/", "a/b"), ("x", "x")] {
            assert_eq!(relative_in(None, Path::new(path)).unwrap(), expected);
        }
        assert!(relative_in(None, Path::new("/a\0b")).is_err());
    }

    #[test]
    fn refusals_have_the_contracts_codes() {
        let path = PathBuf::from("x");
        let code = |error: PutError| error.kind().to_string()[..3].to_owned();
        let full = IntakeError::Spool(SpoolError::NoSpace { path: path.clone() });
        assert_eq!(code(PutError::Intake(full)), "452");
        assert_eq!(code(PutError::Intake(IntakeError::NoSpace { floor: 1 })), "452");
        assert_eq!(code(PutError::Receive(ReceiveError::Room(IntakeError::TooLarge { limit: 1 }))), "552");
        let quota = crate::account::Quota { bytes: Some(1), files: None };
        assert_eq!(code(PutError::Intake(HomeError::OverQuota { quota }.into())), "552");
        assert_eq!(code(PutError::Home(HomeError::Taken { path: path.clone() })), "553");
        assert_eq!(code(PutError::Intake(IntakeError::Queue(QueueError::Closed))), "451");
        assert_eq!(code(PutError::Home(HomeError::Missing { path: path.clone() })), "550");
        assert_eq!(code(PutError::Home(HomeError::NotAPlace { path: path.clone() })), "553");
        let long = io::Error::from_raw_os_error(36);
        assert_eq!(code(PutError::Home(HomeError::Io { path, doing: "opened", source: long })), "553");
        assert_eq!(code(PutError::Receive(ReceiveError::Stalled(SIDECAR_WAIT))), "426");
        assert_eq!(code(PutError::Draining), "451");
    }
}
