//! The whole flow for mounts without sockets: complete messages in, one outcome out.
//!
//! The same stage functions as the gateway calls, in the same order (`docs/contracts.md` §2).

use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;

use crate::decision::{Denial, Layer, Mode, Outcome, Reason};
use crate::dpop::Proofs;
use crate::limits::{Limiter, Quota};
use crate::plan::{Admitted, Answer, BodyPlan, Credential, Credentials, Identity, Lookup, Plan, ResponsePlan, Route};
use crate::request::{RequestHead, ResponseHead};

/// Key spaces of the limits.
pub const SPACE_ADDRESS: u8 = 0;
pub const SPACE_CLIENT: u8 = 1;
pub const SPACE_OPERATION: u8 = 2;

/// A request with all of its body.
pub struct WholeRequest<'a> {
    pub head: RequestHead<'a>,
    pub body: &'a [u8],
}

/// A response with all of its body.
pub struct WholeResponse<'a> {
    pub head: ResponseHead<'a>,
    pub body: &'a [u8],
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub struct DecidedRequest {
    /// `allow`, `deny` or `answer`.
    pub outcome: &'static str,
    pub denial: Option<Denial>,
    /// What layers in `observe` mode would have refused.
    pub observed: Vec<Denial>,
    pub operation: Option<String>,
    pub canonical_path: Option<String>,
    pub answer: Option<Answer>,
    /// Methods for `Allow`, with `method_unknown`.
    pub allow: Vec<String>,
    /// `WWW-Authenticate` fields, where any are due.
    pub challenges: Vec<String>,
    /// `DPoP-Nonce`, where the request brings a proof.
    pub nonce: Option<String>,
}

/// What becomes of a response.
#[derive(Clone, Debug)]
pub struct DecidedResponse {
    /// `allow`, `deny` or `sanitise`.
    pub outcome: &'static str,
    pub denial: Option<Denial>,
    pub observed: Vec<Denial>,
}

/// Asks about a credential: an identity, `None` when it is not valid, `Err` when nobody can say.
pub type Resolve<'r> = dyn Fn(&Credential<'_>) -> Result<Option<Identity>, ()> + 'r;

/// Decides one request at `now` (NumericDate seconds, also the limiter's clock). A panic inside denies.
pub fn decide_request(
    plan: &Plan,
    limiter: Option<&Limiter>,
    proofs: &Proofs,
    request: &WholeRequest<'_>,
    resolve: &Resolve<'_>,
    now: u64,
) -> DecidedRequest {
    let flow = || Flow { plan, limiter, proofs, request, resolve, now, observed: Vec::new() }.run();
    catch_unwind(AssertUnwindSafe(flow)).unwrap_or_else(|_| DecidedRequest::denied(panicked()))
}

/// Decides the answer to a request that was allowed. A panic inside denies.
pub fn decide_response(plan: &Plan, request: &WholeRequest<'_>, response: &WholeResponse<'_>) -> DecidedResponse {
    let flow = || judge_response(plan, request, response);
    catch_unwind(AssertUnwindSafe(flow)).unwrap_or_else(|_| DecidedResponse::denied(panicked()))
}

fn panicked() -> Denial {
    Denial::new(Layer::Internal, Reason::Panic, None, "the engine panicked")
}

impl DecidedRequest {
    fn of(outcome: &'static str) -> DecidedRequest {
        DecidedRequest {
            outcome,
            denial: None,
            observed: Vec::new(),
            operation: None,
            canonical_path: None,
            answer: None,
            allow: Vec::new(),
            challenges: Vec::new(),
            nonce: None,
        }
    }

    fn denied(denial: Denial) -> DecidedRequest {
        DecidedRequest { denial: Some(denial), ..DecidedRequest::of("deny") }
    }
}

impl DecidedResponse {
    fn denied(denial: Denial) -> DecidedResponse {
        DecidedResponse { outcome: "deny", denial: Some(denial), observed: Vec::new() }
    }
}

