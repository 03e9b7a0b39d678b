//! What an account may do and how much, over real FTP, in plain text and over TLS.

use crate::ftp_support::wire::{Mode, Wire};
use crate::ftp_support::{House, Pair, Raw, certificate};
use inkport::account::{Account, Existing, Permission, Permissions};
use inkport::accounts::bans::Bans;
use inkport::ftp::Settings;
use inkport::units::{ByteSize, Timestamp};
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime};

const PAGE: &[u8] = b"%PDF-1.4 a page";

fn house_with(change: impl FnOnce(&mut Settings)) -> (House, Pair) {
    let pair = certificate();
    let mut settings = pair.settings("");
    change(&mut settings);
    (House::open_with(settings, Duration::from_secs(60)), pair)
}

fn house() -> (House, Pair) {
    house_with(|_| {})
}

fn named(name: &str) -> Account {
    Account::new(name.parse().unwrap())
}

fn greeted(house: &House, tls: bool) -> Wire {
    let mut wire = Wire::connect(house.address).unwrap();
    wire.expect_reply("220");
    if tls {
        wire.start_tls().unwrap();
    }
    wire
}

/// Logged in, over TLS with protected data.
fn guest(house: &House, name: &str, tls: bool) -> Wire {
    let mut wire = greeted(house, tls);
    wire.log_in(name);
    if tls {
        wire.expect("PBSZ 0", "200");
        wire.expect("PROT P", "200");
    }
    wire
}

/// What PASS was answered.
fn login(wire: &mut Wire, name: &str, password: &str) -> String {
    wire.expect(&format!("USER {name}"), "331");
    wire.command(&format!("PASS {password}"))
}

fn put(wire: &mut Wire, name: &str, bytes: &[u8]) -> String {
    String::from_utf8(wire.put(Mode::Epsv, format!("STOR {name}").as_bytes(), bytes).unwrap()).unwrap()
}

fn get(wire: &mut Wire, command: &str) -> (Vec<u8>, String) {
    let (bytes, reply) = wire.get(Mode::Epsv, command.as_bytes()).unwrap();
    (bytes, String::from_utf8(reply).unwrap())
}

const EVERY: [Permission; 6] =
    [Permission::Upload, Permission::Download, Permission::List, Permission::Delete, Permission::Rename, Permission::MakeFolder];

/// The last replies to everything that needs this permission.
fn tries(wire: &mut Wire, permission: Permission) -> Vec<String> {
    match permission {
        Permission::Upload => {
            let appended = wire.put(Mode::Epsv, b"APPE appended.pdf", PAGE).unwrap();
            let unique = wire.put(Mode::Epsv, b"STOU", PAGE).unwrap();
            let text = |reply| String::from_utf8(reply).unwrap();
            vec![put(wire, "new.pdf", PAGE), text(appended), text(unique), wire.command("SITE CHMOD 600 page.pdf")]
        }
        Permission::Download => vec![get(wire, "RETR page.pdf").1],
        Permission::List => {
            let listed = ["LIST", "NLST", "MLSD"].map(|command| get(wire, command).1);
            let told = ["STAT /", "MLST page.pdf"].map(|command| wire.command(command));
            listed.into_iter().chain(told).collect()
        }
        Permission::Delete => vec![wire.command("DELE old.pdf"), wire.command("RMD empty")],
        Permission::Rename => {
            wire.expect("RNFR page.pdf", "350");
            vec![wire.command("RNTO renamed.pdf")]
        }
        Permission::MakeFolder => vec![wire.command("MKD made")],
    }
}

/// Each permission alone allows its own and nothing else.
#[test]
fn permissions_are_what_an_account_may() {
    let (house, _pair) = house();
    for (number, granted) in EVERY.into_iter().enumerate() {
        for tls in [false, true] {
            let name = format!("only-{number}-{tls}");
            let home = house.dir.path().join("homes").join(&name);
            house.add(Account { permissions: Permissions::of(&[granted]), ..named(&name) });
            fs::create_dir(home.join("empty")).unwrap();
            for file in ["page.pdf", "old.pdf"] {
                fs::write(home.join(file), PAGE).unwrap();
            }
            let mut wire = guest(&house, &name, tls);
            wire.expect("CWD /", "250");
            for wanted in EVERY {
                for reply in tries(&mut wire, wanted) {
                    let allowed = reply.starts_with('2');
                    assert_eq!(allowed, wanted == granted, "{granted:?} {wanted:?} tls={tls}: {reply}");
                    assert!(allowed || reply.starts_with("550"), "{wanted:?}: {reply}");
                }
            }
            let untouched = home.join("old.pdf").exists() && home.join("empty").exists();
            assert_eq!(untouched, granted != Permission::Delete);
            // What a drop box tells of a file that is there is what it tells of one that is not.
            if granted == Permission::Upload {
                let sizes =
                    ["SIZE page.pdf", "SIZE none.pdf", "MDTM page.pdf", "MDTM none.pdf"].map(|command| wire.command(command));
                assert!(sizes.iter().all(|reply| reply.starts_with("550")), "{sizes:?}");
            }
        }
    }
}

