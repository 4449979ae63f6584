//! GCRA (ITU-T I.371, "virtual scheduling") over a bounded, sharded table.
//!
//! A key's whole state is one number, its theoretical arrival time (TAT): the moment at which its burst would be
//! full again. A TAT in the past says nothing that an absent key does not say, so such entries may be dropped.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

const NANOS: u64 = 1_000_000_000;
const MAX_SHARDS: usize = 64;
/// How many entries of a full shard are looked at to find one to forget.
const SAMPLE: usize = 8;
/// A full shard is searched through for dead entries at most this often.
const SWEEP_NANOS: u64 = NANOS;

/// At most `requests` in any `period_seconds` in the long run, and `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub requests: u32,
    pub period_seconds: u32,
    pub burst: u32,
}

/// What one check found; the fields feed `RateLimit` and `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    pub allowed: bool,
    /// The quota's `requests`.
    pub limit: u32,
    /// How many more would be admitted now.
    pub remaining: u32,
    /// Until the whole burst is available again.
    pub reset_seconds: u64,
    /// Until the next request would be admitted; 0 when this one was.
    pub retry_after_seconds: u64,
}

/// The state of all limits of one process. Shared by all threads.
pub struct Limiter {
    shards: Vec<Mutex<Shard>>,
    low: RandomState,
    high: RandomState,
    evictions: AtomicU64,
}

impl Limiter {
    /// A table for at most `max_keys` keys, hashed with this process's own random seed.
    pub fn new(max_keys: usize) -> Limiter {
        Limiter::with_hashers(max_keys, RandomState::new(), RandomState::new())
    }

    /// The same with a given seed, for repeatable tests.
    pub fn new_seeded(max_keys: usize, seed: u64) -> Limiter {
        let low = RandomState::with_seeds(seed, 1, 2, 3);
        Limiter::with_hashers(max_keys, low, RandomState::with_seeds(seed, 4, 5, 6))
    }

    fn with_hashers(max_keys: usize, low: RandomState, high: RandomState) -> Limiter {
        // Small tables are not split: a shard's share must stay worth sampling.
        let shards = (max_keys / (SAMPLE * 8)).clamp(1, MAX_SHARDS);
        let share = (max_keys / shards).max(1);
        let shards = (0..shards).map(|_| Mutex::new(Shard::new(share))).collect();
        Limiter { shards, low, high, evictions: AtomicU64::new(0) }
    }

    /// A table key: a keyed hash of `parts` in `space` (one number per kind of limit). Parts do not run into each other.
    pub fn key(&self, space: u8, parts: &[&[u8]]) -> u128 {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write_u8(space);
            for part in parts {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            hasher.finish()
        };
        u128::from(half(&self.high)) << 64 | u128::from(half(&self.low))
    }

    /// Admits or refuses one request. `now_nanos` is a monotonic clock's reading; should it fall back,
    /// a key is refused for at most the time its burst takes to refill.
    pub fn check(&self, key: u128, quota: &Quota, now_nanos: u64) -> LimitState {
        let Some(pace) = Pace::of(quota) else {
            return LimitState {
                allowed: false,
                limit: quota.requests,
                remaining: 0,
                reset_seconds: u64::from(quota.period_seconds.max(1)),
                retry_after_seconds: u64::from(quota.period_seconds.max(1)),
            };
        };
        let mut shard = self.shard(key);
        let slot = shard.find(key);
        let tat = slot.map_or(0, |slot| shard.tat(slot));
        let (next, state) = pace.admit(tat, quota, now_nanos);
        match slot {
            Some(slot) => shard.set(slot, next),
            None => {
                if shard.insert(key, next, now_nanos) == Inserted::OverLiveKey {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        state
    }

    /// How many keys are tracked.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).used).sum()
    }

    /// Whether no key is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many live keys had to be forgotten because the table was full.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        let index = (key >> 96) as usize % self.shards.len();
        lock(&self.shards[index])
    }
}

/// A poisoned lock is taken all the same: every state of a shard is a valid one.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A quota in nanoseconds.
struct Pace {
    /// Between two requests at the sustained rate, rounded up: never a request too many.
    interval: u64,
    /// How far a TAT may run ahead of the clock: the whole burst.
    window: u64,
}

impl Pace {
    /// `None` for a quota that admits nothing.
    fn of(quota: &Quota) -> Option<Pace> {
        if quota.requests == 0 || quota.burst == 0 {
            return None;
        }
        let period = u64::from(quota.period_seconds.max(1)) * NANOS;
        let interval = period.div_ceil(u64::from(quota.requests));
        Some(Pace { interval, window: interval.saturating_mul(u64::from(quota.burst)) })
    }

