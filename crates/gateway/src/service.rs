//! One exchange: the engine's stages in their order, with what each costs the caller when it refuses.

use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use stockade_engine::{
    Answer, BodyPlan, Credentials, Denial, Identity, Layer, Lookup, Mode, Outcome, Plan, Quota, Reason, RequestHead,
    ResponseHead, ResponsePlan, Route, SPACE_ADDRESS, SPACE_CLIENT, SPACE_OPERATION,
};

use crate::body::{BodyFault, Budget, ClientBody, InFlight, OutBody};
use crate::config::UpstreamProtocol;
use crate::connection::{Peer, stream_watch};
use crate::deadlines::{Pace, Upgrade};
use crate::force::Held;
use crate::guard::REFUSED_METHOD;
use crate::head::{self, Fields, Forwarding};
use crate::identity::Verified;
use crate::ratelimit::Limits;
use crate::recorder::Recorder;
use crate::recycle::Call;
use crate::upstream::{UpstreamBody, UpstreamError, UpstreamResponseBody};
use crate::worker::Worker;
use crate::{problem, trace, tunnel};

/// Until a shed client may try again.
const OVERLOAD_RETRY_SECONDS: u64 = 1;
/// How much of a body that nobody declared is read before it is refused.
const MAX_UNDECLARED_BYTES: usize = 1_024;
/// What of a request's head an answer is judged by.
const JUDGED_BY: [HeaderName; 6] = [
    header::ACCEPT,
    header::CONNECTION,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::RANGE,
    header::UPGRADE,
];

/// A refusal, with what its answer says beside the problem. Boxed: it is the rare way out of every stage.
struct Refused(Box<Refusal>);

struct Refusal {
    denial: Denial,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Refused {
        Refused(Box::new(Refusal { denial, headers: Vec::new() }))
    }
}

impl Refused {
    fn with(mut self, name: HeaderName, value: &str) -> Refused {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    fn overloaded(layer: Layer, evidence: &'static str) -> Refused {
        Refused::from(Denial::new(layer, Reason::Overloaded, None, evidence)).retry_after(OVERLOAD_RETRY_SECONDS)
    }

    fn retry_after(self, seconds: u64) -> Refused {
        self.with(header::RETRY_AFTER, itoa::Buffer::new().format(seconds.max(1)))
    }
}

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
struct Exchange {
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    pace: Arc<Pace>,
    force: Held,
    limits: Limits,
    cors: Vec<(&'static str, String)>,
    record: Recorder,
    /// Until something wants it.
    body: Option<Incoming>,
}

impl Exchange {
    fn new(worker: Rc<Worker>, peer: Rc<Peer>, pace: Arc<Pace>, request: &Request<Incoming>) -> Exchange {
        let force = worker.force();
        let proxies = &worker.shared.config.listen.trusted_proxies;
        let address = head::client_address(peer.address, peer.trusted, proxies, request.headers());
        let record = Recorder::new(&worker, &force, request, address);
        Exchange { worker, peer, pace, force, limits: Limits::default(), cors: Vec::new(), record, body: None }
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

    /// Every stage that judges the request.
    async fn decide<'p>(
        &mut self,
        plan: &'p Plan,
        parts: &Parts,
        host: &str,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Decided<'p>, Refused> {
        let fields = Fields(&parts.headers);
        let head = self.request_head(parts, host, &fields);
        let found = plan.look_up(&head);
        // A client that only searches pays as well, but hears what it would have heard.
        let within = self.check_address(plan);
        let route = match found {
            Lookup::Deny(denial, allow) if allow.is_empty() => return Err(denial.into()),
            Lookup::Deny(denial, allow) => return Err(Refused::from(denial).with(header::ALLOW, &allow.join(", "))),
            Lookup::Answer(answer) => return within.map(|()| Decided::Answer(answer)),
            Lookup::Route(route) => route,
        };
        self.record.found(&route);
        self.cors = plan.cors_headers(&head);
        within?;
        let identities = self.authenticate(&route, &head).await?;
        self.check_client(&route, &identities)?;
        let body_plan = match route.mode(Layer::ValidateRequest) {
            Mode::Off => route.unvalidated_body(),
            _ => self.settle(&route, route.validate_head(&head), route.unvalidated_body())?,
        };
        let upgrade = self.judge_upgrade(&route, parts, upgrade)?;
        let (body, fault) = self.take_body(&route, &head, body_plan).await?;
        let token = identities.into_iter().next().map(|verified| verified.internal_token.clone());
        Ok(Decided::Forward(route, Box::new(Forward { body, fault, token, upgrade })))
    }

