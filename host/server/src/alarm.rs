//! One timer for a thing that has a new deadline with every request: a connection, a body.
//!
//! Deadlines mostly move away from us before they are reached. The timer is left where it was armed, and only when it
//! goes off is the deadline of the day looked at, so that a request costs no timer.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// A timer that is armed at most as often as it goes off, or as the deadline comes nearer.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the timer goes off; `None` while it is not armed.
    armed: Option<Instant>,
}

impl Alarm {
    /// Ready once `deadline` has passed; without a deadline it never is.
    ///
    /// The task is woken at the deadline of the last call or earlier, and polls again then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            let armed = match self.armed {
                Some(armed) if armed <= deadline => armed,
                _ => {
                    self.arm(deadline);
                    deadline
                }
            };
            let sleep = self.sleep.as_mut().expect("an armed alarm has its timer");
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            if armed == deadline {
                return Poll::Ready(());
            }
        }
    }

    /// As [`Alarm::poll`] for a deadline that is not reached at `now`: touches the timer only where it must be armed.
    pub(crate) fn set(&mut self, cx: &mut Context<'_>, now: Instant, deadline: Instant) {
        let serves = |armed: Instant| armed <= deadline && now < armed;
        if !self.armed.is_some_and(serves) {
            self.arm(deadline);
            let sleep = self.sleep.as_mut().expect("an armed alarm has its timer");
            if sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref(); // passed meanwhile: the next poll sees it
            }
        }
    }

    fn arm(&mut self, deadline: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
        self.armed = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_latest_deadline_it_was_told() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let mut deadline = start + Duration::from_secs(1);
        poll_fn(|cx| {
            let polled = alarm.poll(cx, Some(deadline));
            deadline = start + Duration::from_secs(5); // moved away while the timer was armed for the first second
            polled
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_earlier_when_the_deadline_comes_nearer() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let far = Some(start + Duration::from_secs(60));
        let near = Some(start + Duration::from_secs(2));
        poll_fn(|cx| {
            assert!(alarm.poll(cx, far).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll(cx, near)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
