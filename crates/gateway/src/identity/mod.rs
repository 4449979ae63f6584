//! What a credential is worth: asked of the authorization server once, remembered for a while, forgotten when it is revoked.
//!
//! ```text
//! data threads                     one background thread
//! cached ─▶ cache (by SHA-256) ◀── answers, revocations
//! resolve ──── question ─────────▶ one introspection a credential ─▶ POST /internal/introspect
//!                                  the feed ───────────────────────▶ GET /internal/revocations (long poll)
//! ```
//!
//! Failing closed: while the feed is silent for longer than `stale_seconds` nothing remembered is used; what cannot be asked is
//! [`Unavailable`]. Everything that fills or empties the cache runs on the background thread, so an answer that a revocation overtook
//! is seen and asked for again (see `worker.rs`).

pub(crate) mod answer;
mod canary;
mod feed;
mod worker;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use http::HeaderValue;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use stockade_engine::{CredentialKind, Identity};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::config;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::upstream::{UpstreamConfigError, UpstreamShared};

/// How long an invalid credential is known to be invalid, and how many of them.
const INVALID_FOR: Duration = Duration::from_secs(2);
const MAX_INVALID: usize = 16_384;
/// Questions on their way to the background thread.
const MAX_QUESTIONS: usize = 8_192;
const RETRY_AFTER_SECONDS: u64 = 2;

/// A credential that the authorization server vouched for.
pub struct Verified {
    pub identity: Identity,
    roots: Roots,
    /// `Bearer` and the internal token, for the upstream; marked sensitive.
    pub internal_token: HeaderValue,
    /// The credential's own digest.
    digest: Key,
    /// By the monotonic clock.
    usable_until: Instant,
    /// NumericDate, by the wall clock.
    expires_at: Option<u64>,
}

/// What a credential grew from, beside its client and its user: revoked with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    pub(crate) session_id: Option<String>,
    pub(crate) grant_id: Option<String>,
}

impl Verified {
    /// How long it may be remembered.
    pub(crate) fn usable_for(&self, now: Instant) -> Duration {
        self.usable_until.saturating_duration_since(now)
    }
}

/// The authorization server cannot be asked, or must be asked and does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization server is unavailable")]
pub struct Unavailable {
    /// For `Retry-After`.
    pub retry_after_seconds: u64,
}

impl Unavailable {
    fn new() -> Unavailable {
        Unavailable { retry_after_seconds: RETRY_AFTER_SECONDS }
    }
}