    /// The key's next TAT, and what to tell the caller.
    fn admit(&self, tat: u64, quota: &Quota, now: u64) -> (u64, LimitState) {
        // A TAT further ahead than a full burst comes from a clock that fell back, or from a quota since tightened.
        let current = tat.clamp(now, now.saturating_add(self.window));
        let after = current.saturating_add(self.interval);
        let allowed = after - now <= self.window;
        let next = if allowed { after } else { current };
        let ahead = next - now;
        let state = LimitState {
            allowed,
            limit: quota.requests,
            remaining: u32::try_from((self.window - ahead) / self.interval).unwrap_or(u32::MAX),
            reset_seconds: ahead.div_ceil(NANOS),
            retry_after_seconds: if allowed { 0 } else { (after - now - self.window).div_ceil(NANOS).max(1) },
        };
        (next, state)
    }
}

/// An open-addressing table with linear probing: three words an entry, a TAT of 0 marks a free slot.
struct Shard {
    slots: Vec<Entry>,
    used: usize,
    capacity: usize,
    sampled: usize,
    swept_at: u64,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    high: u64,
    low: u64,
    tat: u64,
}

#[derive(PartialEq, Eq)]
enum Inserted {
    Freely,
    OverLiveKey,
}

impl Shard {
    fn new(capacity: usize) -> Shard {
        Shard { slots: vec![Entry::default(); 8], used: 0, capacity, sampled: 0, swept_at: 0 }
    }

    fn tat(&self, slot: usize) -> u64 {
        self.slots[slot].tat
    }

    fn set(&mut self, slot: usize, tat: u64) {
        self.slots[slot].tat = tat.max(1);
    }

    fn home(&self, low: u64) -> usize {
        low as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn find(&self, key: u128) -> Option<usize> {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let mut slot = self.home(low);
        // INVARIANT: at least one slot is free (`grow`), so the probe ends.
        loop {
            let entry = self.slots[slot];
            if entry.tat == 0 {
                return None;
            }
            if (entry.high, entry.low) == (high, low) {
                return Some(slot);
            }
            slot = self.after(slot);
        }
    }

    /// Adds a key that is not there.
    fn insert(&mut self, key: u128, tat: u64, now: u64) -> Inserted {
        let mut inserted = Inserted::Freely;
        if self.used >= self.capacity && now >= self.swept_at.saturating_add(SWEEP_NANOS) {
            self.swept_at = now;
            self.rebuild(self.slots.len(), now);
        }
        if self.used >= self.capacity {
            let victim = self.sample_oldest();
            if self.tat(victim) > now {
                inserted = Inserted::OverLiveKey;
            }
            self.remove(victim);
        }
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.grow(now);
        }
        self.place(Entry { high: (key >> 64) as u64, low: key as u64, tat: tat.max(1) });
        inserted
    }

    fn place(&mut self, entry: Entry) {
        let mut slot = self.home(entry.low);
        while self.slots[slot].tat != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = entry;
        self.used += 1;
    }

    /// Drops what is dead; doubles only when the living need it.
    fn grow(&mut self, now: u64) {
        let living = self.slots.iter().filter(|entry| entry.tat > now).count();
        let slots = if (living + 1) * 2 > self.slots.len() { self.slots.len() * 2 } else { self.slots.len() };
        self.rebuild(slots, now);
    }

    fn rebuild(&mut self, slots: usize, now: u64) {
        let old = std::mem::replace(&mut self.slots, vec![Entry::default(); slots]);
        self.used = 0;
        for entry in old.into_iter().filter(|entry| entry.tat > now) {
            self.place(entry);
        }
    }

