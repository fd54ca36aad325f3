use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::backend::Body;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const FAST: u32 = 1_000_000;
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A batch of as many different counters.
fn batch(row: i64, lines: usize) -> Batch {
    let mut bytes = Vec::new();
    for line in expected(row, lines) {
        body::append_point(&mut bytes, &[line]);
    }
    let body = Body { bytes, content_type: String::new(), points: Vec::new() };
    Batch { row, id: row.to_string(), flushed_ms: 0, attempts_unknown: 0, body }
}

fn expected(row: i64, lines: usize) -> Vec<String> {
    (0..lines).map(|line| format!("batch{row}.line{line}:1|c")).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn is_taken(answer: &Answer) -> bool {
    matches!(answer, Answer::Response(response) if response.status == status::TAKEN)
}

fn udp(addr: SocketAddr, mtu: usize, packets_per_s: u32) -> Link {
    Link::new(Address::Udp(addr.to_string()), mtu, packets_per_s)
}

fn tcp(addr: SocketAddr) -> Link {
    let mut link = Link::new(Address::Tcp(addr.to_string()), usize::MAX, FAST);
    link.stall_max = SHORT;
    link
}

/// Reads packets until so many lines are there.
async fn receive(socket: &UdpSocket, count: usize, mtu: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut packet = vec![0; 65_536];
        let length = timeout(LONG, socket.recv(&mut packet)).await.expect("a packet").unwrap();
        assert!(length <= mtu, "{length}");
        all.extend(lines(std::str::from_utf8(&packet[..length]).unwrap()));
    }
    all
}

#[tokio::test]
async fn udp_carries_all_lines_in_packets_within_the_mtu() {
    let server = UdpSocket::bind(ANY).await.unwrap();
    let mut link = udp(server.local_addr().unwrap(), 100, 5_000);
    let (first, second) = (batch(1, 100), batch(2, 1));
    let (answers, all) = tokio::join!(
        async { [link.send(&first).await, link.send(&second).await] },
        receive(&server, 101, 100)
    );
    assert!(answers.iter().all(is_taken), "{answers:?}");
    assert_eq!(all, [expected(1, 100), expected(2, 1)].concat());
}

#[tokio::test]
async fn nothing_leaves_for_a_udp_server_that_refuses_and_all_arrives_when_it_is_back() {
    let addr = UdpSocket::bind(ANY).await.unwrap().local_addr().unwrap();
    let (mut link, batch) = (udp(addr, 1_432, 5_000), batch(1, 100));
    for _ in 0..3 {
        assert!(matches!(link.send(&batch).await, Answer::NotSent(_)));
    }
    let server = UdpSocket::bind(addr).await.unwrap();
    let (answer, all) = tokio::join!(link.send(&batch), receive(&server, 100, 1_432));
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(all, expected(1, 100));
    // A batch that was taken already is not sent again, and a server that is gone since is noticed.
    drop(server);
    assert!(is_taken(&link.send(&batch).await));
    link.socket.as_mut().unwrap().used = Instant::now().checked_sub(QUIET_MAX).unwrap();
    let answer = link.send(&self::batch(2, 1)).await;
    assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
}

#[tokio::test]
async fn no_line_is_sent_twice_to_a_udp_server_that_restarts_half_way() {
    let server = UdpSocket::bind(ANY).await.unwrap();
    let addr = server.local_addr().unwrap();
    // One line a packet, slowly, so that the server can close in between.
    let (mut link, batch) = (udp(addr, 24, 100), batch(1, 200));
    let (answer, first) = tokio::join!(link.send(&batch), async move {
        let first = receive(&server, 5, 24).await;
        drop(server);
        first
    });
    assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    let taken = link.progress.units;
    assert!((5..200).contains(&taken));
    link.pace = Pace::new(5_000);
    let server = UdpSocket::bind(addr).await.unwrap();
    let (answer, second) = tokio::join!(link.send(&batch), receive(&server, 200 - taken, 24));
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(second, expected(1, 200)[taken..]);
    assert!(first.iter().collect::<HashSet<_>>().is_disjoint(&second.iter().collect()));
}

