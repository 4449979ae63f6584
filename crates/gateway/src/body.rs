//! Bodies in both directions: capped, paced, and counted while they are kept in memory.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use stockade_engine::Reason;

use crate::deadlines::{BodyKind, BodyPace, Pace};
use crate::guard::Refusal;
use crate::upstream::UpstreamResponseBody;
use crate::wire::MAX_LINGER_BYTES;
use crate::worker::Worker;

/// How long a refused body is read away.
const DISCARD_FOR: Duration = Duration::from_secs(2);

/// Why a request's body stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("the body exceeds its limit")]
    TooLarge,
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the body is malformed")]
    Malformed(Refusal),
    #[error("the client went away")]
    Gone,
    #[error("too much is buffered")]
    Overloaded,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.evidence)
    }
}

/// A request's body as the client sends it.
pub struct ClientBody {
    incoming: Incoming,
    left: usize,
    pace: Arc<Pace>,
    watch: Option<Arc<BodyPace>>,
    worker: Rc<Worker>,
    fault: Rc<Cell<Option<BodyFault>>>,
    /// What was read ahead.
    first: Option<Bytes>,
}

impl ClientBody {
    pub fn new(incoming: Incoming, max_bytes: usize, pace: &Arc<Pace>, worker: &Rc<Worker>) -> ClientBody {
        let fault = Rc::new(Cell::new(None));
        ClientBody {
            incoming,
            left: max_bytes,
            pace: pace.clone(),
            watch: None,
            worker: worker.clone(),
            fault,
            first: None,
        }
    }

    /// Where the fault can be read once the body has been handed on.
    pub fn fault(&self) -> Rc<Cell<Option<BodyFault>>> {
        self.fault.clone()
    }

    /// Whether there is no byte in it: a body may be announced and come empty.
    pub async fn is_empty(&mut self) -> Result<bool, BodyFault> {
        while self.first.is_none() {
            match self.frame().await {
                None => return Ok(true),
                Some(frame) => self.first = frame?.into_data().ok().filter(|data| !data.is_empty()),
            }
        }
        Ok(false)
    }

    /// Reads away what the client still sends of a refused body, if that is little and comes soon. Without this call the stream is reset
    /// after the answer, as RFC 9113 §8.1 allows; but there are clients that read no answer before all of the body is sent.
    pub fn discard(mut self) {
        if self.is_end_stream() {
            return;
        }
        self.left = MAX_LINGER_BYTES;
        let reading = async move { while let Some(Ok(_)) = self.frame().await {} };
        tokio::task::spawn_local(tokio::time::timeout(DISCARD_FOR, reading));
    }

    /// The whole body in memory, with its share of the budget.
    pub async fn read_whole(&mut self) -> Result<(Bytes, Budget), BodyFault> {
        let mut budget = Budget::new(&self.worker);
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            budget.grow(data.len()).ok_or(BodyFault::Overloaded)?;
            if first.is_empty() && whole.is_empty() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                let expected = usize::try_from(self.incoming.size_hint().lower()).unwrap_or(usize::MAX).min(self.left);
                whole.reserve(first.len() + data.len() + expected);
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        Ok((if whole.is_empty() { first } else { whole.freeze() }, budget))
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn wait(&mut self, context: &Context<'_>) -> bool {
        let watch = self.watch.get_or_insert_with(|| {
            let watch = BodyPace::new(BodyKind::Request);
            self.worker.sweeper.watch_body(watch.clone());
            watch
        });
        watch.waits();
        watch.poll_late(context)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Pending if this.wait(context) => this.fail(BodyFault::TooSlow),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => {
                let fault = this.pace.fault().map_or(BodyFault::Gone, BodyFault::Malformed);
                this.fail(fault)
            }
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers of requests have no declared meaning: they end here.
                let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
                if let Some(watch) = &this.watch {
                    watch.moves(data.len());
                }
                match this.left.checked_sub(data.len()) {
                    Some(left) => this.left = left,
                    None => return this.fail(BodyFault::TooLarge),
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::default();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.close();
        }
    }
}

impl BodyFault {
    pub fn reason(self) -> Reason {
        match self {
            BodyFault::TooLarge => Reason::BodyTooLarge,
            BodyFault::TooSlow => Reason::Timeout,
            BodyFault::Malformed(refusal) => refusal.reason,
            BodyFault::Gone => Reason::BadRequest,
            BodyFault::Overloaded => Reason::Overloaded,
        }
    }
}

/// Bytes kept in memory, out of `max_buffered_bytes` of the whole process; given back on drop.
pub struct Budget {
    worker: Rc<Worker>,
    taken: usize,
}

impl Budget {
    pub fn new(worker: &Rc<Worker>) -> Budget {
        Budget { worker: worker.clone(), taken: 0 }
    }

