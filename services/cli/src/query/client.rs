//! Asks zibrato-local; every wait and every answer is bounded.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zibrato_service::chain;
use zibrato_worker::secret::Secret;

use crate::human::clean;
use crate::token_args::authorization;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer, in bytes. A page of 10 000 timers with all their buckets is smaller.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most characters of an answer that an error repeats.
const REASON_CHARS_MAX: usize = 200;

/// A client for one server.
///
/// It follows no redirect and uses no proxy from the environment: both would carry the token to an
/// address nobody gave.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<Secret>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The client cannot be set up.
    #[error("cannot set up the http client; for https the system needs CA certificates")]
    Setup(#[source] reqwest::Error),
    /// Nobody listens there.
    #[error(
        "no zibrato-local at {url}: start one with zibrato up or zibrato-local, or give --url ({reason})"
    )]
    NoServer { url: String, reason: String },
    /// The answer did not come, or not to its end.
    #[error("{url} did not answer: {reason}")]
    Broken { url: String, reason: String },
    /// The answer is too long.
    #[error(
        "the answer of {url} exceeds the limit of {ANSWER_BYTES_MAX} bytes: give a shorter --last, a longer --resolution or a --source"
    )]
    TooLong { url: String },
    /// The server wants a token.
    #[error("{url} wants a token: give the file that holds it with --token-file")]
    Unauthorized { url: String },
    /// The server wants another token.
    #[error("{url} does not accept the token of --token-file: give that of this zibrato-local")]
    WrongToken { url: String },
    /// The server says no.
    #[error("{url} answers {status}: {reason}")]
    Refused { url: String, status: StatusCode, reason: String },
    /// The answer is not what zibrato-local says.
    #[error("{url} does not answer as zibrato-local does: {reason}")]
    Strange { url: String, reason: String },
}

impl Client {
    /// A client that shows this token.
    pub(super) fn new(url: Url, token: Option<&Secret>) -> Result<Self, ClientError> {
        // Another part of the process may have installed a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("zibrato-query/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .connect_timeout(CONNECT_WITHIN);
        if url.scheme() == "http" {
            // Plain HTTP must also work on a machine without any certificates.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, url, token: token.cloned() })
    }

    /// Reads the JSON at a path of segments; `None` if there is nothing there.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> Result<Option<T>, ClientError> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        url.query_pairs_mut().extend_pairs(parameters);
        let mut request = self.http.get(url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, authorization(token));
        }
        let response = request.send().await.map_err(|error| self.unsent(error))?;
        let status = response.status();
        let body = self.body(response).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|error| ClientError::Strange {
                url: self.url.to_string(),
                reason: error.to_string(),
            }),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                Err(ClientError::Unauthorized { url: self.url.to_string() })
            }
            StatusCode::UNAUTHORIZED => Err(ClientError::WrongToken { url: self.url.to_string() }),
            _ => Err(ClientError::Refused { url: self.url.to_string(), status, reason: reason(&body) }),
        }
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong { url: self.url.to_string() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unsent(&self, error: reqwest::Error) -> ClientError {
        if error.is_connect() {
            return ClientError::NoServer { url: self.url.to_string(), reason: text(error) };
        }
        self.broken(error)
    }

    fn broken(&self, error: reqwest::Error) -> ClientError {
        ClientError::Broken { url: self.url.to_string(), reason: text(error) }
    }
}

/// The error and its causes, without the URL, which is named anyway.
fn text(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

/// What the server says is wrong: the texts inside of `errors`, or the start of the answer.
fn reason(body: &[u8]) -> String {
    let texts = serde_json::from_slice::<Value>(body).ok().map(|value| {
        let mut texts = Vec::new();
        collect(&value["errors"], "", &mut texts);
        texts.join("; ")
    });
    let text = texts.filter(|text| !text.is_empty()).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    clean(&text).chars().take(REASON_CHARS_MAX).collect()
}

fn collect(value: &Value, key: &str, texts: &mut Vec<String>) {
    match value {
        // `request` and `params` say where it stood, which is no news to who gave flags.
        Value::String(text) if matches!(key, "" | "request" | "system") => texts.push(text.clone()),
        Value::String(text) => texts.push(format!("{key} {text}")),
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, texts)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| collect(value, key, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_an_error_are_told_without_their_wrapping() {
        let params = br#"{"errors":{"params":{"start_time":["is not a number"],"source":["x is bad"]}},"request_time":7}"#;
        assert_eq!(reason(params), "source x is bad; start_time is not a number");
        let request = br#"{"errors":{"request":"The requested data resolution is unavailable"}}"#;
        assert_eq!(reason(request), "The requested data resolution is unavailable");
        assert_eq!(reason(b"<html>\n  Bad \x1b Gateway"), "<html> Bad ? Gateway");
        assert_eq!(reason(&[b'x'; 1_000]).len(), REASON_CHARS_MAX);
    }
}
