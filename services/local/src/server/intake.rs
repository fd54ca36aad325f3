//! The body of a request, within the limits of size, time and memory.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;

use super::App;
use crate::errors::{ApiError, Refusal};

/// The largest body of a request, in bytes, as sent and after inflating.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a body that is not wanted is read and thrown away, in bytes, so that the client gets
/// to read its answer; then the connection is closed on it.
const BODY_DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bytes that bodies occupy at present.
#[derive(Debug)]
pub(super) struct Occupied {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Occupied {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A body, and its share of what all may occupy as long as it is held.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) bytes: Vec<u8>,
    occupied: &'a Occupied,
    share: usize,
}

impl<'a> Received<'a> {
    fn new(occupied: &'a Occupied) -> Self {
        Self { bytes: Vec::new(), occupied, share: 0 }
    }

    /// Takes room for `length` more bytes.
    fn reserve(&mut self, length: usize) -> Result<(), ApiError> {
        self.share += length;
        if self.occupied.bytes.fetch_add(length, Ordering::Relaxed) + length <= self.occupied.bytes_max {
            return Ok(());
        }
        Err(ApiError::busy("Too many requests at once. Please resubmit the request later."))
    }

    /// Lets the bytes go, but keeps their share: what was read from them waits for the store in their place.
    pub(crate) fn become_points(&mut self) {
        self.bytes = Vec::new();
    }

    /// Gives back the room that was taken and not used.
    fn release_rest(&mut self) {
        let rest = self.share.saturating_sub(self.bytes.len());
        self.share -= rest;
        self.occupied.bytes.fetch_sub(rest, Ordering::Relaxed);
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.occupied.bytes.fetch_sub(self.share, Ordering::Relaxed);
    }
}

/// The body of a request, inflated if it was sent with gzip.
pub(crate) async fn read<'a>(
    app: &'a App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received<'a>, ApiError> {
    let timeout = app.limits.body_timeout;
    let is_gzip = is_gzip(headers)?;
    let received = match tokio::time::timeout(timeout, collect(&app.bodies, body)).await {
        Ok(received) => received?,
        Err(_) => {
            let text = format!("the body did not arrive within {} s", timeout.as_secs_f32());
            return Err(ApiError::request(StatusCode::REQUEST_TIMEOUT, Refusal::BodyTooSlow, text));
        }
    };
    if is_gzip { inflate(received) } else { Ok(received) }
}

/// Reads what a client still sends, so that it comes to read the answer.
pub(super) async fn discard(mut body: Body, timeout: Duration) {
    let all = async {
        let mut length = 0;
        while let Some(Ok(data)) = next(&mut body).await {
            length += data.len();
            if length > BODY_DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever is slower loses the answer.
    let _ = tokio::time::timeout(timeout, all).await;
}

/// The next piece of a body; none at its end.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            // What is no data is a trailer.
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn collect(occupied: &Occupied, mut body: Body) -> Result<Received<'_>, ApiError> {
    let mut received = Received::new(occupied);
    let mut length = 0;
    while let Some(data) = next(&mut body).await {
        let data = data.map_err(|_| {
            let text = "the body ended before its length";
            ApiError::request(StatusCode::BAD_REQUEST, Refusal::Abandoned, text)
        })?;
        length += data.len();
        if length <= BODY_BYTES_MAX {
            received.reserve(data.len())?;
            received.bytes.extend_from_slice(&data);
        } else if length > BODY_DISCARDED_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX { Err(too_large()) } else { Ok(received) }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match encoding.as_bytes().to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Ok(true),
        b"identity" | b"" => Ok(false),
        _ => {
            let text = "Content-Encoding is not supported; send the body as it is or with gzip";
            let refusal = Refusal::UnsupportedEncoding;
            Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal, text))
        }
    }
}

fn inflate(mut received: Received<'_>) -> Result<Received<'_>, ApiError> {
    let packed = std::mem::take(&mut received.bytes);
    received.reserve(BODY_BYTES_MAX)?;
    received.bytes = inflated(&packed, BODY_BYTES_MAX + 1).map_err(|_| {
        let text = "the body is not what its Content-Encoding gzip says";
        ApiError::request(StatusCode::BAD_REQUEST, Refusal::BadEncoding, text)
    })?;
    if received.bytes.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    received.release_rest();
    Ok(received)
}

/// The first `most` bytes of what a small body may swell to.
fn inflated(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed).take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large() -> ApiError {
    let text = format!("body exceeds the limit of {BODY_BYTES_MAX} bytes; send fewer measurements at once");
    ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, Refusal::BodyTooLarge, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_inflated_no_further_than_asked() {
        let mut bomb = Vec::new();
        let zeros = io::repeat(0).take(64 * 1024 * 1024);
        flate2::read::GzEncoder::new(zeros, flate2::Compression::best()).read_to_end(&mut bomb).unwrap();
        assert!(bomb.len() < 100_000);
        let bytes = inflated(&bomb, 1_000).unwrap();
        assert!(bytes.len() == 1_000 && bytes.capacity() < 100_000, "{} {}", bytes.len(), bytes.capacity());
        // Several parts are one body.
        let twice = [bomb.as_slice(), bomb.as_slice()].concat();
        assert_eq!(inflated(&twice, usize::MAX).unwrap().len(), 128 * 1024 * 1024);
    }
}