#[tokio::test]
async fn an_attempt_that_was_given_up_goes_on_where_it_was() {
    let server = UdpSocket::bind(ANY).await.unwrap();
    let (mut link, batch) = (udp(server.local_addr().unwrap(), 24, 100), batch(1, 50));
    assert!(timeout(SHORT, link.send(&batch)).await.is_err());
    assert!((1..50).contains(&link.progress.units));
    link.pace = Pace::new(5_000);
    let (answer, all) = tokio::join!(link.send(&batch), receive(&server, 50, 24));
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(all, expected(1, 50));
}

#[tokio::test]
async fn a_unix_server_that_does_not_read_is_waited_for_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("statsd.sock");
    let mut link = Link::new(Address::Unix(path.clone()), 1_000, FAST);
    link.stall_max = SHORT;
    let batch = batch(1, 100_000);
    assert!(matches!(link.send(&batch).await, Answer::NotSent(_)));
    let server = UnixDatagram::bind(&path).unwrap();
    let answer = link.send(&batch).await;
    assert!(matches!(&answer, Answer::Lost(why) if why.contains("takes nothing")), "{answer:?}");
    let reader = async {
        let (mut all, mut packet) = (Vec::new(), vec![0; 2_000]);
        while all.len() < 100_000 {
            let length = timeout(LONG, server.recv(&mut packet)).await.expect("a packet").unwrap();
            assert!(length <= 1_000);
            all.extend(lines(std::str::from_utf8(&packet[..length]).unwrap()));
        }
        all
    };
    let (answer, all) = tokio::join!(link.send(&batch), reader);
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(all, expected(1, 100_000));
    // A server that starts anew has another socket at the same path.
    drop(server);
    std::fs::remove_file(&path).unwrap();
    let server = UnixDatagram::bind(&path).unwrap();
    let batch = self::batch(2, 1);
    assert!(matches!(link.send(&batch).await, Answer::NotSent(_)));
    assert!(is_taken(&link.send(&batch).await));
    let mut packet = [0; 100];
    let length = server.recv(&mut packet).await.unwrap();
    assert_eq!(&packet[..length], b"batch2.line0:1|c");
}

