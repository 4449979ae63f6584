//! Security requirements: alternatives (OR) of requirements (AND), as the description has them.

use std::borrow::Cow;
use std::fmt::Write as _;

use smallvec::SmallVec;

use super::credential::{
    ACCESS_TOKEN_PREFIX, API_KEY_PREFIX, Bearer, Presented, bearer, in_cookie, in_header, in_query, is_plausible,
    query_leaks_token,
};
use super::{Credential, CredentialKind, Credentials, Identity};
use crate::bundle::{KeyPlace, PayloadRequirement};
use crate::decision::{Denial, Layer, Reason};
use crate::request::RequestHead;

/// The security requirements of one operation.
pub(super) struct Security {
    /// The distinct places where this operation's credentials stand.
    slots: Vec<Slot>,
    alternatives: Vec<Alternative>,
    /// Whether an anonymous request is admitted.
    public: bool,
    /// Whether the description itself gives `access_token` in the query a meaning.
    declares_access_token: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Slot {
    Bearer,
    Key { place: KeyPlace, name: String },
}

#[derive(Default)]
struct Alternative {
    /// (slot, scopes).
    needs: Vec<(usize, Vec<String>)>,
    certificate: bool,
}

/// What one slot holds in this request. `Malformed` is there, but cannot be a credential.
enum Held<'h> {
    Nothing,
    Malformed,
    Secret(Cow<'h, str>),
}

type AllHeld<'h> = SmallVec<[Held<'h>; 2]>;

impl Security {
    pub fn new(alternatives: &[Vec<PayloadRequirement>], declares_access_token: bool) -> Security {
        let public = alternatives.is_empty() || alternatives.iter().any(Vec::is_empty);
        let mut security = Security { slots: Vec::new(), alternatives: Vec::new(), public, declares_access_token };
        for requirements in alternatives {
            let mut alternative = Alternative::default();
            for requirement in requirements {
                match requirement {
                    PayloadRequirement::Token { scopes, .. } => {
                        alternative.needs.push((security.slot(Slot::Bearer), scopes.clone()));
                    }
                    PayloadRequirement::ApiKey { place, name, scopes, .. } => {
                        let name = if *place == KeyPlace::Header { name.to_ascii_lowercase() } else { name.clone() };
                        let slot = security.slot(Slot::Key { place: *place, name });
                        alternative.needs.push((slot, scopes.clone()));
                    }
                    PayloadRequirement::MutualTls { .. } => alternative.certificate = true,
                }
            }
            security.alternatives.push(alternative);
        }
        security
    }

    fn slot(&mut self, wanted: Slot) -> usize {
        if let Some(index) = self.slots.iter().position(|slot| *slot == wanted) {
            return index;
        }
        self.slots.push(wanted);
        self.slots.len() - 1
    }

    pub fn is_public(&self) -> bool {
        self.public
    }

    /// Names of the API keys in one place.
    pub fn keys(&self, wanted: KeyPlace) -> impl Iterator<Item = &str> {
        self.slots.iter().filter_map(move |slot| match slot {
            Slot::Key { place, name } if *place == wanted => Some(name.as_str()),
            _ => None,
        })
    }

    pub fn takes_tokens(&self) -> bool {
        self.slots.contains(&Slot::Bearer)
    }