    fn request_head<'a>(&self, parts: &'a Parts, host: &'a str, fields: &'a Fields<'a>) -> RequestHead<'a> {
        RequestHead {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            host,
            headers: fields,
            address: self.record.address(),
            client_certificate: self.peer.client_certificate,
        }
    }

    /// Applies the mode of the layer that refuses: an error only where it enforces.
    fn settle<T>(&mut self, route: &Route<'_>, found: Result<T, Denial>, fallback: T) -> Result<T, Refused> {
        match route.settle(found, fallback) {
            Outcome::Go(value) => Ok(value),
            Outcome::Observed(value, denial) => {
                self.record.observed(denial);
                Ok(value)
            }
            Outcome::Deny(denial) => Err(denial.into()),
        }
    }

    fn check_address(&mut self, plan: &Plan) -> Result<(), Refused> {
        let Some(quota) = plan.per_address() else { return Ok(()) };
        let key = address_key(self.record.address());
        self.check("address", SPACE_ADDRESS, &[&key], quota, Reason::AddressRate)
            .map_err(|denial| self.rate_refused(denial))
    }

    /// After authentication: the client's own rate, and its rate at this operation.
    fn check_client(&mut self, route: &Route<'_>, identities: &[Arc<Verified>]) -> Result<(), Refused> {
        if route.mode(Layer::Limits) == Mode::Off {
            return Ok(());
        }
        // An anonymous caller is known by nothing but the address.
        let address = address_key(self.record.address());
        let identity = identities.first().map(|verified| verified.identity.client_id.as_bytes());
        let (kind, client): (&[u8], &[u8]) = identity.map_or((b"address", &address), |id| (b"client", id));
        if let (Some(quota), Some(_)) = (route.per_client(), identity) {
            let checked = self.check("client", SPACE_CLIENT, &[client], quota, Reason::ClientRate);
            self.settle_rate(route, checked)?;
        }
        if let Some(quota) = route.per_operation() {
            let parts = [kind, client, route.operation_id().as_bytes()];
            let checked = self.check("operation", SPACE_OPERATION, &parts, quota, Reason::OperationRate);
            self.settle_rate(route, checked)?;
        }
        Ok(())
    }

    fn settle_rate(&mut self, route: &Route<'_>, checked: Result<(), Denial>) -> Result<(), Refused> {
        self.settle(route, checked, ()).map_err(|refused| self.rate_refused(refused.0.denial))
    }

    fn rate_refused(&self, denial: Denial) -> Refused {
        Refused::from(denial).retry_after(self.limits.retry_after_seconds().unwrap_or(1))
    }

    fn check(
        &mut self,
        policy: &'static str,
        space: u8,
        parts: &[&[u8]],
        quota: &Quota,
        reason: Reason,
    ) -> Result<(), Denial> {
        let limiter = &self.worker.shared.limiter;
        let state = limiter.check(limiter.key(space, parts), quota, self.worker.shared.now_nanos());
        self.limits.add(policy, *quota, state);
        if state.allowed {
            return Ok(());
        }
        let evidence = format!("{} requests in {} seconds are allowed", quota.requests, quota.period_seconds);
        Err(Denial::new(Layer::Limits, reason, None, evidence))
    }

    /// Resolves what the request presents, and asks whether that is enough. The first identity stands for the client.
    async fn authenticate(&mut self, route: &Route<'_>, head: &RequestHead<'_>) -> Result<Identities, Refused> {
        let verified = match route.mode(Layer::Authenticate) {
            Mode::Off => Identities::new(),
            _ => self.identify(route, head).await?,
        };
        if let Some(first) = verified.first() {
            self.record.identified(first);
        }
        let identities: SmallVec<[&Identity; 2]> = verified.iter().map(|verified| &verified.identity).collect();
        let authorized = route.authorize(head, &identities, now_seconds());
        drop(identities);
        self.settle_challenged(route, authorized.map_err(Refused::from), ())?;
        Ok(verified)
    }

    async fn identify(&mut self, route: &Route<'_>, head: &RequestHead<'_>) -> Result<Identities, Refused> {
        let found = route.credentials(head).map_err(Refused::from);
        let Credentials::Present(credentials) = self.settle_challenged(route, found, Credentials::Public)? else {
            return Ok(Identities::new());
        };
        let mut verified = Identities::new();
        for credential in &credentials {
            let found = match self.cached(credential) {
                Some(found) => Ok(found),
                // Boxed: the way to the authorization server is rare, and would make every exchange larger.
                None => Box::pin(self.resolve(credential)).await,
            };
            match found {
                Ok(found) => verified.push(found),
                Err(refused) if refused.0.denial.reason == Reason::TokenInvalid && route.allows_anonymous() => {
                    return Ok(Identities::new());
                }
                Err(refused) => return self.settle_challenged(route, Err(refused), Identities::new()),
            }
        }
        Ok(verified)
    }

