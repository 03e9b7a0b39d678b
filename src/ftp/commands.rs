//! Commands that are answered here, before libunftp executes them or in its place: what depends on the
//! account, on what the client has chosen (`TYPE A`, facts), or on what the disk has room for. An upload
//! that would be refused in the end is refused before its data connection, not after 150.
//!
//! Everything here may be asked before the login, where libunftp allows the command then; there is no
//! user yet.

use super::auth::User;
use super::listing::Entry;
use super::lists::{Facts, Options, fits, pattern};
use super::session::{Session, lock};
use super::storage::{Storage, relative};
use super::{blocking, sidecars};
use crate::account::{Permission, VirtualPath};
use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode, ReplyText, SiteCommandContext, SiteCommandHandler};
use std::path::{Path, PathBuf};
use unftp_core::storage::{Error, ErrorKind, Fileinfo, Metadata, StorageBackend};

/// What is asked of [`Answers`].
pub(super) const VERBS: [&str; 21] = [
    "ALLO", "APPE", "CLNT", "CSID", "FEAT", "HELP", "HOST", "LANG", "LIST", "MLSD", "MLST", "NLST", "OPTS", "PROT", "REST",
    "RETR", "SIZE", "STAT", "STOR", "STOU", "TYPE",
];

/// Answers [`VERBS`], or has nothing against them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// TLS is offered.
    pub tls: bool,
}

type Context = SiteCommandContext<Storage, User>;

/// What is not answered is done by libunftp.
const GO_ON: Reply = Reply::None;

#[async_trait]
impl SiteCommandHandler<Storage, User> for Answers {
    async fn handle(&self, context: &Context) -> Reply {
        let (session, arguments) = (&*context.storage.session, context.arguments.as_str());
        if let Some(user) = context.user.as_ref()
            && let Some(refusal) = forbidden(context, user)
        {
            return refusal;
        }
        match (context.command.trim_start(), context.user.as_ref()) {
            ("CLNT", _) => Reply::new(ReplyCode::CommandOkay, "Noted"),
            ("CSID", _) => Reply::new(ReplyCode::CommandOkay, "Name=Inkport;"),
            ("FEAT", _) => self.features(session),
            ("HELP", _) => help(arguments),
            ("HOST", user) => host(arguments, user.is_some()),
            ("LANG", _) => language(arguments),
            ("OPTS", user) => options(session, arguments, user.is_some()),
            // It holds already.
            ("PROT", _) => {
                session.set_data_over_tls(arguments == "P");
                GO_ON
            }
            ("TYPE", _) => kind(session, arguments),
            ("REST", _) if session.is_ascii() && arguments != "0" => {
                Reply::new(ReplyCode::ParameterSyntaxError, "A position makes no sense in TYPE A")
            }
            (_, None) => GO_ON,
            ("ALLO", Some(user)) => allocate(context, user).await,
            ("LIST" | "NLST" | "MLSD" | "STAT", Some(user)) => list(context, user).await.unwrap_or_else(|refusal| refusal),
            ("MLST", Some(user)) => facts(context, user).await.unwrap_or_else(|refusal| refusal),
            ("RETR", Some(user)) => retrieve(context, user).await.unwrap_or_else(|refusal| refusal),
            ("SIZE", Some(user)) => size(context, user).await.unwrap_or_else(|refusal| refusal),
            ("APPE" | "STOR" | "STOU", Some(user)) => store(context, user).await,
            _ => GO_ON,
        }
    }
}

/// Why the account may not do this at all, if it may not.
fn forbidden(context: &Context, user: &User) -> Option<Reply> {
    let account = &user.account;
    let (needed, transfers) = match context.command.trim_start() {
        "APPE" | "STOR" | "STOU" => (&[Permission::Upload][..], true),
        "ALLO" => (&[Permission::Upload][..], false),
        "RETR" => (&[Permission::Download][..], true),
        "LIST" | "NLST" | "MLSD" => (&[Permission::List][..], true),
        "MLST" | "STAT" => (&[Permission::List][..], false),
        // Of a file that may be fetched.
        "SIZE" => (&[Permission::List, Permission::Download][..], false),
        _ => return None,
    };
    if !needed.iter().any(|permission| account.may(*permission)) {
        return Some(not_permitted());
    }
    let in_the_clear = transfers && account.require_tls && !context.storage.session.is_data_over_tls();
    in_the_clear.then(|| Reply::new(ReplyCode::ProtRequired, "This account's data goes over TLS only: PROT P first"))
}

