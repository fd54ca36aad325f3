//! Flags that say who asks zibrato-local.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use reqwest::Url;
use zibrato_worker::secret::{Secret, SecretError};

/// The token of zibrato-local.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct TokenArgs {
    /// File that holds the token of zibrato-local, on one line of 1 to 1024 bytes, if it wants one.
    #[arg(long, env = "ZIBRATO_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Allow the token to be sent over http to another machine, where everybody on the way can read
    /// it.
    #[arg(long)]
    insecure_http: bool,
}

/// Any user will do: the token is what counts.
const USER: &str = "zibrato";

/// Why the token is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It would be readable on the way.
    #[error(
        "--token-file with {url} sends the token readable over the network: give an address of this machine or one of https, or --insecure-http"
    )]
    InsecureHttp { url: Url },
}

impl TokenArgs {
    /// The token to show to `url`, if there is one.
    ///
    /// # Errors
    /// [`TokenError`], which is bad usage.
    pub(crate) fn token(&self, url: &Url) -> Result<Option<Secret>, TokenError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let token = Secret::from_file(path)?;
        if url.scheme() == "http" && !is_loopback(url) && !self.insecure_http {
            return Err(TokenError::InsecureHttp { url: url.clone() });
        }
        Ok(Some(token))
    }
}

/// The value of the header `Authorization` with that token.
pub(crate) fn authorization(token: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{}", token.expose())))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        let is = |text: &str| is_loopback(&text.parse().unwrap());
        assert!(is("http://127.0.0.1:1") && is("http://[::1]:1") && is("http://localhost:1"));
        assert!(!is("http://10.0.0.1:1") && !is("http://localhost.example.org"));
    }
}
