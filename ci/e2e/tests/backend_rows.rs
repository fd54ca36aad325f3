//! The rows of faults that every backend has to stand, one test a row, over tables of backends: HTTP and TCP with
//! receivers that do as they are told, and the spool with no receiver at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use zibrato_e2e::{
    Backend, Broker, Delivery, GRAPHITE, INFLUX, Kind, LIBRATO, OTLP, PROMETHEUS, Peer, PeerStep, Point,
    PortPair, Process, Request, STATSD, Step, Worker, command, directory, each, field, record, until,
    worker_args, worker_of,
};

/// What a worker may grow by during an outage of some seconds.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// Most bytes of a batch of two series.
const BATCH_BYTES_MAX: f64 = 4_096.0;
/// More than any test comes to.
const EVER: usize = 1_000;
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// What a backend over HTTP makes of answers.
///
/// Graphite and StatsD answer nothing, and a file neither: nobody there refuses a point (row 17) or asks for a pause (row 18),
/// so the rows of answers are of HTTP alone.
#[derive(Debug)]
struct Http {
    kind: Kind,
    /// Statuses after which the same bytes are sent again, and whether they may have been stored.
    retried: &'static [(u16, bool)],
    /// Statuses after which a batch is given up.
    dropped: &'static [u16],
    /// What the store says of a point in a 400, and what it then counts as.
    named: fn(&Point) -> String,
    named_reason: &'static str,
}

