//! Pages with codes that another program wrote; and pages without any.

use super::*;
use crate::document::{Document, Limits};

macro_rules! fixtures {
    ($($name:literal)*) => {
        /// A fixture's bytes. Built in: this room knows no files.
        fn fixture(name: &str) -> &'static [u8] {
            match name {
                $($name => include_bytes!(concat!("../../../tests/fixtures/", $name)),)*
                other => panic!("{other} is no fixture"),
            }
        }
    };
}

fixtures! {
    "codes/kinds.png"
    "codes/turned.png"
    "codes/small.png"
    "codes/inverted.png"
    "bakery.png"
    "receipt.png"
    "readings/upright.png"
    "readings/two-columns.png"
    "readings/tongues.png"
    "readings/skew-14.png"
    "fax.tif"
    "codes/codes.json"
}

fn pages(name: &str) -> Vec<Page> {
    let mut document = Document::open(fixture(name).to_vec(), &Limits::default()).unwrap();
    (0..document.page_count()).map(|index| document.page(index).unwrap()).collect()
}

fn found(page: &Page, rotation: u16) -> Vec<Code> {
    let Finding::Codes(codes) = Finder::default().look(page, rotation) else { panic!("a finder finds codes") };
    codes
}

#[derive(serde::Deserialize)]
struct Expected {
    format: String,
    text: String,
    middle: [f32; 2],
}

/// What codes.json says of a page that is not among these.
fn check(name: &str, but: &[&str]) {
    let all: std::collections::BTreeMap<String, Vec<Expected>> = serde_json::from_slice(fixture("codes/codes.json")).unwrap();
    let codes = found(&pages(&format!("codes/{name}"))[0], 0);
    for Expected { format, text, middle } in all[name].iter().filter(|code| !but.contains(&code.format.as_str())) {
        let code = codes.iter().find(|code| code.format == *format && code.text == *text);
        let code = code.unwrap_or_else(|| panic!("{name}: {format} {text} is not among {codes:?}"));
        let [left, top, right, bottom] = bounds(&code.quad.0);
        // The decoder tells a Code 39's end too early.
        let left = if format == "CODE_39" { left - (right - left) * 2.0 } else { left };
        let right = if format == "CODE_39" { right + (right - left) } else { right };
        assert!((left..=right).contains(&middle[0]) && (top - 20.0..=bottom + 20.0).contains(&middle[1]), "{code:?} {middle:?}");
    }
    let wrong = codes.iter().filter(|code| !all[name].iter().any(|expected| expected.text == code.text)).count();
    assert_eq!(wrong, 0, "{name}: {codes:?}");
}

#[test]
fn every_kind_on_one_page() {
    check("kinds.png", &[]);
}

#[test]
fn turned_codes() {
    // An Aztec code on its corner is beyond the decoder.
    check("turned.png", &["AZTEC"]);
}

#[test]
fn small_codes_in_one_bit() {
    check("small.png", &[]);
}

#[test]
fn inverted_codes() {
    check("inverted.png", &[]);
}

#[test]
fn quads_are_on_the_upright_page() {
    let page = &pages("codes/small.png")[0];
    let as_is = found(page, 0);
    let turned = found(page, 180);
    assert_eq!(as_is.len(), turned.len());
    for code in &as_is {
        let other = turned.iter().find(|other| other.text == code.text).unwrap();
        let ([left, top, ..], [.., right, bottom]) = (bounds(&code.quad.0), bounds(&other.quad.0));
        assert!((page.width as f32 - right - left).abs() < 1.0 && (page.height as f32 - bottom - top).abs() < 1.0);
    }
}

#[test]
fn text_is_no_code() {
    for name in [
        "bakery.png", "receipt.png", "readings/upright.png", "readings/two-columns.png", "readings/tongues.png",
        "readings/skew-14.png", "fax.tif",
    ] {
        for page in pages(name) {
            let codes = found(&page, 0);
            assert!(codes.is_empty(), "{name}: {codes:?}");
        }
    }
}

#[test]
fn pages_that_are_hardly_any() {
    for (width, height) in [(1, 1), (3, 200), (200, 3), (16, 16), (17, 31)] {
        for grey in [0u8, 127, 255] {
            let rgb: Vec<u8> = (0..width * height * 3).map(|at| if at % 7 == 0 { !grey } else { grey }).collect();
            let page =
                Page { number: 1, width: width as u32, height: height as u32, rgb: rgb.into(), rotation: 0, truncated: false };
            let _ = found(&page, 0);
        }
    }
    let lying = Page { number: 1, width: 100, height: 100, rgb: vec![0; 3].into(), rotation: 0, truncated: false };
    assert!(found(&lying, 0).is_empty());
}
