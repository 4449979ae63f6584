//! The way to the API behind the gate: pools, endpoints, deadlines, and a strict reading of what comes back.
//!
//! ```text
//! Upstream::send ─▶ choose endpoint ─▶ acquire (idle ▸ wait ▸ connect) ─▶ exchange ─▶ inspect head ─▶ UpstreamResponseBody
//!       ▲                                                                    │                              │
//!       ╰────────── once more, where nothing was sent or nothing changes ◀───╯        end of body: back to the pool
//! ```
//!
//! One [`Upstream`] a thread, made inside its `LocalRuntime`; [`UpstreamShared`] is what the threads have in common.
//!
//! What the caller leaves to this module: `Host` (unless `preserve_host`), the endpoint's path prefix, `Content-Length`,
//! `Transfer-Encoding` and `Expect` of the request; the framing and hop-by-hop fields of the response, which are gone when it returns
//! (`Connection` and `Upgrade` of a 101 excepted, whose `hyper::upgrade::OnUpgrade` is in the extensions).

mod body;
mod connect;
mod endpoint;
mod io;
mod pool;
pub(crate) mod response;
mod tls;

use std::borrow::Cow;
use std::error::Error;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use stockade_engine::{Layer, Reason};

pub use body::{BoxError, RequestStream, UpstreamBody, UpstreamResponseBody};
pub use endpoint::{UpstreamConfigError, UpstreamShared};

use crate::config;
use body::Progress;
use pool::{Attempt, Leased, Pool};

/// A request is sent at most this often: the pooled connection was closed, and its successor as well.
const MAX_ATTEMPTS: usize = 3;

