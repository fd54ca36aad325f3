//! Whom the receiver answers, and how much it bears of them.

mod sites;
mod sizes;
mod slow;
mod sql;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::client::DEADLINE;

const ONE: &str = r#"{"gauges":[{"name":"a","value":1}]}"#;

/// What comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    String::from_utf8_lossy(&bytes).into_owned()
}
