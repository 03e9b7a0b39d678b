//! An FTP client that can be told to misbehave: control and data connections, plain or TLS, passive or
//! active, ended cleanly, cut, or reset. Bytes, not text: names need not be UTF-8.

use super::{House, PATIENCE};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// One connection.
pub enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Line::Plain(stream) => stream,
            Line::Tls(stream) => &stream.sock,
        }
    }

    /// TLS on it, handshake done.
    pub fn secure(self, config: &Arc<ClientConfig>) -> io::Result<Line> {
        let Line::Plain(mut socket) = self else { return Ok(self) };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Line::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    pub fn tls(&self) -> Option<&ClientConnection> {
        match self {
            Line::Plain(_) => None,
            Line::Tls(stream) => Some(&stream.conn),
        }
    }

    /// Sends bytes in one TLS record whose last three never come.
    pub fn send_short(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Line::Tls(stream) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut record = Vec::new();
        stream.conn.writer().write_all(bytes)?;
        stream.conn.write_tls(&mut record)?;
        stream.sock.write_all(&record[..record.len() - 3])
    }

    /// The clean end: over TLS its close_notify, then the end of the stream.
    pub fn end(mut self) {
        let _ = self.say_goodbye();
        self.cut();
    }

    /// TLS's close_notify, while the connection stays.
    pub fn say_goodbye(&mut self) -> io::Result<()> {
        if let Line::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        Ok(())
    }

    /// The end of the stream alone: over TLS somebody cut it.
    pub fn cut(self) {
        let socket = self.socket();
        let _ = socket.shutdown(Shutdown::Write);
        // Closed with bytes unread (TLS tickets), the kernel would send a reset instead.
        let mut rest = [0; 4096];
        while (&*socket).read(&mut rest).is_ok_and(|read| read > 0) {}
    }

    pub fn reset(self) {
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.read(buffer),
            Line::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.write(bytes),
            Line::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Plain(stream) => stream.flush(),
            Line::Tls(stream) => stream.flush(),
        }
    }
}

/// How a data connection comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pasv,
    Epsv,
    Port,
    Eprt,
    /// The client listens only after PORT was answered.
    PortLate,
}

impl Mode {
    pub fn named(name: &str) -> Option<Mode> {
        Some(match name {
            "pasv" => Mode::Pasv,
            "epsv" => Mode::Epsv,
            "port" => Mode::Port,
            "eprt" => Mode::Eprt,
            "port-late" => Mode::PortLate,
            _ => return None,
        })
    }
}

/// A data connection that is there, or will be when the server comes.
enum Data {
    Here(Line),
    Listening(TcpListener),
    NotYetListening(Socket),
}