/// Why there is no usable answer. The text names no host, path or value; it may stand in an event's evidence.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("{0}")]
    Unreachable(Cow<'static, str>),
    #[error("{0}")]
    Timeout(&'static str),
    #[error("{0}")]
    Protocol(Cow<'static, str>),
    #[error("no connection to the upstream became free in time")]
    Overloaded,
    /// The request's own body failed: the client's doing, and the source says how.
    #[error("the request body broke off")]
    RequestBody(#[source] BoxError),
}

impl UpstreamError {
    /// Where it stands in `docs/contracts.md` §2.
    pub fn reason(&self) -> (Layer, Reason) {
        match self {
            UpstreamError::Unreachable(_) => (Layer::Upstream, Reason::Unreachable),
            UpstreamError::Timeout(_) => (Layer::Upstream, Reason::UpstreamTimeout),
            UpstreamError::Protocol(_) => (Layer::Upstream, Reason::ProtocolError),
            UpstreamError::Overloaded => (Layer::Upstream, Reason::Overloaded),
            UpstreamError::RequestBody(_) => (Layer::Framing, Reason::BadRequest),
        }
    }

    /// The same again, for another who waited for the same connection.
    fn repeat(&self) -> UpstreamError {
        match self {
            UpstreamError::Unreachable(what) => UpstreamError::Unreachable(what.clone()),
            UpstreamError::Timeout(what) => UpstreamError::Timeout(what),
            UpstreamError::Protocol(what) => UpstreamError::Protocol(what.clone()),
            UpstreamError::Overloaded | UpstreamError::RequestBody(_) => UpstreamError::Overloaded,
        }
    }
}

/// One thread's way to the upstream.
#[derive(Clone)]
pub struct Upstream {
    pool: Rc<Pool>,
}

impl Upstream {
    /// Needs the thread's `LocalRuntime`, on which connections live.
    pub fn new(config: Arc<config::Upstream>, shared: Arc<UpstreamShared>) -> Upstream {
        Upstream { pool: Pool::start(config, shared) }
    }

    /// Sends `request` and answers with the head and a streaming body.
    ///
    /// The target is origin-form and canonical. `replayable`: sending it twice does no more than sending it once (RFC 9110 §9.2.2);
    /// it is sent again only without a body, on another connection, and if no byte of an answer came. A request that provably
    /// was not sent at all goes again in any case. Dropping the future closes the connection that it uses.
    pub async fn send(
        &self,
        mut request: Request<UpstreamBody>,
        replayable: bool,
    ) -> Result<Response<UpstreamResponseBody>, UpstreamError> {
        let result = self.attempts(&mut request, replayable).await;
        if let Err(error) = &result {
            self.count(error);
        }
        result
    }

    async fn attempts(
        &self,
        request: &mut Request<UpstreamBody>,
        replayable: bool,
    ) -> Result<Response<UpstreamResponseBody>, UpstreamError> {
        let pool = &self.pool;
        let asked = Asked::of(request);
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let http2 = pool.config.protocol == config::UpstreamProtocol::Http2;
        if http2 && asked.upgrade.is_some() {
            return Err(UpstreamError::Protocol("an upgrade cannot be asked of an HTTP/2 upstream".into()));
        }
        frame(request, http2);
        let progress = request.body_mut().watch();
        let mut fresh = false;
        let mut avoid = None;
        let mut attempt_number = 1;
        loop {
            let attempt = pool.choose(avoid);
            let endpoint = attempt.endpoint;
            let last = attempt_number == MAX_ATTEMPTS;
            let leased = match pool.acquire(endpoint, fresh).await {
                Ok(leased) => leased,
                Err(error @ UpstreamError::Overloaded) => return Err(error),
                Err(error) => {
                    attempt.failed();
                    if last || pool.endpoints() == 1 {
                        return Err(error);
                    }
                    // Nothing was sent: another endpoint may take it.
                    avoid = Some(endpoint);
                    attempt_number += 1;
                    continue;
                }
            };
            self.address(request, endpoint, &target, http2)?;
            let spare = (replayable && leased.reused && !last && request.body().is_empty()).then(|| spare(request));
            let sending = std::mem::replace(request, Request::new(UpstreamBody::Empty));
            let failure = match self.exchange(leased, sending, &asked, progress.as_ref(), attempt).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            fresh = true;
            attempt_number += 1;
            match failure {
                Failure { unsent: Some(unsent), .. } if !last => *request = unsent,
                Failure { silent: true, .. } if spare.is_some() => *request = spare.unwrap_or_default(),
                Failure { error, .. } => return Err(error),
            }
            pool.shared.metrics.upstream_retries.inc();
        }
    }

    /// One request on one connection, up to the checked head of its answer.
    async fn exchange(
        &self,
        mut leased: Leased,
        request: Request<UpstreamBody>,
        asked: &Asked,
        progress: Option<&Rc<Progress>>,
        attempt: Attempt,
    ) -> Result<Response<UpstreamResponseBody>, Failure> {
        let started = Instant::now();
        let bytes_before = leased.received.load(Relaxed);
        let sent = {
            let answer = pin!(leased.link.try_send(request));
            with_deadline(answer, self.pool.times.response, started, progress).await
        };
        let refuse = |error| Failure { error, unsent: None, silent: false };
        match sent {
            None => {
                attempt.failed();
                Err(refuse(UpstreamError::Timeout("the upstream did not answer in time")))
            }
            Some(Err((error, unsent))) => {
                let nothing_came = leased.received.load(Relaxed) == bytes_before || refused_by_peer(&error);
                let silent = nothing_came && !is_nonsense(&error);
                let broken = progress.and_then(|progress| progress.take_failure());
                let error = broken.map_or_else(|| classify(&error), UpstreamError::RequestBody);
                // A pooled connection that the upstream has just closed says nothing about its health.
                if !(matches!(error, UpstreamError::RequestBody(_)) || leased.reused && silent) {
                    attempt.failed();
                }
                Err(Failure { error, unsent, silent })
            }
            Some(Ok(response)) => {
                self.pool.shared.metrics.upstream_seconds.observe(started.elapsed());
                match self.accept(response, leased, asked, attempt) {
                    Ok(response) => Ok(response),
                    Err(what) => Err(refuse(UpstreamError::Protocol(what.into()))),
                }
            }
        }
    }

    fn accept(
        &self,
        response: Response<Incoming>,
        leased: Leased,
        asked: &Asked,
        mut attempt: Attempt,
    ) -> Result<Response<UpstreamResponseBody>, &'static str> {
        let (mut head, incoming) = response.into_parts();
        let expected = match response::inspect(&mut head, asked) {
            Ok(expected) => expected,
            Err(what) => {
                attempt.failed();
                return Err(what);
            }
        };
        attempt.succeeded();
        let stall = (!response::may_pause(&head)).then_some(self.pool.times.response);
        let body = UpstreamResponseBody::new(incoming, expected, stall, leased.into_lease(attempt));
        Ok(Response::from_parts(head, body))
    }

    /// Gives the request this endpoint's target and `Host`.
    fn address(
        &self,
        request: &mut Request<UpstreamBody>,
        endpoint: usize,
        target: &PathAndQuery,
        http2: bool,
    ) -> Result<(), UpstreamError> {
        let pool = &self.pool;
        let host = &pool.hosts[endpoint];
        let endpoint = &pool.shared.endpoints[endpoint];
        if !pool.config.preserve_host || !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        let target = match &*endpoint.prefix {
            "" => target.clone(),
            prefix => PathAndQuery::try_from(format!("{prefix}{target}")).map_err(|_| bad_target())?,
        };
        let mut parts = http::uri::Parts::default();
        if http2 {
            let host = request.headers_mut().remove(header::HOST).unwrap_or_else(|| host.clone());
            parts.authority = Some(host.as_bytes().try_into().map_err(|_| bad_target())?);
            parts.scheme = Some(if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP });
        }
        parts.path_and_query = Some(target);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad_target())?;
        Ok(())
    }

    fn count(&self, error: &UpstreamError) {
        let metrics = &self.pool.shared.metrics;
        match error {
            UpstreamError::Unreachable(_) => metrics.upstream_unreachable.inc(),
            UpstreamError::Timeout(_) => metrics.upstream_timeouts.inc(),
            UpstreamError::Protocol(_) => metrics.upstream_nonsense.inc(),
            UpstreamError::Overloaded => metrics.upstream_overloaded.inc(),
            UpstreamError::RequestBody(_) => {}
        }
    }
}

