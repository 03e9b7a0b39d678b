//! Accepting, limiting and draining. One libunftp server is built for each connection.

use super::auth::{Doorkeeper, Gate, User};
use super::commands::{Answers, VERBS};
use super::passive::PassivePorts;
use super::session::{Control, Place, Session, Sessions, Stats, Turned, lock};
use super::site::Site;
use super::storage::Storage;
use super::tls::{Certificates, Require, Tls};
use super::{FtpError, Parts, PassiveHost, Rooms, Settings};
use libunftp::options::{ActivePassiveMode, FtpsRequired};
use libunftp::{Server, ServerBuilder, ServerError};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// From the connection to the login's success; TLS handshakes, typing and the delays of failures included.
const LOGIN_TIME: Duration = Duration::from_secs(120);
/// What the reply to an upload needs to get out once the upload is done.
const REPLY_LINGER: Duration = Duration::from_millis(500);
/// What sessions get to end by themselves once their connection has been ended.
const END_LINGER: Duration = Duration::from_secs(1);
/// Between two tries to accept when file descriptors or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The door, listening but not yet open.
pub struct Ftp {
    listeners: Vec<Listener>,
    address: SocketAddr,
    implicit_address: Option<SocketAddr>,
    hall: Arc<Hall>,
}

/// A port, and how the connections to it begin.
struct Listener {
    socket: TcpListener,
    begins: Begins,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// With the greeting, in plain text.
    Plain,
    /// With a TLS handshake (implicit FTPS).
    Tls,
}

/// What the accept loop and the sessions share.
struct Hall {
    settings: Settings,
    tls: Option<Arc<Tls>>,
    parts: Arc<Parts>,
    gate: Arc<Gate>,
    sessions: Arc<Sessions>,
    passive_ports: PassivePorts,
    numbers: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Session>>>,
}

impl Ftp {
    /// Checks the settings and takes the port. Clients can connect from here on; they are greeted
    /// once the door runs.
    pub async fn bind(settings: Settings, rooms: Rooms) -> Result<Self, FtpError> {
        let stall = settings.stall_timeout.0;
        Self::bind_with_stall(settings, rooms, stall).await
    }

    /// [`Ftp::bind`] with another time without a byte after which a transfer is broken.
    pub async fn bind_with_stall(settings: Settings, rooms: Rooms, stall: Duration) -> Result<Self, FtpError> {
        settings.check()?;
        let tls = settings.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let (mut listeners, address) = listen("listen", settings.listen, Begins::Plain)?;
        let mut implicit_address = None;
        if let Some(wanted) = settings.tls.as_ref().and_then(|tls| tls.implicit_listen) {
            let (more, address) = listen("tls.implicit-listen", wanted, Begins::Tls)?;
            listeners.extend(more);
            implicit_address = Some(address);
        }
        warn_about_ephemeral_ports(&settings);
        let stats = Arc::new(Stats::default());
        let Rooms { logins, homes, intake, ledger, bans } = rooms;
        let sessions = Sessions::new(Arc::clone(&stats), settings.max_sessions, settings.max_sessions_per_ip);
        let hall = Hall {
            gate: Arc::new(Gate::new(logins, homes.clone(), Arc::clone(&stats), bans, tls.clone())),
            parts: Arc::new(Parts {
                homes,
                intake,
                ledger,
                stats,
                stall,
                make_folders: settings.make_folders,
                draining: AtomicBool::new(false),
            }),
            sessions: Arc::new(sessions),
            passive_ports: PassivePorts::new(),
            numbers: AtomicU64::new(1),
            open: Mutex::new(HashMap::new()),
            settings,
            tls,
        };
        Ok(Ftp { listeners, address, implicit_address, hall: Arc::new(hall) })
    }

    /// Where it really listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where connections really begin with TLS, if anywhere.
    #[must_use]
    pub fn implicit_addr(&self) -> Option<SocketAddr> {
        self.implicit_address
    }

