//! `inkport check-config`: everything that would keep the daemon from starting, or from working as
//! meant, told at once instead of one start after the other. Changes nothing.

use super::Plan;
use super::engine::{Choice, launch};
use super::print::{print, table};
use crate::accounts::Accounts;
use crate::config::{AccountsSource, Config};
use crate::delivery::Mailer;
use crate::ftp::{FtpError, Require};
use crate::keys::{MasterKey, MasterKeySource};
use crate::models::{Installed, Manifest};
use crate::queue::JobLedger as _;
use crate::queue::sqlite::SqliteLedger;
use crate::units::ByteSize;
use crate::worker::engine::{Readers, Session};
use std::path::Path;
use std::process::ExitCode;

/// How one thing stands.
enum Finding {
    Good(String),
    /// Works, but hardly as meant.
    Doubtful(String),
    Bad(String),
}

/// Checks what the configuration names. The configuration itself was parsed to come here. Exit code
/// 0 or 2.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let findings = findings(config);
    let bad = findings.iter().any(|(_, finding)| matches!(finding, Finding::Bad(_)));
    let rows: Vec<Vec<String>> = findings
        .into_iter()
        .map(|(what, finding)| {
            let (state, detail) = match finding {
                Finding::Good(detail) => ("good", detail),
                Finding::Doubtful(detail) => ("doubtful", detail),
                Finding::Bad(detail) => ("bad", detail),
            };
            vec![what.to_owned(), state.to_owned(), detail]
        })
        .collect();
    print(&table(&["WHAT", "STATE", "DETAIL"], &rows))?;
    Ok(if bad { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn findings(config: &Config) -> Vec<(&'static str, Finding)> {
    vec![
        ("data-dir", data_dir(config)),
        ("database", database(config)),
        ("accounts", accounts(config)),
        ("ftp", ftp_ports(config)),
        ("ftp.tls", ftp_tls(config)),
        ("http", http(config)),
        ("keys", keys(config)),
        ("http.tls", http_tls(config)),
        ("mail", mail(config)),
        ("models", models(config)),
        ("limits", limits(config)),
    ]
}

/// The nearest folder on the way to `path` that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

fn data_dir(config: &Config) -> Finding {
    let path = &config.data_dir;
    let nearest = existing(path);
    if !nearest.is_dir() {
        return Finding::Bad(format!("{} is not a folder", nearest.display()));
    }
    if rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
        return Finding::Bad(format!("{} cannot be written by this user", nearest.display()));
    }
    Finding::Good(if nearest == path {
        path.display().to_string()
    } else {
        format!("{}, made at the first start", path.display())
    })
}

fn database(config: &Config) -> Finding {
    let path = config.database();
    if !path.exists() {
        return Finding::Good(format!("{}, made at the first start", path.display()));
    }
    match SqliteLedger::open(&path).and_then(|ledger| ledger.counts()) {
        Ok(counts) => {
            let jobs = counts.queued + counts.running + counts.done + counts.rejected + counts.dead;
            Finding::Good(format!("{}, {jobs} jobs", path.display()))
        }
        Err(error) => Finding::Bad(error.to_string()),
    }
}

fn accounts(config: &Config) -> Finding {
    let (opened, place) = match config.accounts.source {
        AccountsSource::Sqlite if !config.database().exists() => {
            return Finding::Doubtful("none yet: `inkport account add NAME` makes one".to_owned());
        }
        AccountsSource::Sqlite => (Accounts::sqlite(&config.database()), "in the database".to_owned()),
        AccountsSource::Toml => (Accounts::toml(&config.accounts.file), format!("in {}", config.accounts.file.display())),
    };
    match opened.and_then(|accounts| accounts.list()) {
        Ok(list) if list.is_empty() => Finding::Doubtful(format!("none {place}: nobody can come in")),
        Ok(list) => match list.iter().find(|account| account.client_certificate.is_some()) {
            Some(account) if config.ftp.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) => Finding::Doubtful(format!(
                "{} {place}, of which \"{}\" has a client-certificate setting: set ftp.tls.client-ca, or no certificate is asked for",
                list.len(),
                account.name
            )),
            _ => Finding::Good(format!("{} {place}", list.len())),
        },
        Err(error) => Finding::Bad(chain(&error)),
    }
}

fn keys(config: &Config) -> Finding {
    let source = config.master_key();
    match &source {
        MasterKeySource::Made(path) if !path.exists() => {
            Finding::Good(format!("their master key, {}, is made with the first signing key", path.display()))
        }
        MasterKeySource::Made(path) | MasterKeySource::File(path) => match MasterKey::open(&source) {
            Ok(_) => Finding::Good(format!("their master key is {}", path.display())),
            Err(error) => Finding::Bad(error.to_string()),
        },
    }
}

