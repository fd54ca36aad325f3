//! Rows 14, 16 and 19 for a protocol without answers: what is kept, what is counted, and that nothing comes twice, for
//! StatsD over a stream and over a unix socket. Over UDP a server that is away can be told only on one machine; the
//! backend's own tests have that.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use zibrato_e2e::{
    Broker, DEADLINE, Peer, PortPair, STATSD, Worker, directory, field, listen, record, until, worker_of,
};

/// Series of which a flush is more than the kernel keeps for a socket that nobody reads.
const SERIES: usize = 3_000;
const HELD: &str = "zibrato_worker_spool_batches";
const DELIVERED: &str = "zibrato_worker_batches_delivered_total";

fn unix_worker(broker: &Broker, home: &Path) -> Worker {
    let address = format!("unix://{}", home.join("socket").display());
    let worker = worker_of(STATSD.program, &["--address".to_owned(), address], broker, home);
    broker.subscribed(1);
    worker
}

fn unix_server(home: &Path) -> UnixDatagram {
    let server = UnixDatagram::bind(home.join("socket")).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    server
}

/// Adds packets until a name has come to a value.
fn comes_to(server: &UnixDatagram, packets: &mut Vec<Vec<u8>>, name: &str, value: f64) {
    let mut buffer = [0; 65_536];
    while total(packets, name) < value {
        let length = server.recv(&mut buffer).unwrap();
        packets.push(buffer[..length].to_vec());
    }
}

fn total(packets: &[Vec<u8>], name: &str) -> f64 {
    STATSD.total(packets.iter().map(|packet| &packet[..]), name)
}

/// Stops a worker that delivered all it took and lost sight of nothing.
fn finish(worker: Worker) {
    until("empty spool", || (worker.metrics().sum(HELD, &[]) == 0.0).then_some(()));
    let delivery = worker.finish();
    assert_eq!((delivery.held, field(&delivery.line, "ambiguous")), (0, "0"), "{}", delivery.line);
    assert!(delivery.line.contains(" dropped [none]"), "{}", delivery.line);
}

// Rows 14 and 16.
#[test]
fn a_statsd_over_tcp_that_goes_away_gets_each_batch_once() {
    let (home, broker, ports) = (directory(), Broker::start(), PortPair::reserve());
    let addr = format!("127.0.0.1:{}", ports.port);
    let server = listen(&addr);
    let worker = worker_of(STATSD.program, &(STATSD.flags)(&addr), &broker, home.path());
    broker.subscribed(1);
    record(&broker, &["hits=1"]);
    let (mut stream, _) = server.accept().unwrap();
    let (mut first, mut byte) = (Vec::new(), [0]);
    while !first.ends_with(b"\n") {
        stream.read_exact(&mut byte).unwrap();
        first.push(byte[0]);
    }
    assert_eq!(STATSD.values([&first[..]], "hits"), [1.0]);
    worker.counted(DELIVERED, &[], 1.0);
    drop((stream, server));

    for (at, records) in [&["hits=2"][..], &["hits=4", "lat=1000000"]].iter().enumerate() {
        record(&broker, records);
        worker.counted(HELD, &[], at as f64 + 1.0);
    }
    let peer = Peer::on(&addr, []);
    worker.counted(DELIVERED, &[], 3.0);
    // A refused connection leaves nothing in doubt.
    finish(worker);
    let streams = || peer.connections().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    until("the last lines", || (total(&streams(), "lat") == 1.0).then_some(()));
    let bodies = streams();
    assert_eq!(STATSD.values(bodies.iter().map(|body| &body[..]), "hits"), [2.0, 4.0]);
}

// Rows 14 and 16.
#[test]
fn a_statsd_on_a_unix_socket_that_comes_late_and_goes_away_gets_each_batch_once() {
    let (home, broker) = (directory(), Broker::start());
    let worker = unix_worker(&broker, home.path());
    record(&broker, &["hits=1"]);
    worker.counted(HELD, &[], 1.0);
    let mut packets = Vec::new();
    let server = unix_server(home.path());
    comes_to(&server, &mut packets, "hits", 1.0);
    until("empty spool", || (worker.metrics().sum(HELD, &[]) == 0.0).then_some(()));

    // Its file stays, as that of a server that was killed does.
    drop(server);
    record(&broker, &["hits=2"]);
    worker.counted(HELD, &[], 1.0);
    std::fs::remove_file(home.path().join("socket")).unwrap();
    record(&broker, &["hits=4", "lat=1000000"]);
    worker.counted(HELD, &[], 2.0);
    let server = unix_server(home.path());
    comes_to(&server, &mut packets, "lat", 1.0);
    finish(worker);
    assert_eq!(STATSD.values(packets.iter().map(|packet| &packet[..]), "hits"), [1.0, 2.0, 4.0]);
}

// Row 19.
#[test]
fn a_statsd_that_does_not_read_for_longer_than_is_waited_gets_each_line_once() {
    let (home, broker) = (directory(), Broker::start());
    let server = unix_server(home.path());
    let mut worker = unix_worker(&broker, home.path());
    let names: Vec<String> = (0..SERIES).map(|at| format!("{at:x>120}")).collect();
    let records: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
    record(&broker, &records.iter().map(String::as_str).collect::<Vec<_>>());
    let line = worker.process.line("a batch was not delivered; trying again");
    assert!(line.contains("the server takes nothing"), "{line}");
    assert!(worker.metrics().sum(HELD, &[]) >= 1.0);

    let (mut packets, mut buffer, mut lines) = (Vec::new(), [0; 65_536], 0);
    while lines < SERIES {
        let length = server.recv(&mut buffer).unwrap();
        packets.push(buffer[..length].to_vec());
        lines += STATSD.points([&buffer[..length]]).count();
    }
    until("empty spool", || (worker.metrics().sum(HELD, &[]) == 0.0).then_some(()));
    let delivery = worker.finish();
    // Only the batch that was half taken is in doubt.
    assert!(["0", "1"].contains(&field(&delivery.line, "ambiguous")), "{}", delivery.line);
    assert_eq!((delivery.points, delivery.held), (SERIES as u64, 0), "{}", delivery.line);
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut buffer).is_err(), "something came twice");
    let mut seen: Vec<String> =
        STATSD.points(packets.iter().map(|packet| &packet[..])).map(|point| point.name).collect();
    seen.sort();
    let mut expected = names;
    expected.sort();
    assert!(seen == expected, "{} lines", seen.len());
}
