//! An account's day as a table: `YYYY-MM-DD.csv` in its home, a row for each upload that was read, by the day on
//! which it came in (UTC).
//!
//! Each time the whole file is written anew beside itself and renamed, so whoever fetches it has whole rows, and a
//! crash leaves the old one or the new one. A job's row is known by its id: a rerun adds none. A file of that name
//! that does not begin as ours do is the account's own, and the rows go to `YYYY-MM-DD-2.csv`.

use super::publish::PublishError;
use crate::account::{AccountName, VirtualPath};
use crate::crashpoint;
use crate::homes::{HomeError, Homes};
use crate::job::Job;
use crate::sidecar::{Reading, Style, day_header, names, ours, write_day_record};
use crate::spool::{Spool, Staged};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::sync::{Mutex, PoisonError};

/// Days of all accounts change one after the other: two lanes may work for one account.
static APPENDING: Mutex<()> = Mutex::new(());
/// Files of a day that are looked at before it is given up.
const MOST_FILES: u32 = 9;
/// A record is read in pieces of this size; only its beginning matters.
const PIECE: u64 = 64 << 10;

/// Adds a job's rows to its day, unless they are there.
pub(super) fn append(spool: &Spool, homes: &Homes, job: &Job, rows: &[&Reading], style: &Style) -> Result<(), PublishError> {
    let _alone = APPENDING.lock().unwrap_or_else(PoisonError::into_inner);
    let day = job.received_at.to_string();
    let day = day.split('T').next().unwrap_or(&day);
    let key = job.id.to_string();
    let mut place = None;
    for number in 1..=MOST_FILES {
        let path = VirtualPath::new(&names::day_file(day, number)).expect("a date is a name");
        match look(homes, &job.account, &path, &key)? {
            Found::Row => return Ok(()),
            Found::Foreign => {}
            Found::Ours(file) => place = place.or(Some((path, Some(file)))),
            Found::Nothing => {
                place = place.or(Some((path, None)));
                break;
            }
        }
    }
    let Some((path, old)) = place else {
        tracing::warn!(job.id = %job.id, account.name = %job.account, "the account has files of its own under every name of the day's table: there is no row");
        return Ok(());
    };
    let staged = written(spool, old, rows, style)?;
    homes.install(&job.account, &path, staged)?;
    crashpoint::here("day-appended");
    Ok(())
}

enum Found {
    Nothing,
    Foreign,
    /// Ours, and the row is in it.
    Row,
    Ours(File),
}

fn look(homes: &Homes, account: &AccountName, path: &VirtualPath, key: &str) -> Result<Found, PublishError> {
    let mut file = match homes.open_file(account, path) {
        Ok(file) => file,
        Err(HomeError::Missing { .. }) => return Ok(Found::Nothing),
        Err(HomeError::NotAPlace { .. }) => return Ok(Found::Foreign),
        Err(error) => return Err(error.into()),
    };
    let read = |source| PublishError::Render(format!("the day's table cannot be read: {source}"));
    let ours = file.rewind().and_then(|()| ours::is_ours(".csv", &mut file)).map_err(read)?;
    if !ours {
        return Ok(Found::Foreign);
    }
    file.rewind().map_err(read)?;
    if has_row(BufReader::new(&file), key).map_err(read)? {
        return Ok(Found::Row);
    }
    file.rewind().map_err(read)?;
    Ok(Found::Ours(file))
}

/// Whether a record begins with the key: a cell of its own, or the job's of a stack's document.
fn has_row(mut lines: impl BufRead, key: &str) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut begins = true;
    loop {
        line.clear();
        if io::Read::take(&mut lines, PIECE).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        // Whoever opened it in a spreadsheet and wrote it back may have quoted everything.
        let cell = line.strip_prefix(b"\"").unwrap_or(&line);
        if begins && cell.strip_prefix(key.as_bytes()).is_some_and(|rest| matches!(rest.first(), Some(b',' | b';' | b'"'))) {
            return Ok(true);
        }
        begins = line.ends_with(b"\n");
    }
}

fn written(spool: &Spool, old: Option<File>, rows: &[&Reading], style: &Style) -> Result<Staged, PublishError> {
    Ok(spool.stage_with(|out| {
        match old {
            Some(file) => {
                let mut ends = Ends { out, last: b'\n' };
                io::copy(&mut BufReader::new(file), &mut ends)?;
                if ends.last != b'\n' {
                    ends.write_all(b"\r\n")?;
                }
            }
            None => out.write_all(day_header(style).as_bytes())?,
        }
        rows.iter().try_for_each(|row| write_day_record(row, out))
    })?)
}

/// Remembers the last byte that went through.
struct Ends<'a> {
    out: &'a mut dyn Write,
    last: u8,
}

impl Write for Ends<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.last = bytes[..written].last().copied().unwrap_or(self.last);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_by_its_key_alone() {
        let key = "01J00000000000000000000000";
        let has = |text: &str| has_row(text.as_bytes(), key).unwrap();
        assert!(has(&format!("job,file\r\n{key},a.jpg\r\n")));
        assert!(has(&format!("\"{key}\";\"a.jpg\"\n")));
        assert!(!has(&format!("x,{key},a.jpg\r\n")) && !has(&format!("{key}9,a\r\n")) && !has(""));
        // A record longer than what is looked at begins only once.
        let long = format!("x,{}{key},a\r\n", " ".repeat(PIECE as usize - 2));
        assert!(!has(&long));
    }
}
