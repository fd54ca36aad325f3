//! Clocks that differ, and a level that a worker takes up later than the others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests: what fails here fails a test")]

use std::ops::RangeInclusive;
use std::time::Duration;

use zibrato_core::limits::KEY_FRAME_WINDOWS;
use zibrato_e2e::{
    Broker, Clock, DEADLINE, Harm, Local, Process, Proxy, Recording, Stored, Tally, TallyWorker, Truth,
    Truths, Worker, arrived, assert_arrives, assert_truths, command, directory, field, now_s, read, settle,
    until,
};

/// How far apart the clocks are, in seconds.
const APART_S: i64 = 300;
/// Points carry whole seconds, a flush is a second long, and the machine may be busy.
const LATE_S: i64 = 20;
/// Jumps of a clock, in seconds, within what a store takes.
const BACK_S: f64 = 3_600.0;
const AHEAD_S: f64 = 500.0;
/// More than the age up to which a worker takes a publisher for one that it saw from the start.
const OLD: Duration = Duration::from_secs(600);
/// Frames of a level from one key frame to the next.
const KEY_PERIOD: u64 = KEY_FRAME_WINDOWS as u64;

#[test]
fn a_worker_whose_clock_is_ahead_posts_the_same_totals() {
    totals_are_exact_and_points_stamped_by_the_clock_of_who_made_them(APART_S);
}

#[test]
fn a_worker_whose_clock_is_behind_posts_the_same_totals() {
    totals_are_exact_and_points_stamped_by_the_clock_of_who_made_them(-APART_S);
}

#[test]
fn a_clock_that_jumps_stops_nothing_and_changes_no_total() {
    let directory = directory();
    let (local, clock) = (Local::start(directory.path()), Clock::new(directory.path(), 0.0));
    let [mut broker, mut worker, mut recorder] =
        ["zibrato-broker", "zibrato-librato", "recorder"].map(command);
    for program in [&mut broker, &mut worker, &mut recorder] {
        clock.show_to(program);
    }
    broker.args(["--port", "0"]);
    let broker = Broker::spawn(broker);
    let (url, spool) = (local.url(), directory.path().join("spool"));
    worker.args(["--endpoint", &broker.workers, "--levels", "info,audit", "--flush", "1"]);
    worker.args(["--url", &url, "--spool", spool.to_str().unwrap()]);
    let mut worker = Worker::spawn(worker);
    worker.probed();
    recorder.args(["--endpoint", &broker.publishers, "--levels", "info,audit", "--window-ms", "50"]);
    let recording = Recording::spawn(recorder);
    for ahead_s in [0.0, -BACK_S, AHEAD_S, -BACK_S, 0.0] {
        clock.set(ahead_s);
        let seen = || {
            let metrics = worker.metrics();
            ["flushes", "messages", "delivered_points"]
                .map(|name| metrics.sum(&format!("zibrato_worker_{name}_total"), &[]))
        };
        // Two flushes: the first may have been under way.
        let before = seen();
        until(format!("what came after the clock was {ahead_s} s ahead"), || {
            let [flushes, messages, points] = seen();
            (flushes >= before[0] + 2.0 && messages > before[1] + 20.0 && points > before[2]).then_some(())
        });
    }
    // Of gauges the store shows the point whose time is the latest.
    let totals = |mut truths: Truths| {
        truths.retain(|_, truth| !matches!(truth, Truth::Gauge(_)));
        truths
    };
    let recorded = totals(recording.finish());
    let posted = settle(&recorded, DEADLINE, || totals(arrived(&local.db, "recorder")));
    assert_truths(&recorded, &posted, "after all jumps");
    assert!(worker.metrics().sum("zibrato_worker_clock_backwards_total", &[]) > 0.0);
    // Nothing comes any more, so whoever waits by this clock waits for hours.
    clock.set(-2.0 * BACK_S);
    let delivery = worker.finish();
    assert_eq!(delivery.held, 0, "{}", delivery.line);
    broker.finish();
    let account = local.finish();
    assert_eq!((account.accepted, account.duplicate_batches), (account.offered, 0), "{}", account.stderr);
}