#[test]
fn sizes_and_quotas_are_552_and_leave_nothing() {
    let (house, _pair) = house();
    for tls in [false, true] {
        let name = |what: &str| format!("{what}-{tls}");
        house.add(Account { max_upload: Some(ByteSize(1000)), ..named(&name("small")) });
        house.add(Account { quota: Some(ByteSize(1500)), ..named(&name("bytes")) });
        house.add(Account { quota_files: Some(2), ..named(&name("files")) });
        // account, file, bytes, answer: in this order.
        let table: [(&str, &str, usize, &str); 14] = [
            ("small", "a.pdf", 1000, "226"),
            ("small", "b.pdf", 1001, "552"),
            ("bytes", "a.pdf", 1000, "226"),
            ("bytes", "b.pdf", 501, "552"),
            ("bytes", "b.pdf", 500, "226"),
            ("bytes", "c.pdf", 1, "552"),
            ("bytes", "c.pdf", 0, "552"),
            ("bytes", "b.pdf", 501, "552"),
            ("bytes", "b.pdf", 400, "226"),
            ("bytes", ".hidden", 101, "552"),
            ("bytes", ".hidden", 100, "226"),
            ("files", "a.pdf", 10, "226"),
            ("files", "b.pdf", 10, "226"),
            ("files", "c.pdf", 10, "552"),
        ];
        for (account, file, bytes, code) in table {
            let reply = put(&mut guest(&house, &name(account), tls), file, &vec![7; bytes]);
            assert!(reply.starts_with(code), "{account} {file} {bytes} tls={tls}: {reply}");
        }
        // A file that is replaced needs no place of its own; one that goes makes room, renamed over or deleted.
        let mut wire = guest(&house, &name("files"), tls);
        assert!(put(&mut wire, "b.pdf", &[7; 20]).starts_with("226"));
        wire.expect("RNFR a.pdf", "350");
        wire.expect("RNTO b.pdf", "250");
        assert!(put(&mut wire, "c.pdf", &[7; 20]).starts_with("226"));
        assert!(put(&mut wire, "d.pdf", &[7; 20]).starts_with("552"));
        wire.expect("DELE b.pdf", "250");
        assert!(put(&mut wire, "d.pdf", &[7; 20]).starts_with("226"));
        let mut wire = guest(&house, &name("bytes"), tls);
        wire.expect("ALLO 2", "552");
        wire.expect("DELE .hidden", "250");
        wire.expect("ALLO 100", "200");
        for account in ["small", "bytes", "files"] {
            let account = name(account).parse().unwrap();
            let counted = house.homes.held(&account).unwrap();
            // As a daemon that starts after a crash would find it.
            let afresh = inkport::homes::Homes::open(&house.dir.path().join("homes")).unwrap().held(&account).unwrap();
            assert_eq!(counted, afresh, "{account}");
        }
    }
    house.nothing_is_staged();
}

