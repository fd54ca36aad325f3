//! Flags that say where the broker is.

use std::net::SocketAddr;

use clap::Args;

/// Where the broker is. Its two ports are next to each other.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Host of the broker: a name or an IP address.
    #[arg(long, env = "ZIBRATO_HOST", default_value = "127.0.0.1", value_parser = parse_host)]
    pub(crate) host: String,

    /// Port of the broker for publishers, 1 to 65534; workers connect to the next one.
    #[arg(long, env = "ZIBRATO_PORT", default_value_t = 5_550,
          value_parser = zibrato_service::whole_number::<u16>(1, 65_534))]
    pub(crate) port: u16,
}

impl BrokerArgs {
    /// Where publishers connect, as a ZeroMQ endpoint.
    pub(crate) fn publishers(&self) -> String {
        format!("tcp://{}:{}", self.host, self.port)
    }

    /// Where workers connect, as a ZeroMQ endpoint.
    pub(crate) fn workers(&self) -> String {
        format!("tcp://{}:{}", self.host, self.port + 1)
    }
}

/// The address of a status endpoint that can be left out: `IP:PORT` or `none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StatusAddr(pub(crate) Option<SocketAddr>);

/// A value parser for [`StatusAddr`].
///
/// # Errors
/// What is accepted.
pub(crate) fn parse_status(text: &str) -> Result<StatusAddr, String> {
    if text == "none" {
        return Ok(StatusAddr(None));
    }
    let addr = text.parse().map_err(|_| "accepted are IP:PORT, such as 127.0.0.1:5553, and none".to_owned());
    addr.map(|addr| StatusAddr(Some(addr)))
}

fn parse_host(text: &str) -> Result<String, String> {
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_' | b'[' | b']');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(is_host) {
        return Err("accepted are a host name or an IP address".to_owned());
    }
    // ZeroMQ tells the port from an IPv6 address by the brackets.
    let bare_v6 = text.contains(':') && !text.starts_with('[');
    Ok(if bare_v6 { format!("[{text}]") } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_connect_to_the_next_port() {
        let args = BrokerArgs { host: parse_host("::1").unwrap(), port: 7_000 };
        assert_eq!(args.publishers(), "tcp://[::1]:7000");
        assert_eq!(args.workers(), "tcp://[::1]:7001");
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for bad in ["", "a b", "tcp://x", "host;"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_status("none"), Ok(StatusAddr(None)));
        assert_eq!(parse_status("[::1]:5"), Ok(StatusAddr(Some("[::1]:5".parse().unwrap()))));
        assert!(parse_status("5553").unwrap_err().contains("IP:PORT"));
    }
}
