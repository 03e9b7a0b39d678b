//! `inkport read`: files read without the daemon.
//!
//! Owns: which files, in which formats, to where, and what to say of those that cannot be read. Who the
//! engines are and what the limits are is composed by the caller. Files are spread over threads, one
//! engine each, in a process of its own as the daemon has it: a file that crashes its reader costs itself
//! only. A file's pages are decoded and read one at a time.

use super::account::parse_language;
use crate::account::Output;
use crate::document::{Document, DocumentError, Limits};
use crate::job::SpoolKey;
use crate::processors::{Plan, codes};
use crate::sidecar::{Facts, PdfError, Reading, Style, Warning, write, write_pdf};
use crate::units::{ByteSize, Timestamp};
use crate::worker::engine::Session;
use crate::worker::read::Options;
use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

#[derive(Debug, Clone, clap::Args)]
pub struct ReadArgs {
    /// What to write: text, json, hocr, alto, markdown, csv, pdf, or several with commas between
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', default_value = "text")]
    pub format: Vec<String>,
    /// Folder for the results, each named FILE.txt, FILE.json and so on; needed for more than one file
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Language of the documents, as "de"; may be given more than once
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = parse_language)]
    pub language: Vec<String>,
    /// JPEG, PNG, TIFF, PDF, BMP, GIF, WebP or PNM, told by content
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Opens an engine; told which one it is of how many that will work side by side, so that it can share out the cores.
pub type EngineFactory<'a> = dyn Fn(usize, usize) -> anyhow::Result<Session> + Sync + 'a;

/// What the caller has composed from the configuration.
pub struct Setup<'a> {
    pub engine: &'a EngineFactory<'a>,
    /// Engines that may work side by side; at least 1 is used.
    pub engines: usize,
    pub limits: Limits,
    /// Bytes of one file.
    pub max_upload: ByteSize,
    /// What codes on pages mean.
    pub codes: codes::Settings,
    pub style: Style,
}

/// How a run ended, as an exit code has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Good = 0,
    SomeUnreadable = 1,
    WrongUsage = 2,
}

/// Runs the command: results to standard output or `--out`, reasons to standard error. An error is the
/// whole run's (no engine, no output folder), not a file's.
pub fn run(args: &ReadArgs, setup: &Setup<'_>) -> anyhow::Result<ExitCode> {
    let bar = if args.out.is_some() { ProgressBar::new(args.files.len() as u64) } else { ProgressBar::hidden() };
    // On anything but a terminal indicatif draws nothing by itself.
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left").expect("the template is a constant"));
    let complain = |sentence: &str| bar.suspend(|| eprintln!("{sentence}"));
    let ended = read_files(args, setup, &complain, &|| bar.inc(1));
    bar.finish_and_clear();
    Ok(ExitCode::from(ended? as u8))
}

type Complain<'a> = dyn Fn(&str) + Sync + 'a;

