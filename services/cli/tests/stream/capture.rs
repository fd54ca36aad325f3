//! `zibrato record` and `replay`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use zibrato_core::frame::{Entry, HistogramState, State};

use crate::books::Books;
use crate::bus::Bus;
use crate::fake::{FakeBroker, Fault};
use crate::program::{Running, Said, ZIBRATO, run, run_with, wait_for};
use crate::pty::Pty;
use crate::publisher::{Publisher, frame, key};

const LEVELS: [&str; 2] = ["info", "debug"];

/// When a recording began that a test wrote.
const STARTED_MS: u64 = 1_700_000_000_000;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A directory with a recording to be.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("stream.zcap")
    }
}

/// Starts a recording of both levels and waits until it is under way.
fn record(bus: &Bus, file: &Path, more: &[&str]) -> Running {
    let args = ["record", file.to_str().unwrap(), "--levels", "info,debug"];
    let recording = Running::start(bus.port, &[&args, more].concat());
    drop(Publisher::wanted(bus.port, &[b"info|", b"debug|"]));
    wait_for("the file", || file.exists().then_some(()));
    recording
}

fn replay(port: u16, file: &Path, more: &[&str]) -> Said {
    run(port, &[&["replay", file.to_str().unwrap()], more].concat())
}

/// Writes a recording as docs/CAPTURE.md says, with these offsets in microseconds.
pub(crate) fn write_capture(file: &Path, messages: &[(u64, Vec<u8>)]) {
    let mut bytes = b"\x89ZCAP\r\n\x1a\x10\0\0\0".to_vec();
    bytes.extend_from_slice(&STARTED_MS.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let end = messages.last().map_or(0, |(offset_us, _)| *offset_us);
    for (offset_us, message) in messages.iter().chain([&(end, Vec::new())]) {
        let mut record = [&offset_us.to_le_bytes()[..], &(message.len() as u32).to_le_bytes()].concat();
        let sum = crc32fast::hash(&[&record[..], message].concat());
        record.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&record);
        bytes.extend_from_slice(message);
    }
    fs::write(file, bytes).unwrap();
}

/// Asserts that two workers counted the same, and shows only what they did not.
#[track_caller]
fn assert_same(counted: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, when: &str) {
    let keys: BTreeSet<_> = counted.keys().chain(expected.keys()).collect();
    for key in keys {
        assert_eq!(counted.get(key), expected.get(key), "{key}, {when}");
    }
}

#[test]
fn a_replay_into_a_fresh_worker_counts_what_the_recorded_run_counted() {
    let (place, bus) = (Place::new(), Bus::start());
    let mut books = Books::open(bus.port, &LEVELS);
    // One publisher is there before the recording, and goes on over several windows.
    let mut old = Running::start(bus.port, &["send", "--source", "old"]);
    let mut say = |lines: &str| old.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    say("counter hits 1000\ntimer took 3ms\n");
    let recording = record(&bus, &place.file(), &[]);
    say("counter hits 20\ntimer took 1ms debug\ngauge depth 4\n");
    let lines: String = (1..=500).map(|at| format!("counter hits {at}\ntimer took {at}us debug\n")).collect();
    run_with(bus.port, &["send", "--source", "new", "--tag", "a=b"], lines.as_bytes()).well();
    run_with(bus.port, &["send", "--source", "text", "--legacy"], lines.as_bytes()).well();
    // A frame of `old` has to leave by itself, before its end frame.
    let mut tap = Running::start(bus.port, &["tap", "--levels", "info", "--source", "old"]);
    wait_for("a frame of the old publisher", || tap.line().contains("sum 1020").then_some(()));
    drop(tap);
    say("counter hits 3\ntimer took 7ms\ngauge depth 5\n");
    old.end().well();
    let counted = books.read();
    let said = recording.stop("-INT").well();
    assert!(said.err.contains("+ legacy 1000 + unreadable 0\n"), "{}", said.err);
    assert_eq!(counted["info counter hits old"], "sum 1023");
    assert_eq!(counted["info counter hits text"], "sum 125250");
    assert_eq!(counted.len(), 8, "{counted:#?}");
    assert!(counted["info gauge depth old"].ends_with(" 5"));

    for speed in ["1", "max"] {
        let bus = Bus::start();
        let mut fresh = Books::open(bus.port, &LEVELS);
        let begun = Instant::now();
        let said = replay(bus.port, &place.file(), &["--speed", speed]).well();
        assert!(said.err.contains(" played and seen back in "), "{}", said.err);
        assert_same(&fresh.read(), &counted, speed);
        // The recording took longer than the window that was waited for.
        assert_eq!(begun.elapsed() > Duration::from_millis(900), speed == "1", "{:?}", begun.elapsed());

        // Known publishers count nothing twice, legacy text again, since nothing tells it from new text.
        let said = replay(bus.port, &place.file(), &["--speed", "max"]).well();
        let hint = "know these publishers count nothing twice; --fresh-ids plays them as new runs";
        assert!(said.err.contains(hint), "{}", said.err);
        let again = fresh.read();
        assert!(again.keys().all(|series| series.ends_with(" text")), "{again:#?}");
        assert_eq!(again["info counter hits text"], "sum 125250");
        // As new runs those that started during the recording count like the first time.
        let said = replay(bus.port, &place.file(), &["--speed", "max", "--fresh-ids"]).well();
        assert!(!said.err.contains(hint), "{}", said.err);
        let without_old = |series: &BTreeMap<String, String>| {
            let mut series = series.clone();
            series.retain(|name, _| !name.ends_with(" old"));
            series
        };
        assert_same(&without_old(&fresh.read()), &without_old(&counted), "--fresh-ids");
        assert_eq!(fresh.counts().gaps_open, 0);
    }
}

