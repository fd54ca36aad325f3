//! `zibrato record`: keeps a live stream in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::spawn_blocking;
use zibrato_service::{Failure, Shutdown};
use zmq::{Context, Message};

use crate::broker_args::BrokerArgs;
use crate::capture::{HEADER_BYTES, RECORD_BYTES, Writer};
use crate::clock::unix_ms;
use crate::feed::{Event, Feed, FeedError, POLL, WaitArgs};
use crate::human;
use crate::levels::parse_level;
use crate::progress::{Progress, note};
use crate::tally::{Sort, Tally};
use crate::units::{parse_duration, parse_size};

/// How often what was recorded is handed to the system, so that a killed recording has it.
const FLUSH: Duration = Duration::from_secs(1);
/// Bytes that wait for that at most.
const BUFFER_BYTES: usize = 1 << 20;
/// Smallest file that can hold something.
const BYTES_MIN: u64 = (HEADER_BYTES + RECORD_BYTES) as u64;

/// Records messages of a live stream, for `zibrato replay`.
///
/// It subscribes as a worker does and writes every frame and legacy message to FILE as it came, with its
/// time. What publishers had said before, which a broker keeps for workers, is not in it: a series is whole from
/// its first key frame on (10 windows). It ends after --duration, at --max-bytes, or with Ctrl-C, and says what it recorded. A recording
/// that was killed can be replayed up to its last second.
///
/// Exit codes: 0 recorded, 1 if there is no broker, FILE exists or cannot be written, 2 bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecordArgs {
    /// File to write. It must not exist, unless --force is given.
    file: PathBuf,

    /// Levels to subscribe to, separated by commas; matched exactly. On-demand levels are switched on by it.
    /// Default: everything that is published anyway.
    #[arg(long, value_name = "LEVELS", env = "ZIBRATO_LEVELS", value_delimiter = ',', value_parser = parse_level)]
    levels: Vec<String>,

    /// How long to record, such as 30s, 5min or 1h; seconds without a unit. Default: until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Largest file, 40 bytes at least, such as 64MiB; bytes without a unit. At the limit the recording ends
    /// in order.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_max_bytes)]
    max_bytes: u64,

    /// Overwrite FILE if it exists. It is left alone until the broker has answered.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    broker: BrokerArgs,

    #[command(flatten)]
    wait: WaitArgs,
}

/// Records until it is to end.
///
/// # Errors
/// There is no broker, or the file cannot be written.
pub(crate) async fn run(args: RecordArgs, shutdown: Shutdown) -> Result<(), Failure> {
    spawn_blocking(move || args.record(&shutdown)).await??;
    Ok(())
}

impl RecordArgs {
    fn record(&self, shutdown: &Shutdown) -> Result<(), Error> {
        if !self.force && self.file.exists() {
            return Err(Error::Exists { path: self.file.clone() });
        }
        let mut feed = Feed::open(&Context::new(), &self.broker.workers())?;
        feed.subscribe_levels(&self.levels)?;
        feed.ask(self.wait.timeout())?;
        let first = wait_for_broker(&mut feed, shutdown)?;
        let mut recording = Recording::create(self)?;
        let result = recording.run(first, &mut feed, shutdown);
        // What was recorded is good, whatever ended it.
        let account = recording.finish();
        result?;
        note(account?);
        Ok(())
    }
}

/// Waits until the broker answers; a message may come before that.
fn wait_for_broker(feed: &mut Feed, shutdown: &Shutdown) -> Result<Option<Message>, FeedError> {
    let _progress = Progress::spinner("waiting for the broker");
    while !shutdown.is_requested() {
        match feed.next(POLL)? {
            Some(Event::Message(message)) => return Ok(Some(message)),
            Some(Event::Confirmed) => return Ok(None),
            _ => {}
        }
    }
    Err(feed.stopped())
}

/// A file that is being written.
struct Recording<'a> {
    args: &'a RecordArgs,
    begun: Instant,
    writer: Writer<BufWriter<File>>,
    flushed: Instant,
    tally: Tally,
}

