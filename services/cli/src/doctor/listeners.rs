//! How many sockets of this machine listen on a port.

use std::fs;

/// State of a listening socket in the system's tables.
const LISTEN: &str = "0A";

/// How many sockets listen on `port`: two may if one is on IPv4 and one on IPv6. 0 where the system
/// does not tell.
pub(super) fn listeners(port: u16) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().map(|table| count(table, port)).sum()
}

fn count(table: &str, port: u16) -> usize {
    let port = format!(":{port:04X}");
    let is_listener = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some(LISTEN)
    };
    table.lines().filter(is_listener).count()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_second_listener_on_another_address_is_seen() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        assert_eq!(listeners(port), 1);
        let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
        assert_eq!(listeners(port), 2);
        drop((first, second));
        assert_eq!(listeners(port), 0);
    }

    #[test]
    fn connections_and_other_ports_do_not_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     \x20  0: 0100007F:15AE 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     \x20  1: 0100007F:15AE 0100007F:9000 01 00000000:00000000 00:00000000\n\
                     \x20  2: 0100007F:15AF 00000000:0000 0A 00000000:00000000 00:00000000\n";
        assert_eq!(count(table, 5_550), 1);
    }
}