/// What was asked, as far as the answer is judged by it.
pub(crate) struct Asked {
    pub(crate) head: bool,
    /// The `Upgrade` field, if `Connection` names it.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl Asked {
    fn of(request: &Request<UpstreamBody>) -> Asked {
        let upgrade = request.headers().get(header::UPGRADE).filter(|_| {
            let connection = request.headers().get(header::CONNECTION);
            connection.is_some_and(|value| response::has_token(value, "upgrade"))
        });
        Asked { head: request.method() == Method::HEAD, upgrade: upgrade.cloned() }
    }
}

/// An exchange without a usable answer.
struct Failure {
    error: UpstreamError,
    /// The request, if it provably was not sent.
    unsent: Option<Request<UpstreamBody>>,
    /// The connection ended without one byte of an answer.
    silent: bool,
}

/// Leaves the framing to the body that is really sent: a length that a client named would be believed over it.
fn frame(request: &mut Request<UpstreamBody>, http2: bool) {
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let method = request.method();
    let expects_length = method == Method::POST || method == Method::PUT || method == Method::PATCH;
    let empty = request.body().is_empty();
    let unsized_body = !empty && http_body::Body::size_hint(request.body()).exact().is_none();
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::EXPECT);
    if http2 {
        for name in [header::CONNECTION, header::UPGRADE] {
            headers.remove(name);
        }
    } else if unsized_body {
        // hyper would send a GET's body of unknown length as none at all.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if empty && expects_length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// A second copy of a request without a body.
fn spare(request: &Request<UpstreamBody>) -> Request<UpstreamBody> {
    let mut copy = Request::new(UpstreamBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Waits for `answer` until nothing has moved for `limit`: a request body that is still being sent puts the deadline off.
/// `None`: too late.
async fn with_deadline<F: Future>(
    mut answer: std::pin::Pin<&mut F>,
    limit: Duration,
    started: Instant,
    progress: Option<&Rc<Progress>>,
) -> Option<F::Output> {
    let mut sleep = pin!(tokio::time::sleep_until((started + limit).into()));
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        while sleep.as_mut().poll(context).is_ready() {
            let moved = progress.map_or(started, |progress| progress.last());
            if moved + limit <= Instant::now() {
                return Poll::Ready(None);
            }
            sleep.as_mut().reset((moved + limit).into());
        }
        Poll::Pending
    })
    .await
}

fn is_nonsense(error: &hyper::Error) -> bool {
    error.is_parse() || error.is_parse_too_large() || error.is_parse_status() || error.is_parse_version_h2()
}

/// HTTP/2 says that a stream was not worked on: refused, or above the last one of a GOAWAY (RFC 9113 §8.7).
fn refused_by_peer(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

fn classify(error: &hyper::Error) -> UpstreamError {
    if is_nonsense(error) {
        return UpstreamError::Protocol("the answer is not valid HTTP".into());
    }
    if error.is_user() {
        return UpstreamError::Protocol("the request could not be sent as HTTP".into());
    }
    match h2_error(error) {
        Some(h2) if h2.is_library() || matches!(h2.reason(), Some(h2::Reason::PROTOCOL_ERROR)) => {
            UpstreamError::Protocol("the answer is not valid HTTP/2".into())
        }
        _ if error.is_incomplete_message() => {
            UpstreamError::Unreachable("the upstream closed the connection before it answered".into())
        }
        _ => UpstreamError::Unreachable("the connection to the upstream broke before it answered".into()),
    }
}

fn bad_target() -> UpstreamError {
    UpstreamError::Protocol("the target cannot be sent to this endpoint".into())
}
