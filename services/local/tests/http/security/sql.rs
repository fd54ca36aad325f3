//! Names and values that look like statements.

use serde_json::json;

use crate::client::{Receiver, database};

#[tokio::test]
async fn sql_in_any_name_is_text_and_nothing_more() {
    const ATTACKS: [&str; 7] = [
        "x'; DROP TABLE metrics; --",
        r#"x" OR "1"="1"#,
        "' OR '1'='1",
        "%' UNION SELECT * FROM sources --",
        "x\\",
        "_%",
        "x]; [",
    ];
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let seed = r#"{"gauges":[{"name":"m","value":1,"source":"s"}],"counters":[{"name":"c","value":1}]}"#;
    assert_eq!(receiver.post(seed).await.status, 200);
    assert_eq!(receiver.call("POST", "/v1/annotations/e?title=t&start_time=5", &[], "").await.status, 201);
    let json = ("Content-Type", "application/json");
    for attack in ATTACKS {
        let path: String = attack.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let quoted = json!(attack).to_string();
        for (method, path, body, statuses) in [
            ("GET", format!("/v1/metrics?name={path}"), String::new(), &[200][..]),
            ("GET", format!("/v1/metrics/{path}"), String::new(), &[404]),
            ("PUT", format!("/v1/metrics/{path}"), r#"{"type":"gauge"}"#.to_owned(), &[400]),
            ("DELETE", format!("/v1/metrics/{path}"), String::new(), &[204]),
            ("DELETE", "/v1/metrics".to_owned(), format!(r#"{{"names":[{quoted}]}}"#), &[400]),
            (
                "DELETE",
                "/v1/metrics".to_owned(),
                format!(r#"{{"names":"none*","exclude":{quoted}}}"#),
                &[400],
            ),
            ("PUT", "/v1/metrics".to_owned(), format!(r#"{{"names":{quoted},"period":5}}"#), &[400]),
            (
                "PUT",
                "/v1/metrics/m".to_owned(),
                format!(
                    r#"{{"description":{quoted},"display_name":{quoted},"attributes":{{{quoted}:{quoted}}}}}"#
                ),
                &[204],
            ),
            ("GET", format!("/v1/metrics/m?count=1&source={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics/m?count={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics?orderby={path}"), String::new(), &[400]),
            ("GET", format!("/v1/metrics?sort={path}"), String::new(), &[400]),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(r#"{{"gauges":[{{"name":{quoted},"value":1}}]}}"#),
                &[400],
            ),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(r#"{{"gauges":[{{"name":"m","value":1,"source":{quoted}}}]}}"#),
                &[400],
            ),
            (
                "POST",
                "/v1/metrics".to_owned(),
                format!(
                    r#"{{"gauges":[{{"name":"m","value":1,"description":{quoted},"origin":{{"kind":"gauge","levels":[{quoted}],"unit":{quoted}}}}}]}}"#
                ),
                &[200, 400],
            ),
            (
                "POST",
                "/v1/measurements".to_owned(),
                format!(
                    r#"{{"measurements":[{{"name":"m","value":1,"tags":{{{quoted}:"v"}}}},{{"name":"m","value":1,"tags":{{"k":{quoted}}}}}]}}"#
                ),
                &[200],
            ),
            ("GET", format!("/v1/measurements/{path}?resolution=1&duration=5"), String::new(), &[404]),
            (
                "GET",
                format!("/v1/measurements/m?resolution=1&duration=5&tags[{path}]={path}"),
                String::new(),
                &[200],
            ),
            (
                "GET",
                format!("/v1/measurements/m?resolution=1&duration=5&group_by={path}&group_by_function=sum"),
                String::new(),
                &[200],
            ),
            ("GET", format!("/v1/sources?name={path}"), String::new(), &[200]),
            ("GET", format!("/v1/sources/{path}"), String::new(), &[404]),
            ("PUT", format!("/v1/sources/{path}"), String::new(), &[400]),
            ("PUT", "/v1/sources/s".to_owned(), format!(r#"{{"display_name":{quoted}}}"#), &[204]),
            ("DELETE", format!("/v1/sources/{path}"), String::new(), &[204]),
            ("POST", format!("/v1/annotations/{path}"), r#"{"title":"t"}"#.to_owned(), &[400]),
            ("GET", format!("/v1/annotations/{path}"), String::new(), &[404]),
            ("GET", format!("/v1/annotations?name={path}"), String::new(), &[200]),
            ("PUT", "/v1/annotations/e".to_owned(), format!(r#"{{"display_name":{quoted}}}"#), &[204]),
            (
                "PUT",
                "/v1/annotations/e/1".to_owned(),
                format!(r#"{{"title":{quoted},"description":{quoted}}}"#),
                &[204],
            ),
            ("GET", format!("/v1/annotations/e/{path}"), String::new(), &[404]),
            ("DELETE", format!("/v1/annotations/e/1/links/{path}"), String::new(), &[204]),
            ("DELETE", format!("/v1/annotations/{path}"), String::new(), &[204]),
            ("GET", format!("/v1/jobs/{path}"), String::new(), &[404]),
        ] {
            let headers = [json, ("X-Zibrato-Batch", attack), ("User-Agent", attack)];
            let answer = receiver.call(method, &path, &headers, &body).await;
            assert!(statuses.contains(&answer.status), "{method} {path} {body}: {answer:?}");
        }
        let shown = receiver.get("/v1/metrics/m").await.json();
        assert_eq!((&shown["description"], &shown["attributes"][attack]), (&json!(attack), &json!(attack)));
        assert_eq!(receiver.get("/v1/sources/s").await.json()["display_name"], json!(attack));
        assert_eq!(receiver.get("/v1/annotations/e/1").await.json()["title"], json!(attack));
        let found = receiver.get(&format!("/v1/sources?name={path}")).await.json();
        assert_eq!(found["query"]["found"], json!(1), "{attack}");
    }
    let totals = receiver.get("/v1/metrics").await.json();
    assert_eq!(totals["query"]["total"], json!(2), "{totals}");
    receiver.stop().await;
    let db = rusqlite::Connection::open(&db).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
