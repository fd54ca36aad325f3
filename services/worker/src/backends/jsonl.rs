//! One JSON object a line, to standard output or to a file.
//!
//! | key | of | content |
//! |---|---|---|
//! | `batch`, `line` | all | id of the batch and place in it, from 0: a line that is written twice has both again |
//! | `time` | all | RFC 3339 in UTC with milliseconds; of the flush, of a gauge that of its point |
//! | `level`, `kind`, `name`, `source`, `unit`, `tags` | all | which series; `kind` is `counter`, `gauge` or `timer`, `tags` an object |
//! | `interval_s` | all | seconds between flushes |
//! | `delta` | counter | sum of the increments since the last flush; with `--rates` also `rate`, per second |
//! | `value` | gauge | one line for each window in which it was set |
//! | `count`, `sum`, `min`, `max`, `mean`, `sum_squares` | timer | since the last flush; durations in seconds |
//! | `percentiles` | timer | object of `p50`, `p99_9` …, in seconds |
//! | `histogram` | timer | object of `scale`, `zero`, `offset`, `counts`: an exponential histogram of seconds whose bucket `i` of `counts` is `offset + i` and holds values in `(b^(offset + i), b^(offset + i + 1)]` with `b = 2^(2^-scale)`; `zero` counts durations of 0 |
//!
//! **A file** is at least once: a batch counts as delivered once `fsync` said so, and what a crash left of the batch that
//! comes again is cut off first, so that a line is there twice only if the file was taken away in between. **Standard
//! output** is what its reader makes of it: what the pipe took is not written again by the same process, a worker that
//! ended in the middle of a batch writes that batch again.
//!
//! What an attempt comes to has these statuses, as there are none in the protocol:
//!
//! | status | meaning | then |
//! |---|---|---|
//! | 200 | all is written | delivered |
//! | 410 | nobody reads standard output any more | the worker ends in order, with exit code 0 |
//! | any other | is never made | retried |

mod args;
mod encode;
mod file;
mod stdout;
mod time;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::backend::{Answer, Backend, Batch, Content, Encoded, Limits, Pending, Response, Shape, Verdict};
use crate::numbers::Chosen;

pub use args::{JsonlArgs, JsonlArgsError, KEEP_DEFAULT, ROTATE_MIB_DEFAULT};
pub use file::FileConfig;
use file::FileSink;
use stdout::StdoutSink;

/// Most points of one body.
pub const POINTS_MAX: usize = 5_000;
/// Most bytes of one body.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// A file takes what is as old as this, which is ten years.
pub const AGE_MAX: Duration = Duration::from_secs(315_360_000);

/// Statuses that stand for what became of an attempt.
mod status {
    pub(super) const WRITTEN: u16 = 200;
    pub(super) const NOBODY_READS: u16 = 410;
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file that is rotated.
    File(FileConfig),
}

/// The backend of `zibrato-jsonl`.
#[derive(Debug)]
pub struct Jsonl {
    target: String,
    chosen: Chosen,
    sink: Arc<Mutex<Sink>>,
}

#[derive(Debug)]
enum Sink {
    Stdout(StdoutSink),
    File(FileSink),
}

impl Jsonl {
    /// A backend that has opened nothing yet.
    #[must_use]
    pub fn new(output: Output, chosen: Chosen) -> Self {
        let (target, sink) = match output {
            Output::Stdout => ("stdout".to_owned(), Sink::Stdout(StdoutSink::default())),
            Output::File(config) => {
                (format!("file://{}", config.path.display()), Sink::File(FileSink::new(config)))
            }
        };
        Self { target, chosen, sink: Arc::new(Mutex::new(sink)) }
    }
}

impl Sink {
    fn write(&mut self, id: &str, text: &[u8]) -> Answer {
        match self {
            Self::Stdout(stdout) => stdout.write(id, text),
            Self::File(file) => file.write(id, text),
        }
    }
}

impl Backend for Jsonl {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn limits(&self) -> Limits {
        Limits {
            points_max: POINTS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            age_max: AGE_MAX,
            points_per_series_max: usize::MAX,
        }
    }

    fn shape(&self) -> Shape {
        Shape { keeps_levels: true, ..Shape::default() }
    }

