//! Reads what Librato says is wrong, in all the shapes in which it has been seen to say it.

use serde_json::Value as Json;

/// One complaint: the parameter it is about, if any, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The innermost key, such as `name` or `measure_time`.
    pub param: String,
    /// What is said about it.
    pub text: String,
}

/// What a complaint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offender {
    /// All points of this metric.
    Name(String),
    /// All points of this source.
    Source(String),
    /// The points that are too old.
    Old,
}

/// Whether a body is a page of a load balancer and not an answer of the API.
pub(super) fn is_html(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    [&b"<html"[..], b"<!doctype", b"<head", b"<body"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag)))
}

/// The complaints of an answer: `errors` as an object, an array or a text, with texts, arrays or objects
/// in it, and the scalars `error` and `message`. Empty for anything that is not JSON.
pub(super) fn complaints(body: &[u8]) -> Vec<Complaint> {
    let mut found = Vec::new();
    if let Ok(Json::Object(answer)) = serde_json::from_slice(body) {
        for key in ["errors", "error", "message"] {
            if let Some(value) = answer.get(key) {
                collect(key, value, &mut found);
            }
        }
    }
    found
}

/// Whether the answer says that a rate limit was hit.
pub(super) fn is_rate_limited(body: &[u8]) -> bool {
    complaints(body).iter().any(|complaint| {
        let text = complaint.text.to_ascii_lowercase();
        text.contains("api limit") || text.contains("rate limit")
    })
}

/// Whom the complaints name.
pub(super) fn offenders(complaints: &[Complaint]) -> Vec<Offender> {
    let mut named: Vec<_> = complaints.iter().filter_map(offender).collect();
    named.dedup();
    named
}

fn offender(complaint: &Complaint) -> Option<Offender> {
    let text = complaint.text.trim();
    if let Some((name, _)) = text.strip_prefix('\'').and_then(|rest| rest.split_once("' is a")) {
        return Some(Offender::Name(name.to_owned()));
    }
    if let Some((name, _)) = text.split_once(" is not a valid metric name") {
        return Some(Offender::Name(name.to_owned()));
    }
    if let Some((source, _)) = text.split_once(" is not a valid source name") {
        return Some(Offender::Source(source.to_owned()));
    }
    match complaint.param.as_str() {
        "measure_time" if text.contains("past") => Some(Offender::Old),
        // The bare name that stands beside a complaint about another parameter.
        "name" => Some(Offender::Name(text.to_owned())),
        "source" => Some(Offender::Source(text.to_owned())),
        _ => None,
    }
}

fn collect(param: &str, value: &Json, found: &mut Vec<Complaint>) {
    match value {
        Json::String(text) => found.push(Complaint { param: param.to_owned(), text: text.clone() }),
        Json::Array(values) => values.iter().for_each(|value| collect(param, value, found)),
        Json::Object(values) => values.iter().for_each(|(key, value)| collect(key, value, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> Vec<Offender> {
        offenders(&complaints(body.as_bytes()))
    }

    fn name(name: &str) -> Offender {
        Offender::Name(name.to_owned())
    }

    #[test]
    fn the_offender_is_found_in_every_shape_that_was_seen() {
        let rows = [
            (
                r#"{"errors":{"params":{"name":["jvm.CMS Old Gen is not a valid metric name"]}}}"#,
                vec![name("jvm.CMS Old Gen")],
            ),
            (
                r#"{"errors":{"params":{"source":["W/130_(iOS) is not a valid source name"]}},"request_time":1452852117}"#,
                vec![Offender::Source("W/130_(iOS)".to_owned())],
            ),
            (
                r#"{"errors":{"params":{"type":["'rack.total' is a counter, but was submitted as different type"]}}}"#,
                vec![name("rack.total")],
            ),
            (
                r#"{"errors":{"params":{"type":["'m.t' is a GAUGE, but was submitted as different type"]}},"request_time":1}"#,
                vec![name("m.t")],
            ),
            (
                r#"{"errors":{"params":{"measure_time":["is too far in the past"]}},"request_time":1}"#,
                vec![Offender::Old],
            ),
            (
                r#"{"errors":{"params":{"sum":["is required"],"name":"buffer.hist"}}}"#,
                vec![name("buffer.hist")],
            ),
            (
                r#"{"errors":{"params":{"value":["must be positive"],"name":["servers.max"]}},"request_time":1}"#,
                vec![name("servers.max")],
            ),
            (r#"{"errors":{"request":["Must contain a measurement"]}}"#, vec![]),
            (r#"{"errors":{"params":{"conditions":{"duration":["must be set"]}}}}"#, vec![]),
            (r#"{"errors":["Tag based measurements are not enabled"]}"#, vec![]),
            (r#"{"errors":{"request":"unavailable"}}"#, vec![]),
            (r#"{"errors":null}"#, vec![]),
            (r#"{"errors":7}"#, vec![]),
            (r#"["errors"]"#, vec![]),
            ("Credentials are required to access this resource.", vec![]),
            ("", vec![]),
        ];
        for (body, expected) in rows {
            assert_eq!(named(body), expected, "{body}");
        }
    }

    #[test]
    fn a_rate_limit_is_told_from_a_refused_token() {
        let limited = r#"{"request_time":1,"error":"You have hit the API limit for measurements [measure:raw_rate]. Contact: x"}"#;
        assert!(is_rate_limited(limited.as_bytes()));
        let token = r#"{"errors":{"request":["This token is not permitted to perform this action on this resource"]}}"#;
        assert!(!is_rate_limited(token.as_bytes()));
        assert!(!is_rate_limited(b"<html>API limit</html>"));
    }

    #[test]
    fn a_page_of_a_load_balancer_is_html() {
        assert!(is_html(b"<html>\r\n<head><title>400 Bad Request</title></head>"));
        assert!(is_html(b" \n<!DOCTYPE HTML PUBLIC>"));
        assert!(!is_html(br#"{"errors":{}}"#) && !is_html(b"") && !is_html(b"<ht"));
    }
}
