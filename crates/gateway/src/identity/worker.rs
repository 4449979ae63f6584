//! The background thread: introspections, one a credential at a time, and the cache that they fill.
//!
//! INVARIANT: an answer is remembered or handed out only if no revocation of it came while it was asked for. Flights and the feed
//! share this thread, so each revocation sees each flight; a flight that it may concern asks again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use stockade_engine::CredentialKind;
use tokio::runtime::LocalOptions;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;
use zeroize::Zeroizing;

use super::answer::{Expected, Introspected, read};
use super::{
    Answer, Command, Fallen, INVALID_FOR, Key, Memory, Place, Question, Unavailable, Verified, canary, feed, kind_key,
    unix_seconds,
};
use crate::config;
use crate::events::Events;
use crate::upstream::{Upstream, UpstreamBody, UpstreamError, UpstreamShared};

/// Introspections under way at once, and those that wait for their turn.
const MAX_CONCURRENT: usize = 24;
const MAX_FLIGHTS: usize = 2_048;
/// How often a question is asked again because a revocation overtook its answer.
const MAX_ROUNDS: usize = 3;
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Below the keep-alive of any server in common use (uvicorn closes after five seconds).
const IDLE_MILLIS: u64 = 4_000;

/// What the thread is made of.
pub(super) struct Setup {
    pub(super) memory: Arc<Memory>,
    pub(super) upstream: Arc<config::Upstream>,
    pub(super) shared: Arc<UpstreamShared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) timeout: Duration,
    pub(super) cache_for: Duration,
    pub(super) canary_every: Duration,
    /// Weak: what the process still has to say at its end must not wait for this thread.
    pub(super) events: Option<Weak<Events>>,
}

pub(super) struct Worker {
    pub(super) memory: Arc<Memory>,
    pub(super) upstream: Upstream,
    pub(super) timeout: Duration,
    pub(super) events: Option<Weak<Events>>,
    pub(super) canary_every: Duration,
    /// The audience that canaries are for, once it is known.
    pub(super) canary_resource: RefCell<Option<String>>,
    cache_for: Duration,
    flights: RefCell<HashMap<(Key, CredentialKind), Flight>>,
    turns: Semaphore,
}

/// A credential that is being asked about.
struct Flight {
    digest: Key,
    waiting: Vec<oneshot::Sender<Answer>>,
    /// The credential itself, or everything, was revoked since the question was sent.
    overtaken: bool,
    /// What else was.
    fallen: Vec<Rc<Fallen>>,
}

/// The authorization server as an upstream: the same pool, deadlines and strictness.
pub(super) fn upstream_config(config: &config::AuthorizationServer) -> config::Upstream {
    config::Upstream {
        endpoints: vec![config.url.clone()],
        tls: config::UpstreamTls {
            ca: Some(config.ca.clone()),
            certificate: Some(config.certificate.clone()),
            key: Some(config.key.clone()),
            server_name: None,
        },
        protocol: config::UpstreamProtocol::Http1,
        preserve_host: false,
        connect_timeout_ms: config.timeout_ms,
        // The long poll answers after its wait; introspections have their own, shorter deadline.
        response_timeout_ms: config.timeout_ms.saturating_add(feed::wait_seconds(config.stale_seconds) * 1000),
        idle_timeout_ms: IDLE_MILLIS,
        max_age_seconds: 600,
        max_connections: MAX_CONCURRENT + 1,
        max_waiting: MAX_CONCURRENT + 1,
        wait_timeout_ms: config.timeout_ms,
        eject_after_failures: u32::MAX,
        eject_seconds: 1,
    }
}

pub(super) fn start(setup: Setup) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    std::thread::Builder::new().name("identity".to_owned()).spawn(move || {
        let mut runtime = runtime;
        match runtime.enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(run(setup)),
            Err(error) => eprintln!("stockade-gateway: error: the authorization server cannot be asked: {error}"),
        }
    })?;
    Ok(())
}

