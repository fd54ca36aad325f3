//! Each backend against its real server: a known workload goes through broker and worker, and what the server's own query
//! says is compared to the unit.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;
use zibrato_e2e::workload::{DEPTH, LOAD, ORDERS, Workload, near, same};
use zibrato_e2e::{
    Broker, Device, Gateway, Graphite, Influx, Labels, Local, Metrics, OPENMETRICS, Process, Prometheus,
    Responses, Rotel, Statsd, StatsdTotals, TcpProxy, VictoriaMetrics, Worker, directory, field, get,
    metrics, openmetrics_families, promtool_check_metrics, request, until,
};

/// Rounds of the workload: several flushes.
const ROUNDS: u64 = 12;
const SOURCE: &str = "shop-1";

/// A broker, a worker of one backend, and the workload that went through them.
struct Run {
    broker: Broker,
    worker: Worker,
    workload: Workload,
    _spool: TempDir,
}

impl Run {
    fn of(program: &str, args: &[&str]) -> Self {
        let (broker, spool) = (Broker::start(), directory());
        let of_worker = ["--endpoint", &broker.workers, "--levels", "info,audit", "--spool"];
        let worker = Worker::of(program, &[&of_worker[..], &[spool.path().to_str().unwrap()], args].concat());
        let workload = Workload::run(&broker.publishers, SOURCE, ROUNDS);
        Self { broker, worker, workload, _spool: spool }
    }

    /// Ends worker and broker; nothing may be held or lost, and what they say of themselves is well written.
    fn finish(self) {
        lint(&self.worker.metrics());
        lint(&self.broker.metrics());
        let delivery = self.worker.finish();
        assert_eq!(delivery.held, 0, "{}", delivery.stderr);
        assert!(
            delivery.line.contains("dropped [none]") && delivery.line.contains("refused [none]"),
            "{}",
            delivery.line
        );
        assert_eq!(delivery.timer_records as f64, self.workload.records());
        self.broker.finish();
    }
}

/// promtool finds no fault with a page.
fn lint(page: &Metrics) {
    promtool_check_metrics(&page.page).unwrap_or_else(|said| panic!("{said}\n{}", page.page));
}

/// A server that answers queries in Prometheus' language.
trait Queried {
    fn ask(&self, query: &str) -> Vec<(Labels, f64)>;
}

impl Queried for Prometheus {
    fn ask(&self, query: &str) -> Vec<(Labels, f64)> {
        self.query(query)
    }
}

impl Queried for VictoriaMetrics {
    fn ask(&self, query: &str) -> Vec<(Labels, f64)> {
        self.query(query)
    }
}

/// The one number that a query gives, if there is one.
fn number(server: &impl Queried, query: &str) -> Option<f64> {
    match &server.ask(query)[..] {
        [(_, value)] => Some(*value),
        [] => None,
        more => panic!("{query}: {more:?}"),
    }
}

/// Waits until a query gives a number.
fn arrives(server: &impl Queried, query: &str, expected: f64) {
    until(format!("{expected} of {query}"), || number(server, query).filter(|value| *value == expected));
}

/// Waits until all counters and gauges of the workload are there.
fn compare_numbers(server: &impl Queried, truth: Workload) {
    for (query, expected) in [
        ("shop_orders_total{route=\"/a b\",source=\"shop-1\",level=\"info\"}", truth.orders(0)),
        ("shop_orders_total{route=\"/c\"}", truth.orders(1)),
        ("shop_bytes_total{level=\"audit\"}", truth.bytes()),
        ("shop_depth", DEPTH),
        ("shop_load", LOAD),
    ] {
        arrives(server, query, expected);
    }
}

