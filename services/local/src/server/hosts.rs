//! Whom a browser may speak for: `Host`, `Origin` and `Sec-Fetch-*`.
//!
//! Any web site can make the browser of somebody who looks at it send requests here, and by pointing
//! its own name at this address (DNS rebinding) it could even read the answers. So the name a request
//! was sent to must be one of ours, and a request that another site caused is refused. Programs that
//! are no browsers send neither `Origin` nor `Sec-Fetch-Site` and are not concerned.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, Version, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The names that a request may be sent to.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    /// Only addresses that no other machine has.
    is_loopback: bool,
    /// Further names, in lower case.
    allowed: Vec<String>,
}

impl Hosts {
    /// Hosts of a server on `listen`: `localhost`, the names in `allowed`, and addresses as such. An
    /// address needs no name service, so it cannot be rebound; a server on loopback takes those of
    /// loopback only. Ports are not looked at, because tunnels and containers change them.
    pub(super) fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        let is_loopback = listen.ip().to_canonical().is_loopback();
        Self { is_loopback, allowed: allowed.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a request names a host of ours, wherever it names one. HTTP/1.0 knows no `Host`.
    pub(super) fn allow(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
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

/// Whether another site caused this request. Following a link to here is allowed: it shows a page
/// whose content the other site cannot read.
pub(super) fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_foreign_fetch = text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let is_link = matches!(*method, Method::GET | Method::HEAD)
        && text(SEC_FETCH_MODE) == Some("navigate")
        && text(SEC_FETCH_DEST) == Some("document");
    let is_foreign_origin = text(header::ORIGIN).is_some_and(|origin| !is_same(origin, text(header::HOST)));
    (is_foreign_fetch && !is_link) || is_foreign_origin
}

/// Whether an origin is the host that the request was sent to. A proxy may have added TLS, so either
/// scheme passes, with its default port left out.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let parse = |text: &str| text.parse::<Authority>().ok();
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let (Some(origin), Some(host)) = (parse(origin), host.and_then(parse)) else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(&host)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_another_site_caused_is_refused_but_for_links() {
        let cross = |method: Method, pairs: &[(&str, &str)]| {
            let pairs = [&[("host", "localhost:5580")], pairs].concat();
            is_cross_site(&method, &headers(&pairs))
        };
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        for same in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://localhost:5580")],
            &[("origin", "https://LOCALHOST:5580"), ("sec-fetch-site", "same-origin")],
            &link,
        ] {
            assert!(!cross(Method::GET, same), "{same:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("origin", "null")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://localhost")],
            &[("origin", "http://localhost:5581")],
            &[("origin", "ftp://localhost:5580")],
            &[("origin", "http://localhost:5580"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://evil.example"), link[0], link[1], link[2]],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ] {
            assert!(cross(Method::GET, foreign), "{foreign:?}");
        }
        assert!(cross(Method::POST, &link));
    }

    #[test]
    fn a_port_that_is_the_schemes_own_may_be_left_out() {
        assert!(is_same("https://metrics.example", Some("metrics.example")));
        assert!(is_same("https://metrics.example:443", Some("metrics.example")));
        assert!(is_same("http://metrics.example", Some("metrics.example:80")));
        assert!(!is_same("http://metrics.example", Some("metrics.example:443")));
        assert!(!is_same("http://metrics.example", None));
    }
}