/// Runs until the last [`super::Credentials`] is gone.
async fn run(setup: Setup) {
    let Setup { memory, upstream, shared, mut commands, timeout, cache_for, canary_every, events } = setup;
    let worker = Rc::new(Worker {
        memory,
        upstream: Upstream::new(upstream.clone(), shared),
        timeout,
        events,
        canary_every,
        canary_resource: RefCell::default(),
        cache_for,
        flights: RefCell::default(),
        turns: Semaphore::new(MAX_CONCURRENT),
    });
    spawn_local(feed::keep_following(worker.clone()));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Resolve(question) => worker.take(question),
            Command::Forget => worker.forget_everything(),
            Command::Probe(resource) => {
                if worker.canary_resource.replace(Some(resource)).is_none() && !worker.canary_every.is_zero() {
                    spawn_local(canary::keep_probing(worker.clone()));
                }
            }
        }
    }
}

impl Worker {
    /// Answers at once, joins a flight that is under way, or starts one.
    pub(super) fn take(self: &Rc<Worker>, question: Question) {
        let Question { kind, place, secret, resource, operation, answer } = question;
        let (id, now) = ((place.key, kind), Instant::now());
        // Somebody else may have asked meanwhile.
        if self.memory.is_fresh(now)
            && let Some(found) = self.memory.find(kind, &place.key, now)
        {
            let _ = answer.send(Ok(Some(found)));
            return;
        }
        if self.memory.known_invalid(kind, place.digest) {
            let _ = answer.send(Ok(None));
            return;
        }
        let mut flights = self.flights.borrow_mut();
        if let Some(flight) = flights.get_mut(&id) {
            flight.waiting.push(answer);
            return;
        }
        if flights.len() >= MAX_FLIGHTS {
            self.memory.metrics.introspections_shed.inc();
            let _ = answer.send(Err(Unavailable::new()));
            return;
        }
        let (digest, waiting) = (place.digest, vec![answer]);
        flights.insert(id, Flight { digest, waiting, overtaken: false, fallen: Vec::new() });
        drop(flights);
        let guard = Landing { worker: self.clone(), id };
        spawn_local(async move {
            let asked = Asked { kind, place, secret: &secret, resource: &resource, operation: operation.as_deref() };
            let answer = guard.worker.fly(&asked).await;
            guard.land(answer);
        });
    }

    /// Asks within the deadline, waiting for a turn included.
    async fn fly(&self, asked: &Asked<'_>) -> Answer {
        let id = (asked.place.key, asked.kind);
        let answered = tokio::time::timeout(self.timeout, async {
            let _turn = self.turns.acquire().await;
            for _ in 0..MAX_ROUNDS {
                self.depart(id);
                match self.introspect(asked).await? {
                    Introspected::Invalid => return Some(self.remember_invalid(asked)),
                    Introspected::Valid(verified) if !self.was_overtaken(id, &verified) => {
                        return Some(self.remember(asked, *verified));
                    }
                    Introspected::Valid(_) => self.memory.metrics.introspections_repeated.inc(),
                }
            }
            None
        });
        match answered.await {
            Ok(Some(verified)) => Ok(verified),
            Ok(None) => Err(Unavailable::new()),
            Err(_) => {
                self.memory.metrics.introspections_failed.inc();
                Err(Unavailable::new())
            }
        }
    }

    /// From here on revocations count against the flight.
    fn depart(&self, id: (Key, CredentialKind)) {
        if let Some(flight) = self.flights.borrow_mut().get_mut(&id) {
            flight.overtaken = false;
            flight.fallen.clear();
        }
    }

    fn was_overtaken(&self, id: (Key, CredentialKind), verified: &Verified) -> bool {
        let flights = self.flights.borrow();
        let Some(flight) = flights.get(&id) else { return true };
        flight.overtaken || flight.fallen.iter().any(|fallen| fallen.covers(verified))
    }

    fn remember(&self, asked: &Asked<'_>, verified: Verified) -> Option<Arc<Verified>> {
        let verified = Arc::new(verified);
        if verified.usable_until > Instant::now() {
            if asked.operation.is_some() {
                self.memory.by_operation.store(true, Relaxed);
            }
            self.memory.active.insert(asked.place.key, verified.clone());
        }
        Some(verified)
    }

    fn remember_invalid(&self, asked: &Asked<'_>) -> Option<Arc<Verified>> {
        let Asked { kind, place, .. } = *asked;
        if self.memory.active.get(&place.key).is_some_and(|known| known.identity.kind == kind) {
            self.memory.active.remove(&place.key);
        }
        self.memory.invalid.insert(kind_key(kind, place.digest), Instant::now() + INVALID_FOR);
        None
    }

