use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tried::Attempts;
use super::*;
use crate::backend::{Body, Content, Encoded, Limits, Pending};
use crate::spool::Commit;
use crate::units::PointUnits;

const NOW_MS: u64 = 1_700_000_000_000;
const AGE_MAX: Duration = Duration::from_secs(6_900);
const POLICY: RetryPolicy = RetryPolicy {
    floor: Duration::from_millis(1),
    ceiling: Duration::from_millis(4),
    hold: Duration::from_millis(1),
};
const LONG: Duration = Duration::from_secs(30);

/// What the store never answers to.
const HANGS: &str = "hangs";

/// A store of words: a body is words separated by commas, a point is a word.
#[derive(Default)]
struct Words {
    /// Answers to give before the rule below applies.
    script: Mutex<VecDeque<Answer>>,
    /// What was sent: id and bytes of each attempt.
    sent: Mutex<Vec<(String, String)>>,
    /// Whether a refusal names the words with an x.
    names: bool,
    /// What each batch that was answered said about attempts before.
    unknown: Mutex<Vec<(String, u32)>>,
    /// How many may be sent at a time; 0 is as 1.
    requests_max: usize,
    /// How many are on their way, and how many were when each was answered.
    flying: AtomicU64,
    together: Mutex<Vec<u64>>,
}

impl Words {
    fn sent(&self) -> Vec<(String, String)> {
        self.sent.lock().unwrap().clone()
    }

    fn stored(&self) -> Vec<String> {
        self.sent().into_iter().map(|(_, text)| text).filter(|text| !text.contains('x')).collect()
    }
}

fn status(status: u16) -> Answer {
    Answer::Response(Response { status, ..Response::default() })
}

impl Backend for Words {
    fn name(&self) -> &'static str {
        "words"
    }
    fn target(&self) -> String {
        "memory".to_owned()
    }
    fn limits(&self) -> Limits {
        Limits { points_max: 300, body_bytes_max: 1 << 20, age_max: AGE_MAX, points_per_series_max: 1 }
    }
    fn requests_max(&self) -> usize {
        self.requests_max
    }
    fn probe(&self) -> Pending<'_, Probe> {
        Box::pin(async { Probe::NotNeeded })
    }
    fn encode(&self, _: &Content<'_>) -> Encoded {
        Encoded::default()
    }
    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        let text = String::from_utf8(batch.body.bytes.clone()).unwrap();
        let refused = text.contains('x');
        self.sent.lock().unwrap().push((batch.id.clone(), text.clone()));
        self.flying.fetch_add(1, Ordering::SeqCst);
        let scripted = self.script.lock().unwrap().pop_front();
        Box::pin(async move {
            tokio::task::yield_now().await;
            if text == HANGS {
                std::future::pending::<()>().await;
            }
            self.together.lock().unwrap().push(self.flying.fetch_sub(1, Ordering::SeqCst));
            scripted.unwrap_or_else(|| status(if refused { 400 } else { 200 }))
        })
    }
    fn classify(&self, response: &Response, batch: &Batch, _: u64) -> Verdict {
        let text = String::from_utf8(batch.body.bytes.clone()).unwrap();
        self.unknown.lock().unwrap().push((text, batch.attempts_unknown));
        match response.status {
            200 => Verdict::Delivered { odd: false },
            400 if self.names => {
                let text = String::from_utf8(batch.body.bytes.clone()).unwrap();
                let named = text.split(',').enumerate().filter(|(_, word)| word.contains('x'));
                Verdict::Poisoned { points: named.map(|(at, _)| at).collect(), reason: "refused_by_backend" }
            }
            400 => Verdict::Bisect,
            401 => Verdict::Hold,
            206 => {
                let said = String::from_utf8(response.body.clone()).unwrap();
                Verdict::Partial { rejected: said.parse().unwrap_or(0), said }
            }
            409 => Verdict::Drop { reason: "refused_by_backend" },
            410 => Verdict::Stop,
            418 => Verdict::RetryFew,
            504 => Verdict::Retry { after: None, outcome_unknown: true },
            _ => Verdict::Retry { after: None, outcome_unknown: false },
        }
    }
    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let words: Vec<_> =
            text.split(',').zip(keep).filter(|(_, keep)| **keep).map(|(word, _)| word).collect();
        Some(words.join(",").into_bytes())
    }
    fn describe(&self, _: &[u8], point: usize) -> Option<String> {
        Some(format!("word {point}"))
    }
}