const HTTP: [Http; 4] = [
    Http {
        kind: LIBRATO,
        retried: &[(503, false), (500, false), (504, true), (429, false)],
        dropped: &[402, 409],
        named: |point| {
            format!(r#"{{"errors":{{"params":{{"name":["{} is not a valid metric name"]}}}}}}"#, point.name)
        },
        named_reason: "refused_by_backend",
    },
    Http {
        kind: OTLP,
        retried: &[(503, false), (502, true), (504, true), (429, false)],
        dropped: &[402, 500],
        named: |point| format!("metric \"{}\" is not allowed", point.name),
        named_reason: "refused_by_backend",
    },
    Http {
        kind: INFLUX,
        retried: &[(503, false), (500, true), (504, true), (429, false)],
        dropped: &[402, 409],
        named: |point| {
            let text = format!("partial write: unable to parse '{}': bad timestamp dropped=1", point.series);
            serde_json::json!({ "error": text }).to_string()
        },
        named_reason: "unparsable",
    },
    Http {
        kind: PROMETHEUS,
        retried: &[(503, false), (500, true), (504, true), (429, false)],
        dropped: &[402, 406],
        named: |point| format!("label value is not allowed: {}", point.series),
        named_reason: "refused_by_backend",
    },
];

fn each_http(row: impl Fn(&Http) + Sync) {
    each(&HTTP, |http| http.kind.program.to_owned(), row);
}

/// A broker and a worker of one backend, with a spool.
struct Rig {
    home: TempDir,
    broker: Broker,
    worker: Worker,
}

impl Rig {
    fn start(kind: &Kind, addr: &str) -> Self {
        let (home, broker) = (directory(), Broker::start());
        let worker = worker_of(kind.program, &(kind.flags)(addr), &broker, home.path());
        broker.subscribed(1);
        Self { home, broker, worker }
    }

    fn record(&self, records: &[&str]) {
        record(&self.broker, records);
    }

    fn held(&self) -> f64 {
        self.worker.metrics().sum("zibrato_worker_spool_batches", &[])
    }

    /// Waits until nothing is held, and returns the most memory that the worker had meanwhile.
    fn emptied(&self) -> u64 {
        let mut most = 0;
        until("empty spool", || {
            most = most.max(self.worker.process.resident_bytes());
            (self.held() == 0.0).then_some(())
        });
        most
    }

    /// Kills the worker and starts it again.
    fn restarted(self, kind: &Kind, addr: &str) -> Self {
        let Self { home, broker, worker } = self;
        worker.process.kill();
        let worker = worker_of(kind.program, &(kind.flags)(addr), &broker, home.path());
        Self { home, broker, worker }
    }

    fn finish(self) -> Delivery {
        let delivery = self.worker.finish();
        self.broker.finish();
        delivery
    }
}

/// What a name comes to after all bodies.
fn total(kind: &Kind, stored: &[Request], name: &str) -> f64 {
    kind.total(stored.iter().map(|request| &request.body[..]), name)
}

fn addr_of(backend: &Backend) -> &str {
    backend.url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

/// An answer that asks to come back at once.
fn again(status: u16) -> Step {
    retry_after(status, "0")
}

fn retry_after(status: u16, value: &str) -> Step {
    Step::Answer(status, vec![format!("Retry-After: {value}")])
}

fn is_clean(delivery: &Delivery) -> bool {
    delivery.held == 0
        && delivery.line.contains(" dropped [none]")
        && delivery.line.contains(" refused [none]")
}

// Row 14.
#[test]
fn a_backend_that_is_down_for_several_flushes_gets_all_of_them_in_their_order() {
    let kinds: Vec<&Kind> = HTTP.iter().map(|http| &http.kind).chain([&GRAPHITE, &STATSD]).collect();
    each(
        &kinds,
        |kind| kind.program.to_owned(),
        |kind| {
            let ports = PortPair::reserve();
            let addr = format!("127.0.0.1:{}", ports.port);
            let rig = Rig::start(kind, &addr);
            let sum = |name| rig.worker.metrics().sum(name, &[]);
            for (at, hits) in ["hits=1", "hits=2", "hits=4"].iter().enumerate() {
                rig.record(&[hits, "lat=1000000"]);
                rig.worker.counted("zibrato_worker_spool_batches", &[], at as f64 + 1.0);
            }
            let (before, batches, mut most) = (rig.worker.process.resident_bytes(), rig.held(), 0);
            let flushes = sum("zibrato_worker_flushes_total");
            until("two flushes", || {
                most = most.max(rig.worker.process.resident_bytes());
                (sum("zibrato_worker_flushes_total") >= flushes + 2.0).then_some(())
            });
            assert_eq!(rig.held(), batches, "nothing was recorded");
            assert!(sum("zibrato_worker_spool_bytes") < batches * BATCH_BYTES_MAX);
            assert!(most < before + GROWTH_BYTES_MAX, "{before} bytes became {most}");

            let is_http = HTTP.iter().any(|http| http.kind.program == kind.program);
            let http = is_http.then(|| Backend::on(&addr, []));
            let peer = http.is_none().then(|| Peer::on(&addr, []));
            rig.emptied();
            let delivery = rig.finish();
            assert!(is_clean(&delivery) && field(&delivery.line, "ambiguous") == "0", "{}", delivery.line);
            let bodies: Vec<Vec<u8>> = match (http, peer) {
                (Some(http), _) => http.stored().into_iter().map(|request| request.body).collect(),
                (None, peer) => peer.unwrap().connections().into_iter().map(|(_, bytes)| bytes).collect(),
            };
            let values = |name| kind.values(bodies.iter().map(|body| &body[..]), name);
            let (hits, lat) = if kind.totals {
                ([1.0, 3.0, 7.0], [1.0, 2.0, 3.0])
            } else {
                ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
            };
            assert_eq!((values("hits"), values("lat")), (hits.to_vec(), lat.to_vec()));
        },
    );
}

// Row 15.
#[test]
fn each_status_does_what_the_table_of_its_backend_says() {
    each_http(|Http { kind, retried, dropped, .. }| {
        let backend = Backend::start([]);
        let mut rig = Rig::start(kind, addr_of(&backend));
        let settled = |rig: &Rig, steps: Vec<Step>, records: &[&str]| {
            let (before, attempts) = (backend.requests().len(), steps.len());
            backend.follow(steps);
            rig.record(records);
            backend.asked(before + attempts);
            rig.emptied();
            backend.requests().split_off(before)
        };
        for status in *dropped {
            let attempts = settled(&rig, vec![Step::Say(*status, "no".to_owned())], &["gone=1"]);
            assert_eq!(attempts.len(), 1, "{status} is not sent again");
        }
        // The last step is a success.
        let steps = retried.iter().map(|(status, _)| again(*status)).chain([Step::Answer(200, Vec::new())]);
        let attempts = settled(&rig, steps.collect(), &["hits=3", "lat=1000000"]);
        assert_eq!(attempts.len(), retried.len() + 1);
        assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body), "the bytes changed");
        assert!(attempts.iter().all(|attempt| attempt.batch == attempts[0].batch), "the id changed");

        let format = kind.format;
        let is_large = move |body: &[u8]| format.points(body).len() > 1;
        backend.obey(move |body| if is_large(body) { again(413) } else { Step::Answer(200, Vec::new()) });
        let halves = settled(&rig, vec![again(413)], &["a=1", "b=2", "c=3"]);
        let alone = halves.iter().filter(|request| request.is_stored());
        assert_eq!(alone.count(), 3, "{halves:?}");

        backend.follow(vec![again(401); EVER]);
        rig.record(&["late=1"]);
        rig.worker.process.line("the backend refuses credentials or address; batches are kept");
        let delivery = rig.finish();
        let lost = dropped.len();
        let lost = format!(
            " dropped [refused_by_backend: points {lost} counter_sum {lost} timer_records 0 gauge_sets 0]"
        );
        assert!(delivery.line.contains(&lost), "{}", delivery.line);
        assert_eq!((delivery.held, delivery.points), (1, 5), "{}", delivery.line);
        let unknown = retried.iter().filter(|(_, is_unknown)| *is_unknown).count();
        assert_eq!(field(&delivery.line, "ambiguous"), unknown.to_string());
        let stored = backend.stored();
        let totals = ["hits", "lat", "a", "b", "c", "gone", "late"].map(|name| total(kind, &stored, name));
        assert_eq!(totals, [3.0, 1.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
    });
}

// Row 15, of a receiver that answers nothing.
#[test]
fn a_receiver_that_speaks_is_not_carbon_and_gets_nothing_counted_as_delivered() {
    let peer = Peer::on("127.0.0.1:0", vec![PeerStep::Talk; EVER]);
    let mut rig = Rig::start(&GRAPHITE, &peer.addr);
    rig.record(&["hits=3"]);
    rig.worker.process.line("the backend refuses credentials or address; batches are kept");
    let delivery = rig.finish();
    assert_eq!((delivery.held, delivery.points), (1, 0), "{}", delivery.line);
}

// Row 16.
#[test]
fn after_a_lost_answer_the_same_bytes_come_again_and_are_counted_ambiguous() {
    each_http(|Http { kind, .. }| {
        let backend = Backend::start([Step::Close]);
        let rig = Rig::start(kind, addr_of(&backend));
        rig.record(&["hits=3", "lat=1000000"]);
        backend.asked(2);
        rig.emptied();
        let delivery = rig.finish();
        assert!(is_clean(&delivery) && field(&delivery.line, "ambiguous") == "1", "{}", delivery.line);
        same_twice(kind, &backend.requests());
    });
}

// Row 16, with a restart.
#[test]
fn a_worker_that_is_killed_before_the_answer_sends_the_same_bytes_again() {
    each_http(|Http { kind, .. }| {
        let backend = Backend::start([Step::Silence]);
        let rig = Rig::start(kind, addr_of(&backend));
        rig.record(&["hits=3", "lat=1000000"]);
        backend.asked(1);
        let rig = rig.restarted(kind, addr_of(&backend));
        backend.asked(2);
        rig.emptied();
        let delivery = rig.finish();
        assert!(is_clean(&delivery), "{}", delivery.line);
        assert_eq!(delivery.timer_records, 1, "{}", delivery.line);
        let requests = backend.requests();
        // Totals are told again after a start.
        assert!(kind.totals || requests.len() == 2, "{} requests", requests.len());
        same_twice(kind, &requests[..2]);
        assert_eq!(total(kind, &requests[1..], "hits"), 3.0);
    });
}

fn same_twice(kind: &Kind, requests: &[Request]) {
    let [first, second] = requests else { panic!("{} requests", requests.len()) };
    assert!(first.body == second.body && first.batch == second.batch, "{first:?} and {second:?}");
    let stored = &requests[1..];
    assert_eq!((total(kind, stored, "hits"), total(kind, stored, "lat")), (3.0, 1.0));
}

// Row 16, of a receiver that answers nothing.
#[test]
fn carbon_gets_the_same_bytes_again_after_a_reset_and_after_a_kill() {
    each(
        &[PeerStep::Reset, PeerStep::Silence],
        |_| GRAPHITE.program.to_owned(),
        |step| {
            let peer = Peer::on("127.0.0.1:0", [*step]);
            let mut rig = Rig::start(&GRAPHITE, &peer.addr);
            rig.record(&["hits=3", "lat=1000000"]);
            peer.asked(1);
            if *step == PeerStep::Silence {
                rig = rig.restarted(&GRAPHITE, &peer.addr);
            }
            peer.asked(2);
            rig.emptied();
            let delivery = rig.finish();
            let ambiguous = if *step == PeerStep::Reset { "1" } else { "0" };
            assert!(
                is_clean(&delivery) && field(&delivery.line, "ambiguous") == ambiguous,
                "{}",
                delivery.line
            );
            let connections = peer.connections();
            assert_eq!((connections.len(), &connections[0].1), (2, &connections[1].1));
            assert_eq!(GRAPHITE.values([&connections[1].1[..]], "hits"), [3.0]);
        },
    );
}

// Row 17.
#[test]
fn a_poisoned_point_is_lost_alone_and_named() {
    let rows: Vec<(&Http, bool)> = HTTP.iter().flat_map(|http| [(http, true), (http, false)]).collect();
    each(
        &rows,
        |(http, _)| http.kind.program.to_owned(),
        |(http, is_named)| {
            let Http { kind, named, named_reason, .. } = http;
            let backend = Backend::start([]);
            let (format, named, is_named) = (kind.format, *named, *is_named);
            backend.obey(move |body| match format.points(body).iter().find(|point| point.name == "poison") {
                Some(poison) if is_named => Step::Say(400, named(poison)),
                Some(_) => Step::Say(400, "something is wrong".to_owned()),
                None => Step::Answer(200, Vec::new()),
            });
            let rig = Rig::start(kind, addr_of(&backend));
            rig.record(&["a=1", "b=2", "poison=7", "c=3", "d=4"]);
            until("the good ones", || (total(kind, &backend.stored(), "d") == 4.0).then_some(()));
            rig.emptied();
            let delivery = rig.finish();
            let reason = if is_named { named_reason } else { "refused_by_backend" };
            let lost = format!(" dropped [{reason}: points 1 counter_sum 7 timer_records 0 gauge_sets 0]");
            assert!(delivery.line.contains(&lost), "{}", delivery.line);
            assert_eq!((delivery.held, delivery.points), (0, 4), "{}", delivery.line);
            let errors: Vec<&str> = delivery.stderr.lines().filter(|line| line.contains("ERROR")).collect();
            assert!(errors.len() == 1 && errors[0].contains("poison"), "{errors:?}");
            let stored = backend.stored();
            let totals = ["a", "b", "poison", "c", "d"].map(|name| total(kind, &stored, name));
            assert_eq!(totals, [1.0, 2.0, 0.0, 3.0, 4.0]);
            if is_named {
                assert_eq!(backend.requests().len(), 2, "all but the named one go at once");
            }
        },
    );
}

// Row 18.
#[test]
fn a_retry_after_that_makes_no_sense_is_not_obeyed_and_a_huge_one_is_capped() {
    each_http(|Http { kind, .. }| {
        let waits = ["-5", "Sun, 06 Nov 1983 08:49:37 GMT", "soon", "99999999999999999999999"];
        let backend = Backend::start(waits.map(|wait| retry_after(503, wait)));
        let rig = Rig::start(kind, addr_of(&backend));
        rig.record(&["hits=3"]);
        backend.asked(waits.len());
        let waited = |stderr: &str| -> Vec<u64> {
            let lines =
                stderr.lines().filter(|line| line.contains("a batch was not delivered; trying again"));
            lines.map(|line| field(line, "wait_ms").parse().unwrap()).collect()
        };
        let waited = until("the last wait", || {
            Some(waited(&rig.worker.process.stderr())).filter(|all| all.len() == waits.len())
        });
        let ranges = [500..=1_000, 500..=1_000, 500..=4_000, 600_000..=600_500];
        let is_right = waited.iter().zip(&ranges).all(|(wait, range)| range.contains(wait));
        assert!(is_right, "{waited:?} ms");
        // The end does not wait for it.
        let delivery = rig.finish();
        assert!(is_clean(&delivery), "{}", delivery.line);
        assert_eq!(total(kind, &backend.stored(), "hits"), 3.0);
    });
}

// Row 19.
#[test]
fn an_answer_without_an_end_is_cut_and_one_that_does_not_come_is_given_up() {
    let scripts = [vec![Step::Endless(503), Step::EndlessHeaders, Step::Silence], vec![Step::Drip]];
    let rows: Vec<(&Kind, &[Step])> =
        HTTP.iter().flat_map(|http| scripts.iter().map(|script| (&http.kind, &script[..]))).collect();
    let started = Instant::now();
    let http = || {
        each(
            &rows,
            |(kind, _)| kind.program.to_owned(),
            |(kind, script)| {
                let backend = Backend::start(script.to_vec());
                // Its status has come, and counts.
                backend.obey(|_| Step::Endless(200));
                let rig = Rig::start(kind, addr_of(&backend));
                let before = rig.worker.process.resident_bytes();
                rig.record(&["hits=3"]);
                backend.asked(1);
                let most = rig.emptied();
                assert!(most < before + GROWTH_BYTES_MAX, "{before} bytes became {most}");
                let delivery = rig.finish();
                assert!(is_clean(&delivery), "{}", delivery.line);
                let attempts = backend.requests();
                assert_eq!(attempts.len(), script.len() + 1);
                assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body));
                // All but the answer of which the status came.
                let unknown = script.iter().filter(|step| **step != Step::Endless(503)).count();
                assert_eq!(field(&delivery.line, "ambiguous"), unknown.to_string(), "{}", delivery.line);
            },
        );
    };
    let carbon = || {
        let peer = Peer::on("127.0.0.1:0", [PeerStep::Silence]);
        let rig = Rig::start(&GRAPHITE, &peer.addr);
        rig.record(&["hits=3"]);
        peer.asked(2);
        rig.emptied();
        let delivery = rig.finish();
        assert!(is_clean(&delivery) && field(&delivery.line, "ambiguous") == "1", "{}", delivery.line);
    };
    thread::scope(|scope| {
        scope.spawn(carbon);
        http();
    });
    let took_s = started.elapsed().as_secs();
    assert!(took_s >= 9, "nothing ran into a time-out within {took_s} s");
}

