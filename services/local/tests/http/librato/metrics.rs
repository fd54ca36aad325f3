//! Section 1: metrics, one and many, and jobs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{DEADLINE, Receiver, database};
use crate::table::{check, row};

fn metric(name: &str, kind: &str, rest: Value) -> Value {
    let mut metric = json!({
        "name": name, "type": kind, "period": null, "description": null, "display_name": null, "attributes": {},
    });
    metric.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    metric
}

#[tokio::test]
async fn the_original_asks_with_head_and_posts_its_times_as_strings() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let original = format!(
        r#"{{"gauges": [{{"name": "g", "value": 5.0, "source": "s", "measure_time": "{}"}}]}}"#,
        crate::client::now()
    );
    let rows = vec![
        row("0", "HEAD", "/v1/metrics").header("User-Agent", "zibrato/0.1.8"),
        row("0", "POST", "/v1/metrics")
            .header("content-type", "application/json")
            .bytes(original.into_bytes())
            .with("Content-Length", "0"),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn one_metric_is_created_changed_shown_and_deleted() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let not_found = r#"{"request":["Not Found"]}"#;
    let created = metric(
        "Queue_Len",
        "gauge",
        json!({"description": "Length of app queue", "display_name": "num. elements", "attributes": {"created_by_ua": "curl/7"}}),
    );
    let changed = metric(
        "Queue_Len",
        "gauge",
        json!({
            "display_name": "Temperature in Celsius", "period": 15, "description": "Length of app queue",
            "attributes": {"display_min": 0, "display_max": 1000, "aggregate": true, "color": "#52D74C"},
        }),
    );
    let without = metric(
        "Queue_Len",
        "gauge",
        json!({"attributes": {"display_min": 0, "display_max": 1000, "aggregate": true}}),
    );
    let counter = metric("c", "counter", json!({"attributes": {"display_stacked": true}}));
    let rows = vec![
        row("1", "GET", "/v1/metrics/queue_len").fails(404, not_found),
        // A type is required to create.
        row("1", "PUT", "/v1/metrics/Queue_Len").form("display_name=x").fails(400, r#"{"params":{"type":["is required"]}}"#),
        row("1", "GET", "/v1/metrics/queue_len").fails(404, not_found),
        row("1", "PUT", "/v1/metrics/Queue_Len")
            .header("User-Agent", "curl/7")
            .form("type=gauge&description=Length of app queue&display_name=num. elements")
            .is(201)
            .with("Location", "/v1/metrics/Queue_Len")
            .json(created.clone()),
        row("1", "GET", "/v1/metrics/QUEUE_LEN").json(created),
        row("1", "PUT", "/v1/metrics/queue_len")
            .form("display_name=Temperature in Celsius&attributes[display_min]=0&attributes[created_by_ua]=forged&period=15")
            .is(204),
        row("1", "PUT", "/v1/metrics/queue_len")
            .json_body(r##"{"type":"gauge","attributes":{"display_max":1000,"aggregate":true,"color":"#52D74C"}}"##)
            .is(204),
        row("1", "GET", "/v1/metrics/queue_len").json({
            let mut shown = changed.clone();
            shown["attributes"]["created_by_ua"] = "curl/7".into();
            shown
        }),
        // Null and empty take away; a PUT without anything changes nothing.
        row("1", "PUT", "/v1/metrics/queue_len")
            .json_body(r#"{"period":null,"description":"","display_name":null,"color":""}"#)
            .is(204),
        row("1", "PUT", "/v1/metrics/queue_len").is(204),
        row("1", "GET", "/v1/metrics/queue_len").json({
            let mut shown = without.clone();
            shown["attributes"]["created_by_ua"] = "curl/7".into();
            shown
        }),
        row("3.3", "PUT", "/v1/metrics/queue_len")
            .form("type=counter")
            .fails(400, r#"{"params":{"type":["'Queue_Len' is a gauge, but was submitted as different type"]}}"#),
        row("1", "PUT", "/v1/metrics/m").form("type=composite&composite=s(\"a\",\"*\")").fails(400, r#"{"params":{"type":["must be gauge or counter"]}}"#),
        row("3.1", "PUT", "/v1/metrics/a%20b").form("type=gauge").fails(400, r#"{"params":{"name":["a b is not a valid metric name"]}}"#),
        // What only gauges have is not for counters.
        row("2.1", "PUT", "/v1/metrics/c").form("type=counter&aggregate=true&display_stacked=true").is(201).with("Location", "/v1/metrics/c").json(counter),
        row("1", "DELETE", "/v1/metrics/Queue_LEN").is(204),
        row("1", "GET", "/v1/metrics/queue_len").fails(404, not_found),
        // Deleting a missing metric also succeeds.
        row("1", "DELETE", "/v1/metrics/queue_len").is(204),
        row("1", "DELETE", "/v1/metrics/a%20b").is(204),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn bad_properties_are_refused_and_change_nothing() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let long = "d".repeat(1_025);
    let shown = metric("m", "gauge", json!({}));
    let mut rows = vec![
        row("1", "PUT", "/v1/metrics/m")
            .form("type=gauge")
            .is(201)
            .with("Location", "/v1/metrics/m")
            .json(shown.clone()),
    ];
    for (form, param, text) in [
        ("period=often", "period", "is not a number"),
        ("attributes[display_min]=low", "display_min", "is not a number"),
        ("display_max=x", "display_max", "is not a number"),
        ("color=red", "color", "must be a color such as #52D74C"),
        ("display_transform=x;y", "display_transform", "must be a formula of digits, x, p and + - * / ( )"),
        ("summarize_function=median", "summarize_function", "must be average, sum, count, min or max"),
        ("aggregate=maybe", "aggregate", "must be true or false"),
        ("attributes=5", "attributes", "is not a hash"),
        (&format!("description={long}"), "description", "is longer than 1024 bytes"),
    ] {
        let text = format!(r#"{{"params":{{"{param}":["{text}"]}}}}"#);
        rows.push(
            row("2.1", "PUT", "/v1/metrics/m").form(format!("display_name=changed&{form}")).fails(400, &text),
        );
        rows.push(row("2.1", "PUT", "/v1/metrics").form(format!("names=m&{form}")).fails(400, text));
    }
    rows.push(row("1", "GET", "/v1/metrics/m").json(shown));
    let mut post = row("2.1", "POST", "/v1/metrics");
    post = post.json_body(r#"{"gauges":[{"name":"n","value":1,"attributes":{"color":"red"}}]}"#);
    rows.push(post.fails(400, r#"{"params":{"color":["must be a color such as #52D74C"],"name":"n"}}"#));
    rows.push(row("1", "GET", "/v1/metrics/n").fails(404, r#"{"request":["Not Found"]}"#));
    check(&receiver, rows).await;
}

async fn names(receiver: &Receiver) -> Vec<String> {
    let list = receiver.get("/v1/metrics").await.json();
    list["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn many_metrics_are_changed_and_deleted_by_names_and_patterns() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges = ["cpu.1.90", "cpu.2.90", "CPU.3.99", "servers", "reqs", "my_1"]
        .map(|name| format!(r#""{name}":{{"value":1}}"#));
    let body = format!(r#"{{"gauges":{{{}}},"counters":{{"hits":{{"value":1}}}}}}"#, gauges.join(","));
    assert_eq!(receiver.post(&body).await.status, 200);

    let rows = vec![
        row("1", "PUT", "/v1/metrics").form("names%5B%5D=servers&names%5B%5D=REQS&names[]=missing&period=60&display_min=0").is(204),
        row("1", "PUT", "/v1/metrics").json_body(r#"{"names":["cpu*","hits"],"exclude":["cpu.2*"],"display_units_short":"ms","aggregate":true}"#).is(204),
        row("1", "PUT", "/v1/metrics?names=my_*&period=7").is(204),
        // The list is searched for a part of the name, in which a star is no wildcard.
        row("1", "GET", "/v1/metrics?name=cpu*")
            .json(json!({"query": {"found": 0, "length": 0, "offset": 0, "total": 7}, "metrics": []})),
        row("1", "GET", "/v1/metrics/servers").json(metric("servers", "gauge", json!({"period": 60, "attributes": {"display_min": 0}}))),
        row("1", "GET", "/v1/metrics/reqs").json(metric("reqs", "gauge", json!({"period": 60, "attributes": {"display_min": 0}}))),
        row("1", "GET", "/v1/metrics/cpu.1.90").json(metric("cpu.1.90", "gauge", json!({"attributes": {"display_units_short": "ms", "aggregate": true}}))),
        row("1", "GET", "/v1/metrics/cpu.2.90").json(metric("cpu.2.90", "gauge", json!({}))),
        // Attributes of gauges are applied only to the gauges of the set.
        row("1", "GET", "/v1/metrics/hits").json(metric("hits", "counter", json!({"attributes": {"display_units_short": "ms"}}))),
        row("1", "GET", "/v1/metrics/my_1").json(metric("my_1", "gauge", json!({"period": 7}))),
        row("1", "DELETE", "/v1/metrics").fails(400, r#"{"params":{"names":["is not present"]}}"#),
        row("1", "PUT", "/v1/metrics").form("period=5").fails(400, r#"{"params":{"names":["is not present"]}}"#),
        row("1", "DELETE", "/v1/metrics").form("names=a b").fails(400, r#"{"params":{"names":["a b is not a valid metric name"]}}"#),
        row("1", "DELETE", "/v1/metrics?names[]=").fails(400, r#"{"params":{"names":[" is not a valid metric name"]}}"#),
        // An underscore and a percent sign are no wildcards, and a question mark and brackets no names.
        row("1", "DELETE", "/v1/metrics").form("names=my*_").is(204),
        row("1", "DELETE", "/v1/metrics").form("names=cpu.[12]*").fails(400, r#"{"params":{"names":["cpu.[12]* is not a valid metric name"]}}"#),
        row("1", "DELETE", "/v1/metrics").form("names=cpu*.90").is(204),
    ];
    check(&receiver, rows).await;
    assert_eq!(names(&receiver).await, ["CPU.3.99", "hits", "my_1", "reqs", "servers"]);
    let rows = vec![
        row("1", "DELETE", "/v1/metrics").json_body(r#"{"names":["servers","HITS","missing"]}"#).is(204),
        row("1", "DELETE", "/v1/metrics?names[]=reqs").is(204),
        row("1", "DELETE", "/v1/metrics").form("names=*&exclude[]=cpu*").is(204),
    ];
    check(&receiver, rows).await;
    assert_eq!(names(&receiver).await, ["CPU.3.99"]);
}

#[tokio::test]
async fn a_deleted_metric_is_made_anew_by_the_next_measurement() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.post(r#"{"counters":{"m":{"value":7}}}"#).await.status, 200);
    assert_eq!(receiver.call("DELETE", "/v1/metrics/m", &[], "").await.status, 204);
    assert_eq!(receiver.post(r#"{"gauges":{"M":{"value":1}}}"#).await.status, 200);
    let rows = vec![
        row("1", "GET", "/v1/metrics/m").json(metric("M", "gauge", json!({}))),
        row("1", "GET", "/v1/sources/unassigned").json(json!({"name": "unassigned", "display_name": null})),
    ];
    check(&receiver, rows).await;
    let measurements = receiver.measurements("m", "count=10").await;
    assert_eq!(measurements["unassigned"].as_array().unwrap().len(), 1);
    assert_eq!(measurements["unassigned"][0]["value"], json!(1.0));
}

/// Polls a job until it has left the state `working`.
async fn ended(receiver: &Receiver, place: &str) -> Value {
    let begun = Instant::now();
    loop {
        let job = receiver.get(place).await.json();
        if job["state"] != "working" {
            return job;
        }
        assert!(begun.elapsed() < DEADLINE, "{job}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn more_than_100_metrics_are_the_work_of_a_job() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges =
        |n: usize| (0..n).map(|i| format!(r#""m.{i:03}":{{"value":1}}"#)).collect::<Vec<_>>().join(",");
    assert_eq!(receiver.post(&format!(r#"{{"gauges":{{{}}}}}"#, gauges(350))).await.status, 200);
    assert_eq!(receiver.call("PUT", "/v1/metrics?names=m.0*&period=9", &[], "").await.status, 204);

    let answer = receiver.call("PUT", "/v1/metrics?names=m.*&period=5", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let place = answer.header("Location").unwrap().to_owned();
    assert_eq!(place, "/v1/jobs/1");
    assert_eq!(ended(&receiver, &place).await, json!({"id": 1, "state": "complete", "progress": 100.0}));
    for name in ["m.000", "m.100", "m.349"] {
        assert_eq!(receiver.get(&format!("/v1/metrics/{name}")).await.json()["period"], json!(5));
    }

    let answer = receiver.call("DELETE", "/v1/metrics?names=m.*", &[], "").await;
    assert_eq!((answer.status, answer.header("Location")), (202, Some("/v1/jobs/2")));
    // Points go on being stored meanwhile.
    assert_eq!(receiver.post(r#"{"gauges":{"other":{"value":1}}}"#).await.status, 200);
    assert_eq!(ended(&receiver, "/v1/jobs/2").await["state"], "complete");
    assert_eq!(names(&receiver).await, ["other"]);
    let not_found = r#"{"request":["Not Found"]}"#;
    let rows = vec![
        row("1", "GET", "/v1/jobs/1").json(json!({"id": 1, "state": "complete", "progress": 100.0})),
        row("1", "GET", "/v1/jobs/3").fails(404, not_found),
        row("1", "GET", "/v1/jobs/x").fails(404, not_found),
        row("1", "GET", "/v1/jobs/-1").fails(404, not_found),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn what_zibrato_says_of_a_metric_is_kept_and_shown() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let origin = |kind: &str, level: &str, unit: &str| {
        format!(
            r#"{{"gauges":[{{"name":"t","count":1,"sum":1,"origin":{{"kind":"{kind}","levels":["{level}"],"unit":"{unit}"}}}}]}}"#
        )
    };
    assert_eq!(receiver.post(r#"{"gauges":[{"name":"t","value":1}]}"#).await.status, 200);
    for (kind, level, unit) in [("timer", "info", "s"), ("timer", "audit", ""), ("counter", "info", "m")] {
        assert_eq!(receiver.post(&origin(kind, level, unit)).await.status, 200);
    }
    // Kind and unit are the first ones, levels are added.
    let shown = json!({"origin": {"kind": "timer", "levels": ["audit", "info"], "unit": "s"}});
    let bad = r#"{"params":{"origin":["must have the kind counter, gauge or timer"],"name":"t"}}"#;
    let rows = vec![
        row("1", "GET", "/v1/metrics/t").json(metric("t", "gauge", shown)),
        row("1", "POST", "/v1/metrics").json_body(origin("meter", "info", "")).fails(400, bad),
    ];
    check(&receiver, rows).await;
}
