//! The compiled plan: everything that can be worked out at load time is.
//!
//! `path` → `routing` find the operation, `framing` and `cors` stand before it, `security`, `requests` and `responses`
//! judge what it carries. `load` builds all of them from a payload.

mod cors;
pub(crate) mod credential;
mod framing;
mod load;
mod path;
mod requests;
mod responses;
mod routing;
#[cfg(test)]
mod sabotage;
mod security;
mod shapes;

use std::borrow::Cow;
use std::collections::HashMap;

use ahash::RandomState;
use smallvec::SmallVec;

use self::cors::CorsPlan;
use self::framing::Framing;
pub(crate) use self::path::canonicalise;
use self::requests::{Body, path_values};
use self::responses::Responses;
use self::routing::{Captures, Found, Leaf, Router, Template};
use self::security::{Scene, Security, shows_proof};
pub(crate) use self::shapes::Shape;
use crate::bundle::{Deny, Modes, PayloadRequirement};
use crate::decision::{Denial, Layer, Mode, Outcome, Reason};
use crate::dpop::{ProofRules, Proofs};
use crate::limits::Quota;
use crate::request::{RequestHead, ResponseHead};
use crate::validate::{Ignored, ParameterSpec, Schemas, Sizes};

const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// A loaded bundle payload. Immutable; share it by `Arc`.
pub struct Plan {
    framing: Framing,
    router: Router,
    operations: Vec<Operation>,
    cors: Option<CorsPlan>,
    schemas: Schemas,
    schema_pointers: HashMap<String, String, RandomState>,
    json_sizes: Sizes,
    max_body_bytes: usize,
    max_response_bytes: usize,
    max_tracked_keys: usize,
    per_address: Option<Quota>,
    per_client: Option<Quota>,
    issuer: String,
    audience: String,
    scopes_supported: Vec<String>,
    /// Absent: no proof of possession is accepted.
    dpop: Option<ProofRules>,
    acr_order: Vec<String>,
    problem_base: String,
    metadata: Vec<u8>,
    /// Where the metadata is served: the well-known path, with the audience's own path behind it (RFC 9728 §3.1).
    metadata_paths: Vec<String>,
}

/// One operation, ready to judge.
struct Operation {
    id: String,
    method: String,
    pointer: String,
    deny: Option<Deny>,
    modes: Modes,
    templates: Vec<Template>,
    security: Security,
    /// As the bundle has it, for the self-check.
    declared_security: Vec<Vec<PayloadRequirement>>,
    declared_acr: Vec<String>,
    declared_max_age: Option<u64>,
    parameters: Vec<ParameterSpec>,
    unknown_query_denied: bool,
    body: Option<Body>,
    responses: Responses,
    limit: Option<Quota>,
    /// What the internal token must be bound to: `GET /orders/{id}`; absent: one for all operations.
    internal_operation: Option<String>,
    /// Lower case.
    upgrade: Vec<String>,
    stream_response: bool,
    /// What carries credentials, here or in another operation, and is no parameter of this one.
    strip_headers: Vec<String>,
    strip_query: Names,
    strip_cookies: Names,
    /// Names for `access-control-allow-headers`.
    cors_headers: String,
}

/// Names of parameters that carry API keys; this operation's `own` come first.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    own: usize,
}

impl Names {
    fn all(&self) -> NameList<'_> {
        self.names.iter().map(String::as_str).collect()
    }
}

type NameList<'p> = SmallVec<[&'p str; 2]>;

/// What a request head leads to.
pub enum Lookup<'p> {
    Route(Route<'p>),
    /// The engine answers by itself: a CORS preflight, or protected resource metadata.
    Answer(Answer),
    /// A refusal, and the methods for `Allow` (empty: no such header).
    Deny(Denial, Vec<String>),
}

/// An answer that never reaches the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// An operation and how this request reached it.
pub struct Route<'p> {
    plan: &'p Plan,
    operation: &'p Operation,
    index: usize,
    template: &'p Template,
    canonical: String,
    captures: Captures,
    strip_query: NameList<'p>,
    strip_cookies: NameList<'p>,
}

/// What kind of credential a requirement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    AccessToken,
    ApiKey,
}

/// A credential as presented.
pub struct Credential<'h> {
    pub kind: CredentialKind,
    pub secret: Cow<'h, str>,
}

/// What a request brings for its operation's security requirements.
pub enum Credentials<'h> {
    /// Nothing to resolve: go on to `authorize` with no identity.
    Public,
    /// Each must resolve to an identity; hand them to `authorize` in this order. Where one does not and the route
    /// [`allows_anonymous`](Route::allows_anonymous), go on with no identity at all.
    Present(SmallVec<[Credential<'h>; 2]>),
}

/// What the authorization server said about one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub kind: CredentialKind,
    pub client_id: String,
    pub subject: String,
    /// Sorted.
    pub scopes: Vec<String>,
    pub issuer: String,
    pub audience: Vec<String>,
    /// NumericDate; `None`: does not expire.
    pub expires_at: Option<u64>,
    pub confirmation: Confirmation,
    /// How strongly the user signed in (RFC 9470 §6.2); none for a client on its own.
    pub acr: Option<String>,
    /// When the user signed in, as NumericDate.
    pub auth_time: Option<u64>,
}

