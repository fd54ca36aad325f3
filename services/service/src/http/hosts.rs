//! The names under which a server is asked.
//!
//! A web site can point its own name at an address of this machine (DNS rebinding) and then read what
//! the browser of somebody who looks at it is answered. So the name a request was sent to must be one
//! of the server's own.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};

/// The names that a request may be sent to.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Only addresses that no other machine has.
    is_loopback: bool,
    /// Further names, in lower case.
    allowed: Vec<String>,
}

impl Hosts {
    /// Hosts of a server on `listen`: `localhost`, the names in `allowed`, and addresses as such. An
    /// address needs no name service, so it cannot be rebound; a server on loopback takes those of
    /// loopback only. Ports are not looked at, because tunnels and containers change them.
    #[must_use]
    pub fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        let is_loopback = listen.ip().to_canonical().is_loopback();
        Self { is_loopback, allowed: allowed.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a request names a host of ours, wherever it names one. HTTP/1.0 knows no `Host`.
    #[must_use]
    pub fn allow(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => match host.to_str().ok().and_then(|text| text.parse().ok()) {
                Some(host) => Some(host),
                None => return false,
            },
            (None, _) if version < Version::HTTP_11 => None,
            _ => return false,
        };
        let fits = |authority: &Authority| self.is_ours(authority);
        host.as_ref().is_none_or(fits) && uri.authority().is_none_or(fits)
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = address.parse::<IpAddr>() {
            return !self.is_loopback || address.to_canonical().is_loopback();
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        name == "localhost" || self.allowed.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn allows(listen: &str, host: &str) -> bool {
        let hosts = Hosts::new(listen.parse().unwrap(), &["Metrics.Example".to_owned()]);
        hosts.allow(Version::HTTP_11, &Uri::from_static("/"), &headers(&[("host", host)]))
    }

    #[test]
    fn a_loopback_server_is_reached_by_loopback_names_only() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.:5580",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5580",
            "[::ffff:127.0.0.1]",
            "metrics.example",
            "METRICS.example:99",
            "metrics.example.",
        ] {
            assert!(allows("127.0.0.1:5580", host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:5580",
            "192.0.2.1",
            "[2001:db8::1]",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil@localhost",
            "0x7f.1",
            "2130706433",
            "a b",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(!allows("127.0.0.1:5580", host), "{host}");
        }
    }

    #[test]
    fn an_open_server_is_reached_by_any_address_but_only_by_allowed_names() {
        for host in ["192.0.2.1:5580", "[2001:db8::1]", "127.0.0.1", "localhost", "metrics.example"] {
            assert!(allows("0.0.0.0:5580", host), "{host}");
        }
        for host in ["evil.example", "192.0.2.1.evil.example", ""] {
            assert!(!allows("0.0.0.0:5580", host), "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_must_be_ours() {
        let hosts = Hosts::new("127.0.0.1:1".parse().unwrap(), &[]);
        let (plain, foreign) = (Uri::from_static("/"), Uri::from_static("http://evil.example/"));
        let local = headers(&[("host", "localhost")]);
        assert!(hosts.allow(Version::HTTP_11, &Uri::from_static("http://127.0.0.1/"), &local));
        assert!(!hosts.allow(Version::HTTP_11, &foreign, &local));
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert!(!hosts.allow(Version::HTTP_11, &plain, &two));
        assert!(!hosts.allow(Version::HTTP_11, &plain, &HeaderMap::new()));
        assert!(hosts.allow(Version::HTTP_10, &plain, &HeaderMap::new()));
        assert!(!hosts.allow(Version::HTTP_10, &foreign, &HeaderMap::new()));
    }
}
