use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;
const SENT: &str = "\
a,kind=counter,source=s count=1.0 1700000000000
b,kind=gauge,source=s value=1.0 1700000001000
b,kind=gauge,source=s value=1.0 1700000002000
b,kind=timer,source=s count=1.0,sum=1.0 1700000000000
c,kind=gauge,source=t,u=x\\ y value=1.0 1600000000000
";

fn answer(status: u16, body: &str, headers: &[(&str, &str)]) -> Verdict {
    let headers = headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let response = Response { status, headers, body: body.as_bytes().to_vec() };
    classify(&response, SENT.as_bytes(), NOW_MS)
}

fn partial(text: &str) -> Verdict {
    answer(400, &serde_json::json!({ "error": format!("partial write: {text}") }).to_string(), &[])
}

fn poisoned(points: &[usize], reason: &'static str) -> Verdict {
    Verdict::Poisoned { points: points.to_vec(), reason }
}

#[test]
fn every_status_from_100_to_599_has_its_verdict() {
    let retried = Verdict::Retry { after: None, outcome_unknown: false };
    let unknown = Verdict::Retry { after: None, outcome_unknown: true };
    for status in 100..=599 {
        let expected = match status {
            204 => Verdict::Delivered { odd: false },
            200..=299 => Verdict::Delivered { odd: true },
            100..=199 | 300..=399 => Verdict::Hold,
            400 | 413 | 422 => Verdict::Bisect,
            401 | 403 | 404 | 405 | 407 | 410 | 421 | 451 => Verdict::Hold,
            408 | 425 | 429 => retried.clone(),
            402..=499 => Verdict::Drop { reason: "refused_by_backend" },
            500 | 502 | 504 => unknown.clone(),
            _ => retried.clone(),
        };
        assert_eq!(answer(status, "", &[]), expected, "{status}");
    }
}

