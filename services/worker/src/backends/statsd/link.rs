//! Hands the lines of a batch to the kernel, and knows how far it came.
//!
//! Deltas that are sent twice count twice, so an attempt goes on behind what the attempts before it handed over. This
//! is known as long as the process lives; a worker that starts anew sends a batch of its spool from the beginning.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};
use tokio::time::{Instant, timeout};

use super::pace::Pace;
use super::{Address, body};
use crate::backend::{Answer, Batch, Response};

/// Longest time for look-up and connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time in which nothing is taken.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long a datagram socket is used before the address is looked up again.
const SOCKET_AGE_MAX: Duration = Duration::from_secs(30);
/// After how long a silence a UDP server is asked again whether it is there.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// How long a refusal is waited for. On the same machine it is there at once.
const REFUSAL_WAIT: Duration = Duration::from_millis(50);
/// An empty line, which servers skip. If nobody listens, a refusal comes back.
const NOTHING: &[u8] = b"\n";
/// How long to wait when the kernel has no buffers.
const NO_BUFFERS_WAIT: Duration = Duration::from_millis(5);

// Kinds of errors that std has no name for.
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
const EMSGSIZE: i32 = if cfg!(target_os = "linux") { 90 } else { 40 };

/// Statuses that stand for what became of an attempt.
pub(super) mod status {
    pub(crate) const TAKEN: u16 = 200;
    pub(crate) const TOO_LONG: u16 = 413;
    pub(crate) const UNREADABLE: u16 = 422;
}

/// A way to a server.
#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    packet_bytes_max: usize,
    pace: Pace,
    stall_max: Duration,
    socket: Option<Open>,
    progress: Progress,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    since: Instant,
    used: Instant,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
    Tcp(TcpStream),
}

/// What the kernel took of a batch.
#[derive(Debug, Default, PartialEq)]
struct Progress {
    row: i64,
    id: String,
    /// Whole units.
    units: usize,
    /// Bytes of the unit after them, on the stream that is open.
    part: usize,
}

impl Link {
    /// A way that is not open yet.
    pub(super) fn new(address: Address, packet_bytes_max: usize, packets_per_s: u32) -> Self {
        let pace = Pace::new(packets_per_s);
        let progress = Progress::default();
        Self { address, packet_bytes_max, pace, stall_max: STALL_MAX, socket: None, progress }
    }

    /// Hands over what is left of a batch. If it is dropped on the way, what was handed over is still known.
    pub(super) async fn send(&mut self, batch: &Batch) -> Answer {
        let Some(units) = body::all_units(&batch.body.bytes) else {
            return response(status::UNREADABLE, "the batch cannot be read");
        };
        if units.iter().any(|unit| unit.len() > self.packet_bytes_max) {
            return response(status::TOO_LONG, "a line is longer than a packet");
        }
        self.begin(batch);
        match self.hand_over(&units).await {
            Ok(()) => response(status::TAKEN, ""),
            Err(error) if error.raw_os_error() == Some(EMSGSIZE) => {
                response(status::TOO_LONG, "the kernel takes no packet of that size; lower --mtu")
            }
            Err(error) => {
                let Progress { units: taken, part, .. } = self.progress;
                if taken == 0 && part == 0 {
                    return Answer::NotSent(error.to_string());
                }
                Answer::Lost(format!("{error}; {taken} of {} lines were taken and stay sent", units.len()))
            }
        }
    }

    fn begin(&mut self, batch: &Batch) {
        if (self.progress.row, &self.progress.id) == (batch.row, &batch.id) {
            return;
        }
        if self.progress.part > 0 {
            // The stream ends in the middle of a line of another batch.
            self.socket = None;
        }
        self.progress = Progress { row: batch.row, id: batch.id.clone(), ..Progress::default() };
    }

    async fn hand_over(&mut self, units: &[&[u8]]) -> io::Result<()> {
        if self.progress.units == units.len() {
            return Ok(());
        }
        self.open().await?;
        let handed = if matches!(self.address, Address::Tcp(_)) {
            self.hand_over_stream(units).await
        } else {
            self.hand_over_packets(units).await
        };
        // A socket that does not get on is still good; in one that failed nothing more arrives.
        if handed.as_ref().is_err_and(|error| error.kind() != ErrorKind::TimedOut) {
            self.close();
        }
        handed
    }