/// To whoever asks for what its account is not for.
pub(super) fn not_permitted() -> Reply {
    Reply::new(ReplyCode::FileError, "Permission denied")
}

impl Answers {
    /// Features in alphabetical order, each true.
    fn features(self, session: &Session) -> Reply {
        let mlst = format!("MLST {}", lock(&session.facts).offered());
        let mut told = vec![
            "CLNT", "EPRT", "EPSV", "HOST", "LANG EN*", "MDTM", "MFMT", "MLSD", &mlst, "PASV", "REST STREAM", "SIZE", "TVFS",
            "UTF8",
        ];
        if self.tls {
            told.extend(["AUTH SSL", "AUTH TLS", "PBSZ", "PROT"]);
        }
        told.sort_unstable();
        let lines = std::iter::once("Extensions supported:".to_owned());
        let lines = lines.chain(told.iter().map(|feature| format!(" {feature}"))).chain(["End".to_owned()]);
        Reply::new_multiline(ReplyCode::SystemStatus, lines)
    }
}

fn help(topic: &str) -> Reply {
    const LINES: [&str; 7] = [
        "Commands:",
        " ABOR ACCT ALLO APPE AUTH CDUP CLNT CSID CWD DELE EPRT EPSV FEAT HELP HOST",
        " LANG LIST MDTM MFMT MKD MLSD MLST MODE NLST NOOP OPTS PASS PASV PBSZ PORT",
        " PROT PWD QUIT REIN REST RETR RMD RNFR RNTO SITE SIZE STAT STOR STOU STRU",
        " SYST TYPE USER XCUP XCWD XMKD XPWD XRMD",
        " SITE CHMOD, SITE UTIME",
        "End",
    ];
    let topic = topic.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    if LINES[1..5].iter().flat_map(|line| line.split(' ')).any(|command| command == topic) {
        Reply::new_multiline(ReplyCode::HelpMessage, LINES)
    } else {
        Reply::new(ReplyCode::ParameterSyntaxError, "No such command")
    }
}

/// RFC 7151. There is one host here, whatever it is called.
fn host(name: &str, is_logged_in: bool) -> Reply {
    match name {
        "" => Reply::new(ReplyCode::ParameterSyntaxError, "Which host?"),
        _ if is_logged_in => Reply::new(ReplyCode::BadCommandSequence, "A host is chosen before the login"),
        _ => Reply::new(ReplyCode::ServiceReady, "Inkport FTP ready"),
    }
}

/// RFC 2640. Replies are English.
fn language(tag: &str) -> Reply {
    let language = tag.split('-').next().unwrap_or_default();
    if language.is_empty() || language.eq_ignore_ascii_case("en") {
        Reply::new(ReplyCode::CommandOkay, "English it is")
    } else {
        Reply::new(ReplyCode::CommandNotImplementedForParameter, "Only English is spoken here")
    }
}

