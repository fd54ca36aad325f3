//! Section 1: annotations.

use serde_json::{Value, json};

use crate::client::{Receiver, database, now};
use crate::table::{check, row};

const NOT_FOUND: &str = r#"{"request":["Not Found"]}"#;

fn event(id: u32, title: &str, start_time: i64, rest: Value) -> Value {
    let mut event = json!({
        "id": id, "title": title, "description": null, "source": null, "start_time": start_time, "end_time": null, "links": [],
    });
    event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    event
}

#[tokio::test]
async fn events_are_added_shown_by_source_changed_and_deleted() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let link = json!({"rel": "github", "href": "https://github.com/org/app/commit/01beaf", "label": "Github commit"});
    let bare = json!({"rel": "ci", "href": "HTTP://ci.acme.com/job/34", "label": null});
    let first =
        event(1, "My Annotation", 1_234_567_890, json!({"description": "Joe deployed v29 to metrics"}));
    let second =
        event(2, "Deployed v56", 1_234_567_891, json!({"source": "foo3.bar.com", "links": [link, bare]}));
    let third =
        event(3, "Chef run", 1_234_567_880, json!({"source": "foo3.bar.com", "end_time": 1_234_567_958}));
    let stream = |events: Value| json!({"name": "App-Deploys", "display_name": null, "events": events});
    let add = |title: &str| row("1", "POST", "/v1/annotations/App-Deploys").form(format!("title={title}"));
    let rows = vec![
        row("1", "GET", "/v1/annotations/app-deploys").fails(404, NOT_FOUND),
        row("1", "POST", "/v1/annotations/App-Deploys")
            .form("title=My Annotation&description=Joe deployed v29 to metrics&start_time=1234567890")
            .is(201)
            .with("Location", "/v1/annotations/App-Deploys/1")
            .json(first.clone()),
        row("1", "POST", "/v1/annotations/app-deploys")
            .form("title=Deployed v56&source=foo3.bar.com&start_time=1234567891&links[0][rel]=github&links[0][label]=Github commit&links[0][href]=https://github.com/org/app/commit/01beaf&links[1][rel]=ci&links[1][href]=HTTP://ci.acme.com/job/34")
            .is(201)
            .with("Location", "/v1/annotations/App-Deploys/2")
            .json(second.clone()),
        row("1", "POST", "/v1/annotations/app-deploys")
            .json_body(r#"{"title":"Chef run","source":"foo3.bar.com","start_time":"1234567880.7","end_time":1234567958,"links":[]}"#)
            .is(201)
            .with("Location", "/v1/annotations/App-Deploys/3")
            .json(third.clone()),
        row("1", "GET", "/v1/annotations/app-deploys").json(json!({"name": "App-Deploys", "display_name": null})),
        // Clients of Librato read a hash by source; events are in order of their start.
        row("1", "GET", "/v1/annotations/app-deploys?start_time=1234500000")
            .json(stream(json!({"unassigned": [first], "foo3.bar.com": [third, second]}))),
        row("1", "GET", "/v1/annotations/app-deploys?start_time=1234567881&end_time=1234567890").json(stream(json!({"unassigned": [first]}))),
        row("1", "GET", "/v1/annotations/app-deploys?start_time=1&sources[]=foo*").json(stream(json!({"foo3.bar.com": [third, second]}))),
        row("1", "GET", "/v1/annotations/app-deploys?start_time=1&sources[]=unassigned&sources[]=db1").json(stream(json!({"unassigned": [first]}))),
        row("1", "GET", "/v1/annotations/app-deploys?count=1").json(stream(json!({"foo3.bar.com": [second]}))),
        row("1", "GET", "/v1/annotations/app-deploys?count=1&start_time=1").json(stream(json!({"foo3.bar.com": [third]}))),
        row("1", "GET", "/v1/annotations/app-deploys?end_time=5").json(stream(json!({}))),
        row("1", "GET", "/v1/annotations/app-deploys/1").json({
            let mut shown = first.clone();
            shown["name"] = "App-Deploys".into();
            shown
        }),
        row("1", "GET", "/v1/annotations/app-deploys/9").fails(404, NOT_FOUND),
        row("1", "GET", "/v1/annotations/app-deploys/x").fails(404, NOT_FOUND),
        row("1", "GET", "/v1/annotations/other/1").fails(404, NOT_FOUND),
        row("1", "PUT", "/v1/annotations/app-deploys/1").form("description=Deployed git SHA 601060&end_time=1234567999&title=v28").is(204),
        row("1", "GET", "/v1/annotations/app-deploys/1").json(
            event(1, "v28", 1_234_567_890, json!({"description": "Deployed git SHA 601060", "end_time": 1_234_567_999, "name": "App-Deploys"})),
        ),
        row("1", "PUT", "/v1/annotations/app-deploys/1").json_body(r#"{"description":null,"end_time":null,"links":[{"rel":"a","href":"https://a"}]}"#).is(204),
        row("1", "GET", "/v1/annotations/app-deploys/1").json(
            event(1, "v28", 1_234_567_890, json!({"name": "App-Deploys", "links": [{"rel": "a", "href": "https://a", "label": null}]})),
        ),
        row("1", "PUT", "/v1/annotations/app-deploys/1").form("end_time=1234567890").fails(400, r#"{"params":{"start_time":["must be before end_time"]}}"#),
        row("1", "PUT", "/v1/annotations/app-deploys/9").form("title=x").fails(404, NOT_FOUND),
        row("1", "PUT", "/v1/annotations/app-deploys/1").form("title=").fails(400, r#"{"params":{"title":["is not present"]}}"#),
        row("1", "DELETE", "/v1/annotations/app-deploys/3").is(204),
        row("1", "DELETE", "/v1/annotations/app-deploys/3").is(204),
        row("1", "GET", "/v1/annotations/app-deploys/3").fails(404, NOT_FOUND),
        add("").fails(400, r#"{"params":{"title":["is not present"]}}"#),
        row("1", "DELETE", "/v1/annotations/APP-deploys").is(204),
        row("1", "GET", "/v1/annotations/app-deploys").fails(404, NOT_FOUND),
        row("1", "GET", "/v1/annotations/app-deploys/1").fails(404, NOT_FOUND),
        row("1", "DELETE", "/v1/annotations/app-deploys").is(204),
        // Ids are not used again.
        row("1", "POST", "/v1/annotations/new")
            .form("title=t&start_time=5")
            .is(201)
            .with("Location", "/v1/annotations/new/4")
            .json(event(4, "t", 5, json!({}))),
    ];
    check(&receiver, rows).await;
    let begun = now();
    let added = receiver.call("POST", "/v1/annotations/new?title=now", &[], "").await.json();
    assert!((begun..begun + 60).contains(&added["start_time"].as_i64().unwrap()), "{added}");
}

#[tokio::test]
async fn links_have_different_relations_and_lead_to_the_web() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    assert_eq!(receiver.call("POST", "/v1/annotations/s?title=t&start_time=5", &[], "").await.status, 201);
    let link = json!({"rel": "github", "href": "https://github.com/acme", "label": "Github Commit"});
    let links = "/v1/annotations/s/1/links";
    let mut rows = vec![
        row("1", "POST", links)
            .form("rel=github&label=Github Commit&href=https://github.com/acme")
            .is(201)
            .with("Location", "/v1/annotations/s/1/links/github")
            .json(link.clone()),
        row("3.3", "POST", links)
            .form("rel=github&href=https://x")
            .fails(422, r#"{"request":["the event has a link of this rel; delete it first"]}"#),
        row("1", "POST", "/v1/annotations/s/2/links").form("rel=a&href=https://x").fails(404, NOT_FOUND),
        row("1", "GET", "/v1/annotations/s/1").json(event(1, "t", 5, json!({"name": "s", "links": [link]}))),
        row("1", "DELETE", "/v1/annotations/s/1/links/github").is(204),
        row("1", "DELETE", "/v1/annotations/s/1/links/github").is(204),
        row("1", "GET", "/v1/annotations/s/1").json(event(1, "t", 5, json!({"name": "s"}))),
    ];
    let web = r#"{"params":{"href":["must be an http or https address of at most 2048 bytes"]}}"#;
    for (form, errors) in [
        ("href=https://x", r#"{"params":{"rel":["is not present"]}}"#),
        ("rel=a", r#"{"params":{"href":["is not present"]}}"#),
        ("rel=a b&href=https://x", r#"{"params":{"rel":["must be 1 to 255 of A-Z a-z 0-9 . : _ -"]}}"#),
        ("rel=a&href=javascript:alert(1)", web),
        ("rel=a&href=data:text/html,x", web),
        ("rel=a&href=//evil.example", web),
        ("rel=a&href=https://x%0d%0aSet-Cookie:a", web),
        (&format!("rel=a&href=https://{}", "x".repeat(2_048)), web),
        (
            &format!("rel=a&href=https://x&label={}", "l".repeat(1_025)),
            r#"{"params":{"label":["is longer than 1024 bytes"]}}"#,
        ),
    ] {
        rows.push(row("1", "POST", links).form(form).fails(400, errors));
    }
    for n in 0..32 {
        let expected = json!({"rel": format!("r{n}"), "href": "https://x", "label": null});
        let place = format!("/v1/annotations/s/1/links/r{n}");
        rows.push(
            row("1", "POST", links)
                .form(format!("rel=r{n}&href=https://x"))
                .is(201)
                .with("Location", place)
                .json(expected),
        );
    }
    rows.push(
        row("1", "POST", links)
            .form("rel=more&href=https://x")
            .fails(422, r#"{"request":["the event has 32 links; delete one first"]}"#),
    );
    check(&receiver, rows).await;
}

#[tokio::test]
async fn streams_are_listed_and_named() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    for stream in ["api-deploys", "App-deploys", "backups"] {
        assert_eq!(
            receiver.call("POST", &format!("/v1/annotations/{stream}?title=t"), &[], "").await.status,
            201
        );
    }
    let stream = |name: &str, display_name: Option<&str>| json!({"name": name, "display_name": display_name});
    let query = |found: u32| json!({"found": found, "length": found, "offset": 0, "total": 3});
    let rows = vec![
        row("1", "PUT", "/v1/annotations/API-deploys").form("display_name=Deploys to API").is(204),
        row("1", "GET", "/v1/annotations").json(json!({"query": query(3), "annotations": [
            stream("api-deploys", Some("Deploys to API")), stream("App-deploys", None), stream("backups", None)]})),
        row("1", "GET", "/v1/annotations?name=BACK").json(json!({"query": query(1), "annotations": [stream("backups", None)]})),
        row("1", "PUT", "/v1/annotations/api-deploys").json_body(r#"{"name":"api-deploys","display_name":null}"#).is(204),
        row("1", "PUT", "/v1/annotations/api-deploys").is(204),
        row("1", "GET", "/v1/annotations/api-deploys").json(stream("api-deploys", None)),
        row("1", "PUT", "/v1/annotations/none").form("display_name=x").fails(404, NOT_FOUND),
        row("1", "PUT", "/v1/annotations/none").fails(404, NOT_FOUND),
    ];
    check(&receiver, rows).await;
}

#[tokio::test]
async fn bad_events_are_refused_with_the_field_that_is_wrong() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let long = |n: usize| "t".repeat(n);
    let links = |n: usize| {
        (0..n).map(|i| format!(r#"{{"rel":"r{i}","href":"https://x"}}"#)).collect::<Vec<_>>().join(",")
    };
    let mut rows = Vec::new();
    for (body, param, text) in [
        ("{}".to_owned(), "title", "is not present"),
        (format!(r#"{{"title":"{}"}}"#, long(1_025)), "title", "is longer than 1024 bytes"),
        (
            format!(r#"{{"title":"t","description":"{}"}}"#, long(16_385)),
            "description",
            "is longer than 16384 bytes",
        ),
        (r#"{"title":"t","source":"a b"}"#.to_owned(), "source", "a b is not a valid source name"),
        (r#"{"title":"t","source":"all"}"#.to_owned(), "source", "all is not a valid source name"),
        (r#"{"title":"t","start_time":"soon"}"#.to_owned(), "start_time", "is not a number"),
        (r#"{"title":"t","start_time":-1}"#.to_owned(), "start_time", "must be from 0 to 253402300799"),
        (r#"{"title":"t","end_time":253402300800}"#.to_owned(), "end_time", "must be from 0 to 253402300799"),
        // As seen on the wire.
        (r#"{"title":"t","start_time":10,"end_time":9}"#.to_owned(), "start_time", "must be before end_time"),
        (
            r#"{"title":"t","start_time":10,"end_time":10}"#.to_owned(),
            "start_time",
            "must be before end_time",
        ),
        (r#"{"title":"t","links":[1]}"#.to_owned(), "links", "is not an array of links"),
        (
            r#"{"title":"t","links":[{"rel":"a","href":"https://a"},{"rel":"a","href":"https://b"}]}"#
                .to_owned(),
            "links",
            "must have different rels",
        ),
        (format!(r#"{{"title":"t","links":[{}]}}"#, links(33)), "links", "must be at most 32"),
    ] {
        let errors = format!(r#"{{"params":{{"{param}":["{text}"]}}}}"#);
        rows.push(row("3.3", "POST", "/v1/annotations/s").json_body(body).fails(400, errors));
    }
    rows.push(
        row("1", "POST", "/v1/annotations/a%20b")
            .form("title=t")
            .fails(400, r#"{"params":{"name":["a b is not a valid annotation stream name"]}}"#),
    );
    rows.push(
        row("1", "GET", "/v1/annotations")
            .json(json!({"query": {"found": 0, "length": 0, "offset": 0, "total": 0}, "annotations": []})),
    );
    check(&receiver, rows).await;
}

#[tokio::test]
async fn many_events_are_paged_by_time() {
    let (_directory, db) = database();
    let receiver = Receiver::on(&db).await;
    let db = rusqlite::Connection::open(&db).unwrap();
    db.execute_batch(
        "INSERT INTO annotation_streams (id, name, name_key) VALUES (1, 's', 's');
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2499)
         INSERT INTO annotations (stream, title, links, start_time, created) SELECT 1, 'e' || i, '[]', 100 + i / 3, 0 FROM n;",
    )
    .unwrap();
    let (mut start, mut seen, mut pages) = (1, 0, 0);
    loop {
        let page = receiver.get(&format!("/v1/annotations/s?start_time={start}")).await.json();
        seen += page["events"]["unassigned"].as_array().unwrap().len();
        pages += 1;
        match page["query"]["next_time"].as_i64() {
            Some(next) => start = next,
            None => break,
        }
    }
    assert_eq!((seen, pages), (2_500, 3));
    db.execute_batch("UPDATE annotations SET start_time = 7").unwrap();
    let answer = receiver.get("/v1/annotations/s?start_time=1").await;
    assert_eq!(answer.status, 400, "{answer:?}");
}
