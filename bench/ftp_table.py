#!/usr/bin/env python3
"""Reads the client's JSON lines; prints the medians of each server side by side, and their ratio."""
import json
import statistics
import sys

SCENARIOS = [
    ("big", "one big file, MB/s", "megabytes_per_second"),
    ("small", "small files on one connection, files/s", "files_per_second"),
    ("many", "small files on all connections, files/s", "files_per_second"),
]


def main():
    ours, theirs = sys.argv[1:3]
    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    print(f"{'':42}{ours:>10}{theirs:>10}{'ratio':>8}   lowest and highest of {ours}, {theirs}")
    for scenario, title, unit in SCENARIOS:
        measured = {
            server: sorted(row[unit] for row in rows if row["server"] == server and row["scenario"] == scenario)
            for server in (ours, theirs)
        }
        if not all(measured.values()):
            continue
        middle = {server: statistics.median(values) for server, values in measured.items()}
        spread = ", ".join(f"{values[0]:.0f}-{values[-1]:.0f}" for values in measured.values())
        print(f"{title:42}{middle[ours]:10.0f}{middle[theirs]:10.0f}{middle[ours] / middle[theirs]:8.2f}   {spread}")


if __name__ == "__main__":
    main()
