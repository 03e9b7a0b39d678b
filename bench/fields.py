#!/usr/bin/env python3
"""Which part of the missed fields, pairs and codes is reading, and which extraction.

fields.py DATA OUT KINDS: DATA holds truth.json and score.py, OUT what `inkport read` wrote. A value is right as
score.py has it (normalised). A miss is *reading* where the true value does not stand in the text that was read, letters
and digits only, case folded; else *extraction*: the value was there to be found.
"""
import collections
import importlib.util
import json
import os
import sys

data, out, kinds = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
spec = importlib.util.spec_from_file_location("score", os.path.join(data, "score.py"))
score = importlib.util.module_from_spec(spec)
spec.loader.exec_module(score)

table = collections.defaultdict(collections.Counter)
for truth in json.load(open(os.path.join(data, "truth.json"), encoding="utf-8")):
    if truth["kind"] not in kinds or truth["kind"] == "barcode" or not (truth.get("fields") or truth.get("pairs")):
        continue
    found = score.find(out, truth["file"], ".json")
    reading = json.load(open(found, encoding="utf-8")) if found else {}
    text = score.fold(reading.get("text") or "")
    for name, value in (truth.get("fields") or {}).items():
        if name in ("currency", "issuer"):
            continue
        row = table[truth["kind"], name]
        row["all"] += 1
        said = score.val((reading.get("fields") or {}).get(name))
        issuer = truth["fields"].get("issuer")
        right = said and (score.feq(name, value, said) or name == "company" and issuer and score.feq(name, issuer, said))
        if right:
            row["right"] += 1
        elif name == "date":
            row["extraction" if any(day in score.dates(reading.get("text") or "") for day in score.dates(value)[:1]) else "reading"] += 1
        elif name == "total":
            amounts = {score.money(word) for word in (reading.get("text") or "").split()}
            row["extraction" if score.money(value) in amounts else "reading"] += 1
        else:
            row["extraction" if score.fold(value) in text else "reading"] += 1
        row["said"] += bool(said)
    if truth.get("pairs"):
        fold = lambda q, a: (score.fold(str(q)), score.fold(str(a)))
        said = collections.Counter(fold(p["key"], p["value"]) for p in reading.get("pairs") or [])
        true = collections.Counter(fold(p["q"], p["a"]) for p in truth["pairs"])
        row = table[truth["kind"], "pairs"]
        row["said"] += sum(said.values())
        for (question, answer), count in true.items():
            right = min(count, said[question, answer])
            row["all"] += count
            row["right"] += right
            words = [score.fold(word) for pair in truth["pairs"] if fold(pair["q"], pair["a"]) == (question, answer) for word in pair["a"].split()]
            there = question in text and all(word in text for word in words)
            row["extraction" if there else "reading"] += count - right
if table:
    print(f"\n{'what was missed':14} {'field':15} {'all':>4} {'right':>5} {'reading':>8} {'extraction':>10} {'wrong said':>10}")
    for (kind, name), row in sorted(table.items()):
        print(f"{kind:14} {name:15} {row['all']:4d} {row['right']:5d} {row['reading']:8d} {row['extraction']:10d} {row['said'] - row['right']:10d}")