fn options(session: &Session, arguments: &str, is_logged_in: bool) -> Reply {
    let (option, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    match option.to_ascii_uppercase().as_str() {
        "UTF8" | "UTF-8" => {
            // Only accounts with a character set of their own hear a difference.
            session.set_utf8(!rest.eq_ignore_ascii_case("OFF"));
            Reply::new(ReplyCode::CommandOkay, "Names are in UTF-8, other bytes are kept as they are")
        }
        "MLST" => match Facts::chosen(rest.trim_start()) {
            Some(facts) => {
                let told = format!("MLST OPTS {}", facts.names());
                *lock(&session.facts) = facts;
                Reply::new_with_string(ReplyCode::CommandOkay, told)
            }
            None => Reply::new(
                ReplyCode::ParameterSyntaxError,
                "Facts are separated by semicolons, and the last one is followed by one too",
            ),
        },
        _ if is_logged_in => Reply::new(ReplyCode::ParameterSyntaxError, "Unknown option"),
        _ => Reply::new(ReplyCode::NotLoggedIn, "Please authenticate"),
    }
}

/// Binary until a client says `TYPE A` in so many words; `TYPE L 8` is binary too.
fn kind(session: &Session, arguments: &str) -> Reply {
    match arguments.bytes().next().map(|letter| letter.to_ascii_uppercase()) {
        Some(b'A') => {
            session.set_ascii(true);
            Reply::new(ReplyCode::CommandOkay, "Text has its line ends converted, anything else is taken as it is")
        }
        Some(b'I' | b'L') => {
            session.set_ascii(false);
            Reply::new(ReplyCode::CommandOkay, "Bytes are taken as they are")
        }
        Some(_) => Reply::new(ReplyCode::CommandNotImplementedForParameter, "Not implemented for that parameter"),
        None => Reply::new(ReplyCode::ParameterSyntaxError, "Which type?"),
    }
}

/// The size comes first; `R` and the length of a record may follow.
async fn allocate(context: &Context, user: &User) -> Reply {
    let size = context.arguments.split(' ').next().unwrap_or_default();
    if size.is_empty() {
        return Reply::new(ReplyCode::ParameterSyntaxError, "How many bytes?");
    }
    // What is no number asks for nothing; devices do not take an error well here.
    let is_number = size.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = if is_number { size.parse().unwrap_or(u64::MAX) } else { 0 };
    if bytes == 0 {
        return Reply::new(ReplyCode::CommandOkay, "Nothing is asked for");
    }
    match context.storage.has_room_for(user, bytes).await {
        Ok(()) => Reply::new(ReplyCode::CommandOkay, "There is room for it"),
        Err(error) => told(&error),
    }
}

/// Refuses an upload that cannot succeed. What can change until its end is looked at again then.
async fn store(context: &Context, user: &User) -> Reply {
    let verb = context.command.trim_start();
    if context.position > 0 {
        return match verb {
            "STOR" => {
                Reply::new(ReplyCode::CommandNotImplemented, "A file is taken whole or not at all: send it from its beginning")
            }
            _ => Reply::new(ReplyCode::TransientFileError, "A file is taken whole: no position, please"),
        };
    }
    let mut path = place(context);
    if verb == "STOU" {
        // Its folder counts; the name is made up later.
        path = match context.arguments.rsplit_once('/') {
            Some((folder, _)) => context.cwd.join(folder).join("stou"),
            None => context.cwd.join("stou"),
        };
    }
    if verb == "APPE"
        && let Ok(entry) = entry(user, &path).await
        && entry.is_file()
        && !entry.is_empty()
    {
        return Reply::new(
            ReplyCode::CommandNotImplemented,
            "A file is taken whole or not at all: send it from its beginning, under a new name",
        );
    }
    match Storage::place(user, &path) {
        Ok(path) => context.storage.may_come(user, &path).await.map_or_else(|error| told(&error), |()| GO_ON),
        Err(error) => told(&error),
    }
}

/// A download that cannot begin is refused before its data connection. A sidecar may still be written.
async fn retrieve(context: &Context, user: &User) -> Result<Reply, Reply> {
    let path = place(context);
    match entry(user, &path).await {
        Ok(entry) if entry.is_dir() => Err(Reply::new(ReplyCode::FileError, "That is a folder")),
        Ok(entry) if entry.is_file() && entry.len() < context.position => {
            Err(Reply::new(ReplyCode::PageTypeUnknown, "The file ends before that position"))
        }
        Err(_) if Storage::place(user, &path).map_or(true, |path| sidecars::upload_of(&path).is_none()) => Err(not_found()),
        _ => Ok(GO_ON),
    }
}

async fn size(context: &Context, user: &User) -> Result<Reply, Reply> {
    if context.storage.session.is_ascii() {
        return Err(Reply::new(ReplyCode::FileError, "SIZE is not told in TYPE A, where it depends on the line ends"));
    }
    let entry = entry(user, &place(context)).await?;
    if entry.is_dir() {
        return Err(Reply::new(ReplyCode::FileError, "That is a folder"));
    }
    Ok(Reply::new_with_string(ReplyCode::FileStatus, entry.len().to_string()))
}

async fn facts(context: &Context, user: &User) -> Result<Reply, Reply> {
    let path = place(context);
    let entry = entry(user, &path).await?;
    // As the client spells it, but whole.
    let shown =
        path.to_str().and_then(|path| VirtualPath::new(path).ok()).map_or_else(|| "/".to_owned(), |path| path.to_string());
    let line = format!(" {} {shown}", lock(&context.storage.session.facts).of(&entry));
    Ok(Reply::new_multiline(ReplyCode::FileActionOkay, [" Listing", &line, "End"]))
}

/// Makes the lines that libunftp then sends, or the reply to STAT.
async fn list(context: &Context, user: &User) -> Result<Reply, Reply> {
    let session = &context.storage.session;
    let lines = match context.command.trim_start() {
        "MLSD" => {
            let facts = lock(&session.facts).clone();
            if !entry(user, &place(context)).await?.is_dir() {
                return Err(Reply::new(ReplyCode::ParameterSyntaxError, "That is no folder"));
            }
            let files = entries(context, user, &context.arguments).await?;
            files.iter().map(|file| format!("{} {}\r\n", facts.of(&file.metadata), file.path.display())).collect()
        }
        "NLST" => find(context, user).await?.lines(false).await?,
        verb => {
            let lines = find(context, user).await?.lines(true).await?;
            if verb == "STAT" {
                let lines = std::iter::once("Status follows").chain(lines.lines()).chain(["End of status"]);
                return Ok(Reply::new_multiline(ReplyCode::FileStatus, lines));
            }
            lines
        }
    };
    *lock(&session.listing) = Some(lines.into_bytes());
    Ok(GO_ON)
}

/// What a client named to LIST, NLST or STAT.
struct Found {
    options: Options,
    files: Vec<Fileinfo<PathBuf, Entry>>,
    /// What NLST says before each name, so that it can be asked for by what is told.
    prefix: String,
    /// The names that were asked for, if not all of them.
    pattern: Option<String>,
}

impl Found {
    /// A line each. Long patterns and long folders take their time: not on an async thread.
    async fn lines(mut self, long: bool) -> Result<String, Reply> {
        let work = blocking(move || {
            if let Some(pattern) = &self.pattern {
                self.files.retain(|file| file.path.to_str().is_some_and(|name| fits(pattern, name)));
            }
            self.options.sort(&mut self.files);
            let line = |file: &Fileinfo<PathBuf, Entry>| match long || self.options.long {
                true => format!("{file}\r\n"),
                false => format!("{}{}\r\n", self.prefix, file.path.display()),
            };
            Ok(self.files.iter().map(line).collect())
        });
        work.await.map_err(|_| Reply::new(ReplyCode::LocalError, "Local error"))
    }
}

/// A name is taken as it is where there is such a thing, even one with a hyphen or a star.
async fn find(context: &Context, user: &User) -> Result<Found, Reply> {
    // Not for STAT: others refuse patterns there, too.
    let pattern = |named| pattern(named).filter(|_| context.command != " STAT");
    let (options, named) = match entry(user, &place(context)).await {
        Ok(_) => (Options::default(), context.arguments.as_str()),
        Err(_) => Options::split(&context.arguments),
    };
    let (prefix, pattern, files) = match (entry(user, &context.cwd.join(named)).await, pattern(named)) {
        (Ok(entry), _) if entry.is_dir() => (String::new(), None, entries(context, user, named).await?),
        (Ok(_), _) => {
            let folder = &named[..named.rfind('/').map_or(0, |slash| slash + 1)];
            (folder.to_owned(), None, entries(context, user, named).await?)
        }
        (Err(_), Some((folder, pattern))) => (folder.to_owned(), Some(pattern.to_owned()), entries(context, user, folder).await?),
        (Err(refusal), None) => return Err(refusal),
    };
    Ok(Found { options, files, prefix, pattern })
}

async fn entries(context: &Context, user: &User, named: &str) -> Result<Vec<Fileinfo<PathBuf, Entry>>, Reply> {
    context.storage.list(user, context.cwd.join(named)).await.map_err(|_| not_found())
}

async fn entry(user: &User, path: &Path) -> Result<Entry, Reply> {
    let path = relative(user, path).map_err(|error| told(&error))?;
    user.home.entry(&path).await.map_err(|_| not_found())
}

/// What the arguments name.
fn place(context: &Context) -> PathBuf {
    context.cwd.join(&context.arguments)
}

fn not_found() -> Reply {
    Reply::new(ReplyCode::FileError, "File not found")
}

/// An error as libunftp would have told it.
fn told(error: &Error) -> Reply {
    let (code, text) = match error.kind() {
        ErrorKind::ExceededStorageAllocationError => (ReplyCode::ExceededStorageAllocation, "Exceeded storage allocation"),
        ErrorKind::FileNameNotAllowedError => (ReplyCode::BadFileName, "File name not allowed"),
        ErrorKind::InsufficientStorageSpaceError => (ReplyCode::OutOfSpace, "Insufficient storage space"),
        ErrorKind::PermanentFileNotAvailable | ErrorKind::PermanentDirectoryNotAvailable => {
            (ReplyCode::FileError, "File or folder not found")
        }
        ErrorKind::PermissionDenied => (ReplyCode::FileError, "Permission denied"),
        ErrorKind::TransientFileNotAvailable => (ReplyCode::TransientFileError, "Try again later"),
        _ => (ReplyCode::LocalError, "Local error"),
    };
    let own = std::error::Error::source(error).and_then(|source| source.downcast_ref::<ReplyText>());
    Reply::new_with_string(code, own.map_or_else(|| text.to_owned(), ReplyText::to_string))
}
