//! Reads a recording through before anything of it is published.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use zibrato_core::frame::{TOPIC_STATE, legacy_topic, topic};
use zibrato_core::limits::LEVEL_BYTES_MAX;
use zibrato_service::Shutdown;

use super::Error;
use crate::capture::{CaptureError, Reader};
use crate::human::plural;
use crate::progress::Progress;
use crate::tally::{Sort, Tally};

/// Most topics of one recording: a level has one for frames and one for text. A broker has a limit as well.
const TOPICS_MAX: usize = 2_000;

/// Messages between two looks whether to stop.
const LOOK_MESSAGES: u64 = 1_000;

/// What is in a recording.
#[derive(Debug)]
pub(super) struct Scan {
    /// Topics of all messages.
    pub(super) topics: Vec<Vec<u8>>,
    /// Messages that can be read, whether or not they can be published.
    pub(super) messages: u64,
    pub(super) tally: Tally,
    /// When it began, in unix milliseconds.
    pub(super) started_ms: u64,
    pub(super) length: Duration,
    /// Where it was cut, if it was.
    pub(super) cut: Option<u64>,
}

/// Opens a recording.
pub(super) fn open(path: &Path) -> Result<Reader<BufReader<File>>, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    // Before it is opened: of a pipe the opening would wait for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    Reader::open(BufReader::new(file)).map_err(|source| unreadable(path, source))
}

/// The topic by which a message comes back, or `None` if no broker would forward it.
pub(super) fn topic_of(message: &[u8]) -> Option<Vec<u8>> {
    match Sort::of(message) {
        Sort::Frame { level, .. } => topic(TOPIC_STATE, level).map(|topic| topic.to_vec()),
        Sort::Legacy => {
            let bar = message.iter().take(LEVEL_BYTES_MAX + 1).position(|byte| *byte == b'|')?;
            let level = str::from_utf8(&message[..bar]).ok()?;
            legacy_topic(level).map(|topic| topic.to_vec())
        }
        Sort::Control | Sort::Unreadable => None,
    }
}

/// Reads a recording to its end, or to where it was cut.
///
/// # Errors
/// [`Error::Open`]; [`Error::NotAFile`]; [`Error::Unreadable`] if it is damaged; [`Error::TooManyTopics`];
/// [`Error::Stopped`].
pub(super) fn scan(path: &Path, progress: &Progress, shutdown: &Shutdown) -> Result<Scan, Error> {
    let mut reader = open(path)?;
    let started_ms = reader.started_ms();
    let (mut topics, mut messages, mut tally, mut cut) = (BTreeSet::new(), 0, Tally::default(), None);
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                messages += 1;
                if messages % LOOK_MESSAGES == 0 {
                    if shutdown.is_requested() {
                        return Err(Error::Stopped);
                    }
                    progress.at(messages, || plural(messages as usize, "message"));
                }
                let Some(topic) = topic_of(record.message) else { continue };
                tally.note(&Sort::of(record.message));
                topics.insert(topic);
                if topics.len() > TOPICS_MAX {
                    return Err(Error::TooManyTopics { path: path.to_owned(), topics_max: TOPICS_MAX });
                }
            }
            Ok(None) => break,
            Err(CaptureError::Truncated { at }) => {
                cut = Some(at);
                break;
            }
            Err(source) => return Err(unreadable(path, source)),
        }
    }
    let length = Duration::from_micros(reader.offset_us());
    Ok(Scan { topics: topics.into_iter().collect(), messages, tally, started_ms, length, cut })
}

fn unreadable(path: &Path, source: CaptureError) -> Error {
    Error::Unreadable { path: path.to_owned(), source }
}
