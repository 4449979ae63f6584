//! One exchange, from its request to its answer: the stages stand in `judge_request.rs` and `judge_response.rs`.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use stockade_engine::{Answer, Denial, Layer, Reason};

use crate::body::{ClientBody, InFlight, OutBody};
use crate::connection::{Peer, stream_watch};
use crate::deadlines::{Pace, Upgrade};
use crate::force::Held;
use crate::guard::REFUSED_METHOD;
use crate::judge_request::Decided;
use crate::ratelimit::Limits;
use crate::recorder::Recorder;
use crate::recycle::Call;
use crate::refused::{Refusal, Refused};
use crate::worker::Worker;
use crate::{head, problem};

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Answers one request. Never fails: a panic is a 500, and the process lives.
pub async fn serve(call: Call) -> Response<OutBody> {
    let Call { worker, peer, pace, request } = call;
    let in_flight = InFlight::begin(&worker, &pace);
    let mut exchange = Exchange::new(worker.clone(), peer.clone(), pace.clone(), &request);
    let (mut parts, body) = request.into_parts();
    exchange.body = Some(body);
    let asks_upgrade = head::asks_upgrade(&parts).is_some();
    let answered = CatchPanic { inner: exchange.pass(&mut parts) }.await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => exchange.refuse(refused),
        Err(()) => exchange
            .refuse(Denial::new(Layer::Internal, Reason::Panic, None, "a panic while the request was handled").into()),
    };
    exchange.leave_body();
    if asks_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        pace.answer_upgrade(Upgrade::Refused);
    }
    if !peer.http2 && (worker.shared.draining() || pace.fault().is_some()) && !pace.upgraded() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = response.body_mut();
    if let Some(watch) = stream_watch().filter(|_| peer.http2 && !body.is_end_stream()) {
        worker.sweeper.watch_body(watch.clone());
        body.watch_stall(watch);
    }
    body.hold(in_flight);
    response
}

/// One request and what became known of it.
pub struct Exchange {
    pub worker: Rc<Worker>,
    pub peer: Rc<Peer>,
    pub pace: Arc<Pace>,
    pub force: Held,
    pub limits: Limits,
    pub cors: Vec<(&'static str, String)>,
    /// For the client's next proof (RFC 9449 §8.2).
    pub nonce: Option<String>,
    pub record: Recorder,
    /// Until something wants it.
    pub body: Option<Incoming>,
}

impl Exchange {
    fn new(worker: Rc<Worker>, peer: Rc<Peer>, pace: Arc<Pace>, request: &Request<Incoming>) -> Exchange {
        let force = worker.force();
        let proxies = &worker.shared.config.listen.trusted_proxies;
        let address = head::client_address(peer.address, peer.trusted, proxies, request.headers());
        let record = Recorder::new(&worker, &force, request, address);
        Exchange {
            worker,
            peer,
            pace,
            force,
            limits: Limits::default(),
            cors: Vec::new(),
            nonce: None,
            record,
            body: None,
        }
    }

    /// All stages up to the upstream's answer.
    async fn pass(&mut self, parts: &mut Parts) -> Result<Response<OutBody>, Refused> {
        self.admit(parts)?;
        if self.peer.http2 {
            head::join_cookies(&mut parts.headers);
        }
        let host = head::host(parts)?;
        let host_text = host.to_str().unwrap_or_default();
        let force = self.force.clone();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let (route, forward) = match self.decide(&force.plan, parts, host_text, upgrade).await? {
            Decided::Answer(answer) => return Ok(self.answer(answer)),
            Decided::Forward(route, forward) => (route, forward),
        };
        self.forward(&route, parts, &host, *forward).await
    }

    /// What can be refused before anything is read of the head.
    fn admit(&self, parts: &Parts) -> Result<(), Refused> {
        if parts.method.as_str() == REFUSED_METHOD {
            let fault = self.pace.fault();
            let (reason, evidence) =
                fault.map_or((Reason::BadRequest, "a reserved method"), |f| (f.reason, f.evidence));
            return Err(Denial::new(Layer::Framing, reason, None, evidence).into());
        }
        let shared = &self.worker.shared;
        if shared.in_flight.sum() > shared.config.connections.max_in_flight {
            shared.metrics.shed_requests.inc();
            return Err(Refused::overloaded(Layer::Limits, "too many requests are in flight"));
        }
        Ok(())
    }

    /// A refusal may come before anything of the body was asked for.
    fn leave_body(&mut self) {
        if let Some(body) = self.body.take() {
            self.discard(ClientBody::new(body, 0, &self.pace, &self.worker));
        }
    }

    /// Reads what is left of a refused body away: a client that has not sent it all may not listen yet.
    pub fn discard(&self, body: ClientBody) {
        // Over HTTP/1, the wire lingers.
        if self.peer.http2 {
            body.discard();
        }
    }

    /// What the engine answers by itself: preflights and metadata.
    fn answer(&mut self, answer: Answer) -> Response<OutBody> {
        let mut response = Response::new(OutBody::full(answer.body.into()));
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        set_all(response.headers_mut(), &answer.headers);
        problem::harden(response.headers_mut());
        self.record.allowed(answer.status);
        response
    }

    /// The one place where a refusal becomes an answer.
    fn refuse(&mut self, refused: Refused) -> Response<OutBody> {
        let Refusal { denial, headers } = *refused.0;
        let (status, layer) = (denial.status, denial.layer);
        let closes = layer == Layer::Framing && !self.peer.http2;
        let id = self.record.refused(denial);
        let mut response = problem::response(self.force.plan.problem_base(), status, layer, id);
        let fields = response.headers_mut();
        fields.extend(headers);
        if closes {
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.finish(fields);
        response
    }

    /// What every answer to a known operation carries.
    pub fn finish(&self, headers: &mut HeaderMap) {
        set_all(headers, &self.cors);
        if let Some(Ok(nonce)) = self.nonce.as_deref().map(HeaderValue::from_str) {
            headers.insert(DPOP_NONCE, nonce);
        }
        self.limits.tell(headers);
    }
}

fn set_all(headers: &mut HeaderMap, fields: &[(&'static str, String)]) {
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

pin_project! {
    /// A future whose panic is a value.
    struct CatchPanic<F> {
        #[pin]
        inner: F,
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, ()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.project().inner.poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_panic_ends_one_exchange_and_nothing_else() {
        async fn broken(breaks: bool) -> u8 {
            tokio::task::yield_now().await;
            if breaks { std::panic::resume_unwind(Box::new("broken")) } else { 7 }
        }
        assert_eq!(CatchPanic { inner: broken(true) }.await, Err(()));
        assert_eq!(CatchPanic { inner: broken(false) }.await, Ok(7));
    }
}
