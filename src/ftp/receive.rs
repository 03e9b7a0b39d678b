//! The bytes of one upload, from the data connection into a [`Staging`] file.
//!
//! Two buffers take turns: while a blocking thread hashes and writes one, the other fills from the
//! network. No thread is held while a slow client is waited for, so 500 slow clients cost 500 tasks
//! and no more. Whatever goes wrong, the staging file is dropped and nothing is left.

use super::session::Control;
use crate::account::TlsEof;
use crate::intake::{IntakeError, Room};
use crate::spool::{SpoolError, Staged, Staging};
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

/// What is read before it is handed to the disk; an upload holds at most two of these.
const BUFFER: usize = 256 * 1024;

/// Whoever sends fewer bytes than this in the time that is a stall without any holds a place for nothing.
const TRICKLE: usize = 4096;

/// How long the data connection may still take to end after the control connection has: the end of
/// the data was sent first, but a lost packet may let it come in second. Bytes that have arrived by
/// then are read however long the disk takes.
const AFTER_CONTROL: Duration = Duration::from_secs(1);

/// Why an upload did not come in whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// Too large, or no room for it.
    #[error(transparent)]
    Room(IntakeError),
    #[error("no byte came for {0:?}")]
    Stalled(Duration),
    #[error("fewer than {TRICKLE} bytes came in {0:?}")]
    Trickled(Duration),
    #[error("the control connection was lost before the end of the data")]
    ControlLost,
    #[error("the data connection broke")]
    Broken(#[source] io::Error),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Reads to the clean end of `input`, and makes the bytes durable, still hidden. `begin` finds a place
/// for them and says how many may come; while it does, the first of them are read already, but where
/// it refuses, nothing more is waited for. A transfer without a byte for `stall`, or with next to none, is broken.
/// Answers the room that the bytes have, too.
pub(super) async fn receive<R, B, E>(
    input: R,
    begin: B,
    control: &Control,
    stall: Duration,
    eof: TlsEof,
) -> Result<(Staged, Room), E>
where
    R: AsyncRead + Unpin,
    B: Future<Output = Result<(Staging, Room), E>>,
    E: From<ReceiveError>,
{
    let mut input = Input { input, eof };
    let mut control_lost = pin!(async {
        control.lost().await;
        tokio::time::sleep(AFTER_CONTROL).await;
    });
    let mut begin = pin!(begin);
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut begun = None;
    let mut ended = {
        let mut first = pin!(fill(&mut input, &mut buffer, control_lost.as_mut(), stall));
        loop {
            tokio::select! {
                place = &mut begin, if begun.is_none() => begun = Some(place?),
                ended = &mut first => break ended?,
            }
        }
    };
    let (staging, mut room) = match begun {
        Some(place) => place,
        None => begin.await?,
    };
    let mut writer = Writer::new(staging);
    let mut received: u64 = 0;
    loop {
        received += buffer.len() as u64;
        room.grow_to(received).map_err(ReceiveError::Room)?;
        if ended {
            return Ok((writer.finish(buffer).await?, room));
        }
        buffer = writer.write(buffer).await?;
        ended = fill(&mut input, &mut buffer, control_lost.as_mut(), stall).await?;
    }
}

/// A data connection, and what may end it.
struct Input<R> {
    input: R,
    eof: TlsEof,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// More bytes behind those in `buffer`; 0 at the clean end. rustls tells a connection that was closed
    /// without close_notify, between two records, by `UnexpectedEof`; a plain connection and a reset never do.
    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self.input.read_buf(buffer).await {
            Err(error) if self.eof == TlsEof::Lenient && error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

/// Fills the buffer; true at the input's clean end.
async fn fill<R, L>(
    input: &mut Input<R>,
    buffer: &mut Vec<u8>,
    mut control_lost: Pin<&mut L>,
    stall: Duration,
) -> Result<bool, ReceiveError>
where
    R: AsyncRead + Unpin,
    L: Future<Output = ()>,
{
    let (mut since, mut then) = (Instant::now(), buffer.len());
    while buffer.len() < BUFFER {
        if since.elapsed() >= stall {
            if buffer.len() - then < TRICKLE {
                return Err(ReceiveError::Trickled(stall));
            }
            (since, then) = (Instant::now(), buffer.len());
        }
        tokio::select! {
            // What has arrived counts, even when the control connection is gone.
            biased;
            read = input.read(buffer) => match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) => return Err(ReceiveError::Broken(error)),
            },
            () = control_lost.as_mut() => return Err(ReceiveError::ControlLost),
            () = tokio::time::sleep(stall) => return Err(ReceiveError::Stalled(stall)),
        }
    }
    Ok(false)
}

/// A staging file, here or on a blocking thread.
struct Writer {
    state: Option<State>,
}

enum State {
    Idle(Staging),
    Busy(JoinHandle<io::Result<(Staging, Vec<u8>)>>),
}

impl Writer {
    fn new(staging: Staging) -> Self {
        Writer { state: Some(State::Idle(staging)) }
    }

    /// The staging file when the write under way is done, and that write's buffer.
    async fn settled(&mut self) -> Result<(Staging, Option<Vec<u8>>), ReceiveError> {
        match self.state.take().expect("a writer is given up after an error") {
            State::Idle(staging) => Ok((staging, None)),
            State::Busy(write) => {
                let (staging, buffer) = joined(write.await)?.map_err(disk)?;
                Ok((staging, Some(buffer)))
            }
        }
    }

    /// Begins to write `full`; answers an empty buffer to fill meanwhile.
    async fn write(&mut self, full: Vec<u8>) -> Result<Vec<u8>, ReceiveError> {
        let (mut staging, spare) = self.settled().await?;
        self.state = Some(State::Busy(tokio::task::spawn_blocking(move || {
            staging.write_all(&full)?;
            Ok((staging, full))
        })));
        let mut spare = spare.unwrap_or_else(|| Vec::with_capacity(BUFFER));
        spare.clear();
        Ok(spare)
    }

    async fn finish(mut self, rest: Vec<u8>) -> Result<Staged, ReceiveError> {
        let (mut staging, _) = self.settled().await?;
        let finished = tokio::task::spawn_blocking(move || {
            staging.write_all(&rest).map_err(disk)?;
            Ok(staging.finish()?)
        });
        joined(finished.await)?
    }
}

impl Drop for Writer {
    /// Removing a large file can take a while: not on an async thread.
    fn drop(&mut self) {
        if let (Some(State::Idle(staging)), Ok(runtime)) = (self.state.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(staging)));
        }
    }
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, ReceiveError> {
    result.map_err(|error| disk(io::Error::other(error)))
}

