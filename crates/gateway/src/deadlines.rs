//! Deadlines without timers: a coarse clock and one sweep a thread, ten times a second, over what is open.
//!
//! hyper knows one deadline (the whole head, which is its keep-alive timeout as well) and starts a timer for each request.
//! Here the wire and the service only note times; [`Sweeper::run`] compares them and wakes the connection that is late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;

use crate::config::Connections;
use crate::guard::Refusal;

pub const TICK: Duration = Duration::from_millis(100);
/// How long a closing connection may go on sending what nobody reads.
const LINGER_MS: u64 = 2_000;
/// How long an idle connection may take to end gracefully.
const FINISH_MS: u64 = 5_000;

thread_local! {
    static STARTED: Instant = Instant::now();
    static NOW_MS: Cell<u64> = const { Cell::new(1) };
}

/// Milliseconds of this thread's coarse clock; never 0, so that 0 can mean "not waiting".
pub fn now_ms() -> u64 {
    NOW_MS.get()
}

fn advance_clock() {
    let elapsed = STARTED.with(Instant::elapsed).as_millis();
    NOW_MS.set(u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1));
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    None,
    /// Finish what is under way, start nothing new.
    Finish,
    /// Stop now.
    Stop,
}

/// Where an asked-for upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    Unknown,
    Granted,
    Refused,
}

/// The times, orders and faults of one connection. Written by its own thread only; atomic because hyper wants its I/O `Send`.
pub struct Pace {
    opened_at: u64,
    http2: bool,
    /// When the head under way began; 0: none is.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    write_blocked_since: AtomicU64,
    lingering_since: AtomicU64,
    active: AtomicU32,
    head_expired: AtomicBool,
    /// When the order to finish was given; 0: it was not.
    finish_since: AtomicU64,
    order: AtomicU8,
    upgrade: AtomicU8,
    closed: AtomicBool,
    connection: AtomicWaker,
    fault: Mutex<Option<Refusal>>,
}

impl Pace {
    pub fn new(http2: bool) -> Arc<Pace> {
        Arc::new(Pace {
            opened_at: now_ms(),
            http2,
            head_since: AtomicU64::new(now_ms()),
            idle_since: AtomicU64::new(now_ms()),
            write_blocked_since: AtomicU64::new(0),
            lingering_since: AtomicU64::new(0),
            active: AtomicU32::new(0),
            head_expired: AtomicBool::new(false),
            finish_since: AtomicU64::new(0),
            order: AtomicU8::new(0),
            upgrade: AtomicU8::new(0),
            closed: AtomicBool::new(false),
            connection: AtomicWaker::new(),
            fault: Mutex::new(None),
        })
    }

    pub fn head_begins(&self) {
        if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now_ms(), Relaxed);
        }
    }

    pub fn head_ends(&self) {
        self.head_since.store(0, Relaxed);
    }

    pub fn head_under_way(&self) -> bool {
        self.head_since.load(Relaxed) != 0
    }

    /// Whether the head under way is late.
    pub fn head_expired(&self) -> bool {
        self.head_expired.load(Relaxed)
    }

    pub fn request_begins(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    pub fn request_ends(&self) {
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(now_ms(), Relaxed);
        }
    }

    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    pub fn write_blocked(&self, blocked: bool) {
        let since = self.write_blocked_since.load(Relaxed);
        match (blocked, since) {
            (true, 0) => self.write_blocked_since.store(now_ms(), Relaxed),
            (false, 1..) => self.write_blocked_since.store(0, Relaxed),
            _ => {}
        }
    }

    pub fn lingering(&self) {
        if self.lingering_since.load(Relaxed) == 0 {
            self.lingering_since.store(now_ms(), Relaxed);
        }
    }

    pub fn answer_upgrade(&self, answer: Upgrade) {
        self.upgrade.store(answer as u8, Relaxed);
        self.connection.wake();
    }

    /// The answer, once; the next request asks anew.
    pub fn take_upgrade(&self) -> Upgrade {
        match self.upgrade.load(Relaxed) {
            1 => Upgrade::Granted,
            2 => {
                self.upgrade.store(0, Relaxed);
                Upgrade::Refused
            }
            _ => Upgrade::Unknown,
        }
    }

    pub fn upgraded(&self) -> bool {
        self.upgrade.load(Relaxed) == Upgrade::Granted as u8
    }

    pub fn order(&self, order: Order) {
        if self.order.fetch_max(order as u8, Relaxed) < order as u8 {
            self.finish_since.store(now_ms(), Relaxed);
            self.connection.wake();
        }
    }

    /// The order in force. The connection's task is woken when it changes.
    pub fn poll_order(&self, context: &Context<'_>) -> Order {
        self.connection.register(context.waker());
        match self.order.load(Relaxed) {
            0 => Order::None,
            1 => Order::Finish,
            _ => Order::Stop,
        }
    }

    /// Why the stream of requests cannot be trusted any more.
    pub fn fault(&self) -> Option<Refusal> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_fault(&self, refusal: Refusal) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Since when the client is waited for to end its head; 0: it is not. Over HTTP/1, what a client sends ahead is not read on while
    /// its last request is served, so that time is not the client's.
    fn head_awaited_since(&self) -> u64 {
        match self.head_since.load(Relaxed) {
            0 => 0,
            since if self.http2 => since,
            _ if self.active() > 0 => 0,
            since => since.max(self.idle_since.load(Relaxed)),
        }
    }

    /// Gives the orders that are due. Returns whether the connection is still open.
    fn sweep(&self, limits: &Connections, now: u64) -> bool {
        if self.closed.load(Relaxed) {
            return false;
        }
        let late = |since: u64, after_ms: u64| since != 0 && now.saturating_sub(since) > after_ms;
        if late(self.write_blocked_since.load(Relaxed), limits.write_timeout_ms)
            || late(self.lingering_since.load(Relaxed), LINGER_MS)
        {
            self.order(Order::Stop);
        }
        // A graceful end that hangs (hyper #4170).
        if late(self.finish_since.load(Relaxed), FINISH_MS) && self.active() == 0 && !self.head_under_way() {
            self.order(Order::Stop);
        }
        if late(self.head_awaited_since(), limits.header_timeout_ms) {
            if !self.head_expired.swap(true, Relaxed) {
                self.connection.wake();
            }
        } else if self.active() == 0
            && !self.head_under_way()
            && late(self.idle_since.load(Relaxed), limits.idle_timeout_ms)
        {
            self.order(Order::Finish);
        }
        if late(self.opened_at, limits.max_age_seconds.saturating_mul(1_000)) && !self.head_under_way() {
            self.order(Order::Finish);
        }
        true
    }
}

