//! A client that speaks HTTP/1.1 by hand, so that it can misbehave; every wait has a bound.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const BOUNDARY: &str = "inkport-test-boundary";

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.text()))
    }

    /// An answer with this status.
    pub fn must(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// An error as RFC 9457 has it; its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let json = self.json();
        assert_eq!(json["status"], status);
        assert!(!json["title"].as_str().unwrap().is_empty());
        json["detail"].as_str().unwrap().to_owned()
    }
}

pub struct Client {
    pub address: SocketAddr,
    pub key: Option<String>,
}

impl Client {
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"")
    }

    pub fn post_json(&self, path: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Answer {
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/json"));
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// A form: fields, and the file where there is one (its name, its bytes).
    pub fn post_form(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
        file: Option<(&str, &[u8])>,
    ) -> Answer {
        let mut headers = headers.to_vec();
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        headers.push(("Content-Type", &kind));
        self.send("POST", path, &headers, &form(fields, file))
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.open(method, path, headers, Some(body.len()));
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(body);
        answer(&mut stream, method == "HEAD")
    }

    /// A connection with the request's head sent.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(key) = &self.key {
            head.push_str(&format!("X-API-Key: {key}\r\n"));
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            head.push_str("Connection: close\r\n");
        }
        if let Some(length) = length.filter(|length| *length > 0 || method == "POST") {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }
}

pub fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    if let Some((name, bytes)) = file {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend(head.bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

/// The head of an answer, and what came of the body with it.
pub fn head(stream: &mut TcpStream) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let text = String::from_utf8(bytes).unwrap();
            let mut lines = text.trim_end().split("\r\n");
            let status = lines.next().unwrap()[9..12].parse().unwrap();
            let headers = lines.map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            });
            return (status, headers.collect(), rest);
        }
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the connection ended before an answer: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend(&buffer[..read]);
    }
}

pub fn answer(stream: &mut TcpStream, bodiless: bool) -> Answer {
    let (mut status, mut headers, mut body) = head(stream);
    while status == 100 {
        assert!(body.is_empty());
        (status, headers, body) = head(stream);
    }
    if !bodiless {
        // It may be reset once everything was said.
        let _ = stream.read_to_end(&mut body);
    }
    let mut answer = Answer { status, headers, body };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunked(&answer.body);
    }
    answer
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap().trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole.extend(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    whole
}