/// Waits until all of the workload is there, its timer with classic buckets.
fn compare(server: &impl Queried, truth: Workload) {
    compare_numbers(server, truth);
    arrives(server, "shop_latency_seconds_count{level=\"info\"}", truth.records());
    let sum = number(server, "shop_latency_seconds_sum").unwrap();
    assert!(same(sum, truth.seconds()), "{sum}");
    let top = number(server, "shop_latency_seconds_bucket{le=\"+Inf\"}").unwrap();
    assert_eq!(top, truth.records());
    for percentile in [50.0, 99.0] {
        let query = format!("histogram_quantile({}, shop_latency_seconds_bucket)", percentile / 100.0);
        let value = number(server, &query).unwrap();
        // Within the bucket that it is in, which is what classic buckets can say.
        let exact = truth.percentile(percentile);
        assert!((exact / 2.5..=exact * 2.5).contains(&value), "p{percentile} {value}");
    }
}

/// Waits until all of the workload is there, its timer as a native histogram and as nothing else.
fn compare_native(server: &impl Queried, truth: Workload) {
    compare_numbers(server, truth);
    arrives(
        server,
        "histogram_count(shop_latency_seconds{source=\"shop-1\",level=\"info\"})",
        truth.records(),
    );
    let sum = number(server, "histogram_sum(shop_latency_seconds)").unwrap();
    assert!(same(sum, truth.seconds()), "{sum}");
    for percentile in [50.0, 90.0, 99.0] {
        let query = format!("histogram_quantile({}, shop_latency_seconds)", percentile / 100.0);
        let value = number(server, &query).unwrap();
        assert!(near(value, truth.percentile(percentile), 0.0), "p{percentile} {value}");
    }
    assert_eq!(number(server, "count({__name__=~\"shop_latency_seconds_.+\"})"), None);
}

/// Reads a page of the whole workload as OpenMetrics. Text has classic buckets alone.
fn compare_openmetrics(addr: &str, truth: Workload) {
    let answer = request(addr, "GET", "/metrics", &[("Accept", OPENMETRICS)], b"").unwrap();
    assert!(answer.head.contains(&format!("content-type: {OPENMETRICS}")), "{}", answer.head);
    let families =
        openmetrics_families(&answer.body).unwrap_or_else(|said| panic!("{said}\n{}", answer.body));
    let said: Vec<_> =
        families.iter().map(|of| [&of.name, &of.kind, &of.unit, &of.help].map(|text| &**text)).collect();
    let expected = [
        ["shop_bytes", "counter", "bytes", "The counter shop.bytes of zibrato, declared in B."],
        ["shop_depth", "gauge", "", "The gauge shop.depth of zibrato."],
        ["shop_latency_seconds", "histogram", "seconds", "The timer shop.latency of zibrato."],
        ["shop_load", "gauge", "", "The gauge shop.load of zibrato."],
        ["shop_orders", "counter", "", "The counter shop.orders of zibrato."],
    ];
    assert_eq!(said, expected, "{}", answer.body);
    let sum = |name: &str| {
        let samples = families.iter().flat_map(|family| &family.samples);
        samples.filter(|(sample, ..)| sample == name).map(|(.., value)| value).sum::<f64>()
    };
    let orders = (0..ORDERS.len()).map(|at| truth.orders(at)).sum();
    let exact = [
        ("shop_bytes_total", truth.bytes()),
        ("shop_depth", DEPTH),
        ("shop_latency_seconds_count", truth.records()),
        ("shop_load", LOAD),
        ("shop_orders_total", orders),
    ];
    for (name, expected) in exact {
        assert_eq!(sum(name), expected, "{name}");
    }
    assert!(same(sum("shop_latency_seconds_sum"), truth.seconds()));
}

#[test]
fn prometheus_by_remote_write() {
    let server = Prometheus::start();
    let run = Run::of("zibrato-prometheus", &["--url", &server.url, "--instance", "w1"]);
    compare(&server, run.workload);
    run.finish();
}

