//! One thread's connections: idle ones, those who wait for one, and how many streams each carries.
//!
//! INVARIANT: who waits is answered: by a connection that comes back, by one that is opened, or by the failure of the attempt. For
//! HTTP/1 no more requests wait than tasks are connecting; for HTTP/2, where one connection serves many, none waits while no task is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::spawn_local;

use super::endpoint::{Endpoint, Standing, UpstreamShared};
use super::io::Place;
use super::{UpstreamBody, UpstreamError, connect};
use crate::config;

/// Streams on an HTTP/2 connection before another one is opened, and the most it gets.
const COMFORTABLE_STREAMS: usize = 32;
const MAX_STREAMS: usize = 100;
/// How long a connection may take to become ready after its answer has ended: its request may still be on the way.
const SETTLE: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(1);

/// Durations of the configuration.
pub(super) struct Times {
    pub(super) response: Duration,
    connect: Duration,
    idle: Duration,
    age: Duration,
    wait: Duration,
}

pub(super) struct Pool {
    pub(super) config: Arc<config::Upstream>,
    pub(super) shared: Arc<UpstreamShared>,
    pub(super) times: Times,
    /// `Host` of each endpoint. A copy of this thread's own: cloning a value counts, and threads would fight over the counter.
    pub(super) hosts: Box<[HeaderValue]>,
    endpoints: Box<[Side]>,
    random: Cell<u64>,
}

/// This thread's side of one endpoint.
#[derive(Default)]
struct Side {
    /// HTTP/1: the one used last is at the end and goes first. HTTP/2: all of them.
    idle: RefCell<Vec<Idle>>,
    waiting: RefCell<VecDeque<Waiter>>,
    connecting: Cell<usize>,
    in_flight: Cell<usize>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Waiter {
    /// Wants a connection that nobody has used.
    fresh: bool,
    answer: oneshot::Sender<Result<Leased, UpstreamError>>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) link: Link,
    /// Bytes that have come on it.
    pub(super) received: Arc<AtomicU64>,
    pub(super) expires: Instant,
}

pub(super) enum Link {
    Http1(http1::SendRequest<UpstreamBody>),
    Http2(http2::SendRequest<UpstreamBody>, Rc<Streams>),
}

/// How many streams an HTTP/2 connection carries, and when the last one ended.
#[derive(Default)]
pub(super) struct Streams(Cell<usize>);

/// A connection, or a stream of one, that a request may use.
pub(super) struct Leased {
    pub(super) link: Link,
    pub(super) received: Arc<AtomicU64>,
    pub(super) reused: bool,
    expires: Instant,
    stream: Option<StreamGuard>,
}

/// Counts a stream for as long as it lives.
struct StreamGuard(Rc<Streams>);

impl StreamGuard {
    fn new(streams: &Rc<Streams>) -> StreamGuard {
        streams.0.set(streams.0.get() + 1);
        StreamGuard(streams.clone())
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get().saturating_sub(1));
    }
}

type Sent = Result<Response<Incoming>, (hyper::Error, Option<Request<UpstreamBody>>)>;

impl Link {
    pub(super) async fn try_send(&mut self, request: Request<UpstreamBody>) -> Sent {
        let sent = match self {
            Link::Http1(sender) => sender.try_send_request(request).await,
            Link::Http2(sender, _) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }

    fn is_closed(&self) -> bool {
        match self {
            Link::Http1(sender) => sender.is_closed(),
            Link::Http2(sender, _) => sender.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Link::Http1(sender) => sender.is_ready(),
            Link::Http2(sender, _) => sender.is_ready(),
        }
    }
}

impl Leased {
    fn new(connection: Connection, reused: bool) -> Leased {
        let Connection { link, received, expires } = connection;
        let stream = match &link {
            Link::Http1(_) => None,
            Link::Http2(_, streams) => Some(StreamGuard::new(streams)),
        };
        Leased { link, received, reused, expires, stream }
    }

    pub(super) fn into_lease(self, attempt: Attempt) -> Lease {
        Lease { leased: self, attempt }
    }
}

/// What a response body holds on to until it ends.
pub(super) struct Lease {
    leased: Leased,
    attempt: Attempt,
}

impl Lease {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.leased.link, Link::Http2(..))
    }

    /// The answer ended as it should: the connection can serve again.
    pub(super) fn complete(self) {
        let Lease { leased, attempt } = self;
        attempt.pool.give_back(attempt.endpoint, leased);
    }

    /// The answer broke off; so does the connection, by being dropped.
    pub(super) fn broken(self) {
        self.attempt.pool.shared.metrics.upstream_bodies_cut.inc();
    }
}

