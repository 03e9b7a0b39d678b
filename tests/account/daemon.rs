//! The daemon itself: its accounts file is hot, and sessions that have stopped living leave nothing behind.

use crate::common::{Daemon, PASSWORD, wait_for};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One session of a client that does as it likes.
struct Guest {
    lines: BufReader<TcpStream>,
}

impl Guest {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        let mut guest = Guest { lines: BufReader::new(stream) };
        assert!(guest.reply().starts_with("220"));
        guest
    }

    fn login(address: SocketAddr, name: &str) -> Result<Self, String> {
        let mut guest = Guest::connect(address);
        guest.say(&format!("USER {name}"));
        let reply = guest.say(&format!("PASS {PASSWORD}"));
        if reply.starts_with("230") { Ok(guest) } else { Err(reply) }
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn say(&mut self, command: &str) -> String {
        write!(self.lines.get_mut(), "{command}\r\n").unwrap();
        self.reply()
    }

    /// An upload that has begun.
    fn upload(&mut self, name: &str) -> TcpStream {
        let data = self.passive();
        assert!(self.say(&format!("STOR {name}")).starts_with("150"));
        data
    }

    fn passive(&mut self) -> TcpStream {
        let reply = self.say("EPSV");
        let port = reply.split('|').nth(3).unwrap().parse().unwrap();
        TcpStream::connect((self.lines.get_ref().peer_addr().unwrap().ip(), port)).unwrap()
    }

    /// Until the server ends the session.
    fn ended(&mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.lines.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the session was not ended");
        }
    }
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

#[test]
fn a_broken_edit_is_told_and_silent_sessions_leave_nothing_behind() {
    let mut daemon = Daemon::prepare("[accounts]\nsource = \"toml\"\n");
    let config = daemon.folder().join("inkport.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[ftp]\n", "[ftp]\nidle-timeout = \"2s\"\nstall-timeout = \"2s\"\n")).unwrap();
    daemon.account_add("first", PASSWORD, &[]);
    daemon.run();
    Guest::login(daemon.ftp, "first").unwrap_or_else(|reply| panic!("{reply}"));

    // A good edit holds at the next login, a broken one is told once and changes nothing.
    daemon.account_add("second", PASSWORD, &[]);
    Guest::login(daemon.ftp, "second").unwrap_or_else(|reply| panic!("{reply}"));
    let accounts = daemon.folder().join("accounts.toml");
    let good = fs::read_to_string(&accounts).unwrap();
    fs::write(&accounts, format!("{good}\n[[account]]\nname = ")).unwrap();
    for name in ["first", "second"] {
        Guest::login(daemon.ftp, name).unwrap_or_else(|reply| panic!("{reply}"));
    }
    assert_eq!(daemon.log().matches("was edited badly; the last good accounts stay").count(), 1, "{}", daemon.log());
    fs::write(&accounts, good.replace("name = \"second\"", "name = \"second\"\nexpires = \"2020-01-01\"")).unwrap();
    assert!(Guest::login(daemon.ftp, "second").is_err());

    // Once everything has been used, what is open is what stays open.
    let mut guest = Guest::login(daemon.ftp, "first").unwrap_or_else(|reply| panic!("{reply}"));
    guest.upload("page.txt").write_all(b"a page").unwrap();
    assert!(guest.reply().starts_with("226"));
    drop(guest);
    // A lane may still look at the upload.
    wait_for("the page to be settled", || (daemon.settled().len() == 1).then_some(()));
    let sessions = || {
        let told = fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
        let port = format!(":{:04X} ", daemon.ftp.port());
        // Established ones that the daemon holds.
        told.lines().filter(|line| line.contains(&port) && line.split_whitespace().nth(3) == Some("01")).count()
    };
    wait_for("no session is left", || (sessions() == 0).then_some(()));
    let before = descriptors(&daemon);
    let login = || Guest::login(daemon.ftp, "first").unwrap_or_else(|reply| panic!("{reply}"));
    let mut idle: Vec<Guest> = (0..3).map(|_| login()).chain((0..3).map(|_| Guest::connect(daemon.ftp))).collect();
    // One that says half a command, one that has a data connection and says nothing.
    idle[0].lines.get_mut().write_all(b"STOR half-a-comm").unwrap();
    let waiting = idle[1].passive();
    let mut uploads: Vec<(Guest, TcpStream)> = (0..4)
        .map(|number| {
            let mut guest = login();
            let mut data = guest.upload(&format!("page-{number}.pdf"));
            data.write_all(b"%PDF-1.4").unwrap();
            (guest, data)
        })
        .collect();
    assert!(descriptors(&daemon) >= before + 10);
    // Two of the uploads trickle, two are silent.
    let trickle: Vec<TcpStream> = uploads[..2].iter().map(|(_, data)| data.try_clone().unwrap()).collect();
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(100)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for mut data in &trickle {
                    let _ = data.write_all(b".");
                }
            }
        });
        for (guest, _data) in &mut uploads {
            let reply = guest.reply();
            assert!(reply.starts_with("426"), "{reply}");
        }
        drop(stop);
    });
    for guest in uploads.iter_mut().map(|(guest, _)| guest).chain(&mut idle) {
        guest.ended();
    }
    wait_for("every descriptor is given back", || (descriptors(&daemon) <= before).then_some(()));
    assert_eq!(fs::read_dir(daemon.folder().join("data/spool/incoming")).unwrap().count(), 0);
    assert!(!daemon.home("first").join("page-0.pdf").exists());
    drop(waiting);
}

/// `cargo test --test account -- --ignored`: what 500 sessions that do nothing cost.
#[test]
#[ignore = "a measurement"]
fn five_hundred_idle_sessions_cost_at_most_60_mib() {
    let mut daemon = Daemon::prepare("");
    let config = daemon.folder().join("inkport.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[ftp]\n", "[ftp]\nmax-sessions-per-ip = 512\n")).unwrap();
    daemon.account_add("first", PASSWORD, &[]);
    daemon.run();
    let login = || Guest::login(daemon.ftp, "first").unwrap_or_else(|reply| panic!("{reply}"));
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let mut sessions = vec![login()];
    let before = resident();
    sessions.extend((1..500).map(|_| login()));
    let cost = resident().saturating_sub(before);
    println!("500 idle sessions cost {} MiB", cost / 1024);
    assert!(cost < 60 * 1024, "{cost} KiB");
}
