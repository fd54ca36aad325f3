use std::fs;

use super::*;
use crate::units::PointUnits;

const QUOTA: u64 = 10_000;
const NOW_MS: u64 = 1_700_000_000_000;

fn body(text: &str) -> Body {
    Body {
        bytes: text.as_bytes().to_vec(),
        content_type: "application/json".to_owned(),
        points: vec![PointUnits::Counter(2.0), PointUnits::Timer(3)],
    }
}

fn open(directory: &Path) -> (Spool, Found) {
    Spool::open(directory, QUOTA, NOW_MS).unwrap()
}

fn commit(spool: &mut Spool, texts: &[&str]) -> Result<(), SpoolError> {
    let bodies: Vec<_> = texts.iter().map(|text| (format!("id-{text}"), body(text))).collect();
    spool.begin()?.commit(&Commit { flushed_ms: NOW_MS, bodies: &bodies, removed: &[] })
}

fn oldest(spool: &Spool) -> Option<Batch> {
    match spool.oldest(1).unwrap()? {
        Next::Batches(batches) => batches.into_iter().next(),
        damaged @ Next::Damaged { .. } => panic!("{damaged:?}"),
    }
}

#[test]
fn batches_leave_in_the_order_of_their_commits_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, found) = open(directory.path());
    assert_eq!((found.last_flush_ms, found.ledger.len()), (0, 0));
    commit(&mut spool, &["a", "b"]).unwrap();
    commit(&mut spool, &["c"]).unwrap();
    let held = spool.held();
    assert_eq!((held.batches, held.bytes, held.units.timer_records), (3, 3 * 19, 9));
    drop(spool);
    let (mut spool, found) = open(directory.path());
    assert_eq!((spool.held(), found.last_flush_ms), (held, NOW_MS));
    for text in ["a", "b", "c"] {
        let batch = oldest(&spool).unwrap();
        assert_eq!((batch.id, batch.body), (format!("id-{text}"), body(text)));
        spool.remove(batch.row).unwrap();
    }
    assert_eq!(oldest(&spool), None);
    assert_eq!((spool.held().batches, spool.held().bytes, spool.held().units.counter_sum), (0, 0, 0.0));
    assert_eq!(spool.oldest_ms().unwrap(), None);
}

#[test]
fn bodies_and_ledger_rows_are_committed_together_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    let found_rows = |value: &[u8]| vec![(b"k1".to_vec(), value.to_vec()), (b"k2".to_vec(), b"x".to_vec())];
    let write = |spool: &mut Spool, value: &[u8], commit: &Commit<'_>| {
        let rows: Rows = found_rows(value).iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let mut writing = spool.begin()?;
        writing.rows(&rows)?;
        writing.commit(commit)
    };
    let first = Commit { flushed_ms: 1, bodies: &[], removed: &[] };
    write(&mut spool, b"one", &first).unwrap();
    // The disk has no room for the second commit.
    let pages: i64 = spool.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |spool: &Spool, pages: i64| {
        spool.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&spool, pages);
    let bodies = [("id".to_owned(), body(&"x".repeat(9_000)))];
    let second = Commit { flushed_ms: 2, bodies: &bodies, removed: &[b"k2".to_vec()] };
    let error = write(&mut spool, b"two", &second).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(spool.held(), Held::default());
    assert_eq!(oldest(&spool), None);
    // Room again: the same commit goes through.
    limit(&spool, 1_000_000);
    drop(spool);
    let (mut spool, found) = open(directory.path());
    assert_eq!((found.last_flush_ms, found.ledger), (1, found_rows(b"one")));
    write(&mut spool, b"two", &second).unwrap();
    drop(spool);
    let (spool, found) = open(directory.path());
    assert_eq!(found.ledger, [(b"k1".to_vec(), b"two".to_vec())]);
    assert_eq!(oldest(&spool).unwrap().id, "id");
}

#[test]
fn any_number_of_rows_is_written_and_later_ones_take_the_place_of_earlier_ones() {
    let directory = tempfile::tempdir().unwrap();
    for many in [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE + 5] {
        let (mut spool, _) = open(directory.path());
        let keys: Vec<_> = (0..many).map(|row| format!("k{row:03}").into_bytes()).collect();
        let value = many.to_string().into_bytes();
        let mut writing = spool.begin().unwrap();
        writing.rows(&keys.iter().map(|key| (&key[..], &value[..])).collect()).unwrap();
        writing.commit(&Commit { flushed_ms: NOW_MS, bodies: &[], removed: &[] }).unwrap();
        drop(spool);
        let expected: Vec<_> = keys.into_iter().map(|key| (key, value.clone())).collect();
        assert_eq!(open(directory.path()).1.ledger, expected);
    }
}

#[test]
fn a_flush_that_is_not_committed_or_has_no_change_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.begin().unwrap().commit(&Commit { flushed_ms: 5, bodies: &[], removed: &[] }).unwrap();
    spool.begin().unwrap().rows(&[(&b"k"[..], &b"v"[..])].into_iter().collect()).unwrap();
    drop(spool);
    let (mut spool, found) = open(directory.path());
    assert_eq!((found.last_flush_ms, found.ledger.len()), (0, 0));
    // Nor does it become part of the next one.
    spool.begin().unwrap().rows(&[(&b"k"[..], &b"v"[..])].into_iter().collect()).unwrap();
    commit(&mut spool, &["next"]).unwrap();
    drop(spool);
    let (_, found) = open(directory.path());
    assert_eq!((found.last_flush_ms, found.ledger.len()), (NOW_MS, 0));
}