#[test]
fn prometheus_by_remote_write_of_native_histograms() {
    let server = Prometheus::native(&[]);
    let args = ["--url", &server.url, "--instance", "w1", "--histogram", "native"];
    let run = Run::of("zibrato-prometheus", &args);
    compare_native(&server, run.workload);
    run.finish();
}

#[test]
fn a_prometheus_without_native_histograms_loses_none() {
    let server = Prometheus::start();
    let args = ["--url", &server.url, "--instance", "w1", "--histogram", "native"];
    let run = Run::of("zibrato-prometheus", &args);
    run.worker.counted("zibrato_worker_rejections_total", &[], 1.0);
    let delivery = run.worker.finish();
    assert!(delivery.held > 0 && delivery.line.contains("dropped [none]"), "{}", delivery.line);
    assert!(delivery.stderr.contains("native histograms are disabled"), "{}", delivery.stderr);
    run.broker.finish();
}

#[test]
fn victoria_metrics_by_remote_write() {
    let server = VictoriaMetrics::start();
    let run = Run::of("zibrato-prometheus", &["--url", &server.url, "--instance", "w1"]);
    compare(&server, run.workload);
    run.finish();
}

/// Writes 1, 2 and 4 to a counter, each in a flush of its own whose first answer is lost after the server gave it.
fn lose_answers(addr: &str) {
    let (broker, spool, proxy) = (Broker::start(), directory(), TcpProxy::start(addr));
    let url = format!("http://{}/api/v1/write", proxy.addr);
    let spool = spool.path().to_str().unwrap();
    let args = ["--endpoint", &broker.workers, "--spool", spool, "--url", &url, "--instance", "w1"];
    let mut worker = Worker::of("zibrato-prometheus", &args);
    worker.probed();
    broker.subscribed(1);
    for (at, hits) in ["hits=1", "hits=2", "hits=4"].iter().enumerate() {
        proxy.set(Responses::Lose);
        let program = Process::run("once", &["--endpoint", &broker.publishers, "--counter", hits]);
        assert_eq!(program.code, Some(0), "{}", program.stderr);
        worker.counted("zibrato_worker_ambiguous_total", &[], at as f64 + 1.0);
        proxy.set(Responses::Pass);
        worker.counted("zibrato_worker_batches_delivered_total", &[], at as f64 + 1.0);
    }
    let delivery = worker.finish();
    let ambiguous: u64 = field(&delivery.line, "ambiguous").parse().unwrap();
    assert!(delivery.held == 0 && ambiguous >= 3, "{}", delivery.line);
    assert!(delivery.line.contains("dropped [none]"), "{}", delivery.line);
    broker.finish();
}

#[test]
fn prometheus_stores_a_batch_once_whose_answer_was_lost() {
    let server = Prometheus::start();
    lose_answers(&server.addr);
    assert_eq!(number(&server, "hits_total"), Some(7.0));
    assert_eq!(number(&server, "count_over_time(hits_total[1h])"), Some(3.0));
}

#[test]
fn victoria_metrics_has_the_right_totals_after_answers_were_lost() {
    let server = VictoriaMetrics::start();
    lose_answers(&server.addr);
    // It may keep a sample twice, which changes no total.
    assert_eq!(number(&server, "hits_total"), Some(7.0));
    assert!(number(&server, "count_over_time(hits_total[1h])") >= Some(3.0));
}

#[test]
fn prometheus_by_scraping() {
    let port = zibrato_e2e::PortPair::reserve();
    let addr = format!("127.0.0.1:{}", port.port);
    // The one asks for OpenMetrics, the other for protobuf.
    let servers = [Prometheus::scraping(&[&addr]), Prometheus::native(&[&addr])];
    let run = Run::of("zibrato-prometheus", &["--scrape", &addr]);
    for server in &servers {
        compare(server, run.workload);
    }
    compare_openmetrics(&addr, run.workload);
    let page = get(&addr, "/metrics").1;
    promtool_check_metrics(&page).unwrap();
    for family in ["shop_orders_total", "shop_bytes_total", "shop_depth", "shop_latency_seconds"] {
        for said in ["HELP", "TYPE"] {
            assert!(page.contains(&format!("# {said} {family} ")), "{said} of {family} is missing in {page}");
        }
    }
    run.finish();
}

