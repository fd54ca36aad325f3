//! The page's own files, part of the program.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::server::Shared;

/// A file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const JAVASCRIPT: &str = "text/javascript;charset=utf-8";

macro_rules! asset {
    ($path:literal, $content_type:expr, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../page/", $file)),
        }
    };
}

static ASSETS: [Asset; 16] = [
    asset!("/", "text/html;charset=utf-8", "index.html"),
    asset!("/assets/page.css", "text/css;charset=utf-8", "page.css"),
    asset!("/assets/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/assets/theme.js", JAVASCRIPT, "theme.js"),
    asset!("/assets/main.js", JAVASCRIPT, "main.js"),
    asset!("/assets/state.js", JAVASCRIPT, "state.js"),
    asset!("/assets/server.js", JAVASCRIPT, "server.js"),
    asset!("/assets/live.js", JAVASCRIPT, "live.js"),
    asset!("/assets/show.js", JAVASCRIPT, "show.js"),
    asset!("/assets/picture.js", JAVASCRIPT, "picture.js"),
    asset!("/assets/drag.js", JAVASCRIPT, "drag.js"),
    asset!("/assets/toolbar.js", JAVASCRIPT, "toolbar.js"),
    asset!("/assets/grid.js", JAVASCRIPT, "grid.js"),
    asset!("/assets/detail.js", JAVASCRIPT, "detail.js"),
    asset!("/assets/moment.js", JAVASCRIPT, "moment.js"),
    asset!("/assets/overview.js", JAVASCRIPT, "overview.js"),
];

/// A tag of each file's content.
static TAGS: LazyLock<[String; ASSETS.len()]> =
    LazyLock::new(|| std::array::from_fn(|at| format!("\"{:016x}\"", hash(ASSETS[at].bytes))));

/// A route for each file.
pub(super) fn routes() -> Router<Shared> {
    (0..ASSETS.len()).fold(Router::new(), |router, at| {
        router.route(ASSETS[at].path, get(async move |headers: HeaderMap| answer(at, &headers)))
    })
}

/// The file, unless the browser has it: it keeps files but asks each time, so that a new version of the
/// program is never shown by old scripts.
fn answer(at: usize, headers: &HeaderMap) -> Response {
    let (Asset { content_type, bytes, .. }, tag) = (&ASSETS[at], &TAGS[at]);
    let held = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    // A proxy that compressed the file has marked the tag as weak.
    let is_held = held.split(',').any(|held| held.trim().trim_start_matches("W/") == tag.as_str());
    let mut response = if is_held {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], *bytes).into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// FNV-1a: two versions of a file differ in it.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of all files together, as they lie in the program.
    const BYTES_MAX: usize = 100_000;

    #[test]
    fn the_page_stays_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(bytes <= BYTES_MAX, "{bytes}");
    }

    #[test]
    fn what_a_file_refers_to_is_served_and_nothing_is_from_elsewhere() {
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for rest in text.split("\"/assets/").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(
                    ASSETS.iter().any(|asset| asset.path.strip_prefix("/assets/") == Some(name)),
                    "{} refers to {name}",
                    asset.path
                );
            }
            for foreign in ["http://", "https://", "innerHTML", "eval(", "style=", "onclick="] {
                let found = text.matches(foreign).count();
                // The name of the SVG namespace is no address that anybody asks.
                let namespaces = text.matches("http://www.w3.org/2000/svg").count();
                let allowed = if foreign == "http://" { namespaces } else { 0 };
                assert_eq!(found, allowed, "{foreign} in {}", asset.path);
            }
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let tag = &TAGS[0];
        for (held, status) in [
            (tag.clone(), 304),
            (format!("\"x\", W/{tag}"), 304),
            ("\"x\"".to_owned(), 200),
            (String::new(), 200),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, held.parse().unwrap())]);
            let response = answer(0, &headers);
            assert_eq!(response.status(), status, "{held}");
            assert_eq!(response.headers()[header::ETAG], tag.as_str());
        }
    }
}
