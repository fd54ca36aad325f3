//! Section 1: measurements of a metric with sources.

use serde_json::{Value, json};

use super::minute;
use crate::client::{Receiver, database, now};
use crate::table::{check, row};

fn numbers(time: i64, count: i64, values: [f64; 4]) -> Value {
    let [sum, min, max, sum_squares] = values;
    json!({"measure_time": time, "value": sum / count as f64, "count": count, "sum": sum, "min": min, "max": max, "sum_squares": sum_squares})
}

fn simple(time: i64, value: f64) -> Value {
    numbers(time, 1, [value, value, value, value * value])
}

fn gauge(measurements: Value, resolution: i64) -> Value {
    json!({
        "name": "m", "type": "gauge", "period": null, "description": null, "display_name": null, "attributes": {},
        "resolution": resolution, "measurements": measurements,
    })
}

/// Two sources: a with 1 and 5 in a first minute and 3 in a second, b with 2 in the first.
async fn receiver_with_measurements(db: &std::path::Path, t: i64) -> Receiver {
    let receiver = Receiver::on(db).await;
    let point = |source: &str, time: i64, value: i64| {
        format!(r#"{{"name":"m","source":"{source}","measure_time":{time},"value":{value}}}"#)
    };
    let points = [point("a", t, 1), point("a", t + 30, 5), point("a", t + 60, 3), point("B", t, 2)].join(",");
    let counters = [(0, 100), (10, 200), (20, 350), (30, 50)];
    let counters = counters
        .map(|(after, value)| format!(r#"{{"name":"c","measure_time":{},"value":{value}}}"#, t + after));
    let body = format!(r#"{{"gauges":[{points}],"counters":[{}]}}"#, counters.join(","));
    assert_eq!(receiver.post(&body).await.status, 200);
    receiver
}

#[tokio::test]
async fn measurements_are_summarized_over_time_and_sources() {
    let (_directory, db) = database();
    let t = minute();
    let receiver = receiver_with_measurements(&db, t).await;
    let a = json!([simple(t, 1.0), simple(t + 30, 5.0), simple(t + 60, 3.0)]);
    let b = json!([simple(t, 2.0)]);
    let ask = |query: &str| row("1", "GET", format!("/v1/metrics/m?start_time={t}&{query}"));
    let grouped = |time: i64, value: f64, summarized: i64| {
        let mut row = simple(time, value);
        row["summarized"] = summarized.into();
        row
    };
    let all = json!([numbers(t, 2, [3.0, 1.0, 2.0, 5.0]), simple(t + 30, 5.0), simple(t + 60, 3.0)]);
    let mut rows = vec![
        ask("").json(gauge(json!({"a": a, "B": b}), 1)),
        ask("resolution=60").json(gauge(json!({"a": [numbers(t, 2, [6.0, 1.0, 5.0, 26.0]), simple(t + 60, 3.0)], "B": b}), 60)),
        ask("summarize_time=true").json(gauge(json!({"a": [numbers(t, 3, [9.0, 1.0, 5.0, 35.0])], "B": b}), 1)),
        ask("summarize_sources=true").json(gauge(json!({"a": a, "B": b, "all": all}), 1)),
        ask("summarize_sources=true&breakout_sources=false").json(gauge(json!({"all": all}), 1)),
        ask("summarize_sources=true&summarize_time=true&breakout_sources=false")
            .json(gauge(json!({"all": [numbers(t, 4, [11.0, 1.0, 5.0, 39.0])]}), 1)),
        ask("summarize_sources=true&sources[]=b&sources[]=none&breakout_sources=false").json(gauge(json!({"all": b}), 1)),
        ask("summarize_time=true&source=none").json(gauge(json!({}), 1)),
        ask("summarize_time=perhaps").fails(400, r#"{"params":{"summarize_time":["must be true or false"]}}"#),
        ask("group_by=median").fails(400, r#"{"params":{"group_by":["must be min, max, mean, sum or count"]}}"#),
        ask("group_by=max&resolution=60&end_time=99999999999").json(gauge(
            json!({"all": [
                // The minimum of the maximums and the maximum of the maximums.
                {"measure_time": t, "value": 3.0, "count": 3, "sum": 6.0, "min": 2.0, "max": 5.0, "sum_squares": 26.0, "summarized": 2},
                grouped(t + 60, 3.0, 1),
            ]}),
            60,
        )),
        ask("group_by=sum&count=1").json(gauge(
            json!({"all": [{"measure_time": t, "value": 3.0, "count": 2, "sum": 3.0, "min": 3.0, "max": 3.0, "sum_squares": 5.0, "summarized": 2}]}),
            1,
        )),
        ask("group_by=min&breakout_sources=true&source=b").json(gauge(json!({"B": b, "all": [grouped(t, 2.0, 1)]}), 1)),
    ];
    // A counter that is summarized becomes the sum of what was added: 100, 150, and 50 after a new start.
    rows.push(row("1", "GET", format!("/v1/metrics/c?start_time={t}&summarize_time=true")).json(json!({
        "name": "c", "type": "counter", "period": null, "description": null, "display_name": null, "attributes": {},
        "resolution": 1, "measurements": {"unassigned": [numbers(t + 10, 3, [300.0, 50.0, 150.0, 35_000.0])]},
    })));
    check(&receiver, rows).await;
}

#[tokio::test]
async fn a_long_interval_is_summarized_as_a_whole() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let begin = now() - 7_000;
    for part in 0..3 {
        let gauges: Vec<String> = (0..5_000)
            .map(|i| part * 5_000 + i)
            .map(|i| {
                format!(r#"{{"name":"m","source":"s{}","value":1,"measure_time":{}}}"#, i % 3, begin + i / 3)
            })
            .collect();
        assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    }
    // One answer holds 10000 measurements.
    let whole = receiver
        .get(&format!("/v1/metrics/m?start_time={begin}&summarize_time=1&summarize_sources=1"))
        .await
        .json();
    assert_eq!(whole["measurements"]["all"][0]["count"], json!(15_000));
    assert_eq!(whole["measurements"]["s1"][0]["count"], json!(5_000));
    assert!(whole.get("query").is_none());
    let page = receiver.get(&format!("/v1/metrics/m?start_time={begin}")).await.json();
    assert!(page["query"]["next_time"].as_i64().is_some());
}

#[tokio::test]
async fn queries_that_cannot_be_answered_say_why() {
    let (_directory, db) = database();
    let receiver = receiver_with_measurements(&db, minute()).await;
    let mut rows =
        vec![row("3.3", "GET", "/v1/metrics/m?count=100000&source=none").json(gauge(json!({}), 1))];
    for (query, param, text) in [
        ("count=x", "count", "is not a number"),
        ("count=0", "count", "must be at least 1"),
        ("count=100001", "count", "must be at most 100000"),
        ("count=100001&start_time=5", "count", "must be at most 100000"),
        ("count=1&resolution=0", "resolution", "must be at least 1"),
        ("start_time=now", "start_time", "is not a number"),
        ("end_time=-5", "end_time", "must be at least 0"),
        ("start_time=9&end_time=9", "start_time", "must be before end_time"),
        ("count=1&source=a[b]", "source", "a[b] is not a valid source name"),
        ("count=1&sources[]=a%27%20OR%201=1", "source", "a' OR 1=1 is not a valid source name"),
    ] {
        let errors = format!(r#"{{"params":{{"{param}":["{text}"]}}}}"#);
        rows.push(row("3.3", "GET", format!("/v1/metrics/m?{query}")).fails(400, errors));
    }
    check(&receiver, rows).await;
}
