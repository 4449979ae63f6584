//! What the threads have in common: endpoints with their health and addresses, the cap on connections, TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::uri::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::{Notify, Semaphore};

use super::tls;
use crate::config;
use crate::events::{Event, Events, Kind, Outcome};
use crate::metrics::Metrics;

/// How long a name's addresses are believed. The system's resolver does not tell the record's own time.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// An endpoint that fails its trials stays out for at most this many times `eject_seconds`.
const MAX_EJECT_FACTOR: u32 = 8;

/// Why an upstream's configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamConfigError {
    #[error("endpoint `{0}`: {1}")]
    Endpoint(String, &'static str),
    #[error("cannot read `{0}`: {1}")]
    Read(PathBuf, String),
    #[error("{0}")]
    Tls(String),
}

/// One for all threads; see [`super::Upstream`].
pub struct UpstreamShared {
    pub(super) endpoints: Box<[Endpoint]>,
    /// Connections that may still be opened.
    pub(super) places: Arc<Semaphore>,
    /// Requests that wait because all places are taken.
    pub(super) starving: AtomicUsize,
    /// Asks every thread to close what is idle, as somebody is starving.
    pub(super) pressure: Notify,
    pub(super) metrics: Arc<Metrics>,
    client: ArcSwapOption<ClientConfig>,
    config: Arc<config::Upstream>,
    tls13_only: bool,
    ejected: AtomicUsize,
    events: Option<Arc<Events>>,
    started: Instant,
}

impl UpstreamShared {
    /// Parses the endpoints and reads the certificates. `events` gets a line for each ejection and return.
    pub fn new(
        config: Arc<config::Upstream>,
        metrics: Arc<Metrics>,
        events: Option<Arc<Events>>,
    ) -> Result<UpstreamShared, UpstreamConfigError> {
        UpstreamShared::build(config, metrics, events, false)
    }

    /// As `new`, for a peer of which TLS 1.3 is demanded.
    pub(crate) fn new_tls13(
        config: Arc<config::Upstream>,
        metrics: Arc<Metrics>,
    ) -> Result<UpstreamShared, UpstreamConfigError> {
        UpstreamShared::build(config, metrics, None, true)
    }

    fn build(
        config: Arc<config::Upstream>,
        metrics: Arc<Metrics>,
        events: Option<Arc<Events>>,
        tls13_only: bool,
    ) -> Result<UpstreamShared, UpstreamConfigError> {
        let endpoints: Result<Box<[_]>, _> =
            config.endpoints.iter().map(|url| Endpoint::parse(url, config.tls.server_name.as_deref())).collect();
        let places = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let shared = UpstreamShared {
            endpoints: endpoints?,
            places: Arc::new(Semaphore::new(places)),
            starving: AtomicUsize::new(0),
            pressure: Notify::new(),
            metrics,
            client: ArcSwapOption::empty(),
            config,
            tls13_only,
            ejected: AtomicUsize::new(0),
            events,
            started: Instant::now(),
        };
        shared.reload()?;
        Ok(shared)
    }

    /// Reads the CA set and the client certificate again, for connections to come. On an error nothing changes.
    pub fn reload(&self) -> Result<(), UpstreamConfigError> {
        if self.endpoints.iter().any(|endpoint| endpoint.tls) {
            let http2 = self.config.protocol == config::UpstreamProtocol::Http2;
            self.client.store(Some(Arc::new(tls::client_config(&self.config.tls, http2, self.tls13_only)?)));
        }
        Ok(())
    }

    pub(super) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.client.load_full()
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether an endpoint is in use, may be tried again by whoever gets [`Standing::Trial`], or stays out.
    pub(super) fn standing(&self, index: usize) -> Standing {
        let health = &self.endpoints[index].health;
        let until = health.ejected_until.load(Relaxed);
        if until == 0 {
            Standing::In
        } else if self.now_millis() >= until && !health.trial.swap(true, Relaxed) {
            Standing::Trial
        } else {
            Standing::Out
        }
    }

    pub(super) fn trial_given_up(&self, index: usize) {
        self.endpoints[index].health.trial.store(false, Relaxed);
    }

    pub(super) fn succeeded(&self, index: usize, trial: bool) {
        let health = &self.endpoints[index].health;
        if health.failures.load(Relaxed) != 0 {
            health.failures.store(0, Relaxed);
        }
        if trial && health.ejected_until.swap(0, Relaxed) != 0 {
            health.ejections.store(0, Relaxed);
            self.ejected.fetch_sub(1, Relaxed);
            self.report(index, Outcome::Allow, "the endpoint answers again");
        }
        if trial {
            health.trial.store(false, Relaxed);
        }
    }

