//! `examples/vectors.json`: what clients check themselves against. Made by a test, so that it is what the
//! daemon checks; `INKPORT_WRITE_VECTORS=1 cargo test vectors` writes it anew.

use super::sign::{self, Covered, Signature};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

const SECRET: &str = "ink_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0B5Nqg";
const OTHER: &str = "ink_gfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA987654321006u3p7";
const ID: &str = "key_01JZT0Q8000000000000000000";
const AT: &str = "2026-07-10T00:00:00Z";

fn v1(name: &str, secret: &str, timestamp: &str, path: &str) -> Value {
    assert!(sign::timestamp(timestamp).is_some(), "{name}");
    let signature = sign::to_hex(&sign::v1(secret.as_bytes(), timestamp, path));
    json!({ "name": name, "secret": secret, "timestamp": timestamp, "path": path, "signature": signature })
}

struct V2<'a> {
    name: &'a str,
    secret: &'a str,
    timestamp: &'a str,
    nonce: &'a str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
}

const PLAIN: V2<'static> = V2 {
    name: "a plain upload",
    secret: SECRET,
    timestamp: AT,
    nonce: "0123456789abcdef0123456789abcdef",
    method: "POST",
    host: "127.0.0.1:8080",
    path: "/api/v1/ocr",
    query: "",
    body: b"{\"image\":\"\"}",
};

impl V2<'_> {
    fn vector(&self) -> Value {
        let body_sha256 = sign::to_hex(&Sha256::digest(self.body).into());
        let covered = Covered {
            id: ID,
            timestamp: self.timestamp,
            nonce: self.nonce,
            method: self.method,
            host: self.host,
            path: self.path,
            query: self.query,
            body_sha256: &body_sha256,
        };
        assert!(sign::timestamp(self.timestamp).is_some() && sign::is_nonce(self.nonce), "{}", self.name);
        let signature = format!("v2={}", sign::to_hex(&sign::v2(self.secret.as_bytes(), &covered)));
        let parsed = Signature::parse(&signature).unwrap();
        assert!(parsed.is_made_by(&[self.secret.as_bytes().to_vec()], &covered));
        json!({
            "name": self.name, "secret": self.secret, "id": ID, "timestamp": self.timestamp, "nonce": self.nonce,
            "method": self.method, "host": self.host, "path": self.path, "query": self.query,
            "body_hex": self.body.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "body_sha256": body_sha256, "message": covered.message(), "signature": signature,
        })
    }
}

fn vectors() -> Value {
    let all: Vec<u8> = (0..=255).collect();
    let v2 = [
        V2 { ..PLAIN },
        V2 { name: "no body", method: "GET", path: "/api/v1/jobs", body: b"", ..PLAIN },
        V2 {
            name: "a query is sorted by its parts' bytes",
            method: "GET",
            query: "limit=10&after=1&Limit=2&limit=1",
            body: b"",
            ..PLAIN
        },
        V2 { name: "a query stays as it travels", query: "name=a%20b&name=a+b&x=%C3%A9&empty=&flag&&", ..PLAIN },
        V2 { name: "a path stays as it travels", path: "/api/v1/jobs/%7Ex/../sidecars/txt", ..PLAIN },
        V2 { name: "a host in capitals, without a port", host: "Scan.Example.COM", ..PLAIN },
        V2 { name: "IPv6", host: "[::1]:8080", ..PLAIN },
        V2 { name: "a fraction and an offset of zero", timestamp: "2026-07-10T00:00:00.123456+00:00", ..PLAIN },
        V2 { name: "the shortest nonce", nonce: "!~0123456789abcd", ..PLAIN },
        V2 { name: "the longest nonce", nonce: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde=", ..PLAIN },
        V2 { name: "every byte there is", body: &all, ..PLAIN },
        V2 { name: "another secret", secret: OTHER, ..PLAIN },
        V2 { name: "DELETE", method: "DELETE", path: "/d/token", body: b"", ..PLAIN },
    ];
    json!({
        "about": "Signatures as Inkport checks them. HMAC-SHA256; the key is the secret's text, ink_ and all. v1 signs timestamp and path, \
                  joined. v2 signs \"message\": the lines INKPORT-HMAC-SHA256, id, timestamp, nonce, method, host in small letters, path, \
                  the query's parts sorted by bytes, body_sha256; joined by \\n. The secrets here are nobody's.",
        "v1": [
            v1("a plain request", SECRET, AT, "/api/v1/ocr"),
            v1("a fraction", SECRET, "2026-07-10T00:00:00.5Z", "/prediction/ftp_upload_and_predict/"),
            v1("an offset of zero", SECRET, "2026-07-10T00:00:00.123456+00:00", "/prediction/ftp_upload_and_predict/"),
            v1("another secret", OTHER, AT, "/api/v1/ocr"),
            v1("a path stays as it travels", SECRET, AT, "/api/v1/jobs/%7Ex"),
        ],
        "v2": v2.iter().map(V2::vector).collect::<Vec<_>>(),
    })
}

#[test]
fn the_published_vectors_are_what_the_daemon_checks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/vectors.json");
    let ours = vectors();
    if std::env::var_os("INKPORT_WRITE_VECTORS").is_some() {
        std::fs::write(&path, format!("{ours:#}\n")).unwrap();
    }
    let published: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(published, ours);
    for secret in [SECRET, OTHER] {
        assert!(super::Secret::parse(secret).is_some(), "{secret}");
    }
}
