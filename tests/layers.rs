//! The order of rooms, held: a room imports rooms of lower rank only, and the pure rooms name
//! neither the runtime, nor sockets, nor the clock, nor (but for `ocr`, which opens its model
//! files) the file system. The table is the one in `src/lib.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const RANKS: &[(&str, u32)] = &[
    ("crashpoint", 0),
    ("meters", 0),
    ("units", 0),
    ("account", 1),
    ("document", 1),
    ("job", 2),
    ("ocr", 2),
    ("processors", 3),
    ("sidecar", 4),
    ("models", 4),
    ("spool", 4),
    ("database", 4),
    ("homes", 5),
    ("queue", 5),
    ("links", 5),
    ("accounts", 5),
    ("intake", 6),
    ("worker", 6),
    ("delivery", 6),
    ("keys", 6),
    ("upkeep", 7),
    ("ftp", 7),
    ("watch", 7),
    ("http", 7),
    ("config", 8),
    ("daemon", 9),
    ("cli", 10),
];

const PURE: &[&str] = &["units", "account", "document", "job", "ocr", "processors", "sidecar"];
const IMPURE_WORDS: &[&str] = &["tokio", "std::net", "SystemTime::now", "OffsetDateTime::now", "rusqlite", "std::process"];
/// `ocr` times its stages, loads model files by path, and sees that the runtime it loads is kept from reporting;
/// nobody else below *keeping* may.
const IMPURE_UNLESS_OCR: &[&str] = &["Instant::now", "std::fs", "File::open", "std::env::"];

fn source_files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

fn room_of(path: &Path) -> String {
    let relative = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code before a file's unit tests, without line comments: tests may name what they like.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every room named as `crate::room`, in `use` lists too: `use crate::{a::X, b}`.
fn rooms_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        named.push(std::mem::take(&mut word));
                        continue;
                    }
                    _ => {}
                }
                word.push(c);
            }
            named.push(word);
        } else {
            named.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    let first = |path: &String| path.trim().split("::").next().unwrap_or_default().to_owned();
    named.iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn a_room_imports_rooms_of_lower_rank_only() {
    let rank: BTreeMap<&str, u32> = RANKS.iter().copied().collect();
    let mut faults = Vec::new();
    for path in source_files() {
        let room = room_of(&path);
        if room == "main" || room == "lib" {
            continue;
        }
        let Some(own) = rank.get(room.as_str()) else {
            faults.push(format!("{}: the room {room} has no rank; give it one here and in src/lib.rs", path.display()));
            continue;
        };
        for named in rooms_named(&code_of(&path)) {
            if named == room {
                continue;
            }
            match rank.get(named.as_str()) {
                Some(other) if other < own => {}
                Some(other) => faults.push(format!("{}: {room} (rank {own}) imports {named} (rank {other})", path.display())),
                None => faults.push(format!("{}: {room} names crate::{named}, which is no room", path.display())),
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn pure_rooms_name_no_runtime_no_socket_and_no_clock() {
    let mut faults = Vec::new();
    for path in source_files() {
        let room = room_of(&path);
        if !PURE.contains(&room.as_str()) {
            continue;
        }
        let code = code_of(&path);
        let forbidden = IMPURE_WORDS.iter().chain(IMPURE_UNLESS_OCR.iter().filter(|_| room != "ocr"));
        for word in forbidden.filter(|word| code.contains(*word)) {
            faults.push(format!("{}: the pure room {room} names {word}", path.display()));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_tour_names_every_room() {
    let tour = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (room, _) in RANKS {
        assert!(tour.contains(&format!("pub mod {room};")), "src/lib.rs has no `pub mod {room};`");
        assert!(tour.contains(&format!("[`{room}`]")), "the tour in src/lib.rs does not mention {room}");
    }
}

#[test]
fn the_check_itself_sees_imports() {
    assert_eq!(rooms_named("use crate::{a::{X, Y}, b};\nlet x = crate::c::f();"), ["a", "b", "c"]);
}
