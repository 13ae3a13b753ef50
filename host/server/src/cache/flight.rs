//! Requests for one key that come while it is being asked for wait for that answer.
//!
//! The one that asks *leads*; the others follow. They wait at most as long as the node says. An answer that is for one
//! only, or a failure, releases all of them at once, to ask for themselves; where the leader's viewer leaves, the next one
//! leads.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The keys that are being asked for.
pub struct Flights {
    /// Locked for a lookup only, and by misses only.
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// What a request for a key does.
pub enum Joined {
    Leads(Leader),
    Follows(Follower),
}

/// How a key's question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// The answer is stored.
    Stored,
    /// The answer is for the leader only, or there was none.
    Apart,
    /// The leader's viewer has left.
    Abandoned,
}

type State = Option<Landed>;
type Shard = HashMap<Box<[u8]>, watch::Receiver<State>>;

/// Who asks. Dropped without a word, its viewer has left.
pub struct Leader {
    flights: Arc<Flights>,
    key: Box<[u8]>,
    state: watch::Sender<State>,
}

/// Who waits.
pub struct Follower(watch::Receiver<State>);

impl Default for Flights {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Flights {
    /// Leads where nobody does yet, else follows.
    pub fn join(self: &Arc<Self>, key: &[u8]) -> Joined {
        let mut flights = self.shard(key);
        if let Some(state) = flights.get(key) {
            return Joined::Follows(Follower(state.clone()));
        }
        let (state, follow) = watch::channel(None);
        flights.insert(key.into(), follow);
        Joined::Leads(Leader {
            flights: self.clone(),
            key: key.into(),
            state,
        })
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let place = self.hasher.hash_one(key) % SHARDS;
        let shard = &self.shards[usize::try_from(place).unwrap_or_default()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader {
    /// Tells the others.
    pub fn land(self, landed: Landed) {
        self.end(landed);
    }

    fn end(&self, landed: Landed) {
        if self.state.borrow().is_none() {
            // Who comes from now on does not follow any more.
            self.flights.shard(&self.key).remove(&self.key);
            self.state.send_replace(Some(landed));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.end(Landed::Abandoned);
    }
}

impl Follower {
    /// Waits for the end.
    ///
    /// # Cancel safety
    /// It can be waited for again.
    pub async fn landed(&mut self) -> Landed {
        let state = self.0.wait_for(Option::is_some).await;
        state
            .ok()
            .and_then(|state| *state)
            .unwrap_or(Landed::Abandoned)
    }
}

const SHARDS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Arc<Flights>) -> Leader {
        match flights.join(b"k") {
            Joined::Leads(leader) => leader,
            Joined::Follows(_) => panic!("somebody leads"),
        }
    }

    fn follow(flights: &Arc<Flights>) -> Follower {
        match flights.join(b"k") {
            Joined::Leads(_) => panic!("nobody leads"),
            Joined::Follows(follower) => follower,
        }
    }

    #[tokio::test]
    async fn followers_hear_how_it_ended_and_the_next_one_leads() {
        let flights = Arc::new(Flights::default());
        for (landed, expected) in [
            (Some(Landed::Stored), Landed::Stored),
            (Some(Landed::Apart), Landed::Apart),
            (None, Landed::Abandoned),
        ] {
            let leader = lead(&flights);
            let (mut one, mut other) = (follow(&flights), follow(&flights));
            match landed {
                Some(landed) => leader.land(landed),
                None => drop(leader),
            }
            assert_eq!(one.landed().await, expected);
            assert_eq!(other.landed().await, expected);
        }
        assert!(
            flights
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
    }
}
