//! Sections 2.1 and 3.1: the shapes of `POST /v1/metrics` and its limits.

use serde_json::{Value, json};

use super::minute;
use crate::client::{Receiver, database, gzip};
use crate::table::{check, row};

/// Name, source, time and sum of all that is stored, in order.
async fn stored(receiver: &Receiver) -> Vec<(String, String, i64, f64)> {
    let mut all = Vec::new();
    let list = receiver.get("/v1/metrics").await.json();
    for metric in list["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap();
        let measurements = receiver.measurements(name, "count=1000").await;
        for (source, series) in measurements.as_object().unwrap() {
            for measurement in series.as_array().unwrap() {
                let time = measurement["measure_time"].as_i64().unwrap();
                all.push((name.to_owned(), source.clone(), time, measurement["sum"].as_f64().unwrap()));
            }
        }
    }
    all
}

#[tokio::test]
async fn every_documented_shape_says_the_same() {
    let t = minute();
    let expected = [
        ("conn_servers", "blah.com", t + 1, 5.0),
        ("cpu_temp", "cpu0_blah.com", t, 88.4),
        ("cpu_temp", "cpu1_blah.com", t + 1, 80.0),
        ("write_fails", "blah.com", t + 1, 3.0),
    ];
    let expected = expected.map(|(name, source, time, sum)| (name.to_owned(), source.to_owned(), time, sum));
    let form = format!(
        "measure_time={}&source=blah.com&counters[0][name]=conn_servers&counters[0][value]=5&counters[1][name]=write_fails&counters[1][value]=3&gauges[0][name]=cpu_temp&gauges[0][value]=88.4&gauges[0][source]=cpu0_blah.com&gauges[0][measure_time]={t}&gauges[1][name]=cpu_temp&gauges[1][count]=2&gauges[1][sum]=80&gauges[1][source]=cpu1_blah.com",
        t + 1
    );
    let tops = format!(r#""measure_time":{},"source":"blah.com""#, t + 1);
    let array = format!(
        r#"{{{tops},"counters":[{{"name":"conn_servers","value":5}},{{"name":"write_fails","value":"3"}}],
            "gauges":[{{"name":"cpu_temp","value":88.4,"source":"cpu0_blah.com","measure_time":"{t}"}},{{"name":"cpu_temp","count":2,"sum":80,"source":"cpu1_blah.com"}}]}}"#
    );
    let hash = format!(
        r#"{{{tops},"counters":{{"conn_servers":{{"value":5}},"write_fails":{{"value":3}}}},
            "gauges":{{"cpu_temp":{{"value":88.4,"source":"cpu0_blah.com","measure_time":{t}.9}},"1":{{"name":"cpu_temp","count":"2","sum":80.0,"source":"cpu1_blah.com"}}}}}}"#
    );
    let escaped = form.replace('[', "%5B").replace(']', "%5D");
    let json = "application/json; charset=UTF-8";
    for (content_type, encoding, body) in [
        (Some("application/x-www-form-urlencoded"), None, form.as_bytes().to_vec()),
        (Some("application/x-www-form-urlencoded; charset=utf-8"), Some("gzip"), gzip(escaped.as_bytes())),
        // The vendor's default.
        (None, None, form.as_bytes().to_vec()),
        (Some(json), None, array.as_bytes().to_vec()),
        (Some("Application/JSON"), Some("gzip"), gzip(array.as_bytes())),
        (Some(json), Some("identity"), hash.as_bytes().to_vec()),
        // What `curl -d '{...}'` says; no form begins with a brace.
        (Some("application/x-www-form-urlencoded"), None, array.as_bytes().to_vec()),
        (None, Some("x-gzip"), gzip(format!(" \n{hash}").as_bytes())),
    ] {
        let (_directory, db) = database();
        let receiver = Receiver::on(&db).await;
        let mut post = row("2.1", "POST", "/v1/metrics").bytes(body).with("Content-Length", "0");
        if let Some(content_type) = content_type {
            post = post.header("Content-Type", content_type);
        }
        if let Some(encoding) = encoding {
            post = post.header("Content-Encoding", encoding);
        }
        check(&receiver, vec![post]).await;
        assert_eq!(stored(&receiver).await, expected, "{content_type:?} {encoding:?}");
        assert_eq!(receiver.stop().await.points_accepted, 4);
    }
}

#[tokio::test]
async fn properties_apply_when_a_metric_is_created_and_never_again() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let attributes = json!({
        "aggregate": true, "color": "#52D74C", "display_max": 10, "display_min": 0.5, "display_stacked": true,
        "display_transform": "(x-32)*5/9", "display_units_long": "Fahrenheit", "display_units_short": "F",
        "gap_detection": false, "summarize_function": "sum", "team": "ops",
    });
    let post = |rest: Value| {
        let mut gauge = json!({"name": "m", "value": 1});
        gauge.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        row("2.1", "POST", "/v1/metrics")
            .json_body(json!({"gauges": [gauge]}).to_string())
            .header("User-Agent", "a/1")
    };
    let mut shown = attributes.clone();
    shown["created_by_ua"] = "a/1".into();
    let shown = json!({"name": "m", "type": "gauge", "period": 60, "description": "D", "display_name": "N", "attributes": shown});
    let rows = vec![
        post(json!({"attributes": attributes, "period": 60, "description": "D", "display_name": "N"})),
        post(json!({"attributes": {"color": "#000000"}, "period": 5, "description": "E", "display_name": "O"})),
        row("1", "GET", "/v1/metrics/m").json(shown),
        // Top-level period and attributes, as clients send them; counters have no aggregation.
        row("2.1", "POST", "/v1/metrics").json_body(r#"{"period":30,"attributes":{"aggregate":true,"display_min":1},"gauges":{"g":{"value":1}},"counters":{"c":{"value":1}}}"#),
        row("1", "GET", "/v1/metrics/g").json(json!({"name": "g", "type": "gauge", "period": 30, "description": null, "display_name": null, "attributes": {"aggregate": true, "display_min": 1}})),
        row("1", "GET", "/v1/metrics/c").json(json!({"name": "c", "type": "counter", "period": 30, "description": null, "display_name": null, "attributes": {"display_min": 1}})),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn what_is_at_a_limit_passes() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let (longest, t) = ("n".repeat(255), minute());
    let post = |body: String| row("3.1", "POST", "/v1/metrics").json_body(body);
    let rows = vec![
        post(format!(r#"{{"gauges":[{{"name":"{longest}","value":1,"source":"{longest}"}}]}}"#)),
        post(r#"{"gauges":[{"name":"A-Z.a:z_09","value":1e126}],"counters":[]}"#.to_owned()),
        post(r#"{"counters":[{"name":"never","value":0}]}"#.to_owned()),
        post(format!(r#"{{"gauges":[{{"name":"tiny","value":9e-131,"measure_time":{t}}}]}}"#)),
        post(format!(
            r#"{{"gauges":[{{"name":"ahead","value":1,"measure_time":{}}}]}}"#,
            crate::client::now() + 49
        )),
    ];
    check(&receiver, rows).await;
    assert_eq!(receiver.measurements("tiny", "count=1").await["unassigned"][0]["value"], json!(0.0));
}
