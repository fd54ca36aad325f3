//! A worker that is killed at random instants and started again on its spool posts every window once.

use std::thread;
use std::time::Duration;

use zibrato_e2e::{
    Broker, DEADLINE, Local, Random, Recording, Worker, arrived, assert_arrives, batches, directory,
};

const KILLS: u64 = 6;
/// A kill comes within one interval of the flush, so that it hits any step of it.
const FLUSH_MS: u64 = 1_000;
const SEED: u64 = 7;

#[test]
fn a_worker_killed_at_random_instants_posts_every_window_once_and_brings_what_ended_meanwhile() {
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let spool = directory.path().join("spool");
    let start = || {
        let mut worker = Worker::start(&broker.workers, "info,audit", &local.url(), &spool);
        // From here on it sends buckets.
        worker.probed();
        worker
    };
    let record = |source: &str| {
        let endpoint = &broker.publishers;
        Recording::start(&[
            "--endpoint",
            endpoint,
            "--source",
            source,
            "--levels",
            "info,audit",
            "--window-ms",
            "25",
        ])
    };
    let mut random = Random::new(SEED);
    let mut worker = start();
    let stays = record("stays");
    let mut gone = Vec::new();
    for kill in 0..KILLS {
        worker.counted("zibrato_worker_flushes_total", &[], 1.0);
        // Nothing is waited for: this is when the kill comes.
        thread::sleep(Duration::from_millis(random.below(FLUSH_MS)));
        worker.process.kill();
        // A program that starts and ends while the worker is away.
        let source = format!("gone-{kill}");
        let recording = record(&source);
        let before = broker.metrics().sum("zibrato_broker_received_total", &[]);
        zibrato_e2e::until("frames of a program that ends", || {
            (broker.metrics().sum("zibrato_broker_received_total", &[]) > before + 200.0).then_some(())
        });
        gone.push((source, recording.finish()));
        worker = start();
    }
    let recorded = stays.finish();
    gone.push(("stays".to_owned(), recorded));
    for (source, recorded) in &gone {
        assert!(recorded.len() >= 12, "{source} recorded little: {recorded:?}");
        assert_arrives(&local.db, source, recorded, DEADLINE);
    }
    assert_eq!(worker.finish().held, 0);
    assert!(broker.finish().forwarded > 0);
    let db = local.db.clone();
    let account = local.finish();
    // A batch whose acknowledgement died with the worker comes again, and is known by its id.
    assert!(account.duplicate_batches <= KILLS, "{}", account.stderr);
    assert!(batches(&db) > KILLS, "{}", account.stderr);
    for (source, recorded) in &gone {
        assert_eq!(arrived(&db, source), *recorded, "the last flush brought nothing more of {source}");
    }
}