impl<'a> Recording<'a> {
    fn create(args: &'a RecordArgs) -> Result<Self, Error> {
        let path = &args.file;
        let mut options = OpenOptions::new();
        options.write(true);
        if args.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let file = options.open(path).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path: path.clone() },
            _ => Error::Create { path: path.clone(), source },
        })?;
        let output = BufWriter::with_capacity(BUFFER_BYTES, file);
        let writer = Writer::start(output, unix_ms()).map_err(|source| failed(path, source))?;
        let begun = Instant::now();
        Ok(Self { args, begun, writer, flushed: begun, tally: Tally::default() })
    }

    fn run(&mut self, first: Option<Message>, feed: &mut Feed, shutdown: &Shutdown) -> Result<(), Error> {
        let progress = match self.args.duration {
            Some(duration) => Progress::bar("recording", duration.as_millis() as u64),
            None => Progress::spinner("recording"),
        };
        let mut has_room = first.map_or(Ok(true), |message| self.take(&message))?;
        while has_room && !shutdown.is_requested() {
            let elapsed = self.begun.elapsed();
            let left = self.args.duration.map_or(POLL, |duration| duration.saturating_sub(elapsed));
            if left.is_zero() {
                break;
            }
            progress.at(elapsed.as_millis() as u64, || {
                let messages = human::plural(self.tally.messages() as usize, "message");
                format!("{messages}, {}", human::bytes(self.writer.bytes()))
            });
            match feed.next(left.min(POLL))? {
                Some(Event::Message(message)) => has_room = self.take(&message)?,
                Some(Event::Lost) => progress.say("the connection to the broker is lost; trying again"),
                _ => {}
            }
            if self.flushed.elapsed() >= FLUSH {
                self.flushed = Instant::now();
                self.writer.flush().map_err(|source| failed(&self.args.file, source))?;
            }
        }
        if !has_room {
            progress.say(format_args!("--max-bytes {} is reached", self.args.max_bytes));
        }
        Ok(())
    }

    /// Records a message; false if there is no room for it.
    fn take(&mut self, message: &[u8]) -> Result<bool, Error> {
        let sort = Sort::of(message);
        if matches!(sort, Sort::Frame { .. } | Sort::Legacy) {
            if self.writer.bytes_with(message.len()) > self.args.max_bytes {
                return Ok(false);
            }
            let offset_us = self.offset_us();
            self.writer.push(offset_us, message).map_err(|source| failed(&self.args.file, source))?;
        }
        self.tally.note(&sort);
        Ok(true)
    }

    fn offset_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Writes the end and waits until the disk has it; returns what was recorded.
    fn finish(self) -> Result<String, Error> {
        let Self { args, begun, writer, tally, .. } = self;
        let path = &args.file;
        let elapsed = begun.elapsed();
        let output = writer.finish(elapsed.as_micros() as u64).map_err(|source| failed(path, source))?;
        let file = output.into_inner().map_err(|error| failed(path, error.into_error()))?;
        let metadata = file.metadata().map_err(|source| failed(path, source))?;
        // What is no file, such as a pipe, has no disk.
        if metadata.is_file() {
            file.sync_all().map_err(|source| failed(path, source))?;
        }
        let (path, seconds, bytes) = (path.display(), elapsed.as_secs_f64(), human::bytes(metadata.len()));
        Ok(format!("{path}: {seconds:.3} s, {bytes}; {tally}"))
    }
}

fn parse_max_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < BYTES_MIN {
        return Err(format!("accepted are {BYTES_MIN} bytes and more"));
    }
    Ok(bytes)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.to_owned(), source }
}

/// Why nothing, or not everything, was recorded.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Nothing comes from the broker.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A recording or something else is there already.
    #[error("{} exists; give another name, or --force to overwrite it", path.display())]
    Exists { path: PathBuf },
    /// The file cannot be made.
    #[error("cannot create {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    /// The disk is full or broken.
    #[error("cannot write {}; what is in it up to here can be replayed", path.display())]
    Write { path: PathBuf, source: io::Error },
}
