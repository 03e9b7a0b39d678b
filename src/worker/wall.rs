//! The wall: decoders and engines run in a process of their own, so that hostile bytes which crash, hang
//! or bloat them cost one attempt of one job, and never the daemon.
//!
//! [`Launch`] starts the same binary again with a hidden command; [`serve`] is what runs there. The
//! process gets a document's bytes and gives its reading ([`super::wire`]); it needs no file but the
//! models, no network, no configuration and no secret, and is given none. It limits its own memory
//! before it opens anything. The daemon kills it when time is up or its job is cancelled, and the kernel
//! does when the thread that started it ends, however that ends.

use super::engine::{Cancel, Reader, STACK};
use super::read::{self, Options, Read, ReadError};
use super::wire::{self, Answer, Hello, LONGEST_ANSWER, LONGEST_ORDER, Open, PROTOCOL, Task};
use crate::ocr::{Engine, EngineError, NO_TELEMETRY};
use crate::units::ByteSize;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit, Signal};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How an engine process is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary.
    pub program: PathBuf,
    /// The command that calls [`serve`].
    pub arguments: Vec<String>,
    /// Bytes of memory for one process.
    pub memory: u64,
    /// What [`serve`]'s `open` is told.
    pub engine: serde_json::Value,
}

/// Models come from a disk that may be slow; one that takes longer has failed.
const OPENING: Duration = Duration::from_secs(120);
/// Between the end of a process's output and its own.
const DYING: Duration = Duration::from_secs(2);
/// Of one line on its standard error.
const LONGEST_LINE: u64 = 4096;
/// What the engine process keeps of the daemon's environment: how libraries are found and threads placed,
/// where panics are told, how times and words are written. Nothing that could be a secret.
const ENVIRONMENT: [&str; 7] = ["PATH", "LANG", "TZ", "LC_", "LD_", "ORT_", "RUST_"];
/// What the allocator says before it aborts.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// How much likelier the kernel ends it than the daemon, when memory is short; of 1000.
const FIRST_TO_GO: &str = "500";

impl Launch {
    /// Starts a process for lane `lane` and waits until its engine is open. Blocking.
    pub(super) fn start(&self, lane: usize) -> Result<EngineProcess, EngineError> {
        let unavailable = |what: &str, error: io::Error| EngineError::Unavailable(format!("{what}: {error}"));
        let kept = std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| {
                ENVIRONMENT.iter().any(|known| name == *known || known.ends_with('_') && name.starts_with(known))
            })
        });
        let mut child = Command::new(&self.program)
            .arg0("inkport")
            .args(&self.arguments)
            .env_clear()
            .envs(kept)
            .env(NO_TELEMETRY.0, NO_TELEMETRY.1)
            .current_dir("/")
            // A signal from a terminal is for the daemon, which drains.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| unavailable("the engine process cannot be started", error))?;
        let stdin = child.stdin.take().expect("asked for");
        let stdout = child.stdout.take().expect("asked for");
        let stderr = child.stderr.take().expect("asked for");
        let pid = child.id();
        let (starved, listener) =
            listen(lane, pid, stderr).map_err(|error| unavailable("the engine process cannot be listened to", error))?;
        let mut process = EngineProcess {
            lane,
            memory: self.memory,
            child: Arc::new(Mutex::new(child)),
            stdin,
            stdout,
            starved,
            listener: Some(listener),
            engine: wire::Engine { name: String::new(), models: Vec::new() },
            ended: None,
        };
        let open = Open { protocol: PROTOCOL, memory: self.memory, engine: self.engine.clone() };
        let hello = process.open(&open).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                EngineError::Unavailable(format!("the engine did not open within {} s", OPENING.as_secs()))
            }
            _ => EngineError::Unavailable(format!("the engine process ended while it opened its models: {}", process.obituary())),
        })?;
        if hello.protocol != PROTOCOL {
            return Err(EngineError::Model("the engine process is of another version than the daemon".to_owned()));
        }
        process.engine = hello.opened?;
        tracing::info!(lane, process.pid = pid, "an engine process is ready");
        Ok(process)
    }
}

/// A running engine process; killed when dropped.
pub(super) struct EngineProcess {
    lane: usize,
    memory: u64,
    /// Shared with who may have to kill it.
    child: Arc<Mutex<Child>>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// It said that memory ran out.
    starved: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    engine: wire::Engine,
    /// Why it will read nothing more.
    ended: Option<String>,
}

impl EngineProcess {
    fn open(&mut self, open: &Open) -> io::Result<Hello> {
        wire::send(&mut self.stdin, open, LONGEST_ORDER)?;
        let deadline = Instant::now() + OPENING;
        let mut ready = [PollFd::new(&self.stdout, PollFlags::IN)];
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
            match rustix::event::poll(&mut ready, Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        wire::receive(&mut self.stdout, LONGEST_ORDER)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn exchange(&mut self, bytes: &[u8], options: &Options) -> io::Result<Answer> {
        let task = Task { options: options.clone(), bytes: bytes.len() as u64 };
        wire::send(&mut self.stdin, &task, LONGEST_ORDER)?;
        self.stdin.write_all(bytes)?;
        wire::receive(&mut self.stdout, LONGEST_ANSWER)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sees the process to its end, and says how that came.
    fn obituary(&mut self) -> String {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let status = self.end(DYING);
        let text = match status {
            Some(_) if self.starved.load(Ordering::SeqCst) => {
                format!("it needs more memory than limits.engine-memory ({})", ByteSize(self.memory))
            }
            Some(status) => manner(status),
            None => "it broke the protocol and was killed".to_owned(),
        };
        self.ended = Some(text.clone());
        text
    }

    /// Waits for its end, kills it where that does not come. `None`: it was killed by us, or cannot be had.
    fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + patience;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) | Err(_) => break None,
            }
        };
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(child);
        // It holds the other end no more, so this ends too.
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        status
    }
}

