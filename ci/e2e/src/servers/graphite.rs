//! Graphite: carbon-cache, and the files of whisper that it writes.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{accepts, program, ready, receive_queue_bytes};
use crate::ports::PortPair;
use crate::process::Process;
use crate::services::directory;

/// Bytes of a whisper file's head, of the description of an archive, and of a point.
const HEAD_BYTES: usize = 16;
const ARCHIVE_BYTES: usize = 12;
const POINT_BYTES: usize = 12;

/// A running carbon-cache that keeps every second of a week, and has written a point within about a second.
#[derive(Debug)]
pub struct Graphite {
    /// The process.
    pub process: Process,
    /// Where it receives lines, over TCP and UDP.
    pub plaintext: String,
    /// Where it receives pickles.
    pub pickle: String,
    home: TempDir,
    _ports: [PortPair; 2],
}

impl Graphite {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start; so for all here.
    pub fn start() -> Self {
        let home = directory();
        let ports = [PortPair::reserve(), PortPair::reserve()];
        let [line, pickle, queries] = [ports[0].port, ports[0].port + 1, ports[1].port];
        let directory = home.path().display();
        let config = format!(
            "[cache]\n\
             STORAGE_DIR = {directory}\nLOCAL_DATA_DIR = {directory}/whisper\nCONF_DIR = {directory}\n\
             LOG_DIR = {directory}\nPID_DIR = {directory}\nENABLE_LOGROTATION = False\n\
             MAX_CACHE_SIZE = inf\nMAX_UPDATES_PER_SECOND = inf\nMAX_CREATES_PER_MINUTE = inf\n\
             MIN_TIMESTAMP_RESOLUTION = 1\nCACHE_WRITE_STRATEGY = naive\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {line}\n\
             ENABLE_UDP_LISTENER = True\nUDP_RECEIVER_INTERFACE = 127.0.0.1\nUDP_RECEIVER_PORT = {line}\n\
             PICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {pickle}\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {queries}\n\
             CARBON_METRIC_INTERVAL = 0\n\
             # Nobody is there who would index the tags; they are in the names of the files.\n\
             ENABLE_TAGS = False\nTAG_HASH_FILENAMES = False\n\
             WHISPER_SPARSE_CREATE = True\nWHISPER_AUTOFLUSH = True\n"
        );
        fs::write(home.path().join("carbon.conf"), config).unwrap();
        let schema = "[all]\npattern = .*\nretentions = 1s:7d\n";
        fs::write(home.path().join("storage-schemas.conf"), schema).unwrap();
        let mut command = program("carbon-cache");
        command
            .arg(format!("--config={directory}/carbon.conf"))
            .arg(format!("--pidfile={directory}/carbon.pid"))
            .args(["--nodaemon", "start"]);
        let mut process = Process::spawn(command);
        let addr = |port: u16| format!("127.0.0.1:{port}");
        ready(&mut process, "carbon-cache", || {
            [line, pickle, queries].into_iter().all(|port| accepts(&addr(port)))
                && receive_queue_bytes(line).is_some()
        });
        Self { process, plaintext: addr(line), pickle: addr(pickle), home, _ports: ports }
    }

    /// Time in Unix seconds and value of each point of a path, in order of time; `name;tag=value` is a path too.
    pub fn points(&self, path: &str) -> Vec<(u64, f64)> {
        self.file(path).map(|file| read(&file)).unwrap_or_default()
    }

    /// The sum of all points of a path.
    pub fn sum(&self, path: &str) -> f64 {
        // The empty sum of floats is -0.
        self.points(path).iter().fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The file of a path, if there is one.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        let whisper = self.home.path().join("whisper");
        let Some((name, tags)) = path.split_once(';') else {
            return Some(whisper.join(path.replace('.', "/") + ".wsp")).filter(|file| file.exists());
        };
        // Two levels of directories with hashes spread the files.
        let mut tags: Vec<_> = tags.split(';').collect();
        tags.sort_unstable();
        let name = format!("{};{}.wsp", name.replace('.', "_DOT_"), tags.join(";"));
        let below = |directory: PathBuf| entries(&directory);
        let hashed = entries(&whisper.join("_tagged")).into_iter().flat_map(below);
        hashed.map(|directory| directory.join(&name)).find(|file| file.exists())
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The points of a whisper file with one archive: head (aggregation, seconds kept, x-files factor, archives), the
/// archive's description (offset, seconds a point, points), and pairs of time and value; all big-endian. A place
/// without a point has time 0.
fn read(file: &Path) -> Vec<(u64, f64)> {
    let bytes = fs::read(file).unwrap();
    // It may have been created just now.
    let points = bytes.get(HEAD_BYTES + ARCHIVE_BYTES..).unwrap_or_default();
    let (points, _) = points.as_chunks::<POINT_BYTES>();
    let point = |point: &[u8; POINT_BYTES]| {
        let time = u32::from_be_bytes(*point.first_chunk().unwrap());
        (u64::from(time), f64::from_be_bytes(*point.last_chunk().unwrap()))
    };
    let mut points: Vec<_> = points.iter().map(point).filter(|(time, _)| *time > 0).collect();
    points.sort_by_key(|(time, _)| *time);
    points
}
