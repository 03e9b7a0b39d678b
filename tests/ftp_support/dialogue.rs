//! Recorded dialogues: a text file says what a client sends and what it must be answered, and is
//! replayed against the real door. The format is described in `tests/dialogues/README.md`.

use super::wire::{Mode, Wire, shown};
use super::{House, certificate};
use inkport::account::Account;
use inkport::ftp::Settings;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Replays a file; panics with the line that went wrong and what was said until then.
pub fn replay(file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let script = Script::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let pair = script.tls.as_ref().map(|_| certificate());
    let mut settings: Settings = match (&pair, &script.tls) {
        (Some(pair), Some(more)) => pair.settings(more),
        _ => Settings::default(),
    };
    if !script.ftp.is_empty() {
        // Laid over what is there, as a configuration file would be over the defaults.
        let mut table: toml::Table = toml::Table::try_from(&settings).unwrap();
        let more: toml::Table = script.ftp.parse().unwrap_or_else(|error| panic!("{}: @ftp: {error}", file.display()));
        table.extend(more);
        settings = table.try_into().unwrap_or_else(|error| panic!("{}: @ftp: {error}", file.display()));
    }
    let house = House::open_with(settings, script.stall);
    for account in &script.accounts {
        let account: Account = toml::from_str(account).unwrap_or_else(|error| panic!("{}: @account: {error}", file.display()));
        house.add(account);
    }
    for round in 1..=script.repeat {
        let mut play =
            Play { house: &house, wires: BTreeMap::new(), now: "a".to_owned(), names: BTreeMap::new(), last: Vec::new() };
        for (number, step) in &script.steps {
            if let Err(problem) = play.step(step) {
                let said = play.wires.get(&play.now).map(|wire| wire.transcript.join("\n  ")).unwrap_or_default();
                panic!("{}:{number}: {step}\n  {problem}\n  round {round}, session {}:\n  {said}", file.display(), play.now);
            }
        }
    }
}

struct Script {
    tls: Option<String>,
    ftp: String,
    accounts: Vec<String>,
    stall: Duration,
    repeat: u32,
    steps: Vec<(usize, String)>,
}

impl Script {
    fn parse(text: &str) -> Result<Script, String> {
        let mut script = Script {
            tls: None,
            ftp: String::new(),
            accounts: Vec::new(),
            stall: Duration::from_secs(60),
            repeat: 1,
            steps: Vec::new(),
        };
        if !text.starts_with("# ") {
            return Err("the first line says what the dialogue is about: `# …`".into());
        }
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.trim_end().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(directive) = line.strip_prefix('@') else {
                script.steps.push((at + 1, line.to_owned()));
                continue;
            };
            let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            match name {
                "tls" => script.tls = Some(format!("{}{rest}\n", script.tls.unwrap_or_default())),
                "ftp" => script.ftp.push_str(&format!("{rest}\n")),
                "account" => {
                    let (name, keys) = rest.split_once(' ').unwrap_or((rest, ""));
                    script.accounts.push(format!("name = \"{name}\"\n{}", keys.replace("; ", "\n")));
                }
                "stall" => {
                    script.stall = Duration::from_millis(rest.parse().map_err(|_| format!("@stall {rest}: milliseconds"))?)
                }
                "repeat" => script.repeat = rest.parse().map_err(|_| format!("@repeat {rest}: a number"))?,
                _ => return Err(format!("line {}: there is no @{name}", at + 1)),
            }
        }
        Ok(script)
    }
}

struct Play<'a> {
    house: &'a House,
    wires: BTreeMap<String, Wire>,
    now: String,
    names: BTreeMap<String, Vec<u8>>,
    last: Vec<u8>,
}