#[test]
fn at_any_speed_a_publisher_counts_from_the_side_of_the_beginning_it_started_on() {
    let place = Place::new();
    let counter = |sum| [Entry::new("hits", State::Counter { sum })];
    let message = |id, seq, age_ms, sum| {
        let change = |header: &mut zibrato_core::frame::Header| {
            key(header);
            header.age_ms = age_ms;
        };
        frame(id, "info", seq, change, &counter(sum))
    };
    let minute = 60_000_000;
    write_capture(
        &place.file(),
        &[
            // There for ten minutes before: what it had counted is not of this recording.
            (0, message(1, 1, 600_000, 1_000_000)),
            // Young when the recording began: whole.
            (minute / 2, message(2, 1, 59_000, 50)),
            // Started a minute into the recording, but its first frame of the level came two minutes later.
            (3 * minute, message(3, 1, 120_000, 7)),
            (4 * minute, message(1, 2, 840_000, 1_000_400)),
            (5 * minute, message(2, 2, 329_000, 55)),
            (5 * minute, message(3, 2, 240_000, 9)),
        ],
    );
    for speed in ["max", "100000", "3000"] {
        let bus = Bus::start();
        let mut books = Books::open(bus.port, &LEVELS);
        replay(bus.port, &place.file(), &["--speed", speed]).well();
        let counted = books.read();
        assert_eq!(counted["info counter hits src"], format!("sum {}", 400 + 55 + 9), "{speed}");
        assert_eq!(books.counts().joined_late.counters, 1_000_000, "{speed}");
    }
}

#[test]
fn with_fresh_ids_a_worker_counts_what_was_recorded_and_not_what_was_before() {
    let place = Place::new();
    let counter = |name, sum| Entry::new(name, State::Counter { sum });
    let gauge = |sets, last| {
        Entry::new("depth", State::Gauge { sets, last, last_ms: STARTED_MS, min: last, max: last })
    };
    // All in one bucket, which is also that of the mean.
    let timer = |count, counts: &'static [u8], base| {
        let histogram = HistogramState { counts, base, offset: -320, ..HistogramState::EMPTY };
        let (sum_ns, sum_squares_ns2) = (count * 985_000, 0);
        Entry::new("took", State::Timer { count, sum_ns, sum_squares_ns2, window_ns: None, histogram })
    };
    let message = |id, seq, is_key, age_ms, entries: &[Entry<'_>]| {
        let change = |header: &mut zibrato_core::frame::Header| {
            (header.flags.key, header.age_ms) = (is_key, age_ms);
        };
        frame(id, "info", seq, change, entries)
    };
    let second = 1_000_000;
    write_capture(
        &place.file(),
        &[
            // Young enough that every worker counts it from its start, but it had counted before.
            (0, message(1, 41, false, 2_000, &[counter("hits", 1_000), timer(100, &[2], 40), gauge(9, 1.0)])),
            (second, message(1, 42, false, 3_000, &[counter("hits", 1_010), timer(103, &[5], 40)])),
            (2 * second, message(2, 1, true, 1_900, &[counter("born", 50)])),
            (
                2 * second,
                message(
                    1,
                    43,
                    true,
                    4_000,
                    &[counter("hits", 1_015), counter("idle", 70), timer(105, &[105], 0), gauge(9, 1.0)],
                ),
            ),
            (
                3 * second,
                message(
                    1,
                    44,
                    false,
                    5_000,
                    &[counter("hits", 1_020), counter("new", 7), timer(106, &[1], 43), gauge(10, 5.0)],
                ),
            ),
            (4 * second, message(2, 2, false, 3_900, &[counter("born", 55)])),
        ],
    );
    let bus = Bus::start();
    let mut books = Books::open(bus.port, &LEVELS);
    for _ in 0..2 {
        replay(bus.port, &place.file(), &["--speed", "max", "--fresh-ids"]).well();
        let expected = [
            ("info counter born src", "sum 55"),
            ("info counter hits src", "sum 20"),
            ("info counter new src", "sum 7"),
            ("info gauge depth src", "values 5"),
            ("info timer took src", "count 6 sum_ns 5910000 buckets [(-320, 6)]"),
        ];
        let expected = expected.map(|(series, units)| (series.to_owned(), units.to_owned())).into();
        assert_same(&books.read(), &expected, "--fresh-ids");
    }
}

