//! Sections 2.2 and 3.5: measurements with tags.

use serde_json::{Value, json};

use super::minute;
use crate::client::{Receiver, database, now};
use crate::table::{Row, check, row};

fn post(body: impl Into<String>) -> Row {
    row("2.2", "POST", "/v1/measurements").json_body(body)
}

/// The answer if all was well, byte for byte: clients look for `"failed":0`.
fn accepted(n: usize) -> String {
    format!(
        r#"{{"measurements":{{"summary":{{"total":{n},"accepted":{n},"failed":0,"filtered":0}}}},"errors":[]}}"#
    )
}

#[tokio::test]
async fn measurements_with_tags_are_stored_and_read_back_by_tags() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let t = minute();
    let body = format!(
        r#"{{"time":{t},"period":60,"tags":{{"Region":"US-West","name":"web-prod-3"}},"measurements":[
            {{"name":"CPU","value":4.5}},
            {{"name":"cpu","value":6.5,"tags":{{"region":"us-east","name":"web-prod-1"}}}},
            {{"name":"cpu","value":1.5,"tags":{{"region":"eu"}},"time":{}}},
            {{"name":"mem","sum":35.0,"count":3,"min":4.5,"max":6.7,"last":2.5,"stddev":1.34,"attributes":{{"aggregate":false}},"tags":{{"az":"e"}}}}]}}"#,
        t + 60
    );
    let stream = |tags: Value, measurements: &[(i64, f64)]| {
        let measurements: Vec<_> =
            measurements.iter().map(|(time, value)| json!({"time": time, "value": value})).collect();
        json!({"tags": tags, "measurements": measurements})
    };
    let west = stream(json!({"name": "web-prod-3", "region": "us-west"}), &[(t, 4.5)]);
    let east = stream(json!({"name": "web-prod-1", "region": "us-east"}), &[(t, 6.5)]);
    let eu = stream(json!({"region": "eu"}), &[(t + 60, 1.5)]);
    let answer = |series: Value| json!({"series": series, "links": [], "resolution": 60, "name": "CPU", "attributes": {}});
    let ask =
        |query: &str| row("1", "GET", format!("/v1/measurements/cpu?resolution=60&start_time={t}&{query}"));
    let rows = vec![
        post(body).text(accepted(4)).with("Content-Type", "application/json;charset=utf-8"),
        // Streams are in the order of their tags.
        ask("").json(answer(json!([east, west, eu]))),
        ask("tags%5Bregion%5D=us-*&tags%5Bname%5D=*prod*").json(answer(json!([east, west]))),
        ask("tags[region]=eu&tags[region]=US-east").json(answer(json!([east, eu]))),
        ask("tags[!name]=").json(answer(json!([eu]))),
        ask("tags[region]=!us-*").json(answer(json!([eu]))),
        ask("tags_search=region%3Dus-east*%20and%20name%3D*prod*").json(answer(json!([east]))),
        ask("tags[region]=mars").json(answer(json!([]))),
        ask("group_by=region&group_by_function=sum&tags[region]=us-*")
            .json(answer(json!([stream(json!({"region": "us-east"}), &[(t, 6.5)]), stream(json!({"region": "us-west"}), &[(t, 4.5)])]))),
        // Only streams that have the tag are grouped.
        ask("group_by=name&group_by_function=max")
            .json(answer(json!([stream(json!({"name": "web-prod-1"}), &[(t, 6.5)]), stream(json!({"name": "web-prod-3"}), &[(t, 4.5)])]))),
        ask("group_by=*&group_by_function=mean").json(answer(json!([stream(json!({}), &[(t, 5.5), (t + 60, 1.5)])]))),
        row("1", "GET", format!("/v1/measurements/mem?resolution=1&start_time={t}&summary_function=all")).json({
            let stddev = ((35.0 * 35.0 / 3.0 + 3.0 * 1.34 * 1.34) / 3.0 - (35.0_f64 / 3.0).powi(2)).sqrt();
            json!({"series": [{"tags": {"az": "e"}, "measurements": [{"time": t, "count": 3.0, "sum": 35.0, "min": 4.5, "max": 6.7,
                "mean": 35.0 / 3.0, "stddev": stddev, "last": 35.0 / 3.0}]}], "links": [], "resolution": 1, "name": "mem", "attributes": {"aggregate": false}})
        }),
        row("1", "GET", format!("/v1/measurements/mem?resolution=1&start_time={t}&summary_function=max"))
            .json(json!({"series": [stream(json!({"az": "e"}), &[(t, 6.7)])], "links": [], "resolution": 1, "name": "mem", "attributes": {"aggregate": false}})),
        // Seen through the other API a stream is a source.
        row("1", "GET", "/v1/metrics/cpu").json(json!({
            "name": "CPU", "type": "gauge", "period": 60, "description": null, "display_name": null, "attributes": {}})),
    ];
    check(&receiver, rows).await;
    let sources = receiver.measurements("cpu", "count=1").await;
    let names: Vec<_> = sources.as_object().unwrap().keys().collect();
    assert_eq!(names, ["name=web-prod-1,region=us-east", "name=web-prod-3,region=us-west", "region=eu"]);
}