/// How each program is started without a receiver.
fn nowhere(name: &str, home: &Path) -> Vec<String> {
    let flags: &[&str] = match name {
        "librato" | "otlp" => &["--url", "http://127.0.0.1:9/"],
        "influx" => &["--url", "http://127.0.0.1:9/", "--database", "shop"],
        "prometheus" => &["--url", "http://127.0.0.1:9/", "--instance", "w1"],
        "graphite" => &["--address", NOWHERE],
        "statsd" => &["--address", "tcp://127.0.0.1:9"],
        "jsonl" => {
            // No file can be made beneath a file.
            let file = home.join("file");
            std::fs::write(&file, "").unwrap();
            return vec!["--file".to_owned(), file.join("lines").to_str().unwrap().to_owned()];
        }
        other => panic!("how is {other} started without a receiver?"),
    };
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Does a row for each program there is, with its name and a directory.
fn each_program(row: impl Fn(&str, &[String], &Path) + Sync) {
    each(
        zibrato_worker::backends::ALL,
        |kind| kind.name.to_owned(),
        |kind| {
            let home = directory();
            row(&format!("zibrato-{}", kind.name), &nowhere(kind.name, home.path()), home.path());
        },
    );
}

/// Lets a process write files of so many bytes, or of any length.
fn limit_files(process: &Process, bytes: Option<u64>) {
    let pid = Pid::from_raw(process.pid() as i32);
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

// Row 21.
#[test]
fn while_the_disk_takes_nothing_changes_wait_in_memory_and_are_there_afterwards() {
    each_program(|program, flags, home| {
        let broker = Broker::start();
        // The signal that comes with a file that is too long would end it; without it a write fails, as on a full disk.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(command(program).get_program());
        shell.args(worker_args(flags, &broker.workers, home));
        shell.args(["--flush", "1", "--http", "127.0.0.1:0"]);
        let mut process = Process::spawn(shell);
        let http = field(&process.line("worker started"), "status").to_owned();
        let worker = Worker { process, http };
        broker.subscribed(1);
        limit_files(&worker.process, Some(1));
        record(&broker, &["hits=3", "lat=1000000"]);
        worker.counted("zibrato_worker_flushes_aborted_total", &[], 2.0);
        assert_eq!(worker.metrics().sum("zibrato_worker_spool_batches", &[]), 0.0);
        limit_files(&worker.process, None);
        worker.counted("zibrato_worker_spool_batches", &[], 1.0);
        let delivery = worker.finish();
        assert!(
            delivery
                .line
                .contains(" held [points 2 counter_sum 3 timer_records 1 gauge_sets 0] + dropped [none]"),
            "{}",
            delivery.line
        );
    });
}

// Row 21, at the start.
#[test]
fn a_spool_that_cannot_be_made_is_a_failure_that_names_it() {
    each_program(|program, flags, home| {
        std::fs::write(home.join("spool"), "").unwrap();
        let ended = Process::run(program, &refs(&worker_args(flags, "tcp://127.0.0.1:9", home)));
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{}", ended.stderr);
        let path = home.join("spool");
        assert!(ended.stderr.contains(path.to_str().unwrap()), "{}", ended.stderr);
    });
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).chain(["--no-http"]).collect()
}

/// Leaves one batch in the spool, of a counter of 3 and a timer.
fn leave_one(program: &str, flags: &[String], home: &Path, broker: &Broker) {
    let worker = worker_of(program, flags, broker, home);
    broker.subscribed(1);
    record(broker, &["hits=3", "lat=1000000"]);
    worker.counted("zibrato_worker_spool_batches", &[], 1.0);
    assert_eq!(worker.finish().held, 1);
}

// Row 22, a file that is none any more.
#[test]
fn a_spool_with_flipped_bits_is_put_away_and_the_worker_starts() {
    each_program(|program, flags, home| {
        let broker = Broker::start();
        leave_one(program, flags, home, &broker);
        let path = home.join("spool/spool.db");
        let mut bytes = std::fs::read(&path).unwrap();
        // Each page but the first begins with its type.
        bytes.iter_mut().skip(4_096).step_by(4_096).for_each(|byte| *byte ^= 0x10);
        std::fs::write(&path, &bytes).unwrap();
        let mut worker = worker_of(program, flags, &broker, home);
        worker.process.line("the spool is damaged; starting a new one");
        assert_eq!(worker.metrics().sum("zibrato_worker_spool_quarantined_total", &[]), 1.0);
        let files = std::fs::read_dir(home.join("spool")).unwrap();
        let kept: Vec<PathBuf> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.to_str().unwrap().contains("spool.db.damaged-"))
            .collect();
        assert!(kept.len() == 1 && std::fs::read(&kept[0]).unwrap() == bytes, "{kept:?}");
        record(&broker, &["hits=3"]);
        worker.counted("zibrato_worker_spool_batches", &[], 1.0);
        let delivery = worker.finish();
        assert!(delivery.line.contains("+ restored [points 0 ") && delivery.held == 1, "{}", delivery.line);
    });
}

