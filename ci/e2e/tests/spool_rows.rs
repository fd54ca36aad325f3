//! Rows 21 and 22 with receivers that come back: whatever becomes of the disk or of the spool, sums are exact afterwards.
//! One test a row, over all backend programs.
//!
//! What becomes read-only beneath a running worker has no row: while files are open for writing the system refuses to
//! remount, so only a disk that fails does it, and that is an error of each write as it is on a full one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zibrato_e2e::{
    Broker, Delivery, Ended, KINDS, Kind, Process, Receiver, Worker, command, directory, each, field, record,
    until, until_within, worker_args, worker_of,
};

/// The smallest quota, `--spool-mib 1`.
const QUOTA_BYTES: f64 = 1_048_576.0;
/// Series of which a few flushes are more than that, zipped or not.
const FAT_SERIES: usize = 2_500;
/// Letters of their names: less than any backend cuts off.
const FAT_NAME_CHARS: usize = 160;
/// More than as many flushes fill the quota.
const FAT_ROUNDS_MAX: f64 = 12.0;
/// Size of a small disk, with room for a spool.
const DISK_BYTES: usize = 4 << 20;
/// Inodes of a small disk.
const DISK_INODES: usize = 64;
/// For what many large flushes on a busy machine take.
const LONG: Duration = Duration::from_secs(120);
const ABORTED: &str = "zibrato_worker_flushes_aborted_total";
const FULL: &str = "zibrato_worker_spool_full_total";
const HELD: &str = "zibrato_worker_spool_batches";

fn each_kind(row: impl Fn(&Kind, &Path) + Sync) {
    each(&KINDS, |kind| kind.program.to_owned(), |kind| row(kind, directory().path()));
}

fn sum(worker: &Worker, name: &str) -> f64 {
    worker.metrics().sum(name, &[])
}

/// Stops a worker that must have delivered all it took.
fn finish(worker: Worker) -> Delivery {
    until_within(LONG, "empty spool", || (sum(&worker, HELD) == 0.0).then_some(()));
    let delivery = worker.finish();
    let is_clean = delivery.held == 0
        && delivery.line.contains(" dropped [none]")
        && delivery.line.contains(" refused [none]");
    assert!(is_clean, "{}", delivery.line);
    delivery
}

/// Names that no compression makes short.
fn fat_names() -> Vec<String> {
    const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[(state >> 33) as usize % LETTERS.len()])
    };
    let mut name = || "f".chars().chain((1..FAT_NAME_CHARS).map(|_| letter())).collect();
    (0..FAT_SERIES).map(|_| name()).collect()
}

// Row 21, the quota.
#[test]
fn beyond_the_quota_changes_wait_in_memory_and_all_is_there_afterwards() {
    let names = fat_names();
    let fat: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
    let fat: Vec<&str> = fat.iter().map(String::as_str).chain(["hits=1"]).collect();
    each_kind(|kind, home| {
        let broker = Broker::start();
        let mut receiver = Receiver::absent(kind, home);
        let flags = [&receiver.flags()[..], &["--spool-mib".to_owned(), "1".to_owned()]].concat();
        let worker = worker_of(kind.program, &flags, &broker, home);
        broker.subscribed(1);
        let mut rounds = 0.0;
        until_within(LONG, "full spool", || {
            assert!(rounds < FAT_ROUNDS_MAX, "the quota is not full after {rounds} rounds");
            record(&broker, &fat);
            rounds += 1.0;
            let tried = || sum(&worker, ABORTED) + sum(&worker, "zibrato_worker_flushes_total");
            let before = tried();
            until("two flushes", || (tried() >= before + 2.0).then_some(()));
            (sum(&worker, FULL) > 0.0).then_some(())
        });
        let (held, bytes) = (sum(&worker, HELD), sum(&worker, "zibrato_worker_spool_bytes"));
        assert!(held >= 1.0 && bytes <= QUOTA_BYTES, "{held} batches of {bytes} bytes");
        record(&broker, &["hits=1", "lat=1000000"]);
        worker.counted(FULL, &[], sum(&worker, FULL) + 2.0);
        let page = worker.metrics();
        assert_eq!((page.sum(HELD, &[]), page.sum(FULL, &[])), (held, page.sum(ABORTED, &[])));

        receiver.open();
        until_within(LONG, "hits", || (receiver.total("hits") == rounds + 1.0).then_some(()));
        let delivery = finish(worker);
        assert_eq!(delivery.timer_records, 1, "{}", delivery.line);
        assert_eq!((receiver.total("hits"), receiver.total("lat")), (rounds + 1.0, 1.0));
        let bodies = receiver.bodies();
        let mut totals = std::collections::HashMap::new();
        for point in kind.points(bodies.iter().map(|body| &body[..])) {
            let total = totals.entry(point.name).or_insert(0.0);
            *total = if kind.totals { point.value } else { *total + point.value };
        }
        assert!(names.iter().all(|name| totals[name] == rounds), "a series is not at {rounds}");
    });
}

