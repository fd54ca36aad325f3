//! What listens on a port of the broker: just enough of ZMTP 3.0 to be told the socket's type.
//!
//! A ZeroMQ socket keeps quiet about why it gets no connection; this says whether nobody listens,
//! somebody else does, or the two ports were mixed up. Source: rfc.zeromq.org, 23/ZMTP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const GREETING_BYTES: usize = 64;
const SIGNATURE_BYTES: usize = 10;
/// Where the version ends in a greeting.
const VERSION_END: usize = 12;
/// Longest READY command that is read, in bytes; ours has some 30.
const COMMAND_BYTES_MAX: usize = 255;
/// First byte of a command of at most [`COMMAND_BYTES_MAX`] bytes.
const SHORT_COMMAND: u8 = 0x04;
/// The only mechanism that says who it is before it knows us.
const NULL: &[u8] = b"NULL";

/// What listens on a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    /// A ZeroMQ socket of this type, such as `XSUB`.
    Socket(String),
    /// A ZeroMQ socket that wants to know first who we are, by this mechanism.
    Secured(String),
    /// Something that does not speak ZMTP.
    Stranger,
    /// Nobody: what the system says.
    Nobody(String),
}

/// Asks what listens on `addr`; takes at most `within` for the connection and as long for the answer.
pub(super) async fn peer(addr: SocketAddr, within: Duration) -> Peer {
    let stream = match timeout(within, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Peer::Nobody(error.to_string()),
        Err(_) => return Peer::Nobody(format!("no connection within {} ms", within.as_millis())),
    };
    match timeout(within, greet(stream)).await {
        Ok(Ok(peer)) => peer,
        // It hung up, keeps silent, or says something else.
        Ok(Err(_)) | Err(_) => Peer::Stranger,
    }
}

async fn greet(mut stream: TcpStream) -> io::Result<Peer> {
    let ours = greeting();
    // A socket with another mechanism hangs up as soon as it has read ours, without saying its own.
    stream.write_all(&ours[..VERSION_END]).await?;
    let mut theirs = [0; GREETING_BYTES];
    stream.read_exact(&mut theirs[..SIGNATURE_BYTES]).await?;
    if theirs[0] != 0xff || theirs[SIGNATURE_BYTES - 1] != 0x7f {
        return Ok(Peer::Stranger);
    }
    stream.read_exact(&mut theirs[SIGNATURE_BYTES..]).await?;
    let mechanism: Vec<u8> = theirs[VERSION_END..32].iter().copied().take_while(|&byte| byte != 0).collect();
    if mechanism != NULL {
        return Ok(Peer::Secured(String::from_utf8_lossy(&mechanism).into_owned()));
    }
    stream.write_all(&ours[VERSION_END..]).await?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    if head[0] != SHORT_COMMAND {
        return Ok(Peer::Stranger);
    }
    let mut command = [0; COMMAND_BYTES_MAX];
    let command = &mut command[..usize::from(head[1])];
    stream.read_exact(command).await?;
    Ok(socket_type(command).map_or(Peer::Stranger, Peer::Socket))
}

/// Signature, version 3.0, mechanism, no server.
fn greeting() -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[VERSION_END..16].copy_from_slice(NULL);
    bytes
}

/// The property `Socket-Type` of a READY command.
fn socket_type(command: &[u8]) -> Option<String> {
    let mut rest = command.strip_prefix(b"\x05READY")?;
    while let Some((&name_bytes, behind)) = rest.split_first() {
        let (name, behind) = behind.split_at_checked(name_bytes.into())?;
        let (&value_bytes, behind) = behind.split_first_chunk::<4>()?;
        let value_bytes = usize::try_from(u32::from_be_bytes(value_bytes)).ok()?;
        let (value, behind) = behind.split_at_checked(value_bytes)?;
        if name.eq_ignore_ascii_case(b"socket-type") {
            return String::from_utf8(value.to_vec()).ok();
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A listener that says this and then keeps silent.
    async fn says(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            // Until the other side hangs up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        addr
    }

    #[tokio::test]
    async fn each_zeromq_socket_tells_its_type() {
        let context = zmq::Context::new();
        for (kind, name) in [(zmq::XSUB, "XSUB"), (zmq::XPUB, "XPUB"), (zmq::ROUTER, "ROUTER")] {
            let socket = context.socket(kind).unwrap();
            socket.bind("tcp://127.0.0.1:*").unwrap();
            let endpoint = socket.get_last_endpoint().unwrap().unwrap();
            let addr = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
            assert_eq!(peer(addr, WITHIN).await, Peer::Socket(name.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_socket_that_asks_for_a_password_is_told_apart() {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::ROUTER).unwrap();
        socket.set_plain_server(true).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let addr = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
        assert_eq!(peer(addr, WITHIN).await, Peer::Secured("PLAIN".to_owned()));
    }

    /// libzmq hangs up as soon as it has read a greeting of another mechanism, and what it had not sent of its
    /// own is lost; whether it had is a matter of microseconds.
    #[tokio::test]
    async fn a_mechanism_is_read_before_ours_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut ours = [0; VERSION_END];
            stream.read_exact(&mut ours).await.unwrap();
            let mut more = [0];
            let early = timeout(Duration::from_millis(100), stream.read(&mut more)).await;
            let mut theirs = greeting();
            theirs[VERSION_END..17].copy_from_slice(b"PLAIN");
            stream.write_all(&theirs).await.unwrap();
            early.is_err()
        });
        assert_eq!(peer(addr, WITHIN).await, Peer::Secured("PLAIN".to_owned()));
        assert!(server.await.unwrap(), "more than signature and version was sent at once");
    }

    #[tokio::test]
    async fn whoever_speaks_otherwise_or_not_at_all_is_a_stranger() {
        let addr = says(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        assert_eq!(peer(addr, WITHIN).await, Peer::Stranger);
        let addr = says(b"").await;
        assert_eq!(peer(addr, Duration::from_millis(50)).await, Peer::Stranger);
    }

    #[tokio::test]
    async fn a_closed_port_is_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(peer(addr, WITHIN).await, Peer::Nobody(why) if why.contains("refused")));
    }

    #[test]
    fn a_command_that_is_cut_or_is_another_has_no_type() {
        let ready = b"\x05READY\x08Identity\0\0\0\0\x0bSocket-Type\0\0\0\x03SUB";
        assert_eq!(socket_type(ready).as_deref(), Some("SUB"));
        for length in 0..ready.len() {
            assert_eq!(socket_type(&ready[..length]), None, "{length}");
        }
        assert_eq!(socket_type(b"\x05ERROR"), None);
    }
}
