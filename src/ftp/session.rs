//! One client's connection as the door sees it from outside libunftp: who it is, whether its control
//! connection still stands, and what it is uploading. libunftp owns the sockets and tells nothing, so
//! a second handle of the control socket is kept here: it never reads, it only watches and ends.

use super::lists::Facts;
use crate::account::AccountName;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a door has done and is doing. For the status page.
#[derive(Debug, Default)]
pub struct Stats {
    sessions_open: AtomicUsize,
    sessions_refused: AtomicU64,
    uploads_running: AtomicUsize,
    uploads_total: AtomicU64,
    uploads_broken: AtomicU64,
    bytes_total: AtomicU64,
    logins_failed: AtomicU64,
}

/// [`Stats`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StatsNow {
    pub sessions_open: usize,
    /// Connections turned away because of `max-sessions` or `max-sessions-per-ip`.
    pub sessions_refused: u64,
    pub uploads_running: usize,
    /// Uploads that were accepted.
    pub uploads_total: u64,
    /// Uploads that ended without being accepted, for whatever reason.
    pub uploads_broken: u64,
    /// Bytes of accepted uploads.
    pub bytes_total: u64,
    pub logins_failed: u64,
}

impl Stats {
    #[must_use]
    pub fn now(&self) -> StatsNow {
        StatsNow {
            sessions_open: self.sessions_open.load(Ordering::Relaxed),
            sessions_refused: self.sessions_refused.load(Ordering::Relaxed),
            uploads_running: self.uploads_running.load(Ordering::Acquire),
            uploads_total: self.uploads_total.load(Ordering::Relaxed),
            uploads_broken: self.uploads_broken.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            logins_failed: self.logins_failed.load(Ordering::Relaxed),
        }
    }

    pub(super) fn login_failed(&self) {
        self.logins_failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A second handle of a control connection.
#[derive(Debug)]
pub(super) struct Control {
    socket: TcpStream,
}

impl Control {
    /// The stream for libunftp, and the handle.
    pub fn split(stream: TcpStream) -> io::Result<(TcpStream, Control)> {
        let stream = stream.into_std()?;
        let second = stream.try_clone()?;
        Ok((TcpStream::from_std(stream)?, Control { socket: TcpStream::from_std(second)? }))
    }

    /// Resolves when the client has closed the connection or it broke. Reads nothing: commands that
    /// wait in the socket are libunftp's.
    pub async fn lost(&self) {
        loop {
            match self.socket.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {
                    // Bytes wait, no end yet: forget this readiness, so that the next change wakes us.
                    let _ = self.socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                }
                _ => return,
            }
        }
    }

    /// Ends the connection: what was written still goes out, then both directions are closed.
    pub fn end(&self) {
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub number: u64,
    pub peer: SocketAddr,
    pub control: Control,
    /// What it wants of MLST and MLSD.
    pub facts: Mutex<Facts>,
    /// The lines of the listing that was asked for last, until they are sent.
    pub listing: Mutex<Option<Vec<u8>>>,
    ascii: AtomicBool,
    logged_in: AtomicBool,
    utf8: AtomicBool,
    data_over_tls: AtomicBool,
    uploads: Mutex<Uploads>,
    seat: Mutex<Option<Seat>>,
}

#[derive(Debug)]
struct Uploads {
    running: usize,
    last_end: Option<Instant>,
}

impl Session {
    pub fn new(number: u64, peer: SocketAddr, control: Control) -> Self {
        Session {
            number,
            peer,
            control,
            facts: Mutex::default(),
            listing: Mutex::default(),
            ascii: AtomicBool::new(false),
            logged_in: AtomicBool::new(false),
            utf8: AtomicBool::new(false),
            data_over_tls: AtomicBool::new(false),
            uploads: Mutex::new(Uploads { running: 0, last_end: None }),
            seat: Mutex::default(),
        }
    }

    /// Whoever logs in after somebody else finds nothing of theirs.
    pub fn log_in(&self) {
        if self.logged_in.swap(true, Ordering::Relaxed) {
            self.set_ascii(false);
            *lock(&self.facts) = Facts::default();
        }
    }

    /// Its account has it among its sessions from now on.
    pub fn sit_down(&self, seat: Seat) {
        *lock(&self.seat) = Some(seat);
    }

    /// It counts for no account any more.
    pub fn stand_up(&self) {
        lock(&self.seat).take();
    }

    /// The client has said `TYPE A`.
    pub fn is_ascii(&self) -> bool {
        self.ascii.load(Ordering::Relaxed)
    }

    pub fn set_ascii(&self, ascii: bool) {
        self.ascii.store(ascii, Ordering::Relaxed);
    }

    pub fn is_logged_in(&self) -> bool {
        self.logged_in.load(Ordering::Relaxed)
    }

    /// The client said whether it reads names in UTF-8 (OPTS UTF8).
    pub fn set_utf8(&self, on: bool) {
        self.utf8.store(on, Ordering::Relaxed);
    }

    pub fn is_utf8(&self) -> bool {
        self.utf8.load(Ordering::Relaxed)
    }

    /// Whether data connections are encrypted (PROT P).
    pub fn set_data_over_tls(&self, on: bool) {
        self.data_over_tls.store(on, Ordering::Relaxed);
    }

    pub fn is_data_over_tls(&self) -> bool {
        self.data_over_tls.load(Ordering::Relaxed)
    }

    /// No upload runs, and the last one ended at least `linger` ago, so its reply is on its way.
    pub fn is_quiet(&self, linger: Duration) -> bool {
        let uploads = lock(&self.uploads);
        uploads.running == 0 && uploads.last_end.is_none_or(|end| end.elapsed() >= linger)
    }
}

/// An upload that is being received; counted as broken unless [`UploadGuard::accepted`] is called.
#[derive(Debug)]
pub(super) struct UploadGuard {
    stats: Arc<Stats>,
    session: Arc<Session>,
    accepted: bool,
}

impl UploadGuard {
    pub fn begin(stats: &Arc<Stats>, session: &Arc<Session>) -> Self {
        stats.uploads_running.fetch_add(1, Ordering::AcqRel);
        lock(&session.uploads).running += 1;
        UploadGuard { stats: Arc::clone(stats), session: Arc::clone(session), accepted: false }
    }

    pub fn accepted(mut self, bytes: u64) {
        self.accepted = true;
        self.stats.uploads_total.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        if !self.accepted {
            self.stats.uploads_broken.fetch_add(1, Ordering::Relaxed);
        }
        {
            let mut uploads = lock(&self.session.uploads);
            uploads.running -= 1;
            uploads.last_end = Some(Instant::now());
        }
        self.stats.uploads_running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Who is inside, and how many more may come.
#[derive(Debug)]
pub(super) struct Sessions {
    stats: Arc<Stats>,
    max: usize,
    max_per_peer: usize,
    per_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    Full,
    TooManyFromPeer,
}

impl Sessions {
    pub fn new(stats: Arc<Stats>, max: usize, max_per_peer: usize) -> Self {
        Sessions { stats, max, max_per_peer, per_peer: Mutex::new(HashMap::new()) }
    }

    /// A place for one more session from `peer`, held until it is dropped.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Turned> {
        let peer = peer_key(peer);
        let mut per_peer = lock(&self.per_peer);
        // Counted under the lock, so the sum cannot overshoot.
        let turned = if self.stats.sessions_open.load(Ordering::Relaxed) >= self.max {
            Some(Turned::Full)
        } else if per_peer.get(&peer).is_some_and(|count| *count >= self.max_per_peer) {
            Some(Turned::TooManyFromPeer)
        } else {
            None
        };
        if let Some(turned) = turned {
            self.stats.sessions_refused.fetch_add(1, Ordering::Relaxed);
            return Err(turned);
        }
        *per_peer.entry(peer).or_insert(0) += 1;
        self.stats.sessions_open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { sessions: Arc::clone(self), peer })
    }
}

/// A session's place among [`Sessions`].
#[derive(Debug)]
pub(super) struct Place {
    sessions: Arc<Sessions>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut per_peer = lock(&self.sessions.per_peer);
        if let Some(count) = per_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                per_peer.remove(&self.peer);
            }
        }
        self.sessions.stats.sessions_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many sessions each account has.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<HashMap<AccountName, u32>>,
}