#[test]
fn the_quota_refuses_a_flush_and_recovers_when_batches_leave() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    let large = "x".repeat(6_000);
    commit(&mut spool, &[&large]).unwrap();
    let error = commit(&mut spool, &[&large]).unwrap_err();
    assert!(matches!(error, SpoolError::Full { quota: QUOTA, .. }) && error.is_full());
    assert!(error.to_string().contains("--spool-mib"), "{error}");
    // A flush without bodies only notes the ledger.
    commit(&mut spool, &[]).unwrap();
    spool.remove(oldest(&spool).unwrap().row).unwrap();
    commit(&mut spool, &[&large]).unwrap();
    spool.remove(oldest(&spool).unwrap().row).unwrap();
    // Larger than the whole quota, but alone.
    commit(&mut spool, &[&"x".repeat(20_000)]).unwrap();
}

#[test]
fn a_batch_can_be_replaced_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    commit(&mut spool, &["a", "b"]).unwrap();
    let row = oldest(&spool).unwrap().row;
    spool.replace(row, &[("l".to_owned(), body("a1")), ("r".to_owned(), body("a2"))]).unwrap();
    let mut ids = Vec::new();
    while let Some(batch) = oldest(&spool) {
        assert_eq!(batch.flushed_ms, NOW_MS);
        spool.remove(batch.row).unwrap();
        ids.push(batch.id);
    }
    assert_eq!(ids, ["l", "r", "id-b"]);
    assert!(spool.remove(row).is_err());
}

#[test]
fn a_second_worker_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    let error = Spool::open(directory.path(), QUOTA, NOW_MS).unwrap_err();
    assert!(matches!(error, SpoolError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains("another worker") && text.contains("--spool") && !text.contains('\n'), "{text}");
    drop(spool);
    open(directory.path());
}

#[test]
fn damaged_and_foreign_files_are_put_away_and_a_new_spool_is_started() {
    let sound = {
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(directory.path());
        for _ in 0..20 {
            commit(&mut spool, &[&"x".repeat(300)]).unwrap();
        }
        drop(spool);
        fs::read(directory.path().join(SPOOL_FILE)).unwrap()
    };
    let foreign = {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE batch (a)").unwrap();
        fs::read(path).unwrap()
    };
    let mut flipped = sound.clone();
    flipped[4_096..4_200].iter_mut().for_each(|byte| *byte ^= 0x55);
    let cut = sound[..sound.len() / 2].to_vec();
    for (what, content) in
        [("flipped", flipped), ("cut", cut), ("foreign", foreign), ("text", b"hello".repeat(999))]
    {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SPOOL_FILE), &content).unwrap();
        let (mut spool, found) = open(directory.path());
        let kept = found.quarantined.unwrap_or_else(|| panic!("{what} was taken for sound"));
        assert_eq!(kept.file_name().unwrap(), "spool.db.damaged-1700000000");
        assert_eq!(fs::read(kept).unwrap().len(), content.len(), "{what}");
        commit(&mut spool, &["a"]).unwrap();
        assert_eq!(oldest(&spool).unwrap().id, "id-a");
    }
}

#[test]
fn a_directory_in_the_place_of_the_file_is_put_away() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(SPOOL_FILE)).unwrap();
    let (mut spool, found) = open(directory.path());
    assert!(found.quarantined.unwrap().is_dir());
    commit(&mut spool, &["a"]).unwrap();
    assert_eq!(oldest(&spool).unwrap().id, "id-a");
}

#[test]
fn a_flipped_bit_inside_a_body_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    commit(&mut spool, &["a", "b"]).unwrap();
    spool.connection.execute_batch("UPDATE batch SET body = x'62' WHERE id = 'id-a'").unwrap();
    let Some(Next::Damaged { row, units }) = spool.oldest(2).unwrap() else { panic!() };
    spool.connection.execute_batch("UPDATE batch SET place = 9 WHERE id = 'id-a'").unwrap();
    let Some(Next::Batches(batches)) = spool.oldest(2).unwrap() else { panic!() };
    assert_eq!(batches.len(), 1, "what is damaged waits until it is the first");
    spool.connection.execute_batch("UPDATE batch SET place = 0 WHERE id = 'id-a'").unwrap();
    assert_eq!(units.timer_records, 3);
    spool.remove(row).unwrap();
    assert_eq!(oldest(&spool).unwrap().id, "id-b");
}

#[test]
fn a_spool_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    spool.connection.pragma_update(None, "user_version", 2).unwrap();
    drop(spool);
    let error = Spool::open(directory.path(), QUOTA, NOW_MS).unwrap_err();
    assert!(matches!(error, SpoolError::Newer { version: 2, .. }), "{error}");
    assert!(directory.path().join(SPOOL_FILE).exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_one_clear_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Spool::open(&file.path().join("spool"), QUOTA, NOW_MS).unwrap_err();
    assert!(matches!(error, SpoolError::Directory { .. }));
    assert!(error.to_string().contains("--spool"), "{error}");
}

#[test]
fn a_spool_whose_directory_was_deleted_is_written_again_with_all_it_held() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("spool");
    let (mut spool, _) = open(&directory);
    commit(&mut spool, &["a"]).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    commit(&mut spool, &["b"]).unwrap();
    assert!(matches!(Spool::open(&directory, QUOTA, NOW_MS), Err(SpoolError::Locked { .. })));
    drop(spool);
    let (mut spool, found) = open(&directory);
    assert_eq!(found.quarantined, None);
    for text in ["a", "b"] {
        let batch = oldest(&spool).unwrap();
        assert_eq!(batch.body, body(text));
        spool.remove(batch.row).unwrap();
    }
}
