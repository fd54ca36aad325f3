//! The one place where ZeroMQ sockets get their options; client, broker and worker all use it.
//!
//! libzmq's defaults are made for another purpose: a mark of 1 000 with silent loss, no heartbeat,
//! messages of any size, and a close that waits for ever. Every one of them is set here, before the
//! socket is bound or connected, because most options act only on later connections.
//!
//! A socket belongs to the thread that uses it. It handles new connections and subscriptions only
//! inside a call, so its thread must keep polling even when it has nothing to send.

use zibrato_core::limits::FRAME_BYTES_MAX;
use zmq::{Context, DONTWAIT, Error, Message, Socket, SocketType};

/// High-water mark of a publisher for each connection, in messages. It is low on purpose: what does
/// not fit stays in the publisher's state and is merged, so a slow link costs no memory.
pub const HIGH_WATER_MARK_PUBLISHER: i32 = 64;
/// High-water mark of broker and worker for each connection, in messages. At libzmq's 1 000 a worker
/// that spends 10 us a message lost 1 257 of 20 000 legacy messages; at 200 000 none.
pub const HIGH_WATER_MARK_SERVICE: i32 = 200_000;
/// How often a connection is probed, in milliseconds.
pub const HEARTBEAT_INTERVAL_MS: i32 = 2_000;
/// Silence after which a connection is given up, in milliseconds; the peer is told the same.
pub const HEARTBEAT_TIMEOUT_MS: i32 = 6_000;
/// How long a closed socket goes on sending what it accepted, in milliseconds.
pub const LINGER_MS: i32 = 2_000;
/// Largest message taken in, in bytes. A peer that sends a larger one is disconnected. The margin
/// is for the topic that a replay puts before a frame.
pub const MESSAGE_BYTES_MAX: i64 = FRAME_BYTES_MAX as i64 + 1_024;
/// First pause before a lost connection is tried again, in milliseconds.
pub const RECONNECT_MIN_MS: i32 = 100;
/// Longest pause between attempts, in milliseconds; the pause doubles up to it.
pub const RECONNECT_MAX_MS: i32 = 1_000;
/// How long a TCP connection may take to come up, in milliseconds; the system's own limit is minutes.
pub const CONNECT_TIMEOUT_MS: i32 = 5_000;
/// How long a peer may take to introduce itself, in milliseconds. Bounds half-open connections.
pub const HANDSHAKE_TIMEOUT_MS: i32 = 5_000;
/// Connections that may wait to be accepted on a bound socket.
pub const BACKLOG: i32 = 1_024;

/// What became of a message given to [`send_now`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Sent {
    /// The socket took it. That is not delivery, and without a subscriber it is dropped there.
    Accepted,
    /// A connection with a matching subscription is at its high-water mark; nothing was sent to
    /// anybody.
    Full,
}

/// The client's socket: an XPUB that reports every subscription and says when it is full.
///
/// Connect it to a broker's publisher port. It sends only over a connection that is up, sees each
/// subscription again after a reconnect, and refuses with [`Sent::Full`] exactly at
/// [`HIGH_WATER_MARK_PUBLISHER`] instead of dropping.
///
/// # Errors
/// [`Error::EMFILE`] if the process or context has no socket left, [`Error::ETERM`] if the context ended.
pub fn publisher(context: &Context) -> Result<Socket, Error> {
    let mut socket = configured(context, SocketType::XPUB, HIGH_WATER_MARK_PUBLISHER)?;
    socket.set_immediate(true)?;
    socket.set_xpub_verbose(true)?;
    set_xpub_nodrop(&mut socket)?;
    Ok(socket)
}

/// The broker's socket towards publishers: an XSUB. Subscriptions and acknowledgements are sent on it.
///
/// # Errors
/// As [`publisher`].
pub fn broker_in(context: &Context) -> Result<Socket, Error> {
    let socket = configured(context, SocketType::XSUB, HIGH_WATER_MARK_SERVICE)?;
    socket.set_backlog(BACKLOG)?;
    Ok(socket)
}

/// The broker's socket towards workers: an XPUB that reports every subscription, and the last
/// unsubscription of a topic.
///
/// It drops for a subscriber at its mark of [`HIGH_WATER_MARK_SERVICE`]. Refusing instead would let
/// one slow worker throttle all others (measured: from 100 000 to 16 000 messages/s).
///
/// # Errors
/// As [`publisher`].
pub fn broker_out(context: &Context) -> Result<Socket, Error> {
    let socket = configured(context, SocketType::XPUB, HIGH_WATER_MARK_SERVICE)?;
    socket.set_backlog(BACKLOG)?;
    socket.set_xpub_verbose(true)?;
    Ok(socket)
}

