//! The whole way, as a user goes it: the real binary, a real FTP client, a real mail sink. Pages go
//! in, text comes out, mail arrives, the page shows it, SIGTERM drains.

mod common;

use common::smtp::Sink;
use common::{ACCOUNT, Daemon, PASSWORD, files_below, repository, shared_data, wait_for};
use std::fs;
use std::path::PathBuf;

/// A file, the name to upload it as, how many pages it has, and words that its reading must hold.
struct Case {
    file: PathBuf,
    name: &'static str,
    pages: usize,
    words: &'static [&'static str],
}

/// A JPEG, a PNG, a multi-page TIFF and a PDF: real ones where they are, else the repository's own.
fn cases() -> Vec<Case> {
    let case = |file: PathBuf, name, pages, words| Case { file, name, pages, words };
    let fixtures = repository().join("tests/fixtures");
    let mut cases = vec![
        case(fixtures.join("letter-exif6.jpg"), "own.jpg", 1, &["Marigold", "48213"]),
        case(fixtures.join("receipt.png"), "own.png", 1, &["CORNER BAKERY", "Rye bread 4.20"]),
        case(fixtures.join("fax.tif"), "own.tif", 2, &["forty crates of pears", "north gate"]),
        case(fixtures.join("digital.pdf"), "own.pdf", 1, &["Garden Club", "3 March 2027"]),
    ];
    match shared_data() {
        Some(data) => cases.extend([
            case(data.join("receipt/receipt_sroie_008.jpg"), "receipt.jpg", 1, &["TOTAL"]),
            case(data.join("form/form_funsd_0012199830.png"), "form.png", 1, &[]),
            case(data.join("invoice_synth/invs_00_en.pdf"), "invoice.pdf", 1, &["Invoice"]),
        ]),
        None => println!("skipped: real documents; there is no ../shared/data beside this checkout"),
    }
    cases
}

