//! What one thread has for itself.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use crate::accept::{Balance, Seldom};
use crate::connection::StreamExecutor;
use crate::deadlines::Sweeper;
use crate::force::Held;
use crate::recycle::Places;
use crate::state::Shared;
use crate::upstream::Upstream;

/// HTTP/2 streams that were reset or refused and are still remembered; more end the connection.
const MAX_LOCAL_RESETS: usize = 128;
const MAX_PENDING_RESETS: usize = 20;
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(25);
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub balance: Arc<Balance>,
    pub sweeper: Sweeper,
    pub upstream: Upstream,
    pub http1: http1::Builder,
    pub http2: http2::Builder<StreamExecutor>,
    pub stop_accepting: tokio::sync::watch::Receiver<bool>,
    /// Memory of past exchanges.
    pub places: Places,
    shed_reports: Seldom,
    fault_reports: Seldom,
    force: RefCell<Held>,
}

impl Worker {
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        balance: Arc<Balance>,
        stop_accepting: tokio::sync::watch::Receiver<bool>,
    ) -> Worker {
        let limits = &shared.config.connections;
        let mut http1 = http1::Builder::new();
        // The head's deadline and its size are the guard's; these only back it up.
        http1.half_close(false).max_header_size(limits.max_header_bytes + 1_024);
        if limits.max_headers > 100 {
            http1.max_headers(limits.max_headers);
        }
        let mut http2 = http2::Builder::new(StreamExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let upstream = Upstream::new(Arc::new(shared.config.upstream.clone()), shared.upstream.clone());
        let force = RefCell::new(Held::new(shared.force.load_full()));
        Worker {
            index,
            shared,
            balance,
            sweeper: Sweeper::default(),
            upstream,
            http1,
            http2,
            stop_accepting,
            places: Places::default(),
            shed_reports: Seldom::default(),
            fault_reports: Seldom::default(),
            force,
        }
    }

    /// The bundle in force. Threads share one counter for it, so each takes it once and counts its own requests.
    pub fn force(&self) -> Held {
        let current = self.shared.force.load();
        let mut mine = self.force.borrow_mut();
        if !mine.is(&current) {
            *mine = Held::new(current.clone());
        }
        mine.clone()
    }

    /// Whether nothing is left to wait for; tunnels count as requests.
    pub fn is_idle(&self) -> bool {
        let load = self.balance.loads.get(self.index).map_or(0, |load| load.load(Relaxed));
        load == 0 && self.shared.in_flight.sum() == 0
    }

    pub fn may_report_shed(&self) -> bool {
        self.shed_reports.now()
    }

    pub fn may_report_fault(&self) -> bool {
        self.fault_reports.now()
    }
}