/// The worker's socket: an XSUB, on which each subscription is sent as a message.
///
/// Not a SUB: that one takes the cancellation of a topic whose first byte is `0x01`, as those of our
/// frames are, for a subscription (libzmq 4.3.4), and then loses good ones.
///
/// # Errors
/// As [`publisher`].
pub fn subscriber(context: &Context) -> Result<Socket, Error> {
    configured(context, SocketType::XSUB, HIGH_WATER_MARK_SERVICE)
}

/// Connects to an endpoint, also to one with an IPv6 address in brackets.
///
/// IPv6 stays off for others: with it libzmq takes the first address of a name, and for `localhost` that may
/// be one on which nobody listens.
///
/// # Errors
/// [`Error::EINVAL`] if the endpoint cannot be read, [`Error::EPROTONOSUPPORT`] if its transport is unknown.
pub fn connect(socket: &Socket, endpoint: &str) -> Result<(), Error> {
    socket.set_ipv6(endpoint.contains("//["))?;
    socket.connect(endpoint)
}

/// Sends one message of one part, or says that it cannot now. Never waits.
///
/// # Errors
/// [`Error::ETERM`] if the context ended, [`Error::ENOTSUP`] on a socket that cannot send.
pub fn send_now(socket: &Socket, message: &[u8]) -> Result<Sent, Error> {
    match uninterrupted(|| socket.send(message, DONTWAIT)) {
        Ok(()) => Ok(Sent::Accepted),
        Err(Error::EAGAIN) => Ok(Sent::Full),
        Err(error) => Err(error),
    }
}

/// Takes the next message, or `None` if there is none now. Never waits.
///
/// Each part of a message of several parts comes by itself; [`Message::get_more`] says whether
/// another follows.
///
/// # Errors
/// [`Error::ETERM`] if the context ended, [`Error::ENOTSUP`] on a socket that cannot receive.
pub fn recv_now(socket: &Socket) -> Result<Option<Message>, Error> {
    match uninterrupted(|| socket.recv_msg(DONTWAIT)) {
        Ok(message) => Ok(Some(message)),
        Err(Error::EAGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Error::EINTR) => {}
            result => return result,
        }
    }
}

/// A socket with every option that all four kinds share.
fn configured(context: &Context, kind: SocketType, mark: i32) -> Result<Socket, Error> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(mark)?;
    socket.set_rcvhwm(mark)?;
    socket.set_maxmsgsize(MESSAGE_BYTES_MAX)?;
    socket.set_linger(LINGER_MS)?;
    socket.set_heartbeat_ivl(HEARTBEAT_INTERVAL_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_heartbeat_ttl(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_reconnect_ivl(RECONNECT_MIN_MS)?;
    socket.set_reconnect_ivl_max(RECONNECT_MAX_MS)?;
    socket.set_connect_timeout(CONNECT_TIMEOUT_MS)?;
    socket.set_handshake_ivl(HANDSHAKE_TIMEOUT_MS)?;
    Ok(socket)
}

/// Makes an XPUB refuse at its mark instead of dropping. The zmq crate has no setter for this
/// option; it has one for every other option that is set here.
///
/// Invariants of the two calls:
/// 1. `as_mut_ptr` of a live [`Socket`] is a socket that libzmq created and that is not yet closed.
/// 2. `&mut Socket` is held during the call, so no other thread is inside this socket.
/// 3. `XPUB_NODROP` takes one `int`, which libzmq reads and does not keep.
#[expect(unsafe_code, reason = "the zmq crate has no setter for XPUB_NODROP")]
fn set_xpub_nodrop(socket: &mut Socket) -> Result<(), Error> {
    let on: std::ffi::c_int = 1;
    let option = zmq_sys::ZMQ_XPUB_NODROP as std::ffi::c_int;
    let (raw, value) = (socket.as_mut_ptr(), std::ptr::from_ref(&on).cast());
    // SAFETY: the socket is live and ours (1, 2); value points to an int, length and type are that
    // option's (3), and `on` outlives the call.
    let code = unsafe { zmq_sys::zmq_setsockopt(raw, option, value, size_of_val(&on)) };
    if code == 0 {
        return Ok(());
    }
    // SAFETY: reads this thread's errno and takes nothing.
    let errno = unsafe { zmq_sys::zmq_errno() };
    Err(Error::from_raw(errno))
}

#[cfg(test)]
mod tests;