/// Why the way to the authorization server cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    #[error("authorization server: {0}")]
    Config(#[from] UpstreamConfigError),
    #[error("cannot start the thread for the authorization server: {0}")]
    Thread(#[from] std::io::Error),
}

type Key = [u8; 32];
type Answer = Result<Option<Arc<Verified>>, Unavailable>;

/// SHA-256 of the credential, as the revocation feed names it. Whoever finds two with the same digest has broken SHA-256.
fn key(secret: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    key
}

/// Where a credential is remembered: apart for each operation that has internal tokens of its own.
#[derive(Clone, Copy)]
struct Place {
    /// The credential's own digest.
    digest: Key,
    key: Key,
}

impl Place {
    fn of(secret: &str, operation: Option<&str>) -> Place {
        let digest = key(secret);
        let Some(operation) = operation else { return Place { digest, key: digest } };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&digest);
        context.update(operation.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Place { digest, key }
    }
}

/// What one page of the feed revokes.
#[derive(Debug, Default)]
struct Fallen {
    tokens: HashSet<Key>,
    clients: HashSet<String>,
    users: HashSet<String>,
    sessions: HashSet<String>,
    grants: HashSet<String>,
}

impl Fallen {
    /// Whether it names single tokens alone.
    fn only_tokens(&self) -> bool {
        [&self.clients, &self.users, &self.sessions, &self.grants].iter().all(|names| names.is_empty())
    }

    fn covers(&self, verified: &Verified) -> bool {
        let among =
            |names: &HashSet<String>, name: &Option<String>| name.as_ref().is_some_and(|name| names.contains(name));
        let Verified { identity, roots, .. } = verified;
        self.clients.contains(&identity.client_id)
            || self.users.contains(&identity.subject)
            || among(&self.sessions, &roots.session_id)
            || among(&self.grants, &roots.grant_id)
    }
}

/// Invalid as an API key does not mean invalid as a token.
fn kind_key(kind: CredentialKind, mut key: Key) -> Key {
    key[0] ^= u8::from(kind == CredentialKind::ApiKey);
    key
}

/// The gate's memory of credentials; one for all threads.
pub struct Credentials {
    memory: Arc<Memory>,
    questions: mpsc::Sender<Command>,
    patience: Duration,
    shared: Arc<UpstreamShared>,
}

struct Question {
    kind: CredentialKind,
    place: Place,
    secret: Zeroizing<String>,
    resource: String,
    operation: Option<String>,
    answer: oneshot::Sender<Answer>,
}

enum Command {
    Resolve(Question),
    Forget,
    /// Send canaries for this audience.
    Probe(String),
}

impl Credentials {
    /// Reads the certificates and starts the background thread; the server itself need not be up yet.
    pub fn start(
        config: &config::AuthorizationServer,
        metrics: Arc<Metrics>,
        events: Option<Arc<Events>>,
    ) -> Result<Credentials, CredentialsError> {
        let memory = Arc::new(Memory::new(config, metrics.clone()));
        let upstream = Arc::new(worker::upstream_config(config));
        let shared = Arc::new(UpstreamShared::new_tls13(upstream.clone(), metrics.clone())?);
        let (questions, commands) = mpsc::channel(MAX_QUESTIONS);
        let timeout = Duration::from_millis(config.timeout_ms.max(1));
        worker::start(worker::Setup {
            memory: memory.clone(),
            upstream,
            shared: shared.clone(),
            commands,
            timeout,
            cache_for: Duration::from_secs(config.cache_seconds),
            canary_every: Duration::from_secs(config.canary_seconds),
            events: events.map(|events| Arc::downgrade(&events)),
        })?;
        memory.clone().publish(&metrics);
        Ok(Credentials { memory, questions, patience: timeout * 2, shared })
    }

    /// The fast path: a remembered credential of this kind that may still be used, with an internal token for `operation` alone
    /// where one is named. Never waits.
    pub fn cached(&self, kind: CredentialKind, secret: &str, operation: Option<&str>) -> Option<Arc<Verified>> {
        let metrics = &self.memory.metrics;
        let now = Instant::now();
        if !self.memory.is_fresh(now) {
            metrics.credential_stale.inc();
            return None;
        }
        let found = self.memory.find(kind, &Place::of(secret, operation).key, now);
        match &found {
            Some(_) => metrics.credential_hits.inc(),
            None => metrics.credential_misses.inc(),
        }
        found
    }

    /// Asks the authorization server; `None`: invalid. Many who ask for one credential at once make one question.
    ///
    /// `resource` is the audience that the credential must be for. Returns within about twice `timeout_ms`.
    pub async fn resolve(&self, kind: CredentialKind, secret: &str, resource: &str, operation: Option<&str>) -> Answer {
        let place = Place::of(secret, operation);
        if self.memory.known_invalid(kind, place.digest) {
            self.memory.metrics.credential_negative_hits.inc();
            return Ok(None);
        }
        let (answer, wait) = oneshot::channel();
        let question = Question {
            kind,
            place,
            secret: Zeroizing::new(secret.to_owned()),
            resource: resource.to_owned(),
            operation: operation.map(str::to_owned),
            answer,
        };
        if self.questions.try_send(Command::Resolve(question)).is_err() {
            self.memory.metrics.introspections_shed.inc();
            return Err(Unavailable::new());
        }
        match tokio::time::timeout(self.patience, wait).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Unavailable::new()),
        }
    }

    /// Forgets everything that is remembered, soon; for a new bundle with another audience.
    pub fn forget(&self) {
        let _ = self.questions.try_send(Command::Forget);
    }

    /// Measures from now on how soon a revocation arrives, with canaries for the audience `resource`.
    pub fn probe(&self, resource: &str) {
        let _ = self.questions.try_send(Command::Probe(resource.to_owned()));
    }

    /// Reads the certificates again, for connections to come. On an error nothing changes.
    pub fn reload(&self) -> Result<(), UpstreamConfigError> {
        self.shared.reload()
    }
}

/// The caches and the feed's freshness. Data threads read; the background thread writes.
struct Memory {
    active: Cache<Key, Arc<Verified>>,
    /// Apart from the others, so that garbage cannot push them out.
    invalid: Cache<Key, Instant>,
    /// Whether any credential was remembered for one operation: then one credential may stand in several places.
    by_operation: AtomicBool,
    started: Instant,
    /// Milliseconds since `started`, plus one, when the feed last answered; 0: never.
    fresh_at: AtomicU64,
    stale_millis: u64,
    metrics: Arc<Metrics>,
}

impl Memory {
    fn new(config: &config::AuthorizationServer, metrics: Arc<Metrics>) -> Memory {
        Memory {
            active: bounded(config.max_cached),
            invalid: bounded(MAX_INVALID),
            by_operation: AtomicBool::new(false),
            started: Instant::now(),
            fresh_at: AtomicU64::new(0),
            stale_millis: config.stale_seconds.saturating_mul(1000),
            metrics,
        }
    }