/// One session.
pub struct Wire {
    line: Option<Line>,
    buffer: Vec<u8>,
    data: Option<Data>,
    /// What was answered instead of a data connection.
    refused: Option<Vec<u8>>,
    /// PROT P was answered 200.
    private: bool,
    tls: Arc<ClientConfig>,
    /// What was said, for the report of a failure.
    pub transcript: Vec<String>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Ok(Wire::over(Line::Plain(patient(TcpStream::connect(address)?)?)))
    }

    /// Bound to a local address first.
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> io::Result<Wire> {
        Ok(Wire::over(Line::Plain(connect_from(from, address)?)))
    }

    /// Over TLS from the first byte, as such a session expects of its data too.
    pub fn connect_implicit(address: SocketAddr) -> io::Result<Wire> {
        let mut wire = Wire::connect(address)?;
        wire.secure()?;
        wire.private = true;
        Ok(wire)
    }

    /// Another TLS configuration, for what is secured from now on.
    pub fn with_tls(mut self, tls: Arc<ClientConfig>) -> Wire {
        self.tls = tls;
        self
    }

    /// The control connection's TLS.
    pub fn tls(&self) -> Option<&ClientConnection> {
        self.line.as_ref().and_then(Line::tls)
    }

    fn over(line: Line) -> Wire {
        Wire {
            line: Some(line),
            buffer: Vec::new(),
            data: None,
            refused: None,
            private: false,
            tls: trusting(),
            transcript: Vec::new(),
        }
    }

    /// Greeted and logged in as "desk", binary.
    pub fn login(house: &House) -> Wire {
        let mut wire = Wire::connect(house.address).unwrap();
        wire.expect_reply("220");
        wire.log_in("desk");
        wire
    }

    /// [`Wire::login`] over TLS, data connections too.
    pub fn login_tls(house: &House) -> Wire {
        let mut wire = Wire::connect(house.address).unwrap();
        wire.expect_reply("220");
        wire.start_tls().unwrap();
        wire.log_in("desk");
        wire.expect("PBSZ 0", "200");
        wire.expect("PROT P", "200");
        wire
    }

    pub fn log_in(&mut self, name: &str) {
        self.expect(&format!("USER {name}"), "331");
        self.expect("PASS secret", "230");
        self.expect("TYPE I", "200");
    }

    pub fn start_tls(&mut self) -> io::Result<()> {
        self.expect("AUTH TLS", "234");
        self.secure()
    }

    fn secure(&mut self) -> io::Result<()> {
        let line = self.line.take().expect("connected").secure(&self.tls)?;
        self.line = Some(line);
        Ok(())
    }

    fn line(&mut self) -> io::Result<&mut Line> {
        self.line.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transcript.push(format!("C: {}", shown(bytes)));
        let line = self.line()?;
        line.write_all(bytes)?;
        line.flush()
    }

    /// One byte of TCP's urgent data.
    pub fn send_urgent(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transcript.push(format!("C! {}", shown(bytes)));
        SockRef::from(self.line()?.socket()).send_out_of_band(bytes).map(drop)
    }

    /// The next whole reply, its lines joined; empty at the end of the connection.
    pub fn reply(&mut self) -> io::Result<Vec<u8>> {
        let Some(mut reply) = self.reply_line()? else {
            self.transcript.push("S: (closed)".to_owned());
            return Ok(Vec::new());
        };
        if reply.get(3) == Some(&b'-') {
            let last = [&reply[..3], b" "].concat();
            while let Some(line) = self.reply_line()? {
                reply.push(b'\n');
                reply.extend_from_slice(&line);
                if line.starts_with(&last) {
                    break;
                }
            }
        }
        if reply.starts_with(b"200") {
            self.note_protection();
        }
        self.transcript.push(format!("S: {}", shown(&reply)));
        Ok(reply)
    }

    fn note_protection(&mut self) {
        let said = self.transcript.last().map(|said| said.to_ascii_uppercase()).unwrap_or_default();
        match said.trim_end_matches("\\R\\N") {
            "C: PROT P" => self.private = true,
            "C: PROT C" => self.private = false,
            _ => {}
        }
    }

    fn reply_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    line.pop();
                }
                return Ok(Some(line));
            }
            let mut more = [0; 4096];
            match self.line()?.read(&mut more) {
                Ok(0) => return Ok(None),
                Ok(read) => self.buffer.extend_from_slice(&more[..read]),
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub fn command(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).unwrap_or_else(|error| panic!("{command}: {error}"));
        let reply = self.reply().unwrap_or_else(|error| panic!("{command}: {error}"));
        String::from_utf8_lossy(&reply).into_owned()
    }

    pub fn expect(&mut self, command: &str, code: &str) -> String {
        let reply = self.command(command);
        assert!(reply.starts_with(code), "{command}: {reply:?}");
        reply
    }

    pub fn expect_reply(&mut self, code: &str) {
        let reply = self.reply().unwrap_or_else(|error| panic!("no reply: {error}"));
        assert!(reply.starts_with(code.as_bytes()), "{}", shown(&reply));
    }

    /// The next reply that is not preliminary.
    pub fn last_reply(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let reply = self.reply()?;
            if !reply.starts_with(b"1") {
                return Ok(reply);
            }
        }
    }

    /// Agrees on a data connection.
    pub fn open(&mut self, mode: Mode, from: Option<IpAddr>) -> Result<(), String> {
        self.data = None;
        let told = |error: io::Error| format!("no data connection: {error}");
        let (own, peer) = {
            let socket = self.line().map_err(told)?.socket();
            (socket.local_addr().map_err(told)?, socket.peer_addr().map_err(told)?)
        };
        let mut agree = |command: String| -> Result<String, String> {
            self.send(format!("{command}\r\n").as_bytes()).map_err(told)?;
            let bytes = self.reply().map_err(told)?;
            let reply = String::from_utf8_lossy(&bytes).into_owned();
            if reply.starts_with('2') {
                return Ok(reply);
            }
            self.refused = Some(bytes);
            Err(format!("{command}: {reply:?}"))
        };
        let data = match mode {
            Mode::Pasv | Mode::Epsv => {
                let port = if mode == Mode::Epsv {
                    let reply = agree("EPSV".into())?;
                    reply.split('|').nth(3).and_then(|port| port.parse().ok()).ok_or(reply)?
                } else {
                    pasv_port(&agree("PASV".into())?)?
                };
                let address = SocketAddr::new(peer.ip(), port);
                let stream = match from {
                    Some(from) => connect_from(from, address),
                    None => TcpStream::connect(address).and_then(patient),
                };
                Data::Here(Line::Plain(stream.map_err(told)?))
            }
            Mode::Port | Mode::Eprt | Mode::PortLate => {
                let socket = Socket::new(Domain::for_address(own), Type::STREAM, None).map_err(told)?;
                socket.bind(&SocketAddr::new(own.ip(), 0).into()).map_err(told)?;
                let port = socket.local_addr().map_err(told)?.as_socket().expect("an internet address").port();
                let late = mode == Mode::PortLate;
                if !late {
                    socket.listen(1).map_err(told)?;
                }
                agree(if mode == Mode::Eprt { eprt(own.ip(), port) } else { port_command(own.ip(), port)? })?;
                if late { Data::NotYetListening(socket) } else { Data::Listening(socket.into()) }
            }
        };
        self.data = Some(data);
        Ok(())
    }

    /// The data connection, accepted and secured where that is still to be done.
    pub fn data(&mut self) -> Result<&mut Line, String> {
        let told = |error: io::Error| format!("the data connection did not come: {error}");
        let line = match self.data.take().ok_or("no data connection was agreed on")? {
            Data::Here(line) => line,
            Data::Listening(listener) => Line::Plain(accept(&listener).map_err(told)?),
            Data::NotYetListening(socket) => {
                socket.listen(1).map_err(told)?;
                Line::Plain(accept(&socket.into()).map_err(told)?)
            }
        };
        let line = if self.private { line.secure(&self.tls).map_err(told)? } else { line };
        self.data = Some(Data::Here(line));
        match &mut self.data {
            Some(Data::Here(line)) => Ok(line),
            _ => unreachable!("it was just put there"),
        }
    }

    pub fn take_data(&mut self) -> Result<Line, String> {
        self.data()?;
        match self.data.take() {
            Some(Data::Here(line)) => Ok(line),
            _ => unreachable!("data() leaves it there"),
        }
    }

    /// Listens now, if [`Mode::PortLate`] has not yet; a server connects when a transfer begins.
    pub fn listen_now(&mut self) -> Result<(), String> {
        match self.data.take() {
            Some(Data::NotYetListening(socket)) => {
                socket.listen(1).map_err(|error| error.to_string())?;
                self.data = Some(Data::Listening(socket.into()));
            }
            other => self.data = other,
        }
        Ok(())
    }

    pub fn drop_data(&mut self) {
        self.data = None;
    }

    /// An upload in one go; the last reply to it.
    pub fn put(&mut self, mode: Mode, command: &[u8], bytes: &[u8]) -> Result<Vec<u8>, String> {
        if let Some(refused) = self.agreed(mode)? {
            return Ok(refused);
        }
        let first = self.begin(command)?;
        if !first.starts_with(b"1") {
            self.data = None;
            return Ok(first);
        }
        let mut line = self.take_data()?;
        // A refused upload's connection is closed while we write.
        let _ = line.write_all(bytes);
        line.end();
        self.last_reply().map_err(|error| format!("no reply: {error}"))
    }

    /// A download or a listing; what came, and the last reply.
    pub fn get(&mut self, mode: Mode, command: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        if let Some(refused) = self.agreed(mode)? {
            return Ok((Vec::new(), refused));
        }
        let first = self.begin(command)?;
        let mut bytes = Vec::new();
        if !first.starts_with(b"1") {
            self.data = None;
            return Ok((bytes, first));
        }
        let mut line = self.take_data()?;
        let _ = line.read_to_end(&mut bytes);
        line.end();
        Ok((bytes, self.last_reply().map_err(|error| format!("no reply: {error}"))?))
    }

    /// [`Wire::open`]; a refusal is an answer too.
    fn agreed(&mut self, mode: Mode) -> Result<Option<Vec<u8>>, String> {
        self.refused = None;
        match (self.open(mode, None), self.refused.take()) {
            (Ok(()), _) => Ok(None),
            (Err(_), Some(refused)) => Ok(Some(refused)),
            (Err(problem), None) => Err(problem),
        }
    }

    fn begin(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        let told = |error: io::Error| format!("no reply: {error}");
        self.send(&[command, b"\r\n"].concat()).map_err(told)?;
        self.listen_now()?;
        self.reply().map_err(told)
    }

    /// Ends the control connection without a word.
    pub fn hang_up(&mut self) {
        self.line = None;
    }

    pub fn reset(&mut self) {
        if let Some(line) = self.line.take() {
            line.reset();
        }
    }
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect_from(from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&address.into())?;
    patient(socket.into())
}

