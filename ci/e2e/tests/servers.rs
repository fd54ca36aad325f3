//! Each server of others takes what is written by hand in its own protocol, and the same is read back.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use zibrato_e2e::{
    Answer, Graphite, Influx, Labels, OpenMetricsFamily, Prometheus, Recorder, Rotel, Statsd,
    VictoriaMetrics, decode_otlp, directory, now_s, openmetrics_families, promtool_check_metrics, request,
    until,
};

/// Protobuf and what travels in it, by hand.
mod wire {
    pub(super) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7F {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    pub(super) fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
        let content = content.as_ref();
        [&varint(field << 3 | 2), &varint(content.len() as u64), content].concat()
    }

    pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub(super) fn fixed(field: u64, value: [u8; 8]) -> Vec<u8> {
        [&varint(field << 3 | 1), &value[..]].concat()
    }

    /// Snappy without compression: the length, and literals of 60 bytes at most.
    pub(super) fn snappy(content: &[u8]) -> Vec<u8> {
        let literals = content.chunks(60).flat_map(|bytes| [&[(bytes.len() as u8 - 1) << 2], bytes].concat());
        varint(content.len() as u64).into_iter().chain(literals).collect()
    }

    /// A series of a remote write.
    pub(super) fn series(labels: &[(&str, &str)], samples: &[(u64, f64)]) -> Vec<u8> {
        let label = |(name, value): &(&str, &str)| bytes(1, [bytes(1, name), bytes(2, value)].concat());
        let sample = |(time_ms, value): &(u64, f64)| {
            bytes(2, [fixed(1, value.to_le_bytes()), number(2, *time_ms)].concat())
        };
        bytes(
            1,
            [labels.iter().flat_map(label).collect::<Vec<_>>(), samples.iter().flat_map(sample).collect()]
                .concat(),
        )
    }