    /// `None`: the process keeps as much as it may.
    pub fn grow(&mut self, bytes: usize) -> Option<()> {
        self.taken += bytes;
        let shared = &self.worker.shared;
        let before = shared.buffered_bytes.fetch_add(bytes, Relaxed);
        (before.saturating_add(bytes) <= shared.config.connections.max_buffered_bytes).then_some(())
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.worker.shared.buffered_bytes.fetch_sub(self.taken, Relaxed);
        }
    }
}

/// A request in flight: counted for the process and for its connection until its answer is written, or given up.
pub struct InFlight {
    worker: Rc<Worker>,
    pace: Arc<Pace>,
}

impl InFlight {
    pub fn begin(worker: &Rc<Worker>, pace: &Arc<Pace>) -> InFlight {
        worker.shared.in_flight.begin(worker.index);
        pace.request_begins();
        InFlight { worker: worker.clone(), pace: pace.clone() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.worker.shared.in_flight.end(self.worker.index);
        self.pace.request_ends();
    }
}

/// An answer's body.
pub struct OutBody {
    kind: Kind,
    /// The requests in flight end with their answers' bodies.
    in_flight: Option<InFlight>,
    /// What an inspected body took from the budget.
    budget: Option<Budget>,
    /// An HTTP/2 stream whose client takes nothing.
    stall: Option<Stall>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream { first: Bytes, rest: Box<UpstreamResponseBody> },
}

/// Tells the stream's task that its client takes nothing.
struct Stall {
    watch: Arc<BodyPace>,
}

impl OutBody {
    pub fn empty() -> OutBody {
        OutBody::of(Kind::Empty)
    }

    pub fn full(bytes: Bytes) -> OutBody {
        OutBody::of(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// `first` was read already; `rest` follows.
    pub fn stream(first: Bytes, rest: UpstreamResponseBody) -> OutBody {
        OutBody::of(Kind::Stream { first, rest: Box::new(rest) })
    }

    fn of(kind: Kind) -> OutBody {
        OutBody { kind, in_flight: None, budget: None, stall: None }
    }

    pub fn with_budget(mut self, budget: Budget) -> OutBody {
        self.budget = Some(budget);
        self
    }

    /// Ties the request's place to this body.
    pub fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// Stops the HTTP/2 stream when its client takes nothing for too long.
    pub fn watch_stall(&mut self, watch: Arc<BodyPace>) {
        if !self.is_end_stream() {
            self.stall = Some(Stall { watch });
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(stall) = &this.stall {
            stall.watch.moves(0);
        }
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(_) => match std::mem::replace(&mut this.kind, Kind::Empty) {
                Kind::Full(bytes) => Some(Ok(Frame::data(bytes))),
                _ => None,
            },
            Kind::Stream { first, .. } if !first.is_empty() => Some(Ok(Frame::data(std::mem::take(first)))),
            Kind::Stream { rest, .. } => {
                ready!(Pin::new(&mut **rest).poll_frame(context)).map(|f| f.map_err(Into::into))
            }
        };
        if let (Some(stall), Some(Ok(_))) = (&this.stall, &frame) {
            // From here on the client is waited for, until hyper asks for more.
            stall.watch.waits();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream { first, rest } => first.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream { first, rest } => {
                let mut hint = rest.size_hint();
                let first = first.len() as u64;
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(first));
                }
                hint.set_lower(hint.lower().saturating_add(first).min(hint.upper().unwrap_or(u64::MAX)));
                hint
            }
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.watch.close();
    }
}