impl Reader for EngineProcess {
    fn read(&mut self, bytes: Vec<u8>, options: &Options, cancel: &Cancel) -> Result<Read, ReadError> {
        let child = Arc::clone(&self.child);
        cancel.when_raised(move || {
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        });
        let answer = self.exchange(&bytes, options);
        cancel.forget();
        answer.unwrap_or_else(|error| {
            let how = self.obituary();
            if cancel.is_raised() {
                return Err(ReadError::Cancelled);
            }
            tracing::warn!(lane = self.lane, %error, "an engine process did not survive its document: {how}");
            Err(ReadError::Interrupted(format!("the engine process did not survive this document: {how}")))
        })
    }

    fn is_alive(&mut self) -> bool {
        if self.ended.is_none() && !matches!(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait(), Ok(None)) {
            self.obituary();
        }
        self.ended.is_none()
    }

    fn name(&self) -> String {
        self.engine.name.clone()
    }

    fn models(&self) -> Vec<String> {
        self.engine.models.clone()
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// How a process ended, for a person.
fn manner(status: ExitStatus) -> String {
    let Some(number) = status.signal() else { return format!("it ended with {status}") };
    let name = match Signal::from_named_raw(number) {
        Some(Signal::SEGV | Signal::BUS) => "it crashed",
        Some(Signal::ABORT) => "it gave up",
        Some(Signal::ILL) => "it met an illegal instruction",
        Some(Signal::KILL) => "it was killed, by hand or because memory ran out",
        _ => "it was ended",
    };
    format!("{name} ({status})")
}

/// Logs what the process says on its standard error, line by line, and notices that memory ran out.
fn listen(lane: usize, pid: u32, stderr: ChildStderr) -> io::Result<(Arc<AtomicBool>, JoinHandle<()>)> {
    let starved = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&starved);
    let thread = std::thread::Builder::new().name(format!("engine-{lane}-log")).spawn(move || {
        let mut input = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match io::Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if !text.is_empty() {
                tracing::warn!(lane, process.pid = pid, "the engine process says: {}", text.escape_debug());
                if text.starts_with(OUT_OF_MEMORY) {
                    noticed.store(true, Ordering::SeqCst);
                }
            }
        }
    })?;
    Ok((starved, thread))
}

/// What runs in the engine process: opens an engine once and reads documents until its input ends.
/// `open` is called on the thread that will own the engine, with what [`Launch`] was given.
pub fn serve(open: impl FnOnce(serde_json::Value) -> Result<Box<dyn Engine>, EngineError> + Send + 'static) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // What a library prints must not get between the frames.
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK)
        .spawn(move || work(input, out, open))?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the engine panicked")))
}

fn work(
    mut input: File,
    mut out: File,
    open: impl FnOnce(serde_json::Value) -> Result<Box<dyn Engine>, EngineError>,
) -> io::Result<()> {
    let Some(order) = wire::receive::<Open>(&mut input, LONGEST_ORDER)? else { return Ok(()) };
    confine(order.memory)?;
    let mut engine = match open(order.engine) {
        Ok(engine) => engine,
        Err(error) => return wire::send(&mut out, &Hello { protocol: PROTOCOL, opened: Err(error) }, LONGEST_ORDER),
    };
    let opened = Ok(wire::Engine { name: engine.name().to_owned(), models: engine.models() });
    wire::send(&mut out, &Hello { protocol: PROTOCOL, opened }, LONGEST_ORDER)?;
    while let Some(task) = wire::receive::<Task>(&mut input, LONGEST_ORDER)? {
        let bytes = wire::receive_bytes(&mut input, task.bytes, order.memory)?;
        let mut answer: Answer = read::document(bytes, &task.options, engine.as_mut(), &|| false);
        if let Ok(read) = &mut answer {
            wire::make_finite(read);
        }
        match wire::send(&mut out, &answer, LONGEST_ANSWER) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let too_long: Answer = Err(ReadError::Interrupted(format!("its reading is too long: {error}")));
                wire::send(&mut out, &too_long, LONGEST_ANSWER)?;
            }
            sent => sent?,
        }
    }
    Ok(())
}

/// Private writable memory is what counts: weights and libraries that are mapped from files do not.
fn confine(memory: u64) -> io::Result<()> {
    at_most(Resource::Data, memory)?;
    // A document has no business in a core dump, nor an engine in any file.
    at_most(Resource::Core, 0)?;
    at_most(Resource::Fsize, 0)?;
    // A kindness to the daemon; where it is refused, reading goes on.
    let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    Ok(())
}

fn at_most(resource: Resource, most: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}