/// A server that never comes is an error in the end.
fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let begin = std::time::Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return patient(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

fn pasv_port(reply: &str) -> Result<u16, String> {
    let inner = reply.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner).ok_or(reply)?;
    let numbers: Vec<u16> = inner.split(',').filter_map(|number| number.trim().parse::<u8>().ok()).map(u16::from).collect();
    let [_, _, _, _, high, low] = numbers[..] else { return Err(reply.to_owned()) };
    Ok(high << 8 | low)
}

fn port_command(own: IpAddr, port: u16) -> Result<String, String> {
    let IpAddr::V4(own) = own else { return Err("PORT has no room for IPv6".into()) };
    let [a, b, c, d] = own.octets();
    Ok(format!("PORT {a},{b},{c},{d},{},{}", port >> 8, port & 255))
}

fn eprt(own: IpAddr, port: u16) -> String {
    format!("EPRT |{}|{own}|{port}|", if own.is_ipv4() { 1 } else { 2 })
}

/// For messages: bytes that are no printable ASCII as escapes.
pub fn shown(bytes: &[u8]) -> String {
    let long = bytes.len() > 400;
    let text = bytes[..bytes.len().min(400)].escape_ascii().to_string();
    if long { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// Takes any certificate: the tests' are self-signed. Sessions are resumed, as real clients do.
pub fn trusting() -> Arc<ClientConfig> {
    trusting_with(rustls::ALL_VERSIONS, None)
}

/// [`trusting`] in these versions of TLS, showing this certificate where one is asked for.
pub fn trusting_with(
    versions: &[&'static rustls::SupportedProtocolVersion],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct Anything;
    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring speaks TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything));
    Arc::new(match own {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("a pair"),
        None => config.with_no_client_auth(),
    })
}
