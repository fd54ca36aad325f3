//! Brokers that fail in scripted ways; the real one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use zibrato_core::frame::{Replay, ReplayMessage};

use crate::bus::Bus;

/// How long one look at the sockets takes.
const TURN: Duration = Duration::from_millis(5);

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Only the workers' port is there.
    NoPublishers,
    /// It takes everything and forwards nothing.
    Swallows,
    /// The workers' port does not answer requests, as the original's does not.
    Original,
}

/// A broker on two ports of its own, until it is dropped.
pub(crate) struct FakeBroker {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeBroker {
    pub(crate) fn start(fault: Fault) -> Self {
        let context = zmq::Context::new();
        let socket = |kind, port: u16| {
            let socket = context.socket(kind).unwrap();
            socket.set_linger(0).unwrap();
            socket.bind(&format!("tcp://127.0.0.1:{port}")).is_ok().then_some(socket)
        };
        let (port, workers, publishers) = loop {
            let port = Bus::free_pair();
            let kind = if fault == Fault::Original { zmq::PUB } else { zmq::XPUB };
            let Some(workers) = socket(kind, port + 1) else { continue };
            if fault != Fault::Swallows {
                break (port, workers, None);
            }
            let Some(publishers) = socket(zmq::XSUB, port) else { continue };
            break (port, workers, Some(publishers));
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                if fault == Fault::Original {
                    thread::park_timeout(TURN);
                } else if workers.poll(zmq::POLLIN, TURN.as_millis() as i64).unwrap() > 0 {
                    attend(&workers, publishers.as_ref());
                }
                while let Some(socket) =
                    publishers.as_ref().filter(|socket| socket.poll(zmq::POLLIN, 0).unwrap() > 0)
                {
                    socket.recv_bytes(0).unwrap();
                }
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

/// Answers a request for kept frames, of which there are none, and hands on a subscription.
fn attend(workers: &zmq::Socket, publishers: Option<&zmq::Socket>) {
    let message = workers.recv_bytes(0).unwrap();
    if let [1, topic @ ..] = &message[..]
        && Replay::parse(topic).is_some()
    {
        workers.send([topic, &ReplayMessage::trailer(0, 0, 0)].concat(), 0).unwrap();
    } else if let Some(publishers) = publishers {
        publishers.send(message, 0).unwrap();
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}