/// However many come at once, a home never holds more than its quota, and not one file too few.
#[test]
fn who_races_for_the_last_bytes_never_gets_them_twice() {
    let (house, _pair) = house();
    for tls in [false, true] {
        for (round, (bytes, files)) in [(Some(1000), None), (None, Some(3))].into_iter().enumerate() {
            let name = format!("race-{tls}-{round}");
            house.add(Account { quota: bytes.map(ByteSize), quota_files: files, ..named(&name) });
            let mut wires: Vec<Wire> = (0..8).map(|_| guest(&house, &name, tls)).collect();
            let begin = Barrier::new(wires.len());
            let replies: Vec<String> = std::thread::scope(|scope| {
                let racing: Vec<_> = wires
                    .iter_mut()
                    .enumerate()
                    .map(|(number, wire)| {
                        let begin = &begin;
                        scope.spawn(move || {
                            begin.wait();
                            put(wire, &format!("page-{number}.pdf"), &[7; 300])
                        })
                    })
                    .collect();
                racing.into_iter().map(|racer| racer.join().unwrap()).collect()
            });
            let taken = replies.iter().filter(|reply| reply.starts_with("226")).count();
            assert!(replies.iter().all(|reply| reply.starts_with("226") || reply.starts_with("552")), "{replies:?}");
            assert_eq!(taken, 3, "{replies:?}");
            let home = house.dir.path().join("homes").join(&name);
            assert_eq!(fs::read_dir(&home).unwrap().count(), taken);
            // What is left is still there to be had, exactly.
            wires[0]
                .expect(&format!("DELE page-{}.pdf", replies.iter().position(|reply| reply.starts_with("226")).unwrap()), "250");
            for (later, code) in [("later.pdf", "226"), ("too-much.pdf", "552")] {
                let reply = put(&mut wires[0], later, &[7; 300]);
                assert!(reply.starts_with(code), "{reply}");
            }
            let held = house.homes.held(&name.parse().unwrap()).unwrap();
            assert_eq!((held.files, held.bytes), (3, 900));
        }
    }
    house.nothing_is_staged();
}

#[test]
fn a_taken_name_is_replaced_kept_beside_or_refused() {
    let (house, _pair) = house();
    for tls in [false, true] {
        for (existing, second, names) in [
            (Existing::Replace, "226", vec!["scan.pdf"]),
            (Existing::KeepBoth, "226", vec!["scan-2.pdf", "scan-3.pdf", "scan.pdf"]),
            (Existing::Refuse, "553", vec!["scan.pdf"]),
        ] {
            let name = format!("{}-{tls}", existing.word());
            house.add(Account { existing, ..named(&name) });
            let home = house.dir.path().join("homes").join(&name);
            let mut wire = guest(&house, &name, tls);
            let before = house.jobs().len();
            // A probe without a byte is nobody's document.
            assert!(put(&mut wire, "scan.pdf", b"").starts_with("226"));
            assert!(put(&mut wire, "scan.pdf", b"first").starts_with("226"));
            let reply = put(&mut wire, "scan.pdf", b"second");
            assert!(reply.starts_with(second), "{name}: {reply}");
            // By a temporary name and a rename, too; and the temporary name itself is no document.
            for _ in 0..2 {
                assert!(put(&mut wire, "scan.pdf.part", b"third").starts_with("226"));
            }
            wire.expect("RNFR scan.pdf.part", "350");
            let reply = wire.command("RNTO scan.pdf");
            assert_eq!(reply.starts_with("250"), existing != Existing::Refuse, "{name}: {reply}");
            assert!(existing != Existing::Refuse || reply.starts_with("553"), "{reply}");
            let mut found: Vec<String> = fs::read_dir(&home)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.ends_with(".part"))
                .collect();
            found.sort();
            assert_eq!(found, names, "{name}");
            let first = fs::read(home.join("scan.pdf")).unwrap();
            assert_eq!(first == b"first", existing != Existing::Replace, "{name}");
            let jobs = house.jobs().len() - before;
            assert_eq!(jobs, if existing == Existing::Refuse { 1 } else { 3 }, "{name}: each is a job of its own");
        }
    }
}

/// Eight at once under one name, all kept.
#[test]
fn namesakes_that_come_at_once_are_all_kept() {
    let (house, _pair) = house();
    house.add(Account { existing: Existing::KeepBoth, ..named("camera") });
    let mut wires: Vec<Wire> = (0..8).map(|number| guest(&house, "camera", number % 2 == 0)).collect();
    std::thread::scope(|scope| {
        for wire in &mut wires {
            scope.spawn(move || assert!(put(wire, "image.pdf", PAGE).starts_with("226")));
        }
    });
    let home = house.dir.path().join("homes/camera");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 8);
    let mut paths: Vec<String> = house.jobs().iter().map(|job| job.path.to_string()).collect();
    paths.sort();
    assert_eq!(paths.len(), 8);
    paths.dedup();
    assert_eq!(paths.len(), 8, "{paths:?}");
}

