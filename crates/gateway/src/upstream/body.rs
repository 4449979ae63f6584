//! Bodies to and from the upstream.

use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::Sleep;

use super::UpstreamError;
use super::pool::Lease;

/// What of an unwanted body is read for its connection's sake, and for how long.
const MAX_DISCARDED_BYTES: u64 = 64 << 10;
const DISCARD_FOR: Duration = Duration::from_millis(250);

pub type BoxError = Box<dyn Error + Send + Sync>;

/// A request body from downstream; it need not be `Send`, as it stays on its thread.
pub type RequestStream = Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

/// The body of a request to the upstream.
#[derive(Default)]
pub enum UpstreamBody {
    #[default]
    Empty,
    Full(Bytes),
    Stream(RequestStream),
    /// A stream whose progress puts the answer's deadline off; made of `Stream` when it is sent.
    #[doc(hidden)]
    Watched(RequestStream, Rc<Progress>),
}

/// How a request body fares: when it last moved, and what broke it. hyper tells the latter for HTTP/1 only.
pub struct Progress {
    last: Cell<Instant>,
    failure: Cell<Option<BoxError>>,
}

impl Progress {
    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }

    pub(super) fn take_failure(&self) -> Option<BoxError> {
        self.failure.take()
    }
}

impl UpstreamBody {
    /// Whether there is certainly nothing to send.
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    pub(super) fn watch(&mut self) -> Option<Rc<Progress>> {
        match std::mem::take(self) {
            UpstreamBody::Stream(stream) => {
                let progress = Rc::new(Progress { last: Cell::new(Instant::now()), failure: Cell::default() });
                *self = UpstreamBody::Watched(stream, progress.clone());
                Some(progress)
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            UpstreamBody::Empty => Poll::Ready(None),
            UpstreamBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            UpstreamBody::Stream(stream) => stream.as_mut().poll_frame(context),
            UpstreamBody::Watched(stream, progress) => {
                let polled = stream.as_mut().poll_frame(context);
                // Being polled is progress as well: the upstream takes what is sent, and the client has its own deadline.
                progress.last.set(Instant::now());
                polled.map_err(|source| {
                    progress.failure.set(Some(source));
                    "the request body broke off".into()
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Empty => true,
            UpstreamBody::Full(bytes) => bytes.is_empty(),
            UpstreamBody::Stream(stream) | UpstreamBody::Watched(stream, _) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Empty => SizeHint::with_exact(0),
            UpstreamBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            UpstreamBody::Stream(stream) | UpstreamBody::Watched(stream, _) => stream.size_hint(),
        }
    }
}

/// The body of an answer. It ends without an error only if the upstream sent all of it; the connection goes back to the pool then.
pub struct UpstreamResponseBody {
    incoming: Incoming,
    /// What `Content-Length` still promises.
    remaining: Option<u64>,
    /// How long the upstream may stay silent between two pieces.
    stall: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    lease: Option<Lease>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Complete,
    Broken,
}

impl UpstreamResponseBody {
    pub(super) fn new(incoming: Incoming, expected: Option<u64>, stall: Option<Duration>, lease: Lease) -> Self {
        let mut body = UpstreamResponseBody {
            incoming,
            remaining: expected,
            stall,
            sleep: None,
            lease: Some(lease),
            state: State::Reading,
        };
        body.finish_if_complete();
        body
    }

    /// Reads what is left of a body that nobody wants, if it is little and comes soon, so that its connection serves on. Without this
    /// call a body that is dropped before its end takes its connection with it.
    pub fn discard(self) {
        if self.state == State::Reading && self.remaining.is_none_or(|remaining| remaining <= MAX_DISCARDED_BYTES) {
            spawn_local(tokio::time::timeout(DISCARD_FOR, read_away(self)));
        }
    }

    /// hyper knows the end of a body of known length before it is asked for another piece; some callers never ask.
    fn finish_if_complete(&mut self) {
        if self.incoming.is_end_stream() && self.remaining.is_none_or(|remaining| remaining == 0) {
            self.state = State::Complete;
            if let Some(lease) = self.lease.take() {
                lease.complete();
            }
        }
    }

    fn break_off(&mut self, error: UpstreamError) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        self.state = State::Broken;
        self.sleep = None;
        if let Some(lease) = self.lease.take() {
            lease.broken();
        }
        Poll::Ready(Some(Err(error)))
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        // HTTP/2 lets a peer reset a stream with NO_ERROR in the middle; hyper reports that as an ordinary end.
        let cut = self.lease.as_ref().is_some_and(Lease::is_http2) && !self.incoming.is_end_stream();
        if cut || self.remaining.is_some_and(|remaining| remaining > 0) {
            return self.break_off(UpstreamError::Protocol("the answer's body is shorter than announced".into()));
        }
        self.state = State::Complete;
        if let Some(lease) = self.lease.take() {
            lease.complete();
        }
        Poll::Ready(None)
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let Some(stall) = self.stall else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.break_off(UpstreamError::Timeout("the answer's body stalled"))
    }
}

async fn read_away(mut body: UpstreamResponseBody) {
    let mut left = MAX_DISCARDED_BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl Body for UpstreamResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        if this.state != State::Reading {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Pending => return this.poll_stall(context),
            Poll::Ready(None) => return this.end(),
            Poll::Ready(Some(Err(_))) => {
                return this.break_off(UpstreamError::Protocol("the answer's body broke off".into()));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        this.sleep = None;
        if let (Some(remaining), Some(data)) = (&mut this.remaining, frame.data_ref()) {
            match remaining.checked_sub(data.len() as u64) {
                Some(rest) => *remaining = rest,
                None => {
                    return this
                        .break_off(UpstreamError::Protocol("the answer's body is longer than announced".into()));
                }
            }
        }
        this.finish_if_complete();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Complete
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
