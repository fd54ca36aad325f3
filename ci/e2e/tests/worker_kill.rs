//! A worker that is killed at random instants and started again on its spool posts every window once.

use std::thread;
use std::time::Duration;

use zibrato_e2e::{
    Broker, DEADLINE, Local, Random, Recording, Worker, arrived, assert_arrives, batches, directory, read,
    until,
};

const KILLS: u64 = 6;
/// A kill comes within one interval of the flush, so that it hits any step of it.
const FLUSH_MS: u64 = 1_000;
const SEED: u64 = 7;
const ACCEPTED: &str = "zibrato_worker_accepted_points_total";
const DELIVERED: &str = "zibrato_worker_batches_delivered_total";

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
        // A flush that had something to tell: one with nothing makes no batch.
        worker.counted(ACCEPTED, &[], 1.0);
        // Nothing is waited for: this is when the kill comes.
        thread::sleep(Duration::from_millis(random.below(FLUSH_MS)));
        worker.process.kill();
        // A program that starts and ends while the worker is away.
        let source = format!("gone-{kill}");
        let recording = record(&source);
        let before = broker.metrics().sum("zibrato_broker_received_total", &[]);
        until("frames of a program that ends", || {
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
    // A batch whose acknowledgement died with the worker comes again, and is known by its id. Each worker made at least one.
    assert!(account.duplicate_batches <= KILLS, "{}", account.stderr);
    assert!(batches(&db) > KILLS, "{}", account.stderr);
    for (source, recorded) in &gone {
        assert_eq!(arrived(&db, source), *recorded, "the last flush brought nothing more of {source}");
    }
}

#[test]
fn a_worker_that_hangs_misses_nothing_and_another_one_notices_nothing() {
    let broker = Broker::start();
    let directories = [directory(), directory()];
    let stores = directories.each_ref().map(|directory| Local::start(directory.path()));
    let start = |at: usize| {
        let spool = directories[at].path().join("spool");
        let mut worker = Worker::start(&broker.workers, "info,audit", &stores[at].url(), &spool);
        worker.probed();
        worker
    };
    let (hangs, runs) = (start(0), start(1));
    let args = ["--endpoint", &broker.publishers, "--levels", "info,audit", "--window-ms", "25"];
    let recording = Recording::start(&args);
    for store in &stores {
        until("points in both stores", || (read(&store.db).points() > 0).then_some(()));
    }
    hangs.process.signal("STOP");
    let before = [0, 1].map(|at: usize| read(&stores[at].db).points());
    let delivered = runs.metrics().sum(DELIVERED, &[]);
    // A second each.
    runs.counted(DELIVERED, &[], delivered + 3.0);
    let after = [0, 1].map(|at: usize| read(&stores[at].db).points());
    assert!(after[0] == before[0] && after[1] > before[1], "{before:?} {after:?}");
    hangs.process.signal("CONT");
    let recorded = recording.finish();
    for (worker, store) in [hangs, runs].into_iter().zip(stores) {
        assert_arrives(&store.db, "recorder", &recorded, DEADLINE);
        assert_eq!(worker.finish().held, 0);
        assert_eq!(arrived(&store.db, "recorder"), recorded, "the last flush brought nothing more");
        store.finish();
    }
    assert!(broker.finish().forwarded > 0);
}
