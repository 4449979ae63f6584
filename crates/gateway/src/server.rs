//! The life of the process: start, threads, signals, drain, end.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use stockade_engine::Proofs;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::accept::{self, Balance, Handed};
use crate::admin::{AdminSocket, Control};
use crate::config::Config;
use crate::deadlines::Order;
use crate::events::{Event, Events, Kind, Outcome};
use crate::force::{self, LoadError};
use crate::identity::Credentials;
use crate::metrics::Metrics;
use crate::state::{Drain, Parts, Shared};
use crate::upstream::UpstreamShared;
use crate::worker::Worker;
use crate::{listen, tls};

/// How long answers say `Connection: close` before connections are ended: clients learn it without losing a request.
const SOFT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// What may go on beside a thread that is told to stop at once.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Why the process ends with another status than 0 (`docs/contracts.md` §4).
#[derive(Debug)]
pub struct Failure {
    pub status: i32,
    pub message: String,
}

fn failure(status: i32) -> impl Fn(&dyn std::fmt::Display) -> Failure {
    move |message| Failure { status, message: message.to_string() }
}

/// Runs until drained.
pub fn run(config_path: &Path) -> Result<(), Failure> {
    let config = Arc::new(Config::load(config_path).map_err(|error| failure(2)(&error))?);
    let metrics = Arc::new(Metrics::new());
    quiet_panics(metrics.clone());
    let shared = Arc::new(prepare(&config, metrics)?);
    let listeners = listen::open(&config.listen, config.threads).map_err(|error| failure(1)(&error))?;
    let control = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| failure(1)(&error))?;
    control.block_on(serve(&shared, listeners))
}

/// A panic costs one request. What it says may hold what the request said, so only its place is told.
fn quiet_panics(metrics: Arc<Metrics>) {
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "stockade-gateway: error: a panic at {place}");
    }));
}

fn prepare(config: &Arc<Config>, metrics: Arc<Metrics>) -> Result<Shared, Failure> {
    let tls = config.listen.tls.as_ref().map(tls::server_config).transpose().map_err(|error| failure(2)(&error))?;
    let force = force::read(&config.bundle.path, config, &metrics).map_err(|error| match error {
        LoadError::SelfCheck(_) => failure(4)(&error),
        _ => failure(3)(&error),
    })?;
    let events = Arc::new(Events::start(&config.events, metrics.clone()).map_err(|error| failure(1)(&error))?);
    let upstream = UpstreamShared::new(Arc::new(config.upstream.clone()), metrics.clone(), Some(events.clone()));
    let upstream = Arc::new(upstream.map_err(|error| failure(2)(&error))?);
    let credentials = config
        .authorization_server
        .as_ref()
        .map(|server| Credentials::start(server, metrics.clone(), Some(events.clone())))
        .transpose()
        .map_err(|error| failure(2)(&error))?
        .map(Arc::new);
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| failure(1)(&"no randomness"))?;
    let proofs = Proofs::new(&key, force.plan.max_tracked_keys());
    Ok(Shared::new(Parts { config: config.clone(), force, proofs, events, metrics, credentials, upstream, tls }))
}

/// The control thread: admin interface, signals, and the threads that serve.
async fn serve(shared: &Arc<Shared>, listeners: Vec<TcpListener>) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| failure(1)(&error))?;
    let admin = shared.config.admin.as_ref().map(|admin| AdminSocket::bind(&admin.socket)).transpose();
    let admin = admin.map_err(|error| failure(1)(&format!("cannot open the admin socket: {error}")))?;
    let threads = start_threads(shared, listeners)?;
    shared.ready.store(true, Relaxed);
    shared.events.emit(process_event("ready"));
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
    let control: Arc<dyn Control> = shared.clone();
    let admin = async {
        match &admin {
            Some(admin) => admin.serve(control).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = admin => {}
        () = obey(shared, &mut signals) => {}
        () = finished(&threads) => {}
    }
    for thread in threads {
        thread.join().map_err(|_| failure(1)(&"a thread died"))?;
    }
    shared.events.emit(process_event("stopped"));
    Ok(())
}

fn process_event(detail: &'static str) -> Event {
    let mut event = Event::new(Kind::Process, Outcome::Allow);
    event.detail = Some(detail.into());
    event
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the process; reloads on the other.
    async fn ending(&mut self, shared: &Arc<Shared>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reload(shared).await,
            }
        }
    }
}

