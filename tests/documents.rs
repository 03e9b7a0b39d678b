//! Real documents through the document room: the repository's own fixtures always, and the evaluation
//! data beside the repository where it is there.

use inkport::document::{Content, Document, DocumentError, Format, Limits, Page};
use inkport::ocr::page_text;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// All pages of a document, each checked for what every page must be.
fn pages(bytes: Vec<u8>) -> Result<(Format, Vec<Page>), DocumentError> {
    let mut document = Document::open(bytes, &Limits::default())?;
    let pages: Vec<_> = (0..document.page_count()).map(|index| document.page(index)).collect::<Result<_, _>>()?;
    for (index, page) in pages.iter().enumerate() {
        assert_eq!(page.number as usize, index + 1);
        assert_eq!(page.rgb.len(), page.width as usize * page.height as usize * 3);
    }
    Ok((document.format(), pages))
}

fn read(name: &str) -> (Format, Vec<Page>) {
    pages(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Share of dark pixels in the rows `from..to`, given as shares of the height.
fn ink(page: &Page, from: f64, to: f64) -> f64 {
    let row = |share: f64| (share * f64::from(page.height)) as usize * page.width as usize * 3;
    let pixels = &page.rgb[row(from)..row(to)];
    let dark = pixels.chunks_exact(3).filter(|rgb| rgb.iter().all(|&value| value < 128)).count();
    dark as f64 * 3.0 / pixels.len() as f64
}

/// Text on white paper: some ink, far more paper, and a margin without any.
#[track_caller]
fn assert_looks_like_print(page: &Page) {
    let share = ink(page, 0.0, 1.0);
    assert!((0.002..0.2).contains(&share), "{share} of page {} is ink", page.number);
    assert_eq!(ink(page, 0.0, 0.03), 0.0, "the upper margin is clean");
}

#[test]
fn fixtures_decode_to_upright_print() {
    for (name, format, count, width, height) in [
        ("letter-exif6.jpg", Format::Jpeg, 1, 1000, 640),
        ("receipt.png", Format::Png, 1, 620, 620),
        ("fax.tif", Format::Tiff, 2, 1728, 1100),
        // 595 by 842 points at 200 dpi.
        ("digital.pdf", Format::Pdf, 1, 1653, 2339),
        // The scan's own pixels.
        ("scanned.pdf", Format::Pdf, 1, 1240, 877),
    ] {
        let (found, pages) = read(name);
        assert_eq!((found, pages.len()), (format, count), "{name}");
        for page in &pages {
            assert_eq!((page.width, page.height), (width, height), "{name}");
            assert!(!page.truncated, "{name}");
            assert_looks_like_print(page);
        }
    }
}

#[test]
fn a_photo_taken_sideways_comes_out_upright() {
    let (_, pages) = read("letter-exif6.jpg");
    assert_eq!(pages[0].rotation, 90);
    // The letter's last line ends in the upper four fifths; sideways there would be ink to the edge.
    assert!(ink(&pages[0], 0.05, 0.2) > 0.0);
    assert_eq!(ink(&pages[0], 0.95, 1.0), 0.0);
}

#[test]
fn a_scan_inside_a_pdf_loses_nothing() {
    let (_, pages) = read("scanned.pdf");
    // The same bytes that the PDF holds, decoded alone.
    let pdf = fixture("scanned.pdf");
    let start = pdf.windows(3).position(|w| w == [0xff, 0xd8, 0xff]).unwrap();
    let end = pdf.windows(9).position(|w| w == b"endstream").unwrap();
    let (_, alone) = self::pages(pdf[start..end].to_vec()).unwrap();
    assert_eq!((pages[0].width, pages[0].height), (alone[0].width, alone[0].height));
    let difference = pages[0].rgb.iter().zip(&alone[0].rgb[..]).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(difference <= Some(3), "two decoders' rounding apart: {difference:?}");
}

#[test]
fn a_broken_transfer_gives_its_first_part() {
    let (_, pages) = read("truncated.jpg");
    assert!(pages[0].truncated);
    assert!(ink(&pages[0], 0.05, 0.3) > 0.01, "the first lines are there");
    assert!(pages[0].rgb[pages[0].rgb.len() - 1000 * 3 * 100..].iter().all(|&value| value == 255), "the rest is white");

    // The same for formats whose directory stands before the pixels, and for PDF.
    let fax = fixture("fax.tif");
    let cut = pages_of_cut(&fax, 0.6);
    assert!(cut.is_err() || cut.unwrap().iter().any(|page| page.truncated));
    let pdf = fixture("digital.pdf");
    assert!(pages_of_cut(&pdf, 0.9).unwrap()[0].truncated, "without its table of objects a PDF is searched for them");
}

fn pages_of_cut(bytes: &[u8], share: f64) -> Result<Vec<Page>, DocumentError> {
    pages(bytes[..(bytes.len() as f64 * share) as usize].to_vec()).map(|(_, pages)| pages)
}

#[test]
fn what_is_no_document_says_so() {
    assert_eq!(pages(fixture("text-named.jpg")).unwrap_err(), DocumentError::Unsupported);
    assert_eq!(pages(Vec::new()).unwrap_err(), DocumentError::Unsupported);
    let huge = pages(fixture("huge-30000x30000.png")).unwrap_err();
    assert_eq!(huge, DocumentError::TooManyPixels { page: 1, pixels: 900_000_000, limit: 100_000_000 });
    for (bytes, what) in [(&b"%PDF-1.7\nnothing follows"[..], "PDF"), (b"II*\0\x08\0\0\0", "TIFF"), (b"\xff\xd8\xff\xd9", "JPEG")]
    {
        match pages(bytes.to_vec()) {
            Err(DocumentError::Damaged { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// A PDF of one page with the given content stream and image, both given as `<<dictionary>> stream` bodies.
fn pdf_of(content: &[u8], content_filter: &str, image: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    let image_data = [0u8; 16];
    let bodies: [(String, &[u8]); 5] = [
        ("<</Type/Catalog/Pages 2 0 R>>".into(), b""),
        ("<</Type/Pages/Kids[3 0 R]/Count 1>>".into(), b""),
        ("<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>".into(), b""),
        (format!("<</Length {}{content_filter}>>", content.len()), content),
        (format!("<</Type/XObject/Subtype/Image{image}/Length 16>>"), &image_data),
    ];
    for (number, (dictionary, stream)) in bodies.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n{dictionary}\n", number + 1).into_bytes());
        if !stream.is_empty() {
            out.extend(b"stream\n");
            out.extend(*stream);
            out.extend(b"\nendstream\n");
        }
        out.extend(b"endobj\n");
    }
    let table = out.len();
    out.extend(b"xref\n0 6\n0000000000 65535 f \n");
    offsets.iter().for_each(|offset| out.extend(format!("{offset:010} 00000 n \n").into_bytes()));
    out.extend(format!("trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n").into_bytes());
    out
}

#[test]
fn bombs_inside_a_pdf_are_refused_when_it_is_opened() {
    let small = "/Width 4/Height 4/ColorSpace/DeviceGray/BitsPerComponent 8";
    let draw = b"q 300 0 0 300 0 0 cm /I Do Q";
    assert!(pages(pdf_of(draw, "", small)).is_ok(), "the frame of this test is sound");

    let wide = "/Width 60000/Height 60000/ColorSpace/DeviceRGB/BitsPerComponent 8";
    assert!(matches!(pages(pdf_of(draw, "", wide)), Err(DocumentError::Bomb { what: "PDF", .. })));

    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let blank = vec![b' '; 1 << 20];
    (0..300).for_each(|_| std::io::Write::write_all(&mut packed, &blank).unwrap());
    let packed = packed.finish().unwrap();
    let bomb = pages(pdf_of(&packed, "/Filter/FlateDecode", small)).unwrap_err();
    assert!(matches!(bomb, DocumentError::Bomb { what: "PDF", .. }), "{bomb}");
}

#[test]
fn pages_are_counted_before_they_are_decoded() {
    let limits = Limits { max_pages: 1, ..Limits::default() };
    let error = Document::open(fixture("fax.tif"), &limits).err().unwrap();
    assert_eq!(error, DocumentError::TooManyPages { pages: 2, limit: 1 });
    let limits = Limits { max_pixels: 1000, ..Limits::default() };
    let error = Document::open(fixture("fax.tif"), &limits).unwrap().page(0).unwrap_err();
    assert!(matches!(error, DocumentError::TooManyPixels { page: 1, .. }), "{error}");
    // A PDF's page has no pixels of its own: it is drawn as large as allowed.
    let page =
        Document::open(fixture("digital.pdf"), &Limits { max_pixels: 100_000, ..Limits::default() }).unwrap().page(0).unwrap();
    assert!(page.width * page.height <= 100_000 && page.width > 200);
}

/// Every byte of a small file changed in turn: an error or a page, never a panic, never an endless loop.
#[test]
fn damage_anywhere_is_survived() {
    for (name, step) in [("fax.tif", 41), ("digital.pdf", 7), ("receipt.png", 97), ("letter-exif6.jpg", 1201)] {
        let good = fixture(name);
        for at in (0..good.len()).step_by(step) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            let _ = pages(bytes);
        }
    }
}

/// A page of 300 by 200 points with Helvetica as /F and 16 grey pixels as /I; `entries` go into its dictionary.
fn text_pdf(entries: &str, content: &str) -> Vec<u8> {
    let bodies = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R{entries}\
             /Resources<</Font<</F 5 0 R>>/XObject<</I 6 0 R>>>>>>"
        ),
        format!("<</Length {}>>\nstream\n{content}\nendstream", content.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
        "<</Type/XObject/Subtype/Image/Width 4/Height 4/ColorSpace/DeviceGray/BitsPerComponent 8/Length 16>>\n\
         stream\n0123456789abcdef\nendstream"
            .to_owned(),
    ];
    assembled(&bodies)
}

/// Objects from 1 on, the first of them the catalogue, as a PDF.
fn assembled<S: AsRef<str>>(bodies: &[S]) -> Vec<u8> {
    let mut out = "%PDF-1.4\n".to_owned();
    let mut offsets = String::new();
    for (number, body) in bodies.iter().enumerate() {
        offsets += &format!("{:010} 00000 n \n", out.len());
        out += &format!("{} 0 obj\n{}\nendobj\n", number + 1, body.as_ref());
    }
    let (table, size) = (out.len(), bodies.len() + 1);
    out += &format!("xref\n0 {size}\n0000000000 65535 f \n{offsets}");
    out += &format!("trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n");
    out.into_bytes()
}

/// The lines of a page that tells its own text; `None` for one that is to be read.
fn layer(bytes: Vec<u8>) -> Option<Vec<String>> {
    match Document::open(bytes, &Limits::default()).unwrap().content(0).unwrap() {
        Content::Text(layer) => Some(page_text(&layer).lines.into_iter().map(|line| line.text).collect()),
        Content::Image(page) => {
            assert!(page.width > 0);
            None
        }
    }
}

const PROSE: &str =
    "BT /F 12 Tf 20 150 Td 16 TL (The ferry leaves at nine.) Tj T* (Bring \\374ber 20 oars, na\\357ve one.) Tj ET\n";

#[test]
fn a_digital_page_is_taken_by_its_word() {
    let lines = layer(fixture("digital.pdf")).unwrap().join("\n") + "\n";
    assert_eq!(lines, String::from_utf8(fixture("digital.pdf.expected.txt")).unwrap());
    assert_eq!(layer(text_pdf("", PROSE)).unwrap(), ["The ferry leaves at nine.", "Bring über 20 oars, naïve one."]);
    assert_eq!(layer(fixture("scanned.pdf")), None);
}

#[test]
fn only_text_that_is_seen_is_taken() {
    let with = |more: &str| layer(text_pdf("", &format!("{PROSE}{more}"))).map(|lines| lines[2..].join("|"));
    assert_eq!(with("BT /F 12 Tf 20 60 Td (seen) Tj ET").unwrap(), "seen");
    for (unseen, why) in [
        ("BT /F 12 Tf 3 Tr 20 60 Td (unseen) Tj ET", "invisible"),
        ("1 g BT /F 12 Tf 20 60 Td (unseen) Tj ET", "white on white"),
        ("q 0 0 10 10 re W n BT /F 12 Tf 20 60 Td (unseen) Tj ET Q", "clipped"),
        ("BT /F 12 Tf 400 60 Td (unseen) Tj ET", "beside the page"),
        ("BT /F 12 Tf 20 60 Td (unseen) Tj ET 10 50 100 30 re f", "blackened"),
        ("BT /F 12 Tf 20 150 Td (The ferry) Tj ET BT /F 12 Tf 20.3 150 Td (The ferry) Tj ET", "bold by drawing twice"),
    ] {
        assert_eq!(with(unseen).unwrap(), "", "{why}");
    }
    assert_eq!(with("0 0 1 rg 10 50 100 30 re f 1 g BT /F 12 Tf 20 60 Td (light on dark) Tj ET").unwrap(), "light on dark");
}

#[test]
fn a_page_that_is_mainly_an_image_is_read() {
    let under = |more: &str| layer(text_pdf("", &format!("{more} {PROSE}")));
    assert_eq!(under("q 300 0 0 110 0 0 cm /I Do Q"), None, "text over a scan");
    assert_eq!(under("q 40 0 0 20 0 0 cm /I Do Q").unwrap().len(), 2, "a logo");
    // An earlier OCR under the scan is not believed, and neither is a page number over nothing else.
    assert_eq!(layer(text_pdf("", "BT /F 12 Tf 3 Tr 20 60 Td (an earlier reading) Tj ET q 300 0 0 200 0 0 cm /I Do Q")), None);
    assert_eq!(layer(text_pdf("", "")), None, "an empty page has no layer");
}

#[test]
fn a_turned_page_has_its_text_upright() {
    for (turn, width, height) in [(0, 833, 556), (90, 556, 833), (180, 833, 556), (270, 556, 833)] {
        let bytes = text_pdf(&format!("/Rotate {turn}"), PROSE);
        let Content::Text(layer) = Document::open(bytes, &Limits::default()).unwrap().content(0).unwrap() else {
            panic!("turned by {turn}: no layer")
        };
        assert_eq!((layer.width, layer.height), (width, height));
        let text = page_text(&layer);
        assert_eq!(text.lines[0].text, "The ferry leaves at nine.");
        assert_eq!((text.width, text.height), (833, 556), "by its own text");
        let word = &text.lines[0].words[1];
        let [[left, top], _, [right, bottom], _] = word.quad.0;
        assert!((110.0..135.0).contains(&left) && right > left + 50.0, "{turn}: {:?}", word.quad);
        assert!((105.0..120.0).contains(&top) && (138.0..155.0).contains(&bottom), "{turn}: {:?}", word.quad);
    }
}

#[test]
fn a_layer_lies_where_the_image_shows_it() {
    let mut document = Document::open(fixture("digital.pdf"), &Limits::default()).unwrap();
    let Content::Text(layer) = document.content(0).unwrap() else { panic!("no layer") };
    let image = document.page(0).unwrap();
    assert_eq!((layer.width, layer.height), (image.width, image.height));
    for run in &layer.runs {
        let [[left, top], _, [right, bottom], _] = run.quad;
        let mut inside = 0;
        for y in top as usize..bottom as usize {
            inside += (left as usize..right as usize).filter(|x| image.rgb[(y * image.width as usize + x) * 3] < 128).count();
        }
        assert!(inside > 300, "{run:?}");
    }
}

#[test]
fn a_page_that_cannot_be_unpacked_is_that_pages_trouble() {
    let bodies = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2/MediaBox[0 0 300 200]>>",
        "<</Type/Page/Parent 2 0 R/Contents 5 0 R/Resources<</Font<</F 6 0 R>>>>>>",
        "<</Type/Page/Parent 2 0 R/Contents 7 0 R/Resources<</Font<</F 6 0 R>>>>>>",
        &format!("<</Length {}>>\nstream\n{PROSE}\nendstream", PROSE.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        "<</Length 16/Filter/FlateDecode>>\nstream\nno deflated data\nendstream",
    ];
    let mut document = Document::open(assembled(&bodies), &Limits::default()).unwrap();
    assert!(matches!(document.content(0), Ok(Content::Text(_))));
    match document.content(1) {
        Err(DocumentError::Damaged { what: "PDF", detail }) => assert!(detail.contains("page 2"), "{detail}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("an empty page was made of it"),
    }
}

#[test]
fn a_password_that_only_guards_printing_does_not_matter() {
    assert!(layer(fixture("formats/owner-password.pdf")).unwrap()[0].starts_with("Minutes"));
    let error = Document::open(fixture("formats/user-password.pdf"), &Limits::default()).err().unwrap();
    assert_eq!(error, DocumentError::Encrypted);
}

#[test]
fn one_picture_in_every_format_is_one_picture() {
    let reference = |name: &str| image::load_from_memory(&fixture(&format!("formats/{name}"))).unwrap().to_rgb8();
    let (colour, grey, black) = (reference("rgb.png"), reference("grey.png"), reference("bw.png"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let wanted = match name.split(['-', '.']).next() {
            Some("rgb") => &colour,
            Some("grey") => &grey,
            Some("bw") => &black,
            _ => continue,
        };
        let (_, pages) = read(&format!("formats/{name}"));
        assert_eq!((pages[0].width, pages[0].height), wanted.dimensions(), "{name}");
        assert!(!pages[0].truncated, "{name}");
        let difference: u64 = pages[0].rgb.iter().zip(wanted.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = difference as f64 / pages[0].rgb.len() as f64;
        assert!(mean < 3.0, "{name} is {mean} levels off");
        seen += 1;
    }
    assert!(seen > 40, "{seen} files");
}

#[test]
fn coarse_fax_rows_are_made_square() {
    let (_, pages) = read("formats/fax-204x98.tif");
    assert_eq!((pages[0].width, pages[0].height), (120, 83));
}

#[test]
fn what_no_decoder_reads_is_told_as_such() {
    let arithmetic = pages(fixture("formats/arithmetic.jpg")).unwrap_err();
    assert!(
        matches!(&arithmetic, DocumentError::Unread { what: "JPEG", detail } if detail.contains("arithmetic")),
        "{arithmetic}"
    );
    let mut deep = fixture("letter-exif6.jpg");
    let frame = deep.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    deep[frame + 4] = 12;
    let deep = pages(deep).unwrap_err();
    assert_eq!(deep.code(), "unsupported-format");
    assert!(deep.to_string().contains("12 bits"), "{deep}");
}

// ---- the evaluation data, where it is there

fn data() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
    if !folder.join("truth.json").exists() {
        println!("skipped: there is no evaluation data beside the repository");
        return None;
    }
    Some(folder.to_owned())
}

#[test]
fn edge_cases_end_as_they_should() {
    let Some(folder) = data() else { return };
    for entry in std::fs::read_dir(folder.join("edge")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = pages(std::fs::read(&path).unwrap());
        let code = result.as_ref().map_or_else(DocumentError::code, |_| "good");
        let expected = match name {
            "bomb_20000x20000.png" => "too-many-pixels",
            "encrypted_test123.pdf" => "encrypted",
            "garbage.png" | "zero.jpg" => "unsupported-format",
            _ => "good",
        };
        assert_eq!(code, expected, "{name}");
        if let Ok((format, pages)) = result {
            assert_eq!(pages[0].truncated, name == "truncated.jpg", "{name}");
            if name == "wrong_ext.png" {
                assert_eq!(format, Format::Jpeg);
            }
            if ["cmyk.jpg", "gray16.png", "alpha_text.png", "webp.webp"].contains(&name) {
                let share = ink(&pages[0], 0.05, 1.0);
                assert!((0.005..0.2).contains(&share), "{name}: {share} of it is ink");
            }
        }
    }
}

#[test]
fn every_tiff_and_pdf_opens_with_all_its_pages() {
    let Some(folder) = data() else { return };
    let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let mut seen = 0;
    for entry in truth.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let many = [".tif", ".tiff", ".pdf"].iter().any(|extension| file.ends_with(extension));
        if !many || file.starts_with("edge/") {
            continue;
        }
        let (_, pages) = pages(std::fs::read(folder.join(file)).unwrap()).unwrap_or_else(|error| panic!("{file}: {error}"));
        if let Some(texts) = entry["pages"].as_array() {
            assert_eq!(pages.len(), texts.len(), "{file}");
        }
        assert!(pages.iter().all(|page| !page.truncated && ink(page, 0.0, 1.0) > 0.001), "{file}");
        seen += 1;
    }
    println!("{seen} files");
}
