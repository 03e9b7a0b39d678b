//! What LIST, NLST, MLSD and MLST show, line by line: options before a folder, patterns in a name
//! (`NLST *.txt`), and the facts of RFC 3659. Pure; the entries come from [`super::listing`].

use super::listing::Entry;
use std::fmt::Write;
use std::path::PathBuf;
use time::OffsetDateTime;
use unftp_core::storage::{Fileinfo, Metadata};

/// What a client may ask of an entry, in the order that is told.
const FACTS: [&str; 8] = ["type", "perm", "size", "modify", "unique", "unix.mode", "unix.uid", "unix.gid"];
/// Those of them that are told unless the client chooses.
const USUAL: [&str; 4] = ["type", "perm", "size", "modify"];

/// The facts that a session wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts(Vec<&'static str>);

impl Default for Facts {
    fn default() -> Self {
        Facts(USUAL.to_vec())
    }
}

impl Facts {
    /// Of `OPTS MLST`: `type;size;`. Facts that are not known are left out, as RFC 3659 has it.
    pub fn chosen(text: &str) -> Option<Facts> {
        let text = text.to_ascii_lowercase();
        if !text.is_empty() && (text.contains(' ') || !text.ends_with(';')) {
            return None;
        }
        Some(Facts(FACTS.into_iter().filter(|fact| text.split(';').any(|name| name == *fact)).collect()))
    }

    /// For FEAT: `type*;size;`, with a star where a fact is wanted.
    pub fn offered(&self) -> String {
        FACTS.iter().fold(String::new(), |text, fact| text + fact + if self.0.contains(fact) { "*;" } else { ";" })
    }

    /// `type;size;`
    pub fn names(&self) -> String {
        self.0.iter().fold(String::new(), |text, fact| text + fact + ";")
    }

    /// `type=file;size=5;`
    pub fn of(&self, entry: &Entry) -> String {
        let mut text = String::new();
        for fact in &self.0 {
            let value = match *fact {
                "type" => if entry.is_dir() { "dir" } else { "file" }.to_owned(),
                "perm" => if entry.is_dir() { "cdeflmp" } else { "dfrw" }.to_owned(),
                "size" => entry.len().to_string(),
                "modify" => match entry.modified() {
                    Ok(modified) => timestamp(modified.into()),
                    Err(_) => continue,
                },
                "unique" => entry.unique(),
                "unix.mode" => format!("0{:o}", entry.permissions().0 & 0o7777),
                "unix.uid" => entry.uid().to_string(),
                _ => entry.gid().to_string(),
            };
            let _ = write!(text, "{fact}={value};");
        }
        text
    }
}

/// `YYYYMMDDhhmmss`, UTC, as MDTM and the facts have it.
fn timestamp(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", time.hour(), time.minute(), time.second())
}

/// What `ls` would be told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    pub long: bool,
    by_time: bool,
    reversed: bool,
}

impl Options {
    /// The options before a path, and the path. A lone `--` ends them.
    pub fn split(arguments: &str) -> (Options, &str) {
        let (mut options, mut rest) = (Options::default(), arguments);
        while let Some((letters, path)) = Self::first(rest) {
            rest = path;
            if letters == "-" {
                break;
            }
            options.long |= letters.contains('l');
            options.by_time |= letters.contains('t');
            options.reversed |= letters.contains('r');
        }
        (options, rest)
    }

    fn first(text: &str) -> Option<(&str, &str)> {
        // One space belongs to the option; more are the name's.
        let (word, path) = text.split_once(' ').unwrap_or((text, ""));
        let letters = word.strip_prefix('-')?;
        let is_option = letters == "-" || !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_option.then_some((letters, path))
    }

    pub fn sort(self, entries: &mut [Fileinfo<PathBuf, Entry>]) {
        if self.by_time {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.metadata.modified().ok()));
        }
        if self.reversed {
            entries.reverse();
        }
    }
}

/// The longest pattern; no name is longer.
const LONGEST: usize = 255;

/// `in/*.jpg` as folder (`in/`) and pattern; `None` where there is no pattern in the last part.
pub(super) fn pattern(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
    (name.len() <= LONGEST && name.contains(['*', '?', '['])).then_some((folder, name))
}

/// Whether a name fits a shell's pattern: `*`, `?`, `[a-z]` and `[!a-z]`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // Where the last star stands, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        let next = match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
                continue;
            }
            Some('?') => Some(at + 1),
            Some('[') => class(&pattern[at..], name[seen])
                .map_or((name[seen] == '[').then_some(at + 1), |(fits, length)| fits.then_some(at + length)),
            Some(other) => (*other == name[seen]).then_some(at + 1),
            None => None,
        };
        match (next, star) {
            (Some(next), _) => (at, seen) = (next, seen + 1),
            (None, Some((place, taken))) => {
                star = Some((place, taken + 1));
                (at, seen) = (place + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Whether `[…]` holds the character, and how long it is; `None` if it is not closed.
fn class(pattern: &[char], wanted: char) -> Option<(bool, usize)> {
    let inverted = matches!(pattern.get(1), Some('!' | '^'));
    let begin = if inverted { 2 } else { 1 };
    // A bracket that comes first is a member.
    let end = begin + 1 + pattern.get(begin + 1..)?.iter().position(|c| *c == ']')?;
    let members = &pattern[begin..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        if members.get(at + 1) == Some(&'-') && at + 2 < members.len() {
            found |= (members[at]..=members[at + 2]).contains(&wanted);
            at += 3;
        } else {
            found |= members[at] == wanted;
            at += 1;
        }
    }
    Some((found != inverted, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_before_a_path() {
        let split = |text| {
            let (options, path) = Options::split(text);
            (options.long, path.to_owned())
        };
        assert_eq!(split("-la in"), (true, "in".to_owned()));
        assert_eq!(split("-a -l  two words"), (true, " two words".to_owned()));
        assert_eq!(split("-- -l"), (false, "-l".to_owned()));
        for path in ["", "in", "-", "-a.b", "in -l"] {
            assert_eq!(split(path), (false, path.to_owned()));
        }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name) in [
            ("*", "scan.jpg"),
            ("*.jpg", "scan.jpg"),
            ("s*n*.*", "scan.01.jpg"),
            ("scan.???", "scan.jpg"),
            ("scan[0-9].jpg", "scan7.jpg"),
            ("scan[!0-9].jpg", "scanx.jpg"),
            ("[]x]", "]"),
            ("[", "["),
            ("ü*", "über"),
            ("**a**", "bab"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.jpg", "scan.jpeg"), ("?", ""), ("scan[0-9]", "scana"), ("[!a]", "a"), ("a*b", "abc"), ("", "x")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        // A pattern that makes the naive way exponential.
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
        assert_eq!(pattern("in/*.jpg"), Some(("in/", "*.jpg")));
        assert_eq!(pattern("*.txt"), Some(("", "*.txt")));
        assert_eq!(pattern("*/scan.jpg"), None);
    }

    #[test]
    fn facts_are_chosen_from_those_that_are_known() {
        assert_eq!(Facts::default().offered(), "type*;perm*;size*;modify*;unique;unix.mode;unix.uid;unix.gid;");
        assert_eq!(Facts::chosen("TypE;fish;Unix.Mode;").unwrap().names(), "type;unix.mode;");
        assert_eq!(Facts::chosen("").unwrap().names(), "");
        for wrong in ["type", "type ;", "type; size;"] {
            assert_eq!(Facts::chosen(wrong), None, "{wrong}");
        }
    }
}
