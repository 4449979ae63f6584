//! The stages that judge a request, in their order (`docs/contracts.md` §2).

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use smallvec::SmallVec;
use stockade_engine::{
    Admitted, Answer, BodyPlan, Credential, Credentials, Denial, Identity, Layer, Lookup, Mode, Outcome, Plan, Quota,
    Reason, RequestHead, Route, SPACE_ADDRESS, SPACE_CLIENT, SPACE_OPERATION,
};

use crate::body::{BodyFault, Budget, ClientBody};
use crate::connection::Peer;
use crate::head::{self, Fields};
use crate::identity::Verified;
use crate::refused::{Refusal, Refused};
use crate::service::Exchange;
use crate::upstream::UpstreamBody;

/// How much of a body that nobody declared is read before it is refused.
const MAX_UNDECLARED_BYTES: usize = 1_024;
/// By then the oldest proofs are forgotten.
const CAPACITY_RETRY_SECONDS: u64 = 2;

/// What becomes of a request that no stage refuses.
pub enum Decided<'p> {
    Answer(Answer),
    Forward(Route<'p>, Box<Forward>),
}

/// Who the request's credentials stand for.
type Identities = SmallVec<[Arc<Verified>; 2]>;

/// Where a streamed body leaves the reason why it stopped.
pub type Fault = Rc<std::cell::Cell<Option<BodyFault>>>;

/// A judged request, ready for the upstream.
pub struct Forward {
    pub body: UpstreamBody,
    /// The memory of a whole body, until the upstream has answered: it may wait for a connection for long.
    pub budget: Option<Budget>,
    pub fault: Fault,
    pub token: Option<HeaderValue>,
    pub upgrade: Option<Asked>,
}

/// An upgrade that the operation declares.
pub struct Asked {
    pub protocol: HeaderValue,
    pub client: OnUpgrade,
}