#[tokio::test]
async fn a_lone_tag_source_and_a_source_are_the_same() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let t = minute();
    assert_eq!(receiver.post(&format!(r#"{{"gauges":[{{"name":"m","value":1,"source":"Host-1","measure_time":{t}}},{{"name":"m","value":5,"measure_time":{t}}}]}}"#)).await.status, 200);
    let body = format!(
        r#"{{"time":{t},"measurements":[{{"name":"m","value":2,"tags":{{"source":"host-1"}}}},{{"name":"m","value":7}}]}}"#
    );
    let point = |value: f64| json!({"time": t, "value": value});
    let answer = |series: Value| json!({"series": series, "links": [], "resolution": 1, "name": "m", "attributes": {}});
    let ask =
        |query: &str| row("1", "GET", format!("/v1/measurements/m?resolution=1&start_time={t}&{query}"));
    let rows = vec![
        post(body).text(accepted(2)),
        ask("tags[source]=HOST-*")
            .json(answer(json!([{"tags": {"source": "Host-1"}, "measurements": [point(1.0), point(2.0)]}]))),
        // Without tags the source is unassigned.
        ask("tags[source]=unassigned").json(answer(
            json!([{"tags": {"source": "unassigned"}, "measurements": [point(5.0), point(7.0)]}]),
        )),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn each_measurement_is_taken_or_refused_for_itself() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post(r#"{"counters":{"a.counter":{"value":1}}}"#).await.status, 200);
    let errors = json!([
        {"param": "name", "value": "a b", "reason": "is not a valid metric name"},
        {"param": "source", "value": "s", "reason": "is not allowed with tags; give it as the tag source", "name": "m"},
        {"param": "time", "value": "5", "reason": "is too far in the past", "name": "m"},
        {"param": "tags", "value": "x;y", "reason": "is not a valid tag value", "name": "m"},
        {"param": "sum", "value": "", "reason": "is required", "name": "m"},
        {"param": "type", "value": "gauge", "reason": "is a counter, but was submitted as different type", "name": "A.Counter"},
    ]);
    let mixed = r#"{"measurements":[{"name":"m","value":1},{"name":"a b","value":1},{"name":"m","value":1,"source":"s"},{"name":"m","value":1,"time":5},
        {"name":"m","value":1,"tags":{"k":"x;y"}},{"name":"A.Counter","value":1},{"name":"m","count":2},{"name":"m","value":2,"tags":{"k":"v"}}]}"#;
    let bad: Vec<_> = (0..150).map(|_| r#"{"name":"a b","value":1}"#).collect();
    let rows = vec![
        post(mixed).json(json!({"measurements": {"summary": {"total": 8, "accepted": 2, "failed": 6, "filtered": 0}}, "errors": errors})),
        post(format!(r#"{{"measurements":[{}]}}"#, bad.join(","))).json(json!({
            "measurements": {"summary": {"total": 150, "accepted": 0, "failed": 150, "filtered": 0}}, "errors": vec![errors[0].clone(); 100]})),
    ];
    check(&receiver, rows).await;
    let measurements = receiver.measurements("m", "count=10").await;
    assert_eq!(measurements.as_object().unwrap().len(), 2, "{measurements}");
    let totals = receiver.stop().await;
    assert_eq!((totals.points_offered, totals.points_accepted), (159, 3));
    let refused = ["bad_name", "bad_source", "too_old", "bad_tag", "bad_count", "type_clash"]
        .map(|reason| totals.points_refused[reason]);
    assert_eq!(refused, [151, 1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn what_is_no_batch_of_measurements_is_415_422_or_400() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let json_only = r#"{"request":["Content-Type must be application/json"]}"#;
    let good = r#"{"measurements":[{"name":"m","value":1}]}"#;
    let not_json =
        |detail: &str| format!(r#"{{"request":["The JSON of the request could not be parsed: {detail}"]}}"#);
    let many = format!(r#"{{"measurements":[{}]}}"#, vec![r#"{"name":"m","value":1}"#; 10_001].join(","));
    let rows = vec![
        row("1", "POST", "/v1/measurements").form("measurements[0][name]=m").fails(415, json_only),
        row("1", "POST", "/v1/measurements").bytes(good.into()).fails(415, json_only),
        row("1", "POST", "/v1/measurements")
            .bytes(good.into())
            .header("Content-Type", "text/json")
            .fails(415, json_only),
        post("nonsense").fails(422, not_json("expected ident at line 1 column 2")),
        post("[]").fails(422, not_json("invalid type: sequence, expected a hash at line 1 column 0")),
        post(r#"{"measurements":[5]}"#)
            .fails(422, not_json("invalid type: integer `5`, expected a hash at line 1 column 18")),
        post(r#"{"gauges":[]}"#).fails(422, r#"{"params":{"measurements":["is not present"]}}"#),
        post(r#"{"measurements":[]}"#).fails(400, r#"{"request":["Must contain a measurement"]}"#),
        post(many)
            .fails(413, r#"{"request":["body holds more than 10000 measurements; send fewer at once"]}"#),
        post(good).header("X-Zibrato-Batch", "b1").text(accepted(1)),
        // A batch that comes again is stored once.
        post(good).header("X-Zibrato-Batch", "b1").text(accepted(1)),
    ];
    check(&receiver, rows).await;
    let totals = receiver.stop().await;
    assert_eq!((totals.points_accepted, totals.duplicate_batches), (1, 1));
}

#[tokio::test]
async fn a_query_by_tags_needs_a_resolution_and_a_range() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let t = now() - 50;
    check(
        &receiver,
        vec![post(format!(r#"{{"measurements":[{{"name":"m","value":1,"time":{t}}}]}}"#)).text(accepted(1))],
    )
    .await;
    let unset = |param: &str| format!(r#"{{"params":{{"conditions":{{"{param}":["must be set"]}}}}}}"#);
    let mut rows = vec![
        row("3.3", "GET", "/v1/measurements/m?duration=60").fails(400, unset("resolution")),
        row("3.3", "GET", "/v1/measurements/m?resolution=60").fails(400, unset("duration")),
        row("1", "GET", "/v1/measurements/m?resolution=60&duration=60&group_by=a")
            .fails(400, unset("group_by_function")),
    ];
    for (query, param, text) in [
        ("resolution=604801&duration=5", "resolution", "must be at most 604800"),
        ("resolution=x&duration=5", "resolution", "is not a number"),
        (
            "resolution=1&duration=5&start_time=1&end_time=9",
            "duration",
            "must not be set with start_time and end_time",
        ),
        ("resolution=1&start_time=9&end_time=9", "start_time", "must be before end_time"),
        (
            "resolution=1&duration=5&summary_function=median",
            "summary_function",
            "must be sum, min, max, count, mean, derivative, stddev or all",
        ),
        (
            "resolution=1&duration=5&group_by=a&group_by_function=median",
            "group_by_function",
            "must be sum, min, max or mean",
        ),
        (
            "resolution=1&duration=5&group_by=a&group_by_function=sum&summary_function=all",
            "group_by",
            "must not be set with summary_function=all",
        ),
        (
            "resolution=1&duration=5&tags_search=(a=b)",
            "tags_search",
            "must be conditions name=value with and, or and no brackets",
        ),
    ] {
        let errors = format!(r#"{{"params":{{"{param}":["{text}"]}}}}"#);
        rows.push(row("1", "GET", format!("/v1/measurements/m?{query}")).fails(400, errors));
    }
    for (query, found) in [
        ("resolution=1&duration=100".to_owned(), 1),
        ("resolution=1&duration=5".to_owned(), 0),
        (format!("resolution=1&duration=5&end_time={}", t + 1), 1),
        (format!("resolution=604800&start_time={t}"), 1),
    ] {
        let answer = receiver.get(&format!("/v1/measurements/m?{query}")).await.json();
        assert_eq!(answer["series"].as_array().unwrap().len(), found, "{query}: {answer}");
    }
    check(&receiver, rows).await;
}

#[tokio::test]
async fn a_long_answer_links_to_the_next() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let begin = now() - 7_000;
    for part in 0..3 {
        let measurements: Vec<String> = (0..5_000)
            .map(|i| part * 5_000 + i)
            .map(|i| {
                format!(r#"{{"name":"m","value":1,"time":{},"tags":{{"k":"{}"}}}}"#, begin + i / 3, i % 3)
            })
            .collect();
        check(
            &receiver,
            vec![post(format!(r#"{{"measurements":[{}]}}"#, measurements.join(","))).text(accepted(5_000))],
        )
        .await;
    }
    let mut next = Some(format!("/v1/measurements/m?resolution=1&start_time={begin}&tags%5Bk%5D=*"));
    let (mut seen, mut pages) = (0, 0);
    while let Some(path) = next {
        let page = receiver.get(&path).await.json();
        let series = page["series"].as_array().unwrap().iter();
        seen += series.map(|stream| stream["measurements"].as_array().unwrap().len()).sum::<usize>();
        pages += 1;
        next = page["links"].as_array().unwrap().first().map(|link| {
            assert_eq!(link["rel"], "next");
            link["href"].as_str().unwrap().to_owned()
        });
    }
    assert_eq!((seen, pages), (15_000, 2));
}