    /// Collects the credentials of every alternative that the request can satisfy, in slot order.
    pub fn credentials<'h>(&self, head: &RequestHead<'h>, pointer: &str) -> Result<Credentials<'h>, Denial> {
        self.refuse_token_in_query(head, pointer)?;
        if self.slots.is_empty() {
            return match self.public || self.presented(&[], head).next().is_some() {
                true => Ok(Credentials::Public),
                false => {
                    Err(deny(Reason::ClientCertificateMissing, pointer, "the operation needs a client certificate"))
                }
            };
        }
        let held = match self.hold(head, pointer) {
            Ok(held) => held,
            Err(_) if self.public => return Ok(Credentials::Public),
            Err(denial) => return Err(denial),
        };
        let mut used: SmallVec<[bool; 4]> = SmallVec::from_elem(false, held.len());
        let mut satisfiable = self.public;
        for alternative in self.presented(&held, head) {
            satisfiable = true;
            for (slot, _) in &alternative.needs {
                if let Some(used) = used.get_mut(*slot) {
                    *used = true;
                }
            }
        }
        if !satisfiable {
            return Err(self.missing(&held, pointer));
        }
        let mut present = SmallVec::new();
        for ((slot, held), used) in self.slots.iter().zip(held).zip(used) {
            if let (Held::Secret(secret), true) = (held, used) {
                present.push(Credential { kind: slot.kind(), secret });
            }
        }
        Ok(if present.is_empty() { Credentials::Public } else { Credentials::Present(present) })
    }

    /// RFC 6750 §2.3: a token in a query ends up in logs, so it is refused wherever the description does not demand it.
    fn refuse_token_in_query(&self, head: &RequestHead<'_>, pointer: &str) -> Result<(), Denial> {
        let Some(query) = head.query else { return Ok(()) };
        let named = !self.declares_access_token && !matches!(in_query(head.query, "access_token"), Presented::Absent);
        if named || query_leaks_token(query) {
            return Err(deny(Reason::TokenInQuery, pointer, "a token stands in the query"));
        }
        Ok(())
    }

    fn hold<'h>(&self, head: &RequestHead<'h>, pointer: &str) -> Result<AllHeld<'h>, Denial> {
        self.slots.iter().map(|slot| slot.hold(head, pointer)).collect()
    }

    /// The alternatives whose credentials are all there. An empty alternative is no credential's business.
    fn presented<'s>(&'s self, held: &[Held<'_>], head: &RequestHead<'_>) -> impl Iterator<Item = &'s Alternative> {
        let certificate = head.client_certificate;
        self.alternatives.iter().filter(move |alternative| {
            let something = alternative.certificate || !alternative.needs.is_empty();
            something && (certificate || !alternative.certificate) && alternative.is_held(held)
        })
    }

    /// Why no alternative can be satisfied.
    fn missing(&self, held: &[Held<'_>], pointer: &str) -> Denial {
        if held.iter().any(|held| matches!(held, Held::Malformed)) {
            return deny(
                Reason::TokenInvalid,
                pointer,
                "a credential is malformed, of the wrong kind, or has a wrong checksum",
            );
        }
        if self.alternatives.iter().any(|alternative| alternative.certificate && alternative.is_held(held)) {
            return deny(Reason::ClientCertificateMissing, pointer, "the operation needs a client certificate");
        }
        deny(Reason::CredentialsMissing, pointer, "no security alternative has all its credentials")
    }

    /// Judges the resolved identities, which stand in the order of `credentials`.
    pub fn authorize(&self, head: &RequestHead<'_>, identities: &[&Identity], scene: &Scene<'_>) -> Result<(), Denial> {
        let held = self.hold(head, scene.pointer).unwrap_or_default();
        let mut best: Option<(usize, usize)> = None;
        let mut invalid = None;
        if !held.is_empty() || self.slots.is_empty() {
            let by_slot = self.by_slot(&held, head, identities);
            for (index, alternative) in self.alternatives.iter().enumerate() {
                let ready = (head.client_certificate || !alternative.certificate) && alternative.is_held(&held);
                if !ready {
                    continue;
                }
                match alternative.missing_scopes(&by_slot, scene) {
                    Ok(0) => return Ok(()),
                    Ok(missing) if best.is_none_or(|(_, fewest)| missing < fewest) => best = Some((index, missing)),
                    Ok(_) => {}
                    Err(evidence) => invalid = Some(evidence),
                }
            }
        }
        if self.public {
            return Ok(());
        }
        Err(match (best, invalid) {
            (Some((index, _)), _) => self.insufficient(index, scene.pointer),
            (None, Some(evidence)) => deny(Reason::TokenInvalid, scene.pointer, evidence),
            (None, None) => self.missing(&held, scene.pointer),
        })
    }

    /// Gives each slot that `credentials` used its identity.
    fn by_slot<'i>(
        &self,
        held: &[Held<'_>],
        head: &RequestHead<'_>,
        identities: &[&'i Identity],
    ) -> SmallVec<[Option<&'i Identity>; 4]> {
        let mut used: SmallVec<[bool; 4]> = SmallVec::from_elem(false, held.len());
        for alternative in self.presented(held, head) {
            for (slot, _) in &alternative.needs {
                if let Some(used) = used.get_mut(*slot) {
                    *used = true;
                }
            }
        }
        // Fewer or more identities than credentials: the mount broke the order, nothing can be told apart.
        let expected = used.iter().filter(|used| **used).count();
        let mut remaining = if identities.len() == expected { identities } else { &[] }.iter();
        used.iter().map(|used| if *used { remaining.next().copied() } else { None }).collect()
    }

    fn insufficient(&self, index: usize, pointer: &str) -> Denial {
        let mut denial = deny(Reason::ScopeInsufficient, pointer, format!("needs scope {}", self.scopes(index)));
        denial.layer = Layer::Authorize;
        denial.alternative = Some(index);
        denial
    }

    /// The scopes of one alternative, sorted, once each, separated by spaces (RFC 6749 §3.3).
    fn scopes(&self, index: usize) -> String {
        let needs = self.alternatives.get(index).map(|alternative| alternative.needs.as_slice()).unwrap_or_default();
        let mut scopes: Vec<&str> = needs.iter().flat_map(|(_, scopes)| scopes).map(String::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes.join(" ")
    }

    /// `WWW-Authenticate` for a refusal (RFC 6750 §3, RFC 9728 §5.1).
    pub fn challenge(&self, denial: &Denial, resource_metadata: &str) -> Option<String> {
        let (error, alternative) = match denial.reason {
            Reason::CredentialsMissing | Reason::ClientCertificateMissing => (None, self.first_token_alternative()),
            Reason::TokenInvalid => (Some("invalid_token"), None),
            Reason::TokenInQuery | Reason::CredentialsAmbiguous => (Some("invalid_request"), None),
            Reason::ScopeInsufficient => (Some("insufficient_scope"), denial.alternative),
            _ => return None,
        };
        if !self.takes_tokens() && denial.status == 401 {
            // RFC 9110 §11.6.1: a 401 carries a challenge, though no registered scheme says "API key" or "certificate".
            return Some(if self.slots.is_empty() { "ClientCertificate" } else { "ApiKey" }.to_owned());
        }
        let mut challenge = format!("Bearer resource_metadata=\"{}\"", quoted(resource_metadata));
        if let Some(error) = error {
            let _ = write!(challenge, ", error=\"{error}\"");
        }
        let scopes = alternative.map(|index| self.scopes(index)).unwrap_or_default();
        if !scopes.is_empty() {
            let _ = write!(challenge, ", scope=\"{}\"", quoted(&scopes));
        }
        Some(challenge)
    }

    fn first_token_alternative(&self) -> Option<usize> {
        let bearer = self.slots.iter().position(|slot| *slot == Slot::Bearer)?;
        self.alternatives.iter().position(|alternative| alternative.needs.iter().any(|(slot, _)| *slot == bearer))
    }
}

/// What identities are held against.
pub(super) struct Scene<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub pointer: &'a str,
    /// NumericDate seconds.
    pub now: u64,
}

impl Alternative {
    fn is_held(&self, held: &[Held<'_>]) -> bool {
        self.needs.iter().all(|(slot, _)| matches!(held.get(*slot), Some(Held::Secret(_))))
    }

    /// How many scopes are missing, or why an identity does not count at all.
    fn missing_scopes(&self, by_slot: &[Option<&Identity>], scene: &Scene<'_>) -> Result<usize, &'static str> {
        let mut missing = 0;
        for (slot, scopes) in &self.needs {
            let identity = by_slot.get(*slot).copied().flatten().ok_or("a credential has no identity")?;
            scene.check(identity)?;
            missing += scopes.iter().filter(|scope| identity.scopes.binary_search(scope).is_err()).count();
        }
        Ok(missing)
    }
}

impl Scene<'_> {
    fn check(&self, identity: &Identity) -> Result<(), &'static str> {
        if identity.issuer != self.issuer {
            return Err("the credential has another issuer");
        }
        if !identity.audience.iter().any(|audience| audience == self.audience) {
            return Err("the credential is for another audience");
        }
        if identity.expires_at.is_some_and(|expires_at| expires_at <= self.now) {
            return Err("the credential has expired");
        }
        Ok(())
    }
}

impl Slot {
    fn kind(&self) -> CredentialKind {
        match self {
            Slot::Bearer => CredentialKind::AccessToken,
            Slot::Key { .. } => CredentialKind::ApiKey,
        }
    }

    fn hold<'h>(&self, head: &RequestHead<'h>, pointer: &str) -> Result<Held<'h>, Denial> {
        let (found, prefix) = match self {
            Slot::Bearer => match bearer(head.headers) {
                Bearer::Absent | Bearer::Other => (Presented::Absent, ACCESS_TOKEN_PREFIX),
                Bearer::Malformed => return Ok(Held::Malformed),
                Bearer::Token(token) => (Presented::Once(Cow::Borrowed(token)), ACCESS_TOKEN_PREFIX),
            },
            Slot::Key { place, name } => {
                let found = match place {
                    KeyPlace::Header => in_header(head.headers, name),
                    KeyPlace::Query => in_query(head.query, name),
                    KeyPlace::Cookie => in_cookie(head.headers, name),
                };
                (found, API_KEY_PREFIX)
            }
        };
        match found {
            Presented::Absent => Ok(Held::Nothing),
            Presented::Several => {
                Err(deny(Reason::CredentialsAmbiguous, pointer, "a credential stands more than once"))
            }
            Presented::Once(secret) if is_plausible(&secret, prefix) => Ok(Held::Secret(secret)),
            Presented::Once(_) => Ok(Held::Malformed),
        }
    }
}

fn deny(reason: Reason, pointer: &str, evidence: impl Into<Cow<'static, str>>) -> Denial {
    Denial::new(Layer::Authenticate, reason, Some(pointer.to_owned()), evidence)
}

/// RFC 9110 §5.6.4, for what stands between quotes.
fn quoted(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '\\']) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Cow::Borrowed(text);
    }
    let visible = text.chars().filter(|c| matches!(c, ' '..='~'));
    Cow::Owned(visible.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect())
}
