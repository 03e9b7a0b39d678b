//! Changes of jobs as they happen: server-sent events and WebSocket.

use crate::client::{Client, head};
use crate::{fixture, shared};
use base64::Engine as _;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The next event of a stream: its fields.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    fn open(client: &Client, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = client.open("GET", path, headers, None);
        let (status, headers, rest) = head(&mut stream);
        assert_eq!(status, 200);
        assert!(headers.iter().any(|(name, value)| name == "content-type" && value == "text/event-stream"));
        Events { stream, text: String::from_utf8(rest).unwrap() }
    }

    /// Of kind `job`: id and data.
    fn next(&mut self) -> (String, serde_json::Value) {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
                if field("event:").as_deref() == Some("job") {
                    return (field("id:").unwrap(), serde_json::from_str(&field("data:").unwrap()).unwrap());
                }
                continue;
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).expect("an event");
            assert!(read > 0, "the stream ended");
            // The chunks' frames stand between lines of their own, and no event has such lines.
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            self.text = self.text.replace('\r', "");
        }
    }

    fn until(&mut self, job: &str, state: &str) -> (String, serde_json::Value) {
        loop {
            let (id, event) = self.next();
            if event["job"] == job && event["state"] == state {
                return (id, event);
            }
        }
    }
}

fn upload(client: &Client, name: &str) -> String {
    let answer = client.post_form("/api/v1/ocr", &[("Prefer", "respond-async")], &[], Some((name, &fixture("digital.pdf"))));
    answer.must(202).json()["job"].as_str().unwrap().to_owned()
}

#[test]
fn events_come_in_order_with_links_and_go_on_where_they_broke_off() {
    let shared = shared();
    let mut events = Events::open(&shared.client, "/api/v1/events", &[]);
    let job = upload(&shared.client, "followed.pdf");
    let (queued, _) = events.until(&job, "queued");
    let (done, event) = events.until(&job, "done");
    assert!(queued.parse::<u64>().unwrap() < done.parse::<u64>().unwrap());
    let link = event["link"].as_str().unwrap();
    let nobody = Client { address: shared.daemon.http, key: None };
    let reading = nobody.get(&link[link.find("/d/").unwrap()..]).must(200).json();
    assert_eq!(reading["job"], *job);
    drop(events);
    // What came meanwhile is told first.
    let mut again = Events::open(&shared.client, "/api/v1/events", &[("Last-Event-ID", &queued)]);
    assert_eq!(again.until(&job, "done").0, done);
    let mut by_query = Events::open(&shared.client, &format!("/api/v1/events?last_event_id={queued}"), &[]);
    assert_eq!(by_query.until(&job, "done").0, done);
    shared.client.get_with("/api/v1/events", &[("Last-Event-ID", "x")]).problem(400);
    // Another account's stream has none of it.
    let mut other = Events::open(&shared.stranger, "/api/v1/events", &[("Last-Event-ID", "0")]);
    let theirs = upload(&shared.stranger, "theirs.pdf");
    loop {
        let (_, event) = other.next();
        assert_ne!(event["job"], *job);
        if event["job"] == *theirs {
            break;
        }
    }
}

#[test]
fn a_websocket_says_the_same() {
    let shared = shared();
    let key = base64::engine::general_purpose::STANDARD.encode([7; 16]);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key.as_str()),
    ];
    let mut stream = shared.client.open("GET", "/api/v1/ws", &headers, None);
    let (status, _, mut bytes) = head(&mut stream);
    assert_eq!(status, 101);
    let job = upload(&shared.client, "socket.pdf");
    loop {
        let text = message(&mut stream, &mut bytes);
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        if event["job"] == *job && event["state"] == "done" {
            assert!(event["link"].as_str().unwrap().contains("/d/"));
            break;
        }
    }
    let _ = stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]);
    shared.client.get("/api/v1/ws").problem(426);
}

/// The next text message; a server's frames are not masked.
fn message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> String {
    loop {
        let frame = match bytes[..] {
            [first, length @ 0..126, ..] => Some((first, usize::from(length), 2)),
            [first, 126, high, low, ..] => Some((first, usize::from(high) << 8 | usize::from(low), 4)),
            _ => None,
        };
        if let Some((first, length, start)) = frame
            && bytes.len() >= start + length
        {
            let payload: Vec<u8> = bytes.drain(..start + length).skip(start).collect();
            match first & 0xf {
                1 => return String::from_utf8(payload).unwrap(),
                8 => panic!("the server closed"),
                _ => continue,
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).expect("a message");
        assert!(read > 0, "the socket ended");
        bytes.extend(&buffer[..read]);
    }
}
