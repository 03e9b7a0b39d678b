//! Other people's programs, each with a bound on its time.

use crate::common::repository;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether a program is installed; says so if not.
pub fn has(program: &str) -> bool {
    let there =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success());
    if !there {
        println!("skipped: {program} is not installed (scripts/test-deps installs it)");
    }
    there
}

/// Runs a command to its end, or kills it.
pub fn run(command: &mut Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What it prints is read while it runs: a full pipe would hold it up.
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let (stdout, stderr) = (read(Box::new(child.stdout.take().unwrap())), read(Box::new(child.stderr.take().unwrap())));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// What a command prints; it must succeed.
pub fn printed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn clients() -> PathBuf {
    repository().join("target/test-clients")
}

/// Whether the Python readers are there.
pub fn has_readers() -> bool {
    let there = clients().join("formats-1.done").is_file();
    if !there {
        println!("skipped: lxml, hocr-tools and markdown-it-py are not there (scripts/test-deps fetches them)");
    }
    there
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", clients().join("python")).env("PYTHONUTF8", "1");
    command
}

/// What `check.py` finds in a file.
pub fn found(kind: &str, file: &Path) -> serde_json::Value {
    let text = printed(python().arg(repository().join("tests/formats/check.py")).arg(kind).arg(file));
    serde_json::from_str(&text).unwrap()
}

/// The words of each page, as `check.py` finds them.
pub fn words(kind: &str, file: &Path) -> Vec<Vec<String>> {
    let word = |value: &serde_json::Value| value.as_str().or_else(|| value[0].as_str()).unwrap().to_owned();
    let pages = found(kind, file);
    pages.as_array().unwrap().iter().map(|page| page.as_array().unwrap().iter().map(word).collect()).collect()
}

/// hocr-check says what is wrong on its standard error and ends well all the same.
pub fn check_hocr(file: &Path, more: &[&str]) {
    let output = run(python().arg(clients().join("python/bin/hocr-check")).args(more).arg(file));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.starts_with("ok 1") && !said.contains("not ok"), "{said}");
}

/// `qpdf --check` finds nothing to mend.
pub fn check_pdf(file: &Path) {
    let output = run(Command::new("qpdf").arg("--check").arg(file));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("WARNING"), "{}: {said}", file.display());
}

/// A word of a PDF as poppler sees it, in points from the page's upper left corner.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub text: String,
    /// Left, top, right, bottom.
    pub place: [f64; 4],
}

/// The words of each page and its size, by `pdftotext -bbox`.
pub fn seen(file: &Path) -> Vec<([f64; 2], Vec<Seen>)> {
    let html = printed(Command::new("pdftotext").args(["-bbox", "-enc", "UTF-8"]).arg(file).arg("-"));
    let number = |line: &str, key: &str| -> f64 {
        let at = line.find(&format!(" {key}=\"")).unwrap() + key.len() + 3;
        line[at..].split('"').next().unwrap().parse().unwrap()
    };
    let mut pages = Vec::new();
    for line in html.lines().map(str::trim) {
        if line.starts_with("<page ") {
            pages.push(([number(line, "width"), number(line, "height")], Vec::new()));
        } else if line.starts_with("<word ") {
            let text = line.split_once('>').unwrap().1.trim_end_matches("</word>");
            let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            let place = ["xMin", "yMin", "xMax", "yMax"].map(|key| number(line, key));
            pages.last_mut().unwrap().1.push(Seen { text, place });
        }
    }
    pages
}

/// The words of a PDF in the order in which they were drawn, a list for each page.
pub fn text_of(file: &Path) -> Vec<Vec<String>> {
    let text = printed(Command::new("pdftotext").args(["-raw", "-enc", "UTF-8"]).arg(file).arg("-"));
    let pages: Vec<&str> = text.split_terminator('\u{c}').collect();
    pages.iter().map(|page| page.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The first page as poppler draws it, in so many pixels: R G B.
pub fn drawn(file: &Path, width: u32, height: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("page");
    let (width_, height_) = (width.to_string(), height.to_string());
    let mut command = Command::new("pdftoppm");
    command.args(["-f", "1", "-l", "1", "-singlefile", "-scale-to-x", &width_, "-scale-to-y", &height_]).arg(file).arg(&root);
    printed(&mut command);
    let bytes = std::fs::read(root.with_extension("ppm")).unwrap();
    let header = format!("P6\n{width} {height}\n255\n");
    bytes.strip_prefix(header.as_bytes()).unwrap_or_else(|| panic!("{}: another size", file.display())).to_vec()
}
