//! Totals are exact although frames are lost, repeated and reordered on both sides of the broker.
#![allow(clippy::unwrap_used, reason = "support of tests: what fails here fails a test")]

use std::thread;
use std::time::Duration;

use zibrato_e2e::{Harm, Proxy, Recording, Tally, TallyWorker, assert_truths, settle, until};
use zibrato_service::{Shutdown, StatusEndpoint};

const SEEDS: u64 = 20;
/// Frames that reach the worker's side before a recording ends: several key periods.
const FRAMES: u64 = 120;
/// An end frame that is lost on its way to a worker comes with a replay, for which the worker asks
/// after 5 s of silence; pages of it are lost as well.
const HEALING: Duration = Duration::from_secs(90);

#[test]
fn totals_are_exact_over_twenty_seeds_of_loss_duplicates_and_disorder_on_both_sides_of_the_broker() {
    // The recorders are processes of their own, so the seeds need not take turns.
    let runs: Vec<_> = (1..=SEEDS).map(|seed| (seed, thread::spawn(move || run(seed)))).collect();
    let failed: Vec<_> =
        runs.into_iter().filter_map(|(seed, run)| run.join().is_err().then_some(seed)).collect();
    assert!(failed.is_empty(), "seeds {failed:?} failed; what each says is above");
}

/// One recorder, a proxy, a broker, another proxy, one worker.
fn run(seed: u64) {
    let end = Shutdown::new();
    let off = StatusEndpoint { addr: None, explicit: false };
    let config = zibrato_broker::Config { port: 0, http: off, ..zibrato_broker::Config::default() };
    let broker = zibrato_broker::start(config, None, end.clone()).unwrap();
    let above = Proxy::to_broker(broker.in_endpoint(), Harm::THIRTY, 2 * seed);
    let below = Proxy::to_workers(broker.out_endpoint(), Harm::THIRTY, 2 * seed + 1);
    let (tally, spool) = (Tally::default(), tempfile::tempdir().unwrap());
    let worker = TallyWorker::start(&[below.endpoint()], &["info", "audit"], spool.path(), &tally);

    let (seed_text, window_ms) = (seed.to_string(), (20 + 10 * (seed % 4)).to_string());
    let (endpoint, levels) = (above.endpoint(), "info,audit");
    let args = ["--endpoint", endpoint, "--seed", &seed_text, "--window-ms", &window_ms, "--levels", levels];
    let recording = Recording::start(&args);
    until(format!("{FRAMES} frames of seed {seed}"), || (below.done().came >= FRAMES).then_some(()));
    let recorded = recording.finish();
    assert_eq!(recorded.len(), 18, "three series of each kind on both levels");

    let posted = settle(&recorded, HEALING, || tally.truths());
    let totals = worker.stop();
    end.request();
    let broker = broker.join();
    assert_truths(&recorded, &posted, &format!("seed {seed}: {:#?}", totals.ledger));
    // The last flush brought nothing more.
    assert_eq!(tally.truths(), recorded, "seed {seed}");
    assert_eq!(tally.repeated(), 0, "seed {seed}");
    assert!(broker.adds_up(), "seed {seed}: {broker}");
    for done in [above.done(), below.done()] {
        let harms = [done.dropped, done.duplicated, done.reordered];
        assert!(harms.iter().all(|&frames| frames > 10), "seed {seed}: {done:?}");
    }
    assert!(totals.ledger.gaps_seen > 0 && totals.ledger.duplicate_frames > 0, "{:?}", totals.ledger);
}
