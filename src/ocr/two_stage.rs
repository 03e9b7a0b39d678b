//! The engine made of a detector and a recognizer.
//!
//! Owns: the order of the stages for one page, which way up it is read, the batches between the
//! stages (memory follows the batch, not the page), and the way from readings to lines. The stages
//! themselves stand behind private traits, so that another detector or recognizer can take their
//! place and tests can put in fakes.

use std::path::PathBuf;
use std::time::Instant;

use super::ctc::{Reading, is_wide};
use super::detect::{DbDetector, Detector};
use super::language::Letters;
use super::layout::{arrange, turn_quad};
use super::orient::{LineClassifier, Orienter, runs_sideways};
use super::raster::{Cutter, LineImage, Raster, line_width};
use super::recognize_ctc::{CtcRecognizer, Recognizer};
use super::runtime::Runtime;
use super::{Confidence, Engine, EngineError, Line, PageText, Quad, StageTimes, Word};
use crate::document::Page;

/// Readings below this mean probability of their characters are dirt, pictures and rules, not text.
const MIN_TRUST: f32 = 0.5;

/// A page with a smaller share of its characters in Han, kana or hangul is not written in them: they
/// are what rules, stamps and logos look like.
const MIN_WIDE_SHARE: f32 = 0.1;

/// Unless a line has this many of them, and is this sure of itself: a name in another script.
const NAME: (usize, f32) = (3, 0.9);

/// This many of one sign in a line, and nothing else, are a rule drawn with signs.
const RULE: usize = 12;

/// A line is turned on its own only when the classifier is this sure.
const SURELY_TURNED: f32 = 0.9;

/// Lines that vote on which way up the page is.
const VOTERS: usize = 12;

/// Line images held at once, in columns of pixels: some 12 MB.
const HELD_COLUMNS: usize = 80_000;

/// Where an engine's files are. The manifest tells which ones belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFiles {
    /// ONNX Runtime's shared library.
    pub runtime: PathBuf,
    /// The model that finds lines.
    pub detector: PathBuf,
    /// The model that reads them; it carries its alphabet.
    pub recognizer: PathBuf,
    /// The model that tells upright lines from upside-down ones.
    pub orientation: PathBuf,
}

/// PP-OCR: detector, orientation classifier, CTC recognizer.
pub struct TwoStage {
    name: &'static str,
    models: Vec<String>,
    detector: Box<dyn Detector>,
    orienter: Box<dyn Orienter>,
    recognizer: Box<dyn Recognizer>,
    cutter: Cutter,
}

impl TwoStage {
    /// Loads the runtime and the models; `threads` is what each model may use, 0 for all cores.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file that is missing, broken, or not the model it should be.
    pub fn open(files: &EngineFiles, threads: usize) -> Result<Self, EngineError> {
        let runtime = Runtime::load(&files.runtime, threads)?;
        let stem = |path: &PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(TwoStage {
            name: "ppocr",
            models: [&files.detector, &files.orientation, &files.recognizer].map(stem).to_vec(),
            detector: Box::new(DbDetector::open(&runtime, &files.detector)?),
            orienter: Box::new(LineClassifier::open(&runtime, &files.orientation)?),
            recognizer: Box::new(CtcRecognizer::open(&runtime, &files.recognizer)?),
            cutter: Cutter::default(),
        })
    }

    fn read_page(&mut self, page: &Page, letters: &Letters) -> Result<PageText, EngineError> {
        let (boxes, rotation, timing) = self.read_boxes(page, letters)?;
        let (lines, skew) = arrange(boxes);
        let (width, height) = if rotation % 180 == 0 { (page.width, page.height) } else { (page.height, page.width) };
        Ok(PageText { lines, width, height, rotation, skew, timing })
    }

