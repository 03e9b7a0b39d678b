//! hOCR and ALTO: valid, and words in their places.

use crate::made::{fixture, lines, of_text, open, page, quad, reading, written};
use crate::tools::{check_hocr, found, has_readers, words};
use inkport::account::Output;
use inkport::sidecar::Reading;

const TEXTS: [&str; 4] = ["INVOICE No. 4711", "Größe 5 € & <more>", "Total 9.00", "日本 語"];

/// Every word's box is round its quad, within three pixels.
fn assert_places(reading: &Reading, pages: &serde_json::Value, what: &str) {
    for (page, found) in reading.pages.iter().zip(pages.as_array().unwrap()) {
        let words: Vec<_> = page.lines.iter().flat_map(|line| &line.words).collect();
        assert_eq!(words.len(), found.as_array().unwrap().len(), "{what}");
        for (word, found) in words.iter().zip(found.as_array().unwrap()) {
            assert_eq!(found[0], word.text.as_str(), "{what}");
            for (side, corner) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
                let values = word.quad.iter().map(|point| point[corner]);
                let wanted = if side < 2 { values.fold(f64::INFINITY, f64::min) } else { values.fold(0.0, f64::max) };
                assert!((found[1][side].as_f64().unwrap() - wanted).abs() <= 3.0, "{what}: {word:?} {found}");
            }
        }
    }
}

#[test]
fn boxes_are_where_the_words_were_read_in_four_turns() {
    if !has_readers() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for turn in [0, 90, 180, 270] {
        let mut document = open(std::fs::read(fixture("letter-exif6.jpg")).unwrap());
        let first = document.page(0).unwrap();
        let (width, height) = if turn % 180 == 0 { (first.width, first.height) } else { (first.height, first.width) };
        let size = [width as f32, height as f32];
        let made = reading(&document, "a \"b\"; c.jpg", vec![page(&first, turn, lines(&TEXTS, 40.0, size, 1.5), 1.5)]);
        let hocr = written(&made, Output::Hocr, None, folder.path());
        check_hocr(&hocr, &[]);
        assert_places(&made, &found("hocr", &hocr), "hocr");
        let alto = written(&made, Output::Alto, None, folder.path());
        assert_places(&made, &found("alto", &alto), "alto");
    }
}

#[test]
fn pages_without_words_are_valid_too() {
    if !has_readers() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut made = of_text(vec![vec![], lines(&["a"], 30.0, [1000.0, 1400.0], 0.0), vec![]]);
    made.pages[2].width = 0;
    made.pages[2].height = 0;
    // A line of nothing, and one whose words are not known.
    let mut blank = made.pages[1].lines[0].clone();
    blank.words.clear();
    blank.text = "two words".into();
    made.pages[1].lines.push(blank.clone());
    blank.text = " ".into();
    blank.quad = quad([0.0; 4], 0.0, [0.0; 2]).0.map(|corner| corner.map(f64::from));
    made.pages[1].lines.push(blank);
    let expected = [vec![], vec!["a", "two", "words"], vec![]];
    for (output, kind) in [(Output::Hocr, "hocr"), (Output::Alto, "alto")] {
        let file = written(&made, output, None, folder.path());
        assert_eq!(words(kind, &file), expected);
    }
    check_hocr(&folder.path().join("out.hocr"), &["--nooverlap"]);
}