    fn publish(self: Arc<Self>, metrics: &Metrics) {
        let (active, invalid) = (self.clone(), self.clone());
        metrics.read_at_scrape("stockade_credential_cache_entries", "Verified credentials remembered.", move || {
            active.active.len() as f64
        });
        metrics.read_at_scrape("stockade_credential_cache_invalid", "Invalid credentials remembered.", move || {
            invalid.invalid.len() as f64
        });
        metrics.read_at_scrape(
            "stockade_revocation_feed_age_seconds",
            "Time since the revocation feed last answered.",
            move || self.feed_age_millis(Instant::now()) as f64 / 1000.0,
        );
    }

    fn feed_age_millis(&self, now: Instant) -> u64 {
        millis_since(self.started, now).saturating_sub(self.fresh_at.load(Relaxed).saturating_sub(1))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_at.load(Relaxed) != 0 && self.feed_age_millis(now) <= self.stale_millis
    }

    fn feed_answered(&self) {
        self.fresh_at.store(millis_since(self.started, Instant::now()).saturating_add(1), Relaxed);
    }

    /// Both clocks must allow it: the monotonic one cannot be set back, and the wall clock knows when `exp` is.
    fn find(&self, kind: CredentialKind, key: &Key, now: Instant) -> Option<Arc<Verified>> {
        self.active.get(key).filter(|verified| {
            verified.identity.kind == kind
                && now < verified.usable_until
                && verified.expires_at.is_none_or(|expires_at| unix_seconds() < expires_at)
        })
    }

    fn known_invalid(&self, kind: CredentialKind, key: Key) -> bool {
        self.invalid.get(&kind_key(kind, key)).is_some_and(|until| Instant::now() < until)
    }

    fn clear(&self) {
        self.active.clear();
        self.invalid.clear();
    }
}

/// Grows as it fills: the table is not laid out for the most that it may hold.
fn bounded<V: Clone>(most: usize) -> Cache<Key, V> {
    let most = most.max(1);
    let options =
        OptionsBuilder::new().estimated_items_capacity(most).weight_capacity(most as u64).build().map(|options| {
            Cache::with_options(
                options,
                UnitWeighter,
                DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            )
        });
    options.unwrap_or_else(|_| Cache::new(most))
}

fn millis_since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock as a NumericDate.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let config = serde_json::json!({"url": "https://x", "ca": "ca", "certificate": "c", "key": "k"});
        Memory::new(&serde_json::from_value(config).expect("a configuration"), Arc::new(Metrics::new()))
    }

    fn verified(usable_until: Instant, expires_at: Option<u64>) -> Arc<Verified> {
        let identity = Identity {
            kind: CredentialKind::AccessToken,
            client_id: "c_1".to_owned(),
            subject: "c_1".to_owned(),
            scopes: Vec::new(),
            issuer: "https://as.example".to_owned(),
            audience: Vec::new(),
            expires_at,
            confirmation: stockade_engine::Confirmation::default(),
            acr: None,
            auth_time: None,
        };
        let (roots, digest) = (Roots::default(), [0; 32]);
        Arc::new(Verified {
            identity,
            roots,
            digest,
            internal_token: HeaderValue::from_static("Bearer x"),
            usable_until,
            expires_at,
        })
    }

    #[test]
    fn neither_clock_alone_prolongs_a_credential() {
        let memory = memory();
        let (now, wall) = (Instant::now(), unix_seconds());
        let later = now + Duration::from_secs(60);
        for (usable_until, expires_at, usable) in [
            (later, Some(wall + 60), true),
            (later, None, true),
            // The wall clock was set back: `exp` seems far, but the monotonic time is over.
            (now, Some(wall + 3600), false),
            // It was set forward: `exp` is past, whatever the monotonic time says.
            (later, Some(wall), false),
        ] {
            memory.active.insert([0; 32], verified(usable_until, expires_at));
            assert_eq!(memory.find(CredentialKind::AccessToken, &[0; 32], now).is_some(), usable);
        }
    }

    #[test]
    fn nothing_is_fresh_before_the_feed_has_answered_once() {
        let memory = memory();
        assert!(!memory.is_fresh(Instant::now()));
        memory.feed_answered();
        assert!(memory.is_fresh(Instant::now()));
        assert!(memory.is_fresh(Instant::now() + Duration::from_secs(9)));
        assert!(!memory.is_fresh(Instant::now() + Duration::from_secs(11)));
    }
}
