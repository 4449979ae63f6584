//! The proofs that were used and could be used again (RFC 9449 §11.1): exact, bounded, for all threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;

const SHARDS: usize = 64;
/// Below this a shard is not worth a sweep.
const FIRST_SWEEP: usize = 64;

/// SHA-256 of a key's thumbprint and a `jti`, cut to its first half.
pub(super) type ProofId = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    First,
    Again,
    /// Everything remembered is alive, and there is no room.
    Full,
}

pub(super) struct Replays {
    shards: Box<[Mutex<Shard>]>,
    max_a_shard: usize,
    entries: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    /// The last second at which each proof could be accepted.
    used: HashMap<ProofId, u64, RandomState>,
    sweep_at: usize,
    swept_at: Option<u64>,
}

impl Replays {
    pub fn new(max_entries: usize) -> Replays {
        Replays {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_a_shard: max_entries.div_ceil(SHARDS).max(1),
            entries: AtomicUsize::new(0),
        }
    }

    pub fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// Notes a proof that can be accepted up to `until`, that second included.
    pub fn note(&self, id: ProofId, until: u64, now: u64) -> Seen {
        let [first, ..] = id;
        let Some(shard) = self.shards.get(usize::from(first) % SHARDS) else { return Seen::Full };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.used.get_mut(&id) {
            if *known >= now {
                return Seen::Again;
            }
            *known = until;
            return Seen::First;
        }
        if shard.used.len() >= shard.sweep_at.max(FIRST_SWEEP).min(self.max_a_shard) {
            self.entries.fetch_sub(shard.sweep(now), Relaxed);
        }
        if shard.used.len() >= self.max_a_shard {
            return Seen::Full;
        }
        shard.used.insert(id, until);
        self.entries.fetch_add(1, Relaxed);
        Seen::First
    }
}

impl Shard {
    /// Forgets what cannot be accepted any more; how many that were. At most once a second: a full shard is not swept for each request.
    fn sweep(&mut self, now: u64) -> usize {
        if self.swept_at == Some(now) {
            return 0;
        }
        self.swept_at = Some(now);
        let before = self.used.len();
        self.used.retain(|_, until| *until >= now);
        let left = self.used.len();
        self.sweep_at = left.saturating_mul(2);
        if self.used.capacity() > left.saturating_mul(8) {
            self.used.shrink_to(left.saturating_mul(2));
        }
        before - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ProofId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        id
    }

    #[test]
    fn a_proof_counts_once_until_it_could_not_be_used_any_more() {
        let replays = Replays::new(1000);
        assert_eq!(replays.note(id(1), 160, 100), Seen::First);
        assert_eq!(replays.note(id(1), 160, 160), Seen::Again);
        assert_eq!(replays.note(id(2), 160, 160), Seen::First);
        assert_eq!(replays.note(id(1), 221, 161), Seen::First);
        assert_eq!(replays.note(id(1), 221, 200), Seen::Again);
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing_that_lives() {
        let replays = Replays::new(64 * 8);
        let first: Vec<u64> = (0..10_000).filter(|n| replays.note(id(*n), 160, 100) == Seen::First).collect();
        assert!(first.len() <= 64 * 8, "{}", first.len());
        assert_eq!(replays.entries(), first.len());
        assert_eq!(replays.note(id(64), 160, 100), Seen::Again);
        assert_eq!(replays.note(id(64 * 900), 160, 101), Seen::Full);
        for n in &first {
            assert_eq!(replays.note(id(*n), 160, 160), Seen::Again);
        }
    }

    #[test]
    fn what_has_expired_makes_room() {
        let replays = Replays::new(64 * 8);
        for n in 0..10_000 {
            replays.note(id(n), 160, 100);
        }
        assert_eq!(replays.note(id(20_000), 221, 161), Seen::First);
        assert!(replays.entries() < 64 * 8);
    }

    #[test]
    fn threads_that_bring_one_proof_get_it_accepted_once() {
        let replays = Replays::new(100_000);
        for round in 0..200 {
            let accepted = std::thread::scope(|scope| {
                let bring = || usize::from(replays.note(id(round), 160, 100) == Seen::First);
                let threads = [scope.spawn(bring), scope.spawn(bring), scope.spawn(bring)];
                threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
            });
            assert_eq!(accepted, 1);
        }
    }
}