    fn encode(&self, content: &Content<'_>) -> Encoded {
        encode::encode(content, &self.chosen, &self.limits())
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> Pending<'a, Answer> {
        let (sink, id) = (Arc::clone(&self.sink), batch.id.clone());
        let text = encode::with_batch(&batch.body.bytes, &batch.id);
        // A pipe that nobody reads, or a disk, may block for long.
        let write = move || sink.lock().unwrap_or_else(PoisonError::into_inner).write(&id, &text);
        Box::pin(async {
            tokio::task::spawn_blocking(write)
                .await
                .unwrap_or_else(|_| Answer::Lost("the program is ending".to_owned()))
        })
    }

    fn classify(&self, response: &Response, _: &Batch, _: u64) -> Verdict {
        match response.status {
            status::WRITTEN => Verdict::Delivered { odd: false },
            status::NOBODY_READS => Verdict::Stop,
            _ => Verdict::Retry { after: None, outcome_unknown: true },
        }
    }

    fn select(&self, bytes: &[u8], keep: &[bool]) -> Option<Vec<u8>> {
        let lines: Vec<_> = encode::lines(bytes).collect();
        if lines.len() != keep.len() {
            return None;
        }
        let kept = lines.iter().zip(keep).filter(|(_, keep)| **keep);
        Some(kept.flat_map(|(line, _)| [line, &b"\n"[..]].concat()).collect())
    }

    fn describe(&self, bytes: &[u8], point: usize) -> Option<String> {
        encode::describe(encode::lines(bytes).nth(point)?)
    }
}

fn response(status: u16, text: &str) -> Answer {
    Answer::Response(Response { status, headers: Vec::new(), body: text.as_bytes().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Body, FlushTime};
    use crate::measurement::Measurement;
    use crate::test_support::{counter, gauge, timer};

    fn jsonl() -> Jsonl {
        Jsonl::new(Output::Stdout, Chosen::default())
    }

    fn encoded(measurements: &[Measurement]) -> Body {
        let flush = FlushTime { unix_ms: 1_700_000_000_000, interval: Duration::from_secs(60) };
        jsonl().encode(&Content { measurements, expired: &[], flush }).bodies.remove(0)
    }

    #[test]
    fn a_body_can_be_cut_to_some_of_its_points_and_named() {
        let all = [
            counter("info", "a", "s", 0.1),
            gauge("info", "b", "t", &[(1, -1.5)]),
            timer("info", "c", "s", &[1, 2]),
        ];
        let body = encoded(&all);
        let cut = jsonl().select(&body.bytes, &[false, true, true]).unwrap();
        assert_eq!(cut, encoded(&all[1..]).bytes);
        assert_eq!(jsonl().describe(&cut, 0).unwrap(), "b of source t");
        assert_eq!(jsonl().describe(&cut, 2), None);
        assert_eq!(jsonl().select(&body.bytes, &[true]), None);
        assert_eq!((jsonl().select(b"x", &[]), jsonl().describe(b"x", 0)), (None, None));
    }

    #[test]
    fn every_status_from_100_to_599_has_its_verdict() {
        let batch = Batch {
            row: 1,
            id: "a".to_owned(),
            flushed_ms: 0,
            attempts_unknown: 0,
            body: encoded(&[counter("info", "a", "s", 1.0)]),
        };
        for status in 100..=599 {
            let expected = match status {
                200 => Verdict::Delivered { odd: false },
                410 => Verdict::Stop,
                _ => Verdict::Retry { after: None, outcome_unknown: true },
            };
            let response = Response { status, ..Response::default() };
            assert_eq!(jsonl().classify(&response, &batch, 0), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn a_batch_is_written_with_its_id_and_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let config = FileConfig { path: path.clone(), rotate_bytes: 0, keep: 1 };
        let jsonl = Jsonl::new(Output::File(config), Chosen::default());
        assert_eq!(jsonl.target(), format!("file://{}", path.display()));
        let body = encoded(&[counter("info", "a", "s", 1.0), counter("info", "b", "s", 2.0)]);
        let batch = Batch { row: 1, id: "0f".to_owned(), flushed_ms: 0, attempts_unknown: 0, body };
        assert_eq!(jsonl.send(&batch).await, response(200, ""));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with(r#"{"batch":"0f","line":0,"time":"2023-11-14T22:13:20.000Z""#),
            "{text}"
        );
        assert!(lines[1].starts_with(r#"{"batch":"0f","line":1,"time""#) && lines.len() == 2, "{text}");
    }
}