/// What a credential is bound to (RFC 7800 §3.1): all that is there must be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Thumbprint of a key (RFC 9449 §6.1).
    pub jkt: Option<[u8; 32]>,
    /// SHA-256 of a client certificate, `x5t#S256` (RFC 8705 §3.1).
    pub certificate: Option<[u8; 32]>,
}

/// As whom a request is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// As the identities that were handed in.
    Known,
    /// As nobody: the operation is open to all, and the identities do not count.
    Anonymous,
}

/// What to do with the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// There is none; should bytes come all the same, `validate_body` refuses them.
    None,
    /// Collect at most `max_bytes`, then `validate_body`.
    Inspect { max_bytes: usize },
    /// Pass on, at most `max_bytes`.
    Stream { max_bytes: usize },
}

/// What to do with the upstream's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponsePlan {
    Pass,
    /// Collect at most `max_bytes`, then `judge_response_body`.
    Inspect {
        max_bytes: usize,
    },
    /// Answer 502 instead.
    Deny(Denial),
    /// Keep the status, replace the body by a problem document.
    Sanitise(Denial),
}

impl Plan {
    /// Framing checks on the head, canonical path, CORS preflight, operation.
    pub fn look_up(&self, head: &RequestHead<'_>) -> Lookup<'_> {
        if let Err(denial) = self.framing.check(head) {
            return Lookup::Deny(denial, Vec::new());
        }
        if head.path == "*" {
            return Lookup::Deny(refuse(Reason::OperationUnknown, None, "the target is no path"), Vec::new());
        }
        let mut path = match canonicalise(head.path) {
            Ok(path) => path,
            Err(evidence) => return Lookup::Deny(refuse(Reason::PathAmbiguous, None, evidence), Vec::new()),
        };
        let (leaf, mut captures) = match self.router.find(&path) {
            Found::Leaf(leaf, captures) => (leaf, captures),
            Found::Ambiguous(evidence) => {
                return Lookup::Deny(refuse(Reason::PathAmbiguous, None, evidence), Vec::new());
            }
            Found::Nothing if path.semicolon => {
                return Lookup::Deny(refuse(Reason::PathAmbiguous, None, "the path holds a semicolon"), Vec::new());
            }
            Found::Nothing => return self.look_up_own(head, &path.text),
        };
        let Some((index, which)) = pick_method(leaf, head.method) else { return self.look_up_method(head, leaf) };
        let operation = self.operations.get(index);
        let Some((operation, template)) = operation.and_then(|op| Some((op, op.templates.get(which)?))) else {
            return Lookup::Deny(
                refuse(Reason::OperationUnknown, None, "the operation is not in the plan"),
                Vec::new(),
            );
        };
        if path.semicolon && !only_matrix_semicolons(&path.text, template, &captures) {
            return Lookup::Deny(refuse(Reason::PathAmbiguous, None, "the path holds a semicolon"), Vec::new());
        }
        if path.escaped {
            template.respell(&mut path.text, &mut captures);
        }
        if let Some(deny) = &operation.deny {
            let evidence = format!("the operation uses {}, which is not supported", deny.construct);
            return Lookup::Deny(refuse(Reason::OperationUnsupported, Some(&deny.pointer), evidence), Vec::new());
        }
        Lookup::Route(Route {
            plan: self,
            operation,
            index,
            template,
            canonical: path.text,
            captures,
            strip_query: operation.strip_query.all(),
            strip_cookies: operation.strip_cookies.all(),
        })
    }

    /// A path that the description does not have: the engine's own document, or nothing.
    fn look_up_own(&self, head: &RequestHead<'_>, path: &str) -> Lookup<'_> {
        if !self.metadata_paths.iter().any(|own| own == path) {
            return Lookup::Deny(refuse(Reason::OperationUnknown, None, "no path template matches"), Vec::new());
        }
        if !matches!(head.method, "GET" | "HEAD") {
            let allow = vec!["GET".to_owned(), "HEAD".to_owned()];
            return Lookup::Deny(refuse(Reason::MethodUnknown, None, "the method is not declared"), allow);
        }
        let headers =
            vec![("content-type", "application/json".to_owned()), ("cache-control", "max-age=300".to_owned())];
        Lookup::Answer(Answer { status: 200, headers, body: self.metadata.clone() })
    }

    /// A path that the description has, without this method.
    fn look_up_method(&self, head: &RequestHead<'_>, leaf: &Leaf) -> Lookup<'_> {
        let mut allow: Vec<String> = leaf.methods.iter().map(|(method, ..)| method.to_string()).collect();
        if leaf.method("GET").is_some() && leaf.method("HEAD").is_none() {
            allow.push("HEAD".to_owned());
        }
        allow.sort_unstable();
        if let Some(cors) = &self.cors {
            if CorsPlan::is_preflight(head) {
                let wanted = head.headers.first("access-control-request-method").unwrap_or_default();
                let wanted = std::str::from_utf8(wanted).ok().and_then(|method| pick_method(leaf, method));
                let operation = wanted.and_then(|(index, _)| self.operations.get(index));
                let headers = operation.map(|operation| operation.cors_headers.as_str()).unwrap_or_default();
                return Lookup::Answer(cors.preflight(head, &allow, headers));
            }
            allow.push("OPTIONS".to_owned());
        }
        Lookup::Deny(refuse(Reason::MethodUnknown, None, "the method is not declared for this path"), allow)
    }

    pub fn audience(&self) -> &str {
        &self.audience
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn scopes_supported(&self) -> &[String] {
        &self.scopes_supported
    }

    /// The nonce for the next proof, `DPoP-Nonce` (RFC 9449 §8.2, §9), where `head` shows one. `now` is NumericDate seconds.
    pub fn next_nonce(&self, head: &RequestHead<'_>, proofs: &Proofs, now: u64) -> Option<String> {
        let rules = self.dpop.as_ref()?;
        if shows_proof(head) { rules.nonce(proofs, now) } else { None }
    }

    /// As [`Plan::next_nonce`], whatever the request: for mounts that make proofs themselves.
    pub fn current_nonce(&self, proofs: &Proofs, now: u64) -> Option<String> {
        self.dpop.as_ref()?.nonce(proofs, now)
    }

    pub fn problem_base(&self) -> &str {
        &self.problem_base
    }

    pub fn per_address(&self) -> Option<&Quota> {
        self.per_address.as_ref()
    }

    pub fn max_tracked_keys(&self) -> usize {
        self.max_tracked_keys
    }

    pub fn max_target_bytes(&self) -> usize {
        self.framing.max_target_bytes
    }

    /// CORS headers for an actual (not preflight) answer.
    pub fn cors_headers(&self, head: &RequestHead<'_>) -> Vec<(&'static str, String)> {
        self.cors.as_ref().map(|cors| cors.answer_headers(head.headers)).unwrap_or_default()
    }

    /// The RFC 9728 document. It names the audience, whatever host the caller used.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The path at which the document for the audience stands (RFC 9728 §3.1), for `resource_metadata`.
    pub fn metadata_path(&self) -> &str {
        self.metadata_paths.last().map_or(METADATA_PATH, String::as_str)
    }
}

/// The operation for a method; GET serves HEAD where the description does not.
fn pick_method(leaf: &Leaf, method: &str) -> Option<(usize, usize)> {
    leaf.method(method).or_else(|| if method == "HEAD" { leaf.method("GET") } else { None })
}

/// Whether no `;` stands in the value of a variable, unless of style `matrix` (RFC 6570 §3.2.7).
fn only_matrix_semicolons(path: &str, template: &Template, captures: &Captures) -> bool {
    captures.iter().zip(&template.matrix).all(|(&(start, end), &matrix)| {
        matrix || memchr::memchr(b';', path.get(start..end).unwrap_or_default().as_bytes()).is_none()
    })
}

fn refuse(reason: Reason, pointer: Option<&str>, evidence: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Layer::Lookup, reason, pointer.map(str::to_owned), evidence)
}

impl<'p> Route<'p> {
    pub fn operation_id(&self) -> &'p str {
        &self.operation.id
    }

    pub fn operation_index(&self) -> usize {
        self.index
    }

    pub fn path_template(&self) -> &'p str {
        &self.template.text
    }

    /// The operation's method; a HEAD request may have been routed to GET.
    pub fn method(&self) -> &'p str {
        &self.operation.method
    }