#[test]
fn pages_go_in_by_ftp_and_come_out_as_text_and_mail() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = runtime.block_on(Sink::start());
    let mail = format!("[mail]\nrelay = \"{}\"\nfrom = \"Inkport <inkport@localhost>\"", sink.url());
    let mut daemon = Daemon::start(&mail);
    let admin = daemon.admin();
    let cases = cases();
    for case in &cases {
        daemon.upload(&case.file, case.name).unwrap();
        assert_eq!(fs::read(daemon.home(ACCOUNT).join(case.name)).unwrap(), fs::read(&case.file).unwrap(), "{}", case.name);
    }

    let jobs = daemon.settled();
    assert_eq!(jobs.len(), cases.len());
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(repository().join("schema/reading-1.schema.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for case in &cases {
        let job = jobs.iter().find(|job| job["path"] == format!("/{}", case.name)).unwrap();
        assert_eq!((&job["state"], &job["account"], &job["attempt"]), (&"done".into(), &ACCOUNT.into(), &1.into()), "{job}");
        assert!(job["error"].is_null() && job["finished_at"].is_string(), "{job}");

        // As a phone would: fetch the sidecars over FTP.
        let text = String::from_utf8(daemon.download(&format!("{}.txt", case.name)).unwrap()).unwrap();
        let reading: serde_json::Value =
            serde_json::from_slice(&daemon.download(&format!("{}.json", case.name)).unwrap()).unwrap();
        if let Some(error) = validator.iter_errors(&reading).next() {
            panic!("{}.json: {error} at {}", case.name, error.instance_path());
        }
        assert_eq!(reading["job"], job["id"]);
        assert_eq!(reading["file"]["name"], case.name);
        assert_eq!(reading["pages"].as_array().unwrap().len(), case.pages, "{}", case.name);
        assert_eq!(text.matches('\u{c}').count() + 1, case.pages, "{}: form feeds between pages", case.name);
        for word in case.words {
            assert!(text.to_lowercase().contains(&word.to_lowercase()), "{}: no {word} in\n{text}", case.name);
        }
        assert!(reading["confidence"].as_f64().unwrap() > 0.5, "{}", case.name);
    }

    // One mail for each, with its sidecars.
    let mails = wait_for("a mail for each upload", || {
        let mails = sink.messages();
        (mails.len() >= cases.len()).then_some(mails)
    });
    assert_eq!(mails.len(), cases.len());
    for case in &cases {
        let about: Vec<_> =
            mails.iter().filter(|mail| mail.header("Subject").is_some_and(|subject| subject.contains(case.name))).collect();
        assert_eq!(about.len(), 1, "{}", case.name);
        assert_eq!(about[0].to, ["desk@example.org"]);
        assert!(about[0].data.contains(&format!("{}.txt", case.name)) && about[0].data.contains(&format!("{}.json", case.name)));
    }
    wait_for("every delivery to be sent", || {
        daemon.jobs().iter().all(|job| job["deliveries"][0]["state"] == "sent").then_some(())
    });

    // The status page, for admins only.
    assert_eq!(daemon.get("/", None).0, 401);
    assert_eq!(daemon.get("/", Some((ACCOUNT, PASSWORD))).0, 401);
    let (status, page) = daemon.get("/", Some(admin));
    assert_eq!(status, 200);
    for case in &cases {
        assert!(page.contains(case.name), "the status page does not show {}", case.name);
    }
    for path in ["/healthz", "/readyz", "/health"] {
        let (status, body) = daemon.get(path, None);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }

    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn sigterm_lets_the_running_job_end_and_the_rest_waits_for_the_next_start() {
    let mut daemon = Daemon::start("");
    let page = repository().join("tests/fixtures/receipt.png");
    for number in 0..6 {
        daemon.upload(&page, &format!("page-{number}.png")).unwrap();
    }
    assert_eq!(daemon.terminate(), Some(0));
    let after_drain = daemon.jobs();
    assert_eq!(after_drain.len(), 6);
    assert!(after_drain.iter().all(|job| job["state"] != "running"), "{after_drain:?}");
    daemon.run();
    let jobs = daemon.settled();
    assert_eq!(jobs.len(), 6);
    assert!(jobs.iter().all(|job| job["state"] == "done" && job["attempt"] == 1), "{jobs:?}");
    assert_eq!(daemon.terminate(), Some(0));
}

/// A PNG header that promises 30,000 × 30,000 pixels, with data enough to begin inflating it.
fn png_bomb() -> Vec<u8> {
    fn chunk(kind: &[u8; 4], data: &[u8], out: &mut Vec<u8>) {
        out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let start = out.len();
        out.extend(kind);
        out.extend(data);
        let crc = out[start..].iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        });
        out.extend((!crc).to_be_bytes());
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(30_000u32.to_be_bytes());
    header.extend(30_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(b"IHDR", &header, &mut out);
    chunk(b"IDAT", &[0x78, 0x9c, 0xed, 0xc1, 0x01, 0x0d, 0, 0, 0, 0xc2, 0xa0], &mut out);
    chunk(b"IEND", &[], &mut out);
    out
}

#[test]
fn hostile_files_end_as_the_contract_says_and_the_daemon_goes_on() {
    let mut daemon = Daemon::start("");
    let scratch = daemon.folder().join("scratch");
    let upload = |bytes: &[u8], name: &str| {
        fs::write(&scratch, bytes).unwrap();
        daemon.upload(&scratch, name).unwrap();
    };
    let whole = fs::read(repository().join("tests/fixtures/letter-exif6.jpg")).unwrap();
    upload(&fs::read(repository().join("tests/fixtures/truncated.jpg")).unwrap(), "truncated.jpg");
    upload(b"Dear Sir or Madam,\nthis is a letter.\n", "letter.jpg");
    upload(b"", "zero.jpg");
    upload(&png_bomb(), "bomb.png");
    upload(&whole, "after.jpg");
    if let Some(data) = shared_data() {
        for file in ["garbage.png", "encrypted_test123.pdf", "bomb_20000x20000.png", "blank.png", "one_pixel.png"] {
            upload(&fs::read(data.join("edge").join(file)).unwrap(), file);
        }
    }

    let jobs = daemon.settled();
    let home = daemon.home(ACCOUNT);
    let job = |name: &str| jobs.iter().find(|job| job["path"] == format!("/{name}"));
    let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(home.join(name)).unwrap()).unwrap() };

    // Read as far as it goes, and said so.
    assert_eq!(job("truncated.jpg").unwrap()["state"], "done");
    assert_eq!(json("truncated.jpg.json")["truncated"], true);
    assert!(fs::read_to_string(home.join("truncated.jpg.txt")).unwrap().contains("Quill"));

    // Stored untouched, rejected with its reason.
    let mut rejected = vec![("letter.jpg", "unsupported-format"), ("bomb.png", "too-many-pixels")];
    if shared_data().is_some() {
        rejected.extend([
            ("garbage.png", "unsupported-format"),
            ("encrypted_test123.pdf", "encrypted"),
            ("bomb_20000x20000.png", "too-many-pixels"),
        ]);
        for name in ["blank.png", "one_pixel.png"] {
            assert_eq!(job(name).unwrap()["state"], "done", "{name}");
            assert_eq!(fs::read_to_string(home.join(format!("{name}.txt"))).unwrap(), "", "{name}");
        }
    }
    for (name, code) in rejected {
        let job = job(name).unwrap();
        assert_eq!(job["state"], "rejected", "{job}");
        assert_eq!(job["attempt"], 1, "{name}: what can never be read is not tried again");
        let error = json(&format!("{name}.error.json"));
        assert_eq!((&error["schema"], &error["job"]), (&"inkport/error/1".into(), &job["id"]));
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["message"], job["error"], "{error}");
        assert!(!home.join(format!("{name}.txt")).exists() && !home.join(format!("{name}.json")).exists(), "{name}");
    }
    assert_eq!(fs::read(home.join("letter.jpg")).unwrap(), b"Dear Sir or Madam,\nthis is a letter.\n");

    // A zero-byte probe is no document: kept, no job, no sidecar.
    assert!(job("zero.jpg").is_none());
    assert_eq!(fs::metadata(home.join("zero.jpg")).unwrap().len(), 0);
    assert!(!files_below(&home).iter().any(|name| name.starts_with("zero.jpg.")));

    assert_eq!(job("after.jpg").unwrap()["state"], "done");
    // 30,000 x 30,000 RGB would be 2.7 GB.
    assert!(daemon.peak_memory() < 1_500_000_000, "peak memory {} bytes", daemon.peak_memory());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn files_that_arrive_without_ftp_are_read_too_and_once() {
    let mut daemon = Daemon::start("[watch]\nquiet = \"300ms\"\nrescan = \"1s\"");
    let home = daemon.home(ACCOUNT);
    // The home is made with the first login; a share may put files there before any.
    fs::create_dir_all(home.join("in")).unwrap();
    let page = repository().join("tests/fixtures/receipt.png");
    fs::copy(&page, home.join("in/dropped.png")).unwrap();
    fs::copy(&page, home.join("in/still-uploading.png.part")).unwrap();
    daemon.upload(&page, "uploaded.png").unwrap();
    wait_for("the dropped file's sidecar", || home.join("in/dropped.png.json").is_file().then_some(()));
    wait_for("the uploaded file's sidecar", || home.join("uploaded.png.json").is_file().then_some(()));

    // Files that lay there while the daemon was down are found at its start.
    assert_eq!(daemon.terminate(), Some(0));
    fs::copy(&page, home.join("meanwhile.png")).unwrap();
    fs::rename(home.join("in/still-uploading.png.part"), home.join("in/now-whole.png")).unwrap();
    daemon.run();
    wait_for("the sidecars of what came meanwhile", || {
        (home.join("meanwhile.png.json").is_file() && home.join("in/now-whole.png.json").is_file()).then_some(())
    });
    // Several more scans see everything again; nothing becomes a second job.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let mut paths: Vec<String> = daemon.settled().iter().map(|job| job["path"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    assert_eq!(paths, ["/in/dropped.png", "/in/now-whole.png", "/meanwhile.png", "/uploaded.png"]);
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_second_upload_of_a_name_is_a_second_job_and_its_sidecars_stay() {
    let mut daemon = Daemon::start("");
    let fixtures = repository().join("tests/fixtures");
    daemon.upload(&fixtures.join("receipt.png"), "scan").unwrap();
    daemon.upload(&fixtures.join("digital.pdf"), "scan").unwrap();
    let jobs = daemon.settled();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    let home = daemon.home(ACCOUNT);
    let reading: serde_json::Value = serde_json::from_slice(&fs::read(home.join("scan.json")).unwrap()).unwrap();
    assert_eq!(reading["file"]["media_type"], "application/pdf");
    assert_eq!(reading["job"], jobs[0]["id"], "the newest job's");
    assert_eq!(files_below(&home), ["scan", "scan.json", "scan.txt"]);
    assert_eq!(daemon.terminate(), Some(0));
}
