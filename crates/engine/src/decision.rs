//! Refusals are values that carry their reason (`docs/contracts.md` §2).

use std::borrow::Cow;

/// The step of the flow that decided. Wire names are snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    Framing,
    Lookup,
    Limits,
    Authenticate,
    Authorize,
    ValidateRequest,
    ValidateResponse,
    Upstream,
    Internal,
}

/// How a layer acts: `enforce` denies, `observe` records what it would have denied, `off` does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Enforce,
    Observe,
    Off,
}

macro_rules! reasons {
    ($($variant:ident $name:literal $status:literal),* $(,)?) => {
        /// Why a request or a response was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($variant),* }

        impl Reason {
            /// Every reason, for completeness tests and metrics.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];

            /// The stable wire name.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),* }
            }

            /// The status a refusal answers with in a request layer; a response layer answers 502 (see [`Denial::status`]).
            pub fn status(self) -> u16 {
                match self { $(Reason::$variant => $status),* }
            }
        }
    };
}

reasons! {
    BadRequest "bad_request" 400, BadHost "bad_host" 400, Misdirected "misdirected" 421, HeaderDuplicated "header_duplicated" 400,
    HeaderForbidden "header_forbidden" 400, ExpectationFailed "expectation_failed" 417, TargetTooLong "target_too_long" 414,
    HeadersTooLarge "headers_too_large" 431, MethodNotAllowed "method_not_allowed" 405,
    Timeout "timeout" 408, UpgradeRefused "upgrade_refused" 400,
    PathAmbiguous "path_ambiguous" 400, OperationUnknown "operation_unknown" 404, MethodUnknown "method_unknown" 405,
    OperationUnsupported "operation_unsupported" 501,
    AddressRate "address_rate" 429, ClientRate "client_rate" 429, OperationRate "operation_rate" 429, Overloaded "overloaded" 503,
    CredentialsMissing "credentials_missing" 401, TokenInvalid "token_invalid" 401, TokenInQuery "token_in_query" 400,
    CredentialsAmbiguous "credentials_ambiguous" 400, ClientCertificateMissing "client_certificate_missing" 401,
    DpopProofMissing "dpop_proof_missing" 401, DpopProofInvalid "dpop_proof_invalid" 401,
    DpopNonceRequired "dpop_nonce_required" 401, DpopReplayed "dpop_replayed" 401, DpopCapacity "dpop_capacity" 503,
    TokenBound "token_bound" 401,
    AuthorizationServerUnavailable "authorization_server_unavailable" 503,
    ScopeInsufficient "scope_insufficient" 403, AcrInsufficient "acr_insufficient" 401,
    ParameterMissing "parameter_missing" 400, ParameterInvalid "parameter_invalid" 400, ParameterUnknown "parameter_unknown" 400,
    ParameterDuplicated "parameter_duplicated" 400, ParameterMalformed "parameter_malformed" 400,
    BodyMissing "body_missing" 400, BodyUnexpected "body_unexpected" 400, BodyMalformed "body_malformed" 400, BodyInvalid "body_invalid" 400,
    BodyDuplicateKey "body_duplicate_key" 400, BodyTooLarge "body_too_large" 413, BodyTooDeep "body_too_deep" 400,
    BodyTooComplex "body_too_complex" 400, MediaTypeUnsupported "media_type_unsupported" 415,
    ContentEncodingUnsupported "content_encoding_unsupported" 415,
    StatusUndeclared "status_undeclared" 502, MediaTypeUndeclared "media_type_undeclared" 502, HeaderMissing "header_missing" 502,
    HeaderInvalid "header_invalid" 502, ErrorSanitised "error_sanitised" 502,
    Unreachable "unreachable" 502, UpstreamTimeout "upstream_timeout" 504, ProtocolError "protocol_error" 502,
    Panic "panic" 500,
}

impl Layer {
    /// Every layer, in the order they run.
    pub const ALL: &'static [Layer] = &[
        Layer::Framing,
        Layer::Lookup,
        Layer::Limits,
        Layer::Authenticate,
        Layer::Authorize,
        Layer::ValidateRequest,
        Layer::ValidateResponse,
        Layer::Upstream,
        Layer::Internal,
    ];

    /// The stable wire name.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Framing => "framing",
            Layer::Lookup => "lookup",
            Layer::Limits => "limits",
            Layer::Authenticate => "authenticate",
            Layer::Authorize => "authorize",
            Layer::ValidateRequest => "validate_request",
            Layer::ValidateResponse => "validate_response",
            Layer::Upstream => "upstream",
            Layer::Internal => "internal",
        }
    }
}

/// One refusal, with what the operator needs to understand it. Nothing of it but the status reaches the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub layer: Layer,
    pub reason: Reason,
    /// HTTP status for the caller; for `error_sanitised` the upstream's own.
    pub status: u16,
    /// JSON pointer into the API description, where one applies.
    pub pointer: Option<String>,
    /// Positions, types and lengths; never a value (`docs/contracts.md` §6).
    pub evidence: Cow<'static, str>,
    /// For `scope_insufficient` and `acr_insufficient`: the security alternative that came closest.
    pub alternative: Option<usize>,
}

/// What a stage's refusal means once the layer's mode is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Go(T),
    /// The layer observes: go on with the fallback, and record the denial.
    Observed(T, Denial),
    Deny(Denial),
}

impl Denial {
    /// A refusal with the reason's own status; a response layer's refusals of the upstream's answer are 502.
    pub fn new(
        layer: Layer,
        reason: Reason,
        pointer: Option<String>,
        evidence: impl Into<Cow<'static, str>>,
    ) -> Denial {
        let status = if layer == Layer::ValidateResponse { 502 } else { reason.status() };
        Denial { layer, reason, status, pointer, evidence: evidence.into(), alternative: None }
    }
}