#[test]
fn a_recording_that_was_killed_is_played_up_to_where_it_was_cut() {
    let (place, bus) = (Place::new(), Bus::start());
    let recording = record(&bus, &place.file(), &[]);
    let publisher = Publisher::wanted(bus.port, &[b"info|"]);
    let size = || fs::metadata(place.file()).unwrap().len();
    // What it got is with the system a second later at most.
    let mut sent = 0;
    wait_for("something in the file", || {
        sent += 1;
        publisher.send(format!("info|Counter|n|{sent}|{}|s", now_s()).as_bytes());
        (size() > 100).then_some(())
    });
    let Said { code, .. } = recording.stop("-KILL");
    assert_eq!(code, None);
    // And in the middle of a record.
    fs::OpenOptions::new().write(true).open(place.file()).unwrap().set_len(size() - 3).unwrap();

    let bus = Bus::start();
    let mut books = Books::open(bus.port, &LEVELS);
    let said = replay(bus.port, &place.file(), &["--speed", "max"]).well();
    let lines: Vec<_> = said.err.lines().collect();
    let cut = format!("{}: the recording was cut at byte ", place.file().display());
    assert!(lines[0].starts_with(&cut) && lines[0].ends_with("; what is before is played"), "{}", lines[0]);
    let (played, _) = lines[1].split_once(" messages (").unwrap();
    let (played, _) = played.rsplit_once(" of ").unwrap();
    let played: u64 = played.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(played > 0 && played < sent, "{said:?}");
    assert_eq!(books.read()["info counter n s"], format!("sum {}", played * (played + 1) / 2));
}

#[test]
fn an_old_recording_is_played_as_if_it_were_new_unless_its_times_are_to_be_kept() {
    let place = Place::new();
    let state = State::Gauge { sets: 1, last: 4.0, last_ms: STARTED_MS - 100, min: 4.0, max: 4.0 };
    write_capture(
        &place.file(),
        &[
            (0, frame(1, "info", 1, key, &[Entry::new("depth", state)])),
            (1_000_000, format!("info|Counter|n|3|{}|s", STARTED_MS / 1_000 - 9).into_bytes()),
        ],
    );
    for (more, is_moved) in [(&[][..], true), (&["--keep-times"], false)] {
        let bus = Bus::start();
        let mut books = Books::open(bus.port, &LEVELS);
        // A level of its own, after the one it is about: the books have subscribed to that one as well.
        let tap = Running::start(bus.port, &["tap", "--json", "--levels", "info,tap", "--count", "2"]);
        drop(Publisher::wanted(bus.port, &[b"tap|"]));
        replay(bus.port, &place.file(), more).well();
        // A worker does not take text of another year.
        assert_eq!(books.read().contains_key("info counter n s"), is_moved);
        let said = tap.end().well();
        let shown: Vec<serde_json::Value> =
            said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last_ms = shown[0]["series"][0]["last_ms"].as_u64().unwrap();
        let timestamp_s = shown[1]["timestamp_s"].as_u64().unwrap();
        if is_moved {
            // The text was 10 s late.
            assert!((now_s() - 75..=now_s()).contains(&(last_ms / 1_000)), "{last_ms}");
            assert!((now_s() - 75..=now_s() - 10).contains(&timestamp_s), "{timestamp_s}");
        } else {
            assert_eq!((last_ms, timestamp_s), (STARTED_MS - 100, STARTED_MS / 1_000 - 9));
        }
    }
}