    /// The entry with the oldest TAT among the next few; the hash scatters keys, so any run of slots is a fair sample.
    fn sample_oldest(&mut self) -> usize {
        let mut oldest: Option<usize> = None;
        let mut seen = 0;
        let mut slot = self.sampled & (self.slots.len() - 1);
        for _ in 0..self.slots.len() {
            let tat = self.tat(slot);
            if tat != 0 {
                seen += 1;
                if oldest.is_none_or(|best| tat < self.tat(best)) {
                    oldest = Some(slot);
                }
            }
            slot = self.after(slot);
            if seen == SAMPLE {
                break;
            }
        }
        self.sampled = slot;
        oldest.unwrap_or(0)
    }

    /// Frees a slot and moves the entries that probed past it back (Knuth, TAOCP 6.4, algorithm R).
    fn remove(&mut self, slot: usize) {
        let mask = self.slots.len() - 1;
        let mut hole = slot;
        let mut next = self.after(slot);
        while self.slots[next].tat != 0 {
            let home = self.home(self.slots[next].low);
            // `next` may fill the hole unless its home lies cyclically in (hole, next].
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = Entry::default();
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicUsize;

    const PER_MINUTE: Quota = Quota { requests: 60, period_seconds: 60, burst: 10 };

    /// Small, seeded and good enough to mix cases.
    pub(crate) struct Xorshift(pub u64);

    impl Xorshift {
        pub fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_per_interval() {
        let limiter = Limiter::new_seeded(1000, 1);
        let key = limiter.key(0, &[b"a"]);
        for left in (0..10).rev() {
            let state = limiter.check(key, &PER_MINUTE, NANOS);
            assert!(state.allowed);
            assert_eq!(state.remaining, left);
        }
        let refused = limiter.check(key, &PER_MINUTE, NANOS);
        assert_eq!((refused.allowed, refused.retry_after_seconds, refused.reset_seconds), (false, 1, 10));
        assert!(!limiter.check(key, &PER_MINUTE, 2 * NANOS - 1).allowed);
        assert!(limiter.check(key, &PER_MINUTE, 2 * NANOS).allowed);
        assert!(!limiter.check(key, &PER_MINUTE, 2 * NANOS).allowed);
        assert!(limiter.check(limiter.key(0, &[b"b"]), &PER_MINUTE, NANOS).allowed);
    }

    #[test]
    fn parallel_calls_admit_exactly_the_burst() {
        let limiter = Limiter::new(10_000);
        let quota = Quota { requests: 1, period_seconds: 3600, burst: 777 };
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (limiter, admitted, quota) = (&limiter, &admitted, &quota);
                scope.spawn(move || {
                    let key = limiter.key(1, &[b"client"]);
                    for call in 0..500u64 {
                        if limiter.check(key, quota, 1 + call * 3 + thread).allowed {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 777);
    }

    /// The plain model: a bucket of `burst` tokens, refilled by exact rational arithmetic.
    struct Bucket {
        // In units of nanoseconds of credit; one request costs one interval.
        credit: u64,
        at: u64,
    }

    #[test]
    fn it_agrees_with_a_plain_token_bucket() {
        let mut random = Xorshift(42);
        for round in 0..200 {
            let quota = Quota {
                requests: 1 + (random.next() % 50) as u32,
                period_seconds: 1 + (random.next() % 100) as u32,
                burst: 1 + (random.next() % 20) as u32,
            };
            let interval = (u64::from(quota.period_seconds) * NANOS).div_ceil(u64::from(quota.requests));
            let limiter = Limiter::new_seeded(100, round);
            let mut model: HashMap<u64, Bucket> = HashMap::new();
            let mut now = NANOS;
            for _ in 0..300 {
                now += random.next() % (interval * 2);
                let id = random.next() % 3;
                let full = interval * u64::from(quota.burst);
                let bucket = model.entry(id).or_insert(Bucket { credit: full, at: now });
                bucket.credit = (bucket.credit + (now - bucket.at)).min(full);
                bucket.at = now;
                let expected = bucket.credit >= interval;
                if expected {
                    bucket.credit -= interval;
                }
                let state = limiter.check(limiter.key(0, &[&id.to_be_bytes()]), &quota, now);
                assert_eq!(state.allowed, expected, "round {round}, {quota:?}");
                assert_eq!(u64::from(state.remaining), bucket.credit / interval);
                assert_eq!(state.reset_seconds, (full - bucket.credit).div_ceil(NANOS));
            }
        }
    }

    #[test]
    fn millions_of_keys_stay_bounded() {
        let limiter = Limiter::new_seeded(50_000, 3);
        for id in 0..2_000_000u64 {
            assert!(limiter.check(limiter.key(0, &[&id.to_be_bytes()]), &PER_MINUTE, NANOS).allowed);
        }
        assert!(limiter.len() <= 50_000, "{}", limiter.len());
        assert!(limiter.evictions() >= 1_900_000);
        let slots: usize = limiter.shards.iter().map(|shard| lock(shard).slots.len()).sum();
        assert!(slots <= 50_000 * 4, "{slots}");
    }

    #[test]
    fn dead_keys_make_room_before_living_ones() {
        let limiter = Limiter::new_seeded(6_400, 3);
        let quota = Quota { requests: 1, period_seconds: 1, burst: 1 };
        for id in 0..4_500u64 {
            limiter.check(limiter.key(0, &[&id.to_be_bytes()]), &quota, NANOS);
        }
        for id in 10_000..14_500u64 {
            limiter.check(limiter.key(0, &[&id.to_be_bytes()]), &quota, 10 * NANOS);
        }
        assert_eq!(limiter.evictions(), 0);
    }

    #[test]
    fn a_full_table_forgets_the_key_that_matters_least() {
        let limiter = Limiter::new_seeded(8, 5);
        let slow = Quota { requests: 1, period_seconds: 1000, burst: 1 };
        let quick = Quota { requests: 1, period_seconds: 10, burst: 1 };
        let heavy = limiter.key(0, &[b"heavy"]);
        assert!(limiter.check(heavy, &slow, NANOS).allowed);
        for id in 0..100u64 {
            limiter.check(limiter.key(1, &[&id.to_be_bytes()]), &quick, NANOS);
        }
        assert!(!limiter.check(heavy, &slow, NANOS).allowed);
    }

    #[test]
    fn a_clock_that_falls_back_neither_opens_the_gate_nor_closes_it_for_long() {
        let limiter = Limiter::new_seeded(100, 7);
        let key = limiter.key(0, &[b"a"]);
        for _ in 0..10 {
            assert!(limiter.check(key, &PER_MINUTE, 1_000_000 * NANOS).allowed);
        }
        assert!(!limiter.check(key, &PER_MINUTE, NANOS).allowed);
        assert!(!limiter.check(key, &PER_MINUTE, 0).allowed);
        assert!(limiter.check(key, &PER_MINUTE, 11 * NANOS).allowed);
    }

    #[test]
    fn extreme_quotas_and_times_do_not_panic() {
        let limiter = Limiter::new_seeded(100, 7);
        for requests in [0, 1, u32::MAX] {
            for period_seconds in [0, 1, u32::MAX] {
                for burst in [0, 1, u32::MAX] {
                    let quota = Quota { requests, period_seconds, burst };
                    let key = limiter.key(0, &[&requests.to_be_bytes(), &period_seconds.to_be_bytes()]);
                    for now in [0, 1, u64::MAX / 2, u64::MAX, 0] {
                        let state = limiter.check(key, &quota, now);
                        assert!(!state.allowed || (requests > 0 && burst > 0));
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let limiter = Limiter::new(10);
        assert_ne!(limiter.key(0, &[b"ab", b"c"]), limiter.key(0, &[b"a", b"bc"]));
        assert_ne!(limiter.key(0, &[b"a"]), limiter.key(1, &[b"a"]));
    }

    #[test]
    fn removal_keeps_every_other_key_findable() {
        let mut shard = Shard::new(1000);
        let mut random = Xorshift(9);
        let mut model: HashMap<u128, u64> = HashMap::new();
        for step in 0..20_000u64 {
            let key = u128::from(random.next() % 64) << 64 | u128::from(random.next() % 16);
            if let Some(slot) = shard.find(key) {
                assert_eq!(Some(&shard.tat(slot)), model.get(&key));
                shard.remove(slot);
                model.remove(&key);
            } else {
                assert!(!model.contains_key(&key));
                shard.insert(key, step + 1, 0);
                model.insert(key, step + 1);
            }
            assert_eq!(shard.used, model.len());
        }
        assert!(model.keys().all(|key| shard.find(*key).is_some()));
    }
}