/// A try of one endpoint: it counts as in flight until dropped, and its outcome is the endpoint's health.
pub(super) struct Attempt {
    pub(super) endpoint: usize,
    pool: Rc<Pool>,
    trial: bool,
    decided: bool,
}

impl Attempt {
    pub(super) fn succeeded(&mut self) {
        self.decided = true;
        self.pool.shared.succeeded(self.endpoint, self.trial);
    }

    pub(super) fn failed(mut self) {
        self.decided = true;
        self.pool.shared.failed(self.endpoint, self.trial);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let in_flight = &self.pool.endpoints[self.endpoint].in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
        if self.trial && !self.decided {
            self.pool.shared.trial_given_up(self.endpoint);
        }
    }
}

impl Pool {
    pub(super) fn start(config: Arc<config::Upstream>, shared: Arc<UpstreamShared>) -> Rc<Pool> {
        let millis = Duration::from_millis;
        let times = Times {
            response: millis(config.response_timeout_ms.max(1)),
            connect: millis(config.connect_timeout_ms.max(1)),
            idle: millis(config.idle_timeout_ms),
            age: Duration::from_secs(config.max_age_seconds.min(365 * 86_400)),
            wait: millis(config.wait_timeout_ms),
        };
        let endpoints = shared.endpoints.iter().map(|_| Side::default()).collect();
        let hosts = shared.endpoints.iter().map(Endpoint::host_header).collect();
        let seed = ahash::RandomState::new().hash_one(0) | 1;
        let pool = Rc::new(Pool { config, shared, times, hosts, endpoints, random: Cell::new(seed) });
        spawn_local(sweep(Rc::downgrade(&pool)));
        pool
    }

    fn http2(&self) -> bool {
        self.config.protocol == config::UpstreamProtocol::Http2
    }

    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// The less busy of two endpoints that are in use, or one that is due for a trial.
    pub(super) fn choose(self: &Rc<Pool>, avoid: Option<usize>) -> Attempt {
        let (endpoint, trial) = if self.endpoints.len() == 1 { (0, false) } else { self.pick(avoid) };
        let in_flight = &self.endpoints[endpoint].in_flight;
        in_flight.set(in_flight.get() + 1);
        Attempt { endpoint, pool: self.clone(), trial, decided: false }
    }

    fn pick(&self, avoid: Option<usize>) -> (usize, bool) {
        let count = self.endpoints.len();
        let start = self.roll(count);
        let mut usable = smallvec::SmallVec::<[usize; 8]>::new();
        for offset in 0..count {
            let index = (start + offset) % count;
            match self.shared.standing(index) {
                _ if avoid == Some(index) => {}
                Standing::In => usable.push(index),
                Standing::Trial => return (index, true),
                Standing::Out => {}
            }
        }
        let busy = |index: &usize| self.endpoints[*index].in_flight.get();
        match usable.as_slice() {
            [] => (avoid.unwrap_or(start), false),
            [only] => (*only, false),
            [first, rest @ ..] => {
                // They stand in a random rotation: the first is random, and the second is drawn from the others.
                let second = &rest[self.roll(rest.len())];
                (if busy(second) < busy(first) { *second } else { *first }, false)
            }
        }
    }

    /// A number below `limit` (xorshift; for spreading load only).
    fn roll(&self, limit: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        usize::try_from(x >> 33).unwrap_or(0) % limit.max(1)
    }

    /// A connection to `endpoint`: idle, given back by another request, or new. `fresh`: new in any case.
    pub(super) async fn acquire(self: &Rc<Pool>, endpoint: usize, fresh: bool) -> Result<Leased, UpstreamError> {
        if !fresh && let Some(leased) = self.take_idle(endpoint) {
            self.shared.metrics.upstream_reused.inc();
            return Ok(leased);
        }
        let place = self.shared.places.clone().try_acquire_owned().ok();
        let _starving = match &place {
            Some(_) => None,
            None => Some(Starving::start(&self.shared, self.config.max_waiting)?),
        };
        let (answer, wait) = oneshot::channel();
        let side = &self.endpoints[endpoint];
        side.waiting.borrow_mut().push_back(Waiter { fresh, answer });
        if !(self.http2() && side.waiting.borrow().len() <= side.connecting.get() * COMFORTABLE_STREAMS) {
            self.connect_in_background(endpoint, place);
        }
        wait.await.unwrap_or(Err(UpstreamError::Overloaded))
    }

