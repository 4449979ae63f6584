//! From a listening socket to a connection with its places taken: limits, the PROXY header, TLS, and the choice of a thread.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_engine::{Layer, Reason};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_rustls::TlsAcceptor;

use crate::config::Connections;
use crate::connection::{self, Peer};
use crate::events::{Client, Event, Kind, Outcome};
use crate::proxy;
use crate::worker::Worker;

const SHARDS: usize = 16;
/// How long to leave the listening socket alone when the process is out of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// What a connection beyond the limits gets in clear text: one write, no allocation.
const SHED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How many connections there are, in all and for each address.
pub struct Places {
    open: AtomicUsize,
    max: usize,
    max_per_address: u32,
    addresses: [Mutex<HashMap<u64, u32, ahash::RandomState>>; SHARDS],
}

/// One place, given back on drop.
pub struct Slot {
    places: Arc<Places>,
    address: Option<u64>,
}

impl Places {
    pub fn new(limits: &Connections) -> Arc<Places> {
        Arc::new(Places {
            open: AtomicUsize::new(0),
            max: limits.max,
            max_per_address: u32::try_from(limits.max_per_address).unwrap_or(u32::MAX),
            addresses: Default::default(),
        })
    }

    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// A place among all, or `None` when they are taken.
    pub fn take(self: &Arc<Places>) -> Option<Slot> {
        let slot = Slot { places: self.clone(), address: None };
        (self.open.fetch_add(1, Relaxed) < self.max).then_some(slot)
    }

    fn shard(&self, address: u64) -> &Mutex<HashMap<u64, u32, ahash::RandomState>> {
        // Neighbouring addresses go to different shards.
        let index = (address ^ address >> 32) as usize % SHARDS;
        &self.addresses[index]
    }
}

impl Slot {
    /// Counts the connection for its client's address. False: that address has all it may have.
    fn claim(&mut self, address: IpAddr) -> bool {
        let key = group(address);
        let mut counts = self.places.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.places.max_per_address {
            return false;
        }
        *count += 1;
        drop(counts);
        self.address = Some(key);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Relaxed);
        let Some(key) = self.address else { return };
        let mut counts = self.places.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// An IPv4 address, or the /64 that one IPv6 customer has.
fn group(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
    }
}

/// A connection on its way to another thread.
pub struct Handed {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    slot: Slot,
}

/// How many connections each thread serves, and the way to it.
pub struct Balance {
    pub loads: Vec<AtomicUsize>,
    pub inboxes: Vec<tokio::sync::mpsc::UnboundedSender<Handed>>,
}

impl Balance {
    /// The thread that should serve the next connection: this one, unless another has clearly less to do.
    fn choose(&self, own: usize) -> usize {
        let load = |index: usize| self.loads.get(index).map_or(usize::MAX, |load| load.load(Relaxed));
        let Some(idlest) = (0..self.loads.len()).min_by_key(|index| load(*index)) else { return own };
        if load(own) > load(idlest) + (load(idlest) / 8).max(1) { idlest } else { own }
    }
}

