//! A mail relay for tests: speaks enough SMTP for a client that behaves, keeps every message it took,
//! and refuses on demand.
#![allow(dead_code)] // shared by several test binaries, none of which uses all of it

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A message as it was handed in.
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, dots unstuffed, CRLF line ends.
    pub data: String,
}

impl Received {
    /// The value of a header, folded lines joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
        let prefix = format!("{}:", name.to_ascii_lowercase());
        head.split("\r\n")
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| line[prefix.len()..].trim().to_owned())
    }
}

/// What to do instead of taking the next message.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Answer RCPT with this line.
    Recipient(&'static str),
    /// Answer the end of DATA with this line.
    Message(&'static str),
    /// Close the connection in the middle of DATA.
    Hangup,
}

#[derive(Default)]
struct State {
    messages: Vec<Received>,
    refusals: VecDeque<Refusal>,
    tries: usize,
}

/// The relay, listening on a free port until the runtime ends.
#[derive(Clone)]
pub struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
}

impl Sink {
    pub async fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let sink = Sink { address: listener.local_addr().expect("bound"), state: Arc::default(), changed: watch::Sender::new(0) };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move {
                    let _ = sink.converse(stream).await;
                });
            }
        });
        sink
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `mail.relay`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The next tries end like this, one each.
    pub fn refuse(&self, refusals: impl IntoIterator<Item = Refusal>) {
        self.state.lock().expect("no test panics in here").refusals.extend(refusals);
    }

    pub fn messages(&self) -> Vec<Received> {
        self.state.lock().expect("no test panics in here").messages.clone()
    }

    /// Messages that were begun, taken or not.
    pub fn tries(&self) -> usize {
        self.state.lock().expect("no test panics in here").tries
    }

    /// Resolves when at least `count` messages were taken.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut changed = self.changed.subscribe();
        changed.wait_for(|taken| *taken >= count).await.expect("the sink holds the sender");
        self.messages()
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let (mut from, mut to) = (String::new(), Vec::new());
        let mut refusal = None;
        write.write_all(b"220 sink ESMTP\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let argument = line.split_once(':').map(|(_, rest)| rest.trim_start()).unwrap_or_default();
            let address = argument.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
            let answer: &str = match verb.as_str() {
                "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "HELO" | "RSET" | "NOOP" => "250 ok",
                "MAIL" => {
                    let mut state = self.state.lock().expect("no test panics in here");
                    state.tries += 1;
                    refusal = state.refusals.pop_front();
                    (from, to) = (address, Vec::new());
                    "250 ok"
                }
                "RCPT" => match refusal {
                    Some(Refusal::Recipient(line)) => line,
                    _ => {
                        to.push(address);
                        "250 ok"
                    }
                },
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await?;
                    let mut data = String::new();
                    while let Some(line) = lines.next_line().await? {
                        if matches!(refusal, Some(Refusal::Hangup)) {
                            return Ok(());
                        }
                        if line == "." {
                            break;
                        }
                        data.push_str(line.strip_prefix('.').unwrap_or(&line));
                        data.push_str("\r\n");
                    }
                    match refusal {
                        Some(Refusal::Message(line)) => line,
                        _ => {
                            let mut state = self.state.lock().expect("no test panics in here");
                            state.messages.push(Received { from: from.clone(), to: to.clone(), data });
                            self.changed.send_replace(state.messages.len());
                            "250 taken"
                        }
                    }
                }
                "QUIT" => {
                    write.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "502 not here",
            };
            write.write_all(answer.as_bytes()).await?;
            write.write_all(b"\r\n").await?;
        }
        Ok(())
    }
}