    fn take_idle(self: &Rc<Pool>, endpoint: usize) -> Option<Leased> {
        let side = &self.endpoints[endpoint];
        let now = Instant::now();
        match self.config.protocol {
            config::UpstreamProtocol::Http1 => {
                let mut idle = side.idle.borrow_mut();
                while let Some(last) = idle.pop() {
                    if self.young(&last, now) && last.connection.link.is_ready() {
                        return Some(Leased::new(last.connection, true));
                    }
                }
                None
            }
            config::UpstreamProtocol::Http2 => self.take_stream(endpoint, now),
        }
    }

    /// A stream of the connection with the fewest; opens another connection when all are busy.
    fn take_stream(self: &Rc<Pool>, endpoint: usize, now: Instant) -> Option<Leased> {
        let side = &self.endpoints[endpoint];
        let (leased, busy) = {
            let mut all = side.idle.borrow_mut();
            all.retain(|idle| idle.connection.link.is_ready() && now < idle.connection.expires);
            let idle = all.iter_mut().min_by_key(|idle| idle.connection.streams())?;
            let streams = idle.connection.streams();
            if streams >= MAX_STREAMS {
                return None;
            }
            idle.since = now;
            (Leased::new(idle.connection.share()?, true), streams >= COMFORTABLE_STREAMS)
        };
        if busy
            && side.connecting.get() == 0
            && let Ok(place) = self.shared.places.clone().try_acquire_owned()
        {
            self.connect_in_background(endpoint, Some(place));
        }
        Some(leased)
    }

    fn young(&self, Idle { connection, since }: &Idle, now: Instant) -> bool {
        now.duration_since(*since) < self.times.idle && now < connection.expires
    }

    /// Detached from whoever asked: should they leave, the connection serves the next.
    fn connect_in_background(self: &Rc<Pool>, endpoint: usize, place: Option<OwnedSemaphorePermit>) {
        let side = &self.endpoints[endpoint];
        side.connecting.set(side.connecting.get() + 1);
        let pool = self.clone();
        spawn_local(async move {
            let result = pool.connect(endpoint, place).await;
            let side = &pool.endpoints[endpoint];
            side.connecting.set(side.connecting.get() - 1);
            match result {
                Ok(Some(connection)) if pool.http2() => pool.offer_streams(endpoint, connection),
                Ok(Some(connection)) => pool.offer(endpoint, connection, false),
                Ok(None) => {}
                Err(error) => pool.fail(endpoint, &error),
            }
        });
    }