    /// One question, asked once more if its connection broke: introspection changes nothing. `None`: no usable answer.
    async fn introspect(&self, asked: &Asked<'_>) -> Option<Introspected> {
        let metrics = &self.memory.metrics;
        let started = Instant::now();
        let mut answered = self.ask(asked).await;
        if matches!(answered, Err(UpstreamError::Unreachable(_))) {
            answered = self.ask(asked).await;
        }
        let Ok((status, body)) = answered else {
            metrics.introspections_failed.inc();
            return None;
        };
        metrics.introspection_seconds.observe(started.elapsed());
        if status != StatusCode::OK {
            metrics.introspections_failed.inc();
            return None;
        }
        let Asked { kind, place: Place { digest, .. }, operation, .. } = *asked;
        let expected = Expected { kind, digest, for_operation: operation.is_some() };
        let read = read(&body, &expected, self.cache_for, Instant::now(), unix_seconds());
        match &read {
            Ok(Introspected::Valid(_)) => metrics.introspections_active.inc(),
            Ok(Introspected::Invalid) => metrics.introspections_inactive.inc(),
            Err(_) => metrics.introspections_garbage.inc(),
        }
        read.ok()
    }

    async fn ask(&self, asked: &Asked<'_>) -> Result<(StatusCode, Bytes), UpstreamError> {
        let Asked { kind, secret, resource, operation, .. } = *asked;
        let mut form = Zeroizing::new(String::with_capacity(secret.len() + resource.len() * 3 + 64));
        form.push_str("token=");
        push_encoded(&mut form, secret);
        form.push_str("&token_type_hint=");
        form.push_str(match kind {
            CredentialKind::AccessToken => "access_token",
            CredentialKind::ApiKey => "api_key",
        });
        form.push_str("&resource=");
        push_encoded(&mut form, resource);
        if let Some(operation) = operation {
            form.push_str("&operation=");
            push_encoded(&mut form, operation);
        }
        self.post("/internal/introspect", &form).await
    }

    /// One form to the server: the answer's status and body.
    pub(super) async fn post(&self, path: &'static str, form: &str) -> Result<(StatusCode, Bytes), UpstreamError> {
        let mut request = Request::new(UpstreamBody::Full(Bytes::copy_from_slice(form.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let (head, body) = self.upstream.send(request, false).await?.into_parts();
        Ok((head.status, collect(body, MAX_ANSWER_BYTES).await?))
    }

    /// Puts a page of revocations in force: one walk over the cache, whatever it names.
    pub(super) fn forget(&self, fallen: Fallen) {
        let active = &self.memory.active;
        if fallen.only_tokens() && !self.memory.by_operation.load(Relaxed) {
            for key in &fallen.tokens {
                active.remove(key);
            }
        } else {
            active.retain(|_, verified| !fallen.tokens.contains(&verified.digest) && !fallen.covers(verified));
        }
        let fallen = Rc::new(fallen);
        for flight in self.flights.borrow_mut().values_mut() {
            flight.overtaken |= fallen.tokens.contains(&flight.digest);
            flight.fallen.push(fallen.clone());
        }
    }

    pub(super) fn forget_everything(&self) {
        self.memory.clear();
        for flight in self.flights.borrow_mut().values_mut() {
            flight.overtaken = true;
        }
    }
}

/// A question as the server is asked it.
struct Asked<'a> {
    kind: CredentialKind,
    place: Place,
    secret: &'a str,
    resource: &'a str,
    operation: Option<&'a str>,
}

/// Ends a flight, also when its task panics: then those who wait hear that their sender is gone.
struct Landing {
    worker: Rc<Worker>,
    id: (Key, CredentialKind),
}

impl Landing {
    fn land(&self, answer: Answer) {
        let flight = self.worker.flights.borrow_mut().remove(&self.id);
        for waiting in flight.into_iter().flat_map(|flight| flight.waiting) {
            let _ = waiting.send(answer.clone());
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.worker.flights.borrow_mut().remove(&self.id);
    }
}

/// The whole body, at most `limit` bytes.
pub(super) async fn collect(
    body: impl http_body::Body<Data = Bytes, Error = UpstreamError>,
    limit: usize,
) -> Result<Bytes, UpstreamError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(_) => Err(UpstreamError::Protocol("the authorization server's answer is cut or too long".into())),
    }
}

/// Appends `text` as a form value (application/x-www-form-urlencoded); also safe in a query.
pub(super) fn push_encoded(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}