/// A small disk in a mount namespace of its own. It needs no privileges where user namespaces are allowed.
struct Disk {
    /// Keeps the namespace.
    holder: Process,
    home: PathBuf,
}

impl Disk {
    fn mount(home: &Path) -> Self {
        let home = home.join("disk");
        fs::create_dir(&home).unwrap();
        let options = format!("size={DISK_BYTES},nr_inodes={DISK_INODES}");
        let mut shell = Command::new("unshare");
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        shell.arg("mount -t tmpfs -o \"$1\" none \"$0\" && echo mounted >&2 && exec cat");
        shell.arg(&home).arg(options);
        let mut holder = Process::spawn(shell);
        until("disk", || {
            let said = holder.stderr();
            let hint = "a small disk needs user namespaces: kernel.unprivileged_userns_clone=1, \
                        kernel.apparmor_restrict_unprivileged_userns=0, and a container that allows unshare and mount";
            assert!(said.contains("mounted") || holder.is_running(), "{hint}: {said}");
            said.contains("mounted").then_some(())
        });
        Self { holder, home }
    }

    /// Where it is seen from outside.
    fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(self.home.strip_prefix("/").unwrap())
    }

    /// A program that sees it.
    fn command(&self, program: &str) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args([
            "--preserve-credentials",
            "--user",
            "--mount",
            "--target",
            &self.holder.pid().to_string(),
        ]);
        inside.arg(program);
        inside
    }

    fn remount(&self, how: &str) {
        let ended = Process::spawn({
            let mut mount = self.command("mount");
            mount.args(["-o", &format!("remount,bind,{how}")]).arg(&self.home);
            mount
        })
        .wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    /// A worker whose spool lies on it.
    fn spawn(&self, kind: &Kind, receiver: &Receiver, broker: &Broker) -> Process {
        let mut inside = self.command(command(kind.program).get_program().to_str().unwrap());
        inside.args(worker_args(&receiver.flags(), &broker.workers, &self.home));
        inside.args(["--flush", "1", "--http", "127.0.0.1:0"]);
        Process::spawn(inside)
    }

    fn start(&self, kind: &Kind, receiver: &Receiver, broker: &Broker) -> Worker {
        let mut process = self.spawn(kind, receiver, broker);
        let http = field(&process.line("worker started"), "status").to_owned();
        broker.subscribed(1);
        Worker { process, http }
    }

    /// A worker that must not start, with one line that names the directory.
    fn refuse(&self, kind: &Kind, receiver: &Receiver, broker: &Broker) {
        let Ended { code, stderr, .. } = self.spawn(kind, receiver, broker).wait();
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(self.home.join("spool").to_str().unwrap()), "{stderr}");
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut filler = File::create(self.outside().join("filler")).unwrap();
        while filler.write_all(&[1; 4_096]).is_ok() {}
    }

    /// Makes files until there can be no more.
    fn fill_inodes(&self) {
        for at in 0.. {
            if File::create_new(self.outside().join(format!("inode-{at}"))).is_err_and(|error| {
                assert!(at < 2 * DISK_INODES, "{error}");
                error.kind() == std::io::ErrorKind::StorageFull
            }) {
                return;
            }
        }
    }

    /// Removes what was filled in.
    fn free(&self) {
        for file in fs::read_dir(self.outside()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

// Row 21, a full disk.
#[test]
fn on_a_full_disk_changes_wait_in_memory_and_are_delivered_once_there_is_room() {
    each_kind(|kind, home| {
        let (disk, broker, receiver) = (Disk::mount(home), Broker::start(), Receiver::start(kind, home));
        let worker = disk.start(kind, &receiver, &broker);
        record(&broker, &["hits=1"]);
        receiver.comes_to("hits", 1.0);
        until("empty spool", || (sum(&worker, HELD) == 0.0).then_some(()));
        disk.fill();
        record(&broker, &["hits=2", "lat=1000000"]);
        worker.counted(FULL, &[], 2.0);
        record(&broker, &["hits=4"]);
        worker.counted(FULL, &[], sum(&worker, FULL) + 2.0);
        assert_eq!((receiver.total("hits"), sum(&worker, HELD)), (1.0, 0.0), "what is not on disk was sent");
        disk.free();
        receiver.comes_to("hits", 7.0);
        let delivery = finish(worker);
        assert_eq!(delivery.timer_records, 1, "{}", delivery.line);
        assert_eq!((receiver.total("hits"), receiver.total("lat")), (7.0, 1.0));
    });
}

// Row 21, a full disk and a batch on it.
#[test]
fn a_batch_that_a_full_disk_does_not_let_go_of_is_sent_once() {
    each_kind(|kind, home| {
        let (disk, broker, mut receiver) = (Disk::mount(home), Broker::start(), Receiver::absent(kind, home));
        let worker = disk.start(kind, &receiver, &broker);
        record(&broker, &["hits=1", "lat=1000000"]);
        worker.counted(HELD, &[], 1.0);
        disk.fill();
        receiver.open();
        let complaints = || worker.process.stderr().matches("cannot write the spool; trying again").count();
        until("two attempts to delete it", || (complaints() >= 2).then_some(()));
        let counts = |name| {
            let bodies = receiver.bodies();
            kind.values(bodies.iter().map(|body| &body[..]), name)
        };
        assert_eq!((counts("hits"), counts("lat")), (vec![1.0], vec![1.0]));
        disk.free();
        let delivery = finish(worker);
        assert_eq!((delivery.points, field(&delivery.line, "ambiguous")), (2, "0"), "{}", delivery.line);
        assert_eq!((counts("hits"), counts("lat")), (vec![1.0], vec![1.0]));
    });
}

// Row 21, no inode left.
#[test]
fn a_disk_without_inodes_stops_only_what_has_to_make_a_file() {
    each_kind(|kind, home| {
        let (disk, broker, receiver) = (Disk::mount(home), Broker::start(), Receiver::start(kind, home));
        disk.fill_inodes();
        disk.refuse(kind, &receiver, &broker);
        disk.free();
        let worker = disk.start(kind, &receiver, &broker);
        disk.fill_inodes();
        record(&broker, &["hits=1"]);
        receiver.comes_to("hits", 1.0);
        assert_eq!(sum(&worker, ABORTED), 0.0);
        until("empty spool", || (sum(&worker, HELD) == 0.0).then_some(()));

        fs::remove_dir_all(disk.outside().join("spool")).unwrap();
        // The directory had one.
        disk.fill_inodes();
        record(&broker, &["hits=2", "lat=1000000"]);
        worker.counted(ABORTED, &[], 2.0);
        assert_eq!(receiver.total("hits"), 1.0);
        disk.free();
        receiver.comes_to("hits", 3.0);
        let delivery = finish(worker);
        assert_eq!(delivery.timer_records, 1, "{}", delivery.line);
        assert_eq!((receiver.total("hits"), receiver.total("lat")), (3.0, 1.0));
    });
}

// Row 21, read-only.
#[test]
fn on_a_disk_that_is_read_only_no_worker_starts_and_what_it_holds_stays() {
    each_kind(|kind, home| {
        let (disk, broker, mut receiver) = (Disk::mount(home), Broker::start(), Receiver::absent(kind, home));
        let worker = disk.start(kind, &receiver, &broker);
        record(&broker, &["hits=3", "lat=1000000"]);
        worker.counted(HELD, &[], 1.0);
        assert_eq!(worker.finish().held, 1);
        disk.remount("ro");
        receiver.open();
        disk.refuse(kind, &receiver, &broker);
        disk.remount("rw");
        let worker = disk.start(kind, &receiver, &broker);
        receiver.comes_to("hits", 3.0);
        let delivery = finish(worker);
        assert!(
            delivery.line.contains("+ restored [points 2 counter_sum 3 timer_records 1 "),
            "{}",
            delivery.line
        );
        assert_eq!((receiver.total("hits"), receiver.total("lat")), (3.0, 1.0));
    });
}

// Row 21, the directory.
#[test]
fn a_spool_directory_that_is_removed_comes_again_with_all_it_held() {
    each_kind(|kind, home| {
        let (broker, mut receiver) = (Broker::start(), Receiver::absent(kind, home));
        let worker = worker_of(kind.program, &receiver.flags(), &broker, home);
        broker.subscribed(1);
        record(&broker, &["hits=1"]);
        worker.counted(HELD, &[], 1.0);
        fs::remove_dir_all(home.join("spool")).unwrap();
        record(&broker, &["hits=2", "lat=1000000"]);
        worker.counted(HELD, &[], 2.0);
        // Only what lies in the directory again is there for the next process.
        worker.process.kill();
        receiver.open();
        let worker = worker_of(kind.program, &receiver.flags(), &broker, home);
        receiver.comes_to("hits", 3.0);
        let delivery = finish(worker);
        assert!(
            delivery.line.contains("+ restored [points 3 counter_sum 3 timer_records 1 "),
            "{}",
            delivery.line
        );
        assert_eq!((receiver.total("hits"), receiver.total("lat")), (3.0, 1.0));
    });
}

/// What becomes of a spool, and whether it is put away.
struct Damage {
    what: &'static str,
    /// Puts something in the place of the file, given its sound content.
    put: fn(&Path, &[u8]),
    is_put_away: bool,
}

/// Bytes of a page of SQLite.
const PAGE: usize = 4_096;

const DAMAGES: [Damage; 11] = [
    // SQLite makes such a file before it writes the first page, so it is a new one.
    Damage { what: "cut to nothing", put: |path, _| cut(path, &[], 0), is_put_away: false },
    Damage { what: "cut to some bytes", put: |path, sound| cut(path, sound, 10), is_put_away: true },
    Damage { what: "cut in the header", put: |path, sound| cut(path, sound, 50), is_put_away: true },
    Damage { what: "cut to a page", put: |path, sound| cut(path, sound, PAGE), is_put_away: true },
    Damage { what: "cut in a page", put: |path, sound| cut(path, sound, PAGE + 1_000), is_put_away: true },
    // What is missing of the last page alone is read as zeros, and found as flipped bits of a row are.
    Damage {
        what: "cut by more than a page",
        put: |path, sound| cut(path, sound, sound.len() - PAGE - 1),
        is_put_away: true,
    },
    Damage { what: "a bit of the magic", put: |path, sound| flip(path, sound, &[0]), is_put_away: true },
    Damage {
        what: "a bit of each page",
        put: |path, sound| flip(path, sound, &(PAGE..sound.len()).step_by(PAGE).collect::<Vec<_>>()),
        is_put_away: true,
    },
    Damage {
        what: "a text",
        put: |path, _| fs::write(path, "hello\n".repeat(999)).unwrap(),
        is_put_away: true,
    },
    Damage {
        what: "a database of another program",
        put: |path, _| {
            let other = rusqlite::Connection::open(path).unwrap();
            other.execute_batch("CREATE TABLE batch (a); INSERT INTO batch VALUES (1)").unwrap();
        },
        is_put_away: true,
    },
    Damage {
        what: "a directory",
        put: |path, sound| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), sound).unwrap();
        },
        is_put_away: true,
    },
];