    async fn connect(
        &self,
        endpoint: usize,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Connection>, UpstreamError> {
        let side = &self.endpoints[endpoint];
        let place = match place {
            Some(place) => place,
            None => {
                let wait = tokio::time::timeout(self.times.wait, self.shared.places.clone().acquire_owned());
                let place = wait.await.ok().and_then(Result::ok).ok_or(UpstreamError::Overloaded)?;
                if side.waiting.borrow().iter().all(|waiter| waiter.answer.is_closed()) {
                    return Ok(None);
                }
                place
            }
        };
        let place = Place::new(place, self.shared.metrics.clone());
        let to = &self.shared.endpoints[endpoint];
        connect::open(&self.shared, to, self.config.protocol, place, self.times.connect, self.times.age).await.map(Some)
    }

    /// Gives a connection to the one who waits longest, or keeps it.
    fn offer(self: &Rc<Pool>, endpoint: usize, connection: Connection, reused: bool) {
        let side = &self.endpoints[endpoint];
        let mut connection = connection;
        while let Some(waiter) = side.next_waiter(reused) {
            match waiter.answer.send(Ok(Leased::new(connection, reused))) {
                Ok(()) => return,
                Err(Ok(back)) => connection = back.into_connection(),
                Err(Err(_)) => return,
            }
        }
        let now = Instant::now();
        // While others starve for a place, an idle connection would be a waste of one. Whether it is ready is asked when it is taken:
        // a new one is only after its task has run.
        if self.shared.starving.load(Relaxed) == 0 && now < connection.expires {
            side.idle.borrow_mut().push(Idle { connection, since: now });
        }
    }

    /// Gives a new HTTP/2 connection's streams to those who wait, and keeps it.
    fn offer_streams(self: &Rc<Pool>, endpoint: usize, connection: Connection) {
        let side = &self.endpoints[endpoint];
        while connection.streams() < MAX_STREAMS
            && let Some(stream) = connection.share()
            && let Some(waiter) = side.next_waiter(false)
        {
            let _ = waiter.answer.send(Ok(Leased::new(stream, false)));
        }
        side.idle.borrow_mut().push(Idle { connection, since: Instant::now() });
        if !side.waiting.borrow().is_empty() && side.connecting.get() == 0 {
            self.connect_in_background(endpoint, None);
        }
    }

    /// An attempt to connect has failed: whoever has no other to wait for hears of it, the one who waits longest first.
    fn fail(&self, endpoint: usize, error: &UpstreamError) {
        let side = &self.endpoints[endpoint];
        let mut waiting = side.waiting.borrow_mut();
        waiting.retain(|waiter| !waiter.answer.is_closed());
        let connecting = side.connecting.get();
        let served = if self.http2() && connecting > 0 { waiting.len() } else { connecting };
        while waiting.len() > served
            && let Some(waiter) = waiting.pop_front()
        {
            let _ = waiter.answer.send(Err(error.repeat()));
        }
    }

    fn give_back(self: &Rc<Pool>, endpoint: usize, leased: Leased) {
        let http2 = leased.stream.is_some();
        let connection = leased.into_connection();
        if http2 {
            self.serve_waiting(endpoint, connection);
        } else if connection.link.is_ready() {
            self.offer(endpoint, connection, true);
        } else {
            self.settle(endpoint, connection);
        }
    }

    /// A stream has ended; it may be what somebody waits for.
    fn serve_waiting(&self, endpoint: usize, connection: Connection) {
        let side = &self.endpoints[endpoint];
        if connection.link.is_ready()
            && Instant::now() < connection.expires
            && !side.waiting.borrow().is_empty()
            && let Some(waiter) = side.next_waiter(true)
        {
            let _ = waiter.answer.send(Ok(Leased::new(connection, true)));
        }
    }

    /// The answer is complete, but the connection is not ready: its request is still being sent, or it closes.
    fn settle(self: &Rc<Pool>, endpoint: usize, mut connection: Connection) {
        let Link::Http1(sender) = &mut connection.link else { return };
        if sender.is_closed() {
            return;
        }
        let pool = self.clone();
        spawn_local(async move {
            let Link::Http1(sender) = &mut connection.link else { return };
            if matches!(tokio::time::timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                pool.offer(endpoint, connection, true);
            }
        });
    }

    /// Closes what is idle for too long, or as many as others starve for.
    fn close_idle(&self) {
        let now = Instant::now();
        let mut wanted = self.shared.starving.load(Relaxed);
        for side in &self.endpoints {
            // The oldest are at the front.
            side.idle.borrow_mut().retain(|idle| {
                let spare = idle.connection.streams() == 0;
                let keep = !spare || (self.young(idle, now) && !idle.connection.link.is_closed());
                let give_up = keep && spare && wanted > 0;
                wanted -= usize::from(give_up);
                keep && !give_up
            });
        }
    }
}

impl Side {
    /// The one who waits longest and is still there.
    fn next_waiter(&self, reused: bool) -> Option<Waiter> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|waiter| !waiter.answer.is_closed());
        let position = waiting.iter().position(|waiter| !(reused && waiter.fresh))?;
        waiting.remove(position)
    }
}

impl Leased {
    fn into_connection(self) -> Connection {
        Connection { link: self.link, received: self.received, expires: self.expires }
    }
}

impl Connection {
    /// Another handle of an HTTP/2 connection; `None` for HTTP/1, which serves one request at a time.
    fn share(&self) -> Option<Connection> {
        let Link::Http2(sender, streams) = &self.link else { return None };
        let link = Link::Http2(sender.clone(), streams.clone());
        Some(Connection { link, received: self.received.clone(), expires: self.expires })
    }

    fn streams(&self) -> usize {
        match &self.link {
            Link::Http1(_) => 0,
            Link::Http2(_, streams) => streams.0.get(),
        }
    }
}

/// Somebody who waits for a place; all threads are asked to close what is idle.
struct Starving(Arc<UpstreamShared>);

impl Starving {
    fn start(shared: &Arc<UpstreamShared>, most: usize) -> Result<Starving, UpstreamError> {
        if shared.starving.fetch_add(1, Relaxed) >= most {
            shared.starving.fetch_sub(1, Relaxed);
            return Err(UpstreamError::Overloaded);
        }
        shared.metrics.upstream_waiting.inc();
        shared.pressure.notify_waiters();
        Ok(Starving(shared.clone()))
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        self.0.starving.fetch_sub(1, Relaxed);
        self.0.metrics.upstream_waiting.dec();
    }
}

/// Runs until the pool is gone.
async fn sweep(pool: Weak<Pool>) {
    let Some(shared) = pool.upgrade().map(|pool| pool.shared.clone()) else { return };
    loop {
        let _ = tokio::time::timeout(SWEEP, shared.pressure.notified()).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.close_idle();
    }
}
