//! The FTP door with the real rooms behind it: what is acknowledged is durable, what broke leaves
//! nothing, nobody gets out of a home. A real client (Python's ftplib) for what devices do, raw
//! sockets for what they should not.

mod ftp_support;

use ftp_support::{House, Raw, python};
use inkport::account::{Account, AccountName, VirtualPath};
use inkport::ftp::Settings;
use inkport::job::state::State;
use inkport::queue::{Outcome, Queue};
use inkport::units::{ByteSize, Timestamp};
use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

const PAGE: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 1, 2, 3, 4];

#[test]
fn an_acknowledged_upload_has_its_file_its_spooled_bytes_and_its_job() {
    let house = House::open();
    python(
        &house,
        r#"
f.storbinary("STOR scan.jpg", io.BytesIO(b"x" * 700_001))
f.mkd("in"); f.cwd("in")
f.storbinary("STOR scan 2.jpg", io.BytesIO(b"second"))
assert f.nlst() == ["scan 2.jpg"], f.nlst()
f.voidcmd("TYPE I")
assert f.size("/scan.jpg") == 700_001
got = io.BytesIO(); f.retrbinary("RETR /scan.jpg", got.write)
assert got.getvalue() == b"x" * 700_001
"#,
    );
    assert_eq!(fs::read(house.home("in/scan 2.jpg")).unwrap(), b"second");
    let jobs = house.jobs();
    let paths: Vec<_> = jobs.iter().map(|job| (job.path.as_str(), job.bytes)).collect();
    assert_eq!(paths, [("/in/scan 2.jpg", 6), ("/scan.jpg", 700_001)], "newest first");
    for job in jobs {
        assert_eq!(fs::read(house.spool.path(&job.spool)).unwrap(), fs::read(house.home(job.path.relative())).unwrap());
    }
    let stats = house.stats.now();
    assert_eq!((stats.uploads_total, stats.uploads_running, stats.bytes_total), (2, 0, 700_007));
}

#[test]
fn every_failed_login_gets_one_answer() {
    let house = House::open();
    let mut replies = Vec::new();
    for (name, password) in [("desk", "wrong"), ("nobody", "secret"), ("anonymous", "me@example.com"), ("../desk", "secret")] {
        let mut raw = Raw::connect(&house);
        raw.expect(&format!("USER {name}"), "331");
        replies.push(raw.command(&format!("PASS {password}")));
    }
    assert!(replies.iter().all(|reply| reply.starts_with("530") && *reply == replies[0]), "{replies:?}");
    assert_eq!(house.stats.now().logins_failed, 4);
    Raw::login(&house);
}

#[test]
fn one_connection_cannot_guess_in_parallel() {
    let house = House::open();
    let mut raw = Raw::connect(&house);
    raw.expect("USER desk", "331");
    // libunftp takes further passwords while the first is looked at; we look at one.
    raw.send(&"PASS wrong\r\n".repeat(8));
    for _ in 0..8 {
        let reply = raw.reply();
        assert!(reply.starts_with("530") || reply.starts_with("503"), "{reply}");
    }
    assert_eq!(house.stats.now().logins_failed, 1);
}

#[test]
fn a_reset_in_mid_file_leaves_nothing_and_keeps_the_old_file() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("scan.jpg", b"the old page");
    let mut data = raw.passive();
    raw.expect("STOR scan.jpg", "150");
    data.write_all(&[7; 600_000]).unwrap();
    // A connection that is reset before libunftp looks at it gets no reply at all.
    house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
    ftp_support::reset(data);
    assert!(raw.reply().starts_with("426"));
    assert_eq!(fs::read(house.home("scan.jpg")).unwrap(), b"the old page");
    house.nothing_is_staged();
    assert_eq!(house.jobs().len(), 1);
    assert_eq!(house.stats.now().uploads_broken, 1);
}

