//! Who has the requests that pass a plugin of a running node written down as cases.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

/// Who records what.
#[derive(Debug, Default)]
pub struct Recorder {
    /// How many do. Step calls look at this only, as long as nobody does.
    recording: AtomicUsize,
    recordings: Mutex<Vec<Recording>>,
}

#[derive(Debug)]
struct Recording {
    wanted: Wanted,
    /// How many it has.
    count: usize,
    /// A line of JSON each.
    cases: mpsc::Sender<String>,
}

/// What somebody records.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub plugin: String,
    pub count: usize,
    /// Values of fields that are secrets are written down too.
    pub keeps_secrets: bool,
}

impl Recorder {
    /// Records until so many cases are taken, or the receiver is dropped. `None` where too many record already.
    pub fn start(&self, wanted: Wanted) -> Option<mpsc::Receiver<String>> {
        let mut recordings = self.lock();
        recordings.retain(|one| !one.cases.is_closed());
        if recordings.len() >= RECORDINGS_MAX {
            return None;
        }
        let (cases, received) = mpsc::channel(wanted.count.clamp(1, WAITING_MAX));
        recordings.push(Recording {
            wanted,
            count: 0,
            cases,
        });
        self.recording.store(recordings.len(), Ordering::Relaxed);
        Some(received)
    }

    /// Whether nobody records.
    pub fn is_idle(&self) -> bool {
        self.recording.load(Ordering::Relaxed) == 0
    }

    /// Hands over a case to each who records `plugin`: what `case` makes for them, with its number. Nobody waits: who is too
    /// slow for it goes without, as everybody does for a case that is too large to be read.
    pub fn take(&self, plugin: &str, case: impl Fn(&Wanted, usize) -> Option<Value>) {
        let mut recordings = self.lock();
        recordings.retain_mut(|one| {
            if one.wanted.plugin == plugin
                && let Some(case) = case(&one.wanted, one.count + 1)
                && let line = format!("{case}\n")
                && line.len() <= LINE_BYTES_MAX
                && one.cases.try_send(line).is_ok()
            {
                one.count += 1;
            }
            one.count < one.wanted.count && !one.cases.is_closed()
        });
        self.recording.store(recordings.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Recording>> {
        self.recordings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// At once; each has a connection to the admin address.
const RECORDINGS_MAX: usize = 8;
/// Cases that their reader has not taken.
const WAITING_MAX: usize = 64;
/// Of one case: bodies may have many MiB, and all cases of a component at most one.
const LINE_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_record_than_there_is_room_for_and_who_left_makes_some() {
        let recorder = Recorder::default();
        let wanted = Wanted {
            plugin: "a".to_owned(),
            count: 1,
            keeps_secrets: false,
        };
        assert!(recorder.is_idle());
        let mut all: Vec<_> = (0..RECORDINGS_MAX)
            .map(|_| recorder.start(wanted.clone()).expect("room"))
            .collect();
        assert!(recorder.start(wanted.clone()).is_none() && !recorder.is_idle());
        all.pop();
        assert!(recorder.start(wanted).is_some());
    }

    #[test]
    fn who_records_gets_their_plugins_cases_with_numbers_and_none_that_is_too_large() {
        let recorder = Recorder::default();
        let wanted = Wanted {
            plugin: "a".to_owned(),
            count: 2,
            keeps_secrets: false,
        };
        let mut cases = recorder.start(wanted).expect("room");
        recorder.take("b", |_, _| panic!("it is another plugin's"));
        let large = "x".repeat(LINE_BYTES_MAX);
        recorder.take("a", |_, _| Some(large.clone().into()));
        for _ in 0..3 {
            recorder.take("a", |_, number| Some(number.into()));
        }
        assert!(recorder.is_idle(), "two were wanted");
        assert_eq!(cases.try_recv().as_deref(), Ok("1\n"));
        assert_eq!(cases.try_recv().as_deref(), Ok("2\n"));
        assert!(cases.try_recv().is_err());
    }
}
