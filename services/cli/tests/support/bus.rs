//! A broker in this process, on two neighbouring ports as the command's flags expect them.
#![allow(dead_code, reason = "not every test uses every helper")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::net::TcpListener;

use zibrato_service::{Shutdown, StatusEndpoint};

/// Ports tried before a test gives up.
const TRIES: usize = 100;

/// A broker that runs until this is dropped.
pub(crate) struct Bus {
    /// The port for publishers; the workers' is the next.
    pub(crate) port: u16,
    shutdown: Shutdown,
    running: Option<zibrato_broker::Running>,
}

impl Bus {
    /// Starts a broker.
    pub(crate) fn start() -> Self {
        for _ in 0..TRIES {
            let (port, shutdown) = (Self::free_pair(), Shutdown::new());
            let config = zibrato_broker::Config {
                port,
                http: StatusEndpoint { addr: None, explicit: false },
                ..zibrato_broker::Config::default()
            };
            // Somebody may have been faster, and then the next pair is tried.
            if let Ok(running) = zibrato_broker::start(config, None, shutdown.clone()) {
                return Self { port, shutdown, running: Some(running) };
            }
        }
        panic!("no two neighbouring ports are free");
    }

    /// The first of two neighbouring ports that are free now.
    pub(crate) fn free_pair() -> u16 {
        for _ in 0..TRIES {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = first.local_addr().unwrap().port();
            if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
                return port;
            }
        }
        panic!("no two neighbouring ports are free");
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.shutdown.request();
        self.shutdown.request();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
