//! Flags and environment of `zibrato-graphite`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::{AGE_MAX, Graphite, Protocol, Waits};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context};

/// Where carbon on this machine listens for lines.
pub const PLAINTEXT_ADDRESS_DEFAULT: &str = "127.0.0.1:2003";
/// Where carbon on this machine listens for pickles.
pub const PICKLE_ADDRESS_DEFAULT: &str = "127.0.0.1:2004";
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// A carbon, or anything that takes one of its protocols over TCP.
#[derive(Clone, Debug, clap::Args)]
pub struct GraphiteArgs {
    /// Address and port of the receiver, as HOST:PORT, an IPv6 address in brackets. Default: 127.0.0.1:2003, with pickle
    /// 127.0.0.1:2004. The way there is neither encrypted nor does anybody ask who we are.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    pub address: Option<String>,

    /// Protocol that the receiver speaks at this port. A wrong one is not noticed over there.
    #[arg(long, value_enum, default_value_t = Protocol::Plaintext)]
    pub protocol: Protocol,

    /// Send source, unit and tags as tags of Graphite, NAME;KEY=VALUE, instead of as nodes of the path. Needs Graphite 1.1.
    #[arg(long)]
    pub tagged: bool,

    /// Oldest age of a point that is sent, in seconds, 60 to 315360000; what is older is dropped and counted. Set it to
    /// what the first matching line of carbon's storage-schemas.conf keeps in all: what is older carbon drops unseen.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_MAX.as_secs(),
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,
}

impl BackendArgs for GraphiteArgs {
    const NAME: &'static str = "graphite";
    const ABOUT: &'static str = "Takes metrics from brokers and sends them to Graphite's carbon";
    type Error = Infallible;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, Infallible> {
        let default = match self.protocol {
            Protocol::Plaintext => PLAINTEXT_ADDRESS_DEFAULT,
            Protocol::Pickle => PICKLE_ADDRESS_DEFAULT,
        };
        Ok(Arc::new(Graphite {
            address: self.address.clone().unwrap_or_else(|| default.to_owned()),
            protocol: self.protocol,
            tagged: self.tagged,
            chosen: context.chosen.clone(),
            age_max: Duration::from_secs(self.max_age),
            waits: Waits::default(),
        }))
    }
}

fn parse_address(text: &str) -> Result<String, String> {
    let refused = || "not an address; give HOST:PORT or [IPV6]:PORT, such as 127.0.0.1:2003".to_owned();
    let text = text.trim();
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    if is_host && port.parse::<u16>().is_ok_and(|port| port > 0) {
        Ok(text.to_owned())
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Program;

    fn parse(args: &[&str]) -> Result<GraphiteArgs, clap::Error> {
        let all = ["zibrato-graphite", "--spool", "/tmp/none"].iter().chain(args);
        Program::<GraphiteArgs>::try_parse(all).map(|program| program.backend)
    }

    fn target(args: &[&str]) -> String {
        let context = Context { program: String::new(), token_variable: None, chosen: Default::default() };
        parse(args).unwrap().build(&context).unwrap().target()
    }

    #[test]
    fn each_protocol_has_its_port() {
        assert_eq!(target(&[]), "plaintext://127.0.0.1:2003");
        assert_eq!(target(&["--protocol", "pickle"]), "pickle://127.0.0.1:2004");
        assert_eq!(
            target(&["--address", "graphite.example.org:9", "--protocol", "pickle"]),
            "pickle://graphite.example.org:9"
        );
        assert!(parse(&["--protocol", "udp"]).is_err());
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:2003", "10.0.0.1:65535", "[::1]:1", "a-b_c.d:2003"] {
            assert!(parse(&["--address", good]).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            ":2003",
            "localhost:0",
            "localhost:65536",
            "::1:2003",
            "[x]:1",
            "tcp://a:1",
            "u@a:1",
            "a b:1",
        ] {
            let error = parse(&["--address", bad]).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_age_is_at_least_a_minute() {
        assert!(parse(&["--max-age", "60"]).is_ok() && parse(&["--max-age", "59"]).is_err());
    }
}