#[test]
fn who_may_not_come_in_is_told_one_thing() {
    let (house, _pair) = house();
    house.add(Account { networks: vec!["192.0.2.0/24".parse().unwrap()], ..named("elsewhere") });
    house.add(Account { networks: vec!["127.0.0.0/8".parse().unwrap()], ..named("here") });
    house.add(Account { expires: Some("2020-01-01".parse().unwrap()), ..named("expired") });
    house.add(Account { expires: Some("2999-01-01".parse().unwrap()), ..named("for-long") });
    house.add(Account { enabled: false, ..named("disabled") });
    house.add(Account { require_tls: true, ..named("secure") });
    for tls in [false, true] {
        let mut said = Vec::new();
        for (name, lets_in) in [
            ("elsewhere", false),
            ("here", true),
            ("expired", false),
            ("for-long", true),
            ("disabled", false),
            ("secure", tls),
            ("nobody", false),
        ] {
            let reply = login(&mut greeted(&house, tls), name, "secret");
            assert_eq!(reply.starts_with("230"), lets_in, "{name} tls={tls}: {reply}");
            if !lets_in {
                said.push(reply);
            }
        }
        said.push(login(&mut greeted(&house, tls), "desk", "wrong"));
        assert!(said.iter().all(|reply| reply.starts_with("530") && *reply == said[0]), "{said:?}");
    }
}

#[test]
fn tls_is_required_of_one_account() {
    let (house, _pair) = house();
    house.add(Account { require_tls: true, ..named("secure") });
    let mut wire = greeted(&house, true);
    wire.log_in("secure");
    for command in ["STOR page.pdf", "RETR page.pdf", "LIST", "NLST", "MLSD"] {
        let reply = wire.get(Mode::Epsv, command.as_bytes()).unwrap().1;
        assert!(reply.starts_with(b"521"), "{command}: {}", String::from_utf8_lossy(&reply));
    }
    wire.expect("PBSZ 0", "200");
    wire.expect("PROT P", "200");
    assert!(put(&mut wire, "page.pdf", PAGE).starts_with("226"));
    assert_eq!(get(&mut wire, "RETR page.pdf").0, PAGE);
    // A refused PROT before TLS gives nothing away.
    let mut wire = greeted(&house, false);
    wire.expect("PROT P", "503");
    wire.start_tls().unwrap();
    wire.log_in("secure");
    assert!(wire.put(Mode::Epsv, b"STOR plain.pdf", PAGE).unwrap().starts_with(b"521"));
    // Others do as they like.
    let mut wire = greeted(&house, true);
    wire.log_in("desk");
    assert!(put(&mut wire, "page.pdf", PAGE).starts_with("226"));
}

#[test]
fn sessions_have_their_bounds() {
    let (house, _pair) = house_with(|settings| {
        settings.max_sessions = 5;
        settings.max_sessions_per_ip = 3;
    });
    house.add(Account { sessions: Some(2), ..named("two") });
    for tls in [false, true] {
        let first = guest(&house, "two", tls);
        let _second = guest(&house, "two", tls);
        let reply = login(&mut greeted(&house, tls), "two", "secret");
        assert!(reply.starts_with("530"), "{reply}");
        house.eventually("the refused session is gone", || house.stats.now().sessions_open == 2);
        // A place is free as soon as a session has ended.
        drop(first);
        house.eventually("a session ends", || house.stats.now().sessions_open == 1);
        drop(guest(&house, "two", tls));
        house.eventually("another ends", || house.stats.now().sessions_open == 1);
    }
    house.eventually("all end", || house.stats.now().sessions_open == 0);
    // Of one address, and in all.
    let from = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let greeting = |last| {
        let mut wire = Wire::connect_from(from(last), house.address).unwrap();
        let reply = String::from_utf8(wire.reply().unwrap()).unwrap();
        (wire, reply)
    };
    let mut inside = Vec::new();
    for (last, code) in [(2, "220"), (2, "220"), (2, "220"), (2, "421"), (3, "220"), (3, "220"), (3, "421")] {
        let (wire, reply) = greeting(last);
        assert!(reply.starts_with(code), "{last}: {reply}");
        inside.extend((code == "220").then_some(wire));
    }
}