#[test]
fn prometheus_by_scraping_of_native_histograms() {
    let port = zibrato_e2e::PortPair::reserve();
    let addr = format!("127.0.0.1:{}", port.port);
    let (text, protobuf) = (Prometheus::scraping(&[&addr]), Prometheus::native(&[&addr]));
    let run = Run::of("zibrato-prometheus", &["--scrape", &addr, "--histogram", "native"]);
    compare_native(&protobuf, run.workload);
    compare(&text, run.workload);
    compare_openmetrics(&addr, run.workload);
    run.finish();
}

#[test]
fn gateway_and_local_store_have_well_written_pages_too() {
    let home = directory();
    let local = Local::start(home.path());
    let run = Run::of("zibrato-librato", &["--url", &local.url()]);
    let gateway = Gateway::start(&run.broker.publishers, &["--pty=board"]);
    let mut board = Device::open(1, &gateway.terminal(), &[]);
    board.run(500);
    gateway.counted("zibrato_gateway_samples_total", &[("device", "board")], 1.0);
    lint(&gateway.metrics());
    run.worker.counted("zibrato_worker_delivered_timer_records_total", &[], run.workload.records());
    lint(&metrics(&local.addr));
}

#[test]
fn influx() {
    let server = Influx::start();
    let run = Run::of(
        "zibrato-influx",
        &["--url", &format!("http://{}", server.addr), "--database", &server.database],
    );
    let truth = run.workload;
    let sum = |query: &str| {
        let series = server.query(query);
        series.first().map(|series| series.numbers("sum").iter().sum::<f64>())
    };
    until("all records", || {
        sum("SELECT sum(count) FROM \"shop.latency\"").filter(|records| *records == truth.records())
    });
    for (at, (route, _)) in ORDERS.iter().enumerate() {
        let query =
            format!("SELECT sum(count) FROM \"shop.orders\" WHERE route = '{route}' AND source = 'shop-1'");
        assert_eq!(sum(&query), Some(truth.orders(at)));
    }
    assert_eq!(sum("SELECT sum(count) FROM \"shop.bytes\" WHERE unit = 'B'"), Some(truth.bytes()));
    assert!(same(sum("SELECT sum(\"sum\") FROM \"shop.latency\"").unwrap(), truth.seconds()));
    let last = |query: &str, column: &str| server.query(query)[0].numbers(column)[0];
    assert_eq!(last("SELECT last(value) FROM \"shop.depth\"", "last"), DEPTH);
    assert_eq!(last("SELECT last(value) FROM \"shop.load\"", "last"), LOAD);
    // Each flush has whole rounds or parts of them; the largest percentile of all is that of a whole one at least.
    for (field, percentile) in [("p50", 50.0), ("p99", 99.0)] {
        let value = last(&format!("SELECT mean({field}) FROM \"shop.latency\""), "mean");
        assert!(near(value, truth.percentile(percentile), 0.05), "{field} {value}");
    }
    run.finish();
}

