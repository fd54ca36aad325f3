//! Section 1: sources.

use serde_json::json;

use crate::client::{Receiver, database};
use crate::table::{check, row};

#[tokio::test]
async fn sources_are_listed_named_created_and_deleted() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let body = r#"{"gauges":[{"name":"m","value":1,"source":"prod.example.com"},{"name":"m","value":2,"source":"Stg1.example.com"},
        {"name":"n","value":3,"source":"stg2.example.com"},{"name":"n","value":3}]}"#;
    assert_eq!(receiver.post(body).await.status, 200);
    let tagged = r#"{"tags":{"host":"a","az":"b"},"measurements":[{"name":"m","value":1}]}"#;
    let json_type = [("Content-Type", "application/json")];
    assert_eq!(receiver.call("POST", "/v1/measurements", &json_type, tagged).await.status, 200);

    let source = |name: &str, display_name: Option<&str>| json!({"name": name, "display_name": display_name});
    let query = |found: u32, length: u32, offset: u32| json!({"found": found, "length": length, "offset": offset, "total": 5});
    let not_found = r#"{"request":["Not Found"]}"#;
    let long = "d".repeat(256);
    let rows = vec![
        row("1", "PUT", "/v1/sources/STG1.example.com").form("display_name=Staging 1").is(204),
        row("1", "PUT", "/v1/sources/foo.bar.com")
            .json_body(r#"{"display_name":"Example Source"}"#)
            .is(201)
            .with("Location", "/v1/sources/foo.bar.com")
            .json(source("foo.bar.com", Some("Example Source"))),
        row("1", "GET", "/v1/sources/Foo.Bar.com").json(source("foo.bar.com", Some("Example Source"))),
        row("1", "GET", "/v1/sources/stg1.example.com").json(source("Stg1.example.com", Some("Staging 1"))),
        // What stands for tags is no source of this list.
        row("1", "GET", "/v1/sources").json(json!({"query": query(5, 5, 0), "sources": [
            source("foo.bar.com", Some("Example Source")), source("prod.example.com", None),
            source("Stg1.example.com", Some("Staging 1")), source("stg2.example.com", None), source("unassigned", None)]})),
        // Names and display names are searched, in any case.
        row("1", "GET", "/v1/sources?name=EXAMPLE&length=2&offset=1&sort=desc&orderby=name").json(json!({
            "query": query(4, 2, 1), "sources": [source("Stg1.example.com", Some("Staging 1")), source("prod.example.com", None)]})),
        row("1", "GET", "/v1/sources?name=staging").json(json!({
            "query": query(1, 1, 0), "sources": [source("Stg1.example.com", Some("Staging 1"))]})),
        row("1", "GET", "/v1/sources?name=none").json(json!({"query": query(0, 0, 0), "sources": []})),
        row("1", "GET", "/v1/sources?orderby=age").fails(400, r#"{"params":{"orderby":["must be name"]}}"#),
        row("1", "GET", "/v1/sources?sort=up").fails(400, r#"{"params":{"sort":["must be asc or desc"]}}"#),
        row("1", "PUT", "/v1/sources/stg1.example.com").form("display_name=").is(204),
        row("1", "PUT", "/v1/sources/stg1.example.com").is(204),
        row("1", "GET", "/v1/sources/stg1.example.com").json(source("Stg1.example.com", None)),
        row("3.1", "PUT", "/v1/sources/all").form("display_name=x").fails(400, r#"{"params":{"name":["all is not a valid source name"]}}"#),
        row("3.1", "PUT", "/v1/sources/a%2Fb").fails(400, r#"{"params":{"name":["a/b is not a valid source name"]}}"#),
        row("3.1", "PUT", "/v1/sources/x").form(format!("display_name={long}")).fails(400, r#"{"params":{"display_name":["is longer than 255 characters"]}}"#),
        row("3.1", "PUT", "/v1/sources/x").form(format!("display_name={}", &long[1..])).is(201).with("Location", "/v1/sources/x").json(source("x", Some(&long[1..]))),
        row("1", "GET", "/v1/sources/none").fails(404, not_found),
        row("1", "DELETE", "/v1/sources/stg1.EXAMPLE.com").is(204),
        row("1", "DELETE", "/v1/sources/none").is(204),
        row("1", "GET", "/v1/sources/stg1.example.com").fails(404, not_found),
        row("1", "GET", "/v1/sources/az=b,host=a").fails(404, not_found),
        row("1", "DELETE", "/v1/sources/az=b,host=a").is(204),
        row("1", "POST", "/v1/sources").form("name=x").fails(405, r#"{"request":["Method Not Allowed"]}"#),
    ];
    check(&receiver, rows).await;
    let measurements = receiver.measurements("m", "count=10").await;
    let left: Vec<_> = measurements.as_object().unwrap().keys().collect();
    assert_eq!(left, ["az=b,host=a", "prod.example.com"]);
}
