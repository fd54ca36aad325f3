use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream as Peer};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::*;

/// Longer than any test needs.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
/// More than all buffers of a connection hold.
const LARGE: usize = 32 << 20;

const WAITS: Waits = Waits { connect: LONG, write: LONG, close: LONG };

/// Accepts one connection and does with it what `serve` says.
fn peer<T: Send + 'static>(serve: impl FnOnce(Peer) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

fn read_all(mut peer: Peer) -> Vec<u8> {
    let mut seen = Vec::new();
    peer.read_to_end(&mut seen).unwrap();
    seen
}

/// Reads until the end or an error, which is returned.
fn read_to_error(mut peer: Peer) -> Option<ErrorKind> {
    peer.read_to_end(&mut Vec::new()).err().map(|error| error.kind())
}

fn is_lost(answer: &Answer, part: &str) -> bool {
    matches!(answer, Answer::Lost(why) if why.contains(part))
}

fn is_delivered(answer: &Answer) -> bool {
    matches!(answer, Answer::Response(Response { status: DELIVERED, .. }))
}

#[tokio::test]
async fn what_was_read_to_the_end_is_delivered() {
    for payload in [b"a 1.0 1\n".to_vec(), vec![b'x'; LARGE]] {
        let (address, server) = peer(read_all);
        let answer = deliver(&address, &payload, &WAITS).await;
        assert!(is_delivered(&answer), "{answer:?}");
        assert!(server.join().unwrap() == payload);
    }
}

#[tokio::test]
async fn a_slow_receiver_is_waited_for() {
    let (address, server) = peer(|mut peer| {
        let (mut seen, mut byte) = (0, [0]);
        while peer.read(&mut byte).unwrap() > 0 {
            seen += 1;
        }
        seen
    });
    assert!(is_delivered(&deliver(&address, &[b'x'; 20_000], &WAITS).await));
    assert_eq!(server.join().unwrap(), 20_000);
}

#[tokio::test]
async fn nothing_is_sent_where_nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for address in [&free[..], "nowhere.invalid:2003"] {
        let answer = deliver(address, b"a 1.0 1\n", &WAITS).await;
        assert!(matches!(&answer, Answer::NotSent(why) if why.contains(address)), "{answer:?}");
    }
    // Not routed, so it is refused or never answered.
    let waits = Waits { connect: SHORT, ..WAITS };
    let answer = deliver("192.0.2.1:2003", b"a 1.0 1\n", &waits).await;
    assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_all_of_it() {
    let (address, server) = peer(|mut peer| peer.read_exact(&mut [0; 1_000]).unwrap());
    let payload = vec![b'x'; LARGE];
    let answer = deliver(&address, &payload, &WAITS).await;
    assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    server.join().unwrap();
    assert!(matches!(deliver(&address, &payload, &WAITS).await, Answer::NotSent(_)));
    let listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).unwrap();
    let server = thread::spawn(move || read_all(listener.accept().unwrap().0));
    assert!(is_delivered(&deliver(&address, &payload, &WAITS).await));
    assert!(server.join().unwrap() == payload);
}

#[tokio::test]
async fn a_receiver_that_closes_at_once_is_never_taken_for_one_that_has_read() {
    for _ in 0..200 {
        let (address, server) = peer(drop);
        let answer = deliver(&address, &[b'x'; 100], &WAITS).await;
        assert!(matches!(answer, Answer::NotSent(_) | Answer::Lost(_)), "{answer:?}");
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_closes_its_half_half_way_is_noticed() {
    let (address, server) = peer(|peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        read_to_error(peer)
    });
    let answer = deliver(&address, &vec![b'x'; LARGE], &WAITS).await;
    let is_noticed =
        matches!(&answer, Answer::Lost(why) | Answer::NotSent(why) if why.contains("before all was written"));
    assert!(is_noticed, "{answer:?}");
    server.join().unwrap();
}

#[tokio::test]
async fn an_end_that_came_before_our_bytes_is_no_acknowledgement() {
    let (address, server) = peer(drop);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    server.join().unwrap();
    // The end is there; what is written now is answered with a reset, and the write itself does not fail.
    stream.readable().await.unwrap();
    stream.writable().await.unwrap();
    assert_eq!(stream.try_write(b"a 1.0 1\n").unwrap(), 8);
    let result = timeout(LONG, acknowledged(&mut stream)).await.unwrap();
    assert!(matches!(result, Err(Broken::Read(_))), "{result:?}");
}

#[tokio::test]
async fn a_receiver_that_never_reads_is_given_up_and_nothing_stays_behind() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (address, server) = peer(move |peer| {
        stopped.recv().unwrap();
        read_to_error(peer)
    });
    let (waits, began) = (Waits { write: SHORT, ..WAITS }, Instant::now());
    let answer = deliver(&address, &vec![b'x'; LARGE], &waits).await;
    assert!(is_lost(&answer, "within 0.2 s") && began.elapsed() >= SHORT, "{answer:?}");
    stop.send(()).unwrap();
    // What the kernel held is gone; otherwise it would be read to a good end.
    assert_eq!(server.join().unwrap(), Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_receiver_that_never_closes_is_given_up() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (address, server) = peer(move |mut peer| {
        let read = peer.read(&mut [0; 100]).unwrap();
        stopped.recv().unwrap();
        read
    });
    let waits = Waits { close: SHORT, ..WAITS };
    let answer = deliver(&address, b"a 1.0 1\n", &waits).await;
    assert!(is_lost(&answer, "did not read all and close within 0.2 s"), "{answer:?}");
    stop.send(()).unwrap();
    assert_eq!(server.join().unwrap(), 8);
}

#[tokio::test]
async fn a_receiver_that_speaks_is_not_carbon() {
    let early = |mut peer: Peer| {
        peer.write_all(b"SSH-2.0-x\r\n").unwrap();
        read_to_error(peer)
    };
    let late = |mut peer: Peer| {
        peer.read_exact(&mut [0; 8]).unwrap();
        peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        read_to_error(peer)
    };
    for ((address, _server), said) in [(peer(early), &b"SSH-"[..]), (peer(late), b"HTTP/1.1 400")] {
        let answer = deliver(&address, b"a 1.0 1\n", &WAITS).await;
        let Answer::Response(response) = answer else { panic!("{answer:?}") };
        assert!(response.status == NOT_CARBON && response.body.starts_with(said), "{response:?}");
    }
}
