//! What a power cut leaves: a record of `shim.c` replayed up to some place, with what was not fsynced lost.
//!
//! The rules are stricter than any real file system's. A file's bytes are safe once the file was fsynced, a
//! name once its folder was: fsyncing a file does not save its name, nor the other way round. A rename
//! from folder to folder never loses the file, but both names may be there after it. Of what is not safe
//! a cut may also leave anything: each piece of 4 KiB, each name by itself.

use super::Random;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A line of the record.
#[derive(Debug, Clone)]
pub enum Step {
    Make {
        inode: u64,
        path: String,
    },
    Folder {
        inode: u64,
        path: String,
    },
    Write {
        inode: u64,
        at: usize,
        data: Vec<u8>,
    },
    Cut {
        inode: u64,
        length: usize,
    },
    Sync {
        inode: u64,
        modified: SystemTime,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    /// The daemon is about to answer a client with this code.
    Said {
        code: String,
    },
    Refused {
        kind: String,
        path: String,
    },
}

/// Reads a record.
pub fn steps(path: &Path) -> Vec<Step> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut steps) = (0, Vec::new());
    while at < bytes.len() {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&bytes[at..end]).unwrap();
        at = end + 1;
        let (kind, rest) = line.split_once(' ').unwrap();
        let two = || rest.split_once(' ').unwrap();
        let renamed = || rest.split_once('\t').map(|(from, to)| (from.to_owned(), to.to_owned())).unwrap();
        steps.push(match kind {
            "C" | "D" => {
                let (inode, path) = (two().0.parse().unwrap(), two().1.to_owned());
                if kind == "C" { Step::Make { inode, path } } else { Step::Folder { inode, path } }
            }
            "W" => {
                let mut numbers = rest.split(' ').map(|number| number.parse::<u64>().unwrap());
                let mut number = || numbers.next().unwrap();
                let (inode, offset, length) = (number(), number() as usize, number() as usize);
                let data = bytes[at..at + length].to_vec();
                at += length + 1;
                Step::Write { inode, at: offset, data }
            }
            "T" => Step::Cut { inode: two().0.parse().unwrap(), length: two().1.parse().unwrap() },
            "S" => {
                let numbers: Vec<u64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
                let since = Duration::new(numbers[1], u32::try_from(numbers[2]).unwrap());
                Step::Sync { inode: numbers[0], modified: SystemTime::UNIX_EPOCH + since }
            }
            "R" => Step::Rename { from: renamed().0, to: renamed().1 },
            "L" => Step::Link { from: renamed().0, to: renamed().1 },
            "U" => Step::Unlink { path: rest.to_owned() },
            "M" => Step::Said { code: rest.to_owned() },
            "F" => Step::Refused { kind: two().0.to_owned(), path: two().1.to_owned() },
            other => panic!("{other}: {line}"),
        });
    }
    steps
}

/// What becomes of what was not fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    Lost,
    /// Each piece by the throw of a coin.
    Some(u64),
    /// No cut at all: what a `kill -9` leaves.
    Kept,
}

type Node = usize;

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// `what` is the file that has the name from then on. A name that went away because its file got another one
/// is gone only if that one is there.
#[derive(Debug, Clone)]
struct Naming {
    number: usize,
    name: String,
    what: Option<Node>,
    only_after: Option<usize>,
}

#[derive(Debug, Default, Clone)]
struct Body {
    inode: u64,
    is_folder: bool,
    // Of a file.
    safe: Vec<u8>,
    changes: Vec<Change>,
    modified: Option<SystemTime>,
    // Of a folder.
    safe_names: BTreeMap<String, Node>,
    names: BTreeMap<String, Node>,
    namings: Vec<Naming>,
}

/// A disk in the middle of things.
#[derive(Debug, Clone)]
pub struct Disk {
    bodies: Vec<Body>,
    by_inode: HashMap<u64, Node>,
    /// Namings that are safe.
    done: BTreeSet<usize>,
    count: usize,
}

const ROOT: Node = 0;
const PIECE: usize = 4096;

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, data) => {
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Change::Cut(length) => bytes.resize(*length, 0),
    }
}

impl Disk {
    /// What was there before the record began is safe: nothing.
    pub fn empty() -> Self {
        let root = Body { is_folder: true, ..Body::default() };
        Disk { bodies: vec![root], by_inode: HashMap::new(), done: BTreeSet::new(), count: 0 }
    }

    fn split(path: &str) -> (&str, &str) {
        let path = path.trim_end_matches("/.");
        path.rsplit_once('/').unwrap_or(("", path))
    }

    fn folder(&self, path: &str) -> Option<Node> {
        path.split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .try_fold(ROOT, |at, part| self.bodies[at].names.get(part).copied())
    }

    /// Changes a name; answers the change's number.
    fn name(&mut self, path: &str, what: Option<Node>, only_after: Option<usize>) -> usize {
        let (folder, name) = Self::split(path);
        let folder = self.folder(folder).unwrap_or_else(|| panic!("{path} is in no folder that was seen being made"));
        self.count += 1;
        let number = self.count;
        match what {
            Some(what) => self.bodies[folder].names.insert(name.to_owned(), what),
            None => self.bodies[folder].names.remove(name),
        };
        self.bodies[folder].namings.push(Naming { number, name: name.to_owned(), what, only_after });
        number
    }

    fn at(&self, path: &str) -> Option<Node> {
        let (folder, name) = Self::split(path);
        self.bodies[self.folder(folder)?].names.get(name).copied()
    }