struct Setup {
    backend: Arc<Words>,
    sender: Sender,
    phase: watch::Sender<Phase>,
    now_ms: Arc<AtomicU64>,
}

fn setup(directory: &Path, backend: Words) -> Setup {
    let backend = Arc::new(backend);
    let (spool, _) = Spool::open(directory, 1 << 20, NOW_MS).unwrap();
    let (phase, receiver) = watch::channel(Phase::Running);
    let now_ms = Arc::new(AtomicU64::new(NOW_MS));
    let clock = Arc::clone(&now_ms);
    let totals = Shared::default();
    totals.lock().restored = spool.held().units;
    let sender = Sender {
        backend: Arc::clone(&backend) as Arc<dyn Backend>,
        spool: Arc::new(Mutex::new(spool)),
        totals,
        policy: POLICY,
        clock: WallClock::from_fn(move || clock.load(Ordering::SeqCst)),
        committed: Arc::new(Notify::new()),
        phase: receiver,
        shutdown: Shutdown::new(),
        tried: Tried::default(),
    };
    Setup { backend, sender, phase, now_ms }
}

impl Setup {
    fn commit(&self, texts: &[&str]) {
        self.commit_at(NOW_MS, texts);
    }

    fn commit_at(&self, flushed_ms: u64, texts: &[&str]) {
        let bodies: Vec<_> = texts
            .iter()
            .map(|text| {
                let points = text.split(',').map(|word| PointUnits::Timer(word.len() as u64)).collect();
                let body =
                    Body { bytes: text.as_bytes().to_vec(), content_type: "text/plain".to_owned(), points };
                (format!("id-{text}"), body)
            })
            .collect();
        self.sender.totals.lock().accepted.add(&{
            let mut units = crate::units::Units::default();
            bodies.iter().for_each(|(_, body)| units.add(&crate::units::Units::of(&body.points)));
            units
        });
        let offered = self.sender.totals.lock().accepted;
        self.sender.totals.lock().offered = offered;
        let commit = Commit { flushed_ms, bodies: &bodies, removed: &[] };
        self.sender.spool.lock().unwrap().begin().unwrap().commit(&commit).unwrap();
        self.sender.committed.notify_one();
    }