impl Exchange {
    /// Every stage that judges the request.
    pub async fn decide<'p>(
        &mut self,
        plan: &'p Plan,
        parts: &Parts,
        host: &str,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Decided<'p>, Refused> {
        let fields = Fields(&parts.headers);
        let peer = self.peer.clone();
        let head = self.request_head(&peer, parts, host, &fields);
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
        self.nonce = plan.next_nonce(&head, &self.worker.shared.proofs, now_seconds());
        within?;
        let identities = self.authenticate(&route, &head).await?;
        self.check_client(&route, &identities)?;
        let body_plan = match route.mode(Layer::ValidateRequest) {
            Mode::Off => route.unvalidated_body(),
            _ => self.settle(&route, route.validate_head(&head), route.unvalidated_body())?,
        };
        let upgrade = self.judge_upgrade(&route, parts, upgrade)?;
        let (body, fault, budget) = self.take_body(&route, &head, body_plan).await?;
        let token = identities.into_iter().next().map(|verified| verified.internal_token.clone());
        Ok(Decided::Forward(route, Box::new(Forward { body, fault, token, upgrade, budget })))
    }

    pub fn request_head<'a>(
        &self,
        peer: &'a Peer,
        parts: &'a Parts,
        host: &'a str,
        fields: &'a Fields<'a>,
    ) -> RequestHead<'a> {
        RequestHead {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            host,
            headers: fields,
            address: self.record.address(),
            client_certificate: peer.client_certificate,
            certificate_thumbprint: peer.certificate_thumbprint.as_ref(),
        }
    }

    /// Applies the mode of the layer that refuses: an error only where it enforces.
    pub fn settle<T>(&mut self, route: &Route<'_>, found: Result<T, Denial>, fallback: T) -> Result<T, Refused> {
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
        let found = match route.mode(Layer::Authenticate) {
            Mode::Off => None,
            _ => self.identify(route, head).await?,
        };
        // Nothing was proved, and the mode lets it go on: then nothing is left to authorize.
        let Some(verified) = found else { return Ok(Identities::new()) };
        if let Some(first) = verified.first() {
            self.record.identified(first);
        }
        let identities: SmallVec<[&Identity; 2]> = verified.iter().map(|verified| &verified.identity).collect();
        let authorized = route.authorize(head, &identities, &self.worker.shared.proofs, now_seconds());
        drop(identities);
        // Where the mode lets a request go on that proved nothing, it goes on as nobody's.
        let otherwise = match &authorized {
            Err(denial) if denial.layer == Layer::Authenticate => Admitted::Anonymous,
            _ => Admitted::Known,
        };
        let authorized = authorized.map_err(|denial| match denial.reason {
            Reason::DpopCapacity => Refused::from(denial).retry_after(CAPACITY_RETRY_SECONDS),
            _ => denial.into(),
        });
        match self.settle_challenged(route, head, authorized, otherwise)? {
            Admitted::Known => Ok(verified),
            Admitted::Anonymous => Ok(Identities::new()),
        }
    }

    /// The identities that the request has proved; `None` where the mode lets it go on without having proved any.
    async fn identify(&mut self, route: &Route<'_>, head: &RequestHead<'_>) -> Result<Option<Identities>, Refused> {
        let found = route.credentials(head).map(Some).map_err(Refused::from);
        let credentials = match self.settle_challenged(route, head, found, None)? {
            None => return Ok(None),
            Some(Credentials::Public) => return Ok(Some(Identities::new())),
            Some(Credentials::Present(credentials)) => credentials,
        };
        let mut verified = Identities::new();
        for credential in &credentials {
            let operation = route.internal_operation();
            let found = match self.cached(credential, operation) {
                Some(found) => Ok(found),
                // Boxed: the way to the authorization server is rare, and would make every exchange larger.
                None => Box::pin(self.resolve(credential, operation)).await,
            };
            match found {
                Ok(found) => verified.push(found),
                Err(refused) if refused.0.denial.reason == Reason::TokenInvalid && route.allows_anonymous() => {
                    return Ok(Some(Identities::new()));
                }
                Err(refused) => return self.settle_challenged(route, head, Err(refused), None),
            }
        }
        Ok(Some(verified))
    }

    /// As [`Exchange::settle`]; a refusal says how to do better (RFC 6750 §3).
    fn settle_challenged<T>(
        &mut self,
        route: &Route<'_>,
        head: &RequestHead<'_>,
        found: Result<T, Refused>,
        fallback: T,
    ) -> Result<T, Refused> {
        let Refusal { denial, headers } = match found {
            Ok(value) => return Ok(value),
            Err(refused) => *refused.0,
        };
        let challenges = route.challenges(&denial, head, &self.force.resource_metadata);
        self.settle(route, Err(denial), fallback).map_err(|mut refused| {
            refused.0.headers = headers;
            challenges.iter().fold(refused, |refused, challenge| refused.with(header::WWW_AUTHENTICATE, challenge))
        })
    }

    fn cached(&self, credential: &Credential<'_>, operation: Option<&str>) -> Option<Arc<Verified>> {
        self.worker.shared.credentials.as_ref()?.cached(credential.kind, &credential.secret, operation)
    }

    async fn resolve(&self, credential: &Credential<'_>, operation: Option<&str>) -> Result<Arc<Verified>, Refused> {
        let deny = |reason, evidence| Denial::new(Layer::Authenticate, reason, None, evidence);
        let unavailable = Reason::AuthorizationServerUnavailable;
        let Some(credentials) = &self.worker.shared.credentials else {
            return Err(Refused::from(deny(unavailable, "no authorization server is configured")).retry_after(60));
        };
        let resource = self.force.plan.audience();
        match credentials.resolve(credential.kind, &credential.secret, resource, operation).await {
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
    ) -> Result<(UpstreamBody, Fault, Option<Budget>), Refused> {
        let nothing = || (UpstreamBody::Empty, Fault::default(), None);
        let Some(body) = self.body.take() else { return Ok(nothing()) };
        let empty = body.is_end_stream();
        let max_bytes = match plan {
            BodyPlan::None if empty => return Ok(nothing()),
            BodyPlan::None => MAX_UNDECLARED_BYTES,
            BodyPlan::Inspect { max_bytes } => max_bytes,
            BodyPlan::Stream { max_bytes } => {
                let mut body = ClientBody::new(body, max_bytes, &self.pace, &self.worker);
                if empty || Box::pin(body.is_empty()).await? {
                    self.settle(route, route.validate_body(head, b""), ())?;
                    return Ok(nothing());
                }
                let fault = body.fault();
                return Ok((UpstreamBody::Stream(Box::pin(body.map_err(Into::into))), fault, None));
            }
        };
        let mut body = ClientBody::new(body, max_bytes, &self.pace, &self.worker);
        // Boxed, as most requests have no body.
        let (bytes, budget) = match Box::pin(body.read_whole()).await {
            Ok(whole) => whole,
            Err(fault) => {
                self.discard(body);
                return Err(fault.into());
            }
        };
        let judged = route.validate_body(head, &bytes);
        self.settle(route, judged, ())?;
        let body = if bytes.is_empty() { UpstreamBody::Empty } else { UpstreamBody::Full(bytes) };
        Ok((body, Fault::default(), Some(budget)))
    }
}

/// What a rate by address counts as one: an IPv4 address, or an IPv6 customer's /64.
fn address_key(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()).to_be_bytes(),
        IpAddr::V6(address) => ((address.to_bits() >> 64) as u64).to_be_bytes(),
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
