//! The compiled plan: everything that can be worked out at load time is.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::bundle::BundleError;
use crate::decision::{Denial, Layer, Mode};
use crate::limits::Quota;
use crate::request::{RequestHead, ResponseHead};

/// A loaded bundle payload. Immutable; share it by `Arc`.
pub struct Plan {}

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
    canonical: String,
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
    /// Each must resolve to an identity.
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
}

/// What to do with the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// There is none.
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
    /// Reads a payload and builds every router, validator and answer.
    pub fn load(_payload: &[u8]) -> Result<Plan, BundleError> {
        todo!()
    }

    /// Framing checks on the head, canonical path, CORS preflight, operation.
    pub fn look_up(&self, _head: &RequestHead<'_>) -> Lookup<'_> {
        todo!()
    }

    pub fn audience(&self) -> &str {
        todo!()
    }

    pub fn issuer(&self) -> &str {
        todo!()
    }

    pub fn scopes_supported(&self) -> &[String] {
        todo!()
    }

    pub fn problem_base(&self) -> &str {
        todo!()
    }

    pub fn per_address(&self) -> Option<&Quota> {
        todo!()
    }

    pub fn max_tracked_keys(&self) -> usize {
        todo!()
    }

    pub fn max_target_bytes(&self) -> usize {
        todo!()
    }

    /// CORS headers for an actual (not preflight) answer.
    pub fn cors_headers(&self, _head: &RequestHead<'_>) -> Vec<(&'static str, String)> {
        todo!()
    }

    /// The RFC 9728 document.
    pub fn metadata(&self, _host: &str) -> Vec<u8> {
        todo!()
    }
}

impl<'p> Route<'p> {
    pub fn operation_id(&self) -> &'p str {
        let _ = self.plan;
        todo!()
    }

    pub fn operation_index(&self) -> usize {
        todo!()
    }

    pub fn path_template(&self) -> &'p str {
        todo!()
    }

    pub fn method(&self) -> &'p str {
        todo!()
    }

    pub fn pointer(&self) -> &'p str {
        todo!()
    }

    /// The one spelling of the path that was matched and is sent upstream.
    pub fn canonical_path(&self) -> &str {
        &self.canonical
    }

    pub fn mode(&self, _layer: Layer) -> Mode {
        todo!()
    }

    pub fn per_client(&self) -> Option<&'p Quota> {
        todo!()
    }

    pub fn per_operation(&self) -> Option<&'p Quota> {
        todo!()
    }

    /// Whether the operation declares an upgrade to `protocol` (without case).
    pub fn allows_upgrade(&self, _protocol: &str) -> bool {
        todo!()
    }

    pub fn credentials<'h>(&self, _head: &RequestHead<'h>) -> Result<Credentials<'h>, Denial> {
        todo!()
    }

    /// Issuer, audience, expiry, scopes, certificate. `now` is NumericDate seconds.
    pub fn authorize(&self, _head: &RequestHead<'_>, _identities: &[&Identity], _now: u64) -> Result<(), Denial> {
        todo!()
    }

    /// The `WWW-Authenticate` value for a refusal, where one is due (RFC 6750 §3, RFC 9728 §5.1).
    pub fn challenge(&self, _denial: &Denial, _resource_metadata: &str) -> Option<String> {
        todo!()
    }

    pub fn validate_head(&self, _head: &RequestHead<'_>) -> Result<BodyPlan, Denial> {
        todo!()
    }

    pub fn validate_body(&self, _head: &RequestHead<'_>, _body: &[u8]) -> Result<(), Denial> {
        todo!()
    }

    /// Header names (lower case) that carry credentials and must not reach the upstream.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Query parameters that carry API keys and must not reach the upstream.
    pub fn strip_query(&self) -> &[&str] {
        todo!()
    }

    /// Cookies that carry API keys and must not reach the upstream.
    pub fn strip_cookies(&self) -> &[&str] {
        todo!()
    }

    pub fn judge_response(&self, _head: &RequestHead<'_>, _response: &ResponseHead<'_>) -> ResponsePlan {
        todo!()
    }

    pub fn judge_response_body(&self, _response: &ResponseHead<'_>, _body: &[u8]) -> Result<(), Denial> {
        todo!()
    }
}
