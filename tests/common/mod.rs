//! What end-to-end tests share: the real binary on free ports in a folder of its own, driven by real
//! clients. A [`Daemon`] that is dropped is killed and its folder removed.
#![allow(dead_code)] // each test file uses its part

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub mod smtp;

pub const ACCOUNT: &str = "front-desk";
pub const PASSWORD: &str = "correct horse battery";
const ADMIN: &str = "admin";

/// Longer than anything here takes on a busy machine; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of real documents for evaluation, where this checkout has one beside it.
pub fn shared_data() -> Option<PathBuf> {
    let path = repository().join("../shared/data");
    path.join("truth.json").is_file().then_some(path)
}

/// The fetched models; `make setup` puts them there, and `make test` runs it.
pub fn models() -> PathBuf {
    let models = repository().join("models");
    assert!(models.join("cache/libonnxruntime.so").is_file(), "the models are not here: run `make setup` first");
    models
}

/// A folder with a configuration, and the daemon that runs on it.
pub struct Daemon {
    folder: tempfile::TempDir,
    child: Option<Child>,
    pub ftp: SocketAddr,
    pub http: SocketAddr,
    /// Of implicit FTPS, where the configuration has it.
    pub ftps: Option<SocketAddr>,
}

impl Daemon {
    /// A started daemon with one account; `extra` is added to its configuration.
    pub fn start(extra: &str) -> Self {
        let mut daemon = Daemon::prepare(extra);
        daemon.account_add(ACCOUNT, PASSWORD, &["--email", "desk@example.org"]);
        daemon.run();
        daemon
    }

    /// A folder and a configuration, nothing running yet.
    pub fn prepare(extra: &str) -> Self {
        // Passive ports below the kernel's ephemeral range, a range for each daemon of this process.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let slot = (NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 40) as u16 * 7) % 200;
        let low = 20_000 + slot * 50;
        let folder = tempfile::tempdir().unwrap();
        let models = models();
        let text = format!(
            "version = 1\ndata-dir = \"data\"\nshutdown-grace = \"60s\"\n\
             [ftp]\nlisten = \"127.0.0.1:0\"\npassive-ports = \"{low}-{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n\
             [ocr]\nmodels = {models:?}\n{extra}\n",
            low + 49,
        );
        fs::write(folder.path().join("inkport.toml"), text).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Daemon { folder, child: None, ftp: nowhere, http: nowhere, ftps: None }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn home(&self, account: &str) -> PathBuf {
        self.folder().join("data/homes").join(account)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inkport"));
        command.arg("--config").arg(self.folder().join("inkport.toml")).args(arguments);
        command
    }

    /// Runs a command of the binary to its end.
    pub fn inkport(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command printed; it must have succeeded.
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = self.inkport(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.printed(arguments)).unwrap()
    }

    pub fn account_add(&self, name: &str, password: &str, more: &[&str]) {
        let mut arguments = vec!["account", "add", name, "--password-stdin"];
        arguments.extend(more);
        let mut child =
            self.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// An account that may see the status page.
    pub fn admin(&self) -> (&'static str, &'static str) {
        self.account_add(ADMIN, PASSWORD, &["--role", "admin"]);
        (ADMIN, PASSWORD)
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn run(&mut self) {
        self.run_with(&[]);
    }

    /// [`run`](Self::run), with these in the daemon's environment.
    pub fn run_with(&mut self, environment: &[(&str, &str)]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder().join("log")).unwrap();
        let mut command = self.command(&["serve"]);
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        self.child = Some(child);
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the daemon never got ready:\n{}", self.log()));
        let address = |key: &str| -> SocketAddr {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or_else(|| panic!("{line}"));
            word.parse().unwrap()
        };
        assert!(line.starts_with("inkport ready "), "{line}");
        self.ftp = address("ftp=");
        self.http = address("http=");
        // At the end, and only there: what reads this line as it always was still can.
        let last = line.split_whitespace().nth(4);
        self.ftps = last.map(|word| word.strip_prefix("ftps=").unwrap_or_else(|| panic!("{line}")).parse().unwrap());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// SIGKILL: nothing in the daemon gets a chance to tidy up.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for the daemon to die by itself; answers the signal that ended it.
    pub fn died(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return std::os::unix::process::ExitStatusExt::signal(&status);
            }
            if started.elapsed() > PATIENCE {
                self.child = Some(child);
                panic!("the daemon did not die");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, then the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "SIGTERM did not end the daemon:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Uploads with curl, as `name`; `Ok` means that the server answered 226.
    pub fn upload(&self, file: &Path, name: &str) -> Result<(), String> {
        let url = format!("ftp://{}/{name}", self.ftp);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--user", &format!("{ACCOUNT}:{PASSWORD}"), "--upload-file"])
            .arg(file)
            .arg(url)
            .output()
            .unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Fetches a file over FTP.
    pub fn download(&self, name: &str) -> Result<Vec<u8>, String> {
        let url = format!("ftp://{}/{name}", self.ftp);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--user", &format!("{ACCOUNT}:{PASSWORD}"), &url])
            .output()
            .unwrap();
        if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// GET over HTTP with curl: status and body.
    pub fn get(&self, path: &str, login: Option<(&str, &str)>) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--write-out", "\n%{http_code}"]);
        if let Some((name, password)) = login {
            command.args(["--user", &format!("{name}:{password}")]);
        }
        let output = command.arg(format!("http://{}{path}", self.http)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), body.to_owned())
    }

    pub fn jobs(&self) -> Vec<serde_json::Value> {
        self.json(&["jobs", "list", "--limit", "10000", "--json"]).as_array().unwrap().clone()
    }

    /// Waits until every job has ended, and answers them all.
    pub fn settled(&self) -> Vec<serde_json::Value> {
        wait_for("every job to end", || {
            let jobs = self.jobs();
            let ended = jobs.iter().all(|job| ["done", "rejected", "dead"].contains(&job["state"].as_str().unwrap()));
            (ended && !jobs.is_empty()).then_some(jobs)
        })
    }

    /// Peak resident memory of the running daemon and its engine processes, in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory_of(self.pid()) + self.children().into_iter().map(peak_memory_of).sum::<u64>()
    }

    /// The processes that the daemon has started and that have not ended.
    pub fn children(&self) -> Vec<u32> {
        let parent = self.pid().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_child = |pid: &u32| {
            // After the name in brackets: state, parent.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(&parent)
        };
        processes.filter(is_child).collect()
    }
}

/// Peak resident memory of a process, in bytes.
pub fn peak_memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- the daemon's log\n{}", self.log());
        }
    }
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every file below a folder, relative, sorted.
pub fn files_below(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