// Row 22, a batch that is another one now.
#[test]
fn a_batch_with_a_flipped_bit_is_dropped_and_counted() {
    each_program(|program, flags, home| {
        let broker = Broker::start();
        leave_one(program, flags, home, &broker);
        let spool = rusqlite::Connection::open(home.join("spool/spool.db")).unwrap();
        let mut body: Vec<u8> = spool.query_row("SELECT body FROM batch", [], |row| row.get(0)).unwrap();
        let middle = body.len() / 2;
        body[middle] ^= 0x04;
        assert_eq!(spool.execute("UPDATE batch SET body = ?1", [body]).unwrap(), 1);
        drop(spool);
        let mut worker = worker_of(program, flags, &broker, home);
        worker.process.line("a batch in the spool is damaged and was dropped");
        let delivery = worker.finish();
        let lost = " dropped [spool_damaged: points 2 counter_sum 3 timer_records 1 gauge_sets 0]";
        assert!(delivery.line.contains(lost), "{}", delivery.line);
    });
}

// Row 23.
#[test]
fn a_second_worker_on_a_spool_refuses_with_one_line_and_leaves_it_alone() {
    each_program(|program, flags, home| {
        let broker = Broker::start();
        let worker = worker_of(program, flags, &broker, home);
        broker.subscribed(1);
        let second = Process::run(program, &refs(&worker_args(flags, &broker.workers, home)));
        assert_eq!((second.code, second.stderr.lines().count()), (Some(1), 1), "{}", second.stderr);
        assert!(second.stderr.contains("is used by another worker"), "{}", second.stderr);
        record(&broker, &["hits=3"]);
        worker.counted("zibrato_worker_spool_batches", &[], 1.0);
        assert_eq!(worker.finish().held, 1);
    });
}