#[test]
fn an_upload_whose_client_leaves_right_after_the_data_is_a_job() {
    let house = House::open();
    for round in 0..20 {
        let mut raw = Raw::login(&house);
        let mut data = raw.passive();
        raw.expect(&format!("STOR scan-{round}.jpg"), "150");
        data.write_all(PAGE).unwrap();
        drop(data);
        if round % 2 == 0 {
            raw.send("QUIT\r\n");
        }
        drop(raw);
    }
    house.eventually("20 jobs", || house.jobs().len() == 20);
    house.nothing_is_staged();
}

#[test]
fn a_control_connection_lost_before_the_end_of_the_data_leaves_nothing() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    let mut data = raw.passive();
    raw.expect("STOR scan.jpg", "150");
    data.write_all(&[7; 300_000]).unwrap();
    drop(raw);
    house.eventually("the upload is given up", || house.stats.now().uploads_broken == 1);
    house.nothing_is_staged();
    assert!(!house.home("scan.jpg").exists());
    assert!(house.jobs().is_empty());
}

#[test]
fn a_stalled_upload_is_given_up_and_the_session_goes_on() {
    let house = House::open_with(Settings::default(), Duration::from_millis(200));
    let mut raw = Raw::login(&house);
    let mut data = raw.passive();
    raw.expect("STOR scan.jpg", "150");
    data.write_all(PAGE).unwrap();
    assert!(raw.reply().starts_with("426"));
    house.nothing_is_staged();
    raw.store("scan.jpg", PAGE);
    assert_eq!(house.jobs().len(), 1);
}

#[test]
fn zero_bytes_and_sidecar_names_are_stored_and_no_jobs() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("probe.jpg", b"");
    raw.store("notes.jpg.txt", b"words");
    assert_eq!(fs::read(house.home("probe.jpg")).unwrap(), b"");
    assert_eq!(fs::read(house.home("notes.jpg.txt")).unwrap(), b"words");
    assert!(house.jobs().is_empty());
    raw.expect("DELE probe.jpg", "250");
    // A pre-flight probe is followed by the real thing under the same name.
    raw.store("probe.jpg", PAGE);
    assert_eq!(house.jobs().len(), 1);
}

#[test]
fn what_is_too_large_is_552_and_leaves_nothing() {
    let house = House::open();
    let mut small = Account::new("small".parse().unwrap());
    small.max_upload = Some(ByteSize(1000));
    house.add(small);
    let mut quota = Account::new("quota".parse().unwrap());
    quota.quota = Some(ByteSize(1500));
    house.add(quota);

    let mut raw = Raw::login_as(&house, "small");
    assert!(raw.try_store("a.jpg", &[1; 1000]).starts_with("226"));
    assert!(raw.try_store("b.jpg", &[1; 1001]).starts_with("552"));
    assert!(raw.try_store("c.jpg", &[1; 3_000_000]).starts_with("552"));
    let mut raw = Raw::login_as(&house, "quota");
    assert!(raw.try_store("a.jpg", &[1; 1000]).starts_with("226"));
    assert!(raw.try_store("b.jpg", &[1; 1000]).starts_with("552"));
    assert!(raw.try_store("a.jpg", &[1; 1500]).starts_with("226"), "a file that is replaced makes room");
    assert!(raw.try_store("b.jpg", &[1; 1]).starts_with("552"));
    let mut raw = Raw::login(&house);
    assert!(raw.try_store("a.jpg", &vec![1; 5_000_001]).starts_with("552"), "limits.max-upload");
    house.nothing_is_staged();
    assert_eq!(house.jobs().len(), 3);
}

#[test]
fn a_temporary_name_and_a_rename_make_one_job() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("scan.jpg.part", PAGE);
    assert!(house.jobs().is_empty());
    raw.expect("RNFR scan.jpg.part", "350");
    raw.expect("RNTO scan.jpg", "250");
    let jobs = house.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].path.as_str(), "/scan.jpg");
    assert_eq!(fs::read(house.spool.path(&jobs[0].spool)).unwrap(), PAGE);
    raw.expect("RNFR scan.jpg", "350");
    raw.expect("RNTO page.jpg", "250");
    assert_eq!(house.jobs().len(), 1);
    assert_eq!(house.jobs()[0].path.as_str(), "/page.jpg");
}