    /// As [`Exchange::settle`]; a refusal says how to do better (RFC 6750 §3).
    fn settle_challenged<T>(
        &mut self,
        route: &Route<'_>,
        found: Result<T, Refused>,
        fallback: T,
    ) -> Result<T, Refused> {
        let Refusal { denial, headers } = match found {
            Ok(value) => return Ok(value),
            Err(refused) => *refused.0,
        };
        let challenge = route.challenge(&denial, &self.force.resource_metadata);
        self.settle(route, Err(denial), fallback).map_err(|mut refused| {
            refused.0.headers = headers;
            match challenge {
                Some(challenge) => refused.with(header::WWW_AUTHENTICATE, &challenge),
                None => refused,
            }
        })
    }

    fn cached(&self, credential: &stockade_engine::Credential<'_>) -> Option<Arc<Verified>> {
        self.worker.shared.credentials.as_ref()?.cached(credential.kind, &credential.secret)
    }

    async fn resolve(&self, credential: &stockade_engine::Credential<'_>) -> Result<Arc<Verified>, Refused> {
        let deny = |reason, evidence| Denial::new(Layer::Authenticate, reason, None, evidence);
        let unavailable = Reason::AuthorizationServerUnavailable;
        let Some(credentials) = &self.worker.shared.credentials else {
            return Err(Refused::from(deny(unavailable, "no authorization server is configured")).retry_after(60));
        };
        let resource = self.force.plan.audience();
        match credentials.resolve(credential.kind, &credential.secret, resource).await {
            Ok(Some(verified)) => Ok(verified),
            Ok(None) => Err(deny(Reason::TokenInvalid, "the credential is unknown, expired or revoked").into()),
            Err(error) => Err(Refused::from(deny(unavailable, "the authorization server does not answer"))
                .retry_after(error.retry_after_seconds)),
        }
    }