/// Everything runs on the machine's clock but the worker, which is `ahead_s` ahead.
fn totals_are_exact_and_points_stamped_by_the_clock_of_who_made_them(ahead_s: i64) {
    let directory = directory();
    let (local, broker) = (Local::start(directory.path()), Broker::start());
    let started_s = now_s() as i64;
    let (url, spool) = (local.url(), directory.path().join("spool"));
    let mut worker = command("zibrato-librato");
    Clock::new(directory.path(), ahead_s as f64).show_to(&mut worker);
    worker.args(["--endpoint", &broker.workers, "--levels", "info,audit", "--flush", "1", "--no-http"]);
    worker.args(["--url", &url, "--spool", spool.to_str().unwrap()]);
    let mut worker = Process::spawn(worker);
    worker.line("the backend answers");
    let args = ["--endpoint", &broker.publishers, "--levels", "info,audit", "--window-ms", "50"];
    let recording = Recording::start(&args);
    until("points of three flushes", || {
        let stored = read(&local.db);
        let flushes = stored.get("rec.info.counter.0", "recorder").map_or(0, |totals| totals.points.len());
        (flushes >= 3).then_some(())
    });
    let recorded = recording.finish();
    assert_eq!(recorded.len(), 18, "three series of each kind on both levels");
    assert_arrives(&local.db, "recorder", &recorded, DEADLINE);

    let ended = worker.terminate();
    let last = ended.stderr.lines().rfind(|line| line.contains("worker stopped")).unwrap();
    assert_eq!(
        (ended.code, field(last, "law"), field(last, "batches_held")),
        (Some(0), "holds", "0"),
        "{last}"
    );
    // The ledger's own law comes after it.
    let (units, _) = last.split_once(" ledger=").unwrap();
    assert!(units.contains("refused [none]") && units.contains("dropped [none]"), "{last}");
    broker.finish();
    let db = local.db.clone();
    let account = local.finish();
    assert_eq!((account.accepted, account.duplicate_batches), (account.offered, 0), "{}", account.stderr);
    assert_eq!(arrived(&db, "recorder"), recorded, "the last flush brought nothing more");

    let by_publisher = started_s..=started_s + LATE_S;
    let by_worker = started_s + ahead_s..=started_s + ahead_s + LATE_S;
    let stored = read(&db);
    assert_times(&stored, "gauge", &by_publisher);
    assert_times(&stored, "counter", &by_worker);
    assert_times(&stored, "timer", &by_worker);
}

#[test]
fn a_level_that_a_worker_takes_up_later_is_counted_from_then_on_and_its_history_as_joined_late() {
    let broker = Broker::start();
    // It makes the publisher older, so that the test need not wait.
    let proxy = Proxy::to_broker(&broker.publishers, Harm::NONE, 0);
    let (tally, directory) = (Tally::default(), directory());
    let start = |levels: &[&str]| TallyWorker::start(&[&broker.workers], levels, directory.path(), &tally);
    let worker = start(&["info"]);
    let args = ["--endpoint", proxy.endpoint(), "--levels", "info,audit", "--window-ms", "25"];
    let recording = Recording::start(&args);
    until("totals of info", || (tally.truths().len() == 9).then_some(()));
    worker.stop();
    proxy.add_age(OLD);
    // The broker's kept frames have to be old as well: it keeps a key frame and what came after it.
    let came = proxy.done().came;
    until("two key periods of both levels", || (proxy.done().came > came + 2 * 2 * KEY_PERIOD).then_some(()));

    let worker = start(&["info", "audit"]);
    until("history of audit", || (worker.totals().ledger.joined_late_series == 9).then_some(()));
    let joined = tally.truths();
    until("totals of audit", || (tally.truths().len() == 18 && tally.truths() != joined).then_some(()));
    let recorded = recording.finish();
    let of_level = |truths: &Truths, level: &str| -> Truths {
        let prefix = format!("rec.{level}.");
        truths
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(name, truth)| (name.clone(), *truth))
            .collect()
    };
    // A level that was there from the start is complete, the history of the other is not posted.
    let info = of_level(&recorded, "info");
    let posted = settle(&info, DEADLINE, || of_level(&tally.truths(), "info"));
    assert_truths(&info, &posted, "info");
    let audit = units(&of_level(&recorded, "audit"));
    until("rest of audit", || {
        let (late, posted) = (worker.totals().ledger.joined_late, units(&of_level(&tally.truths(), "audit")));
        (posted.0 + late.counters == audit.0 && posted.1 + late.timers == audit.1).then_some(())
    });
    let totals = worker.stop();
    let late = totals.ledger.joined_late;
    assert!(late.counters > 0 && late.timers > 0 && late.gauges > 0, "{late:?}");
    let posted = units(&of_level(&tally.truths(), "audit"));
    assert_eq!(
        (posted.0 + late.counters, posted.1 + late.timers),
        audit,
        "the last flush brought nothing more"
    );
    broker.finish();
}

fn assert_times(stored: &Stored, kind: &str, times: &RangeInclusive<i64>) {
    let kind = format!(".{kind}.");
    let of_kind: Vec<_> = stored.0.iter().filter(|((metric, _), _)| metric.contains(&kind)).collect();
    assert_eq!(of_kind.len(), 6, "{kind}");
    for ((metric, _), totals) in of_kind {
        for (time, _) in &totals.points {
            assert!(times.contains(time), "{metric} at {time}, not in {times:?}");
        }
    }
}

/// The sum of all counters and the records of all timers.
fn units(truths: &Truths) -> (u128, u128) {
    truths.values().fold((0, 0), |(sum, records), truth| match truth {
        Truth::Counter(more) => (sum + u128::from(*more), records),
        Truth::Timer { count, .. } => (sum, records + u128::from(*count)),
        Truth::Gauge(_) => (sum, records),
    })
}
