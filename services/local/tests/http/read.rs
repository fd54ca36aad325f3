//! `GET` and `HEAD`.

use serde_json::json;

use crate::client::{Receiver, database, now};

#[tokio::test]
async fn the_list_is_paged_filtered_and_sorted() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let gauges: Vec<String> = (0..120).map(|i| format!(r#"{{"name":"Web.{i:03}","value":1}}"#)).collect();
    let body = format!(r#"{{"gauges":[{}],"counters":{{"db_50%":{{"value":1}}}}}}"#, gauges.join(","));
    assert_eq!(receiver.post(&body.replace('%', "")).await.status, 200);
    let names = |value: &serde_json::Value| -> Vec<String> {
        value["metrics"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, counts, first, last) in [
        ("", [121, 100, 0, 121], "db_50", "Web.098"),
        ("?offset=100", [121, 21, 100, 121], "Web.099", "Web.119"),
        ("?offset=3&length=2", [121, 2, 3, 121], "Web.002", "Web.003"),
        ("?name=WEB.11&sort=desc", [10, 10, 0, 121], "Web.119", "Web.110"),
        ("?name=b_5", [1, 1, 0, 121], "db_50", "db_50"),
    ] {
        let list = receiver.get(&format!("/v1/metrics{query}")).await.json();
        let [found, length, offset, total] = counts;
        let expected = json!({"found": found, "length": length, "offset": offset, "total": total});
        assert_eq!(list["query"], expected, "{query}");
        let names = names(&list);
        assert_eq!((names[0].as_str(), names[names.len() - 1].as_str()), (first, last), "{query}");
    }
    // Wildcards of SQL are plain characters, and a search without a hit is still 200.
    for query in ["?name=%25", "?name=web_0", "?offset=500", "?name='%20OR%201=1"] {
        let answer = receiver.get(&format!("/v1/metrics{query}")).await;
        assert_eq!((answer.status, names(&answer.json()).len()), (200, 0), "{query}");
    }
    for (query, text) in [
        ("offset=x", r#"{"errors":{"params":{"offset":["is not a number"]}},"request_time":T}"#),
        ("offset=-1", r#"{"errors":{"params":{"offset":["must be at least 0"]}},"request_time":T}"#),
        ("length=0", r#"{"errors":{"params":{"length":["must be at least 1"]}},"request_time":T}"#),
        ("length=101", r#"{"errors":{"params":{"length":["must be at most 100"]}},"request_time":T}"#),
    ] {
        let answer = receiver.get(&format!("/v1/metrics?{query}")).await;
        assert_eq!((answer.status, answer.body_at_t()), (400, text.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_metric_keeps_the_case_and_properties_it_was_created_with() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let created = r#"{"source":"Host","gauges":[{"name":"Cpu.Temp","value":1,"period":60,"display_name":"CPU","description":"hot",
        "attributes":{"display_min":0,"aggregate":true}}]}"#;
    assert_eq!(
        receiver.call("POST", "/v1/metrics", &[("User-Agent", "tester/1")], created).await.status,
        200
    );
    let later =
        r#"{"source":"HOST","gauges":[{"name":"cpu.TEMP","value":2,"period":5,"display_name":"other"}]}"#;
    assert_eq!(receiver.post(later).await.status, 200);
    let expected = json!({
        "name": "Cpu.Temp", "display_name": "CPU", "description": "hot", "period": 60, "type": "gauge",
        "attributes": {"display_min": 0, "aggregate": true, "created_by_ua": "tester/1"},
    });
    assert_eq!(receiver.get("/v1/metrics/CPU.temp").await.json(), expected);
    let measurements = receiver.measurements("cpu.temp", "count=10").await;
    // Its attribute asks for aggregation, so both points are one measurement of their minute.
    let counts = measurements["Host"].as_array().unwrap().iter().map(|m| m["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 2, "{measurements}");
    assert_eq!(receiver.get("/v1/metrics").await.json()["metrics"], json!([expected]));
}

#[tokio::test]
async fn measurements_come_raw_or_merged_by_source() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let t = (now() - 3_600) / 60 * 60;
    let body = format!(
        r#"{{"gauges":[
        {{"name":"m","source":"a","measure_time":{t},"value":4}},
        {{"name":"m","source":"a","measure_time":{t},"value":4}},
        {{"name":"m","source":"a","measure_time":{},"count":2,"sum":10,"min":1,"max":9,"sum_squares":82,
          "buckets":{{"scale":5,"offset":-3,"counts":[1,1]}}}},
        {{"name":"m","source":"a","measure_time":{},"count":1,"sum":7}},
        {{"name":"m","source":"b.1","measure_time":{t},"value":-1}}]}}"#,
        t + 59,
        t + 60
    );
    assert_eq!(receiver.post(&body).await.status, 200);
    let point = |time: i64, value: f64| {
        json!({"measure_time": time, "value": value, "count": 1, "sum": value, "min": value, "max": value,
               "sum_squares": value * value})
    };
    let mut complex = json!({"measure_time": t + 59, "value": 5.0, "count": 2, "sum": 10.0, "min": 1.0, "max": 9.0,
                             "sum_squares": 82.0});
    complex["buckets"] = json!({"scale": 5, "offset": -3, "counts": [1, 1], "zero": 0});
    let bare = json!({"measure_time": t + 60, "value": 7.0, "count": 1, "sum": 7.0, "min": null, "max": null,
                      "sum_squares": null});
    // Equal points are both kept.
    let a = json!([point(t, 4.0), point(t, 4.0), complex, bare]);
    let b = json!([point(t, -1.0)]);
    let merged = json!({"measure_time": t, "value": 4.5, "count": 4, "sum": 18.0, "min": 1.0, "max": 9.0,
                        "sum_squares": 114.0,
                        "buckets": {"scale": 5, "offset": -3, "counts": [1, 1], "zero": 0}});
    let (start, after) = (format!("start_time={t}"), format!("start_time={}", t + 1));
    for (query, expected) in [
        (start.clone(), json!({"a": a, "b.1": b})),
        (format!("{start}&resolution=1&source=A"), json!({"a": a})),
        (format!("{start}&sources[]=a&sources[]=B.*"), json!({"a": a, "b.1": b})),
        (format!("{start}&source=*1"), json!({"b.1": b})),
        (format!("{start}&source=*"), json!({"a": a, "b.1": b})),
        (format!("{start}&source=c"), json!({})),
        (format!("{after}&end_time={}", t + 59), json!({"a": [complex.clone()]})),
        (format!("end_time={}", t - 1), json!({})),
        ("count=1".to_owned(), json!({"a": [bare], "b.1": b})),
        (format!("count=1&{start}"), json!({"a": [point(t, 4.0)], "b.1": b})),
        (format!("count=1&end_time={}", t + 59), json!({"a": [complex], "b.1": b})),
        (format!("{start}&resolution=60"), json!({"a": [merged, bare], "b.1": b})),
    ] {
        let query = format!("{query}&buckets=true");
        assert_eq!(receiver.measurements("m", &query).await, expected, "{query}");
    }
    // Only who asks for the buckets gets them.
    complex.as_object_mut().unwrap().remove("buckets");
    let end = format!("{after}&end_time={}", t + 59);
    for query in [end.clone(), format!("{end}&buckets=false")] {
        assert_eq!(receiver.measurements("m", &query).await, json!({"a": [complex]}), "{query}");
    }
    let whole = receiver.get(&format!("/v1/metrics/m?{start}&resolution=60")).await.json();
    assert_eq!(
        (&whole["resolution"], &whole["name"], &whole["type"]),
        (&json!(60), &json!("m"), &json!("gauge"))
    );
    for (query, text) in [
        ("count=x", r#"{"errors":{"params":{"count":["is not a number"]}},"request_time":T}"#),
        ("count=0", r#"{"errors":{"params":{"count":["must be at least 1"]}},"request_time":T}"#),
        (
            "count=1&resolution=0",
            r#"{"errors":{"params":{"resolution":["must be at least 1"]}},"request_time":T}"#,
        ),
        ("start_time=now", r#"{"errors":{"params":{"start_time":["is not a number"]}},"request_time":T}"#),
        (
            "start_time=9&end_time=9",
            r#"{"errors":{"params":{"start_time":["must be before end_time"]}},"request_time":T}"#,
        ),
        (
            "count=1&buckets=all",
            r#"{"errors":{"params":{"buckets":["must be true or false"]}},"request_time":T}"#,
        ),
        (
            "count=1&source=a[b]",
            r#"{"errors":{"params":{"source":["a[b] is not a valid source name"]}},"request_time":T}"#,
        ),
    ] {
        let answer = receiver.get(&format!("/v1/metrics/m?{query}")).await;
        assert_eq!((answer.status, answer.body_at_t()), (400, text.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_merged_measurement_does_not_claim_a_bound_that_one_part_lacks() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let time = (now() - 3_600) / 60 * 60;
    for rest in [r#""count":2,"sum":4,"min":1,"max":3,"sum_squares":10"#, r#""count":2,"sum":6"#] {
        let body = format!(r#"{{"measure_time":{time},"gauges":[{{"name":"m",{rest}}}]}}"#);
        assert_eq!(receiver.post(&body).await.status, 200);
    }
    let merged = receiver.measurements("m", "count=1&resolution=60").await;
    let expected = json!([{"measure_time": time, "value": 2.5, "count": 4, "sum": 10.0, "min": null, "max": null,
                           "sum_squares": null}]);
    assert_eq!(merged["unassigned"], expected);
}

#[tokio::test]
async fn counters_keep_their_absolute_values() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    for value in [100, 200, 350] {
        let time = now() - 400 + value;
        let body = format!(r#"{{"counters":{{"c":{{"value":{value},"measure_time":{time}}}}}}}"#);
        assert_eq!(receiver.post(&body).await.status, 200);
    }
    let measurements = receiver.measurements("c", "count=9").await;
    let values: Vec<_> =
        measurements["unassigned"].as_array().unwrap().iter().map(|m| m["value"].clone()).collect();
    assert_eq!(values, [json!(100.0), json!(200.0), json!(350.0)]);
}

#[tokio::test]
async fn a_long_interval_is_paged_by_time_without_a_gap_or_repetition() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let begin = now() - 7_000;
    // Four sources at 6250 instants: 25000 measurements, so a page ends between two instants.
    for part in 0..5 {
        let gauges: Vec<String> = (0..5_000)
            .map(|i| {
                let i = part * 5_000 + i;
                format!(r#"{{"name":"m","source":"s{}","value":1,"measure_time":{}}}"#, i % 4, begin + i / 4)
            })
            .collect();
        assert_eq!(receiver.post(&format!(r#"{{"gauges":[{}]}}"#, gauges.join(","))).await.status, 200);
    }
    let (mut start, mut pages, mut seen) = (begin, 0, 0);
    loop {
        let page = receiver.get(&format!("/v1/metrics/m?start_time={start}")).await.json();
        let sources = page["measurements"].as_object().unwrap();
        seen += sources.values().map(|series| series.as_array().unwrap().len()).sum::<usize>();
        pages += 1;
        match page["query"]["next_time"].as_i64() {
            Some(next) => start = next,
            None => break,
        }
    }
    assert_eq!((pages, seen), (3, 25_000));
}

#[tokio::test]
async fn more_measurements_at_one_instant_than_an_answer_holds_is_an_error() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let time = now();
    let gauges = vec![format!(r#"{{"name":"m","value":1,"measure_time":{time}}}"#); 10_000].join(",");
    let body = format!(r#"{{"gauges":[{gauges}]}}"#);
    assert_eq!(receiver.post(&body).await.status, 200);
    assert_eq!(
        receiver.measurements("m", "count=20000").await["unassigned"].as_array().unwrap().len(),
        10_000
    );
    assert_eq!(receiver.post(&body).await.status, 200);
    let answer = receiver.get("/v1/metrics/m?count=20000").await;
    let expected = r#"{"errors":{"request":"The requested data resolution is unavailable for the given time range. Please try a different resolution."},"request_time":T}"#;
    assert_eq!((answer.status, answer.body_at_t()), (400, expected.to_owned()));
    let merged = receiver.measurements("m", "count=1&resolution=60").await;
    assert_eq!(merged["unassigned"][0]["sum"], json!(20_000.0));
}