    /// Sees to it that a socket is open, and that somebody listens as far as can be known.
    async fn open(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.socket {
            let is_good = match &open.socket {
                Socket::Tcp(stream) => check_stream(stream).is_ok(),
                Socket::Unix(_) => open.since.elapsed() < SOCKET_AGE_MAX,
                Socket::Udp(socket) => {
                    open.since.elapsed() < SOCKET_AGE_MAX
                        && (open.used.elapsed() < QUIET_MAX
                            || in_time(CONNECT_TIMEOUT, ask(socket)).await.is_ok())
                }
            };
            if is_good {
                return Ok(());
            }
            self.close();
        }
        let socket = match timeout(CONNECT_TIMEOUT, connect(&self.address)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(io::Error::new(ErrorKind::NotConnected, "not connected in time")),
        };
        let now = Instant::now();
        self.socket = Some(Open { socket, since: now, used: now });
        Ok(())
    }

    fn close(&mut self) {
        self.socket = None;
        // The start of a line that is left there is no line; it comes again, whole.
        self.progress.part = 0;
    }

    async fn hand_over_packets(&mut self, units: &[&[u8]]) -> io::Result<()> {
        while let Some(rest) = units.get(self.progress.units..).filter(|rest| !rest.is_empty()) {
            let (packet, packed) = body::packet(rest, self.packet_bytes_max);
            let Some(open) = &mut self.socket else { return Err(ErrorKind::NotConnected.into()) };
            if matches!(open.socket, Socket::Udp(_)) {
                self.pace.wait().await;
            }
            in_time(self.stall_max, send_packet(&open.socket, &packet)).await?;
            self.progress.units += packed;
            open.used = Instant::now();
        }
        if let Some(Open { socket: Socket::Udp(socket), .. }) = &self.socket
            && let Ok(Some(error)) = socket.take_error()
        {
            tracing::warn!(%error, "the server is gone; packets that were on the way to it are lost");
            self.socket = None;
        }
        Ok(())
    }

    async fn hand_over_stream(&mut self, units: &[&[u8]]) -> io::Result<()> {
        let text = body::stream(units);
        let mut at = units.iter().take(self.progress.units).map(|unit| unit.len() + 1).sum::<usize>()
            + self.progress.part;
        while at < text.len() {
            let Some(Open { socket: Socket::Tcp(stream), .. }) = &self.socket else {
                return Err(ErrorKind::NotConnected.into());
            };
            check_stream(stream)?;
            let taken = in_time(self.stall_max, write_some(stream, &text[at..])).await?;
            at += taken;
            self.progress.take(taken, units);
        }
        Ok(())
    }
}

impl Progress {
    /// Notes bytes of a stream as taken.
    fn take(&mut self, bytes: usize, units: &[&[u8]]) {
        self.part += bytes;
        while let Some(unit) = units.get(self.units).filter(|unit| self.part > unit.len()) {
            self.part -= unit.len() + 1;
            self.units += 1;
        }
    }
}

fn response(status: u16, text: &str) -> Answer {
    Answer::Response(Response { status, headers: Vec::new(), body: text.as_bytes().to_vec() })
}

async fn connect(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Udp(host) => {
            let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
            for addr in lookup_host(host).await? {
                match connect_udp(addr).await {
                    Ok(socket) => return Ok(Socket::Udp(socket)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Address::Tcp(host) => {
            let stream = TcpStream::connect(host).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Address::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Socket::Unix(socket))
        }
    }
}

async fn connect_udp(addr: std::net::SocketAddr) -> io::Result<UdpSocket> {
    let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    ask(&socket).await?;
    Ok(socket)
}

/// Asks a UDP server whether it is there; only a refusal is an answer.
async fn ask(socket: &UdpSocket) -> io::Result<()> {
    socket.send(NOTHING).await?;
    match timeout(REFUSAL_WAIT, socket.recv(&mut [0])).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Whether a server still reads, as far as it says so: what is written behind its end would be lost.
fn check_stream(stream: &TcpStream) -> io::Result<()> {
    // Servers say nothing; what one says all the same is dropped.
    match stream.try_read(&mut [0; 4_096]) {
        Ok(0) => Err(io::Error::new(ErrorKind::ConnectionAborted, "the server closed the connection")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

async fn write_some(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

/// Hands over one datagram. A socket that is full is waited for by the runtime, buffers of the kernel are not.
async fn send_packet(socket: &Socket, packet: &[u8]) -> io::Result<()> {
    loop {
        let sent = match socket {
            Socket::Udp(socket) => socket.send(packet).await,
            Socket::Unix(socket) => socket.send(packet).await,
            Socket::Tcp(_) => return Err(ErrorKind::Unsupported.into()),
        };
        match sent {
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => tokio::time::sleep(NO_BUFFERS_WAIT).await,
            sent => return sent.map(drop),
        }
    }
}

async fn in_time<T>(stall_max: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(ErrorKind::TimedOut, "the server takes nothing");
    timeout(stall_max, work).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests;