#[test]
fn a_wish_to_wait_is_heard_and_a_missing_policy_is_held() {
    let wait = Verdict::Retry { after: Some(Duration::from_secs(7)), outcome_unknown: false };
    assert_eq!(answer(429, "", &[("retry-after", "7")]), wait);
    assert_eq!(answer(503, "", &[("retry-after", "7")]), wait);
    assert_eq!(answer(500, r#"{"error":"retention policy not found: none"}"#, &[]), Verdict::Hold);
    assert_eq!(answer(404, r#"{"error":"database not found: \"d\""}"#, &[]), Verdict::Hold);
    assert_eq!(answer(400, "<html><h1>400 Bad Request</h1></html>", &[]), Verdict::RetryFew);
}

#[test]
fn points_that_must_be_meant_are_poisoned() {
    let conflict = |name, field, dropped| {
        partial(&format!(
            "field type conflict: input field \"{field}\" on measurement \"{name}\" is type float, already exists as type integer dropped={dropped}"
        ))
    };
    assert_eq!(conflict("b", "value", 2), poisoned(&[1, 2], "field_type_conflict"));
    assert_eq!(conflict("b", "count", 2), poisoned(&[3], "field_type_conflict"));
    assert_eq!(conflict("b", "count", 3), Verdict::Bisect, "more are meant than are named");
    assert_eq!(conflict("z", "count", 1), Verdict::Bisect, "nobody we sent");
    assert_eq!(conflict("z", "count", 5), poisoned(&[0, 1, 2, 3, 4], "field_type_conflict"));
    assert_eq!(partial("points beyond retention policy dropped=1"), poisoned(&[4], "too_old"));
    assert_eq!(
        partial("points beyond retention policy dropped=2"),
        Verdict::Bisect,
        "two have the same time"
    );
    assert_eq!(partial("points beyond retention policy dropped=3"), poisoned(&[0, 3, 4], "too_old"));
    let values = |value, dropped| {
        partial(&format!(
            "max-values-per-tag limit exceeded (5/5): measurement=\"c\" tag=\"u\" value=\"{value}\" dropped={dropped}"
        ))
    };
    assert_eq!(values("x y", 1), poisoned(&[4], "series_limit_of_store"));
    assert_eq!(values("x y", 2), Verdict::Bisect);
    assert_eq!(values("x", 1), Verdict::Bisect);
    let line = SENT.lines().nth(4).unwrap();
    assert_eq!(partial(&format!("unable to parse '{line}': no dropped=0")), poisoned(&[4], "unparsable"));
    assert_eq!(partial("unable to parse 'other line': no dropped=0"), Verdict::Bisect);
    assert_eq!(partial("something else dropped=5"), poisoned(&[0, 1, 2, 3, 4], "refused_by_backend"));
    assert_eq!(partial("something else dropped=0"), Verdict::Bisect);
    assert_eq!(partial("something else dropped=99"), Verdict::Bisect);
}

#[test]
fn a_conflict_over_the_bounds_of_an_hour_stays_open() {
    let sent = "b value=1.0 3599999\nb value=1.0 3600000\nc value=1.0 0\n";
    let body = br#"{"error":"partial write: field type conflict: input field \"value\" on measurement \"b\" is type float, already exists as type string dropped=1"}"#;
    let response = Response { status: 400, headers: Vec::new(), body: body.to_vec() };
    assert_eq!(classify(&response, sent.as_bytes(), NOW_MS), Verdict::Bisect);
}

#[test]
fn a_body_that_cannot_be_read_is_dropped() {
    let response = Response { status: 400, ..Response::default() };
    assert_eq!(classify(&response, &[0x1f, 0x8b, 0], NOW_MS), Verdict::Drop { reason: "unreadable" });
}

/// What InfluxDB 1.6.7 does with the lines of a request, as far as it was seen to: shards one after the other, of each
/// the good points are stored, and the first shard with bad ones gives the answer.
#[derive(Default)]
struct Store {
    /// Fields that an hour has as integers.
    integers: BTreeSet<(u64, String, String)>,
    /// Points before it are not kept.
    oldest_ms: u64,
    /// Values of the tag `u` that are taken; no other ones are.
    values: BTreeSet<String>,
    stored: BTreeSet<String>,
    requests: usize,
}

impl Store {
    fn refuses(&self, line: &Line<'_>) -> Option<String> {
        let hour = line.time_ms() / HOUR_MS;
        let value = line.key().split(",u=").nth(1).map(|rest| rest.split(',').next().unwrap_or_default());
        if line.time_ms() < self.oldest_ms {
            return Some("points beyond retention policy".to_owned());
        }
        if let Some(value) = value.filter(|value| !self.values.contains(*value)) {
            let name = line.name();
            return Some(format!(
                "max-values-per-tag limit exceeded (5/5): measurement={name:?} tag=\"u\" value={value:?}"
            ));
        }
        let conflict = self
            .integers
            .iter()
            .find(|(of, name, field)| *of == hour && name == line.name() && line.has_field(field));
        conflict.map(|(_, name, field)| {
            format!("field type conflict: input field {field:?} on measurement {name:?} is type float, already exists as type integer")
        })
    }

    fn write(&mut self, text: &str) -> Response {
        self.requests += 1;
        let (mut shards, mut retention) = (BTreeMap::<u64, (String, usize)>::new(), 0);
        for line in Line::all(text) {
            match self.refuses(&line) {
                None => _ = self.stored.insert(line.text.to_owned()),
                Some(reason) if reason.contains("retention") => retention += 1,
                Some(reason) => {
                    shards.entry(line.time_ms() / HOUR_MS).or_insert((reason, 0)).1 += 1;
                }
            }
        }
        let beyond = (retention > 0).then(|| ("points beyond retention policy".to_owned(), retention));
        match shards.into_values().next().or(beyond) {
            None => Response { status: 204, ..Response::default() },
            Some((reason, dropped)) => {
                let error =
                    serde_json::json!({ "error": format!("partial write: {reason} dropped={dropped}") });
                Response { status: 400, headers: Vec::new(), body: error.to_string().into_bytes() }
            }
        }
    }
}

/// Does with a body what the worker does, until nothing is left of it. Returns the lines that were lost.
fn settle(store: &mut Store, sent: String, gzip: bool) -> Vec<String> {
    let (mut queue, mut lost) = (vec![body::pack(sent, gzip)], Vec::new());
    while let Some(bytes) = queue.pop() {
        let text = body::text(&bytes).unwrap();
        let response = store.write(&text);
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let mut part = |keep: Vec<bool>| {
            if keep.contains(&true) {
                queue.push(body::select(&bytes, &keep).unwrap());
            }
        };
        match classify(&response, &bytes, NOW_MS) {
            Verdict::Delivered { odd: false } => {}
            Verdict::Poisoned { points, .. } => {
                assert!(!points.is_empty() && points.is_sorted());
                lost.extend(points.iter().map(|at| lines[*at].clone()));
                part((0..lines.len()).map(|at| !points.contains(&at)).collect());
            }
            Verdict::Bisect if lines.len() == 1 => lost.extend(lines),
            Verdict::Bisect => {
                part((0..lines.len()).map(|at| at >= lines.len() / 2).collect());
                part((0..lines.len()).map(|at| at < lines.len() / 2).collect());
            }
            other => panic!("{other:?}"),
        }
    }
    lost
}

#[test]
fn whatever_influxdb_leaves_out_exactly_that_is_lost() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..300 {
        let count = 1 + random(60);
        let hour = NOW_MS / HOUR_MS;
        let integers = (0..random(6))
            .map(|_| {
                (
                    hour - random(3),
                    format!("m{}", random(12)),
                    ["count", "value"][random(2) as usize].to_owned(),
                )
            })
            .collect();
        let oldest_ms = [0, NOW_MS - 5_000_000][usize::from(random(4) == 0)];
        let values = (0..4).map(|value| value.to_string()).collect();
        let mut store = Store { integers, oldest_ms, values, ..Store::default() };
        let mut text = String::new();
        for at in 0..count {
            let time_ms = if random(2) == 0 { NOW_MS } else { NOW_MS - random(10_000_000) };
            let tag = if random(8) == 0 { format!(",u={}", random(6)) } else { String::new() };
            let field = ["count", "value"][random(2) as usize];
            writeln!(text, "m{},source=s{at}{tag} {field}=1.0 {time_ms}", random(12)).unwrap();
        }
        let refused: BTreeSet<_> = Line::all(&text)
            .filter(|line| store.refuses(line).is_some())
            .map(|line| line.text.to_owned())
            .collect();
        let all: BTreeSet<_> = text.lines().map(str::to_owned).collect();
        let lost = settle(&mut store, text, round % 2 == 0);
        assert_eq!(BTreeSet::from_iter(lost.iter().cloned()), refused, "round {round}");
        assert_eq!(lost.len(), refused.len(), "none twice in round {round}");
        assert_eq!(store.stored, &all - &refused, "round {round}");
    }
}

#[test]
fn few_requests_settle_the_usual_conflicts() {
    let hour = NOW_MS / HOUR_MS;
    let integer = |name: &str| (hour, name.to_owned(), "value".to_owned());
    let mut text = String::new();
    for at in 0..4_940 {
        writeln!(text, "m{at} value=1.0 {NOW_MS}").unwrap();
    }
    for second in 0..60 {
        writeln!(text, "gauge value=1.0 {}", hour * HOUR_MS + second * 1_000).unwrap();
    }
    let mut store = Store { integers: BTreeSet::from([integer("gauge")]), ..Store::default() };
    assert_eq!(settle(&mut store, text.clone(), false).len(), 60);
    assert_eq!(store.requests, 2);
    let integers = (0..100).map(|at| integer(&format!("m{at}"))).collect();
    let mut store = Store { integers, ..Store::default() };
    assert_eq!(settle(&mut store, text, false).len(), 100);
    assert!(store.requests < 30, "{}", store.requests);
}
