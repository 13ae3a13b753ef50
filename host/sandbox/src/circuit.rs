//! Keeps a plugin that fails again and again from being called for every request, and tries it again by itself.
//!
//! Closed, calls pass. After [`FAULTS_MAX`] faults in a row, or one failed start, it opens: calls are refused at once, and
//! the binding's fault policy says what that means. After a pause one call is let through as a trial; its success closes
//! the circuit, its failure opens it for twice as long. Any success in between starts the count anew, and a plugin that has
//! served is given [`FAILING_MIN`] besides: callers whose requests make a plugin trap, however many, cannot shut it for
//! others who call once in that time.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::fault::Fault;

/// One thread's circuit of a binding.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    /// Faults since the last success.
    faults: Cell<u32>,
    /// Whether there was a success.
    served: Cell<bool>,
    /// When the first of `faults` was, where there was a success before it.
    failing_since: Cell<Option<Instant>>,
    open: RefCell<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    reason: String,
    /// A call is finding out whether it can be closed.
    trying: bool,
}

/// The right to make one call.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    circuit: &'a Circuit,
    trial: bool,
}

impl Circuit {
    /// Lets a call that comes at `now` through, or refuses it with what was wrong the last time.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admitted<'_>, Fault> {
        let mut open = self.open.borrow_mut();
        let trial = match &mut *open {
            None => false,
            Some(open) if open.trying || now < open.until => {
                return Err(Fault::CircuitOpen(open.reason.clone()));
            }
            Some(open) => {
                open.trying = true;
                true
            }
        };
        Ok(Admitted {
            circuit: self,
            trial,
        })
    }

    fn open(&self, now: Instant, reason: String) {
        let mut open = self.open.borrow_mut();
        let pause = match &*open {
            Some(before) => (before.pause * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        tracing::debug!(reason, pause_ms = pause.as_millis(), "circuit opened");
        *open = Some(Open {
            until: now + pause,
            pause,
            reason,
            trying: false,
        });
    }
}

impl Admitted<'_> {
    /// Takes note of how the call ended, at `now`.
    pub(crate) fn settle<R>(self, outcome: &Result<R, Fault>, now: impl FnOnce() -> Instant) {
        match outcome {
            Ok(_) | Err(Fault::Answered(_)) => {
                self.circuit.faults.set(0);
                self.circuit.served.set(true);
                if self.trial {
                    *self.circuit.open.borrow_mut() = None;
                }
            }
            // Says something of the load, and of the plugin nothing.
            Err(Fault::Busy) => {}
            Err(fault) => {
                let faults = self.circuit.faults.get().saturating_add(1);
                self.circuit.faults.set(faults);
                let now = now();
                if faults == 1 {
                    let since = self.circuit.served.get().then_some(now);
                    self.circuit.failing_since.set(since);
                }
                let since = self.circuit.failing_since.get();
                let for_long = since.is_none_or(|since| now.duration_since(since) >= FAILING_MIN);
                let enough = faults >= FAULTS_MAX && for_long || matches!(fault, Fault::Start(_));
                // Calls that were under way when it opened do not lengthen the pause.
                if self.trial || (enough && self.circuit.open.borrow().is_none()) {
                    self.circuit.open(now, fault.to_string());
                }
            }
        }
    }
}

impl Drop for Admitted<'_> {
    /// A trial that nobody waited for says nothing: the next call is the trial.
    fn drop(&mut self) {
        if self.trial
            && let Some(open) = &mut *self.circuit.open.borrow_mut()
        {
            open.trying = false;
        }
    }
}

/// More in a row than one caller's bad requests give among those of others.
const FAULTS_MAX: u32 = 20;
/// How long a plugin that has served must fail on every call.
const FAILING_MIN: Duration = Duration::from_secs(1);
/// The first pause; short, since what opened the circuit may be over.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn trap() -> Result<(), Fault> {
        Err(Fault::Trap("unreachable".to_owned()))
    }

    /// Makes a call at `at` that ends with `outcome`; gives whether it was let through.
    fn call(circuit: &Circuit, at: Instant, outcome: Result<(), Fault>) -> bool {
        match circuit.admit(at) {
            Ok(admitted) => {
                admitted.settle(&outcome, || at);
                true
            }
            Err(fault) => {
                assert_eq!(fault.kind(), "circuit-open");
                false
            }
        }
    }

    #[test]
    fn faults_in_a_row_open_it_and_a_success_after_the_pause_closes_it() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        for _ in 0..FAULTS_MAX {
            assert!(call(&circuit, start, trap()));
        }
        assert!(!call(&circuit, start, Ok(())), "open");
        let later = start + PAUSE_MIN;
        assert!(call(&circuit, later, trap()), "the trial");
        assert!(
            !call(&circuit, later + PAUSE_MIN, Ok(())),
            "open for longer"
        );
        assert!(call(&circuit, later + PAUSE_MIN * 2, Ok(())));
        assert!(call(&circuit, later, trap()), "closed again");
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAULTS_MAX {
                assert!(call(&circuit, now, trap()));
            }
            assert!(call(&circuit, now, Ok(())));
        }
    }

    #[test]
    fn a_flood_of_faults_opens_it_for_nobody_who_calls_once_in_a_while() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert!(call(&circuit, start, Ok(())));
        for second in 0..5 {
            for ms in 1..999 {
                assert!(call(&circuit, after(second * 1000 + ms), trap()), "{ms}");
            }
            assert!(call(&circuit, after(second * 1000 + 999), Ok(())));
        }
        for ms in 5000..=6000 {
            assert!(call(&circuit, after(ms), trap()), "{ms}");
        }
        assert!(
            !call(&circuit, after(6001), Ok(())),
            "a second without a success"
        );
    }

    #[test]
    fn a_start_that_fails_opens_it_at_once_and_a_full_pool_never_does() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..2 * FAULTS_MAX {
            assert!(call(&circuit, now, Err(Fault::Busy)));
        }
        assert!(call(&circuit, now, Err(Fault::Start("no".to_owned()))));
        assert!(!call(&circuit, now, Ok(())));
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        let under_way: Vec<_> = (0..3 * FAULTS_MAX)
            .map(|_| circuit.admit(now).expect("closed"))
            .collect();
        for call in under_way {
            call.settle(&trap(), || now);
        }
        assert!(call(&circuit, now + PAUSE_MIN, Ok(())), "the trial");
        assert!(call(&circuit, now, Ok(())), "closed again");
    }

    #[test]
    fn one_call_at_a_time_is_the_trial_and_one_that_was_given_up_makes_room() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        assert!(call(&circuit, now, Err(Fault::Start("no".to_owned()))));
        let later = now + PAUSE_MIN;
        let trial = circuit.admit(later).expect("the pause is over");
        assert!(circuit.admit(later).is_err(), "one is enough");
        drop(trial);
        assert!(circuit.admit(later).is_ok());
    }
}
