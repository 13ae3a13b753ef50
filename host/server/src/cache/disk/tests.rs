use std::time::Instant;

use tidegate_model::cache::key::{self, Asker, Target};
use tidegate_model::cache::reuse::Span;

use super::changes::{Change, Changes};
use super::*;

fn key_of(path: &str) -> Vec<u8> {
    let mut key = Vec::new();
    let target = Target {
        scope: "a/s",
        host: "h",
        path,
        query: None,
    };
    let asker = Asker {
        tls: false,
        port: 80,
        caller: None,
    };
    key::write(&mut key, &target, &asker);
    key
}

/// An entry that is fresh for an hour, asked for at 7 of the clock.
fn entry() -> Arc<Entry> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let mut entry = record::tests::entry();
    for stored in &mut entry.responses {
        let stored = Arc::get_mut(stored).expect("nobody else has it");
        stored.span = Span::fixed(3600, now);
        stored.purged = false.into();
    }
    Arc::new(entry)
}

/// Opens the tier of a folder, when an earlier one's threads have let go of it, and has it looked through.
fn open(folder: &Path) -> Opened {
    let settings = Settings {
        bytes_max: 16 << 20,
        path: folder.to_owned(),
        secret: Some("secret".to_owned()),
    };
    let opened = in_time(|| Disk::open(&settings, &Arc::default()).ok());
    in_time(|| (!opened.disk.figures().recovering).then_some(()));
    opened
}

fn in_time<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain");
        std::thread::yield_now();
    }
}

/// Whether the first response of a key is there, and whether it is to be asked for again.
async fn is_doubtful(opened: &Opened, path: &str) -> Option<bool> {
    let found = opened.disk.read(&key_of(path)).await?;
    Some(found.entry.responses[0].is_purged())
}

#[tokio::test]
async fn what_a_machine_that_stopped_may_have_lost_is_asked_for_again() {
    let began = |boot: &str| Change::Began {
        clock: 10,
        floor: 0,
        boot: boot.to_owned(),
    };
    let cases = [
        (vec![began(&boot())], false),
        (vec![began("another life")], true),
        (vec![began("another life"), Change::Ended], false),
        (vec![began("")], true),
    ];
    for (changes, doubtful) in cases {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        first.disk.write(&key_of("/x"), &entry());
        first.disk.close();
        drop(first);
        let check = Keys::of(b"secret").check;
        let path = folder.path().join("changes");
        Changes::create(&path, &check, &changes).unwrap();
        let again = open(folder.path());
        assert!(again.clock > 10);
        assert_eq!(
            is_doubtful(&again, "/x").await,
            Some(doubtful),
            "{changes:?}"
        );
        // It stays so: what is asked for again is written anew.
        again.disk.close();
        drop(again);
        let third = open(folder.path());
        assert_eq!(
            is_doubtful(&third, "/x").await,
            Some(doubtful),
            "{changes:?}"
        );
    }
}

#[tokio::test]
async fn what_was_written_last_counts_and_what_was_forgotten_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let shorter = || {
        let mut shorter = Entry::default();
        shorter.responses.push(entry().responses[1].clone());
        Arc::new(shorter)
    };
    let count = async |opened: &Opened, path: &str| {
        let found = opened.disk.read(&key_of(path)).await;
        found.map(|found| found.entry.responses.len())
    };
    for path in ["/a", "/b", "/c"] {
        first.disk.write(&key_of(path), &entry());
    }
    first.disk.write(&key_of("/b"), &shorter());
    in_time(|| (first.disk.figures().writes == 4).then_some(()));
    first.disk.forget(&key_of("/c"));
    assert!(!first.disk.has(&key_of("/c")));
    first.disk.close();
    drop(first);
    for _ in 0..2 {
        let again = open(folder.path());
        assert_eq!(count(&again, "/a").await, Some(2));
        assert_eq!(count(&again, "/b").await, Some(1));
        assert_eq!(count(&again, "/c").await, None);
        assert_eq!(again.disk.figures().entries, 2);
        again.disk.close();
    }
}

#[tokio::test]
async fn a_purge_is_acknowledged_when_it_would_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for path in ["/a", "/b"] {
        first.disk.write(&key_of(path), &entry());
    }
    in_time(|| (first.disk.figures().writes == 2).then_some(()));
    first.disk.purge(8, &Purge::url("/a").unwrap());
    assert_eq!(is_doubtful(&first, "/a").await, None, "at once");
    assert!(first.disk.settle(Duration::from_secs(20)).await);
    // As a kill would leave it.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let again = open(copy.path());
    assert_eq!(is_doubtful(&again, "/a").await, None);
    assert_eq!(is_doubtful(&again, "/b").await, Some(false));
    // What was asked for after it is none of its.
    let mut later = entry();
    let first = &mut Arc::get_mut(&mut later).unwrap().responses[0];
    Arc::get_mut(first).unwrap().asked.at = again.clock;
    again.disk.write(&key_of("/a"), &later);
    in_time(|| (again.disk.figures().writes == 1).then_some(()));
    assert_eq!(is_doubtful(&again, "/a").await, Some(false));
}