    /// What can be read again while the door is open, if it has TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<Certificates> {
        self.hall.tls.clone().map(Certificates)
    }

    /// What the door does, to be read at any time.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.hall.parts.stats)
    }

    /// Serves until `shutdown` resolves. Then nobody is let in any more, idle sessions end at once,
    /// running uploads have `grace` to end and to be answered, no new one begins, and the rest is cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>, grace: Duration) {
        let Ftp { listeners, address, implicit_address, hall } = self;
        let mut shutdown = pin!(shutdown);
        let mut running = JoinSet::new();
        let mut starved = false;
        let implicit = implicit_address.map(tracing::field::display);
        tracing::info!(ftp.address = %address, ftp.tls = hall.tls.is_some(), ftp.implicit = implicit, "the FTP door is open");
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = running.join_next() => {}
                accepted = accept(&listeners) => match accepted {
                    Ok((stream, peer, begins)) => {
                        starved = false;
                        match hall.sessions.admit(peer.ip()) {
                            Ok(place) => {
                                running.spawn(serve(Arc::clone(&hall), stream, peer, begins, place));
                            }
                            Err(turned) => turn_away(stream, peer, begins, turned),
                        }
                    }
                    // The client went away while it waited.
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut starved, true) {
                            tracing::error!(%error, "FTP connections cannot be accepted; trying again until they can");
                        }
                        tokio::select! {
                            () = &mut shutdown => break,
                            () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                        }
                    }
                }
            }
        }
        drop(listeners);
        hall.drain(grace).await;
        // Sessions that hang inside libunftp are left behind.
        let _ = tokio::time::timeout(END_LINGER, async { while running.join_next().await.is_some() {} }).await;
        tracing::info!("the FTP door is closed");
    }
}

impl Hall {
    /// Waits for running uploads and their replies; ends every session.
    async fn drain(&self, grace: Duration) {
        self.parts.draining.store(true, Ordering::Release);
        let waited = tokio::time::timeout(grace, async {
            loop {
                let mut busy = false;
                for session in lock(&self.open).values() {
                    if session.is_quiet(REPLY_LINGER) {
                        session.control.end();
                    } else {
                        busy = true;
                    }
                }
                // An upload may outlive its session.
                if !busy && self.parts.stats.now().uploads_running == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if waited.await.is_err() {
            let uploads = self.parts.stats.now().uploads_running;
            tracing::warn!(uploads, "uploads were still running when the time to stop was over; they are cut");
        }
        for session in lock(&self.open).values() {
            session.control.end();
        }
    }

    fn server(self: &Arc<Self>, session: &Arc<Session>) -> Result<Server<Storage, User>, ServerError> {
        let doorkeeper = Arc::new(Doorkeeper::new(Arc::clone(&self.gate), Arc::clone(session)));
        let (parts, own) = (Arc::clone(&self.parts), Arc::clone(session));
        let storage = Box::new(move || Storage::new(Arc::clone(&parts), Arc::clone(&own)));
        let provider = Arc::clone(&doorkeeper);
        let mut builder = ServerBuilder::<Storage, User>::with_user_detail_provider(storage, provider)
            .authenticator(doorkeeper)
            .greeting("Inkport FTP ready")
            .idle_session_timeout(self.settings.idle_timeout.0.as_secs())
            .passive_ports(self.settings.passive_ports.0.clone())
            .binder(self.passive_ports.clone())
            .active_passive_mode(ActivePassiveMode::ActiveAndPassive)
            .site_command("CHMOD", Site::Mode)
            .site_command("UTIME", Site::Time)
            .site_command("MFMT", Site::TimeAsFact)
            .command("MDTM", Site::TimeOrName);
        for verb in VERBS {
            builder = builder.command(verb, Answers { tls: self.tls.is_some() });
        }
        if let PassiveHost::Address(address) = self.settings.passive_host {
            builder = builder.passive_host(address);
        }
        if let Some(tls) = &self.tls {
            let (login, data) = match tls.require {
                Require::No => (FtpsRequired::None, FtpsRequired::None),
                Require::Login => (FtpsRequired::All, FtpsRequired::None),
                Require::All => (FtpsRequired::All, FtpsRequired::All),
            };
            // The session keeps this configuration, for its data connections too.
            let config = Arc::clone(&tls.current().config);
            builder = builder.ftps_manual::<PathBuf>(config).ftps_required(login, data);
        }
        builder.build()
    }
}

/// One session, from the greeting to its end.
async fn serve(hall: Arc<Hall>, stream: TcpStream, peer: SocketAddr, begins: Begins, place: Place) {
    let _place = place;
    let number = hall.numbers.fetch_add(1, Ordering::Relaxed);
    let prepared = async {
        // Without it each reply waits for the delayed acknowledgement of the one before.
        stream.set_nodelay(true)?;
        // What a client sends as urgent (Telnet's Synch, or all of `ABOR` at once) is part of its line.
        socket2::SockRef::from(&stream).set_out_of_band_inline(true)?;
        let (stream, control) = Control::split(stream)?;
        let session = Arc::new(Session::new(number, peer, control));
        session.set_data_over_tls(begins == Begins::Tls);
        let server = hall.server(&session).map_err(io::Error::other)?;
        io::Result::Ok((stream, session, server))
    };
    let (stream, session, server) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(session.id = number, %peer, %error, "a session could not begin");
            return;
        }
    };
    tracing::debug!(session.id = number, %peer, ?begins, "a session begins");
    lock(&hall.open).insert(number, Arc::clone(&session));
    let patience = async {
        tokio::time::sleep(LOGIN_TIME).await;
        if !session.is_logged_in() {
            tracing::info!(session.id = number, %peer, "a session is ended: nobody logged in");
            session.control.end();
        }
        std::future::pending::<()>().await;
    };
    // `service` runs a task of its own and only waits for it: the session ends by its connection.
    let service = async {
        match begins {
            Begins::Plain => server.service(stream).await,
            Begins::Tls => server.service_implicit_tls(stream).await,
        }
    };
    tokio::select! {
        served = service => {
            if let Err(error) = served {
                tracing::debug!(session.id = number, %peer, %error, "a session ended early");
            }
        }
        () = patience => {}
    }
    lock(&hall.open).remove(&number);
    session.stand_up();
    // A data connection that waits for its command may hold on to the session for minutes. An upload
    // still needs to know whether the client stays.
    if session.is_quiet(Duration::ZERO) {
        session.control.end();
    }
    tracing::debug!(session.id = number, %peer, "a session ended");
}

/// The listening sockets and where they really listen. `[::]` is two, because libunftp cannot tell an IPv4
/// client on an IPv6 socket where to connect for data.
fn listen(key: &'static str, address: SocketAddr, begins: Begins) -> Result<(Vec<Listener>, SocketAddr), FtpError> {
    let one = |address: SocketAddr| listen_on(address).map_err(|source| FtpError::Listen { key, address, source });
    let first = one(address)?;
    let real = first.local_addr().map_err(|source| FtpError::Listen { key, address, source })?;
    let mut listeners = vec![Listener { socket: first, begins }];
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        let second = one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, real.port())))?;
        listeners.push(Listener { socket: second, begins });
    }
    Ok((listeners, real))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next connection at any of the listeners.
