//! Whom a browser may speak for: `Origin` and `Sec-Fetch-*`.
//!
//! Any web site can make the browser of somebody who looks at it send requests here, so a request that
//! another site caused is refused. Programs that are no browsers send neither `Origin` nor
//! `Sec-Fetch-Site` and are not concerned. The name a request was sent to is looked at by
//! [`Hosts`](zibrato_service::Hosts).

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

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
