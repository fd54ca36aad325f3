//! `zibrato replay`: publishes a recording again.

mod rebase;
mod rewrite;
mod scan;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::spawn_blocking;
use zibrato_service::{Failure, Shutdown};

use crate::broker_args::BrokerArgs;
use crate::capture::CaptureError;
use crate::clock::unix_ms;
use crate::courier::{Courier, CourierError};
use crate::feed::{FeedError, POLL, WaitArgs};
use crate::human::{self, plural};
use crate::progress::{Progress, note};
use rewrite::Rewrite;
use scan::{Scan, open, scan, topic_of};

/// Over what time a recording that is played at [`Speed::Max`] is spread at most. Workers refuse text that is
/// older than 1 h 55.
const LENGTH_MAX: Duration = Duration::from_secs(3_600);
/// Highest factor of `--speed`.
const SPEED_MAX: f64 = 1_000_000.0;

/// Publishes a recording again, to reproduce what happened.
///
/// The broker forwards the messages as if their publishers ran now, and a worker that starts with an empty
/// ledger counts what it would have counted when they were recorded. It returns when every message has
/// come back on the broker's port for workers.
///
/// Publishers keep their ids and numbers: a worker that has seen the original counts nothing twice, and so
/// nothing at all. --fresh-ids makes new runs of them, which every worker counts: what was recorded, and of
/// publishers that ran before nothing that they had counted by then. Legacy text has no ids and is always
/// counted.
///
/// With --speed 1 --keep-times what goes out is what came in, byte for byte; a worker then drops what is too old.
///
/// A recording that was killed is played up to where it was cut, which is said. One that is damaged is not
/// played at all. Ctrl-C ends it.
///
/// Exit codes: 0 everything came back, 1 something did not, the recording cannot be read, or there is no
/// broker, 2 bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// File that `zibrato record` wrote.
    file: PathBuf,

    /// How fast: 1 at its own pace, 10 ten times as fast, up to 1000000, or max for as fast as the broker
    /// forwards. Faster than 1 the ages of publishers that started during the recording are divided by
    /// it, so that workers count them as before.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    speed: Speed,

    /// Give each publisher a new random id, so that workers that know it count it as a new run.
    ///
    /// What counts is what was recorded. A publisher that started during the recording counts whole. Of one that
    /// ran before, the first state of a series in the recording is its zero, and later ones count as
    /// differences to it; a series that appears behind a whole key frame, one of which comes every 10
    /// windows, is new and counts whole.
    #[arg(long)]
    fresh_ids: bool,

    /// Leave the times in frames and legacy text as they were recorded. By default they are moved to the
    /// present, since workers and backends drop what is too old: closer to each other by the speed, and
    /// with max into at most an hour before.
    #[arg(long)]
    keep_times: bool,

    #[command(flatten)]
    broker: BrokerArgs,

    #[command(flatten)]
    wait: WaitArgs,
}

/// How fast a recording is played.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Speed {
    /// So many times as fast as it was recorded; 1 at least.
    Times(f64),
    /// As fast as messages come back.
    Max,
}

impl Speed {
    /// How much time something that took `duration` takes.
    fn shorten(self, duration: Duration) -> Duration {
        match self {
            Self::Times(factor) => duration.div_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }

    /// As [`Speed::shorten`], in whole milliseconds.
    fn shorten_ms(self, ms: u64) -> u64 {
        match self {
            // A number of milliseconds need not fit into a floating-point number.
            Self::Times(1.0) => ms,
            Self::Times(factor) => (ms as f64 / factor) as u64,
            Self::Max => 0,
        }
    }
}

/// Moves times of the recording into the present.
///
/// The time of the recording's end becomes that of the replay's end, and the others lie as far before it as
/// they did, or closer by the speed. Their order stays, so that the last value of a gauge is the last.
/// At [`Speed::Max`] the replay has no length: distances stay, unless the recording is so long that its
/// beginning would be too old.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Times {
    recorded_end_ms: u64,
    played_end_ms: u64,
    /// What becomes of a distance of 1.
    pace: f64,
}

impl Times {
    fn new(speed: Speed, started_ms: u64, length: Duration, now_ms: u64) -> Self {
        let pace = match speed {
            Speed::Times(factor) => 1.0 / factor,
            Speed::Max => (LENGTH_MAX.as_secs_f64() / length.as_secs_f64()).min(1.0),
        };
        Self {
            recorded_end_ms: started_ms.saturating_add(length.as_millis() as u64),
            played_end_ms: now_ms.saturating_add(speed.shorten(length).as_millis() as u64),
            pace,
        }
    }

    fn moved(&self, time_ms: u64) -> u64 {
        let distance = |ms: u64| (ms as f64 * self.pace) as u64;
        match self.recorded_end_ms.checked_sub(time_ms) {
            Some(before) => self.played_end_ms.saturating_sub(distance(before)),
            // A publisher's clock may be ahead of the recorder's.
            None => self.played_end_ms.saturating_add(distance(time_ms - self.recorded_end_ms)),
        }
    }
}

/// Publishes a recording and waits for the proof.
///
/// # Errors
/// The recording cannot be read, there is no broker, or something did not come back.
pub(crate) async fn run(args: ReplayArgs, shutdown: Shutdown) -> Result<(), Failure> {
    spawn_blocking(move || args.replay(&shutdown)).await??;
    Ok(())
}

