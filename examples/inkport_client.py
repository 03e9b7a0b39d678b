#!/usr/bin/env python3
"""A small client for Inkport's HTTP side: signs (HMAC v2), uploads, polls, fetches. Standard library only.

    inkport key add front-desk --kind hmac          # prints {"id": …, "secret": …}
    export INKPORT_KEY_ID=key_… INKPORT_KEY_SECRET=ink_…
    python3 inkport_client.py --url http://127.0.0.1:8080 read scan.jpg
    python3 inkport_client.py vectors vectors.json  # does this client sign as the vectors say?
"""
import argparse
import datetime
import hashlib
import hmac
import http.client
import json
import os
import secrets
import sys
import time
import urllib.parse


def message_v2(key_id, timestamp, nonce, method, host, path, query, body_sha256):
    """What a signature of version 2 covers. `path` and `query` exactly as they travel."""
    query = "&".join(sorted(query.split("&"), key=lambda part: part.encode()))
    return "\n".join(["INKPORT-HMAC-SHA256", key_id, timestamp, nonce, method, host.lower(), path, query, body_sha256])


def sign_v2(secret, message):
    return "v2=" + hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def sign_v1(secret, timestamp, path):
    """For those who have nothing else: covers neither method nor query nor body."""
    return hmac.new(secret.encode(), (timestamp + path).encode(), hashlib.sha256).hexdigest()


class Refused(Exception):
    """The daemon's answer was no: `status`, `detail`, and in how many seconds to come again, if at all."""

    def __init__(self, status, detail, retry_after=None):
        super().__init__(f"{status}: {detail}")
        self.status, self.detail, self.retry_after = status, detail, retry_after


class Inkport:
    def __init__(self, url, key_id, secret, timeout=60):
        self.url, self.key_id, self.secret, self.timeout = urllib.parse.urlsplit(url), key_id, secret, timeout

    def request(self, method, target, body=b"", headers=None):
        """One signed request; `target` is a path with its query. Answers status, headers and body."""
        path, _, query = target.partition("?")
        timestamp = datetime.datetime.now(datetime.timezone.utc).isoformat()
        nonce = secrets.token_hex(16)
        body_sha256 = hashlib.sha256(body).hexdigest()
        host = self.url.netloc
        message = message_v2(self.key_id, timestamp, nonce, method, host, path, query, body_sha256)
        signed = {
            "Host": host,
            "X-API-KEY": self.key_id,
            "X-TIMESTAMP": timestamp,
            "X-NONCE": nonce,
            "X-CONTENT-SHA256": body_sha256,
            "X-SIGNATURE": sign_v2(self.secret, message),
        }
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=self.timeout)
        try:
            connection.request(method, target, body=body or None, headers={**signed, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            try:
                detail = json.loads(content)["detail"]
            except (ValueError, KeyError, TypeError):
                detail = content[:200].decode(errors="replace")
            raise Refused(answer.status, detail, answer.headers.get("Retry-After"))
        return answer.status, answer.headers, content

    def upload(self, name, content):
        """Hands a document in; answers the job's id once it is durable."""
        boundary = secrets.token_hex(16)
        name = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n"
        ).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Prefer": "respond-async"}
        _, _, answer = self.request("POST", "/api/v1/ocr", body, headers)
        return json.loads(answer)["job"]

    def job(self, job):
        return json.loads(self.request("GET", f"/api/v1/jobs/{job}")[2])

    def wait(self, job, seconds=300, every=1.0):
        """Polls until the job has ended, and answers it."""
        until = time.monotonic() + seconds
        while True:
            found = self.job(job)
            if found["state"] in ("done", "rejected", "dead"):
                return found
            if time.monotonic() > until:
                raise TimeoutError(f"job {job} is still {found['state']} after {seconds} s")
            time.sleep(every)

    def sidecar(self, job, suffix="txt"):
        return self.request("GET", f"/api/v1/jobs/{job}/sidecars/{suffix}")[2]


def check_vectors(path):
    """The number of vectors that this client signs otherwise."""
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    wrong = 0
    for vector in vectors["v1"]:
        if sign_v1(vector["secret"], vector["timestamp"], vector["path"]) != vector["signature"]:
            print(f"v1, {vector['name']}: signed otherwise", file=sys.stderr)
            wrong += 1
    for vector in vectors["v2"]:
        body_sha256 = hashlib.sha256(bytes.fromhex(vector["body_hex"])).hexdigest()
        names = ("id", "timestamp", "nonce", "method", "host", "path", "query")
        message = message_v2(*(vector[name] for name in names), body_sha256)
        if (body_sha256, message, sign_v2(vector["secret"], message)) != (
            vector["body_sha256"], vector["message"], vector["signature"]):
            print(f"v2, {vector['name']}: signed otherwise", file=sys.stderr)
            wrong += 1
    print(f"{len(vectors['v1']) + len(vectors['v2'])} vectors, {wrong} signed otherwise")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Uploads to Inkport and fetches what was read.")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    commands = parser.add_subparsers(dest="command", required=True)
    read = commands.add_parser("read", help="upload files, wait, print their text")
    read.add_argument("files", nargs="+")
    read.add_argument("--suffix", default="txt", help="which sidecar to print")
    commands.add_parser("usage", help="what the account has used of its day")
    vectors = commands.add_parser("vectors", help="check this client against the published vectors")
    vectors.add_argument("file")
    arguments = parser.parse_args()
    if arguments.command == "vectors":
        return 1 if check_vectors(arguments.file) else 0
    try:
        client = Inkport(arguments.url, os.environ["INKPORT_KEY_ID"], os.environ["INKPORT_KEY_SECRET"])
    except KeyError as missing:
        print(f"{missing.args[0]} is not set: `inkport key add ACCOUNT --kind hmac` prints both", file=sys.stderr)
        return 2
    try:
        if arguments.command == "usage":
            print(json.dumps(json.loads(client.request("GET", "/api/v1/usage")[2]), indent=2))
            return 0
        failed = 0
        for path in arguments.files:
            with open(path, "rb") as file:
                job = client.upload(os.path.basename(path), file.read())
            ended = client.wait(job)
            if ended["state"] == "done":
                sys.stdout.buffer.write(client.sidecar(job, arguments.suffix))
            else:
                print(f"{path}: {ended['state']}: {ended['error']}", file=sys.stderr)
                failed = 1
        return failed
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