    fn make(&mut self, inode: u64, path: &str, is_folder: bool) {
        self.bodies.push(Body { inode, is_folder, ..Body::default() });
        let node = self.bodies.len() - 1;
        self.by_inode.insert(inode, node);
        self.name(path, Some(node), None);
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Make { inode, path } => self.make(*inode, path, false),
            Step::Folder { inode, path } => self.make(*inode, path, true),
            Step::Write { inode, at, data } => {
                if let Some(node) = self.by_inode.get(inode) {
                    self.bodies[*node].changes.push(Change::Write(*at, data.clone()));
                }
            }
            Step::Cut { inode, length } => {
                if let Some(node) = self.by_inode.get(inode) {
                    self.bodies[*node].changes.push(Change::Cut(*length));
                }
            }
            Step::Sync { inode, modified } => self.sync(*inode, *modified),
            Step::Rename { from, to } => {
                let node = self.at(from).unwrap_or_else(|| panic!("{from} was not seen being made"));
                if self.at(to) == Some(node) {
                    return;
                }
                let arrived = self.name(to, Some(node), None);
                self.name(from, None, Some(arrived));
            }
            Step::Link { from, to } => {
                let node = self.at(from).unwrap_or_else(|| panic!("{from} was not seen being made"));
                self.name(to, Some(node), None);
            }
            Step::Unlink { path } => {
                self.name(path, None, None);
            }
            Step::Said { .. } | Step::Refused { .. } => {}
        }
    }

    fn sync(&mut self, inode: u64, modified: SystemTime) {
        let Some(node) = self.by_inode.get(&inode).copied() else { return self.sync_names(ROOT) };
        if self.bodies[node].is_folder {
            return self.sync_names(node);
        }
        let body = &mut self.bodies[node];
        for change in std::mem::take(&mut body.changes) {
            apply(&mut body.safe, &change);
        }
        body.modified = Some(modified);
    }

    fn sync_names(&mut self, folder: Node) {
        let mut waiting = Vec::new();
        for naming in std::mem::take(&mut self.bodies[folder].namings) {
            if naming.only_after.is_some_and(|other| !self.done.contains(&other)) {
                // Within one folder the other one came before.
                waiting.push(naming);
                continue;
            }
            self.done.insert(naming.number);
            self.set(folder, &naming);
        }
        self.bodies[folder].namings = waiting;
    }

    fn set(&mut self, folder: Node, naming: &Naming) {
        match naming.what {
            Some(what) => self.bodies[folder].safe_names.insert(naming.name.clone(), what),
            None => self.bodies[folder].safe_names.remove(&naming.name),
        };
    }

    /// The power goes. Makes all that is left below `to`; answers the files that were made: the number they had
    /// in the record, the number they have now, their time of modification.
    pub fn cut(mut self, unsynced: Unsynced, to: &Path) -> Vec<(u64, u64, SystemTime)> {
        let mut coin: Box<dyn FnMut() -> bool> = match unsynced {
            Unsynced::Lost => Box::new(|| false),
            Unsynced::Kept => Box::new(|| true),
            Unsynced::Some(seed) => {
                let mut random = Random::new(seed);
                Box::new(move || random.below(2) == 1)
            }
        };
        let mut namings: Vec<(Node, Naming)> = Vec::new();
        for node in 0..self.bodies.len() {
            let body = &mut self.bodies[node];
            for change in std::mem::take(&mut body.changes) {
                match &change {
                    Change::Cut(_) if coin() => apply(&mut body.safe, &change),
                    Change::Cut(_) => {}
                    Change::Write(at, data) => {
                        let mut from = 0;
                        while from < data.len() {
                            let end = ((at + from) / PIECE * PIECE + PIECE - at).min(data.len());
                            if coin() {
                                apply(&mut body.safe, &Change::Write(at + from, data[from..end].to_vec()));
                            }
                            from = end;
                        }
                    }
                }
            }
            namings.extend(std::mem::take(&mut body.namings).into_iter().map(|naming| (node, naming)));
        }
        namings.sort_by_key(|(_, naming)| naming.number);
        for (folder, naming) in namings {
            if coin() && naming.only_after.is_none_or(|other| self.done.contains(&other)) {
                self.done.insert(naming.number);
                self.set(folder, &naming);
            }
        }
        let mut made = BTreeMap::new();
        self.build(ROOT, to, &mut made);
        made.into_values().collect()
    }

    fn build(&self, folder: Node, to: &Path, made: &mut BTreeMap<Node, (u64, u64, SystemTime)>) {
        let mut first = HashMap::new();
        self.build_below(folder, to, made, &mut first);
    }

    fn build_below(
        &self,
        folder: Node,
        to: &Path,
        made: &mut BTreeMap<Node, (u64, u64, SystemTime)>,
        first: &mut HashMap<Node, std::path::PathBuf>,
    ) {
        fs::create_dir_all(to).unwrap();
        for (name, node) in &self.bodies[folder].safe_names {
            let (path, body) = (to.join(name), &self.bodies[*node]);
            if body.is_folder {
                self.build_below(*node, &path, made, first);
            } else if let Some(there) = first.get(node) {
                fs::hard_link(there, &path).unwrap();
            } else {
                fs::write(&path, &body.safe).unwrap();
                let modified = body.modified.unwrap_or_else(SystemTime::now);
                File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
                made.insert(*node, (body.inode, fs::metadata(&path).unwrap().ino(), modified));
                first.insert(*node, path);
            }
        }
    }
}