#[test]
fn appe_and_stou_make_new_files_but_nothing_is_continued() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    assert!(raw.try_put("APPE new.jpg", PAGE).starts_with("226"));
    assert!(raw.try_put("STOU", PAGE).starts_with("226"));
    assert_eq!(house.jobs().len(), 2);
    let refused = raw.try_put("APPE new.jpg", b"more");
    assert!(refused.starts_with('5'), "{refused}");
    raw.expect("REST 3", "350");
    let refused = raw.try_put("STOR new.jpg", b"more");
    assert!(refused.starts_with('5'), "{refused}");
    raw.expect("REST 0", "350");
    assert!(raw.try_put("STOR newer.jpg", PAGE).starts_with("226"));
    assert_eq!(fs::read(house.home("new.jpg")).unwrap(), PAGE);
    // Downloads may go on where they stopped.
    raw.expect("REST 4", "350");
    assert_eq!(raw.fetch("RETR new.jpg"), &PAGE[4..]);
}

#[test]
fn nobody_leaves_the_home() {
    let house = House::open();
    let outside = house.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink(&outside, house.home("out")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret.txt"), house.home("link.txt")).unwrap();
    let mut raw = Raw::login(&house);
    // Above the home there is nothing: the path ends up inside.
    assert!(raw.try_put("STOR ../../escape.jpg", PAGE).starts_with("226"));
    assert!(house.home("escape.jpg").exists() && !house.dir.path().join("escape.jpg").exists());
    for name in ["out/escape.jpg", "/out/../out/escape.jpg"] {
        let refused = raw.try_put(&format!("STOR {name}"), PAGE);
        assert!(refused.starts_with('5'), "{name}: {refused}");
    }
    for command in ["RETR out/secret.txt", "RETR link.txt", "RETR ../../outside/secret.txt", "LIST out"] {
        let told = raw.try_fetch(command);
        assert!(told.0.is_empty() && told.1.starts_with("550"), "{command}: {told:?}");
    }
    for command in ["CWD out", "DELE out/secret.txt", "RMD out", "MKD out/new", "DELE ../../outside/secret.txt"] {
        let refused = raw.command(command);
        assert!(refused.starts_with('5'), "{command}: {refused}");
    }
    // Over a symlink an upload puts itself, not what the link leads to.
    raw.store("link.txt", b"mine");
    assert_eq!(fs::read(outside.join("secret.txt")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn hidden_names_are_not_listed() {
    let house = House::open();
    fs::write(house.home(".hidden"), "").unwrap();
    fs::write(house.home("seen.jpg"), "1").unwrap();
    python(
        &house,
        r#"
lines = []; f.dir(lines.append)
assert len(lines) == 1 and lines[0].endswith(" seen.jpg"), lines
assert f.nlst() == ["seen.jpg"]
assert [name for name, _ in f.mlsd()] == ["seen.jpg"]
lines = []; f.retrlines("NLST -la", lines.append)
assert len(lines) == 1 and lines[0].endswith(" seen.jpg"), lines
lines = []; f.dir("seen.jpg", lines.append)
assert len(lines) == 1, lines
"#,
    );
}

#[test]
fn two_sessions_that_write_one_name_leave_one_of_them_whole() {
    let house = House::open();
    for _ in 0..5 {
        let mut sessions: Vec<_> = [b'a', b'b']
            .into_iter()
            .map(|letter| {
                let mut raw = Raw::login(&house);
                let data = raw.passive();
                raw.expect("STOR scan.jpg", "150");
                (raw, data, letter)
            })
            .collect();
        for _ in 0..4 {
            for (_, data, letter) in &mut sessions {
                data.write_all(&[*letter; 200_000]).unwrap();
            }
        }
        for (mut raw, data, _) in sessions {
            drop(data);
            assert!(raw.reply().starts_with("226"));
        }
        let kept = fs::read(house.home("scan.jpg")).unwrap();
        assert!(kept.len() == 800_000 && kept.iter().all(|byte| *byte == kept[0]));
    }
    assert_eq!(house.jobs().len(), 10, "each was acknowledged, each is read");
}

#[test]
fn names_that_cannot_be_are_refused_before_the_data() {
    let house = House::open();
    fs::create_dir(house.home("folder")).unwrap();
    let mut raw = Raw::login(&house);
    for (name, code) in [("folder", "553"), ("missing/scan.jpg", "550"), (&"x".repeat(256), "553"), ("/", "553")] {
        let refused = raw.try_store(name, PAGE);
        assert!(refused.starts_with(code), "{name}: {refused}");
    }
    house.nothing_is_staged();
}

#[test]
fn a_sidecar_that_is_about_to_be_is_waited_for() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("scan.jpg", PAGE);
    let mut data = raw.passive();
    raw.expect("RETR scan.jpg.txt", "150");
    // Meanwhile the worker is done with it.
    let now = Timestamp::from_system(std::time::SystemTime::now());
    house.runtime().block_on(async {
        let lease = house.queue.claim(Duration::from_secs(60), now).await.unwrap().expect("the upload's job is due");
        fs::write(house.home("scan.jpg.txt"), "words").unwrap();
        let job = house.queue.settle(lease.job.id, lease.token, Outcome::Done, Vec::new(), now).await.unwrap();
        assert_eq!(job.state, State::Done);
    });
    let mut words = String::new();
    data.read_to_string(&mut words).unwrap();
    assert_eq!(words, "words");
    assert!(raw.reply().starts_with("226"));
    let told = raw.try_fetch("RETR other.jpg.txt");
    assert!(told.1.starts_with("550"), "no job, no wait: {told:?}");
}

#[test]
fn the_door_stops_when_running_uploads_have_ended() {
    let house = House::open();
    let mut idle = Raw::login(&house);
    let mut raw = Raw::login(&house);
    let mut data = raw.passive();
    raw.expect("STOR scan.jpg", "150");
    data.write_all(PAGE).unwrap();
    house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
    house.begin_stop();
    assert_eq!(idle.reply(), "", "an idle session ends at once");
    house.eventually("nobody new is let in", || std::net::TcpStream::connect(house.address).is_err());
    data.write_all(PAGE).unwrap();
    drop(data);
    assert!(raw.reply().starts_with("226"), "a running upload is waited for and answered");
    house.wait_stopped();
    assert_eq!(house.jobs()[0].bytes, 2 * PAGE.len() as u64);
}

#[test]
fn sessions_are_capped_in_all_and_per_address() {
    let settings = Settings { max_sessions: 4, max_sessions_per_ip: 2, ..Settings::default() };
    let house = House::open_with(settings, Duration::from_secs(60));
    let one = Raw::login(&house);
    let _two = Raw::login(&house);
    let mut third = Raw::connect_silently(&house);
    assert!(third.reply().starts_with("421"));
    assert_eq!(third.reply(), "", "and closed");
    assert_eq!(house.stats.now().sessions_refused, 1);
    drop(one);
    house.eventually("a place is free again", || house.stats.now().sessions_open == 1);
    Raw::login(&house);
}

#[test]
fn a_session_that_quits_is_closed_even_if_a_data_connection_was_prepared() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    let _data = raw.passive();
    raw.expect("QUIT", "221");
    assert_eq!(raw.reply(), "");
}

#[test]
fn active_mode_and_ipv6_work() {
    let settings = Settings { listen: "[::1]:0".parse().unwrap(), ..Settings::default() };
    let six = House::open_with(settings, Duration::from_secs(60));
    python(&six, r#"f.storbinary("STOR six.jpg", io.BytesIO(b"six"))"#);
    let four = House::open();
    python(
        &four,
        r#"f.set_pasv(False); f.storbinary("STOR active.jpg", io.BytesIO(b"active")); assert f.nlst() == ["active.jpg"]"#,
    );
    assert_eq!((six.jobs().len(), four.jobs().len()), (1, 1));
}

#[test]
fn tls_is_offered_required_and_ends_uploads() {
    let pair = ftp_support::certificate();
    let settings = pair.settings("require = \"login\"");
    let house = House::open_with(settings, Duration::from_secs(60));
    let mut raw = Raw::connect(&house);
    assert!(raw.command("USER desk").starts_with("534"), "no name before TLS");
    ftp_support::python_tls(
        &house,
        r#"
s, _ = f.ntransfercmd("STOR whole.jpg")
s.sendall(b"x" * 300_000)
s.unwrap(); s.close(); f.voidresp()
got = io.BytesIO(); f.retrbinary("RETR whole.jpg", got.write)
assert got.getvalue() == b"x" * 300_000
# Bytes, then the end of TCP without the end of TLS: somebody may have cut it.
s, _ = f.ntransfercmd("STOR cut.jpg")
s.sendall(b"x" * 100_000)
os.close(s.detach())
try:
    f.voidresp(); raise SystemExit("a cut upload was acknowledged")
except (ftplib.error_temp, ftplib.error_perm) as e:
    assert str(e)[0] == "4", e
"#,
    );
    assert!(house.home("whole.jpg").exists() && !house.home("cut.jpg").exists());
    assert_eq!(house.jobs().len(), 1);
    house.nothing_is_staged();
}

#[test]
fn a_home_belongs_to_its_account() {
    let house = House::open();
    house.add(Account::new("other".parse().unwrap()));
    let mut desk = Raw::login(&house);
    desk.store("scan.jpg", PAGE);
    let mut other = Raw::login_as(&house, "other");
    assert!(other.try_fetch("RETR scan.jpg").1.starts_with("550"));
    assert_eq!(other.try_fetch("NLST").0, b"");
    let name: AccountName = "other".parse().unwrap();
    assert!(house.homes.identity(&name, &VirtualPath::new("/scan.jpg").unwrap()).unwrap().is_none());
}

#[test]
fn bad_lines_do_not_end_a_session() {
    let house = House::open();
    let mut raw = Raw::connect(&house);
    raw.expect(&"x".repeat(1_000_000), "500");
    raw.expect("OPTS UTF8 ON", "200");
    raw.expect("REST abc", "530");
    raw.expect("USER desk", "331");
    raw.expect("PASS secret", "230");
    let refused =
        ["REST abc", "OPTS nothing", "STOR", "SITE", "PORT 1,2,3", "EPRT |1|127.0.0.1|0x|", "NOOP x", "MODE", "MFMT 1 a"];
    for line in refused {
        raw.expect(line, "501");
    }
    for (line, code) in
        [("TYPE X", "504"), ("MODE B", "504"), ("", "500"), ("SMNT x", "500"), ("SITE NOTHING", "502"), ("RNTO a", "503")]
    {
        raw.expect(line, code);
    }
    raw.expect(&format!("CWD {}", "x".repeat(5000)), "500");
    raw.expect("NOOP", "200");
}

#[test]
fn commands_may_come_in_one_packet() {
    let house = House::open();
    let mut raw = Raw::connect(&house);
    raw.send("USER desk\r\nPASS secret\r\nMKD in\r\nCWD in\r\nCWD /\r\nRMD in\r\nMKD out\r\nRNFR out\r\nRNTO new\r\nQUIT\r\n");
    for code in ["331", "230", "257", "250", "250", "250", "257", "350", "250", "221"] {
        let reply = raw.reply();
        assert!(reply.starts_with(code), "{reply} instead of {code}");
    }
    assert!(house.home("new").is_dir());
    let mut stranger = Raw::connect(&house);
    stranger.send(&"QUIT\r\n".repeat(4));
    assert!(stranger.reply().starts_with("221"));
    house.eventually("both sessions are over", || house.stats.now().sessions_open == 0);
}

#[test]
fn a_transfer_can_be_aborted_and_asked_about() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("scan.jpg", b"the old page");
    let mut data = raw.passive();
    raw.expect("STOR scan.jpg", "150");
    data.write_all(&[7; 300_000]).unwrap();
    house.eventually("the upload runs", || house.stats.now().uploads_running == 1);
    raw.expect("NOOP", "200");
    raw.expect("ABOR", "426");
    assert!(raw.reply().starts_with("226"));
    assert_eq!(fs::read(house.home("scan.jpg")).unwrap(), b"the old page");
    house.eventually("nothing runs", || house.stats.now().uploads_running == 0);
    house.nothing_is_staged();
    raw.expect("ABOR", "225");
    // What comes after a transfer's command is answered after the transfer; QUIT ends the session then.
    let mut data = raw.passive();
    raw.expect("STOR next.jpg", "150");
    raw.send("SIZE next.jpg\r\n");
    data.write_all(PAGE).unwrap();
    drop(data);
    assert!(raw.reply().starts_with("226"));
    assert_eq!(raw.reply().trim(), format!("213 {}", PAGE.len()));
    let mut data = raw.passive();
    raw.expect("STOR last.jpg", "150");
    raw.expect("QUIT", "221");
    data.write_all(PAGE).unwrap();
    drop(data);
    assert!(raw.reply().starts_with("226"));
    house.eventually("the session is over", || house.stats.now().sessions_open == 0);
}

#[test]
fn plain_data_is_refused_where_tls_is_required() {
    let pair = ftp_support::certificate();
    let tls = format!("certificate = {:?}\nprivate-key = {:?}\nrequire = \"all\"", pair.certificate, pair.key);
    let settings = Settings { tls: Some(toml::from_str(&tls).unwrap()), ..Settings::default() };
    let house = House::open_with(settings, Duration::from_secs(60));
    ftp_support::python_tls(
        &house,
        r#"
def refused(command):
    try: f.sendcmd(command)
    except ftplib.error_perm as e: assert str(e)[:3] == "521", (command, e)
    else: raise SystemExit(command + " was accepted without TLS")
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    f.context.maximum_version = version
    f.prot_p(); f.storbinary("STOR scan.jpg", io.BytesIO(b"x" * 300_000)); f.nlst()
f.prot_c()
for command in ("PASV", "EPSV", "PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|51201|"): refused(command)
# Prepared while it was allowed.
f.prot_p(); f.sendcmd("PASV"); f.prot_c()
for command in ("STOR plain.jpg", "APPE plain.jpg", "STOU", "RETR scan.jpg", "LIST", "NLST", "MLSD"): refused(command)
f.prot_p(); f.nlst()
"#,
    );
    assert!(house.home("scan.jpg").exists() && !house.home("plain.jpg").exists());
}

#[test]
fn names_in_any_bytes_stay_apart_and_come_back() {
    let house = House::open();
    ftp_support::python(
        &house,
        r#"
names = [b"caf\xe9.jpg", b"caf\xea.jpg", "caf\u00e9.jpg".encode(), b"\xff\xfe\xf4.jpg", b"\x83e\x83X\x83g.tif", "\uf7e9.jpg".encode()]
f.encoding = "latin-1"; f.file = f.sock.makefile("r", encoding="latin-1")
for name in names: f.storbinary("STOR " + name.decode("latin-1"), io.BytesIO(name))
for listed in (f.nlst(), [name for name, _ in f.mlsd()]):
    assert sorted(n.encode("latin-1") for n in listed) == sorted(names), listed
for name in names:
    got = io.BytesIO(); f.retrbinary("RETR " + name.decode("latin-1"), got.write)
    assert got.getvalue() == name
assert f.mkd("n\xe4chste \"Seite\"") == "/n\xe4chste \"Seite\""
f.cwd("n\xe4chste \"Seite\""); assert f.pwd() == "/n\xe4chste \"Seite\""
"#,
    );
    assert!(house.home("caf\u{f7e9}.jpg").exists() && house.home("caf\u{e9}.jpg").exists());
}

#[test]
fn dialects_are_understood() {
    let house = House::open();
    let mut raw = Raw::login(&house);
    raw.store("scan.jpg", PAGE);
    let answers = [
        ("TYPE a n", "200"),
        ("type L 8", "200"),
        ("mode s", "200"),
        ("ALLO 100", "200"),
        ("OPTS utf-8 on", "200"),
        ("OPTS MLST size;unique;", "200"),
        ("CLNT somebody", "200"),
        ("ACCT x", "202"),
        ("XMKD in", "257"),
        ("CWD in/../in", "250"),
        ("MLST ../scan.jpg", "250"),
        ("XCUP", "250"),
        ("CWD ..", "250"),
        ("PWD", "257 \"/\""),
        ("SIZE in", "550"),
        ("MDTM in", "550"),
        ("XRMD in", "250"),
        ("SITE CHMOD 000 scan.jpg", "200"),
        ("SITE UTIME 20260102030405 scan.jpg", "200"),
        ("MFMT 20260102030405 scan.jpg", "213 Modify=20"),
        ("MFMT 20260102030405 none.jpg", "550"),
        ("EPRT |3|127.0.0.1|5000|", "522"),
        ("PORT 10,0,0,1,200,1", "501"),
        ("PROT P", "502"),
        ("REST 1000000", "350"),
        ("RETR scan.jpg", "551"),
        ("EPSV ALL", "200"),
        ("PASV", "501"),
        ("EPSV 1", "229"),
        ("REIN", "220"),
        ("PWD", "530"),
    ];
    for (line, code) in answers {
        let mut reply = raw.command(line);
        while reply.as_bytes().get(3) == Some(&b'-') || reply.starts_with(' ') {
            reply = raw.reply();
        }
        assert!(reply.starts_with(code), "{line}: {reply} instead of {code}");
    }
    raw.expect("USER nobody", "331");
    raw.expect("USER desk", "331");
    raw.expect("PASS secret", "230");
    assert_eq!(raw.fetch("RETR scan.jpg"), PAGE, "a mode that the daemon could not read is not set");
    let mut data = raw.passive();
    let name = raw.command("STOU page.pdf");
    let name = name.trim().strip_prefix("150 FILE: ").unwrap();
    assert!(name.starts_with("page-") && name.ends_with(".pdf"), "{name}");
    data.write_all(PAGE).unwrap();
    drop(data);
    assert!(raw.reply().starts_with("226"));
    assert!(house.home(name).exists());
}

/// Pipelined: the user is gone when the transfer begins, or has just begun it. Either way there is an answer.
#[test]
fn rein_behind_a_transfer_ends_it() {
    let house = House::open();
    for round in 0..50 {
        let mut raw = Raw::login(&house);
        let mut data = raw.passive();
        raw.send("STOR page.jpg\r\nREIN\r\n");
        let mut replies = vec![raw.reply()];
        let _ = data.write_all(b"page");
        drop(data);
        while replies.len() < 3 {
            replies.push(raw.reply());
        }
        replies.iter_mut().for_each(|reply| reply.truncate(3));
        assert!(replies.iter().any(|code| code == "220"), "round {round}: {replies:?}");
        assert!(replies.iter().any(|code| ["226", "426"].contains(&code.as_str())), "round {round}: {replies:?}");
        raw.expect("PWD", "530");
    }
    house.nothing_is_staged();
}
