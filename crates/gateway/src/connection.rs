//! One client connection: hyper on the wire, the service behind it, and the orders of the sweep.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use hyper_util::rt::TokioIo;
use stockade_engine::{Layer, Reason};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::accept::Slot;
use crate::body::OutBody;
use crate::deadlines::{BodyKind, BodyPace, Order, Pace, now_ms};
use crate::events::{Client, Event, Kind, Outcome};
use crate::frames::FrameCounter;
use crate::guard::Guard;
use crate::recycle::{Call, Serving};
use crate::wire::Wire;
use crate::worker::Worker;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The TCP peer, or what a trusted balancer's PROXY header says.
    pub address: IpAddr,
    /// The same as a field's value, made once.
    pub address_value: HeaderValue,
    /// Whether that address may speak for others in forwarding headers.
    pub trusted: bool,
    pub tls: bool,
    /// A certificate that the configured CA signed.
    pub client_certificate: bool,
    /// Of any certificate whose key it has.
    pub certificate_thumbprint: Option<[u8; 32]>,
    pub http2: bool,
}

impl Peer {
    pub fn new(address: IpAddr, trusted: bool) -> Peer {
        // An address is digits, letters, dots and colons.
        let address_value =
            HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Peer {
            address,
            address_value,
            trusted,
            tls: false,
            client_certificate: false,
            certificate_thumbprint: None,
            http2: false,
        }
    }
}

/// Serves one connection until it ends.
pub async fn serve<S>(worker: &Rc<Worker>, stream: S, peer: Rc<Peer>, slot: Slot)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &worker.shared.config.connections;
    let pace = Pace::new(peer.http2);
    worker.sweeper.watch(pace.clone());
    let service = Service { worker: worker.clone(), peer: peer.clone(), pace: pace.clone() };
    let ended = if peer.http2 {
        let counter = FrameCounter::new(limits.max_header_bytes.saturating_mul(2), now_ms());
        let wire = Wire::http2(stream, pace.clone(), counter, slot);
        let connection = worker.http2.serve_connection(TokioIo::new(wire), service);
        drive(Box::pin(connection), &pace, peer.http2, |connection| connection.graceful_shutdown()).await
    } else {
        let guard = Guard::new(limits.max_header_bytes, limits.max_headers);
        let wire = Wire::http1(stream, pace.clone(), guard, slot);
        let connection = worker.http1.serve_connection(TokioIo::new(wire), service).with_upgrades();
        drive(Box::pin(connection), &pace, peer.http2, |connection| connection.graceful_shutdown()).await
    };
    pace.close();
    if let Err(error) = ended {
        report(worker, &peer, &pace, &error);
    }
}

/// Polls the connection, and obeys.
async fn drive<C>(
    mut connection: Pin<Box<C>>,
    pace: &Pace,
    http2: bool,
    finish: impl Fn(Pin<&mut C>),
) -> Result<(), hyper::Error>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut finishing = false;
    std::future::poll_fn(|context| {
        match pace.poll_order(context) {
            Order::Stop => return Poll::Ready(Ok(())),
            // Over HTTP/1 the wire answers; a header block that does not end has nobody to be answered.
            _ if http2 && pace.head_expired() => return Poll::Ready(Ok(())),
            Order::Finish if !finishing => {
                finishing = true;
                finish(connection.as_mut());
            }
            _ => {}
        }
        connection.as_mut().poll(context)
    })
    .await
}

/// Counts what a client's bytes did to its connection. A client that just went away is no news.
fn report(worker: &Worker, peer: &Peer, pace: &Pace, error: &hyper::Error) {
    let fault = pace.fault();
    if fault.is_none() && !error.is_parse() && !is_http2_fault(error) {
        return;
    }
    worker.shared.metrics.protocol_errors.inc();
    if !peer.http2 && fault.is_some() || !worker.may_report_fault() {
        // Over HTTP/1 the stand-in request has reported it.
        return;
    }
    let mut event = Event::new(Kind::Connection, Outcome::Deny);
    event.layer = Some(Layer::Framing);
    event.reason = Some(fault.map_or(Reason::BadRequest, |fault| fault.reason));
    event.evidence = fault.map(|fault| fault.evidence.into());
    event.client = Some(Client { address: Some(peer.address), client_id: None });
    event.detail = Some(if peer.http2 { "HTTP/2 connection cut" } else { "HTTP/1 connection cut" }.into());
    worker.shared.events.emit(event);
}

fn is_http2_fault(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| error.is_go_away() && !error.is_io() && error.reason() != Some(h2::Reason::NO_ERROR))
}

struct Service {
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    pace: Arc<Pace>,
}

impl HyperService<Request<Incoming>> for Service {
    type Response = Response<OutBody>;
    type Error = Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        let (worker, peer, pace) = (self.worker.clone(), self.peer.clone(), self.pace.clone());
        Serving::start(Call { worker, peer, pace, request })
    }
}

thread_local! {
    /// The watch of the HTTP/2 stream that is being polled, for the service that runs in it.
    static STREAM: RefCell<Option<Arc<BodyPace>>> = const { RefCell::new(None) };
}

/// The watch of the HTTP/2 stream under way.
pub fn stream_watch() -> Option<Arc<BodyPace>> {
    STREAM.with_borrow(Option::clone)
}

/// Runs hyper's HTTP/2 streams on this thread, each with a watch that can stop it.
#[derive(Clone, Copy)]
pub struct StreamExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(WatchedStream { watch: BodyPace::new(BodyKind::Response), stream: Box::pin(stream) });
    }
}

/// An HTTP/2 stream: dropped, and so reset, when its client takes nothing for too long.
struct WatchedStream<F> {
    watch: Arc<BodyPace>,
    stream: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for WatchedStream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.watch.poll_late(context) {
            return Poll::Ready(());
        }
        STREAM.set(Some(this.watch.clone()));
        let result = this.stream.as_mut().poll(context);
        STREAM.set(None);
        result
    }
}