    /// Sends all that is held, then ends.
    async fn drain(self) -> (Arc<Words>, crate::totals::Totals) {
        self.phase.send(Phase::Finishing(Instant::now() + LONG)).unwrap();
        let totals = self.sender.totals.clone();
        tokio::time::timeout(LONG, self.sender.run()).await.unwrap();
        let totals = totals.snapshot();
        assert!(totals.law_holds(), "{totals}");
        (self.backend, totals)
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn batches_are_sent_in_order_and_each_retry_carries_the_same_bytes_and_id() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    setup.backend.script.lock().unwrap().extend([
        status(500),
        status(429),
        Answer::NotSent("refused".to_owned()),
        Answer::Lost("reset".to_owned()),
        status(504),
    ]);
    setup.commit(&["a,b", "c"]);
    let (backend, totals) = setup.drain().await;
    let first = ("id-a,b".to_owned(), "a,b".to_owned());
    let mut expected = vec![first; 6];
    expected.push(("id-c".to_owned(), "c".to_owned()));
    assert_eq!(backend.sent(), expected);
    assert_eq!((totals.attempts, totals.retries, totals.ambiguous), (7, 5, 2));
    assert_eq!((totals.delivered.timer_records, totals.batches_delivered, totals.held.batches), (3, 2, 0));
    assert_eq!(totals.last_success_ms, Some(NOW_MS));
}

#[tokio::test]
async fn batches_of_one_flush_are_sent_together_as_far_as_the_backend_wants_it() {
    let at_a_time = |requests_max| async move {
        let directory = temporary();
        let setup = setup(directory.path(), Words { requests_max, ..Words::default() });
        setup.commit_at(NOW_MS, &["a", "b", "c"]);
        setup.commit_at(NOW_MS + 1, &["d", "e"]);
        let (backend, totals) = setup.drain().await;
        assert_eq!((totals.batches_delivered, totals.attempts), (5, 5));
        backend.together.lock().unwrap().clone()
    };
    assert_eq!(at_a_time(0).await, [1; 5]);
    assert_eq!(at_a_time(1).await, [1; 5]);
    assert_eq!(at_a_time(2).await, [2, 1, 1, 2, 1], "two of three, the third, and those of the next flush");
    assert_eq!(at_a_time(9).await, [3, 2, 1, 2, 1]);
}

#[tokio::test]
async fn of_batches_sent_together_one_that_fails_holds_up_the_next_flush_alone() {
    let directory = temporary();
    let setup = setup(directory.path(), Words { requests_max: 2, ..Words::default() });
    let lost = || Answer::Lost("reset".to_owned());
    setup.backend.script.lock().unwrap().extend([status(500), status(200), lost(), lost(), status(503)]);
    setup.commit_at(NOW_MS, &["a", "b", "c"]);
    setup.commit_at(NOW_MS + 1, &["d"]);
    let (backend, totals) = setup.drain().await;
    let sent: Vec<_> = backend.sent().into_iter().map(|(_, text)| text).collect();
    assert_eq!(sent, ["a", "b", "a", "c", "a", "c", "a", "d"]);
    assert_eq!((totals.batches_delivered, totals.retries, totals.ambiguous), (4, 4, 2));
    let mut told = backend.unknown.lock().unwrap().clone();
    told.sort();
    let expected = [("a", 0), ("a", 1), ("a", 1), ("b", 0), ("c", 1), ("d", 0)];
    assert_eq!(told, expected.map(|(text, attempts)| (text.to_owned(), attempts)));
}

#[tokio::test]
async fn after_a_restart_all_that_may_have_been_on_the_way_may_have_been_stored() {
    let directory = temporary();
    let words = || Words { requests_max: 2, ..Words::default() };
    let first = setup(directory.path(), words());
    first.commit(&["a", "b", "c"]);
    drop(first);
    let (backend, _) = setup(directory.path(), words()).drain().await;
    let mut told = backend.unknown.lock().unwrap().clone();
    told.sort();
    assert_eq!(told, [("a", 1), ("b", 1), ("c", 0)].map(|(text, attempts)| (text.to_owned(), attempts)));
}

#[tokio::test]
async fn what_was_answered_is_settled_while_its_neighbour_hangs() {
    let directory = temporary();
    let setup = setup(directory.path(), Words { requests_max: 2, ..Words::default() });
    setup.commit(&[HANGS, "b"]);
    let (spool, totals) = (Arc::clone(&setup.sender.spool), setup.sender.totals.clone());
    let shutdown = setup.sender.shutdown.clone();
    let running = tokio::spawn(setup.sender.run());
    let settled = async {
        while totals.lock().batches_delivered == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, settled).await.unwrap();
    shutdown.request();
    shutdown.request();
    tokio::time::timeout(LONG, running).await.unwrap().unwrap();
    let totals = totals.snapshot();
    assert_eq!((totals.ambiguous, totals.held.batches, spool.lock().unwrap().held().batches), (1, 1, 1));
    assert!(totals.law_holds(), "{totals}");
}

#[tokio::test]
async fn of_batches_sent_together_one_that_arrives_does_not_hide_what_is_wrong_with_another() {
    for (answers, is_rejected) in
        [([401, 200], true), ([200, 401], true), ([500, 200], false), ([200, 200], false)]
    {
        let directory = temporary();
        let setup = setup(directory.path(), Words { requests_max: 2, ..Words::default() });
        setup.backend.script.lock().unwrap().extend(answers.map(status));
        setup.commit(&["a", "b"]);
        let mut sender = setup.sender;
        (sender.totals.lock().is_rejected, sender.totals.lock().backend_error) =
            (true, Some("old".to_owned()));
        let Ok(Some(Next::Batches(batches))) = sender.oldest().await else { panic!() };
        let is_well = answers == [200, 200];
        assert_eq!(sender.advance(&batches).await == ON, is_well);
        let totals = sender.totals.snapshot();
        assert_eq!(totals.is_rejected, is_rejected, "{answers:?}");
        let worst = answers.into_iter().max().map(|status| format!("status {status}:"));
        assert_eq!(totals.backend_error, worst.filter(|_| !is_well), "{answers:?}");
    }
}

#[tokio::test]
async fn what_is_settled_is_not_remembered() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    setup.commit(&["a"]);
    let mut sender = setup.sender;
    let Ok(Some(Next::Batches(batches))) = sender.oldest().await else { panic!() };
    sender.tried.of_mut("id-a").unknown += 1;
    assert_eq!((sender.deliver(&batches[0]).await, sender.tried.of("id-a")), (ON, Attempts::default()));
}