async fn reload(shared: &Arc<Shared>) {
    let control = shared.clone();
    let result = tokio::task::spawn_blocking(move || control.reload_certificates()).await;
    if let Ok(Err(error)) = result {
        let _ = writeln!(std::io::stderr(), "stockade-gateway: error: certificates not reloaded: {error}");
    }
}

/// Drains on the first signal or on request, stops on the second or at the deadline; then waits to be dropped.
async fn obey(shared: &Arc<Shared>, signals: &mut Signals) {
    let mut drain = shared.drain.subscribe();
    tokio::select! {
        () = signals.ending(shared) => {}
        _ = drain.wait_for(|stage| *stage != Drain::No) => {}
    }
    shared.drain_to(Drain::Soft);
    shared.events.emit(process_event("draining"));
    let deadline = Duration::from_secs(shared.config.drain_seconds);
    let _ = tokio::time::timeout(deadline, signals.ending(shared)).await;
    shared.drain_to(Drain::Now);
    std::future::pending().await
}

async fn finished(threads: &[JoinHandle<()>]) {
    while !threads.iter().all(JoinHandle::is_finished) {
        tokio::time::sleep(POLL).await;
    }
}

/// Starts one thread a listening socket, and waits until all accept.
fn start_threads(shared: &Arc<Shared>, listeners: Vec<TcpListener>) -> Result<Vec<JoinHandle<()>>, Failure> {
    let (senders, inboxes): (Vec<_>, Vec<_>) = listeners.iter().map(|_| mpsc::unbounded_channel::<Handed>()).unzip();
    let loads = listeners.iter().map(|_| AtomicUsize::new(0)).collect();
    let balance = Arc::new(Balance { loads, inboxes: senders });
    let (started, starting) = std::sync::mpsc::channel::<std::io::Result<()>>();
    let mut threads = Vec::new();
    for (index, (listener, inbox)) in listeners.into_iter().zip(inboxes).enumerate() {
        let (shared, balance, started) = (shared.clone(), balance.clone(), started.clone());
        let thread = std::thread::Builder::new()
            .name(format!("gateway-{index}"))
            .spawn(move || run_thread(index, shared, balance, listener, inbox, &started))
            .map_err(|error| failure(1)(&error))?;
        threads.push(thread);
    }
    drop(started);
    for _ in &threads {
        starting.recv().map_err(|_| failure(1)(&"a thread died"))?.map_err(|error| failure(1)(&error))?;
    }
    Ok(threads)
}

fn run_thread(
    index: usize,
    shared: Arc<Shared>,
    balance: Arc<Balance>,
    listener: TcpListener,
    inbox: mpsc::UnboundedReceiver<Handed>,
    started: &std::sync::mpsc::Sender<std::io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let (stop, stopped) = watch::channel(false);
                let worker = Rc::new(Worker::new(index, shared, balance, stopped));
                let _ = started.send(Ok(()));
                work(worker, listener, inbox, stop).await;
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
}

/// One thread's work, from the first connection to the last.
async fn work(
    worker: Rc<Worker>,
    listener: tokio::net::TcpListener,
    inbox: mpsc::UnboundedReceiver<Handed>,
    stop_accepting: watch::Sender<bool>,
) {
    let shared = worker.shared.clone();
    let sweeping = worker.clone();
    tokio::task::spawn_local(async move { sweeping.sweeper.run(&sweeping.shared.config.connections).await });
    tokio::task::spawn_local(accept::accept(worker.clone(), listener));
    tokio::task::spawn_local(accept::receive(worker.clone(), inbox));
    let mut drain = shared.drain.subscribe();
    let _ = drain.wait_for(|stage| *stage != Drain::No).await;
    // A socket of our own goes with us: what waits in its queue is served first. An inherited one has other takers.
    let inherited = shared.config.listen.address.is_none();
    stop_accepting.send_replace(inherited);
    let now = async { drop(drain.wait_for(|stage| *stage == Drain::Now).await) };
    let gently = async {
        if !inherited || !worker.is_idle() {
            tokio::time::sleep(SOFT).await;
        }
        stop_accepting.send_replace(true);
        while !worker.is_idle() {
            worker.sweeper.order_all(Order::Finish);
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = gently => {}
        () = now => {
            worker.sweeper.order_all(Order::Stop);
            tokio::time::sleep(LAST_WORDS).await;
        }
    }
}