#[test]
fn a_file_that_exists_is_left_alone_unless_it_is_forced_and_a_broker_is_there() {
    let (place, bus) = (Place::new(), Bus::start());
    let (file, free) = (place.file(), Bus::free_pair());
    let path = file.to_str().unwrap();
    run(free, &["record", path, "--timeout", "1"]).fails(1, "no broker at tcp://127.0.0.1:");
    assert!(!file.exists());
    fs::write(&file, "precious").unwrap();
    let line = run(bus.port, &["record", path]).fails(1, path);
    assert!(line.ends_with(" exists; give another name, or --force to overwrite it"), "{line}");
    run(free, &["record", path, "--timeout", "1", "--force"]).fails(1, "no broker at tcp://127.0.0.1:");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let said = run(bus.port, &["record", path, "--force", "--duration", "0.01"]).well();
    assert!(said.err.contains(", 40 B; messages 0 = frames 0 + legacy 0 + unreadable 0\n"), "{}", said.err);
    assert_eq!(fs::metadata(&file).unwrap().len(), 40);
    let nowhere = file.join("x");
    run(bus.port, &["record", nowhere.to_str().unwrap()]).fails(1, "cannot create ");
}

#[test]
fn a_recording_ends_after_its_time_and_at_its_size() {
    let (place, bus) = (Place::new(), Bus::start());
    let begun = Instant::now();
    let said = record(&bus, &place.file(), &["--duration", "700ms"]).end().well();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(said.err.contains(": 0.7"), "{}", said.err);

    fs::remove_file(place.file()).unwrap();
    let recording = record(&bus, &place.file(), &["--max-bytes", "1KB"]);
    let publisher = Publisher::wanted(bus.port, &[b"info|"]);
    for at in 0..100 {
        publisher.send(format!("info|Counter|n|{at:02}|1700000000|s").as_bytes());
    }
    let said = recording.end().well();
    assert!(said.err.starts_with("--max-bytes 1000 is reached\n"), "{}", said.err);
    // Header and end take 40 bytes, each message 30 and its header 16.
    let messages = (1_000 - 40) / 46;
    assert!(said.err.contains(&format!("messages {messages} = ")), "{}", said.err);
    assert_eq!(fs::metadata(place.file()).unwrap().len(), 40 + 46 * messages);
    replay(bus.port, &place.file(), &[]).well();
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let bus = Bus::start();
    let args = ["record", "/dev/full", "--force", "--duration", "50ms"];
    let line =
        run(bus.port, &args).fails(1, "cannot write /dev/full; what is in it up to here can be replayed");
    assert!(line.contains("No space left on device"), "{line}");
}

#[test]
fn what_is_no_good_recording_is_not_played_at_all() {
    let (place, bus) = (Place::new(), Bus::start());
    let file = place.file();
    let messages: Vec<_> = (0..3u64).map(|at| (at, b"info|Counter|n|1|1700000000|s".to_vec())).collect();
    let mut books = Books::open(bus.port, &LEVELS);

    replay(bus.port, &file, &[]).fails(1, "cannot open ");
    fs::write(&file, "a text, and longer than a header").unwrap();
    let line = replay(bus.port, &file, &[]).fails(1, "cannot play ");
    assert!(line.ends_with(": not a recording of zibrato record"), "{line}");
    write_capture(&file, &messages);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let line = replay(bus.port, &file, &[]).fails(1, "cannot play ");
    assert!(line.ends_with(": the recording is damaged at byte 114"), "{line}");
    assert_eq!(books.read().len(), 0);

    write_capture(&file, &messages);
    let missing = replay(Bus::free_pair(), &file, &["--timeout", "1"]);
    missing.fails(1, "no broker at tcp://127.0.0.1:");
    let deaf = FakeBroker::start(Fault::Swallows);
    let line = replay(deaf.port, &file, &["--timeout", "1"])
        .fails(1, "3 of 3 messages did not come back within 1 s");
    assert!(line.contains("did not forward them"), "{line}");
    for (flag, value) in [("--speed", "0.5"), ("--speed", "fast")] {
        replay(0, &file, &[flag, value]).fails(2, &format!("invalid value '{value}' for '{flag} <"));
    }
    for (flag, value) in [("--max-bytes", "39"), ("--max-bytes", "1TB"), ("--duration", "soon")] {
        run(0, &["record", "x", flag, value]).fails(2, &format!("invalid value '{value}' for '{flag} <"));
    }
}