impl ReplayArgs {
    fn replay(&self, shutdown: &Shutdown) -> Result<(), Error> {
        let reading = Progress::spinner("reading the recording");
        let scan = scan(&self.file, &reading, shutdown)?;
        drop(reading);
        let file = self.file.display();
        if let Some(at) = scan.cut {
            note(format_args!("{file}: the recording was cut at byte {at}; what is before is played"));
        }
        let playable = scan.tally.messages();
        if playable < scan.messages {
            let skipped = plural((scan.messages - playable) as usize, "message");
            note(format_args!("{file}: {skipped} that no broker forwards are left out"));
        }
        let begun = Instant::now();
        let progress = Progress::bar("replaying", playable);
        let mut courier = Courier::open(&self.broker, self.wait.timeout(), shutdown)?;
        courier.prepare(&scan.topics)?;
        self.publish(&scan, &mut courier, &progress, shutdown)?;
        courier.settle()?;
        drop(progress);
        let (published, seconds) = (courier.published(), begun.elapsed().as_secs_f64());
        let (length, tally) = (scan.length.as_secs_f64(), &scan.tally);
        note(format_args!(
            "{file}: {published} of {playable} messages ({length:.3} s, recorded {} ago) played and seen back in {seconds:.3} s; {tally}",
            human::age(unix_ms().saturating_sub(scan.started_ms))
        ));
        if tally.frames > 0 && !self.fresh_ids {
            note(
                "workers that know these publishers count nothing twice; --fresh-ids plays them as new runs",
            );
        }
        if published < playable { Err(Error::Stopped) } else { Ok(()) }
    }

    fn publish(
        &self,
        scan: &Scan,
        courier: &mut Courier,
        progress: &Progress,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let mut reader = open(&self.file)?;
        let times =
            (!self.keep_times).then(|| Times::new(self.speed, scan.started_ms, scan.length, unix_ms()));
        let mut rewrite = Rewrite::new(self.speed, self.fresh_ids, times);
        let begun = Instant::now();
        let mut message = Vec::new();
        for _ in 0..scan.messages {
            let next = reader.next();
            let record = next.map_err(|source| Error::Unreadable { path: self.file.clone(), source })?;
            // The file is shorter than a moment ago.
            let Some(record) = record else { break };
            if topic_of(record.message).is_none() {
                continue;
            }
            let offset_us = record.offset_us;
            message.clear();
            message.extend_from_slice(record.message);
            let due = begun + self.speed.shorten(Duration::from_micros(offset_us));
            while let Some(wait) = due.checked_duration_since(Instant::now())
                && !shutdown.is_requested()
            {
                courier.turn(wait.min(POLL))?;
                progress.at(courier.published(), || plural(courier.published() as usize, "message"));
            }
            if shutdown.is_requested() {
                break;
            }
            rewrite
                .message(&mut message, offset_us)
                .map_err(FeedError::random)
                .map_err(CourierError::from)?;
            courier.publish(&message)?;
            progress.at(courier.published(), || plural(courier.published() as usize, "message"));
        }
        Ok(())
    }
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let factor = text.parse::<f64>().ok().filter(|factor| (1.0..=SPEED_MAX).contains(factor));
    factor.map(Speed::Times).ok_or_else(|| "accepted are numbers from 1 to 1000000, and max".to_owned())
}

/// Why a recording was not played.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// It is read twice, which a pipe cannot be.
    #[error("cannot play {}: it is no regular file; write what comes out of a pipe into one", path.display())]
    NotAFile { path: PathBuf },
    /// It is no recording, or a damaged one.
    #[error("cannot play {}", path.display())]
    Unreadable { path: PathBuf, source: CaptureError },
    /// More levels than can be subscribed to.
    #[error("cannot play {}: accepted are at most {topics_max} topics, one for the frames and one for the text of a level", path.display())]
    TooManyTopics { path: PathBuf, topics_max: usize },
    /// Messages are not known to be forwarded.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// Ctrl-C.
    #[error("stopped before the end of the recording")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_factor_from_one_or_max() {
        assert_eq!(parse_speed("1"), Ok(Speed::Times(1.0)));
        assert_eq!(parse_speed("2.5"), Ok(Speed::Times(2.5)));
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        for bad in ["0", "0.5", "-1", "NaN", "inf", "fast", "1000001", ""] {
            assert!(parse_speed(bad).unwrap_err().starts_with("accepted are numbers from 1"), "{bad}");
        }
        assert_eq!(Speed::Times(10.0).shorten(Duration::from_secs(5)), Duration::from_millis(500));
        assert_eq!(Speed::Times(1.0).shorten_ms(u64::MAX), u64::MAX);
        assert_eq!(Speed::Times(4.0).shorten_ms(10), 2);
    }

    #[test]
    fn times_keep_their_order_and_end_with_the_replay() {
        let (started_ms, length, now_ms) = (1_000_000, Duration::from_secs(100), 9_000_000);
        let times = |speed| Times::new(speed, started_ms, length, now_ms);
        let at = |speed, offset_ms| times(speed).moved(started_ms + offset_ms);
        let own = Speed::Times(1.0);
        assert_eq!([at(own, 0), at(own, 40_000), at(own, 100_000)], [9_000_000, 9_040_000, 9_100_000]);
        let ten = Speed::Times(10.0);
        assert_eq!([at(ten, 0), at(ten, 40_000), at(ten, 100_000)], [9_000_000, 9_004_000, 9_010_000]);
        assert_eq!([at(Speed::Max, 0), at(Speed::Max, 100_000)], [8_900_000, 9_000_000]);
        // Behind the end, and long before the beginning.
        assert_eq!((at(ten, 101_000), times(own).moved(0)), (9_010_100, 8_000_000));
        let day = Times::new(Speed::Max, 0, Duration::from_secs(86_400), 90_000_000);
        assert_eq!((day.moved(0), day.moved(43_200_000)), (86_400_000, 88_200_000));
        let empty = Times::new(Speed::Max, 5, Duration::ZERO, 7);
        assert_eq!([empty.moved(4), empty.moved(5), empty.moved(6)], [6, 7, 8]);
    }
}
