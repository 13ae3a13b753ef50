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
    cases: mpsc::Sender<Value>,
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
    pub fn start(&self, wanted: Wanted) -> Option<mpsc::Receiver<Value>> {
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
    /// slow for it goes without.
    pub fn take(&self, plugin: &str, case: impl Fn(&Wanted, usize) -> Option<Value>) {
        let mut recordings = self.lock();
        recordings.retain_mut(|one| {
            if one.wanted.plugin == plugin
                && let Some(case) = case(&one.wanted, one.count + 1)
                && one.cases.try_send(case).is_ok()
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
}