/// Accepts until told to stop. Out of descriptors it waits and counts, instead of spinning.
pub async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    let mut stop = worker.stop_accepting.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&worker, stream, peer),
            Err(error) => {
                worker.shared.metrics.accept_errors.inc();
                if !is_of_one_connection(&error) {
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

/// Serves what other threads hand over.
pub async fn receive(worker: Rc<Worker>, mut inbox: UnboundedReceiver<Handed>) {
    while let Some(Handed { stream, peer, slot }) = inbox.recv().await {
        if let Ok(stream) = TcpStream::from_std(stream) {
            start(&worker, stream, peer, slot);
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    worker.shared.metrics.connections_accepted.inc();
    let Some(slot) = worker.shared.places.take() else { return shed(worker, stream, peer.ip()) };
    let chosen = worker.balance.choose(worker.index);
    if chosen == worker.index {
        return start(worker, stream, peer, slot);
    }
    if let (Some(inbox), Ok(stream)) = (worker.balance.inboxes.get(chosen), stream.into_std()) {
        // A thread that is gone takes its connections with it; the client may try again.
        let _ = inbox.send(Handed { stream, peer, slot });
    }
}

fn start(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, slot: Slot) {
    let load = Load::new(worker);
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        let _load = load;
        serve(&worker, stream, peer, slot).await;
    });
}

/// Counts one connection for its thread.
struct Load(Rc<Worker>);

impl Load {
    fn new(worker: &Rc<Worker>) -> Load {
        if let Some(load) = worker.balance.loads.get(worker.index) {
            load.fetch_add(1, Relaxed);
        }
        worker.shared.metrics.connections.inc();
        Load(worker.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(load) = self.0.balance.loads.get(self.0.index) {
            load.fetch_sub(1, Relaxed);
        }
        self.0.shared.metrics.connections.dec();
    }
}

/// Turns a connection away, without a byte read.
fn shed(worker: &Rc<Worker>, mut stream: TcpStream, address: IpAddr) {
    let shared = &worker.shared;
    shared.metrics.shed_connections.inc();
    if worker.may_report_shed() {
        let mut event = Event::new(Kind::Connection, Outcome::Deny);
        event.layer = Some(Layer::Limits);
        event.reason = Some(Reason::Overloaded);
        event.status = Some(503);
        event.client = Some(Client { address: Some(address), client_id: None });
        event.detail = Some("connections beyond the limits are turned away".into());
        shared.events.emit(event);
    }
    if shared.config.listen.tls.is_none() {
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(SHED)).await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, mut slot: Slot) {
    let shared = &worker.shared;
    let listen = &shared.config.listen;
    let patience = Duration::from_millis(shared.config.connections.handshake_timeout_ms);
    let _ = stream.set_nodelay(true);
    let mut socket = Socket { stream, early: Vec::new() };
    let mut address = peer.ip().to_canonical();
    if listen.proxy_protocol && shared.trusts(address) {
        match tokio::time::timeout(patience, proxy::read(&mut socket)).await {
            Ok(Ok(source)) => address = source.map_or(address, |source| source.to_canonical()),
            _ => return shared.metrics.protocol_errors.inc(),
        }
    }
    if !slot.claim(address) {
        return shed(worker, socket.stream, address);
    }
    let mut peer = Peer::new(address, shared.trusts(address));
    let Some(tls) = &shared.tls else {
        return connection::serve(worker, socket, Rc::new(peer), slot).await;
    };
    let handshake = Box::pin(TlsAcceptor::from(tls.load_full()).accept(socket));
    match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => {
            shared.metrics.handshakes_ok.inc();
            let (_, session) = stream.get_ref();
            peer.tls = true;
            if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
                peer.client_certificate = shared.config.listen.verifies_clients();
                peer.certificate_thumbprint = Some(thumbprint(certificate));
            }
            peer.http2 = session.alpn_protocol() == Some(b"h2");
            connection::serve(worker, stream, Rc::new(peer), slot).await;
        }
        Ok(Err(_)) => shared.metrics.handshakes_failed.inc(),
        Err(_) => shared.metrics.handshakes_timed_out.inc(),
    }
}

/// RFC 8705 §3.1: SHA-256 of the certificate's DER.
fn thumbprint(certificate: &[u8]) -> [u8; 32] {
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate).as_ref());
    thumbprint
}

/// At most one event of a kind a second.
#[derive(Default)]
pub struct Seldom(Cell<u64>);

impl Seldom {
    pub fn now(&self) -> bool {
        let now = crate::deadlines::now_ms();
        let due = self.0.get() == 0 || now.saturating_sub(self.0.get()) >= 1_000;
        if due {
            self.0.set(now);
        }
        due
    }
}

/// A TCP connection, and what was read of it beyond the PROXY header.
pub struct Socket {
    pub stream: TcpStream,
    pub early: Vec<u8>,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, out);
        }
        let n = self.early.len().min(out.remaining());
        out.put_slice(self.early.get(..n).unwrap_or_default());
        self.early.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