struct Flow<'f, 'r> {
    plan: &'f Plan,
    limiter: Option<&'f Limiter>,
    proofs: &'f Proofs,
    request: &'f WholeRequest<'f>,
    resolve: &'f Resolve<'r>,
    now: u64,
    observed: Vec<Denial>,
}

impl Flow<'_, '_> {
    fn run(mut self) -> DecidedRequest {
        let head = &self.request.head;
        let found = self.plan.look_up(head);
        // A client that only searches pays as well, but hears what it would have heard.
        let within = self.limit_address();
        let route = match found {
            Lookup::Route(route) => route,
            Lookup::Answer(answer) => {
                return match within {
                    Ok(()) => DecidedRequest { answer: Some(answer), ..DecidedRequest::of("answer") },
                    Err(denial) => DecidedRequest::denied(denial),
                };
            }
            Lookup::Deny(denial, allow) => return DecidedRequest { allow, ..DecidedRequest::denied(denial) },
        };
        let denial = within.and_then(|()| self.stages(&route)).err();
        let challenge = |denial| route.challenges(denial, head, self.plan.metadata_path());
        let challenges = denial.as_ref().map(challenge).unwrap_or_default();
        DecidedRequest {
            outcome: if denial.is_some() { "deny" } else { "allow" },
            denial,
            challenges,
            nonce: self.plan.next_nonce(head, self.proofs, self.now),
            observed: self.observed,
            operation: Some(route.operation_id().to_owned()),
            canonical_path: Some(route.canonical_path().to_owned()),
            answer: None,
            allow: Vec::new(),
        }
    }

    fn stages(&mut self, route: &Route<'_>) -> Result<(), Denial> {
        let (head, body) = (&self.request.head, self.request.body);
        let mut identities = self.identify(route)?;
        if let Some(found) = &identities {
            let authorized = {
                let borrowed: SmallVec<[&Identity; 2]> = found.iter().collect();
                route.authorize(head, &borrowed, self.proofs, self.now)
            };
            // Where the mode lets a request go on that proved nothing, it goes on as nobody's.
            let otherwise = match &authorized {
                Err(denial) if denial.layer == Layer::Authenticate => Admitted::Anonymous,
                _ => Admitted::Known,
            };
            if self.settle(route, authorized, otherwise)? == Admitted::Anonymous {
                identities = None;
            }
        }
        self.limit_client(route, identities.as_ref().and_then(|identities| identities.first()))?;
        if route.mode(Layer::ValidateRequest) == Mode::Off {
            return within(route.unvalidated_body(), body);
        }
        let judged = route.validate_head(head).and_then(|_| route.validate_body(head, body));
        self.settle(route, judged, ())?;
        within(route.unvalidated_body(), body)
    }

    /// The identities that the request has proved; `None` where the mode lets it go on without having proved any, so that
    /// nothing is left to authorize.
    fn identify(&mut self, route: &Route<'_>) -> Result<Option<SmallVec<[Identity; 2]>>, Denial> {
        if route.mode(Layer::Authenticate) == Mode::Off {
            return Ok(None);
        }
        let found = match route.credentials(&self.request.head) {
            Ok(Credentials::Public) => Ok(SmallVec::new()),
            Ok(Credentials::Present(credentials)) => {
                credentials.iter().map(|credential| resolve(self.resolve, credential)).collect()
            }
            Err(denial) => Err(denial),
        };
        match found {
            Err(denial) if denial.reason == Reason::TokenInvalid && route.allows_anonymous() => {
                Ok(Some(SmallVec::new()))
            }
            found => self.settle(route, found.map(Some), None),
        }
    }

    fn limit_address(&self) -> Result<(), Denial> {
        let Some(quota) = self.plan.per_address() else { return Ok(()) };
        self.limit(quota, SPACE_ADDRESS, &[self.request.head.address.to_string().as_bytes()], Reason::AddressRate)
    }

