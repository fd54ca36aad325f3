//! A table of requests and the answers that each must get.

use serde_json::Value;

use crate::client::{Answer, Receiver, call};

/// What each answer carries, whatever it says.
const HEADERS: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The section of the facts on Librato's API that the row is taken from.
    section: &'static str,
    method: &'static str,
    path: String,
    sent: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    expected: Expected,
    headers: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
enum Expected {
    Nothing,
    /// Byte for byte, with the time of the request as `T`.
    Text(String),
    Json(Value),
}

/// A request without a body, answered with 200 and nothing unless it is said otherwise.
pub(crate) fn row(section: &'static str, method: &'static str, path: impl Into<String>) -> Row {
    Row {
        section,
        method,
        path: path.into(),
        sent: Vec::new(),
        body: Vec::new(),
        status: 200,
        expected: Expected::Nothing,
        headers: Vec::new(),
    }
}

impl Row {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.sent.push((name, value.into()));
        self
    }

    pub(crate) fn json_body(self, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { body, ..self }.header("Content-Type", "application/json")
    }

    pub(crate) fn form(self, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { body, ..self }.header("Content-Type", "application/x-www-form-urlencoded")
    }

    pub(crate) fn bytes(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    pub(crate) fn is(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The answer is an error of this status with exactly this body.
    pub(crate) fn fails(self, status: u16, errors: impl AsRef<str>) -> Self {
        let text = format!(r#"{{"errors":{},"request_time":T}}"#, errors.as_ref());
        Self { status, expected: Expected::Text(text), ..self }
    }

    pub(crate) fn text(self, text: impl Into<String>) -> Self {
        Self { expected: Expected::Text(text.into()), ..self }
    }

    pub(crate) fn json(self, json: Value) -> Self {
        Self { expected: Expected::Json(json), ..self }
    }

    /// The answer has this header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Sends each request in turn and checks its answer.
pub(crate) async fn check(receiver: &Receiver, rows: Vec<Row>) {
    for row in rows {
        let sent: Vec<(&str, &str)> = row.sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = call(receiver.running.addr, row.method, &row.path, &sent, &row.body).await;
        let at = format!(
            "section {}: {} {} {}",
            row.section,
            row.method,
            row.path,
            String::from_utf8_lossy(&row.body).chars().take(500).collect::<String>()
        );
        assert_eq!(answer.status, row.status, "{at}: {answer:?}");
        match &row.expected {
            Expected::Nothing => assert_eq!(answer.body, "", "{at}"),
            Expected::Text(text) => assert_eq!(answer.body_at_t(), *text, "{at}"),
            Expected::Json(json) => assert_eq!(answer.json(), *json, "{at}"),
        }
        if answer.body.starts_with('{') {
            assert_eq!(answer.header("Content-Type"), Some("application/json;charset=utf-8"), "{at}");
        }
        for (name, value) in &row.headers {
            assert_eq!(answer.header(name), Some(value.as_str()), "{at}: {name}");
        }
        check_headers(&answer, &at);
        // What can be read can be asked for without its body.
        if row.method == "GET" {
            let head = call(receiver.running.addr, "HEAD", &row.path, &sent, b"").await;
            assert_eq!((head.status, head.body.as_str()), (row.status, ""), "HEAD, {at}");
            check_headers(&head, &at);
        }
    }
}

pub(crate) fn check_headers(answer: &Answer, at: &str) {
    for (name, value) in HEADERS {
        assert_eq!(answer.header(name), Some(value), "{at}: {name}");
    }
    for name in ["X-Librato-RateLimit-Agg", "X-Librato-RateLimit-Std"] {
        let value = answer.header(name).unwrap_or_else(|| panic!("{at}: no {name}"));
        let keys: Vec<_> = value.split(',').map(|pair| pair.split_once('=').unwrap().0).collect();
        assert_eq!(keys, ["limit", "remaining", "reset"], "{at}: {value}");
    }
}
