//! GCRA over a bounded, sharded table.

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
    pub limit: u32,
    pub remaining: u32,
    /// Until the whole burst is available again.
    pub reset_seconds: u64,
    /// Until the next request would be admitted; 0 when this one was.
    pub retry_after_seconds: u64,
}

/// The state of all limits of one process. Shared by all threads.
pub struct Limiter {}

impl Limiter {
    /// A table for at most `max_keys` keys, hashed with this process's own random seed.
    pub fn new(_max_keys: usize) -> Limiter {
        todo!()
    }

    /// Admits or refuses one request. `now_nanos` is a monotonic clock's reading.
    pub fn check(&self, _key: u128, _quota: &Quota, _now_nanos: u64) -> LimitState {
        todo!()
    }

    /// A table key: a keyed hash of `parts` in `space` (one number per kind of limit).
    pub fn key(&self, _space: u8, _parts: &[&[u8]]) -> u128 {
        todo!()
    }

    /// How many keys are tracked.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether no key is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many live keys had to be forgotten because the table was full.
    pub fn evictions(&self) -> u64 {
        todo!()
    }
}