    /// Everything but the reading order: recognized boxes in pixels of the upright page, and the
    /// turn that made it upright.
    fn read_boxes(&mut self, page: &Page, letters: &Letters) -> Result<(Vec<Line>, u16, StageTimes), EngineError> {
        let raster = Raster::of(page)?;
        let begun = Instant::now();
        let found = self.detector.detect(&raster)?;
        let detect = begun.elapsed();
        let begun = Instant::now();
        let rotation = self.rotation(&raster, &found, letters)?;
        let quads = found.iter().map(|quad| along_text(quad, rotation)).collect();
        let before = self.recognizer.batches();
        let mut read = self.read_lines(&raster, quads, letters)?;
        let batches = self.recognizer.batches().wrapping_sub(before);
        let recognized = u32::try_from(read.len()).unwrap_or(u32::MAX);
        settle_script(&mut read);
        read.retain(|(_, reading)| !reading.text.is_empty() && reading.trust >= MIN_TRUST && !is_rule(&reading.text));
        let (width, height) = (raster.width as f32, raster.height as f32);
        let boxes = read.into_iter().map(|(quad, reading)| line(&turn_quad(&quad, rotation, width, height), reading)).collect();
        Ok((boxes, rotation, StageTimes { detect, recognize: begun.elapsed(), recognized, batches }))
    }

    /// The clockwise turn that makes the page upright.
    fn rotation(&mut self, raster: &Raster<'_>, found: &[Quad], letters: &Letters) -> Result<u16, EngineError> {
        let sideways = runs_sideways(found);
        // Of a sideways page, suppose that its top is on the left.
        let supposed = if sideways { 90 } else { 0 };
        let mut voters: Vec<Quad> = found.iter().map(|quad| along_text(quad, supposed)).collect();
        voters.retain(|quad| quad.length() > 2.0 * quad.thickness());
        voters.sort_by(|a, b| b.length().total_cmp(&a.length()));
        voters.truncate(VOTERS);
        let images = voters.iter().map(|quad| self.cutter.cut(raster, quad)).collect::<Result<Vec<_>, _>>()?;
        let votes = self.orienter.upside_down(&images)?;
        let against = votes.iter().sum::<f32>();
        if votes.is_empty() || against <= 0.3 * votes.len() as f32 {
            return Ok(supposed);
        }
        // The classifier has doubts: let the recognizer read some of them both ways.
        let some: Vec<LineImage> = images.into_iter().take(VOTERS / 2).collect();
        let turned: Vec<LineImage> = some.iter().map(LineImage::turned).collect();
        let trust =
            |readings: Vec<Reading>| -> f32 { readings.iter().map(|r| r.trust * r.text.chars().count().min(20) as f32).sum() };
        let as_is = trust(self.recognizer.recognize(&some, letters)?);
        let upside_down = trust(self.recognizer.recognize(&turned, letters)?);
        Ok(if upside_down > as_is { supposed + 180 } else { supposed })
    }

    /// Reads the quads' lines. Returns them in no order, each with its quad beginning at the text's
    /// own top left; those without text too.
    fn read_lines(
        &mut self,
        raster: &Raster<'_>,
        mut quads: Vec<Quad>,
        letters: &Letters,
    ) -> Result<Vec<(Quad, Reading)>, EngineError> {
        quads.sort_by_cached_key(line_width);
        let mut read = Vec::with_capacity(quads.len());
        let mut rest = quads.as_slice();
        while !rest.is_empty() {
            let mut columns = 0;
            let take = rest.iter().take_while(|quad| {
                columns += line_width(quad);
                columns <= HELD_COLUMNS
            });
            let (now, later) = rest.split_at(take.count().max(1));
            rest = later;
            let mut held = now.to_vec();
            let mut images = now.iter().map(|quad| self.cutter.cut(raster, quad)).collect::<Result<Vec<_>, _>>()?;
            self.turn_vertical(&mut held, &mut images)?;
            let readings = self.recognizer.recognize(&images, letters)?;
            read.extend(held.into_iter().zip(readings));
        }
        Ok(read)
    }