impl Seats {
    /// One more, if there may be; held until it is dropped.
    pub fn take(self: &Arc<Self>, account: &AccountName, most: Option<u32>) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let now = taken.get(account).copied().unwrap_or(0);
        if most.is_some_and(|most| now >= most) {
            return None;
        }
        taken.insert(account.clone(), now + 1);
        Some(Seat { seats: Arc::clone(self), account: account.clone() })
    }
}

/// A session's place among those of its account.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    account: AccountName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.seats.taken);
        if let Some(count) = taken.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, of which any host has 2^64 addresses.
pub(super) fn peer_key(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Counters stay usable after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[test]
    fn places_are_counted_in_all_and_per_peer() {
        let stats = Arc::new(Stats::default());
        let sessions = Arc::new(Sessions::new(Arc::clone(&stats), 3, 2));
        let one: IpAddr = [10, 0, 0, 1].into();
        let first = sessions.admit(one).unwrap();
        let _second = sessions.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(sessions.admit(one).unwrap_err(), Turned::TooManyFromPeer);
        let _third = sessions.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(sessions.admit("2001:db8::2".parse().unwrap()).unwrap_err(), Turned::Full);
        drop(first);
        let _fourth = sessions.admit(one).unwrap();
        let now = stats.now();
        assert_eq!((now.sessions_open, now.sessions_refused), (3, 2));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let key = |text: &str| peer_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2::9"));
        assert_ne!(key("2001:db8:1:2::"), key("2001:db8:1:3::"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[tokio::test]
    async fn a_waiting_command_is_no_loss_but_the_end_is() {
        let (mut client, server) = pair().await;
        let (_server, control) = Control::split(server).unwrap();
        client.write_all(b"NOOP\r\n").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), control.lost()).await.is_err());
        drop(client);
        control.lost().await;
        control.lost().await;
    }

    #[tokio::test]
    async fn ending_lets_the_last_words_through() {
        use tokio::io::AsyncReadExt;
        let (mut client, server) = pair().await;
        let (mut server, control) = Control::split(server).unwrap();
        server.write_all(b"226 stored\r\n").await.unwrap();
        control.end();
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "226 stored\r\n");
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
