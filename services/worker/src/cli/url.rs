//! The URL of a store that is spoken to over HTTP, and who we are there.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::Context;
use crate::http::{Credentials, CredentialsError, HttpClient, HttpError};
use crate::secret::{Secret, SecretError, SecretSource};

/// Flags of a store over HTTP; its URL is the backend's own flag, since it has a default of its own.
#[derive(Clone, Debug, clap::Args)]
pub struct UrlArgs {
    /// User name for HTTP Basic; the token is the password then.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,

    /// File that holds the token or password, on one line of 1 to 1024 bytes. It is read again when it has changed.
    /// Without it the environment variable that --token-variable names is taken.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Environment variable that holds the token or password. Default: ZIBRATO_NAME_TOKEN with the name of the backend.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub token_variable: Option<String>,

    /// Header that carries the token as it is, in place of `Authorization: Bearer TOKEN`.
    #[arg(long, value_name = "HEADER", conflicts_with = "username")]
    pub token_header: Option<String>,

    /// Further header of each request, as NAME: VALUE; may be given several times. Other users of this machine can read
    /// it in the list of processes.
    #[arg(long = "header", value_name = "HEADER", hide_env_values = true, value_parser = parse_raw)]
    pub headers: Vec<RawHeader>,

    /// Allow credentials to be sent over http to another machine, where everybody on the way can
    /// read them.
    #[arg(long)]
    pub insecure_http: bool,
}

/// A header as it was given, which may hold a token. It is checked later, because an error of the command line shows the
/// value.
#[derive(Clone)]
pub struct RawHeader(String);

impl fmt::Debug for RawHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawHeader(redacted)")
    }
}

impl RawHeader {
    fn read(&self) -> Result<(String, String), HttpError> {
        let (name, value) = self.0.split_once(':').ok_or(HttpError::Header)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    }
}

impl UrlArgs {
    /// A client for `url`; `scheme` stands before the token in `Authorization`, `Bearer` for most.
    ///
    /// # Errors
    ///
    /// [`UrlArgsError`] names the flag, and never shows a token.
    pub fn client(&self, url: Url, scheme: &str, context: &Context) -> Result<HttpClient, UrlArgsError> {
        let credentials = self.credentials(scheme, context)?;
        if credentials.is_some() && !self.insecure_http {
            refuse_open(&url)?;
        }
        let agent = format!("{}/{}", context.program, env!("CARGO_PKG_VERSION"));
        let headers = self.headers.iter().map(RawHeader::read).collect::<Result<Vec<_>, _>>()?;
        Ok(HttpClient::new(url, credentials, &agent)?.with_headers(&headers)?)
    }

    fn credentials(&self, scheme: &str, context: &Context) -> Result<Option<Credentials>, UrlArgsError> {
        let variable = self.token_variable.as_ref().or(context.token_variable.as_ref());
        let token = match (&self.token_file, variable) {
            (Some(path), _) => Some(SecretSource::file(path)?),
            (None, Some(name)) => {
                let text = std::env::var(name).unwrap_or_default();
                if text.trim().is_empty() {
                    if self.token_variable.is_some() {
                        return Err(UrlArgsError::Variable { name: name.clone() });
                    }
                    None
                } else {
                    Some(Secret::new(&text)?.into())
                }
            }
            (None, None) => None,
        };
        let username = self.username.as_deref().filter(|name| !name.trim().is_empty());
        Ok(match (username, token) {
            (Some(username), Some(token)) => Some(Credentials::basic(username, token)?),
            (Some(_), None) => return Err(UrlArgsError::NoToken),
            (None, Some(token)) => Some(match &self.token_header {
                Some(header) => Credentials::header(header, token)?,
                None => Credentials::scheme(scheme, token)?,
            }),
            (None, None) if self.token_header.is_some() => return Err(UrlArgsError::NoToken),
            (None, None) => None,
        })
    }
}

/// Why flags of a store over HTTP are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlArgsError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// User name or header cannot be sent.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The token cannot be used.
    #[error("--token-file or --token-variable: {0}")]
    Token(#[from] SecretError),
    /// A user name or a header for a token, and no token.
    #[error("--username or --token-header without a token; give --token-file FILE or --token-variable NAME")]
    NoToken,
    /// The variable is not set.
    #[error("--token-variable {name:?} is not set or empty; set it, or give --token-file FILE")]
    Variable {
        /// The variable.
        name: String,
    },
    /// The client cannot be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Why a URL is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL cannot be used.
    #[error(
        "--url {url:?} is not accepted; give http://HOST[:PORT][/PATH] or https://..., such as {example}"
    )]
    Url {
        /// The URL.
        url: String,
        /// One that is accepted.
        example: &'static str,
    },
    /// The URL holds credentials, or looks like it.
    #[error("--url holds an '@'; give credentials by their own flags, and a URL without them")]
    UrlCredentials,
    /// Credentials would be readable on the way.
    #[error(
        "--url {url} would carry the token over http to another machine; use https, or give --insecure-http"
    )]
    InsecureHttp {
        /// The URL.
        url: String,
    },
}