    pub fn pointer(&self) -> &'p str {
        &self.operation.pointer
    }

    /// The one spelling of the path that was matched and is sent upstream.
    pub fn canonical_path(&self) -> &str {
        &self.canonical
    }

    /// How a layer acts on this operation. Layers that have no mode of their own are enforced.
    pub fn mode(&self, layer: Layer) -> Mode {
        let modes = &self.operation.modes;
        match layer {
            Layer::Authenticate => modes.authenticate,
            Layer::Authorize => modes.authorize,
            Layer::Limits => modes.limits,
            Layer::ValidateRequest => modes.validate_request,
            Layer::ValidateResponse => modes.validate_response,
            Layer::Framing | Layer::Lookup | Layer::Upstream | Layer::Internal => Mode::Enforce,
        }
    }

    /// Applies the mode of the denial's own layer to what a stage found; `fallback` stands in where a denial does not stop
    /// the request.
    pub fn settle<T>(&self, found: Result<T, Denial>, fallback: T) -> Outcome<T> {
        match found {
            Ok(value) => Outcome::Go(value),
            Err(denial) => match self.mode(denial.layer) {
                Mode::Enforce => Outcome::Deny(denial),
                Mode::Observe => Outcome::Observed(fallback, denial),
                Mode::Off => Outcome::Go(fallback),
            },
        }
    }

    pub fn per_client(&self) -> Option<&'p Quota> {
        self.plan.per_client.as_ref()
    }

    pub fn per_operation(&self) -> Option<&'p Quota> {
        self.operation.limit.as_ref()
    }

    /// Whether the operation declares an upgrade to `protocol` (without case).
    pub fn allows_upgrade(&self, protocol: &str) -> bool {
        self.operation.upgrade.iter().any(|known| known.eq_ignore_ascii_case(protocol))
    }

    /// Whether the operation may be called without credentials, so that ones that do not hold are ignored.
    pub fn allows_anonymous(&self) -> bool {
        self.operation.security.is_public()
    }

    /// The credentials that the operation asks for, as this request presents them.
    pub fn credentials<'h>(&self, head: &RequestHead<'h>) -> Result<Credentials<'h>, Denial> {
        self.operation.security.credentials(head, &self.operation.pointer)
    }

    /// Issuer, audience, expiry, possession of what the credential is bound to, scopes, assurance, certificate. `now` is
    /// NumericDate seconds; `identities` stand in the order of `credentials`. The denial's layer is `authenticate` or
    /// `authorize`. A proof that holds is noted as used, so a request is authorized once.
    pub fn authorize(
        &self,
        head: &RequestHead<'_>,
        identities: &[&Identity],
        proofs: &Proofs,
        now: u64,
    ) -> Result<Admitted, Denial> {
        let plan = self.plan;
        let scene = Scene {
            issuer: &plan.issuer,
            audience: &plan.audience,
            pointer: &self.operation.pointer,
            acr_order: &plan.acr_order,
            rules: plan.dpop.as_ref(),
            proofs,
            now,
        };
        self.operation.security.authorize(head, identities, &scene)
    }

    /// The `WWW-Authenticate` values for a refusal, where any are due (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3, RFC 9728 §5.1).
    pub fn challenges(&self, denial: &Denial, head: &RequestHead<'_>, resource_metadata: &str) -> Vec<String> {
        self.operation.security.challenges(denial, head, resource_metadata)
    }

    /// The operation that the upstream's token must be bound to, `GET /orders/{id}`; `None`: one token for all operations.
    pub fn internal_operation(&self) -> Option<&'p str> {
        self.operation.internal_operation.as_deref()
    }

    /// Parameters, media type, declared length.
    pub fn validate_head(&self, head: &RequestHead<'_>) -> Result<BodyPlan, Denial> {
        let values = path_values(&self.template.variables, &self.captures, &self.canonical);
        let ignored = Ignored {
            query: self.strip_query.get(..self.operation.strip_query.own).unwrap_or_default(),
            cookies: self.strip_cookies.get(..self.operation.strip_cookies.own).unwrap_or_default(),
        };
        self.plan.validate_request_head(self.operation, head, &values, ignored)
    }

    /// The whole body; empty where there is none.
    pub fn validate_body(&self, head: &RequestHead<'_>, body: &[u8]) -> Result<(), Denial> {
        self.plan.validate_request_body(self.operation, head, body)
    }

    /// What to do with the body where validation is off, or has only been observed to fail: sizes hold all the same.
    pub fn unvalidated_body(&self) -> BodyPlan {
        let max_bytes = self.operation.body.as_ref().map_or(self.plan.max_body_bytes, |body| body.max_bytes);
        BodyPlan::Stream { max_bytes }
    }

    /// Header names (lower case) that carry credentials and must not reach the upstream.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        self.operation.strip_headers.iter().map(String::as_str)
    }

    /// Query parameters that carry API keys and must not reach the upstream.
    pub fn strip_query(&self) -> &[&str] {
        &self.strip_query
    }

    /// Cookies that carry API keys and must not reach the upstream.
    pub fn strip_cookies(&self) -> &[&str] {
        &self.strip_cookies
    }

    pub fn judge_response(&self, head: &RequestHead<'_>, response: &ResponseHead<'_>) -> ResponsePlan {
        self.plan.judge_head(self.operation, head, response)
    }

    /// The whole body of a response that `judge_response` wanted inspected.
    pub fn judge_response_body(&self, response: &ResponseHead<'_>, body: &[u8]) -> Result<(), Denial> {
        self.plan.judge_body(self.operation, response, body)
    }
}