    /// Lines that run up or down an upright page may run either way: the classifier decides each.
    fn turn_vertical(&mut self, quads: &mut [Quad], images: &mut [LineImage]) -> Result<(), EngineError> {
        let vertical: Vec<usize> = (0..quads.len()).filter(|&i| is_vertical(&quads[i])).collect();
        let seen: Vec<LineImage> = vertical.iter().map(|&i| images[i].clone()).collect();
        for (index, turned) in vertical.into_iter().zip(self.orienter.upside_down(&seen)?) {
            if turned > SURELY_TURNED {
                quads[index] = quads[index].relabelled(2);
                images[index] = images[index].turned();
            }
        }
        Ok(())
    }
}

impl Engine for TwoStage {
    fn read(&mut self, pages: &[&Page], languages: &[String]) -> Vec<Result<PageText, EngineError>> {
        let letters = Letters::of(languages);
        pages.iter().map(|page| self.read_page(page, &letters)).collect()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn models(&self) -> Vec<String> {
        self.models.clone()
    }
}

/// Whether a line is a rule drawn with signs, as tills do: `***…`, `===…`.
fn is_rule(text: &str) -> bool {
    let mut signs = text.chars().filter(|c| !c.is_whitespace());
    let first = signs.next();
    first.is_some_and(|first| !first.is_alphanumeric() && signs.clone().count() + 1 >= RULE && signs.all(|sign| sign == first))
}

/// Decides whether the page is written in a script of squares, and where it is not, takes the readings
/// without them.
fn settle_script(read: &mut [(Quad, Reading)]) {
    let wide = |reading: &Reading| reading.text.chars().filter(|&c| is_wide(c)).count();
    let sure = read.iter().filter(|(_, reading)| reading.trust >= MIN_TRUST);
    let (some, all) = sure.fold((0, 0), |(some, all), (_, reading)| (some + wide(reading), all + reading.text.chars().count()));
    if some as f32 >= MIN_WIDE_SHARE * all as f32 {
        return;
    }
    for (_, reading) in read {
        let is_name = wide(reading) >= NAME.0 && reading.trust >= NAME.1;
        if let Some(narrow) = reading.narrow.take().filter(|_| !is_name) {
            *reading = *narrow;
        }
    }
}

/// Whether the text of this quad runs up or down the page it is given on.
fn is_vertical(quad: &Quad) -> bool {
    let (from, to) = quad.midline();
    (to[1] - from[1]).abs() > (to[0] - from[0]).abs()
}

/// A detected quad, its corners renamed so that they begin at the top left of the text, if the page
/// is made upright by `rotation`. A box much higher than wide on the upright page is taken for a
/// line that runs down it.
fn along_text(quad: &Quad, rotation: u16) -> Quad {
    let turns = usize::from(rotation / 90);
    // Corner 0 is top left on the page as it came; after a turn by 90° corner 3 is.
    let upright = quad.relabelled(4 - turns);
    if upright.thickness() >= 1.5 * upright.length() { upright.relabelled(3) } else { upright }
}

fn line(quad: &Quad, reading: Reading) -> Line {
    let words = reading
        .words
        .into_iter()
        .map(|span| Word { text: span.text, confidence: Confidence::new(span.confidence), quad: quad.slice(span.from, span.to) })
        .collect();
    Line { text: reading.text, confidence: Confidence::new(reading.confidence), quad: *quad, words, block: 0 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ctc::Span;
    use super::*;

    /// Finds the same quads on every page.
    struct Finds(Vec<Quad>);

    impl Detector for Finds {
        fn detect(&mut self, _: &Raster<'_>) -> Result<Vec<Quad>, EngineError> {
            Ok(self.0.clone())
        }
    }

    /// Reads a line's width, and is less sure of it when the ink is not where the line begins.
    struct Reads;

    impl Recognizer for Reads {
        fn recognize(&mut self, lines: &[LineImage], _: &Letters) -> Result<Vec<Reading>, EngineError> {
            Ok(lines
                .iter()
                .map(|line| {
                    let confidence = if upright(line) { 0.9 } else { 0.6 };
                    let text = format!("line {}", line.width);
                    let words = vec![
                        Span { text: "line".into(), confidence, from: 0.0, to: 0.5 },
                        Span { text: line.width.to_string(), confidence, from: 0.6, to: 1.0 },
                    ];
                    Reading { text, confidence, trust: confidence, words, narrow: None }
                })
                .collect())
        }
    }

    /// Sure that every line without ink at its beginning is upside down.
    struct Turns;

    impl Orienter for Turns {
        fn upside_down(&mut self, lines: &[LineImage]) -> Result<Vec<f32>, EngineError> {
            Ok(lines.iter().map(|line| if upright(line) { 0.02 } else { 0.98 }).collect())
        }
    }

    /// Test lines are black at the beginning and white at the end.
    fn upright(line: &LineImage) -> bool {
        line.rgb[(24 * line.width + 4) * 3] < 128
    }

    fn engine(quads: Vec<Quad>) -> TwoStage {
        TwoStage {
            name: "fake",
            models: vec![],
            detector: Box::new(Finds(quads)),
            orienter: Box::new(Turns),
            recognizer: Box::new(Reads),
            cutter: Cutter::default(),
        }
    }

    /// A white page; each rectangle (left, top, width, height) is black.
    fn page(width: u32, height: u32, black: &[[usize; 4]]) -> Page {
        let mut rgb = vec![255; (width * height * 3) as usize];
        for &[left, top, w, h] in black {
            for row in top..top + h {
                let at = (row * width as usize + left) * 3;
                rgb[at..at + 3 * w].fill(0);
            }
        }
        Page { number: 1, width, height, rgb: rgb.into(), rotation: 0, truncated: false }
    }

    fn quad(left: f32, top: f32, width: f32, height: f32) -> Quad {
        Quad([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])
    }

    fn read(engine: &mut TwoStage, page: &Page) -> PageText {
        engine.read(&[page], &[]).pop().expect("one answer per page").expect("a readable page")
    }

    #[test]
    fn words_lie_where_the_recognizer_saw_them() {
        let mut engine = engine(vec![quad(100.0, 40.0, 240.0, 24.0)]);
        let text = read(&mut engine, &page(600, 400, &[[100, 40, 60, 24]]));
        assert_eq!((text.rotation, text.width, text.height), (0, 600, 400));
        let line = &text.lines[0];
        assert_eq!(line.text, "line 480");
        assert_eq!(line.words[1].quad.0[0], [100.0 + 0.6 * 240.0, 40.0]);
        assert_eq!(line.words[1].quad.0[2], [340.0, 64.0]);
    }

    #[test]
    fn a_page_on_its_head_is_read_upright() {
        // The ink is at the right end: where the line begins once the page is turned.
        let mut engine = engine(vec![quad(100.0, 40.0, 240.0, 24.0)]);
        let text = read(&mut engine, &page(600, 400, &[[280, 40, 60, 24]]));
        assert_eq!((text.rotation, text.width, text.height), (180, 600, 400));
        assert_eq!(text.lines[0].quad.0[0], [600.0 - 340.0, 400.0 - 64.0]);
        assert!((text.lines[0].confidence.get() - 0.9).abs() < 1e-6);
    }

    #[test]
    fn sideways_pages_are_read_upright_either_way() {
        let quads = vec![quad(40.0, 100.0, 24.0, 240.0), quad(80.0, 100.0, 24.0, 200.0)];
        // Text runs upwards: it begins at the page's bottom, a clockwise turn makes it upright.
        let upwards = page(400, 600, &[[40, 280, 24, 60], [80, 240, 24, 60]]);
        let text = read(&mut engine(quads.clone()), &upwards);
        assert_eq!((text.rotation, text.width, text.height), (90, 600, 400));
        assert_eq!(text.lines[0].quad.0[0], [600.0 - 340.0, 40.0]);
        assert_eq!(text.lines.len(), 2);
        let downwards = page(400, 600, &[[40, 100, 24, 60], [80, 100, 24, 60]]);
        let text = read(&mut engine(quads), &downwards);
        assert_eq!(text.rotation, 270);
        assert_eq!(text.lines[0].quad.0[0], [100.0, 400.0 - 104.0]);
    }

    #[test]
    fn a_line_up_the_margin_does_not_turn_the_page() {
        let quads = vec![quad(100.0, 40.0, 240.0, 24.0), quad(100.0, 80.0, 240.0, 24.0), quad(10.0, 40.0, 24.0, 120.0)];
        let black = [[100, 40, 60, 24], [100, 80, 60, 24], [10, 40, 24, 30]];
        let text = read(&mut engine(quads), &page(600, 400, &black));
        assert_eq!(text.rotation, 0);
        // Its ink is at its upper end, so it runs down the page and begins at its top right.
        let margin = text.lines.iter().find(|line| line.text == "line 240").expect("the line in the margin");
        assert_eq!(margin.quad.0[0], [34.0, 40.0]);
    }

    #[test]
    fn doubtful_readings_are_dropped_and_an_empty_page_is_no_error() {
        struct Doubts;
        impl Recognizer for Doubts {
            fn recognize(&mut self, lines: &[LineImage], _: &Letters) -> Result<Vec<Reading>, EngineError> {
                Ok(vec![Reading { text: "?".into(), trust: 0.3, ..Reading::default() }; lines.len()])
            }
        }
        let mut doubting = TwoStage { recognizer: Box::new(Doubts), ..engine(vec![quad(10.0, 10.0, 90.0, 20.0)]) };
        assert!(read(&mut doubting, &page(200, 100, &[])).lines.is_empty());
        assert!(read(&mut engine(vec![]), &page(200, 100, &[])).lines.is_empty());
    }

    #[test]
    fn one_bad_page_does_not_sink_the_others() {
        let good = page(600, 400, &[[100, 40, 60, 24]]);
        let bad = Page { width: 7, ..good.clone() };
        let answers = engine(vec![quad(100.0, 40.0, 240.0, 24.0)]).read(&[&bad, &good], &[]);
        assert!(matches!(answers[0], Err(EngineError::Rejected(_))) && answers[1].is_ok());
    }

    /// The real models, where they are installed.
    fn installed() -> Option<TwoStage> {
        let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/cache"));
        let files = EngineFiles {
            runtime: models.join("libonnxruntime.so"),
            detector: models.join("PP-OCRv6_det_small.onnx"),
            recognizer: models.join("PP-OCRv6_rec_small.onnx"),
            orientation: models.join("ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
        };
        if !files.runtime.exists() || !files.recognizer.exists() {
            println!("skipped: no models in {} (fetch them with `make setup`)", models.display());
            return None;
        }
        Some(TwoStage::open(&files, 2).expect("installed models load"))
    }

    fn fixture() -> (Page, &'static str) {
        let image = image::load_from_memory(include_bytes!("../../tests/fixtures/bakery.png")).expect("our own PNG").to_rgb8();
        let (width, height) = image.dimensions();
        let page = Page { number: 1, width, height, rgb: image.into_raw().into(), rotation: 0, truncated: false };
        (page, include_str!("../../tests/fixtures/bakery.txt"))
    }

    fn texts(text: &PageText) -> String {
        text.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    #[test]
    fn the_fixture_is_read_to_the_letter() {
        let Some(mut engine) = installed() else { return };
        let (page, expected) = fixture();
        let text = read(&mut engine, &page);
        assert_eq!(texts(&text), expected);
        assert!(text.skew.abs() < 0.5 && text.rotation == 0);
        for line in &text.lines {
            assert_eq!(line.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "), line.text);
            assert!(line.words.windows(2).all(|pair| pair[0].quad.0[1][0] <= pair[1].quad.0[0][0] + 1.0), "{line:?}");
        }
        let price = text.lines[2].words.last().expect("7.80");
        assert!((price.quad.0[0][0] - 760.0).abs() < 15.0 && (price.quad.0[0][1] - 160.0).abs() < 15.0, "{price:?}");
    }

    #[test]
    fn the_fixture_is_read_the_same_whichever_way_it_lies() {
        let Some(mut engine) = installed() else { return };
        let (upright, expected) = fixture();
        let (width, height) = (upright.width as usize, upright.height as usize);
        for rotation in [90u16, 180, 270] {
            // Lay the page so that a clockwise turn by `rotation` makes it upright.
            let sideways = rotation != 180;
            let (w, h) = if sideways { (height, width) } else { (width, height) };
            let mut rgb = Vec::with_capacity(upright.rgb.len());
            for y in 0..h {
                for x in 0..w {
                    let (sx, sy) = match rotation {
                        90 => (h - 1 - y, x),
                        180 => (width - 1 - x, height - 1 - y),
                        _ => (y, height - 1 - x),
                    };
                    rgb.extend_from_slice(&upright.rgb[(sy * width + sx) * 3..][..3]);
                }
            }
            let page = Page { width: w as u32, height: h as u32, rgb: rgb.into(), ..upright.clone() };
            let text = read(&mut engine, &page);
            assert_eq!((text.rotation, text.width, text.height), (rotation, upright.width, upright.height));
            assert_eq!(texts(&text), expected, "turned by {rotation}");
        }
    }

    #[test]
    fn files_that_are_no_models_are_named() {
        if installed().is_none() {
            return;
        }
        let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/cache"));
        let wrong = models.join("ch_ppocr_mobile_v2.0_cls_mobile.onnx");
        let files = EngineFiles {
            runtime: models.join("libonnxruntime.so"),
            detector: models.join("PP-OCRv6_det_small.onnx"),
            recognizer: wrong.clone(),
            orientation: wrong,
        };
        let error = TwoStage::open(&files, 1).err().expect("a classifier is no recognizer");
        assert!(matches!(&error, EngineError::Model(text) if text.contains("list of characters")), "{error}");
    }

    /// A reading in one word, and what it is without Han.
    fn read_as(text: &str, trust: f32, narrow: Option<&str>) -> (Quad, Reading) {
        let plain = |text: &str| Reading { text: text.into(), confidence: trust, trust, ..Reading::default() };
        (Quad([[0.0; 2]; 4]), Reading { narrow: narrow.map(|text| Box::new(plain(text))), ..plain(text) })
    }

    fn settled(mut read: Vec<(Quad, Reading)>) -> Vec<String> {
        settle_script(&mut read);
        read.into_iter().map(|(_, reading)| reading.text).collect()
    }

    #[test]
    fn a_rule_among_latin_lines_is_no_han_letter() {
        let line = || read_as("Clearing cheque of the month", 0.99, None);
        let read = vec![line(), line(), read_as("70,317.50 一", 0.93, Some("70,317.50 -"))];
        assert_eq!(settled(read)[2], "70,317.50 -");
    }

    #[test]
    fn han_stays_on_a_page_written_in_it_and_in_a_name() {
        let read = vec![read_as("合計 一", 0.9, Some("-")), read_as("2 x 150", 0.99, None)];
        assert_eq!(settled(read)[0], "合計 一");
        let line = || read_as("A contract between the parties named below", 0.99, None);
        let read = vec![line(), line(), read_as("王小明", 0.97, Some("E /NA"))];
        assert_eq!(settled(read)[2], "王小明");
    }

    #[test]
    fn rules_drawn_with_signs_are_no_text() {
        assert!(is_rule("************") && is_rule("= = = = = = = = = = = ="));
        assert!(!is_rule("********") && !is_rule("************ 4242") && !is_rule("000000000000") && !is_rule(""));
    }
}
