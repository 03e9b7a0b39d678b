//! Damaged documents by the thousand: the fixtures, mutated, through the document room. Whatever comes,
//! it answers with pages or an error, the pages are what they say, within the limits; a decoder's panic is
//! contained by the room. `make fuzz` runs `for_long` for a quarter of FUZZ_SECONDS.

use inkport::document::{Content, Document, Limits};
use inkport::ocr::page_text;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Small, so that a mutated header costs little time.
const LIMITS: Limits = Limits { max_pixels: 4_000_000, max_pages: 4 };

/// splitmix64: small, and the same on every machine.
fn roll(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 1) as usize
}

const KNOWN: [&str; 11] = ["jpg", "png", "tif", "pdf", "bmp", "gif", "webp", "ppm", "pgm", "pbm", "pam"];

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = [folder.join("formats"), folder];
    let mut files: Vec<_> = folders.iter().flat_map(|at| fs::read_dir(at).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_document = |path: &Path| path.extension().is_some_and(|end| KNOWN.iter().any(|known| end == *known));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().filter(|path| is_document(path)).map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Derived from its number alone.
fn mutated(fixtures: &[(String, Vec<u8>)], number: u64) -> (&str, Vec<u8>) {
    let mut state = number.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let dice = &mut state;
    let (name, bytes) = &fixtures[roll(dice) % fixtures.len()];
    let mut bytes = bytes.clone();
    for _ in 0..1 + roll(dice) % 8 {
        // Most of what decides is in front or at the end (PDF, TIFF).
        let length = bytes.len().max(1);
        let near = roll(dice) % length.min(512);
        let at = match roll(dice) % 3 {
            0 => near,
            1 => length - 1 - near,
            _ => roll(dice) % length,
        };
        if bytes.is_empty() {
            break;
        }
        match roll(dice) % 8 {
            0 => bytes[at] ^= 1 << (roll(dice) % 8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][roll(dice) % 5],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + roll(dice) % 64).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + 1 + roll(dice) % 64).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let number = [0u32, 1, 0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 65_535][roll(dice) % 6];
                let number = if roll(dice).is_multiple_of(2) { number.to_le_bytes() } else { number.to_be_bytes() };
                for (byte, new) in bytes[at..].iter_mut().zip(number) {
                    *byte = new;
                }
            }
            6 => {
                let (_, other) = &fixtures[roll(dice) % fixtures.len()];
                let from = roll(dice) % other.len();
                let end = (from + 1 + roll(dice) % 256).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let end = (at + 1 + roll(dice) % 32).min(bytes.len());
                bytes[at..end].iter_mut().for_each(|byte| *byte = 0);
            }
        }
    }
    (name, bytes)
}

/// Pages that came out.
fn decode(bytes: Vec<u8>) -> usize {
    let Ok(mut document) = Document::open(bytes, &LIMITS) else { return 0 };
    assert!(document.page_count() <= LIMITS.max_pages);
    (0..document.page_count())
        .filter_map(|index| {
            if let Ok(Content::Text(layer)) = document.content(index) {
                let text = page_text(&layer);
                assert!(text.lines.iter().all(|line| !line.text.is_empty()));
            }
            document.page(index).ok()
        })
        .inspect(|page| {
            assert_eq!(page.rgb.len() as u64, u64::from(page.width) * u64::from(page.height) * 3);
            assert!(u64::from(page.width) * u64::from(page.height) <= LIMITS.max_pixels);
        })
        .count()
}

fn fuzz(enough: impl Fn(u64) -> bool) {
    let first: u64 = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let one: Option<u64> = std::env::var("FUZZ_ONE").ok().and_then(|number| number.parse().ok());
    // Contained panics are told by the room's error; their backtraces would bury everything else.
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().starts_with("tests/")) {
            eprintln!("{panic}");
        }
    }));
    let fixtures = fixtures();
    let (mut done, mut pages, mut slowest) = (0, 0, (Duration::ZERO, 0));
    loop {
        let number = one.unwrap_or(first + done);
        let (name, bytes) = mutated(&fixtures, number);
        let begin = Instant::now();
        match std::panic::catch_unwind(|| decode(bytes)) {
            Ok(read) => pages += read,
            Err(_) => panic!("{name}, mutation {number}: FUZZ_ONE={number}"),
        }
        slowest = slowest.max((begin.elapsed(), number));
        done += 1;
        if one.is_some() || enough(done) {
            break;
        }
    }
    let _ =
        writeln!(std::io::stderr(), "fuzz: {done} documents, {pages} pages, slowest {:?} (mutation {})", slowest.0, slowest.1);
}

/// So that the fuzzer itself does not rot; always the same documents.
#[test]
fn a_little() {
    fuzz(|done| done >= 150);
}

#[test]
#[ignore = "runs for a quarter of FUZZ_SECONDS: make fuzz"]
fn for_long() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(600) / 4;
    let begin = Instant::now();
    fuzz(|_| begin.elapsed() >= Duration::from_secs(seconds));
}
