//! What the authorization server says, read strictly: what is not exactly as promised is no answer.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stockade_engine::{Confirmation, CredentialKind, Identity};

use super::{Roots, Verified};

/// The internal token must outlive the request that it is sent with; one that lives for seconds must be of some use as well.
const INTERNAL_TOKEN_MARGIN_SECONDS: u64 = 5;
const OPERATION_TOKEN_MARGIN_SECONDS: u64 = 2;

/// A usable introspection answer (RFC 7662 §2.2).
pub(crate) enum Introspected {
    Invalid,
    Valid(Box<Verified>),
}

#[derive(Deserialize)]
struct Activity {
    active: bool,
}

/// The members of an active answer. Others are allowed, and doubled ones refused.
#[derive(Deserialize)]
struct Active {
    #[serde(rename = "active")]
    _active: IgnoredAny,
    client_id: String,
    sub: String,
    scope: String,
    iss: String,
    aud: Audience,
    /// An external issuer need not say it.
    #[serde(rename = "iat")]
    _iat: Option<u64>,
    #[serde(deserialize_with = "present")]
    exp: Option<u64>,
    #[serde(rename = "jti")]
    _jti: String,
    token_type: TokenType,
    internal_token: String,
    internal_token_exp: u64,
    acr: Option<String>,
    auth_time: Option<u64>,
    sid: Option<String>,
    grant_id: Option<String>,
    cnf: Option<Bound>,
}

/// RFC 7800 §3.1. A binding of another kind cannot be enforced, so a token that has one cannot be used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    jkt: Option<String>,
    #[serde(rename = "x5t#S256")]
    certificate: Option<String>,
}

impl Bound {
    fn read(&self) -> Option<Confirmation> {
        let thumbprint = |text: &String| -> Option<[u8; 32]> { URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok() };
        let each = |text: &Option<String>| text.as_ref().map_or(Some(None), |text| thumbprint(text).map(Some));
        let bound = Confirmation { jkt: each(&self.jkt)?, certificate: each(&self.certificate)? };
        (bound != Confirmation::default()).then_some(bound)
    }
}

/// `null` must be said; leaving it out is not the same.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Deserialize)]
enum TokenType {
    Bearer,
    /// Bound to a key (RFC 9449 §6.2): `cnf.jkt` says to which.
    #[serde(rename = "DPoP")]
    Dpop,
    #[serde(rename = "api_key")]
    ApiKey,
}

/// What the question was about.
pub(crate) struct Expected {
    pub(crate) kind: CredentialKind,
    /// Of the credential.
    pub(crate) digest: [u8; 32],
    /// Whether an internal token for one operation was asked for.
    pub(crate) for_operation: bool,
}

/// Reads an answer that came at `now`, `unix_now` by the wall clock. `Err` says what is wrong, without repeating it.
pub(crate) fn read(
    json: &[u8],
    asked: &Expected,
    cache_for: Duration,
    now: Instant,
    unix_now: u64,
) -> Result<Introspected, &'static str> {
    let activity: Activity = serde_json::from_slice(json).map_err(|_| "not a JSON object with a boolean `active`")?;
    if !activity.active {
        return Ok(Introspected::Invalid);
    }
    let active: Active =
        serde_json::from_slice(json).map_err(|_| "a member of the answer is missing or of a wrong type")?;
    let kind = match active.token_type {
        TokenType::Bearer | TokenType::Dpop => CredentialKind::AccessToken,
        TokenType::ApiKey => CredentialKind::ApiKey,
    };
    if active.client_id.is_empty() || active.iss.is_empty() {
        return Err("a member of the answer is empty");
    }
    if active.exp.is_none() && kind == CredentialKind::AccessToken {
        return Err("an access token without an end");
    }
    if kind != asked.kind || active.exp.is_some_and(|exp| exp <= unix_now) {
        return Ok(Introspected::Invalid);
    }
    if active.internal_token_exp <= unix_now {
        return Err("the internal token has expired");
    }
    let confirmation = match &active.cnf {
        None => Confirmation::default(),
        Some(bound) => bound.read().ok_or("the token is bound to nothing that can be checked")?,
    };
    if matches!(active.token_type, TokenType::Dpop) && confirmation.jkt.is_none() {
        return Err("a token that is bound to a key, and no key");
    }
    let mut internal_token = HeaderValue::try_from(format!("Bearer {}", active.internal_token))
        .map_err(|_| "the internal token cannot stand in a header")?;
    internal_token.set_sensitive(true);
    let margin = if asked.for_operation { OPERATION_TOKEN_MARGIN_SECONDS } else { INTERNAL_TOKEN_MARGIN_SECONDS };
    let usable = [Some(active.internal_token_exp.saturating_sub(margin)), active.exp]
        .into_iter()
        .flatten()
        .map(|end| Duration::from_secs(end.saturating_sub(unix_now)))
        .fold(cache_for, Duration::min);
    let mut scopes: Vec<String> = active.scope.split_ascii_whitespace().map(str::to_owned).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let identity = Identity {
        kind,
        client_id: active.client_id,
        subject: active.sub,
        scopes,
        issuer: active.iss,
        audience: match active.aud {
            Audience::One(one) => vec![one],
            Audience::Many(many) => many,
        },
        expires_at: active.exp,
        confirmation,
        acr: active.acr,
        auth_time: active.auth_time,
    };
    let roots = Roots { session_id: active.sid, grant_id: active.grant_id };
    let usable_until = now.checked_add(usable).unwrap_or(now);
    let (digest, expires_at) = (asked.digest, active.exp);
    Ok(Introspected::Valid(Box::new(Verified { identity, roots, digest, internal_token, usable_until, expires_at })))
}

/// A page of the revocation feed.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) epoch: String,
    pub(crate) sequence: u64,
    pub(crate) reset: bool,
    pub(crate) revocations: Vec<Revocation>,
}

#[derive(Deserialize)]
pub(crate) struct Revocation {
    pub(crate) revoked_at: f64,
    #[serde(flatten)]
    pub(crate) what: Revoked,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Revoked {
    Token {
        digest: String,
    },
    Client {
        client_id: String,
    },
    User {
        sub: String,
    },
    Session {
        sid: String,
    },
    Grant {
        grant_id: String,
    },
    /// A kind that a newer server knows.
    #[serde(other)]
    Unknown,
}

impl Revoked {
    /// The digest of a revoked token as bytes.
    pub(crate) fn parse_digest(digest: &str) -> Option<[u8; 32]> {
        let hex = digest.as_bytes();
        let mut key = [0; 32];
        if hex.len() != 64 || !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(key)
    }
}
