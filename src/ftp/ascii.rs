//! `TYPE A`: lines end in CRLF on the wire and in LF on the disk, as RFC 959 has it.
//!
//! Only for a client that has said so, and only for what is text by its content: many a scanner says
//! `TYPE A` and sends a JPEG, which would be spoilt. What begins like a document, or holds a byte that no
//! text has, goes through as it is. Pure, but for [`Received`], which reads.

use crate::document;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How much of the beginning is looked at.
pub(super) const HEAD: usize = 4096;

/// Whether what begins like this is text. No format that is read here is, and neither is anything with a
/// control character beside those that text is laid out with (and DOS's end of a file).
pub(super) fn is_text(head: &[u8]) -> bool {
    let is_laid_out = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1a);
    head.iter().all(is_laid_out) && document::sniff(head).is_none()
}

/// From the disk to the wire: LF becomes CRLF, and CRLF stays what it is.
#[derive(Debug, Default)]
pub(super) struct ToWire {
    after_cr: bool,
}

impl ToWire {
    pub fn convert(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if byte == b'\n' && !self.after_cr {
                out.push(b'\r');
            }
            out.push(byte);
            self.after_cr = byte == b'\r';
        }
    }
}

/// From the wire to the disk: CRLF becomes LF, and a CR alone stays.
#[derive(Debug, Default)]
struct FromWire {
    /// A CR came last, and what it was is not yet known.
    after_cr: bool,
}

impl FromWire {
    fn convert(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if std::mem::take(&mut self.after_cr) && byte != b'\n' {
                out.push(b'\r');
            }
            match byte {
                b'\r' => self.after_cr = true,
                _ => out.push(byte),
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            out.push(b'\r');
        }
    }
}

/// An upload in `TYPE A`, as it is to be kept.
#[derive(Debug)]
pub(super) struct Received<R> {
    input: R,
    kind: Kind,
    out: Vec<u8>,
    /// How much of `out` has been read.
    read: usize,
    ended: bool,
    /// What ended it otherwise; told when everything that came before has been read, since there is an end
    /// that some accounts' devices are known by (`tls-eof`).
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum Kind {
    /// The beginning, as far as it is there.
    Unknown(Vec<u8>),
    Text(FromWire),
    Verbatim,
}

impl<R> Received<R> {
    pub fn new(input: R) -> Self {
        Received { input, kind: Kind::Unknown(Vec::new()), out: Vec::new(), read: 0, ended: false, failed: None }
    }

    /// Takes in what came next; nothing is the end.
    fn take(&mut self, bytes: &[u8]) {
        self.ended = bytes.is_empty();
        (self.read, self.out) = (0, Vec::with_capacity(bytes.len()));
        if let Kind::Unknown(head) = &mut self.kind {
            head.extend_from_slice(bytes);
            if head.len() < HEAD && !self.ended {
                return;
            }
            let head = std::mem::take(head);
            if is_text(&head) {
                let mut text = FromWire::default();
                text.convert(&head, &mut self.out);
                self.kind = Kind::Text(text);
            } else {
                self.out = head;
                self.kind = Kind::Verbatim;
            }
        } else if let Kind::Text(text) = &mut self.kind {
            text.convert(bytes, &mut self.out);
        }
        if let (Kind::Text(text), true) = (&mut self.kind, self.ended) {
            text.end(&mut self.out);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Received<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let left = &this.out[this.read..];
            if !left.is_empty() {
                let count = left.len().min(buffer.remaining());
                buffer.put_slice(&left[..count]);
                this.read += count;
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(this.failed.take().map_or(Ok(()), Err));
            }
            if matches!(this.kind, Kind::Verbatim) {
                return Pin::new(&mut this.input).poll_read(context, buffer);
            }
            let mut chunk = [0; HEAD];
            let mut chunk = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut this.input).poll_read(context, &mut chunk)) {
                Ok(()) => this.take(chunk.filled()),
                Err(error) => {
                    this.failed = Some(error);
                    this.take(&[]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What is kept of an upload that comes in these pieces, one packet each.
    async fn kept(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let mut received = Received::new(reader);
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        for piece in pieces {
            writer.write_all(piece).await.unwrap();
            // As far as something can be told from it already.
            while let Ok(Ok(read)) = tokio::time::timeout(std::time::Duration::ZERO, received.read(&mut buffer)).await {
                all.extend_from_slice(&buffer[..read]);
            }
        }
        drop(writer);
        received.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn text_is_kept_with_the_disks_line_ends() {
        assert_eq!(kept(&[b"one\r\ntwo\r\n"]).await, b"one\ntwo\n");
        assert_eq!(kept(&[b"one\r", b"\ntwo\r", b"three", b"\r"]).await, b"one\ntwo\rthree\r");
        assert_eq!(kept(&[b"a\r\r\nb\nc"]).await, b"a\r\nb\nc");
        assert_eq!(kept(&[b""]).await, b"");
        assert_eq!(kept(&["Grüße\r\n".as_bytes(), b"caf\xe9\r\n"]).await, [&b"Gr\xc3\xbc\xc3\x9fe\ncaf\xe9\n"[..]].concat());
        let long = b"line\r\n".repeat(5000);
        for cut in [1, 5, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD] {
            assert_eq!(kept(&[&long[..cut], &long[cut..]]).await, b"line\n".repeat(5000), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_told_first() {
        struct Cut(&'static [u8]);
        impl AsyncRead for Cut {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                if self.0.is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                buffer.put_slice(std::mem::take(&mut self.0));
                Poll::Ready(Ok(()))
            }
        }
        let mut all = Vec::new();
        let error = Received::new(Cut(b"one\r\ntwo\r")).read_to_end(&mut all).await.unwrap_err();
        assert_eq!((all.as_slice(), error.kind()), (&b"one\ntwo\r"[..], io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn documents_are_kept_as_they_come() {
        let long = [b"\xff\xd8\xff\xe0\r\n\x00\r\n".as_slice(), &b"\r\nmore\r\n".repeat(2000)].concat();
        for bytes in [
            &b"%PDF-1.4\r\n1 0 obj\r\n"[..],
            b"\xff\xd8\r\n\x00\r",
            b"P5\r\n8 8\r\n",
            b"\x1b%-12345X\r\n",
            b"PK\x03\x04\r\n",
            &long,
        ] {
            assert_eq!(kept(&[bytes]).await, bytes);
            assert_eq!(kept(&[&bytes[..1], &bytes[1..]]).await, bytes);
        }
    }

    #[test]
    fn text_is_sent_with_the_wires_line_ends() {
        let sent = |pieces: &[&[u8]]| {
            let (mut wire, mut out) = (ToWire::default(), Vec::new());
            pieces.iter().for_each(|piece| wire.convert(piece, &mut out));
            out
        };
        assert_eq!(sent(&[b"one\ntwo\n"]), b"one\r\ntwo\r\n");
        assert_eq!(sent(&[b"one\r", b"\n", b"\n"]), b"one\r\n\r\n");
        assert_eq!(sent(&[b"\r\r\n\rx"]), b"\r\r\n\rx");
    }
}