#[tokio::test]
async fn a_tcp_server_that_does_not_read_gets_all_once_it_does() {
    let server = TcpListener::bind(ANY).await.unwrap();
    let mut link = tcp(server.local_addr().unwrap());
    let batch = batch(1, 1_000_000);
    let (answer, accepted) = tokio::join!(link.send(&batch), server.accept());
    assert!(matches!(&answer, Answer::Lost(why) if why.contains("takes nothing")), "{answer:?}");
    let mut stream = accepted.unwrap().0;
    let reader = async {
        let mut text = String::new();
        while !text.ends_with("line999999:1|c\n") {
            let mut bytes = vec![0; 1 << 20];
            let length = timeout(LONG, stream.read(&mut bytes)).await.expect("bytes").unwrap();
            assert!(length > 0, "closed after {} bytes", text.len());
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        text
    };
    let (answer, text) = tokio::join!(link.send(&batch), reader);
    assert!(is_taken(&answer), "{answer:?}");
    assert!(lines(&text) == expected(1, 1_000_000));
}

#[tokio::test]
async fn a_tcp_server_that_breaks_off_gets_the_rest_from_a_whole_line_on() {
    let server = TcpListener::bind(ANY).await.unwrap();
    let addr = server.local_addr().unwrap();
    let (mut link, batch) = (tcp(addr), batch(1, 1_000_000));
    let (answer, ()) = tokio::join!(link.send(&batch), async {
        let mut stream = server.accept().await.unwrap().0;
        let mut bytes = vec![0; 1 << 20];
        stream.read_exact(&mut bytes).await.unwrap();
        // What was not read makes this a reset.
        drop(stream);
    });
    assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    let Progress { units: taken, part, .. } = link.progress;
    assert!(taken > 1_000 && taken < 1_000_000 && part == 0, "{taken} {part}");
    let (answer, text) = tokio::join!(link.send(&batch), async {
        let mut stream = server.accept().await.unwrap().0;
        let mut text = String::new();
        let mut bytes = vec![0; 1 << 20];
        while !text.ends_with("line999999:1|c\n") {
            let length = timeout(LONG, stream.read(&mut bytes)).await.expect("bytes").unwrap();
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        text
    });
    assert!(is_taken(&answer), "{answer:?}");
    assert!(lines(&text) == expected(1, 1_000_000)[taken..]);
}

#[tokio::test]
async fn a_tcp_server_that_refuses_or_hung_up_gets_nothing_until_it_is_back() {
    let server = TcpListener::bind(ANY).await.unwrap();
    let addr = server.local_addr().unwrap();
    let mut link = tcp(addr);
    let (answer, accepted) = tokio::join!(async { link.send(&batch(1, 1)).await }, server.accept());
    assert!(is_taken(&answer), "{answer:?}");
    drop((accepted, server));
    // The end of the connection is noticed before anything is written into it.
    let Some(Open { socket: Socket::Tcp(stream), .. }) = &link.socket else { panic!() };
    timeout(LONG, stream.readable()).await.unwrap().unwrap();
    let second = batch(2, 1);
    let answer = link.send(&second).await;
    assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
    let server = TcpListener::bind(addr).await.unwrap();
    let (answer, text) = tokio::join!(link.send(&second), async {
        let mut bytes = vec![0; 100];
        let length = server.accept().await.unwrap().0.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    });
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(text, "batch2.line0:1|c\n");
}

#[tokio::test]
async fn another_batch_does_not_follow_the_start_of_a_line() {
    let server = TcpListener::bind(ANY).await.unwrap();
    let mut link = tcp(server.local_addr().unwrap());
    let first = batch(1, 1_000_000);
    let (answer, accepted) = tokio::join!(link.send(&first), server.accept());
    assert!(matches!(answer, Answer::Lost(_)), "{answer:?}");
    // The kernel may have stopped at the end of a line.
    link.progress.part = link.progress.part.max(1);
    let second = batch(2, 1);
    let (answer, again) = tokio::join!(link.send(&second), server.accept());
    assert!(is_taken(&answer), "{answer:?}");
    let (mut stream, mut text) = (again.unwrap().0, [0; 17]);
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"batch2.line0:1|c\n");
    drop(accepted);
}

#[tokio::test]
async fn a_host_of_two_addresses_is_asked_at_both() {
    // `localhost` is ::1 and 127.0.0.1 on most machines; only one of them listens.
    let server = UdpSocket::bind(ANY).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let mut link = Link::new(Address::Udp(format!("localhost:{port}")), 1_432, FAST);
    let answer = link.send(&batch(1, 1)).await;
    assert!(is_taken(&answer), "{answer:?}");
    assert_eq!(receive(&server, 1, 1_432).await, expected(1, 1));
    let mut link = Link::new(Address::Udp("no-such-host.invalid:1".to_owned()), 1_432, FAST);
    assert!(matches!(link.send(&batch(1, 1)).await, Answer::NotSent(_)));
}

#[tokio::test]
async fn what_no_packet_can_hold_is_said_before_anything_leaves() {
    let mut link = udp("127.0.0.1:1".parse().unwrap(), 10, FAST);
    assert_eq!(link.send(&batch(1, 2)).await, response(status::TOO_LONG, "a line is longer than a packet"));
    let mut damaged = batch(1, 2);
    damaged.body.bytes.truncate(5);
    assert_eq!(link.send(&damaged).await, response(status::UNREADABLE, "the batch cannot be read"));
    // A kernel that takes no packets of the size says so itself.
    let server = UdpSocket::bind(ANY).await.unwrap();
    let mut link = udp(server.local_addr().unwrap(), 100_000, FAST);
    let answer = link.send(&batch(1, 10_000)).await;
    assert!(
        matches!(&answer, Answer::Response(response) if response.status == status::TOO_LONG),
        "{answer:?}"
    );
}

#[test]
fn progress_counts_whole_units_and_the_bytes_behind_them() {
    let units = [&b"a:1|c"[..], b"b:0|g\rb:-1|g", b"c:2|c"];
    let length = body::stream(&units).len();
    for first in 0..=length {
        let mut progress = Progress::default();
        progress.take(first, &units);
        let whole = units[..progress.units].iter().map(|unit| unit.len() + 1).sum::<usize>();
        assert_eq!(whole + progress.part, first);
        assert!(units.get(progress.units).is_none_or(|unit| progress.part <= unit.len()));
        progress.take(length - first, &units);
        assert_eq!((progress.units, progress.part), (3, 0));
    }
}
