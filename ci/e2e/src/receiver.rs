//! Where a worker of any backend sends to, absent until it is wanted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backend::Backend;
use crate::bodies::Format;
use crate::peer::Peer;
use crate::ports::PortPair;
use crate::rows::Kind;
use crate::until::until;

/// The receiver of one backend. It takes all once it is open.
#[derive(Debug)]
pub struct Receiver {
    kind: Kind,
    place: String,
    _ports: PortPair,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// Nobody listens, and no file can be made.
    Absent,
    Http(Backend),
    Tcp(Peer),
    File(PathBuf),
}

impl Receiver {
    /// One that is not there yet.
    ///
    /// # Panics
    /// If it cannot be kept away.
    pub fn absent(kind: &Kind, home: &Path) -> Self {
        let ports = PortPair::reserve();
        let place = if kind.format == Format::Jsonl {
            // No file can be made beneath a file.
            fs::write(home.join("lines"), "").unwrap();
            home.join("lines/metrics").to_str().unwrap().to_owned()
        } else {
            format!("127.0.0.1:{}", ports.port)
        };
        Self { kind: *kind, place, _ports: ports, store: Store::Absent }
    }

    /// One that takes all.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn start(kind: &Kind, home: &Path) -> Self {
        let mut receiver = Self::absent(kind, home);
        receiver.open();
        receiver
    }

    /// The flags with which a worker sends there.
    pub fn flags(&self) -> Vec<String> {
        (self.kind.flags)(&self.place)
    }

    /// Opens it.
    ///
    /// # Panics
    /// If somebody else is there.
    pub fn open(&mut self) {
        self.store = match self.kind.format {
            Format::Jsonl => {
                let path = PathBuf::from(&self.place);
                let directory = path.parent().unwrap();
                fs::remove_file(directory).unwrap();
                fs::create_dir(directory).unwrap();
                Store::File(path)
            }
            Format::Graphite | Format::Statsd => Store::Tcp(Peer::on(&self.place, [])),
            _ => Store::Http(Backend::on(&self.place, [])),
        };
    }

    /// What has come: bodies, streams, or a file as one body.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        match &self.store {
            Store::Absent => Vec::new(),
            Store::Http(http) => http.stored().into_iter().map(|request| request.body).collect(),
            // What came last may be cut in the middle of a line.
            Store::Tcp(peer) => peer.connections().into_iter().map(|(_, bytes)| whole_lines(bytes)).collect(),
            Store::File(path) => fs::read(path).map(whole_lines).into_iter().collect(),
        }
    }

    /// What a name has come to.
    pub fn total(&self, name: &str) -> f64 {
        self.kind.total(self.bodies().iter().map(|body| &body[..]), name)
    }

    /// Waits until a name has come to a value.
    ///
    /// # Panics
    /// If it does not.
    pub fn comes_to(&self, name: &str, value: f64) {
        until(format!("{name} of {value}"), || (self.total(name) == value).then_some(()));
    }
}

fn whole_lines(mut bytes: Vec<u8>) -> Vec<u8> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(whole);
    bytes
}