#[tokio::test]
async fn a_backend_that_is_gone_for_good_ends_the_worker_in_order_and_keeps_its_batches() {
    for is_ending in [false, true] {
        let directory = temporary();
        let setup = setup(directory.path(), Words::default());
        setup.backend.script.lock().unwrap().push_back(status(410));
        setup.commit(&["a", "b"]);
        let (spool, shutdown) = (Arc::clone(&setup.sender.spool), setup.sender.shutdown.clone());
        if is_ending {
            shutdown.request();
        }
        tokio::time::timeout(LONG, setup.sender.run()).await.unwrap();
        assert!(shutdown.is_requested() && !shutdown.is_immediate());
        assert_eq!((setup.backend.sent().len(), spool.lock().unwrap().held().batches), (1, 2));
    }
}

#[tokio::test]
async fn a_named_offender_alone_is_lost() {
    let directory = temporary();
    let setup = setup(directory.path(), Words { names: true, ..Words::default() });
    setup.commit(&["a,xx,b", "xxx,x"]);
    let (backend, totals) = setup.drain().await;
    assert_eq!(backend.stored(), ["a,b"]);
    assert_eq!(
        (totals.delivered.timer_records, totals.dropped.of("refused_by_backend").timer_records),
        (2, 6)
    );
    // The rest is another batch, so it has another id.
    assert_ne!(backend.sent()[1].0, "id-a,xx,b");
}

#[tokio::test]
async fn an_offender_that_nobody_names_is_found_by_halves() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    setup.commit(&["a,b,c,xx,d,e,f", "g"]);
    let (backend, totals) = setup.drain().await;
    let mut words: Vec<_> = backend
        .stored()
        .iter()
        .flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    words.sort();
    assert_eq!(words, ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(totals.dropped.of("refused_by_backend").timer_records, 2);
}

#[tokio::test]
async fn a_batch_and_its_parts_say_how_often_they_may_have_been_stored() {
    let directory = temporary();
    let first = setup(directory.path(), Words::default());
    first.commit(&["r,s", "a,x,b,c", "d"]);
    drop(first);
    let second = setup(directory.path(), Words::default());
    second.backend.script.lock().unwrap().extend([
        status(500),
        status(200),
        Answer::Lost("reset".to_owned()),
        Answer::NotSent("refused".to_owned()),
        status(504),
    ]);
    let (backend, _) = second.drain().await;
    let told = backend.unknown.lock().unwrap().clone();
    let expected = [
        ("r,s", 1),
        ("r,s", 1),
        ("a,x,b,c", 1),
        ("a,x,b,c", 2),
        ("a,x", 2),
        ("b,c", 2),
        ("a", 2),
        ("x", 2),
        ("d", 0),
    ];
    assert_eq!(told, expected.map(|(text, attempts)| (text.to_owned(), attempts)));
}