    /// An upgrade goes on only where the operation declares it. An offer of h2c may be ignored (RFC 9110 §7.8), and is.
    fn judge_upgrade(
        &self,
        route: &Route<'_>,
        parts: &Parts,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Option<Asked>, Refused> {
        let Some(protocol) = head::asks_upgrade(parts) else { return Ok(None) };
        let name = protocol.to_str().unwrap_or_default();
        match upgrade {
            Some(client) if route.allows_upgrade(name) => Ok(Some(Asked { protocol, client })),
            _ if name.eq_ignore_ascii_case("h2c") => Ok(None),
            _ => {
                let evidence = "the operation does not declare this upgrade";
                let pointer = Some(route.pointer().to_owned());
                Err(Denial::new(Layer::Framing, Reason::UpgradeRefused, pointer, evidence).into())
            }
        }
    }

    /// Reads what is to be validated; nothing of it is forwarded before the verdict.
    async fn take_body(
        &mut self,
        route: &Route<'_>,
        head: &RequestHead<'_>,
        plan: BodyPlan,
    ) -> Result<(UpstreamBody, Fault), Refused> {
        let Some(body) = self.body.take() else { return Ok((UpstreamBody::Empty, Fault::default())) };
        let empty = body.is_end_stream();
        let max_bytes = match plan {
            BodyPlan::None | BodyPlan::Stream { .. } if empty => return Ok((UpstreamBody::Empty, Fault::default())),
            BodyPlan::None => MAX_UNDECLARED_BYTES,
            BodyPlan::Inspect { max_bytes } => max_bytes,
            BodyPlan::Stream { max_bytes } => {
                let body = ClientBody::new(body, max_bytes, &self.pace, &self.worker);
                let fault = body.fault();
                return Ok((UpstreamBody::Stream(Box::pin(body.map_err(Into::into))), fault));
            }
        };
        let mut body = ClientBody::new(body, max_bytes, &self.pace, &self.worker);
        // Boxed, as most requests have no body.
        let read = Box::pin(body.read_whole()).await;
        let (bytes, budget) = match read {
            Ok(whole) => whole,
            Err(fault) => {
                self.discard(body);
                return Err(fault_refusal(fault));
            }
        };
        let judged = route.validate_body(head, &bytes);
        self.settle(route, judged, ())?;
        // From here on the bytes are the upstream connection's, which is bounded by itself.
        drop(budget);
        Ok((if bytes.is_empty() { UpstreamBody::Empty } else { UpstreamBody::Full(bytes) }, Fault::default()))
    }

    /// A refusal may come before anything of the body was asked for.
    fn leave_body(&mut self) {
        if let Some(body) = self.body.take() {
            self.discard(ClientBody::new(body, 0, &self.pace, &self.worker));
        }
    }

    fn discard(&self, body: ClientBody) {
        // Over HTTP/1, the wire lingers.
        if self.peer.http2 {
            body.discard();
        }
    }

    /// Sends the request on, and judges what comes back.
    async fn forward(
        &mut self,
        route: &Route<'_>,
        parts: &mut Parts,
        host: &HeaderValue,
        forward: Forward,
    ) -> Result<Response<OutBody>, Refused> {
        let Forward { body, fault, token, upgrade } = forward;
        let kept = kept_headers(&parts.headers);
        let request = self.upstream_request(route, parts, host, body, token, upgrade.as_ref())?;
        let replayable = is_idempotent(&parts.method) && matches!(request.body(), UpstreamBody::Empty);
        let sent = Instant::now();
        let answered = self.worker.upstream.send(request, replayable).await;
        self.record.upstream_answered(sent.elapsed());
        let response = match (answered, fault.take()) {
            (Ok(response), _) => response,
            (Err(_), Some(fault)) => return Err(fault_refusal(fault)),
            (Err(error), None) => return Err(upstream_refusal(&error)),
        };
        let fields = Fields(&kept);
        let head = self.request_head(parts, host.to_str().unwrap_or_default(), &fields);
        self.judge(route, &head, response, upgrade).await
    }

    fn upstream_request(
        &self,
        route: &Route<'_>,
        parts: &mut Parts,
        host: &HeaderValue,
        body: UpstreamBody,
        token: Option<HeaderValue>,
        upgrade: Option<&Asked>,
    ) -> Result<Request<UpstreamBody>, Refused> {
        let mut headers = std::mem::take(&mut parts.headers);
        let forwarding = Forwarding { peer: &self.peer, host };
        let credentials: SmallVec<[&str; 4]> = route.credential_headers().collect();
        head::to_upstream(&mut headers, &forwarding, &credentials);
        head::strip_cookies(&mut headers, route.strip_cookies());
        trace::ensure(&mut headers);
        if self.worker.shared.config.upstream.protocol == UpstreamProtocol::Http1 {
            headers.remove(header::TE);
        }
        headers.insert(header::HOST, host.clone());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token);
        }
        if let Some(asked) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, asked.protocol.clone());
        } else if route.mode(Layer::ValidateResponse) != Mode::Off {
            // What is judged must be whole, and in the clear.
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
            if headers.contains_key(header::ACCEPT_ENCODING) {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
        }
        let target = head::upstream_target(&parts.uri, route.canonical_path(), route.strip_query());
        let uri = target.map_err(|_| {
            Denial::new(Layer::Internal, Reason::Panic, None, "the canonical path is not a valid target")
        })?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The response's stages: declared at all, then its body, then what of it the client may see.
    async fn judge(
        &mut self,
        route: &Route<'_>,
        head: &RequestHead<'_>,
        response: Response<UpstreamResponseBody>,
        upgrade: Option<Asked>,
    ) -> Result<Response<OutBody>, Refused> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, upgrade);
        }
        let (parts, body) = response.into_parts();
        let fields = Fields(&parts.headers);
        let answer = ResponseHead { status: parts.status.as_u16(), headers: &fields };
        let plan = match route.mode(Layer::ValidateResponse) {
            Mode::Off => ResponsePlan::Pass,
            _ => route.judge_response(head, &answer),
        };
        let body = match plan {
            ResponsePlan::Pass => OutBody::stream(Bytes::new(), body),
            ResponsePlan::Deny(denial) | ResponsePlan::Sanitise(denial) => {
                self.settle(route, Err(denial), ())?;
                OutBody::stream(Bytes::new(), body)
            }
            ResponsePlan::Inspect { max_bytes } => self.inspect(route, &answer, body, max_bytes).await?,
        };
        Ok(self.answered(parts.status, parts.headers, body))
    }

    async fn inspect(
        &mut self,
        route: &Route<'_>,
        answer: &ResponseHead<'_>,
        body: UpstreamResponseBody,
        max_bytes: usize,
    ) -> Result<OutBody, Refused> {
        let mut budget = Budget::new(&self.worker);
        let (bytes, rest) = read_up_to(body, max_bytes, &mut budget).await?;
        let judged = match &rest {
            Some(_) => Err(Denial::new(
                Layer::ValidateResponse,
                Reason::BodyTooLarge,
                None,
                format!("the body exceeds {max_bytes} bytes"),
            )),
            None => route.judge_response_body(answer, &bytes),
        };
        self.settle(route, judged, ())?;
        Ok(match rest {
            Some(rest) => OutBody::stream(bytes, rest),
            None => OutBody::full(bytes),
        }
        .with_budget(budget))
    }

    /// Both sides have agreed: from here on bytes pass unseen.
    fn switch(
        &mut self,
        response: Response<UpstreamResponseBody>,
        upgrade: Option<Asked>,
    ) -> Result<Response<OutBody>, Refused> {
        let protocol = response.headers().get(header::UPGRADE);
        let granted = upgrade.filter(|asked| {
            protocol.is_some_and(|granted| granted.as_bytes().eq_ignore_ascii_case(asked.protocol.as_bytes()))
        });
        let Some(asked) = granted else {
            let evidence = "101 without the upgrade that was asked for";
            return Err(Denial::new(Layer::Upstream, Reason::ProtocolError, None, evidence).into());
        };
        let (mut parts, _) = response.into_parts();
        let Some(upstream) = parts.extensions.remove::<OnUpgrade>() else {
            let evidence = "101 on a connection that cannot switch";
            return Err(Denial::new(Layer::Upstream, Reason::ProtocolError, None, evidence).into());
        };
        head::to_client(&mut parts.headers);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, asked.protocol);
        self.pace.answer_upgrade(Upgrade::Granted);
        tunnel::start(&self.worker, &self.pace, asked.client, upstream);
        self.record.allowed(101);
        let mut response = Response::new(OutBody::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = parts.headers;
        Ok(response)
    }

    /// The upstream's answer, as the client gets it.
    fn answered(&mut self, status: StatusCode, mut headers: HeaderMap, body: OutBody) -> Response<OutBody> {
        head::to_client(&mut headers);
        self.finish(&mut headers);
        self.record.allowed(status.as_u16());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
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
    fn finish(&mut self, headers: &mut HeaderMap) {
        set_all(headers, &self.cors);
        self.limits.tell(headers);
    }
}