    /// A request of OTLP with one metric; `data` is its field of that name, by kind.
    pub(super) fn otlp(name: &str, data: &[u8]) -> Vec<u8> {
        let text = |value: &str| bytes(1, value);
        let service = bytes(1, [bytes(1, "service.name"), bytes(2, text("test"))].concat());
        let metric = [&bytes(1, name), &bytes(3, "s"), data].concat();
        let scope = bytes(2, bytes(2, metric));
        bytes(1, [bytes(1, service), scope].concat())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn post(addr: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request(addr, "POST", path, headers, body).unwrap()
}

fn remote_write(addr: &str, series: &[u8]) -> Answer {
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    post(addr, "/api/v1/write", &headers, &wire::snappy(series))
}

/// Writes lines over TCP, and waits until the other side has read all of them: then it closes too.
fn send_tcp(addr: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn send_udp(addr: &str, bytes: &[u8]) {
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(bytes, addr).unwrap();
}

#[test]
fn prometheus_holds_what_was_written_to_it_and_refuses_what_is_out_of_order() {
    let server = Prometheus::start();
    assert_eq!(server.url, format!("http://{}/api/v1/write", server.addr));
    let now = now_ms();
    let name = [("__name__", "written_total"), ("source", "a \"b\" ü")];
    let answer = remote_write(&server.addr, &wire::series(&name, &[(now - 2_000, 1.5), (now - 1_000, 2.5)]));
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(server.query("written_total"), [(labels(&name), 2.5)]);
    assert_eq!(server.query_at("written_total", (now - 1_500) as f64 / 1e3), [(labels(&name), 1.5)]);
    assert_eq!(server.query("sum(sum_over_time(written_total[1m]))"), [(Labels::new(), 4.0)]);
    assert_eq!(server.query("1 + 1"), [(Labels::new(), 2.0)]);
    assert_eq!(server.series("{source!=\"\"}"), [labels(&name)]);
    // One sample out of order, and nothing of the request is stored.
    let mixed =
        [wire::series(&[("__name__", "other")], &[(now, 1.0)]), wire::series(&name, &[(now - 3_000, 9.0)])];
    let answer = remote_write(&server.addr, &mixed.concat());
    assert_eq!((answer.status, answer.body.as_str()), (400, "out of order sample\n"));
    assert_eq!(server.query("other"), []);
}

#[test]
fn prometheus_scrapes_its_targets() {
    let other = Prometheus::start();
    let server = Prometheus::scraping(&[&other.addr]);
    until("scrape", || {
        let found = server.query(&format!("up{{instance=\"{}\"}}", other.addr));
        (found.first()?.1 == 1.0).then_some(())
    });
    assert_eq!(server.query("count(prometheus_build_info)")[0].1, 1.0);
}

#[test]
fn promtool_tells_good_pages_from_bad_ones() {
    let page = "# HELP made_total What was made.\n# TYPE made_total counter\nmade_total{kind=\"a\"} 1\n";
    assert_eq!(promtool_check_metrics(page), Ok(()));
    let said = promtool_check_metrics(&page.replace("made_total", "made")).unwrap_err();
    assert!(said.contains("counter metrics should have \"_total\" suffix"), "{said}");
    let said = promtool_check_metrics("made{ 1\n").unwrap_err();
    assert!(said.contains("error while linting"), "{said}");
}

#[test]
fn the_reader_of_openmetrics_tells_good_pages_from_bad_ones() {
    let page = "# HELP made_bytes What was made.\n# TYPE made_bytes counter\n# UNIT made_bytes bytes\n\
                made_bytes_total{kind=\"a\"} 1.5\n# EOF\n";
    let family = OpenMetricsFamily {
        name: "made_bytes".to_owned(),
        help: "What was made.".to_owned(),
        kind: "counter".to_owned(),
        unit: "bytes".to_owned(),
        samples: vec![("made_bytes_total".to_owned(), labels(&[("kind", "a")]), 1.5)],
    };
    assert_eq!(openmetrics_families(page), Ok(vec![family]));
    for (good, bad, expected) in [
        ("UNIT made_bytes bytes", "UNIT made_bytes seconds", "Unit does not match metric name"),
        ("# EOF\n", "", "Missing # EOF"),
        ("1.5\n", "1.5\n# HELP made_bytes Again.\n", "Received metadata after samples"),
        ("1.5", "-1.5", "Counter-like samples cannot be negative"),
    ] {
        let said = openmetrics_families(&page.replace(good, bad)).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn victoria_metrics_holds_what_was_written_to_it_in_any_order() {
    let server = VictoriaMetrics::start();
    assert_eq!(server.url, format!("http://{}/api/v1/write", server.addr));
    let now = now_ms();
    let name = [("__name__", "written_total"), ("source", "a \"b\" ü")];
    for (time_ms, value) in [(now, 2.5), (now - 1_000, 1.5), (now - 86_400_000, 4.0)] {
        let answer = remote_write(&server.addr, &wire::series(&name, &[(time_ms, value)]));
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    }
    assert_eq!(server.query("written_total"), [(labels(&name), 2.5)]);
    assert_eq!(server.query("sum(sum_over_time(written_total[2d]))"), [(Labels::new(), 8.0)]);
    assert_eq!(server.query_at("written_total", (now - 86_400_000) as f64 / 1e3), [(labels(&name), 4.0)]);
    assert_eq!(server.series("{source!=\"\"}"), [labels(&name)]);
}

#[test]
fn influx_holds_what_was_written_to_it_and_says_what_it_dropped() {
    let server = Influx::start();
    assert_eq!(server.url, format!("http://{}", server.addr));
    let write = format!("/write?db={}", server.database);
    let lines =
        "m,source=a\\ b value=1.5,count=2i 1500000000000000000\nm,source=a\\ b value=2 1500000000000000001\n";
    assert_eq!(post(&server.addr, &write, &[], lines.as_bytes()).status, 204);
    let [series] = &server.query("SELECT * FROM m GROUP BY *")[..] else { panic!() };
    assert_eq!((series.name.as_str(), &series.tags), ("m", &labels(&[("source", "a b")])));
    assert_eq!(series.columns, ["time", "count", "value"]);
    assert_eq!(series.values[0][0], 1_500_000_000_000_000_000_u64);
    assert_eq!(series.values[0][1], 2);
    assert_eq!(series.numbers("value"), [1.5, 2.0]);
    let [sum] = &server.query("SELECT sum(value) FROM m")[..] else { panic!() };
    assert_eq!(sum.numbers("sum"), [3.5]);
    assert_eq!(server.query("SELECT * FROM nothing"), []);
    // The lines that are good stay.
    let answer = post(
        &server.addr,
        &write,
        &[],
        b"m value=4 1500000000000000003\nm value=5i 1500000000000000004\nm value=6 1500000000000000005\n",
    );
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("partial write: field type conflict"), "{answer:?}");
    assert_eq!(server.query("SELECT value FROM m")[0].numbers("value"), [1.5, 2.0, 4.0, 6.0]);
}

#[test]
fn influx_with_an_account_wants_it() {
    let server = Influx::with_account("writer", "it's & \\secret");
    let write = format!("/write?db={}", server.database);
    let answer = post(&server.addr, &write, &[], b"m value=1 1");
    assert_eq!(answer.status, 401, "{answer:?}");
    // "writer:it's & \secret".
    let basic = [("Authorization", "Basic d3JpdGVyOml0J3MgJiBcc2VjcmV0")];
    let answer = post(&server.addr, &write, &basic, b"m value=1 1");
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(server.query("SELECT value FROM m")[0].numbers("value"), [1.0]);
}

#[test]
fn graphite_holds_what_came_in_lines_datagrams_and_pickles() {
    let server = Graphite::start();
    let now = now_s();
    let before = now - 1;
    send_tcp(&server.plaintext, format!("a.tcp 1.5 {before}\na.tcp 2 {now}\na.tcp lost {now}\n").as_bytes());
    send_tcp(&server.plaintext, format!("a.tag;z=1;b=2 3 {now}\n").as_bytes());
    send_udp(&server.plaintext, format!("a.udp 4 {now}\n").as_bytes());
    // [("a.pickle", (now, 5.5))] in protocol 2: list, name, a pair in a pair, end of list.
    let mut pickle = b"\x80\x02]q\x00X\x08\x00\x00\x00a.pickleq\x01".to_vec();
    pickle.extend_from_slice(b"J");
    pickle.extend_from_slice(&(now as u32).to_le_bytes());
    pickle.extend_from_slice(b"G");
    pickle.extend_from_slice(&5.5_f64.to_be_bytes());
    pickle.extend_from_slice(b"\x86\x86a.");
    send_tcp(&server.pickle, &[&(pickle.len() as u32).to_be_bytes(), &pickle[..]].concat());
    let expected = [
        ("a.tcp", vec![(before, 1.5), (now, 2.0)]),
        ("a.tag;b=2;z=1", vec![(now, 3.0)]),
        ("a.udp", vec![(now, 4.0)]),
        ("a.pickle", vec![(now, 5.5)]),
    ];
    for (path, points) in expected {
        until(format!("{path} of {points:?}"), || (server.points(path) == points).then_some(()));
    }
    assert_eq!(server.sum("a.tcp"), 3.5);
    assert_eq!((server.points("nothing"), server.sum("nothing")), (vec![], 0.0));
    // Whisper's own program reads the same.
    let file = server.file("a.tcp").unwrap();
    let fetched =
        Command::new("whisper-fetch").arg(format!("--from={}", before - 1)).arg(file).output().unwrap();
    let fetched = String::from_utf8(fetched.stdout).unwrap();
    assert!(fetched.contains(&format!("{before}\t1.500000\n{now}\t2.000000\n")), "{fetched}");
}

#[test]
fn statsd_counts_what_came_in_datagrams_and_over_tcp() {
    let server = Statsd::start();
    send_udp(&server.addr, b"a.counter:1|c\na.counter:2|c|@0.5\nbad line");
    send_tcp(&server.addr, b"a.counter:10|c\na.gauge:5|g\na.gauge:-7|g\na.set:x|s\na.set:y|s\na.set:x|s\n");
    let values: String = (1..=500).map(|value| format!("a.timer:{value}|ms|@0.5\n")).collect();
    send_tcp(&server.addr, values.as_bytes());
    let totals = until("all lines", || {
        let totals = server.totals();
        (totals.counters["statsd.metrics_received"] == 509.0).then_some(totals)
    });
    assert_eq!(totals.counters["a.counter"], 15.0);
    assert_eq!(totals.counters["statsd.bad_lines_seen"], 1.0);
    assert_eq!(totals.gauges["a.gauge"], -2.0);
    assert_eq!(totals.sets["a.set"], ["x", "y"]);
    let timer = totals.timers["a.timer"];
    assert_eq!((timer.values, timer.count), (500, 1_000.0));
    assert_eq!((timer.sum, timer.min, timer.max), (125_250.0, 1.0, 500.0));
    // They do not fall.
    assert_eq!(server.totals().counters["a.counter"], 15.0);
}

#[test]
fn rotel_passes_on_what_was_written_to_it() {
    let server = Rotel::start();
    assert_eq!(server.url, format!("http://{}/v1/metrics", server.addr));
    let count = 9_007_199_254_740_993_u64;
    let attribute = wire::bytes(7, [wire::bytes(1, "host"), wire::bytes(2, wire::bytes(1, "h1"))].concat());
    let times = [wire::fixed(2, 1_u64.to_le_bytes()), wire::fixed(3, 2_u64.to_le_bytes())].concat();
    let point = [attribute, times.clone(), wire::fixed(6, count.to_le_bytes())].concat();
    let sum = wire::bytes(7, [wire::bytes(1, point), wire::number(2, 1), wire::number(3, 1)].concat());
    // Count, sum, scale, buckets of positive values (offset 3, zigzag), smallest and largest value.
    let buckets = [wire::number(1, 6), wire::bytes(2, [1, 0, 2])].concat();
    let [total, low, high] =
        [(5, 6.5_f64), (12, 1.0), (13, 4.0)].map(|(f, v)| wire::fixed(f, v.to_le_bytes()));
    let point = [
        times,
        wire::fixed(4, 3_u64.to_le_bytes()),
        total,
        wire::number(6, 10),
        wire::bytes(8, buckets),
        low,
        high,
    ];
    let histogram = wire::bytes(10, [wire::bytes(1, point.concat()), wire::number(2, 1)].concat());
    let bodies = [wire::otlp("a.counter", &sum), wire::otlp("a.timer", &histogram)];
    for body in &bodies {
        let headers = [("Content-Type", "application/x-protobuf")];
        let answer = post(&server.addr, "/v1/metrics", &headers, body);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    server.passed_on.received(2);
    let mut points = server.points();
    points.sort_by_key(|point| point["name"].to_string());
    assert_eq!(points, decode_otlp(&bodies));
    let [counter, timer] = &points[..] else { panic!("{points:?}") };
    assert_eq!(
        (&counter["name"], &counter["unit"], &counter["kind"]),
        (&"a.counter".into(), &"s".into(), &"sum".into())
    );
    assert_eq!(counter["value"], count);
    assert_eq!((&counter["temporality"], &counter["monotonic"]), (&"delta".into(), &true.into()));
    assert_eq!(counter["resource"]["service.name"], "test");
    assert_eq!(counter["attributes"]["host"], "h1");
    assert_eq!((&counter["start_ns"], &counter["time_ns"]), (&1.into(), &2.into()));
    assert_eq!(timer["kind"], "exponential_histogram");
    assert_eq!((&timer["count"], &timer["sum"]), (&3.into(), &6.5.into()));
    assert_eq!((&timer["min"], &timer["max"]), (&1.0.into(), &4.0.into()));
    assert_eq!((&timer["scale"], &timer["offset"]), (&5.into(), &3.into()));
    assert_eq!(timer["buckets"], serde_json::json!([1, 0, 2]));
    assert_eq!((server.sum("a.timer"), server.sum("nothing")), (6.5, 0.0));
}

#[test]
fn a_recorder_keeps_connections_datagrams_and_bodies() {
    let tcp = Recorder::tcp();
    let mut first = TcpStream::connect(&tcp.addr).unwrap();
    first.write_all(b"one\ntw").unwrap();
    until("first bytes", || (tcp.messages() == [b"one\ntw"]).then_some(()));
    send_tcp(&tcp.addr, b"other\n");
    first.write_all(b"o").unwrap();
    until("all bytes", || (tcp.lines() == ["one", "two", "other"]).then_some(()));
    assert_eq!(tcp.messages().len(), 2);

    let udp = Recorder::udp();
    send_udp(&udp.addr, b"a\nb");
    send_udp(&udp.addr, b"");
    assert_eq!(udp.received(2), [&b"a\nb"[..], b""]);

    let home = directory();
    let local = Recorder::unix_datagram(&home.path().join("socket"));
    UnixDatagram::unbound().unwrap().send_to(b"c", &local.addr).unwrap();
    assert_eq!(local.received(1), [b"c"]);

    let http = Recorder::http();
    assert_eq!(post(&http.addr, "/any", &[], b"body").status, 200);
    assert_eq!(http.messages(), [b"body"]);
}
