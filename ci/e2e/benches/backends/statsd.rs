//! One stream of counts, through a client, the broker and a worker into a file, and as text over UDP into etsy's statsd:
//! time of processors for each count that arrived, on both sides.

use std::hint::black_box;
use std::net::UdpSocket;
use std::time::Duration;

use zibrato_e2e::{Broker, Statsd, Worker, directory, until, until_within};
use zibrato_std::{Client, Level};

/// Counts, taken by so many counters in turn.
const COUNTS: u64 = 20_000_000;
const COUNTERS: u64 = 100;
/// What ours are cheaper by at least.
const RATIO_MIN: f64 = 50.0;
/// The most bytes of a datagram that clients of statsd send, which is what fits an Ethernet frame.
const DATAGRAM_BYTES_MAX: usize = 1_432;
/// How often all counters are counted before the server is waited for: some 100 KiB, half of what the kernel queues.
const ROUNDS_A_BURST: u64 = 40;
const FLUSH: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(60);

/// What a stream cost.
struct Cost {
    /// Counts that arrived.
    arrived: f64,
    client: Duration,
    /// Everything behind it.
    servers: Duration,
}

impl Cost {
    fn ns(&self) -> f64 {
        (self.client + self.servers).as_nanos() as f64 / self.arrived
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { arrived, client, servers } = self;
        let share = arrived / COUNTS as f64 * 100.0;
        write!(
            f,
            "{:.1} ns of processors a count ({:.2} M/s on one core), client {client:.0?}, servers {servers:.0?}, {share:.1} % arrived",
            self.ns(),
            1e3 / self.ns()
        )
    }
}

/// Compares them.
pub(crate) fn beside_etsy() -> Option<String> {
    let (ours, theirs) = (ours(), theirs());
    assert!(
        !ours.servers.is_zero() && !theirs.servers.is_zero(),
        "the system does not say what a process took"
    );
    let ratio = theirs.ns() / ours.ns();
    println!("{COUNTS} counts by us: {ours}");
    println!("{COUNTS} counts by etsy's statsd: {theirs}, {ratio:.0} times ours");
    (ratio < RATIO_MIN).then(|| format!("a count costs etsy's statsd {ratio:.1} times what it costs us, at least {RATIO_MIN} are asked for"))
}

fn name(at: u64) -> String {
    format!("bench.requests_{at:03}")
}

fn ours() -> Cost {
    let (home, broker) = (directory(), Broker::start());
    let file = home.path().join("counts.jsonl");
    let worker = Worker::of(
        "zibrato-jsonl",
        &[
            "--endpoint",
            &broker.workers,
            "--levels",
            "info",
            "--file",
            file.to_str().unwrap(),
            "--spool",
            home.path().join("spool").to_str().unwrap(),
        ],
    );
    let begun = own_cpu();
    let client = Client::builder().endpoint(&broker.publishers).source("bench").build().unwrap();
    let counters: Vec<_> = (0..COUNTERS).map(|at| client.counter(&name(at), Level::INFO).get()).collect();
    assert!(client.wait_subscribed(Level::INFO, WAIT), "nobody subscribed");
    for _ in 0..COUNTS / COUNTERS {
        for counter in &counters {
            black_box(counter).add(1);
        }
    }
    drop(counters);
    let stats = client.shutdown(WAIT).unwrap();
    assert_eq!(stats.unacknowledged, 0, "{stats}");
    let client = own_cpu() - begun;
    let arrived = || worker.metrics().sum("zibrato_worker_delivered_counted", &[]);
    let arrived = until_within(WAIT, "all counts in the file", || {
        let arrived = arrived();
        (arrived >= COUNTS as f64).then_some(arrived)
    });
    Cost { arrived, client, servers: broker.process.cpu() + worker.process.cpu() }
}

fn theirs() -> Cost {
    let statsd = Statsd::flushing(FLUSH);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&statsd.addr).unwrap();
    let lines: Vec<_> = (0..COUNTERS).map(|at| format!("{}:1|c\n", name(at))).collect();
    let mut client = Duration::ZERO;
    for _ in 0..COUNTS / COUNTERS / ROUNDS_A_BURST {
        let begun = own_cpu();
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        for line in (0..ROUNDS_A_BURST).flat_map(|_| &lines) {
            if datagram.len() + line.len() > DATAGRAM_BYTES_MAX {
                socket.send(&datagram).unwrap();
                datagram.clear();
            }
            datagram.extend_from_slice(line.as_bytes());
        }
        socket.send(&datagram).unwrap();
        client += own_cpu() - begun;
        // What the kernel has no room for would be lost.
        until("taken datagrams", || statsd.is_idle().then_some(()));
    }
    let totals = statsd.totals();
    let arrived = (0..COUNTERS).filter_map(|at| totals.counters.get(&name(at))).sum();
    Cost { arrived, client, servers: statsd.process.cpu() }
}

/// Time of processors that this process has had.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