/// The pace of one body: while its client is waited for, bytes must come, or be taken.
pub struct BodyPace {
    kind: BodyKind,
    /// When the present wait for the client began; 0: it is not waited for.
    since: AtomicU64,
    waited_ms: AtomicU64,
    bytes: AtomicU64,
    late: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// A request's body: at least the configured bytes a second, after a grace.
    Request,
    /// A response's body that the client does not take.
    Response,
}

impl BodyPace {
    pub fn new(kind: BodyKind) -> Arc<BodyPace> {
        Arc::new(BodyPace {
            kind,
            since: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            late: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// The client is waited for.
    pub fn waits(&self) {
        if self.since.load(Relaxed) == 0 {
            self.since.store(now_ms(), Relaxed);
        }
    }

    /// The client moved so many bytes.
    pub fn moves(&self, bytes: usize) {
        let since = self.since.swap(0, Relaxed);
        if since != 0 {
            self.waited_ms.fetch_add(now_ms().saturating_sub(since), Relaxed);
        }
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether the body is late; the task is woken when it becomes so.
    pub fn poll_late(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.late.load(Relaxed)
    }

    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    fn sweep(&self, limits: &Connections, now: u64) -> bool {
        let since = self.since.load(Relaxed);
        if self.closed.load(Relaxed) || since == 0 {
            return !self.closed.load(Relaxed);
        }
        let waits_ms = now.saturating_sub(since);
        let late = match self.kind {
            BodyKind::Response => waits_ms > limits.write_timeout_ms,
            BodyKind::Request => {
                let grace_ms = limits.body_grace_seconds.saturating_mul(1_000);
                let counted_ms = (waits_ms + self.waited_ms.load(Relaxed)).saturating_sub(grace_ms);
                counted_ms.saturating_mul(limits.body_min_bytes_per_second) / 1_000 > self.bytes.load(Relaxed)
            }
        };
        if late && !self.late.swap(true, Relaxed) {
            self.waker.wake();
        }
        true
    }
}

/// What is open on one thread.
#[derive(Clone, Default)]
pub struct Sweeper {
    connections: Rc<RefCell<Vec<Arc<Pace>>>>,
    bodies: Rc<RefCell<Vec<Arc<BodyPace>>>>,
}

impl Sweeper {
    pub fn watch(&self, pace: Arc<Pace>) {
        self.connections.borrow_mut().push(pace);
    }

    pub fn watch_body(&self, pace: Arc<BodyPace>) {
        self.bodies.borrow_mut().push(pace);
    }

    /// Gives `order` to every connection of the thread.
    pub fn order_all(&self, order: Order) {
        for pace in self.connections.borrow().iter().filter(|pace| order == Order::Stop || !pace.head_under_way()) {
            pace.order(order);
        }
    }

    /// Keeps the thread's clock and its deadlines; never returns.
    pub async fn run(&self, limits: &Connections) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            advance_clock();
            let now = now_ms();
            self.connections.borrow_mut().retain(|pace| pace.sweep(limits, now));
            self.bodies.borrow_mut().retain(|pace| pace.sweep(limits, now));
        }
    }
}