fn cut(path: &Path, sound: &[u8], length: usize) {
    fs::write(path, &sound[..length]).unwrap();
}

fn flip(path: &Path, sound: &[u8], at: &[usize]) {
    let mut bytes = sound.to_vec();
    at.iter().for_each(|at| bytes[*at] ^= 0x10);
    fs::write(path, bytes).unwrap();
}

/// What lies at a path, be it a file or a directory with one.
fn content(path: &Path) -> Vec<u8> {
    fs::read(if path.is_dir() { path.join("inside") } else { path.to_owned() }).unwrap()
}

// Row 22.
#[test]
fn a_spool_that_is_none_is_put_away_and_what_comes_then_is_delivered() {
    each_kind(|kind, home| {
        let sound = sound_spool(kind, home);
        for Damage { what, put, is_put_away } in &DAMAGES {
            let home = directory();
            let (broker, receiver) = (Broker::start(), Receiver::start(kind, home.path()));
            let path = home.path().join("spool/spool.db");
            fs::create_dir(home.path().join("spool")).unwrap();
            put(&path, &sound);
            let damaged = content(&path);
            let worker = worker_of(kind.program, &receiver.flags(), &broker, home.path());
            let put_away = sum(&worker, "zibrato_worker_spool_quarantined_total");
            assert_eq!(put_away, f64::from(u8::from(*is_put_away)), "{what}");
            let kept: Vec<PathBuf> = fs::read_dir(home.path().join("spool"))
                .unwrap()
                .map(|file| file.unwrap().path())
                .filter(|path| is_name_of_damaged(path))
                .collect();
            assert_eq!(kept.len(), usize::from(*is_put_away), "{what}: {kept:?}");
            assert!(kept.iter().all(|path| content(path) == damaged), "{what}: it changed");
            broker.subscribed(1);
            record(&broker, &["hits=5", "lat=1000000"]);
            receiver.comes_to("hits", 5.0);
            let delivery = finish(worker);
            assert!(delivery.line.contains("+ restored [points 0 "), "{what}: {}", delivery.line);
            assert_eq!((receiver.total("hits"), receiver.total("lat")), (5.0, 1.0), "{what}");
        }
    });
}

/// `spool.db.damaged-` and Unix seconds.
fn is_name_of_damaged(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.strip_prefix("spool.db.damaged-").is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// A spool with one batch, of a worker that has ended.
fn sound_spool(kind: &Kind, home: &Path) -> Vec<u8> {
    let (broker, receiver) = (Broker::start(), Receiver::absent(kind, home));
    let worker = worker_of(kind.program, &receiver.flags(), &broker, home);
    broker.subscribed(1);
    record(&broker, &["hits=3", "lat=1000000"]);
    worker.counted(HELD, &[], 1.0);
    assert_eq!(worker.finish().held, 1);
    let sound = fs::read(home.join("spool/spool.db")).unwrap();
    assert!(sound.len() > 2 * PAGE && sound.len().is_multiple_of(PAGE), "{} bytes", sound.len());
    sound
}
