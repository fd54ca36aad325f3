use super::*;
use crate::backends::jsonl::encode::with_batch;

struct Setup {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        Self { directory, path }
    }

    fn sink(&self, rotate_bytes: u64, keep: u32) -> FileSink {
        FileSink::new(FileConfig { path: self.path.clone(), rotate_bytes, keep })
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

/// The lines of a batch, each of 27 to 30 bytes.
fn batch(id: &str, lines: usize) -> Vec<u8> {
    let body: String = (0..lines).map(|line| format!("{{\"n\":{line}}}\n")).collect();
    with_batch(body.as_bytes(), id)
}

fn text(id: &str, lines: usize) -> String {
    String::from_utf8(batch(id, lines)).unwrap()
}

fn is_written(answer: &Answer) -> bool {
    *answer == response(status::WRITTEN, "")
}

#[test]
fn batches_are_appended_and_a_file_is_used_by_one_process() {
    let setup = Setup::new();
    let mut sink = setup.sink(0, 1);
    assert!(is_written(&sink.write("a", &batch("a", 2))));
    assert!(is_written(&sink.write("b", &batch("b", 1))));
    assert_eq!(setup.read(), text("a", 2) + &text("b", 1));
    let second = setup.sink(0, 1).write("c", &batch("c", 1));
    assert!(matches!(&second, Answer::NotSent(why) if why.contains("another process")), "{second:?}");
    drop(sink);
    assert!(is_written(&setup.sink(0, 1).write("c", &batch("c", 1))));
}

#[test]
fn a_batch_that_a_crash_tore_anywhere_is_there_once_after_the_next_attempt() {
    let (before, again) = (text("a", 3), text("b", 3));
    for torn in 0..=again.len() {
        let setup = Setup::new();
        fs::write(&setup.path, before.clone() + &again[..torn]).unwrap();
        assert!(is_written(&setup.sink(0, 1).write("b", again.as_bytes())));
        assert_eq!(setup.read(), before.clone() + &again, "{torn}");
        // At the start of a file too.
        fs::write(&setup.path, &again[..torn]).unwrap();
        assert!(is_written(&setup.sink(0, 1).write("b", again.as_bytes())));
        assert_eq!(setup.read(), again, "{torn}");
    }
}

#[test]
fn a_torn_line_of_another_batch_is_cut_off_and_a_foreign_one_is_ended() {
    let (whole, next) = (text("a", 1), text("b", 1));
    for (found, left) in [
        (whole.clone() + "{\"batch\":\"c\",\"line\":0,\"n", whole.clone()),
        (whole.clone() + "{\"ba", whole.clone()),
        (format!("{whole}{{\"batch\":\"c\",\"x\":\"{}", "x".repeat(200_000)), whole.clone()),
        ("{\"batch".to_owned(), String::new()),
        ("a line of somebody".to_owned(), "a line of somebody\n".to_owned()),
        (whole.clone() + "{\"other\":1}", whole.clone() + "{\"other\":1}\n"),
        // The id within another line is no start.
        ("x{\"batch\":\"b\",\n".to_owned(), "x{\"batch\":\"b\",\n".to_owned()),
    ] {
        let setup = Setup::new();
        fs::write(&setup.path, &found).unwrap();
        assert!(is_written(&setup.sink(0, 1).write("b", next.as_bytes())));
        assert_eq!(setup.read(), left + &next);
    }
}

#[test]
fn files_are_exchanged_at_their_size_and_the_oldest_goes() {
    let setup = Setup::new();
    let size = text("a", 1).len() as u64;
    let mut sink = setup.sink(2 * size, 2);
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        assert!(is_written(&sink.write(id, &batch(id, 1))));
    }
    assert_eq!(setup.names(), ["metrics.jsonl", "metrics.jsonl.1", "metrics.jsonl.2"]);
    let read = |name: &str| fs::read_to_string(setup.directory.path().join(name)).unwrap();
    assert_eq!(setup.read(), text("g", 1));
    assert_eq!(read("metrics.jsonl.1"), text("e", 1) + &text("f", 1));
    assert_eq!(read("metrics.jsonl.2"), text("c", 1) + &text("d", 1));
    // A gap is filled, and nothing beyond it moves.
    fs::remove_file(setup.directory.path().join("metrics.jsonl.1")).unwrap();
    assert!(is_written(&sink.write("h", &batch("h", 2))));
    assert_eq!(read("metrics.jsonl.1"), text("g", 1));
    assert_eq!(read("metrics.jsonl.2"), text("c", 1) + &text("d", 1));
    // A batch that is larger than the limit is a file of its own.
    assert!(is_written(&sink.write("i", &batch("i", 9))));
    assert_eq!(setup.read(), text("i", 9));
}

#[test]
fn without_a_limit_a_file_grows() {
    let setup = Setup::new();
    let mut sink = setup.sink(0, 1);
    for _ in 0..50 {
        assert!(is_written(&sink.write("a", &batch("a", 1_000))));
    }
    assert_eq!(setup.names(), ["metrics.jsonl"]);
}

#[test]
fn a_file_that_was_moved_away_or_deleted_is_made_anew() {
    let setup = Setup::new();
    let mut sink = setup.sink(0, 1);
    assert!(is_written(&sink.write("a", &batch("a", 1))));
    fs::rename(&setup.path, setup.directory.path().join("moved")).unwrap();
    assert!(is_written(&sink.write("b", &batch("b", 1))));
    assert_eq!(setup.read(), text("b", 1));
    fs::remove_file(&setup.path).unwrap();
    assert!(is_written(&sink.write("c", &batch("c", 1))));
    assert_eq!(setup.read(), text("c", 1));
    // Cut by somebody who copied it before.
    fs::write(&setup.path, "").unwrap();
    assert!(is_written(&sink.write("d", &batch("d", 1))));
    assert_eq!(setup.read(), text("d", 1));
}

#[test]
fn what_cannot_be_written_is_said_and_works_once_it_can() {
    let setup = Setup::new();
    let missing = setup.directory.path().join("missing");
    let config = FileConfig { path: missing.join("x.jsonl"), rotate_bytes: 0, keep: 1 };
    let mut sink = FileSink::new(config);
    let answer = sink.write("a", &batch("a", 1));
    assert!(matches!(&answer, Answer::NotSent(why) if why.contains("missing/x.jsonl")), "{answer:?}");
    fs::create_dir(&missing).unwrap();
    assert!(is_written(&sink.write("a", &batch("a", 1))));
    let config = FileConfig { path: missing, rotate_bytes: 0, keep: 1 };
    let answer = FileSink::new(config).write("a", &batch("a", 1));
    assert!(matches!(&answer, Answer::NotSent(why) if why.contains("no regular file")), "{answer:?}");
}

/// A disk with little room.
struct Full {
    bytes: Vec<u8>,
    room: usize,
    sync: bool,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tail for Full {
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes.truncate(bytes as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}

#[test]
fn nothing_half_written_stays_on_a_full_disk() {
    let text = batch("a", 3);
    for room in 0..=text.len() {
        let mut full = Full { bytes: b"before\n".to_vec(), room: 7 + room, sync: room == text.len() };
        let written = write_or_cut(&mut full, 7, &text);
        assert_eq!(written.is_ok(), room == text.len());
        assert_eq!(full.bytes.len(), if written.is_ok() { 7 + text.len() } else { 7 });
    }
    let mut full = Full { bytes: Vec::new(), room: text.len(), sync: false };
    assert!(write_or_cut(&mut full, 0, &text).is_err() && full.bytes.is_empty());
}
