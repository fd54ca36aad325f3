//! A TCP proxy that can keep answers back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

use crate::until::until;

const BUFFER_BYTES: usize = 16 * 1024;

/// What happens to the bytes that come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Responses {
    /// They pass.
    Pass,
    /// They are read and thrown away, and the connection stays open.
    Swallow,
    /// They are read and thrown away, and the connection is closed.
    Lose,
}

/// A proxy in front of one server, on a port of its own. Its threads end with the process.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where it listens.
    pub addr: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// A [`Responses`] by its position.
    responses: AtomicU8,
    swallowed: AtomicU64,
}

impl TcpProxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let (for_threads, target) = (Arc::clone(&shared), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is gone is for the client to notice.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                forward(client, server, &for_threads);
            }
        });
        Self { addr, shared }
    }

    /// Where a worker posts to.
    pub fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.addr)
    }

    /// Says what happens to answers from now on.
    pub fn set(&self, responses: Responses) {
        self.shared.responses.store(responses as u8, Ordering::SeqCst);
    }

    /// Waits until `count` answers were thrown away: by then the server has done what it was asked for.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn swallowed(&self, count: u64) {
        let swallowed = || self.shared.swallowed.load(Ordering::SeqCst);
        until(format!("{count} answers thrown away"), || (swallowed() >= count).then_some(()));
    }
}

fn forward(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let (Ok(mut client_in), Ok(mut server_in)) = (client.try_clone(), server.try_clone()) else { return };
    let (mut client_out, mut server_out) = (client, server);
    thread::spawn(move || {
        let _ = std::io::copy(&mut client_in, &mut server_out);
        let _ = server_out.shutdown(Shutdown::Both);
    });
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = server_in.read(&mut buffer) {
            let responses = shared.responses.load(Ordering::SeqCst);
            if responses == Responses::Pass as u8 {
                if client_out.write_all(&buffer[..length]).is_err() {
                    break;
                }
                continue;
            }
            shared.swallowed.fetch_add(1, Ordering::SeqCst);
            if responses == Responses::Lose as u8 {
                break;
            }
        }
        let _ = client_out.shutdown(Shutdown::Both);
    });
}