/// Reads a URL without credentials.
///
/// # Errors
///
/// [`UrlError`].
pub fn parse_url(text: &str, example: &'static str) -> Result<Url, UrlError> {
    let text = text.trim();
    // A URL with credentials must not be shown, and one that cannot be parsed may hold some.
    if text.contains('@') {
        return Err(UrlError::UrlCredentials);
    }
    let refused = || UrlError::Url { url: text.to_owned(), example };
    let url: Url = text.parse().map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.fragment().is_some() {
        return Err(refused());
    }
    Ok(url)
}

/// Refuses a URL over which credentials could be read on the way.
///
/// # Errors
///
/// [`UrlError::InsecureHttp`].
pub fn refuse_open(url: &Url) -> Result<(), UrlError> {
    if url.scheme() == "http" && !is_loopback(url) {
        return Err(UrlError::InsecureHttp { url: url.to_string() });
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn parse_raw(text: &str) -> Result<RawHeader, Infallible> {
    Ok(RawHeader(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::numbers::Chosen;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        url: UrlArgs,
    }

    fn client(url: &str, flags: &[&str]) -> Result<HttpClient, UrlArgsError> {
        let context =
            Context { program: "zibrato-test".to_owned(), token_variable: None, chosen: Chosen::default() };
        let flags = Flags::try_parse_from([&["x"], flags].concat()).unwrap();
        flags.url.client(url.parse().unwrap(), "Bearer", &context)
    }

    /// A request as a server on this machine sees it.
    async fn seen(flags: &[&str]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        });
        client(&url, flags).unwrap().send(reqwest::Method::GET, &[], Vec::new()).await;
        server.await.unwrap()
    }

    #[tokio::test]
    async fn a_token_goes_as_bearer_as_password_or_in_a_header_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary-80\n").unwrap();
        let path = file.path().to_str().unwrap();
        let with = |more: &[&'static str]| [&["--token-file", path][..], more].concat();
        for (flags, line) in [
            (with(&[]), "authorization: Bearer canary-80"),
            (with(&["--username", "me"]), "authorization: Basic bWU6Y2FuYXJ5LTgw"),
            (with(&["--token-header", "X-Api-Key"]), "x-api-key: canary-80"),
            (vec!["--header", "X-Scope-OrgID: team", "--header", "X-More: 1"], "x-scope-orgid: team"),
        ] {
            let head = seen(&flags).await;
            assert!(head.lines().any(|seen| seen == line), "{line} is missing in {head}");
            assert!(head.contains("user-agent: zibrato-test/"), "{head}");
        }
        assert!(!seen(&[]).await.to_lowercase().contains("authorization"));
    }

    #[test]
    fn credentials_that_cannot_work_are_refused_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary-81\u{e9}").unwrap();
        let path = file.path().to_str().unwrap();
        let local = "http://127.0.0.1:1/";
        for (url, flags, part) in [
            (local, &["--username", "me"][..], "--token-file"),
            (local, &["--token-header", "X-Key"], "--token-file"),
            (local, &["--token-variable", "ZIBRATO_NOT_SET"], "ZIBRATO_NOT_SET"),
            (local, &["--token-file", "/none"], "/none"),
            (local, &["--token-file", path, "--username", "a:b"], "a:b"),
            (local, &["--token-file", path, "--token-header", "a b"], "a b"),
            (local, &["--header", "a b: c"], "--header"),
            (local, &["--header", "canary-82"], "--header"),
            ("http://192.0.2.1/", &["--token-file", path], "--insecure-http"),
        ] {
            let error = client(url, flags).unwrap_err();
            let text = zibrato_service::chain(&error);
            assert!(text.contains(part) && !text.contains("canary"), "{part} is missing in {text}");
            assert!(!format!("{error:?}").contains("canary"));
        }
        assert!(client("http://192.0.2.1/", &["--token-file", path, "--insecure-http"]).is_ok());
        let flags = Flags::try_parse_from(["x", "--header", "X-Key: canary-83"]).unwrap();
        assert!(!format!("{flags:?}").contains("canary"));
        assert!(!format!("{:?}", client(local, &["--token-file", path]).unwrap()).contains("canary"));
    }
}
