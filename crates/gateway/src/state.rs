//! What all threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use stockade_engine::{Limiter, Plan};

use crate::config::Config;

/// A bundle in force, with what status and events say about it.
pub struct Force {
    pub plan: Plan,
    pub serial: u64,
    /// Lower-case hex of the payload's digest.
    pub sha256: String,
    pub self_check_cases: usize,
    pub self_check_milliseconds: u64,
}

pub struct Shared {
    pub config: Arc<Config>,
    pub force: ArcSwap<Force>,
    pub limiter: Limiter,
    pub ready: AtomicBool,
    pub connections: AtomicUsize,
    pub in_flight: AtomicUsize,
    pub buffered_bytes: AtomicUsize,
    /// Set to start a drain; see [`Shared::drain`].
    pub drain: tokio::sync::watch::Sender<bool>,
}

/// What the admin interface and signals ask of the process; each answers once done.
impl Shared {
    /// Starts the soft drain; a second call changes nothing.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }
}