#[tokio::test]
async fn what_the_backend_refuses_for_good_or_a_gateway_refuses_five_times_is_dropped() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    setup.backend.script.lock().unwrap().extend([409, 418, 418, 418, 418, 418].map(status));
    setup.commit(&["a", "bb", "ccc"]);
    let (backend, totals) = setup.drain().await;
    assert_eq!(totals.dropped.of("refused_by_backend").timer_records, 1);
    assert_eq!(totals.dropped.of("refused_on_the_way").timer_records, 2);
    assert_eq!((totals.delivered.timer_records, backend.sent().len()), (3, 7));
}

#[tokio::test]
async fn of_a_delivery_in_part_the_last_points_count_as_dropped_and_nothing_is_sent_again() {
    for (said, delivered, dropped, batches, error) in [
        ("2", 1, 5, 1, Some("2 points refused: 2")),
        ("3", 0, 6, 0, Some("3 points refused: 3")),
        ("18446744073709551615", 0, 6, 0, Some("3 points refused: 18446744073709551615")),
        ("only\nadvice", 6, 0, 1, None),
    ] {
        let directory = temporary();
        let setup = setup(directory.path(), Words::default());
        let answer = Response { status: 206, body: said.as_bytes().to_vec(), ..Response::default() };
        setup.backend.script.lock().unwrap().push_back(Answer::Response(answer));
        setup.commit(&["a,bb,ccc"]);
        let (backend, totals) = setup.drain().await;
        assert_eq!(
            (totals.delivered.timer_records, totals.dropped.of("refused_by_backend").timer_records),
            (delivered, dropped),
            "{said}"
        );
        assert_eq!((totals.batches_delivered, totals.held.batches, backend.sent().len()), (batches, 0, 1));
        assert_eq!((totals.backend_error.as_deref(), totals.retries), (error, 0));
        assert_eq!(totals.last_success_ms, Some(NOW_MS));
    }
}

#[tokio::test]
async fn refused_credentials_drop_nothing() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    setup.backend.script.lock().unwrap().extend([401; 20].map(status));
    setup.commit(&["a"]);
    let (backend, totals) = setup.drain().await;
    assert!(!totals.is_rejected);
    assert_eq!((backend.sent().len(), totals.rejections, totals.delivered.timer_records), (21, 20, 1));
}

#[tokio::test]
async fn an_hour_without_the_backend_loses_nothing_and_two_lose_what_it_would_refuse() {
    for (passed_s, delivered, dropped) in [(3_600, 1, 0), (6_900, 1, 0), (6_901, 0, 1)] {
        let directory = temporary();
        let setup = setup(directory.path(), Words::default());
        setup.commit(&["a"]);
        setup.now_ms.store(NOW_MS + passed_s * 1_000, Ordering::SeqCst);
        let (backend, totals) = setup.drain().await;
        assert_eq!(
            (totals.delivered.timer_records, totals.dropped.of("too_old").timer_records),
            (delivered, dropped)
        );
        assert_eq!(backend.sent().len() as u64, delivered);
    }
}

#[tokio::test]
async fn a_commit_wakes_the_sender_and_an_immediate_end_keeps_what_was_not_sent() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    let (totals, shutdown) = (setup.sender.totals.clone(), setup.sender.shutdown.clone());
    let running = tokio::spawn(setup.sender.clone().run());
    setup.commit(&["a"]);
    until(|| totals.snapshot().delivered.timer_records > 0).await;
    setup.backend.script.lock().unwrap().extend([500; 1_000].map(status));
    setup.commit(&["b"]);
    shutdown.request();
    shutdown.request();
    tokio::time::timeout(LONG, running).await.unwrap().unwrap();
    assert_eq!(setup.sender.spool.lock().unwrap().held().batches, 1);
}

