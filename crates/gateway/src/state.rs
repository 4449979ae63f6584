//! What all threads share.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use stockade_engine::{Limiter, Proofs};
use tokio::sync::watch;

use crate::accept::Places;
use crate::admin::{self, Control, Loaded, SelfCheck, Status};
use crate::config::Config;
use crate::events::{Event, Events, Kind, Outcome};
use crate::force;
pub use crate::force::Force;
use crate::identity::Credentials;
use crate::metrics::Metrics;
use crate::tls;
use crate::upstream::UpstreamShared;

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    No,
    /// Answers say `Connection: close`; then connections end gracefully.
    Soft,
    /// Everything stops at once.
    Now,
}

/// Requests in flight, counted by each thread on a cache line of its own.
pub struct InFlightCounts(Box<[Line]>);

#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicUsize);

impl InFlightCounts {
    fn new(threads: usize) -> InFlightCounts {
        InFlightCounts((0..threads).map(|_| Line::default()).collect())
    }

    pub fn begin(&self, thread: usize) {
        if let Some(line) = self.0.get(thread) {
            line.0.fetch_add(1, Relaxed);
        }
    }

    pub fn end(&self, thread: usize) {
        if let Some(line) = self.0.get(thread) {
            line.0.fetch_sub(1, Relaxed);
        }
    }

    pub fn sum(&self) -> usize {
        self.0.iter().map(|line| line.0.load(Relaxed)).sum()
    }
}

pub struct Shared {
    pub config: Arc<Config>,
    /// Requests finish on the bundle they began with.
    pub force: ArcSwap<Force>,
    /// One bundle is offered at a time.
    offering: Mutex<()>,
    pub limiter: Limiter,
    pub proofs: Arc<Proofs>,
    pub events: Arc<Events>,
    pub metrics: Arc<Metrics>,
    /// Absent where no authorization server is configured: no credential can be verified.
    pub credentials: Option<Arc<Credentials>>,
    pub upstream: Arc<UpstreamShared>,
    /// Absent: clear text.
    pub tls: Option<ArcSwap<ServerConfig>>,
    pub places: Arc<Places>,
    pub in_flight: InFlightCounts,
    pub buffered_bytes: AtomicUsize,
    pub ready: AtomicBool,
    pub drain: watch::Sender<Drain>,
    started: Instant,
}

/// The parts that are made before the process can serve.
pub struct Parts {
    pub config: Arc<Config>,
    pub force: Force,
    pub proofs: Proofs,
    pub events: Arc<Events>,
    pub metrics: Arc<Metrics>,
    pub credentials: Option<Arc<Credentials>>,
    pub upstream: Arc<UpstreamShared>,
    pub tls: Option<ServerConfig>,
}

impl Shared {
    pub fn new(parts: Parts) -> Shared {
        let proofs = Arc::new(parts.proofs);
        let counted = proofs.clone();
        parts.metrics.read_at_scrape(
            "stockade_dpop_proof_entries",
            "Used proofs that could be used again.",
            move || counted.used() as f64,
        );
        if let Some(credentials) = &parts.credentials {
            credentials.probe(parts.force.plan.audience());
        }
        parts.metrics.bundle_serial.set(i64::try_from(parts.force.serial).unwrap_or(i64::MAX));
        Shared {
            limiter: Limiter::new(parts.force.plan.max_tracked_keys()),
            force: ArcSwap::from_pointee(parts.force),
            proofs,
            offering: Mutex::new(()),
            events: parts.events,
            metrics: parts.metrics,
            credentials: parts.credentials,
            upstream: parts.upstream,
            tls: parts.tls.map(ArcSwap::from_pointee),
            places: Places::new(&parts.config.connections),
            in_flight: InFlightCounts::new(parts.config.threads),
            config: parts.config,
            buffered_bytes: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
            drain: watch::Sender::new(Drain::No),
            started: Instant::now(),
        }
    }

    /// Whether `address` may speak for others.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.config.listen.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    pub fn draining(&self) -> bool {
        *self.drain.borrow() != Drain::No
    }

    /// Moves the drain on; it never goes back.
    pub fn drain_to(&self, stage: Drain) {
        self.drain.send_if_modified(|now| {
            let later = *now < stage;
            *now = stage.max(*now);
            later
        });
    }

    /// A monotonic clock's reading for the limiter.
    pub fn now_nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads every certificate again; each takes effect for connections to come. What cannot be read stays as it was.
    fn reload(&self) -> Result<(), String> {
        if let (Some(current), Some(files)) = (&self.tls, &self.config.listen.tls) {
            current.store(Arc::new(tls::server_config(files).map_err(|error| error.to_string())?));
        }
        self.upstream.reload().map_err(|error| error.to_string())?;
        self.credentials.as_ref().map_or(Ok(()), |credentials| credentials.reload().map_err(|error| error.to_string()))
    }

    fn offer(&self, path: &Path) -> Result<Loaded, String> {
        let _alone = self.offering.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let in_force = self.force.load_full();
        let force = force::read(path, &self.config, &self.metrics).map_err(|error| error.to_string())?;
        if force.serial < in_force.serial {
            return Err(format!("the bundle is older: serial {} is in force, not {}", in_force.serial, force.serial));
        }
        if force.serial == in_force.serial && force.sha256 != in_force.sha256 {
            return Err(format!("another bundle with serial {} is in force", force.serial));
        }
        if force.plan.audience() != in_force.plan.audience()
            && let Some(credentials) = &self.credentials
        {
            credentials.forget();
            credentials.probe(force.plan.audience());
        }
        let (serial, sha256) = (force.serial, force.sha256.clone());
        self.force.store(Arc::new(force));
        self.metrics.bundle_serial.set(i64::try_from(serial).unwrap_or(i64::MAX));
        self.metrics.bundle_swap_seconds.observe(started.elapsed());
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Loaded { serial, sha256, milliseconds })
    }
}

impl Control for Shared {
    fn status(&self) -> Status {
        let force = self.force.load();
        Status {
            ready: self.ready.load(Relaxed) && !self.draining(),
            bundle: admin::Bundle { serial: force.serial, sha256: force.sha256.clone() },
            connections: self.places.open(),
            in_flight: self.in_flight.sum(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            self_check: SelfCheck { cases: force.self_check_cases, milliseconds: force.self_check_milliseconds },
        }
    }

    fn metrics(&self) -> String {
        self.metrics.in_flight.set(i64::try_from(self.in_flight.sum()).unwrap_or(i64::MAX));
        self.metrics.encode()
    }

    fn load_bundle(&self, path: &Path) -> Result<Loaded, String> {
        let result = self.offer(path);
        let mut event = Event::new(Kind::Bundle, if result.is_ok() { Outcome::Allow } else { Outcome::Error });
        match &result {
            Ok(loaded) => {
                self.metrics.bundle_swaps_ok.inc();
                event.serial = Some(loaded.serial);
                event.bundle = loaded.sha256.get(..16).map(|digest| digest.to_owned().into());
            }
            Err(error) => {
                self.metrics.bundle_swaps_refused.inc();
                event.detail = Some(error.clone().into());
            }
        }
        self.events.emit(event);
        result
    }

    fn reload_certificates(&self) -> Result<(), String> {
        let result = self.reload();
        match result {
            Ok(()) => self.metrics.certificates_ok.inc(),
            Err(_) => self.metrics.certificates_refused.inc(),
        }
        result
    }

    fn drain(&self) {
        self.drain_to(Drain::Soft);
    }
}
