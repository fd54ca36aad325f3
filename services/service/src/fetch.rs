//! Asks a service how it is.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{REPORT_PATH, Report, chain};

/// The largest report that is read, in bytes. The longest texts of as many publishers as it may have
/// are smaller.
pub const REPORT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads the report of the service whose status endpoint is `addr`; takes at most `within`.
///
/// # Errors
/// [`FetchError`], whose text is one line with all that is known.
pub async fn fetch_report(addr: SocketAddr, within: Duration) -> Result<Report, FetchError> {
    fetch_report_as(addr, within, None).await
}

/// As [`fetch_report`], with a value for the header `Authorization`.
///
/// # Errors
/// [`FetchError`]; [`FetchError::Http`] also for a value that no header can have.
pub async fn fetch_report_as(
    addr: SocketAddr,
    within: Duration,
    authorization: Option<&str>,
) -> Result<Report, FetchError> {
    let answer = timeout(within, get(addr, authorization)).await;
    let body = answer.map_err(|_| FetchError::TimedOut { addr, within_ms: within.as_millis() })??;
    serde_json::from_slice(&body).map_err(|source| FetchError::NotAReport { addr, source })
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody listens there, or the network does not lead there.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer from {addr} within {within_ms} ms")]
    TimedOut {
        /// The address.
        addr: SocketAddr,
        /// How long it might take.
        within_ms: u128,
    },
    /// What came is not HTTP, or ends too early.
    #[error("{addr} does not answer as an HTTP server: {reason}")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// It answered with another status than 200.
    #[error("{addr} answers {path} with {status}: it is another program, or an older one", path = REPORT_PATH)]
    Status {
        /// The address.
        addr: SocketAddr,
        /// The status.
        status: StatusCode,
    },
    /// The answer is longer than a report.
    #[error("the answer of {addr} exceeds the limit of {REPORT_BYTES_MAX} bytes or ends too early: {reason}")]
    Body {
        /// The address.
        addr: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// The answer is not the JSON of a report.
    #[error("the answer of {addr} is no report: {source}")]
    NotAReport {
        /// The address.
        addr: SocketAddr,
        /// Where it differs.
        source: serde_json::Error,
    },
}

async fn get(addr: SocketAddr, authorization: Option<&str>) -> Result<Bytes, FetchError> {
    let stream = TcpStream::connect(addr).await.map_err(|source| FetchError::Connect { addr, source })?;
    let http = |error: hyper::Error| FetchError::Http { addr, reason: chain(&error) };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let mut request =
        Request::get(REPORT_PATH).header(header::HOST, addr.to_string()).header(header::CONNECTION, "close");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request =
        request.body(Body::empty()).map_err(|error| FetchError::Http { addr, reason: error.to_string() })?;
    let mut exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(http)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { addr, status: answer.status() });
        }
        let body = to_bytes(Body::new(answer.into_body()), REPORT_BYTES_MAX).await;
        body.map_err(|error| FetchError::Body { addr, reason: chain(&*error.into_inner()) })
    });
    // The exchange moves only while the connection is polled, and may end before or after it.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::BrokerReport;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A server that answers one request with these bytes and, if asked, then keeps the connection.
    async fn answers(bytes: Vec<u8>, stays: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap();
            let expected = format!("GET /status HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(&request[..read]), expected);
            // The client may leave in the middle.
            let _ = stream.write_all(&bytes).await;
            if stays {
                let _ = stream.read(&mut request).await;
            }
        });
        addr
    }

    fn json(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    async fn error(bytes: Vec<u8>, stays: bool) -> (SocketAddr, String) {
        let addr = answers(bytes, stays).await;
        let error = fetch_report(addr, WITHIN).await.unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        (addr, error)
    }

    #[tokio::test]
    async fn a_report_is_read_whether_or_not_the_server_closes() {
        let report = Report::Broker(BrokerReport { kept_bytes: 7, ..BrokerReport::default() });
        let body = serde_json::to_string(&report).unwrap();
        for stays in [false, true] {
            let addr = answers(json(&body), stays).await;
            assert_eq!(fetch_report(addr, WITHIN).await.unwrap(), report);
        }
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let addr = answers(chunked.into_bytes(), true).await;
        assert_eq!(fetch_report(addr, WITHIN).await.unwrap(), report);
    }

    #[tokio::test]
    async fn whatever_else_is_there_is_named_in_one_line() {
        let (addr, text) = error(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(), true).await;
        let expected = "answers /status with 404 Not Found: it is another program, or an older one";
        assert_eq!(text, format!("{addr} {expected}"));
        let (addr, text) = error(json(r#"{"service":"toaster"}"#), true).await;
        assert!(text.starts_with(&format!("the answer of {addr} is no report: unknown variant")), "{text}");
        let (addr, text) = error(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), true).await;
        assert!(text.starts_with(&format!("{addr} does not answer as an HTTP server: ")), "{text}");
        let (addr, text) = error(Vec::new(), false).await;
        assert!(text.starts_with(&format!("{addr} does not answer as an HTTP server: ")), "{text}");
        let (addr, text) = error(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(), false).await;
        assert!(text.starts_with(&format!("the answer of {addr} exceeds")), "{text}");
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; REPORT_BYTES_MAX + 1]].concat();
        let (_, text) = error(endless, true).await;
        assert!(text.contains("exceeds the limit of 8388608 bytes"), "{text}");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_silent_server_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let text = fetch_report(addr, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert_eq!(text, format!("no answer from {addr} within 50 ms"));
        drop(listener);
        let text = fetch_report(addr, WITHIN).await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot connect to {addr}: Connection refused")), "{text}");
    }
}
