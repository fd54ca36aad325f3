//! From the bus to a carbon that dies in the middle.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use zibrato_service::Shutdown;
use zibrato_worker::backend::Backend;
use zibrato_worker::backends::graphite::GraphiteArgs;
use zibrato_worker::cli::Program;
use zibrato_worker::worker::start;

use crate::support::*;

fn backend(address: &str, spool: &std::path::Path) -> Arc<dyn Backend> {
    let args = ["zibrato-graphite", "--address", address, "--spool", spool.to_str().unwrap()];
    Program::<GraphiteArgs>::try_parse(args).unwrap().resolve().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_one_second_are_merged_and_what_breaks_off_comes_whole() {
    let (bus, directory, shutdown) = (Bus::new(), tempfile::tempdir().unwrap(), Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = backend(&listener.local_addr().unwrap().to_string(), directory.path());
    let carbon = std::thread::spawn(move || {
        listener.accept().unwrap().0.read_exact(&mut [0; 5]).unwrap();
        let mut lines = String::new();
        listener.accept().unwrap().0.read_to_string(&mut lines).unwrap();
        lines
    });
    // Only the flush at the end.
    let mut config = config(&bus, directory.path());
    config.lane.flush = Duration::from_secs(3_600);
    let running = start(config, backend, &zmq::Context::new(), shutdown.clone()).await.unwrap();
    bus.wait_subscribed("info");
    let now = now_s();
    for (value, at) in [("1", now - 1), ("2", now), ("3", now), ("4", now)] {
        bus.send(&format!("info|Gauge|depth|{value}|{at}|web"));
    }
    bus.count("hits", 5);
    wait_until("five messages", || running.totals().received >= 5);
    let totals = stop(running, &shutdown).await;
    assert_eq!((totals.delivered.gauge_sets, totals.merged_sets), (2, 2));
    assert_eq!((totals.delivered.counter_sum, totals.ambiguous), (5.0, 1));
    let lines = carbon.join().unwrap();
    let mut seen: Vec<_> = lines.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["depth.web 1.0", "depth.web 4.0", "hits.test.count 5.0"]);
    assert!(lines.contains(&format!("depth.web 4.0 {now}\n")), "{lines}");
}