    fn limit_client(&mut self, route: &Route<'_>, identity: Option<&Identity>) -> Result<(), Denial> {
        if route.mode(Layer::Limits) == Mode::Off {
            return Ok(());
        }
        // An anonymous caller is known by nothing but the address.
        let address = self.request.head.address.to_string();
        let client = identity.map_or(address.as_bytes(), |identity| identity.client_id.as_bytes());
        let kind: &[u8] = if identity.is_some() { b"client" } else { b"address" };
        if let (Some(quota), Some(_)) = (route.per_client(), identity) {
            let found = self.limit(quota, SPACE_CLIENT, &[client], Reason::ClientRate);
            self.settle(route, found, ())?;
        }
        if let Some(quota) = route.per_operation() {
            let parts = [kind, client, route.operation_id().as_bytes()];
            let found = self.limit(quota, SPACE_OPERATION, &parts, Reason::OperationRate);
            self.settle(route, found, ())?;
        }
        Ok(())
    }

    fn limit(&self, quota: &Quota, space: u8, parts: &[&[u8]], reason: Reason) -> Result<(), Denial> {
        let Some(limiter) = self.limiter else { return Ok(()) };
        let state = limiter.check(limiter.key(space, parts), quota, self.now.saturating_mul(1_000_000_000));
        match state.allowed {
            true => Ok(()),
            false => Err(Denial::new(Layer::Limits, reason, None, format!("again in {} s", state.retry_after_seconds))),
        }
    }

    fn settle<T>(&mut self, route: &Route<'_>, found: Result<T, Denial>, fallback: T) -> Result<T, Denial> {
        settle(route, &mut self.observed, found, fallback)
    }
}

fn settle<T>(
    route: &Route<'_>,
    observed: &mut Vec<Denial>,
    found: Result<T, Denial>,
    fallback: T,
) -> Result<T, Denial> {
    match route.settle(found, fallback) {
        Outcome::Go(value) => Ok(value),
        Outcome::Observed(value, denial) => {
            observed.push(denial);
            Ok(value)
        }
        Outcome::Deny(denial) => Err(denial),
    }
}

fn resolve(resolve: &Resolve<'_>, credential: &Credential<'_>) -> Result<Identity, Denial> {
    let deny = |reason, evidence: &'static str| Denial::new(Layer::Authenticate, reason, None, evidence);
    match resolve(credential) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(deny(Reason::TokenInvalid, "the credential is not active")),
        Err(()) => {
            Err(deny(Reason::AuthorizationServerUnavailable, "nobody could say whether the credential is active"))
        }
    }
}

/// Sizes hold in every mode: they protect the gate itself.
fn within(plan: BodyPlan, body: &[u8]) -> Result<(), Denial> {
    match plan {
        BodyPlan::Stream { max_bytes } if body.len() > max_bytes => {
            Err(Denial::new(Layer::ValidateRequest, Reason::BodyTooLarge, None, format!("more than {max_bytes} bytes")))
        }
        _ => Ok(()),
    }
}

fn judge_response(plan: &Plan, request: &WholeRequest<'_>, response: &WholeResponse<'_>) -> DecidedResponse {
    let route = match plan.look_up(&request.head) {
        Lookup::Route(route) => route,
        Lookup::Answer(_) => return DecidedResponse { outcome: "allow", denial: None, observed: Vec::new() },
        Lookup::Deny(denial, _) => return DecidedResponse::denied(denial),
    };
    let judged = match route.mode(Layer::ValidateResponse) {
        Mode::Off => Ok(()),
        Mode::Observe | Mode::Enforce => judge_enforced(&route, request, response),
    };
    let mut observed = Vec::new();
    let denial = settle(&route, &mut observed, judged, ()).err();
    let outcome = match &denial {
        None => "allow",
        Some(denial) if denial.reason == Reason::ErrorSanitised => "sanitise",
        Some(_) => "deny",
    };
    DecidedResponse { outcome, denial, observed }
}

fn judge_enforced(route: &Route<'_>, request: &WholeRequest<'_>, response: &WholeResponse<'_>) -> Result<(), Denial> {
    match route.judge_response(&request.head, &response.head) {
        ResponsePlan::Pass => Ok(()),
        ResponsePlan::Inspect { .. } => route.judge_response_body(&response.head, response.body),
        ResponsePlan::Deny(denial) | ResponsePlan::Sanitise(denial) => Err(denial),
    }
}