fn read_files(args: &ReadArgs, setup: &Setup<'_>, complain: &Complain, advance: &(dyn Fn() + Sync)) -> anyhow::Result<Ended> {
    let outputs = match plan(args) {
        Ok(outputs) => outputs,
        Err(sentence) => {
            complain(&sentence);
            return Ok(Ended::WrongUsage);
        }
    };
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    let engines = setup.engines.clamp(1, args.files.len());
    let (next, all_good, stop) = (AtomicUsize::new(0), AtomicBool::new(true), AtomicBool::new(false));
    let work = |number: usize| -> anyhow::Result<()> {
        let mut engine = (setup.engine)(number, engines)?;
        while let Some(file) = args.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match read_file(file, &mut engine, setup, args, outputs.contains(&Output::Pdf)) {
                Ok((mut reading, bytes)) => {
                    let document = || Document::open(Arc::clone(&bytes), &setup.limits);
                    let refused = deliver(&mut reading, &document, file, &outputs, args.out.as_deref(), &setup.style)?;
                    if let Some(reason) = refused {
                        all_good.store(false, Ordering::Relaxed);
                        complain(&format!("{}: {reason}", file.display()));
                    }
                }
                Err(error) => {
                    all_good.store(false, Ordering::Relaxed);
                    complain(&format!("{}: {error:#}", file.display()));
                }
            }
            advance();
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..engines)
            .map(|number| {
                let (work, stop) = (&work, &stop);
                scope.spawn(move || {
                    // What stops one thread would stop the others as well, so they need not find out.
                    work(number).inspect_err(|_| stop.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a reading thread failed"))?).collect();
        ends.into_iter().collect()
    })?;
    Ok(if all_good.load(Ordering::Relaxed) { Ended::Good } else { Ended::SomeUnreadable })
}

/// The formats to write, or the sentence that says what is wrong with the command.
fn plan(args: &ReadArgs) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    for name in &args.format {
        let known = "use text, json, hocr, alto, markdown, csv or pdf";
        let output: Output = name.parse().map_err(|_| format!("--format {name} is not known: {known}"))?;
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    // It tells of the others whether they could be written.
    outputs.sort_by_key(|output| *output == Output::Json);
    if args.out.is_none() {
        if args.files.len() > 1 {
            return Err(format!("{} files need a folder for their results: add --out DIR", args.files.len()));
        }
        if outputs.len() > 1 {
            return Err("two formats need a folder for their results: add --out DIR".into());
        }
        return Ok(outputs);
    }
    let mut names = HashMap::new();
    for file in &args.files {
        if let Some(other) = file.file_name().and_then(|name| names.insert(name, file)) {
            let (one, two) = (other.display(), file.display());
            return Err(format!("{one} and {two} would be written to the same result: read them into two folders"));
        }
    }
    Ok(outputs)
}

/// Reads one file, a page at a time; answers its bytes too, where they are to be kept for the searchable PDF.
fn read_file(
    file: &Path,
    engine: &mut Session,
    setup: &Setup<'_>,
    args: &ReadArgs,
    keep: bool,
) -> anyhow::Result<(Reading, Arc<Vec<u8>>)> {
    let received_at = Timestamp::from_system(SystemTime::now());
    let bytes = bytes_of(file, setup.max_upload)?;
    let (size, sha256) = (bytes.len() as u64, SpoolKey(Sha256::digest(&bytes).into()));
    let plan = Plan { codes: setup.codes.clone(), ..Plan::default() };
    let options = Options { limits: setup.limits, languages: args.language.clone(), plan };
    let kept = if keep { bytes.clone() } else { Vec::new() };
    let read = engine.read(bytes, &options)?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let facts = Facts {
        job: None,
        account: None,
        name: &name,
        bytes: size,
        sha256,
        received_at: Some(received_at),
        finished_at: Timestamp::from_system(SystemTime::now()),
    };
    Ok((read.reading(&facts), Arc::new(kept)))
}

fn bytes_of(file: &Path, max: ByteSize) -> anyhow::Result<Vec<u8>> {
    let handle = std::fs::File::open(file).context("cannot be opened")?;
    let metadata = handle.metadata().context("cannot be opened")?;
    if metadata.is_dir() {
        bail!("is a folder: name the files in it");
    }
    if metadata.len() > max.0 {
        bail!("has {} bytes, more than the {max} allowed by limits.max-upload", metadata.len());
    }
    // The size is asked once and may grow, or be no size at all (a pipe): the read is bounded too.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    handle.take(max.0.saturating_add(1)).read_to_end(&mut bytes).context("cannot be read")?;
    if bytes.len() as u64 > max.0 {
        bail!("has more than the {max} allowed by limits.max-upload");
    }
    Ok(bytes)
}

type Open<'a> = dyn Fn() -> Result<Document, DocumentError> + 'a;

/// Writes a reading in every format asked for: to standard output, or into the folder. Answers why there is no
/// searchable PDF, where one was asked for and none can be made.
fn deliver(
    reading: &mut Reading,
    document: &Open<'_>,
    file: &Path,
    outputs: &[Output],
    folder: Option<&Path>,
    style: &Style,
) -> anyhow::Result<Option<String>> {
    let mut refused = None;
    for &output in outputs {
        let fill = |out: &mut dyn Write| -> Result<(), PdfError> {
            match output {
                Output::Pdf => write_pdf(reading, &mut document()?, out),
                _ => Ok(write(reading, output, style, out)?),
            }
        };
        let written = match folder {
            None => {
                let mut out = BufWriter::new(std::io::stdout().lock());
                match fill(&mut out).and_then(|()| Ok(out.flush()?)) {
                    // Whoever reads our output has seen enough.
                    Err(PdfError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                    Err(PdfError::Io(error)) => Err(error).context("cannot write to standard output")?,
                    written => written,
                }
            }
            Some(folder) => {
                let mut name = file.file_name().unwrap_or(file.as_os_str()).to_owned();
                name.push(output.suffix());
                match write_whole(folder, &name, fill) {
                    Err(PdfError::Io(error)) => {
                        Err(error).with_context(|| format!("cannot write {}", folder.join(&name).display()))?
                    }
                    written => written,
                }
            }
        };
        if let Err(error) = written {
            let message = error.to_string();
            reading.warnings.push(Warning { page: 1, code: "no-pdf".into(), message: message.clone() });
            refused = Some(message);
        }
    }
    Ok(refused)
}

/// Stages under a hidden name and renames, so that nobody finds half a result.
fn write_whole(
    folder: &Path,
    name: &OsString,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), PdfError>,
) -> Result<(), PdfError> {
    let mut staged = OsString::from(".");
    staged.push(name);
    staged.push(format!(".{}.part", std::process::id()));
    let (staged, target) = (folder.join(staged), folder.join(name));
    let whole = || -> Result<(), PdfError> {
        let mut out = BufWriter::new(std::fs::File::create(&staged)?);
        fill(&mut out)?;
        out.flush()?;
        Ok(std::fs::rename(&staged, &target)?)
    };
    whole().inspect_err(|_| {
        // Nothing more can be done about a file that cannot be removed either.
        let _ = std::fs::remove_file(&staged);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Page;
    use crate::ocr::{Confidence, Engine, EngineError, Line, PageText, Quad};
    use crate::worker::engine::Readers;
    use clap::Parser;
    use std::sync::{Arc, Mutex};

    /// Reads a page as its size; refuses pages that are one pixel wide.
    struct Sizer;

    impl Engine for Sizer {
        fn read(&mut self, pages: &[&Page], _: &[String]) -> Vec<Result<PageText, EngineError>> {
            let read = |page: &&Page| {
                if page.width == 1 {
                    return Err(EngineError::Rejected("too small".into()));
                }
                let text = format!("{}x{}", page.width, page.height);
                let line = Line { text, confidence: Confidence::new(1.0), quad: Quad([[0.0; 2]; 4]), words: vec![], block: 0 };
                Ok(PageText { lines: vec![line], width: page.width, height: page.height, ..PageText::default() })
            };
            pages.iter().map(read).collect()
        }
        fn name(&self) -> &'static str {
            "sizer"
        }
        fn models(&self) -> Vec<String> {
            vec!["ruler".into()]
        }
    }

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: ReadArgs,
    }

    fn args(words: &[&str]) -> ReadArgs {
        Command::try_parse_from(std::iter::once(&"read").chain(words)).unwrap().args
    }

    /// Runs with the fake engine; returns the end and what was complained of, sorted.
    fn read(args: &ReadArgs, max_upload: u64) -> (Ended, Vec<String>) {
        let complaints = Mutex::new(Vec::new());
        let readers = Readers::Here(Arc::new(|| Ok(Box::new(Sizer))));
        let engine = move |number: usize, _: usize| -> anyhow::Result<Session> { Ok(Session::open(number, readers.clone())?) };
        let setup = Setup {
            engine: &engine,
            engines: 3,
            limits: Limits::default(),
            max_upload: ByteSize(max_upload),
            codes: codes::Settings::default(),
            style: Style::default(),
        };
        let ended = read_files(args, &setup, &|s| complaints.lock().unwrap().push(s.to_owned()), &|| ()).unwrap();
        let mut complaints = complaints.into_inner().unwrap();
        complaints.sort();
        (ended, complaints)
    }

    fn pgm(folder: &Path, name: &str, width: usize, height: usize) -> String {
        let path = folder.join(name);
        let mut bytes = format!("P5 {width} {height} 255\n").into_bytes();
        bytes.resize(bytes.len() + width * height, 200);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_readable_file_is_written_and_the_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (pgm(folder.path(), "a.pgm", 20, 10), pgm(folder.path(), "b.jpg", 30, 10));
        let thin = pgm(folder.path(), "thin.pgm", 1, 10);
        let text = folder.path().join("notes.jpg");
        std::fs::write(&text, "just words").unwrap();
        let big = pgm(folder.path(), "big.pgm", 100, 100);
        let out = folder.path().join("new/out");
        let (text, out_arg) = (text.to_str().unwrap(), out.to_str().unwrap());
        let command = args(&["--format", "text,json", "--out", out_arg, &a, text, "gone.jpg", &b, &thin, &big]);
        let (ended, complaints) = read(&command, 5000);
        assert_eq!(ended, Ended::SomeUnreadable);
        let reasons = ["more than the 5000B allowed", "cannot be opened", "not a document", "page 1: the page cannot be read"];
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        for reason in reasons {
            assert!(complaints.iter().any(|c| c.contains(reason)), "{reason}: {complaints:?}");
        }
        let mut names: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["a.pgm.json", "a.pgm.txt", "b.jpg.json", "b.jpg.txt"], "and no staged file is left");
        assert_eq!(std::fs::read_to_string(out.join("b.jpg.txt")).unwrap(), "30x10\n");
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("b.jpg.json")).unwrap()).unwrap();
        assert_eq!(json["file"]["media_type"], "image/x-portable-anymap", "told by content");
        assert_eq!(json["engine"], serde_json::json!({"name": "sizer", "models": ["ruler"]}));
        assert_eq!(json["job"], serde_json::Value::Null);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_any_work() {
        for (words, hint) in [
            (&["a.jpg", "b.jpg"][..], "--out"),
            (&["--format", "text,json", "a.jpg"], "--out"),
            (&["--format", "docx", "a.jpg"], "not known"),
            (&["--out", "/nowhere", "x/a.jpg", "y/a.jpg"], "same result"),
        ] {
            let (ended, complaints) = read(&args(words), 5000);
            assert_eq!(ended, Ended::WrongUsage, "{words:?}");
            assert!(complaints.len() == 1 && complaints[0].contains(hint), "{complaints:?}");
        }
        assert!(Command::try_parse_from(["read"]).is_err(), "a file is needed");
    }

    #[test]
    fn without_an_engine_nothing_is_read() {
        let setup = Setup {
            engine: &|_, _| bail!("no models are installed"),
            engines: 2,
            limits: Limits::default(),
            max_upload: ByteSize(1),
            codes: codes::Settings::default(),
            style: Style::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let command = args(&["--out", folder.path().to_str().unwrap(), "a.jpg", "b.jpg"]);
        let error = read_files(&command, &setup, &|_| (), &|| ()).unwrap_err();
        assert_eq!(error.to_string(), "no models are installed");
    }
}