#[tokio::test]
async fn a_batch_that_is_being_sent_at_the_deadline_stays_and_counts_as_ambiguous() {
    struct Never(Words);
    impl Backend for Never {
        fn name(&self) -> &'static str {
            "never"
        }
        fn target(&self) -> String {
            self.0.target()
        }
        fn limits(&self) -> Limits {
            self.0.limits()
        }
        fn probe(&self) -> Pending<'_, Probe> {
            self.0.probe()
        }
        fn encode(&self, content: &Content<'_>) -> Encoded {
            self.0.encode(content)
        }
        fn send<'a>(&'a self, _: &'a Batch) -> Pending<'a, Answer> {
            Box::pin(std::future::pending())
        }
        fn classify(&self, response: &Response, batch: &Batch, now_ms: u64) -> Verdict {
            self.0.classify(response, batch, now_ms)
        }
        fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
            self.0.select(bytes, keep)
        }
        fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
            self.0.describe(bytes, point)
        }
    }
    let directory = temporary();
    let mut setup = setup(directory.path(), Words::default());
    setup.sender.backend = Arc::new(Never(Words::default()));
    setup.commit(&["a"]);
    setup.phase.send(Phase::Finishing(Instant::now() + Duration::from_millis(20))).unwrap();
    tokio::time::timeout(LONG, setup.sender.clone().run()).await.unwrap();
    assert_eq!(setup.sender.totals.snapshot().ambiguous, 1);
    assert_eq!(setup.sender.spool.lock().unwrap().held().batches, 1);
}

#[tokio::test]
async fn a_restart_sends_what_the_spool_holds() {
    let directory = temporary();
    let first = setup(directory.path(), Words::default());
    first.commit(&["a", "bb"]);
    drop(first);
    let second = setup(directory.path(), Words::default());
    let (backend, totals) = second.drain().await;
    assert_eq!(backend.sent(), [("id-a".to_owned(), "a".to_owned()), ("id-bb".to_owned(), "bb".to_owned())]);
    assert_eq!((totals.restored.timer_records, totals.delivered.timer_records), (3, 3));
}

#[tokio::test]
async fn the_last_refusal_or_failure_is_told_in_one_line_until_a_delivery() {
    let directory = temporary();
    let setup = setup(directory.path(), Words::default());
    let totals = setup.sender.totals.clone();
    let running = tokio::spawn(setup.sender.clone().run());
    let html = Response { status: 503, body: b"<h1>\nno\x1b[2J</h1>".to_vec(), ..Response::default() };
    for (answer, told) in [
        (Answer::NotSent("no\nway".to_owned()), "no way"),
        (Answer::Response(html), "status 503: <h1> no [2J</h1>"),
        (
            Answer::Response(Response { status: 401, body: vec![b'y'; 900], ..Response::default() }),
            "status 401: y",
        ),
    ] {
        setup.backend.script.lock().unwrap().extend(std::iter::repeat_n(answer, 100_000));
        setup.commit(&["a"]);
        until(|| totals.snapshot().backend_error.is_some_and(|error| error.starts_with(told))).await;
        assert!(totals.snapshot().backend_error.is_some_and(|error| error.len() <= LINE_CHARS_MAX));
        setup.backend.script.lock().unwrap().clear();
        until(|| totals.snapshot().backend_error.is_none()).await;
    }
    setup.sender.shutdown.request();
    setup.sender.shutdown.request();
    tokio::time::timeout(LONG, running).await.unwrap().unwrap();
}

async fn until(is_so: impl Fn() -> bool) {
    let polled = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, polled).await.unwrap();
}
