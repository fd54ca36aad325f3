//! The HTTP client that backends share: every wait and every answer is bounded.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Request, Url, redirect};

use crate::backend::{Answer, Response};
use crate::secret::SecretSource;

/// Longest time for one request, from the look-up of the address to the last byte of the answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for look-up, connection and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; what follows is dropped with the connection.
pub const ANSWER_BYTES_MAX: usize = 65_536;
/// How long an idle connection is kept. Short, because a connection that the other side has closed
/// meanwhile loses the request sent into it.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Most idle connections that are kept: as many as a backend's `requests_max` comes to at most.
const CONNECTIONS_IDLE_MAX: usize = 2;

/// Who we are for a store: a secret, and how it is sent.
///
/// A secret that lies in a file is read again when the file has changed.
#[derive(Clone, Debug)]
pub struct Credentials {
    header: HeaderName,
    before: Before,
    secret: SecretSource,
}

/// What stands before the secret in the header.
#[derive(Clone, Debug)]
enum Before {
    /// The user of HTTP Basic.
    Basic(String),
    /// A word, or nothing.
    Text(String),
}

impl Credentials {
    /// User name and password or token for HTTP Basic.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Username`].
    pub fn basic(username: &str, secret: SecretSource) -> Result<Self, CredentialsError> {
        let username = username.trim().to_owned();
        if username.is_empty()
            || username.contains(':')
            || !username.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(CredentialsError::Username { username });
        }
        Self { header: AUTHORIZATION, before: Before::Basic(username), secret }.checked()
    }

    /// A token behind a word in `Authorization`, such as `Bearer`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Secret`].
    pub fn scheme(scheme: &str, secret: SecretSource) -> Result<Self, CredentialsError> {
        Self { header: AUTHORIZATION, before: Before::Text(format!("{scheme} ")), secret }.checked()
    }

    /// A token alone in a header of its own.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Header`], [`CredentialsError::Secret`].
    pub fn header(name: &str, secret: SecretSource) -> Result<Self, CredentialsError> {
        let header =
            HeaderName::try_from(name).map_err(|_| CredentialsError::Header { name: name.to_owned() })?;
        Self { header, before: Before::Text(String::new()), secret }.checked()
    }

    fn checked(self) -> Result<Self, CredentialsError> {
        self.value()?;
        Ok(self)
    }

    fn value(&self) -> Result<HeaderValue, CredentialsError> {
        use base64::Engine as _;
        let secret = self.secret.current();
        let text = match &self.before {
            Before::Text(before) => format!("{before}{}", secret.expose()),
            Before::Basic(username) => {
                let pair = format!("{username}:{}", secret.expose());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| CredentialsError::Secret)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Why credentials are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The user name cannot be sent.
    #[error("--username {username:?} is not accepted; give printable ASCII without blanks and ':'")]
    Username {
        /// The name.
        username: String,
    },
    /// It is no name of a header.
    #[error("header {name:?} is not accepted; give letters, digits and '-', such as X-Api-Key")]
    Header {
        /// The name.
        name: String,
    },
    /// The secret cannot be sent.
    #[error("the token cannot be sent in a header; use printable ASCII")]
    Secret,
}

/// A client for one URL.
///
/// It follows no redirect, because that would carry credentials and batches to an address nobody
/// configured, and uses no proxy from the environment, for the same reason. TLS certificates are checked
/// against the system's store.
pub struct HttpClient {
    client: Client,
    url: Url,
    credentials: Option<Credentials>,
    /// What each request carries.
    headers: HeaderMap,
}

impl HttpClient {
    /// A client that names itself `user_agent`.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if the agent cannot be a header, or TLS has no certificates to check against.
    pub fn new(url: Url, credentials: Option<Credentials>, user_agent: &str) -> Result<Self, HttpError> {
        // Another part of the process may have installed a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::try_from(user_agent).map_err(|_| HttpError::Header)?);
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(CONNECTIONS_IDLE_MAX);
        if url.scheme() == "http" {
            // Plain HTTP must also work on a machine without any certificates.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|source| HttpError::Client { source })?;
        Ok(Self { client, url, credentials, headers })
    }

    /// The same client with further headers in each request.
    ///
    /// # Errors
    ///
    /// [`HttpError::Header`].
    pub fn with_headers(mut self, headers: &[(String, String)]) -> Result<Self, HttpError> {
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(|_| HttpError::Header)?;
            self.headers.insert(name, HeaderValue::try_from(value).map_err(|_| HttpError::Header)?);
        }
        Ok(self)
    }

    /// The URL, which holds no credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Sends one request.
    pub async fn send(&self, method: Method, headers: &[(&'static str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::new(method, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(credentials) = &self.credentials {
            match credentials.value() {
                Ok(value) => request.headers_mut().insert(credentials.header.clone(), value),
                Err(error) => return Answer::NotSent(error.to_string()),
            };
        }
        for (name, value) in headers {
            match HeaderValue::try_from(*value) {
                Ok(value) => request.headers_mut().insert(*name, value),
                Err(_) => return Answer::NotSent(format!("header {name} cannot be sent")),
            };
        }
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        match self.client.execute(request).await {
            Ok(response) => read(response).await,
            // The address, the connection or TLS failed: no byte of the request left.
            Err(error) if error.is_connect() || error.is_builder() => Answer::NotSent(text(error)),
            Err(error) => Answer::Lost(text(error)),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A header or the user agent holds a character that cannot be sent.
    #[error("--header is not accepted: give NAME: VALUE of printable ASCII")]
    Header,
    /// TLS or the resolver could not be set up.
    #[error("cannot set up the http client; for https the system needs CA certificates")]
    Client {
        /// The client's error.
        source: reqwest::Error,
    },
}

/// Reads the status, the headers and the start of the body. A body that breaks off or takes too
/// long does not undo a status that arrived: the status decides.
async fn read(mut response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    Answer::Response(Response { status, headers, body })
}

/// An error with its sources on one line, without the URL, which the log names already.
fn text(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::secret::Secret;

    /// Accepts one connection, reads what comes first, writes `answer` and hangs up.
    fn serve_once(answer: Vec<u8>) -> (Url, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = vec![0; 65_536];
            let length = stream.read(&mut seen).unwrap();
            seen.truncate(length);
            // The client hangs up on an endless answer, which is what is tested.
            let _ = stream.write_all(&answer);
            seen
        });
        (url, server)
    }

    fn client(url: Url) -> HttpClient {
        let credentials = Credentials::basic("me@x", Secret::new("canary-73").unwrap().into()).unwrap();
        HttpClient::new(url, Some(credentials), "zibrato-test/1").unwrap()
    }

    async fn post(url: Url) -> Answer {
        client(url).send(Method::POST, &[("content-type", "application/json")], b"{}".to_vec()).await
    }

    #[tokio::test]
    async fn a_request_carries_credentials_agent_and_type_and_the_answer_comes_back() {
        let answer = b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno".to_vec();
        let (url, server) = serve_once(answer);
        let Answer::Response(response) = post(url).await else { panic!() };
        assert_eq!(
            (response.status, response.header("retry-after"), &response.body[..]),
            (429, Some("7"), &b"no"[..])
        );
        let seen = String::from_utf8(server.join().unwrap()).unwrap();
        for part in
            ["POST /v1/metrics", "authorization: Basic bWVAeDpjYW5hcnktNzM=", "user-agent: zibrato-test/1"]
        {
            assert!(seen.contains(part), "{part} is missing in {seen}");
        }
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let mut answer = b"HTTP/1.1 500 X\r\nContent-Length: 100000000\r\n\r\n".to_vec();
        answer.resize(4 << 20, b'x');
        let (url, _server) = serve_once(answer);
        let Answer::Response(response) = post(url).await else { panic!() };
        assert_eq!((response.status, response.body.len()), (500, ANSWER_BYTES_MAX));
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_sent_nothing_and_one_that_breaks_is_lost() {
        let (url, _server) = serve_once(Vec::new());
        assert!(matches!(post(url).await, Answer::Lost(_)));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let answer = post(format!("http://{free}/").parse().unwrap()).await;
        assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
        let answer = post("http://nowhere.invalid/".parse().unwrap()).await;
        assert!(matches!(answer, Answer::NotSent(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let answer = b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
        let (url, _server) = serve_once(answer);
        assert!(matches!(post(url).await, Answer::Response(Response { status: 302, .. })));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_server_without_tls_where_https_is_asked_for() {
        let (url, server) = serve_once(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
        let url: Url = url.as_str().replace("http:", "https:").parse().unwrap();
        assert!(matches!(post(url).await, Answer::NotSent(_)));
        let seen = server.join().unwrap();
        assert!(!seen.windows(5).any(|part| part == b"Basic" || part == b"POST "));
    }

    #[test]
    fn the_token_is_in_no_debug_output() {
        let client = client("http://127.0.0.1:1/".parse().unwrap());
        assert!(!format!("{client:?}").contains("canary"));
        let credentials = Credentials::basic("u", Secret::new("canary-74").unwrap().into()).unwrap();
        assert!(!format!("{credentials:?} {:?}", credentials.value().unwrap()).contains("canary"));
    }
}