    pub(super) fn failed(&self, index: usize, trial: bool) {
        let health = &self.endpoints[index].health;
        let failures = health.failures.fetch_add(1, Relaxed).saturating_add(1);
        if trial {
            health.ejected_until.store(self.eject_until(health), Relaxed);
            health.trial.store(false, Relaxed);
        } else if failures >= self.config.eject_after_failures.max(1) && self.take_ejection() {
            let until = self.eject_until(health);
            if health.ejected_until.compare_exchange(0, until, Relaxed, Relaxed).is_ok() {
                self.metrics.upstream_ejections.inc();
                self.report(index, Outcome::Error, "the endpoint is taken out after failures in a row");
            } else {
                self.ejected.fetch_sub(1, Relaxed);
            }
        }
    }

    /// One endpoint always stays in: a gate that refuses all would turn a bad upstream into none.
    fn take_ejection(&self) -> bool {
        let most = self.endpoints.len() - 1;
        self.ejected.fetch_update(Relaxed, Relaxed, |ejected| (ejected < most).then_some(ejected + 1)).is_ok()
    }

    /// Twice as long after each trial that failed.
    fn eject_until(&self, health: &Health) -> u64 {
        let ejections = health.ejections.fetch_add(1, Relaxed);
        let factor = 1_u32.checked_shl(ejections).unwrap_or(MAX_EJECT_FACTOR).clamp(1, MAX_EJECT_FACTOR);
        let millis = self.config.eject_seconds.saturating_mul(1000).saturating_mul(u64::from(factor));
        self.now_millis().saturating_add(millis).max(1)
    }

    fn report(&self, index: usize, outcome: Outcome, what: &str) {
        if let Some(events) = &self.events {
            let mut event = Event::new(Kind::Upstream, outcome);
            event.detail = Some(format!("{what}: {}", self.endpoints[index].url).into());
            events.emit(event);
        }
    }
}

pub(super) enum Standing {
    In,
    Trial,
    Out,
}

/// One `http(s)://host:port[/prefix]`.
pub(super) struct Endpoint {
    /// Without credentials, as they are refused; for events.
    url: String,
    pub(super) tls: bool,
    authority: String,
    /// Without a slash at its end.
    pub(super) prefix: String,
    pub(super) server_name: Option<ServerName<'static>>,
    host: String,
    port: u16,
    resolved: Mutex<Resolved>,
    health: Health,
}

#[derive(Default)]
struct Health {
    failures: AtomicU32,
    /// Milliseconds since the start; 0: in use.
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    trial: AtomicBool,
}

#[derive(Default)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    at: Option<Instant>,
    turn: usize,
}

impl Endpoint {
    fn parse(url: &str, server_name: Option<&str>) -> Result<Endpoint, UpstreamConfigError> {
        // The text may hold a password that somebody put there; only the part behind it is repeated.
        let shown = url.rsplit('@').next().unwrap_or_default();
        let refuse = |what| UpstreamConfigError::Endpoint(shown.to_owned(), what);
        let uri: Uri = url.parse().map_err(|_| refuse("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("the scheme must be http or https")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(refuse("neither credentials nor a query may stand here"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            None => return Err(refuse("the port is not a number")),
        };
        if host.is_empty() || port == 0 {
            return Err(refuse("no host or no port"));
        }
        let server_name = match tls {
            true => Some(
                ServerName::try_from(server_name.unwrap_or(&host).to_owned())
                    .map_err(|_| refuse("the name cannot stand in a certificate"))?,
            ),
            false => None,
        };
        Ok(Endpoint {
            url: shown.to_owned(),
            tls,
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            server_name,
            host,
            port,
            resolved: Mutex::default(),
            health: Health::default(),
        })
    }

    /// A new copy of the value for `Host`.
    pub(super) fn host_header(&self) -> HeaderValue {
        // An authority consists of characters that may stand in a header.
        HeaderValue::from_str(&self.authority).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The addresses to try, in order; another one comes first each time. Asks the resolver again after a while, or after
    /// [`Endpoint::forget_addresses`]; while the resolver fails, what it said last goes on.
    pub(super) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let known = {
            let mut resolved = self.lock_resolved();
            let fresh = resolved.at.is_some_and(|at| at.elapsed() < RESOLVED_FOR);
            (fresh && !resolved.addresses.is_empty()).then(|| resolved.next())
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut resolved = self.lock_resolved();
        match found.map(Iterator::collect::<Vec<_>>) {
            Ok(addresses) if !addresses.is_empty() => {
                resolved.addresses = addresses;
                resolved.at = Some(Instant::now());
                Ok(resolved.next())
            }
            _ if !resolved.addresses.is_empty() => Ok(resolved.next()),
            Ok(_) => Err(std::io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        }
    }

    /// After a failed connect: the name may point elsewhere by now.
    pub(super) fn forget_addresses(&self) {
        self.lock_resolved().at = None;
    }

    fn lock_resolved(&self) -> std::sync::MutexGuard<'_, Resolved> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolved {
    fn next(&mut self) -> Vec<SocketAddr> {
        self.turn = self.turn.wrapping_add(1);
        let mut addresses = self.addresses.clone();
        let first = self.turn % addresses.len().max(1);
        addresses.rotate_left(first);
        addresses
    }
}
