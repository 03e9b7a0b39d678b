//! The one SQLite file, `<data-dir>/inkport.db`: how it is opened, and its schema.
//!
//! `queue` and `accounts` keep their rows in it, each through connections of its own, and the command
//! line writes accounts while the daemon runs. So the schema has one owner and one version
//! (`user_version`), every connection the same settings: WAL, so that readers never wait for the
//! writer; `synchronous=FULL`, so that a commit is on disk when it returns; five seconds of patience
//! with another process' transaction. Knows nothing of what the rows mean.

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// An operator must look: the sentence says at what.
    #[error("{0}")]
    Unusable(String),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Marks the file as ours: "inkp".
const APPLICATION_ID: i64 = 0x696e_6b70;

/// Schema changes in order; the file's `user_version` says how many it has seen. Never edit one that
/// was released: add another.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
];

const PATIENCE: Duration = Duration::from_secs(5);

/// For those who write: made where missing, schema brought up to date.
pub fn open(path: &Path) -> Result<Connection, DatabaseError> {
    // It holds password hashes. SQLite gives the files beside it the same mode; where this cannot be
    // made, SQLite's own message says why.
    let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(PATIENCE)?;
    check_ours(&connection, path)?;
    // Only of effect before the first table is made: what retention frees can be given back to the disk.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    enter_wal(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// For those who show: the file must be there, and nothing is ever written.
pub fn open_to_read(path: &Path) -> Result<Connection, DatabaseError> {
    if !path.exists() {
        return Err(DatabaseError::Unusable("it is not there yet: `inkport serve` makes it".to_owned()));
    }
    // Reading a database in WAL mode wants to write into the file beside it that readers share; a
    // user who may only read does without.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX))?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    check_ours(&connection, path)?;
    match version(&connection)? {
        0 => Err(DatabaseError::Unusable("it is empty: `inkport serve` fills it".to_owned())),
        old if old < MIGRATIONS.len() => Err(DatabaseError::Unusable(
            "an older inkport wrote it: start the daemon once, which brings it up to date".to_owned(),
        )),
        _ => Ok(connection),
    }
}

/// A copy of the whole database as it stands at one instant, at `to`, which must not be there yet; fsynced.
/// Neither readers nor the writer wait for it.
pub fn snapshot(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let source = open_to_read(from)?;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| DatabaseError::Unusable(format!("{} cannot be made: {error}", to.display())))?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    target.pragma_update(None, "synchronous", "FULL")?;
    {
        let backup = rusqlite::backup::Backup::new(&source, &mut target)?;
        // In one step: between steps a writer in another process would make it begin anew, for ever.
        let mut tries = 0;
        while !matches!(backup.step(-1)?, rusqlite::backup::StepResult::Done) {
            tries += 1;
            if tries > 100 {
                return Err(DatabaseError::Unusable("it is locked for too long to be copied".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // The copy lies alone: nothing of it waits in a file beside it.
    target.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    Ok(())
}

/// What SQLite itself finds wrong with the file: empty if nothing.
pub fn faults(path: &Path) -> Result<Vec<String>, DatabaseError> {
    let connection = open_to_read(path)?;
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let told = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(told.into_iter().filter(|line| line != "ok").collect())
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

fn check_ours(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    // In one transaction: another process may be making the schema just now.
    let look = connection.unchecked_transaction()?;
    let tables: i64 = look.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: i64 = look.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(DatabaseError::Unusable(format!("{} is another program's database", path.display())));
    }
    let version = version(&look)?;
    if version > MIGRATIONS.len() {
        return Err(DatabaseError::Unusable(format!(
            "a newer inkport wrote it (schema {version}, this one knows {}): use that one, or restore a backup",
            MIGRATIONS.len()
        )));
    }
    Ok(())
}

/// The one setting that is kept in the file. While two processes open a new file at once, SQLite
/// answers "busy" here without waiting.
fn enter_wal(connection: &Connection) -> Result<(), DatabaseError> {
    let mut tries = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(DatabaseError::Unusable(format!("its file system has no shared memory (journal mode {mode})")));
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    if version(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again inside, since another process may have been first.
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(version(&transaction)?) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(number + 1).expect("few migrations"))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn unusable(result: Result<Connection, DatabaseError>) -> String {
        match result {
            Err(DatabaseError::Unusable(detail)) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_writing_connection_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inkport.db");
        for _ in 0..2 {
            let connection = open(&path).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
            assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
            assert_eq!(pragma("synchronous"), 2.into(), "FULL");
            assert_eq!(pragma("foreign_keys"), 1.into());
            assert_eq!(pragma("busy_timeout"), 5000.into());
            assert_eq!(pragma("user_version"), i64::try_from(MIGRATIONS.len()).unwrap().into());
        }
    }

    #[test]
    fn readers_cannot_write_and_need_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inkport.db");
        assert!(unusable(open_to_read(&path)).contains("not there yet"));
        assert!(!path.exists());
        drop(open(&path).unwrap());
        let reader = open_to_read(&path).unwrap();
        assert!(reader.execute("DELETE FROM jobs", []).is_err());
    }

    #[test]
    fn newer_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let newer = dir.path().join("newer.db");
        open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(unusable(open(&newer)).contains("schema 99"));
        assert!(unusable(open_to_read(&newer)).contains("schema 99"));
        let foreign = dir.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
        assert!(unusable(open(&foreign)).contains("another program's"));
        let text = dir.path().join("text.db");
        std::fs::write(
            &text,
            "this is not a database, but long enough to have a header of its own, and more than one hundred bytes long",
        )
        .unwrap();
        assert!(
            matches!(open(&text), Err(DatabaseError::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase))
        );
    }

    #[test]
    fn two_may_open_a_new_file_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inkport.db");
        std::thread::scope(|scope| {
            for handle in (0..8).map(|_| scope.spawn(|| open(&path).map(drop))).collect::<Vec<_>>() {
                handle.join().unwrap().unwrap();
            }
        });
    }
}