#[test]
fn a_recording_of_too_many_levels_is_not_played() {
    let (place, bus) = (Place::new(), Bus::start());
    let message = |at: u64| (0, format!("level{at}|Counter|n|1|1700000000|s").into_bytes());
    write_capture(&place.file(), &(0..2_001).map(message).collect::<Vec<_>>());
    let line = replay(bus.port, &place.file(), &[]).fails(1, "cannot play ");
    assert!(line.contains(": accepted are at most 2000 topics"), "{line}");
    write_capture(&place.file(), &(0..2_000).map(message).collect::<Vec<_>>());
    replay(bus.port, &place.file(), &["--speed", "max"]).well();
}

#[test]
fn messages_that_no_broker_forwards_are_left_out_and_said() {
    let (place, bus) = (Place::new(), Bus::start());
    let good = b"info|Counter|n|1|1700000000|s".to_vec();
    let messages = [good.clone(), b"\x03info\0x".to_vec(), b"\x01info".to_vec(), b"no level".to_vec(), good];
    write_capture(&place.file(), &messages.map(|message| (0, message)));
    let said = replay(bus.port, &place.file(), &[]).well();
    assert!(said.err.contains(": 3 messages that no broker forwards are left out\n"), "{}", said.err);
    assert!(said.err.contains(": 2 of 2 messages (0.000 s, recorded "), "{}", said.err);
}

#[test]
fn a_timer_whose_key_frame_was_before_the_recording_gets_its_buckets_with_the_next_one() {
    let (place, bus) = (Place::new(), Bus::start());
    let timer = |count, base| {
        let counts: &[u8] = if base == 0 { &[0x05] } else { &[0x02] };
        let histogram = HistogramState { counts, base, offset: -320, ..HistogramState::EMPTY };
        [Entry::new(
            "t",
            State::Timer { count, sum_ns: count, sum_squares_ns2: 0, window_ns: None, histogram },
        )]
    };
    write_capture(
        &place.file(),
        &[(0, frame(1, "info", 7, |_| {}, &timer(4, 2))), (1_000, frame(1, "info", 8, key, &timer(5, 0)))],
    );
    let mut books = Books::open(bus.port, &LEVELS);
    replay(bus.port, &place.file(), &[]).well();
    assert_eq!(books.read()["info timer t src"], "count 5 sum_ns 5 buckets [(-320, 5)]");
}

#[test]
fn control_c_ends_a_replay_and_says_how_far_it_was() {
    let (place, bus) = (Place::new(), Bus::start());
    let message = |at: u64| (at * 3_600_000_000, b"info|Counter|n|1|1700000000|s".to_vec());
    write_capture(&place.file(), &[message(0), message(1)]);
    let port = bus.port.to_string();
    let path = place.file();
    let pty = Pty::start(ZIBRATO, &["replay", path.to_str().unwrap(), "--port", &port], (200, 24), &[]);
    // The bar stands at the half, behind the first message.
    pty.wait_for_text("replaying [");
    pty.wait_for_text("50%");
    pty.wait_for_text("1 message");
    pty.signal("-INT");
    let (status, ended) = pty.end();
    assert_eq!(status.exit_code(), 1);
    assert!(ended.screen.contains(": 1 of 2 messages (3600.000 s, recorded "), "{}", ended.screen);
    assert!(ended.screen.contains("error: stopped before the end of the recording"), "{}", ended.screen);
    assert!(!ended.screen.contains("replaying ["), "{}", ended.screen);
}

#[test]
fn a_recording_shows_its_progress_on_a_terminal() {
    let (place, bus) = (Place::new(), Bus::start());
    let (port, path) = (bus.port.to_string(), place.file());
    let args = ["record", path.to_str().unwrap(), "--port", &port, "--levels", "info"];
    let pty = Pty::start(ZIBRATO, &args, (200, 24), &[]);
    let publisher = Publisher::wanted(bus.port, &[b"info|"]);
    publisher.send(b"info|Counter|n|1|1700000000|s");
    pty.wait_for_text("recording");
    pty.wait_for_text("1 message, 69 B");
    pty.signal("-TERM");
    let (status, ended) = pty.end();
    assert!(
        status.success() && ended.screen.contains("messages 1 = frames 0 + legacy 1"),
        "{}",
        ended.screen
    );
}