fn ftp_ports(config: &Config) -> Finding {
    let settings = &config.ftp;
    // TLS has a row of its own.
    if let Err(error @ FtpError::Setting { .. }) = settings.check() {
        return Finding::Bad(chain(&error));
    }
    let passive = &settings.passive_ports.0;
    let detail = format!("{}, data ports {}", settings.listen, settings.passive_ports);
    // The kernel hands these out to outgoing connections: a data port may be taken when it is wanted.
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| {
        let mut words = text.split_whitespace();
        Some((words.next()?.parse::<u16>().ok()?, words.next()?.parse::<u16>().ok()?))
    });
    match ephemeral {
        Some((first, last)) if *passive.start() <= last && first <= *passive.end() => {
            Finding::Doubtful(format!("{detail}, which overlap the kernel's ephemeral ports {first}-{last}"))
        }
        _ => Finding::Good(detail),
    }
}

fn ftp_tls(config: &Config) -> Finding {
    let Some(tls) = &config.ftp.tls else {
        return Finding::Good("no [ftp.tls]: plain FTP only".to_owned());
    };
    if let Err(error) = tls.check() {
        return Finding::Bad(chain(&error));
    }
    let mut detail = match tls.require {
        Require::No => "offered",
        Require::Login => "required for the login",
        Require::All => "required for everything",
    }
    .to_owned();
    if let Some(implicit) = tls.implicit_listen {
        detail.push_str(&format!(", implicit at {implicit}"));
    }
    if tls.client_ca.is_some() {
        detail.push_str(", client certificates asked for");
    }
    Finding::Good(detail)
}

fn http(config: &Config) -> Finding {
    let listen = config.http.listen;
    let implicit = config.ftp.tls.as_ref().and_then(|tls| tls.implicit_listen);
    for (key, taken) in [("ftp.listen", Some(config.ftp.listen)), ("ftp.tls.implicit-listen", implicit)] {
        if taken == Some(listen) && listen.port() != 0 {
            return Finding::Bad(format!("{listen} is {key} as well: give one of them another port"));
        }
    }
    Finding::Good(format!("{listen}, known as {}", config.http.public_url))
}

fn http_tls(config: &Config) -> Finding {
    let Some(tls) = &config.http.tls else {
        let listen = config.http.listen.ip();
        return if listen.is_loopback() || !config.http.trusted_proxies.is_empty() {
            Finding::Good("no [http.tls]: plain HTTP, for this machine or behind a proxy".to_owned())
        } else {
            Finding::Doubtful("no [http.tls]: keys travel in the clear to whoever reaches this port".to_owned())
        };
    };
    match tls.check() {
        Ok(()) => Finding::Good("offered, TLS 1.2 and 1.3".to_owned()),
        Err(error) => Finding::Bad(chain(&error)),
    }
}

fn mail(config: &Config) -> Finding {
    let Some(settings) = &config.mail else {
        return Finding::Good("no [mail]: none is sent".to_owned());
    };
    match Mailer::new(settings) {
        Ok(_) => Finding::Good(format!("through {} from {}", settings.relay, settings.from)),
        Err(error) => Finding::Bad(chain(&error)),
    }
}

fn models(config: &Config) -> Finding {
    let manifest = match Manifest::open(&config.ocr.models) {
        Ok(manifest) => manifest,
        Err(error) => return Finding::Bad(chain(&error)),
    };
    for entry in manifest.entries() {
        let path = manifest.path(entry);
        match manifest.check(entry) {
            Ok(Installed::Good) => {}
            Ok(Installed::Missing) => {
                return Finding::Bad(format!("{} is missing: run `make setup` to fetch it", path.display()));
            }
            Ok(Installed::Wrong(_)) => {
                return Finding::Bad(format!("{} is not the file that the manifest names: fetch it again", path.display()));
            }
            Err(error) => return Finding::Bad(chain(&error)),
        }
    }
    // As the daemon opens them: in a process with limits.engine-memory.
    let choice = Choice { ocr: config.ocr.clone(), threads: Plan::of(config.ocr.threads).threads };
    let opened = launch(&choice, config.limits.engine_memory.0)
        .and_then(|launch| Ok(Session::open(0, Readers::Walled(launch)).map(drop)?));
    if let Err(error) = opened {
        return Finding::Bad(format!("every hash is right, but the engine does not open: {error:#}"));
    }
    Finding::Good(format!(
        "{} files in {}, every hash right, the engine opens",
        manifest.entries().len(),
        config.ocr.models.display()
    ))
}

fn limits(config: &Config) -> Finding {
    let floor = config.limits.min_free_space;
    match rustix::fs::statvfs(existing(&config.data_dir)) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let whole = if free >> 30 >= 10 { ByteSize(free >> 30 << 30) } else { ByteSize(free >> 20 << 20) };
            if free < floor.0 {
                Finding::Doubtful(format!("{whole} are free, less than min-free-space ({floor}): nothing would be accepted"))
            } else {
                Finding::Good(format!("{whole} are free, accepting stops below {floor}"))
            }
        }
        Err(error) => Finding::Doubtful(format!("the free space cannot be told: {error}")),
    }
}

/// The error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
