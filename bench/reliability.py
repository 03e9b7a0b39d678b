#!/usr/bin/env python3
"""How far confidences can be believed: reliability.py DATA PREDICTIONS

Of the lines and words that were read with about some confidence, how many are right? DATA holds truth.json,
PREDICTIONS a KIND/NAME.json for each of its files. A line is right when its letters and digits stand in the
file's true text, one after the other; spaces, punctuation and case are not looked at, because ground truths
differ in them. Kinds whose truth leaves out part of the page (figures, for one) are not counted.
"""

import json
import os
import sys
import unicodedata

PARTIAL = {"page", "pdf_digital", "pdf_multi", "pdf_scan", "photo_synth", "edge", "invoice_pdf", "barcode"}
BINS = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0]


def fold(text):
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def table(name, read):
    print(f"\n{name:>12}  count   right    mean confidence   (percent)")
    for low, high in zip(BINS, BINS[1:]):
        of = [(c, right) for c, right in read if low <= c < high or (high == 1.0 and c == 1.0)]
        if of:
            right, mean = (100 * sum(x[i] for x in of) / len(of) for i in (1, 0))
            print(f"  {low:.2f}-{high:.2f}  {len(of):6d}  {right:6.1f}  {mean:6.1f}")
    if read:
        error = sum(
            abs(sum(r - c for c, r in read if low <= c < high or (high == 1.0 and c == 1.0)))
            for low, high in zip(BINS, BINS[1:])
        )
        print(f"  expected calibration error {100 * error / len(read):.2f}")


def main(data, predictions):
    lines, words = [], []
    for truth in json.load(open(os.path.join(data, "truth.json"))):
        path = os.path.join(predictions, truth["file"] + ".json")
        if not truth.get("text") or truth["kind"] in PARTIAL or not os.path.exists(path):
            continue
        true = fold(truth["text"])
        for page in json.load(open(path)).get("pages", []):
            for line in page["lines"]:
                # A row of a table is put together of parts: its words are looked for one by one.
                parts = [word for word in line["words"] if fold(word["text"])]
                words += [(word["confidence"], fold(word["text"]) in true) for word in parts]
                if parts:
                    lines.append((line["confidence"], fold(line["text"]) in true))
    table("lines", lines)
    table("words", words)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
