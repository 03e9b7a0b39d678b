"""Reads what Inkport wrote with other people's readers and prints what is in it as JSON: check.py KIND FILE."""

import csv
import json
import os
import sys

kind, path = sys.argv[1:3]


def hocr():
    from lxml import etree

    tree = etree.parse(path)
    html = "{http://www.w3.org/1999/xhtml}"
    pages = []
    for page in tree.iter(html + "div"):
        if page.get("class") != "ocr_page":
            continue
        words = []
        for span in page.iter(html + "span"):
            if span.get("class") == "ocrx_word":
                properties = dict(part.strip().split(" ", 1) for part in span.get("title").split(";"))
                words.append([span.text, [int(value) for value in properties["bbox"].split()]])
        pages.append(words)
    return pages


def alto():
    from lxml import etree

    tree = etree.parse(path)
    schemas = [os.path.join(os.path.dirname(__file__), "alto-part.xsd")]
    if os.environ.get("INKPORT_ALTO_XSD"):
        schemas.append(os.environ["INKPORT_ALTO_XSD"])
    for name in schemas:
        schema = etree.XMLSchema(etree.parse(name))
        if not schema.validate(tree):
            sys.exit(f"{name}: {schema.error_log}")
    space = "{http://www.loc.gov/standards/alto/ns-v4#}"
    pages = []
    for page in tree.iter(space + "Page"):
        words = []
        for string in page.iter(space + "String"):
            left, top, width, height = (int(string.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
            if string.get("CONTENT"):
                words.append([string.get("CONTENT"), [left, top, left + width, top + height]])
        pages.append(words)
    return pages


def markdown():
    from markdown_it import MarkdownIt

    with open(path, encoding="utf-8", newline="") as file:
        tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(file.read())
    pages, words = [], []
    for token in tokens:
        if token.type == "hr":
            pages.append(words)
            words = []
        elif token.type == "inline":
            for child in token.children:
                if child.type not in ("text", "hardbreak"):
                    sys.exit(f"markup in the text: {child}")
                words.extend(child.content.split())
        elif token.type == "html_block":
            if not token.content.startswith("<!-- inkport job "):
                sys.exit(f"HTML in the text: {token.content}")
        elif token.type not in ("paragraph_open", "paragraph_close"):
            sys.exit(f"markup in the text: {token}")
    return pages + [words]


def rows(encoding="utf-8-sig"):
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.reader(file, strict=True))


print(json.dumps({"hocr": hocr, "alto": alto, "markdown": markdown, "csv": rows}[kind]()))
