//! What ends an upload, and what does not: uploads are cut at every sixty-fourth of their length in every
//! way a connection can end. A clean end of the data is an upload; everything else leaves nothing, and the
//! file that had the name before as it was.

mod ftp_support;

use ftp_support::wire::{Line, Mode, Wire};
use ftp_support::{House, certificate};
use inkport::ftp::Settings;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const PARTS: usize = 64;
const LENGTH: usize = 512 * 1024;
const OLD: &[u8] = b"the old page";
const NAME: &str = "scan.jpg";

fn page() -> Vec<u8> {
    (0..LENGTH).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// The bytes before each cut: none, a sixty-fourth, …, all of them.
fn cuts(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..=PARTS).map(|part| &page[..LENGTH * part / PARTS])
}

/// Begins an upload over the old file and sends `bytes`.
fn begin(wire: &mut Wire, mode: Mode, bytes: &[u8]) -> Line {
    wire.open(mode, None).unwrap();
    wire.expect(&format!("STOR {NAME}"), "150");
    let mut line = wire.take_data().unwrap();
    line.write_all(bytes).unwrap();
    line.flush().unwrap();
    line
}

fn the_old_page_is_there(house: &House, bytes: usize, jobs: usize) {
    house.nothing_is_staged();
    assert_eq!(fs::read(house.home(NAME)).unwrap(), OLD, "cut after {bytes} bytes");
    assert_eq!(house.jobs().len(), jobs, "cut after {bytes} bytes");
    let names: Vec<_> = fs::read_dir(house.home("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [NAME], "cut after {bytes} bytes");
}

fn store_old(house: &House) {
    let mut wire = Wire::login(house);
    let reply = wire.put(Mode::Epsv, format!("STOR {NAME}").as_bytes(), OLD).unwrap();
    assert!(reply.starts_with(b"226"));
}

#[test]
fn a_clean_end_is_an_upload_of_what_came() {
    let (house, page) = (House::open(), page());
    let mut wire = Wire::login(&house);
    for (bytes, mode) in cuts(&page).zip([Mode::Epsv, Mode::Port, Mode::Pasv].into_iter().cycle()) {
        begin(&mut wire, mode, bytes).end();
        wire.expect_reply("226");
        assert_eq!(fs::read(house.home(NAME)).unwrap(), bytes);
    }
    house.nothing_is_staged();
    // No bytes, no document.
    assert_eq!(house.jobs().len(), PARTS);
}

#[test]
fn a_reset_leaves_nothing() {
    let (house, page) = (House::open(), page());
    store_old(&house);
    let mut wire = Wire::login(&house);
    for (bytes, mode) in cuts(&page).zip([Mode::Epsv, Mode::Port].into_iter().cycle()) {
        let line = begin(&mut wire, mode, bytes);
        house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
        line.reset();
        let reply = String::from_utf8(wire.last_reply().unwrap()).unwrap();
        assert!(reply.starts_with("426") || reply.starts_with("451"), "cut after {}: {reply:?}", bytes.len());
        the_old_page_is_there(&house, bytes.len(), 1);
    }
}

#[test]
fn a_lost_control_connection_leaves_nothing() {
    let (house, page) = (House::open(), page());
    store_old(&house);
    // Each waits a moment for data that may still be on its way: all of them at once.
    let mut open = Vec::new();
    for (part, bytes) in cuts(&page).enumerate() {
        let mut wire = Wire::login(&house);
        let line = begin(&mut wire, Mode::Epsv, bytes);
        if part % 2 == 0 {
            wire.hang_up()
        } else {
            wire.reset()
        }
        open.push(line);
        if open.len() == 13 {
            house.eventually("the sessions end", || house.stats.now().sessions_open == 0);
            the_old_page_is_there(&house, bytes.len(), 1);
            open.clear();
        }
    }
    assert_eq!(house.stats.now().uploads_total, 1, "the old page");
}

#[test]
fn data_that_ended_before_the_control_connection_is_an_upload() {
    let (house, page) = (House::open(), page());
    for (part, bytes) in cuts(&page).enumerate() {
        let mut wire = Wire::login(&house);
        let line = begin(&mut wire, Mode::Epsv, bytes);
        line.socket().shutdown(std::net::Shutdown::Write).unwrap();
        if part % 2 == 0 {
            wire.hang_up()
        } else {
            wire.send(b"QUIT\r\n").unwrap()
        }
        drop(wire);
        let taken = format!("the upload of {} bytes, part {part}, is taken", bytes.len());
        house.eventually(&taken, || house.stats.now().uploads_total == part as u64 + 1);
        assert_eq!(fs::read(house.home(NAME)).unwrap(), bytes);
    }
    house.nothing_is_staged();
    assert_eq!(house.jobs().len(), PARTS);
}

/// A client process that is killed: its kernel ends both connections, cleanly or not as it had read
/// what was in its buffers. It holds both open, so the control connection's end comes with the data's.
#[test]
fn a_killed_client_leaves_the_whole_or_nothing() {
    let (house, page) = (House::open(), page());
    store_old(&house);
    let script = r#"
import ftplib, socket, sys
f = ftplib.FTP(timeout=30); f.connect(sys.argv[1], int(sys.argv[2])); f.login('desk', 'secret')
for line in sys.stdin:
    length = int(line)
    s = f.transfercmd('STOR scan.jpg')
    s.sendall(open(sys.argv[3], 'rb').read(length))
    print('sent', flush=True)
    sys.stdin.readline()
"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page");
    fs::write(&file, &page).unwrap();
    for bytes in cuts(&page) {
        let taken = house.stats.now().uploads_total;
        let broken = house.stats.now().uploads_broken;
        let mut client = Command::new("python3")
            .args(["-c", script, &house.address.ip().to_string(), &house.address.port().to_string()])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(client.stdin.as_mut().unwrap(), "{}", bytes.len()).unwrap();
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(client.stdout.take().unwrap()), &mut said).unwrap();
        assert_eq!(said.trim(), "sent");
        house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
        client.kill().unwrap();
        client.wait().unwrap();
        // A killed process' sockets end like closed ones: the protocol cannot tell. Whichever it was,
        // it is the whole of what was sent, or nothing.
        house.eventually("the upload ends", || {
            let now = house.stats.now();
            now.uploads_running == 0 && now.uploads_total + now.uploads_broken > taken + broken
        });
        house.nothing_is_staged();
        let found = fs::read(house.home(NAME)).unwrap();
        if house.stats.now().uploads_total > taken {
            assert_eq!(found, bytes);
        } else {
            assert_eq!(found, OLD);
        }
        store_old(&house);
    }
}