impl Play<'_> {
    fn wire(&mut self) -> Result<&mut Wire, String> {
        self.wires.get_mut(&self.now).ok_or_else(|| "there is no such session: `connect` first".to_owned())
    }

    fn step(&mut self, step: &str) -> Result<(), String> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let io = |error: std::io::Error| error.to_string();
        match verb {
            "C:" => {
                let line = [self.unescape(rest)?, b"\r\n".to_vec()].concat();
                return self.wire()?.send(&line).map_err(io);
            }
            "C-" => {
                let bytes = self.unescape(rest)?;
                return self.wire()?.send(&bytes).map_err(io);
            }
            _ => {}
        }
        let words = self.words(rest)?;
        let word = |at: usize| words.get(at).map(Vec::as_slice).ok_or_else(|| format!("`{verb}` needs more words"));
        let text = |at: usize| word(at).map(|word| String::from_utf8_lossy(word).into_owned());
        match verb {
            "S:" => {
                self.last = self.wire()?.reply().map_err(|error| format!("no reply: {error}"))?;
                self.check_last(&text(0)?, &words[1..])
            }
            "F:" => {
                self.last = self.wire()?.last_reply().map_err(|error| format!("no reply: {error}"))?;
                self.check_last(&text(0)?, &words[1..])
            }
            "connect" => {
                if !words.is_empty() {
                    self.now = text(0)?;
                }
                let mut address = self.house.address;
                if words.get(1).is_some_and(|word| word == b"v4") {
                    address = SocketAddr::from(([127, 0, 0, 1], address.port()));
                }
                let wire = Wire::connect(address).map_err(io)?;
                self.wires.insert(self.now.clone(), wire);
                Ok(())
            }
            "use" => {
                self.now = text(0)?;
                self.wire().map(drop)
            }
            "login" => {
                let name = if words.is_empty() { "desk".to_owned() } else { text(0)? };
                self.step("connect")?;
                self.step("S: 220")?;
                self.wire()?.log_in(&name);
                Ok(())
            }
            "login-tls" => {
                let name = if words.is_empty() { "desk".to_owned() } else { text(0)? };
                self.step("connect")?;
                self.step("S: 220")?;
                let wire = self.wire()?;
                wire.start_tls().map_err(io)?;
                wire.log_in(&name);
                wire.expect("PBSZ 0", "200");
                wire.expect("PROT P", "200");
                Ok(())
            }
            "tls" => self.wire()?.start_tls().map_err(io),
            "urgent" => {
                let bytes = word(0)?.to_vec();
                self.wire()?.send_urgent(&bytes).map_err(io)
            }
            "hang-up" => {
                self.wire()?.hang_up();
                Ok(())
            }
            "reset-control" => {
                self.wire()?.reset();
                Ok(())
            }
            "data" => {
                let mode = mode(&text(0)?)?;
                let from = words.get(2).map(|_| text(2)).transpose()?.map(|from| from.parse().expect("an address"));
                self.wire()?.open(mode, from)
            }
            "listen" => self.wire()?.listen_now(),
            "send" => {
                let bytes =
                    if word(0)? == b"bytes" { vec![0x55; text(1)?.parse().map_err(|_| "a number")?] } else { word(0)?.to_vec() };
                self.wire()?.data()?.write_all(&bytes).map_err(io)
            }
            "receive" => {
                let mut line = self.wire()?.take_data()?;
                let mut bytes = Vec::new();
                let _ = line.read_to_end(&mut bytes);
                line.end();
                check(&bytes, &words)
            }
            "end" => self.wire()?.take_data().map(super::wire::Line::end),
            "cut" => self.wire()?.take_data().map(super::wire::Line::cut),
            "reset" => self.wire()?.take_data().map(super::wire::Line::reset),
            "drop" => {
                self.wire()?.drop_data();
                Ok(())
            }
            "put" => {
                let (mode, command, bytes, codes) = (mode(&text(0)?)?, word(1)?.to_vec(), word(2)?.to_vec(), text(3)?);
                self.last = self.wire()?.put(mode, &command, &bytes)?;
                self.check_last(&codes, &words[4..])
            }
            "get" => {
                let (mode, command, codes) = (mode(&text(0)?)?, word(1)?.to_vec(), text(2)?);
                let (bytes, last) = self.wire()?.get(mode, &command)?;
                self.last = last;
                self.check_last(&codes, &[])?;
                check(&bytes, &words[3..])
            }
            "name" => {
                let (name, after) = (text(0)?, word(2)?);
                let at = self
                    .last
                    .windows(after.len())
                    .position(|window| window == after)
                    .ok_or("the last reply has no such words")?;
                let rest = &self.last[at + after.len()..];
                let end = rest.iter().position(|byte| b"\r\n\"".contains(byte)).unwrap_or(rest.len());
                let value = rest[..end].trim_ascii().to_vec();
                self.names.insert(name, value);
                Ok(())
            }
            "differ" => {
                if word(0)? == word(1)? {
                    Err(format!("both are {}", shown(word(0)?)))
                } else {
                    Ok(())
                }
            }
            "folder" => fs::create_dir_all(self.at_home(word(0)?)).map_err(io),
            "file" => fs::write(self.at_home(word(0)?), word(1)?).map_err(io),
            "home" => {
                let path = self.at_home(word(0)?);
                match text(1)?.as_str() {
                    "absent" => {
                        if path.symlink_metadata().is_ok() {
                            Err("it is there".into())
                        } else {
                            Ok(())
                        }
                    }
                    "folder" => {
                        if path.is_dir() {
                            Ok(())
                        } else {
                            Err("it is no folder".into())
                        }
                    }
                    "size" => {
                        let (found, expected) = (path.metadata().map_err(io)?.len(), text(2)?);
                        if found.to_string() == expected { Ok(()) } else { Err(format!("{found} bytes")) }
                    }
                    _ => check(&fs::read(&path).map_err(io)?, &words[1..]),
                }
            }
            "jobs" => {
                let expected: usize = text(0)?.parse().map_err(|_| "a number")?;
                let house = self.house;
                house.eventually("the number of jobs", || house.jobs().len() >= expected);
                let found = house.jobs().len();
                if found == expected {
                    Ok(())
                } else {
                    Err(format!("{found} jobs: {:?}", house.jobs().iter().map(|job| job.path.clone()).collect::<Vec<_>>()))
                }
            }
            "uploading" => {
                let expected: usize = text(0)?.parse().map_err(|_| "a number")?;
                self.house.eventually("the number of running uploads", || self.house.stats.now().uploads_running == expected);
                Ok(())
            }
            "nothing-staged" => {
                self.house.nothing_is_staged();
                Ok(())
            }
            _ => Err(format!("there is no step `{verb}`")),
        }
    }

    /// Under desk's home.
    fn at_home(&self, path: &[u8]) -> PathBuf {
        self.house.home("").join(std::ffi::OsStr::from_bytes(path))
    }

    fn check_last(&self, codes: &str, words: &[Vec<u8>]) -> Result<(), String> {
        if codes == "end" {
            return if self.last.is_empty() { Ok(()) } else { Err(format!("the connection goes on: {}", shown(&self.last))) };
        }
        let code = String::from_utf8_lossy(&self.last[..self.last.len().min(3)]).into_owned();
        let fits =
            |pattern: &str| pattern == code || pattern.ends_with("xx") && code.len() == 3 && code.starts_with(&pattern[..1]);
        if !codes.split('|').any(fits) {
            return Err(format!("answered {:?}, not {codes}", shown(&self.last)));
        }
        for word in words {
            if !contains(&self.last, word) {
                return Err(format!("answered {:?}, without {:?}", shown(&self.last), shown(word)));
            }
        }
        Ok(())
    }

    /// Words and "quoted words", escapes undone, `{name}` filled in.
    fn words(&self, text: &str) -> Result<Vec<Vec<u8>>, String> {
        let mut words = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let end = end.ok_or("a quote is not closed")?;
                words.push(self.unescape(&quoted[..end])?);
                rest = quoted[end + 1..].trim_start();
            } else {
                let end = rest.find(' ').unwrap_or(rest.len());
                words.push(self.unescape(&rest[..end])?);
                rest = rest[end..].trim_start();
            }
        }
        Ok(words)
    }

    /// `\r \n \t \\ \" \s` (a space) and `\xHH`; `{name}` is what `name` kept; `{x*200}` is 200 x.
    fn unescape(&self, text: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('r') => bytes.push(b'\r'),
                    Some('n') => bytes.push(b'\n'),
                    Some('t') => bytes.push(b'\t'),
                    Some('s') => bytes.push(b' '),
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).collect();
                        bytes.push(u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits}"))?);
                    }
                    Some(other) => bytes.extend(other.to_string().bytes()),
                    None => return Err("a backslash at the end".into()),
                },
                '{' => {
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    if let Some((what, times)) = name.split_once('*') {
                        bytes.extend(what.repeat(times.parse().map_err(|_| format!("{{{name}}}"))?).bytes());
                    } else {
                        bytes.extend(self.names.get(&name).ok_or_else(|| format!("nothing is known as {name}"))?);
                    }
                }
                _ => bytes.extend(c.to_string().bytes()),
            }
        }
        Ok(bytes)
    }
}

/// `is "…"`, `has "…"`, `lacks "…"`, as many as there are.
fn check(bytes: &[u8], words: &[Vec<u8>]) -> Result<(), String> {
    for pair in words.chunks(2) {
        let [how, what] = pair else { return Err("`is`, `has` or `lacks`, then the bytes".into()) };
        let good = match how.as_slice() {
            b"is" => bytes == what,
            b"has" => contains(bytes, what),
            b"lacks" => !contains(bytes, what),
            _ => return Err(format!("`is`, `has` or `lacks`, not {}", shown(how))),
        };
        if !good {
            return Err(format!("it holds {:?}; {} {:?}", shown(bytes), shown(how), shown(what)));
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    what.is_empty() || bytes.windows(what.len()).any(|window| window == what)
}

fn mode(name: &str) -> Result<Mode, String> {
    Mode::named(name).ok_or_else(|| format!("there is no mode {name}"))
}