async fn accept(listeners: &[Listener]) -> io::Result<(TcpStream, SocketAddr, Begins)> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.socket.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, listener.begins)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Errors of `accept` that are the connection's, not the listener's (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | HostUnreachable | NetworkDown | NetworkUnreachable)
}

fn turn_away(stream: TcpStream, peer: SocketAddr, begins: Begins, turned: Turned) {
    let (reply, limit) = match turned {
        Turned::Full => ("421 Too many sessions, try again later.\r\n", "ftp.max-sessions"),
        Turned::TooManyFromPeer => ("421 Too many sessions from your address, try again later.\r\n", "ftp.max-sessions-per-ip"),
    };
    tracing::warn!(%peer, limit, "a connection was turned away");
    // A new connection's buffer has room for one line; were it not so, the line is lost, not waited for. A
    // handshake for the sake of a refusal would be work for those who come too often.
    if begins == Begins::Plain {
        let _ = stream.try_write(reply.as_bytes());
    }
    let _ = socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
}

/// Ports that the kernel hands to outgoing connections are taken at times: data connections fail then.
fn warn_about_ephemeral_ports(settings: &Settings) {
    let Ok(text) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return };
    let mut ends = text.split_whitespace().map_while(|end| end.parse::<u16>().ok());
    if let (Some(low), Some(high)) = (ends.next(), ends.next())
        && *settings.passive_ports.0.start() <= high
        && low <= *settings.passive_ports.0.end()
    {
        tracing::warn!(ports = %settings.passive_ports, "ftp.passive-ports overlap the ports {low}-{high} that the kernel gives to outgoing connections: some data connections will fail");
    }
}