/// A bound from below: a busy machine only makes it slower.
#[test]
fn a_bandwidth_is_shared_by_an_accounts_sessions() {
    let (house, _pair) = house();
    house.add(Account { bandwidth: Some(ByteSize(100_000)), ..named("slow") });
    for tls in [false, true] {
        let mut wires = [guest(&house, "slow", tls), guest(&house, "slow", tls)];
        let timed = |wires: &mut [Wire], work: &(dyn Fn(&mut Wire, usize) + Sync)| {
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for (number, wire) in wires.iter_mut().enumerate() {
                    scope.spawn(move || work(wire, number));
                }
            });
            begun.elapsed()
        };
        let page = vec![7; 60_000];
        let up = timed(&mut wires, &|wire, number| {
            assert!(put(wire, &format!("page-{tls}-{number}.pdf"), &page).starts_with("226"));
        });
        let down = timed(&mut wires, &|wire, number| {
            assert_eq!(get(wire, &format!("RETR page-{tls}-{number}.pdf")).0.len(), page.len());
        });
        // 120,000 bytes, less a quarter of a second's that may go at once.
        for took in [up, down] {
            assert!(took > Duration::from_millis(900), "{took:?}");
        }
    }
}

#[test]
fn changes_hold_at_the_next_login_and_drop_nothing() {
    let (house, _pair) = house();
    for tls in [false, true] {
        let name = format!("hot-{tls}");
        house.add(named(&name));
        let mut wire = guest(&house, &name, tls);
        wire.open(Mode::Epsv, None).unwrap();
        wire.send(b"STOR page.pdf\r\n").unwrap();
        wire.expect_reply("150");
        let mut data = wire.take_data().unwrap();
        data.write_all(&PAGE[..5]).unwrap();
        let accounts = house.accounts();
        accounts.update(&name.parse().unwrap(), |account| account.permissions = Permissions::of(&[Permission::List])).unwrap();
        let mut next = guest(&house, &name, tls);
        assert!(put(&mut next, "refused.pdf", PAGE).starts_with("550"), "the next login has the new permissions");
        accounts.update(&name.parse().unwrap(), |account| account.enabled = false).unwrap();
        assert!(login(&mut greeted(&house, tls), &name, "secret").starts_with("530"));
        accounts.remove(&name.parse().unwrap()).unwrap();
        data.write_all(&PAGE[5..]).unwrap();
        data.end();
        assert!(wire.last_reply().unwrap().starts_with(b"226"), "what had begun has its end");
        assert!(put(&mut wire, "more.pdf", PAGE).starts_with("226"), "and the session goes on");
    }
}

#[test]
fn guessing_is_locked_and_listed_but_a_known_device_is_not_locked_out() {
    let (house, _pair) = house();
    house.add(named("guessed"));
    let bans = Bans::open(&house.dir.path().join("inkport.db")).unwrap();
    let now = || Timestamp::from_system(SystemTime::now());
    // The device was here before; "guessed" was not.
    drop(guest(&house, "desk", false));
    for name in ["desk", "guessed"] {
        let mut wires: Vec<Wire> = (0..10).map(|_| greeted(&house, false)).collect();
        std::thread::scope(|scope| {
            for wire in &mut wires {
                scope.spawn(move || assert!(login(wire, name, "wrong").starts_with("530")));
            }
        });
    }
    let listed = bans.list(now()).unwrap();
    let mut names: Vec<_> = listed.iter().map(|ban| ban.account.as_ref().unwrap().to_string()).collect();
    names.sort();
    assert_eq!(names, ["desk", "guessed"]);
    for ban in &listed {
        assert_eq!(ban.address, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(ban.reason.contains("10 wrong passwords") && ban.until > now(), "{ban:?}");
    }
    let locked = login(&mut greeted(&house, false), "guessed", "secret");
    assert!(locked.starts_with("530"), "{locked}");
    for tls in [false, true] {
        drop(guest(&house, "desk", tls));
    }
    assert_eq!(bans.list(now()).unwrap().len(), 1, "its lock is off the list");
    // From elsewhere nobody was locked.
    let mut wire = Wire::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), house.address).unwrap();
    wire.expect_reply("220");
    wire.log_in("guessed");
}

/// Wrong logins from many addresses, none of which is waited for: the right one still gets its answer.
#[test]
fn a_flood_of_wrong_logins_keeps_nobody_out() {
    let (house, _pair) = house();
    let mut flood = Vec::new();
    for number in 0..200u8 {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number % 20 + 1));
        let mut wire = Wire::connect_from(from, house.address).unwrap();
        // Read by nobody: three wrong passwords for each of 200 sessions.
        wire.send(&b"USER desk\r\nPASS wrong\r\n".repeat(3)).unwrap();
        flood.push(wire);
    }
    let begun = Instant::now();
    let mut raw = Raw::login(&house);
    println!("logged in after {:?}", begun.elapsed());
    raw.expect("PWD", "257");
    drop(flood);
    house.eventually("the flood is over", || house.stats.now().sessions_open == 1);
}