fn disk(error: io::Error) -> ReceiveError {
    let path = PathBuf::from("the spool");
    ReceiveError::Spool(if error.kind() == io::ErrorKind::StorageFull {
        SpoolError::NoSpace { path }
    } else {
        SpoolError::Io { path, doing: "written", source: error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::io::AsyncWriteExt;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn filled<L: Future<Output = ()>>(
        input: &[u8],
        open: bool,
        lost: L,
        stall: Duration,
    ) -> Result<(bool, usize), ReceiveError> {
        let (mut writer, mut reader) = tokio::io::duplex(2 * BUFFER);
        writer.write_all(input).await.unwrap();
        let _held = open.then_some(writer);
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut input = Input { input: &mut reader, eof: TlsEof::Strict };
        let ended = fill(&mut input, &mut buffer, pin!(lost), stall).await?;
        Ok((ended, buffer.len()))
    }

    /// Gives its bytes, then its error.
    struct Failing(&'static [u8], io::ErrorKind);

    impl AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let bytes = std::mem::take(&mut self.0);
            buffer.put_slice(bytes);
            std::task::Poll::Ready(if bytes.is_empty() { Err(self.1.into()) } else { Ok(()) })
        }
    }

    #[tokio::test]
    async fn a_missing_goodbye_ends_a_lenient_upload_and_nothing_else_does() {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
        for (eof, kind, taken) in [
            (TlsEof::Lenient, UnexpectedEof, true),
            (TlsEof::Lenient, ConnectionReset, false),
            (TlsEof::Lenient, ConnectionAborted, false),
            (TlsEof::Strict, UnexpectedEof, false),
        ] {
            let mut input = Input { input: Failing(b"page", kind), eof };
            let mut buffer = Vec::with_capacity(BUFFER);
            let ended = fill(&mut input, &mut buffer, pin!(pending()), PATIENCE).await;
            assert_eq!(ended.is_ok_and(|ended| ended), taken, "{eof:?} {kind}");
            assert_eq!(buffer, b"page");
        }
    }

    #[tokio::test]
    async fn a_clean_end_ends_a_buffer_and_so_does_its_size() {
        assert_eq!(filled(b"page", false, pending(), PATIENCE).await.unwrap(), (true, 4));
        assert_eq!(filled(b"", false, pending(), PATIENCE).await.unwrap(), (true, 0));
        let (ended, length) = filled(&vec![7; BUFFER + 100], true, pending(), PATIENCE).await.unwrap();
        assert!(!ended && length == BUFFER, "{ended} {length}");
    }

    #[tokio::test]
    async fn silence_is_a_stall() {
        const SHORT: Duration = Duration::from_millis(20);
        assert!(matches!(filled(b"half a p", true, pending(), SHORT).await, Err(ReceiveError::Stalled(SHORT))));
    }

    #[tokio::test]
    async fn a_lost_control_connection_ends_an_open_upload_but_not_an_ended_one() {
        assert!(matches!(filled(b"half a p", true, ready(()), PATIENCE).await, Err(ReceiveError::ControlLost)));
        assert_eq!(filled(b"whole", false, ready(()), PATIENCE).await.unwrap(), (true, 5));
    }
}