#[test]
fn graphite() {
    for protocol in ["plaintext", "pickle"] {
        let server = Graphite::start();
        let address = if protocol == "pickle" { &server.pickle } else { &server.plaintext };
        let run = Run::of("zibrato-graphite", &["--address", address, "--protocol", protocol]);
        let truth = run.workload;
        // Carbon writes one path after another.
        let arrives = |path: &str, expected: f64| {
            until(format!("{expected} of {path}"), || {
                server.file(path)?;
                same(server.sum(path), expected).then_some(())
            });
        };
        arrives("shop.latency.shop-1.count", truth.records());
        arrives("shop.latency.shop-1.sum", truth.seconds());
        arrives("shop.orders.shop-1.route._a_b.count", truth.orders(0));
        arrives("shop.orders.shop-1.route._c.count", truth.orders(1));
        arrives("shop.bytes.shop-1.count", truth.bytes());
        let last = |path: &str| server.points(path).last().unwrap().1;
        until("the last value", || (last("shop.depth.shop-1") == DEPTH).then_some(()));
        assert_eq!(last("shop.load.shop-1"), LOAD);
        for (field, percentile) in [("p50", 50.0), ("p99", 99.0)] {
            let value = last(&format!("shop.latency.shop-1.{field}"));
            assert!(near(value, truth.percentile(percentile), 0.05), "{field} {value}");
        }
        run.finish();
    }
}

/// The one name of a statsd that begins and ends so; between stands a hash where a tag had to be changed.
fn named<'a>(values: &'a BTreeMap<String, f64>, begin: &str, end: &str) -> Option<(&'a str, f64)> {
    let mut found = values.iter().filter(|(name, _)| name.starts_with(begin) && name.ends_with(end));
    let one = found.next().map(|(name, value)| (&**name, *value));
    assert!(found.next().is_none(), "more than one {begin}...{end}: {values:?}");
    one
}

#[test]
fn statsd() {
    for (transport, timers) in [("udp", "percentiles"), ("tcp", "samples")] {
        let server = Statsd::start();
        let address = format!("{transport}://{}", server.addr);
        let run = Run::of("zibrato-statsd", &["--address", &address, "--timers", timers]);
        let truth = run.workload;
        let latency = "shop.latency.source.shop-1";
        let records = |totals: &StatsdTotals| match timers {
            "samples" => totals.timers.get(latency).map(|timer| timer.count),
            _ => totals.counters.get(&format!("{latency}.count")).copied(),
        };
        let totals = until("all records", || {
            let totals = server.totals();
            (records(&totals) == Some(truth.records())).then_some(totals)
        });
        run.finish();
        let counter = |begin: &str| named(&totals.counters, begin, "").unwrap().1;
        assert_eq!(counter("shop.orders.source.shop-1.route._a_b"), truth.orders(0), "{totals:?}");
        assert_eq!(counter("shop.orders.source.shop-1.route._c"), truth.orders(1));
        assert_eq!(counter("shop.bytes.source.shop-1"), truth.bytes());
        assert_eq!(totals.gauges["shop.depth.source.shop-1"], DEPTH, "negative, though a sign is a change");
        assert_eq!(totals.gauges["shop.load.source.shop-1"], LOAD);
        assert_eq!(totals.counters["statsd.bad_lines_seen"], 0.0);
        if timers == "percentiles" {
            assert!(same(totals.counters[&format!("{latency}.sum")], truth.seconds()));
            for (field, percentile) in [("p50", 50.0), ("p99", 99.0)] {
                let value = totals.gauges[&format!("{latency}.{field}")];
                assert!(near(value, truth.percentile(percentile), 0.0), "{field} {value}");
            }
        }
    }
}

#[test]
fn lines_of_json() {
    let home = directory();
    let path = home.path().join("metrics.jsonl");
    let run = Run::of("zibrato-jsonl", &["--file", path.to_str().unwrap()]);
    let truth = run.workload;
    run.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().filter(|line| line["name"] == name).collect::<Vec<_>>();
    for (at, (route, _)) in ORDERS.iter().enumerate() {
        let deltas = of("shop.orders").into_iter().filter(|line| line["tags"]["route"] == *route);
        assert_eq!(deltas.map(|line| line["delta"].as_f64().unwrap()).sum::<f64>(), truth.orders(at));
    }
    let bytes: f64 = of("shop.bytes").iter().map(|line| line["delta"].as_f64().unwrap()).sum();
    assert_eq!((bytes, &of("shop.bytes")[0]["unit"]), (truth.bytes(), &"B".into()));
    let records: f64 = of("shop.latency").iter().map(|line| line["count"].as_f64().unwrap()).sum();
    assert_eq!(records, truth.records());
    assert_eq!(of("shop.depth").last().unwrap()["value"].as_f64(), Some(DEPTH));
}

