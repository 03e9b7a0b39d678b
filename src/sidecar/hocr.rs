//! hOCR 1.2, as XHTML: pages, areas, paragraphs, lines and words with their boxes.
//!
//! Our blocks are `ocr_carea` and `ocr_par` at once. Boxes are whole pixels of the upright page; a line that runs
//! off the horizontal says so by `textangle`.

use super::reading::{PageReading, Reading};
use super::words::{Bounds, Xml, angle, blocks, clean, words};
use std::io::{self, Write};

/// Less than this many degrees is not worth saying.
const LEVEL: f64 = 0.5;

pub(super) fn write(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let name = clean(&reading.file.name);
    write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"UTF-8\"/>\n<title>{}</title>\n\
         <meta name=\"ocr-system\" content=\"inkport {}\"/>\n",
        Xml(&name),
        env!("CARGO_PKG_VERSION"),
    )?;
    if let Some(job) = reading.job {
        writeln!(out, "<meta name=\"inkport-job\" content=\"{job}\"/>")?;
    }
    write!(
        out,
        "<meta name=\"ocr-capabilities\" content=\"ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf\"/>\n\
         <meta name=\"ocr-number-of-pages\" content=\"{}\"/>\n</head>\n<body>\n",
        reading.pages.len(),
    )?;
    for page in &reading.pages {
        write_page(page, &name, out)?;
    }
    writeln!(out, "</body>\n</html>")
}

fn write_page(page: &PageReading, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let number = page.number;
    // In a property a quotation mark ends the name, and many readers part properties at every semicolon.
    let image = name.replace(['"', ';', '\\'], "_");
    writeln!(
        out,
        "<div class=\"ocr_page\" id=\"page_{number}\" title=\"image &quot;{}&quot;; bbox 0 0 {} {}; ppageno {}\">",
        Xml(&image),
        page.width,
        page.height,
        number.saturating_sub(1),
    )?;
    let (mut lines, mut count) = (0, 0);
    for (block, block_lines) in blocks(page).enumerate() {
        let (block, whole) = (block + 1, Bounds::round(block_lines.iter().map(|line| Bounds::of(&line.quad, page))));
        let whole = whole.map(|bounds| property(&bounds)).unwrap_or_default();
        writeln!(out, "<div class=\"ocr_carea\" id=\"block_{number}_{block}\" title=\"{whole}\">")?;
        writeln!(out, "<p class=\"ocr_par\" dir=\"auto\" id=\"par_{number}_{block}\" title=\"{whole}\">")?;
        for line in block_lines {
            lines += 1;
            let turned = angle(&line.quad);
            let turned = if turned.abs() < LEVEL { String::new() } else { format!("; textangle {turned:.2}") };
            let place = property(&Bounds::of(&line.quad, page));
            write!(out, "<span class=\"ocr_line\" id=\"line_{number}_{lines}\" title=\"{place}{turned}\">")?;
            for (at, word) in words(line).iter().enumerate() {
                count += 1;
                if at > 0 {
                    out.write_all(b" ")?;
                }
                write!(
                    out,
                    "<span class=\"ocrx_word\" id=\"word_{number}_{count}\" title=\"{}; x_wconf {:.0}\">{}</span>",
                    property(&Bounds::of(&word.quad, page)),
                    word.confidence * 100.0,
                    Xml(&word.text),
                )?;
            }
            writeln!(out, "</span>")?;
        }
        writeln!(out, "</p>\n</div>")?;
    }
    writeln!(out, "</div>")
}

fn property(bounds: &Bounds) -> String {
    format!("bbox {} {} {} {}", bounds.left, bounds.top, bounds.right, bounds.bottom)
}
