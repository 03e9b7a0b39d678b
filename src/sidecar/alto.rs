//! ALTO 4: the layout format of libraries. Pages, blocks, lines and strings with their boxes in pixels of the
//! upright page, and the quads of lines and strings as polygons.

use super::reading::{PageReading, Quad, Reading};
use super::words::{Bounds, Xml, blocks, clean, words};
use std::io::{self, Write};

pub(super) fn write(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <alto xmlns=\"http://www.loc.gov/standards/alto/ns-v4#\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://www.loc.gov/standards/alto/ns-v4# http://www.loc.gov/standards/alto/v4/alto-4-4.xsd\" \
         SCHEMAVERSION=\"4.4\">\n<Description>\n<MeasurementUnit>pixel</MeasurementUnit>\n\
         <sourceImageInformation>\n<fileName>{}</fileName>\n</sourceImageInformation>\n\
         <Processing ID=\"OCR\">\n<processingCategory>contentGeneration</processingCategory>\n\
         <processingDateTime>{}</processingDateTime>\n",
        Xml(&clean(&reading.file.name)),
        reading.finished_at,
    )?;
    if let Some(job) = reading.job {
        writeln!(out, "<processingStepDescription>inkport job {job}</processingStepDescription>")?;
    }
    write!(
        out,
        "<processingStepSettings>{} {}</processingStepSettings>\n\
         <processingSoftware>\n<softwareName>inkport</softwareName>\n<softwareVersion>{}</softwareVersion>\n</processingSoftware>\n\
         </Processing>\n</Description>\n<Layout>\n",
        Xml(&clean(&reading.engine.name)),
        Xml(&clean(&reading.engine.models.join(" "))),
        env!("CARGO_PKG_VERSION"),
    )?;
    for page in &reading.pages {
        write_page(page, out)?;
    }
    writeln!(out, "</Layout>\n</alto>")
}

fn write_page(page: &PageReading, out: &mut dyn Write) -> io::Result<()> {
    let PageReading { number, width, height, .. } = *page;
    writeln!(
        out,
        "<Page ID=\"P{number}\" PHYSICAL_IMG_NR=\"{number}\" WIDTH=\"{width}\" HEIGHT=\"{height}\" PROCESSINGREFS=\"OCR\">\n\
         <PrintSpace HPOS=\"0\" VPOS=\"0\" WIDTH=\"{width}\" HEIGHT=\"{height}\">"
    )?;
    let (mut lines, mut strings) = (0, 0);
    for (block, block_lines) in blocks(page).enumerate() {
        let bounds = |quad: &Quad| Bounds::of(quad, page);
        let Some(whole) = Bounds::round(block_lines.iter().map(|line| bounds(&line.quad))) else { continue };
        writeln!(out, "<TextBlock ID=\"P{number}B{}\" {}>", block + 1, place(&whole))?;
        for line in block_lines {
            lines += 1;
            let found = words(line);
            // A line has a string, the schema says; one of nothing but blanks has an empty one.
            write!(out, "<TextLine ID=\"P{number}L{lines}\" {}>{}", place(&bounds(&line.quad)), polygon(&line.quad, page))?;
            if found.is_empty() {
                strings += 1;
                writeln!(out, "<String ID=\"P{number}S{strings}\" {} CONTENT=\"\"/>", place(&bounds(&line.quad)))?;
            }
            let mut last: Option<Bounds> = None;
            for word in &found {
                strings += 1;
                let own = bounds(&word.quad);
                if let Some(last) = last {
                    let gap = own.left.saturating_sub(last.right);
                    write!(out, "<SP HPOS=\"{}\" VPOS=\"{}\" WIDTH=\"{gap}\"/>", last.right, last.top)?;
                }
                last = Some(own);
                writeln!(
                    out,
                    "<String ID=\"P{number}S{strings}\" {} WC=\"{:.4}\" CONTENT=\"{}\">{}</String>",
                    place(&own),
                    word.confidence,
                    Xml(&word.text),
                    polygon(&word.quad, page),
                )?;
            }
            writeln!(out, "</TextLine>")?;
        }
        writeln!(out, "</TextBlock>")?;
    }
    writeln!(out, "</PrintSpace>\n</Page>")
}

fn place(bounds: &Bounds) -> String {
    format!("HPOS=\"{}\" VPOS=\"{}\" WIDTH=\"{}\" HEIGHT=\"{}\"", bounds.left, bounds.top, bounds.width(), bounds.height())
}

/// The quad, where the box does not say it all.
fn polygon(quad: &Quad, page: &PageReading) -> String {
    let [a, b, c, d] = *quad;
    if a[1] == b[1] && b[0] == c[0] && c[1] == d[1] && d[0] == a[0] {
        return String::new();
    }
    let on = |value: f64, side: u32| value.round().clamp(0.0, f64::from(side));
    let points: Vec<String> =
        quad.iter().map(|corner| format!("{},{}", on(corner[0], page.width), on(corner[1], page.height))).collect();
    format!("<Shape><Polygon POINTS=\"{}\"/></Shape>", points.join(" "))
}