#[test]
fn tls_without_its_end_leaves_nothing() {
    let (pair, page) = (certificate(), page());
    let house = House::open_with(pair.settings("require = \"login\""), Duration::from_secs(60));
    let mut wire = Wire::login_tls(&house);
    let reply = wire.put(Mode::Epsv, format!("STOR {NAME}").as_bytes(), OLD).unwrap();
    assert!(reply.starts_with(b"226"));
    for (part, bytes) in cuts(&page).enumerate() {
        let line = begin(&mut wire, Mode::Epsv, bytes);
        house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
        if part % 2 == 0 {
            line.cut()
        } else {
            line.reset()
        }
        let reply = String::from_utf8(wire.last_reply().unwrap()).unwrap();
        assert!(reply.starts_with('4'), "cut after {}: {reply:?}", bytes.len());
        the_old_page_is_there(&house, bytes.len(), 1);
    }
    for (part, bytes) in cuts(&page).enumerate() {
        begin(&mut wire, Mode::Epsv, bytes).end();
        wire.expect_reply("226");
        assert_eq!(fs::read(house.home(NAME)).unwrap(), bytes);
        assert_eq!(house.jobs().len(), part + 1, "one for the old page, none for no bytes");
    }
}

#[test]
fn a_lost_tls_control_connection_leaves_nothing() {
    let (pair, page) = (certificate(), page());
    let house = House::open_with(pair.settings("require = \"login\""), Duration::from_secs(60));
    let mut open = Vec::new();
    for (part, bytes) in cuts(&page).enumerate().step_by(4) {
        let mut wire = Wire::login_tls(&house);
        let line = begin(&mut wire, Mode::Epsv, bytes);
        if part % 8 == 0 {
            wire.hang_up()
        } else {
            wire.reset()
        }
        open.push(line);
    }
    house.eventually("the sessions end", || house.stats.now().sessions_open == 0);
    house.nothing_is_staged();
    assert!(!house.home(NAME).exists() && house.jobs().is_empty());
}

#[test]
fn silence_leaves_nothing() {
    let page = page();
    let house = House::open_with(Settings::default(), Duration::from_millis(100));
    store_old(&house);
    let mut wire = Wire::login(&house);
    for bytes in cuts(&page).step_by(8) {
        let line = begin(&mut wire, Mode::Epsv, bytes);
        wire.expect_reply("426");
        drop(line);
        the_old_page_is_there(&house, bytes.len(), 1);
    }
}
