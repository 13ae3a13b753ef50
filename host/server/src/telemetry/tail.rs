//! What plugins said last, for who looks on: a bounded ring that any number of readers follow.
//!
//! A writer never waits for a reader. One that is too slow is told how many lines it missed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::Notify;

/// The last lines of all plugins and functions.
///
/// A lock, held for as long as a line is moved: plugins that write that much wait for the node's log far longer.
#[derive(Debug, Default)]
pub struct Tail {
    ring: Mutex<Ring>,
    written: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that came before the first one here.
    gone: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// `trace`, `debug`, `info`, `warn`, `error`; `fault` is the node's report of one.
    pub level: &'static str,
    /// The binding or the function.
    pub binding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub message: String,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// What came since a cursor.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// Lines that were gone before they were read.
    pub missed: u64,
    pub lines: Vec<Line>,
    pub cursor: Cursor,
}

impl Tail {
    /// Adds a line; the oldest ones make room for it.
    pub fn write(
        &self,
        level: &'static str,
        binding: &str,
        request_id: Option<&str>,
        message: &str,
    ) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.push(Line {
            time_ms: since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
            level,
            binding: binding.to_owned(),
            request_id: request_id.map(str::to_owned),
            message: message.to_owned(),
        });
    }

    fn push(&self, line: Line) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += line.bytes();
        ring.lines.push_back(line);
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= oldest.bytes();
            ring.gone += 1;
        }
        drop(ring);
        self.written.notify_waiters();
    }

    /// A reader that begins with the oldest line that is here.
    pub fn oldest(&self) -> Cursor {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        Cursor(ring.gone)
    }

    /// A reader that begins with the next line.
    pub fn newest(&self) -> Cursor {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        Cursor(ring.gone + ring.lines.len() as u64)
    }

    /// What came since `cursor`; at most so many lines that they fit one answer.
    pub fn since(&self, cursor: Cursor) -> News {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = ring.gone.saturating_sub(cursor.0);
        let from = cursor.0.max(ring.gone);
        let skip = usize::try_from(from - ring.gone).unwrap_or(usize::MAX);
        let lines: Vec<Line> = ring
            .lines
            .iter()
            .skip(skip)
            .take(BATCH_MAX)
            .cloned()
            .collect();
        News {
            missed,
            cursor: Cursor(from + lines.len() as u64),
            lines,
        }
    }

    /// As [`Self::since`], once there is something.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the cursor is the caller's.
    pub async fn after(&self, cursor: Cursor) -> News {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable(); // before looking, so that no line falls between
            let news = self.since(cursor);
            if news.missed > 0 || !news.lines.is_empty() {
                return news;
            }
            written.await;
        }
    }
}

impl Line {
    fn bytes(&self) -> usize {
        let id = self.request_id.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.binding.len() + id + self.message.len()
    }
}

/// What a person scrolls back.
const LINES_MAX: usize = 4096;
/// Of all lines together; each has at most 4 KiB, and a report of a fault somewhat more.
const BYTES_MAX: usize = 2 << 20;
/// Lines of one answer.
const BATCH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(news: &News) -> Vec<&str> {
        news.lines
            .iter()
            .map(|line| line.message.as_str())
            .collect()
    }

    #[tokio::test]
    async fn a_reader_gets_every_line_once_and_waits_for_the_next() {
        let tail = std::sync::Arc::new(Tail::default());
        let start = tail.oldest();
        tail.write("info", "a", None, "one");
        let news = tail.after(start).await;
        assert_eq!(messages(&news), ["one"]);
        let (reader, cursor) = (tail.clone(), news.cursor);
        let waiting = tokio::spawn(async move { reader.after(cursor).await });
        tokio::task::yield_now().await;
        tail.write("info", "a", None, "two");
        assert_eq!(messages(&waiting.await.unwrap()), ["two"]);
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let tail = Tail::default();
        let start = tail.oldest();
        (0..LINES_MAX + 10).for_each(|number| tail.write("info", "a", None, &number.to_string()));
        let news = tail.since(start);
        assert_eq!((news.missed, news.lines.len()), (10, BATCH_MAX));
        assert_eq!(news.lines[0].message, "10");
        let next = tail.since(news.cursor);
        assert_eq!((next.missed, messages(&next)[0]), (0, "266"));
    }

    #[test]
    fn long_lines_are_bounded_together() {
        let tail = Tail::default();
        let long = "x".repeat(4096);
        (0..2000).for_each(|_| tail.write("info", "a", Some("id"), &long));
        let ring = tail.ring.lock().unwrap();
        assert!(ring.bytes <= BYTES_MAX && ring.lines.len() > 400);
        assert_eq!(
            ring.bytes,
            ring.lines.iter().map(Line::bytes).sum::<usize>()
        );
    }
}