enum Decided<'p> {
    Answer(Answer),
    Forward(Route<'p>, Box<Forward>),
}

/// Who the request's credentials stand for.
type Identities = SmallVec<[Arc<Verified>; 2]>;

/// Where a streamed body leaves the reason why it stopped.
type Fault = Rc<std::cell::Cell<Option<BodyFault>>>;

/// A judged request, ready for the upstream.
struct Forward {
    body: UpstreamBody,
    fault: Fault,
    token: Option<HeaderValue>,
    upgrade: Option<Asked>,
}

/// An upgrade that the operation declares.
struct Asked {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// Reads at most `max_bytes`; what is beyond comes back with the part that was read.
async fn read_up_to(
    mut body: UpstreamResponseBody,
    max_bytes: usize,
    budget: &mut Budget,
) -> Result<(Bytes, Option<UpstreamResponseBody>), Refused> {
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame
            .map_err(|_| Denial::new(Layer::Upstream, Reason::ProtocolError, None, "the upstream's body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if budget.grow(data.len()).is_none() {
            return Err(Refused::overloaded(Layer::Limits, "too much is buffered"));
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        if first.len().max(whole.len()) > max_bytes {
            return Ok((if whole.is_empty() { first } else { whole.into() }, Some(body)));
        }
    }
    Ok((if whole.is_empty() { first } else { whole.into() }, None))
}

fn fault_refusal(fault: BodyFault) -> Refused {
    let layer = match fault {
        BodyFault::TooLarge => Layer::ValidateRequest,
        BodyFault::Overloaded => return Refused::overloaded(Layer::Limits, "too much is buffered"),
        _ => Layer::Framing,
    };
    Denial::new(layer, fault.reason(), None, fault.to_string()).into()
}

fn upstream_refusal(error: &UpstreamError) -> Refused {
    let (layer, reason) = error.reason();
    let refused = Refused::from(Denial::new(layer, reason, None, error.to_string()));
    if reason == Reason::Overloaded { refused.retry_after(OVERLOAD_RETRY_SECONDS) } else { refused }
}

fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in JUDGED_BY {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

/// What a rate by address counts as one: an IPv4 address, or an IPv6 customer's /64.
fn address_key(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()).to_be_bytes(),
        IpAddr::V6(address) => ((address.to_bits() >> 64) as u64).to_be_bytes(),
    }
}

fn set_all(headers: &mut HeaderMap, fields: &[(&'static str, String)]) {
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
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