#[test]
fn a_backend_of_ones_own() {
    let home = directory();
    let path = home.path().join("metrics.csv");
    let run = Run::of("zibrato-csv", &["--file", path.to_str().unwrap()]);
    let truth = run.workload;
    run.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let sum = |kind: &str, name: &str| {
        let begin = format!(",{kind},{name},{SOURCE},");
        text.lines().filter_map(|line| line.split_once(&begin)?.1.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!(sum("counter", "shop.orders"), truth.orders(0) + truth.orders(1));
    assert_eq!(
        (sum("counter", "shop.bytes"), sum("timer", "shop.latency")),
        (truth.bytes(), truth.records())
    );
}

/// The last point of each series, as OTLP tells it.
fn last_points(points: &[Value]) -> BTreeMap<(String, String), Value> {
    let key = |point: &Value| {
        (
            point["name"].as_str().unwrap().to_owned(),
            point["attributes"]["route"].as_str().unwrap_or_default().to_owned(),
        )
    };
    // In the order in which they came.
    points.iter().map(|point| (key(point), point.clone())).collect()
}

#[test]
fn otlp() {
    let server = Rotel::start();
    let run = Run::of("zibrato-otlp", &["--url", &server.url]);
    let truth = run.workload;
    let last = until("all of it", || {
        let last = last_points(&server.points());
        let latency = last.get(&("shop.latency".to_owned(), String::new()))?;
        (latency["count"].as_f64() == Some(truth.records())).then_some(last)
    });
    run.finish();
    let of = |name: &str, route: &str| last[&(name.to_owned(), route.to_owned())].clone();
    for (at, (route, _)) in ORDERS.iter().enumerate() {
        let orders = of("shop.orders", route);
        assert_eq!(orders["value"].as_f64(), Some(truth.orders(at)), "{orders}");
        assert_eq!((&orders["monotonic"], &orders["temporality"]), (&true.into(), &"cumulative".into()));
        assert_eq!(
            (&orders["attributes"]["source"], &orders["attributes"]["level"]),
            (&SOURCE.into(), &"info".into())
        );
    }
    let bytes = of("shop.bytes", "");
    assert_eq!((bytes["value"].as_f64(), bytes["unit"].as_str()), (Some(truth.bytes()), Some("B")));
    assert_eq!(of("shop.depth", "")["value"].as_f64(), Some(DEPTH));
    assert_eq!(of("shop.load", "")["value"].as_f64(), Some(LOAD));
    let latency = of("shop.latency", "");
    assert!(same(latency["sum"].as_f64().unwrap(), truth.seconds()), "{latency}");
    for percentile in [50.0, 99.0] {
        let value = exponential_percentile(&latency, percentile);
        assert!(near(value, truth.percentile(percentile), 0.0), "p{percentile} {value}");
    }
}

/// A percentile of an exponential histogram: the middle of the bucket of its rank.
fn exponential_percentile(point: &Value, percentile: f64) -> f64 {
    let base = 2f64.powf(2f64.powi(-point["scale"].as_i64().unwrap() as i32));
    let rank = (percentile / 100.0 * point["count"].as_f64().unwrap()).ceil();
    let mut seen = point["zero"].as_f64().unwrap();
    for (at, count) in point["buckets"].as_array().unwrap().iter().enumerate() {
        seen += count.as_f64().unwrap();
        if seen >= rank {
            let low = base.powf((point["offset"].as_i64().unwrap() + at as i64) as f64);
            return 2.0 * low * base / (1.0 + base);
        }
    }
    f64::NAN
}
