//! Security requirements: alternatives (OR) of requirements (AND), as the description has them.

use std::borrow::Cow;
use std::fmt::Write as _;

use smallvec::SmallVec;

use super::credential::{
    ACCESS_TOKEN_PREFIX, API_KEY_PREFIX, Authorization, Presented, Scheme, authorization, in_cookie, in_header,
    in_query, is_plausible, query_leaks_token,
};
use super::{Admitted, Credential, CredentialKind, Credentials, Identity};
use crate::bundle::{KeyPlace, PayloadRequirement};
use crate::decision::{Denial, Layer, Reason};
use crate::dpop::{Claimed, ProofRules, Proofs, algorithm_list};
use crate::request::RequestHead;

/// The security requirements of one operation.
pub(super) struct Security {
    /// The distinct places where this operation's credentials stand.
    slots: Vec<Slot>,
    alternatives: Vec<Alternative>,
    /// Whether an anonymous request is admitted.
    public: bool,
    traits: Traits,
}

/// What the rest of the bundle says about an operation's security.
#[derive(Clone, Default)]
pub(super) struct Traits {
    /// Whether the description itself gives `access_token` in the query a meaning.
    pub declares_access_token: bool,
    /// Whether proofs of possession are taken.
    pub dpop: bool,
    /// The authentication contexts of which the user must show one, or a stronger one; empty: any.
    pub acr: Vec<String>,
    /// How long ago the user may have signed in.
    pub max_age_seconds: Option<u64>,
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
    pub fn new(alternatives: &[Vec<PayloadRequirement>], traits: Traits) -> Security {
        let public = alternatives.is_empty() || alternatives.iter().any(Vec::is_empty);
        let mut security = Security { slots: Vec::new(), alternatives: Vec::new(), public, traits };
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
        let named =
            !self.traits.declares_access_token && !matches!(in_query(head.query, "access_token"), Presented::Absent);
        if named || query_leaks_token(query) {
            return Err(deny(Reason::TokenInQuery, pointer, "a token stands in the query"));
        }
        Ok(())
    }

    fn hold<'h>(&self, head: &RequestHead<'h>, pointer: &str) -> Result<AllHeld<'h>, Denial> {
        self.slots.iter().map(|slot| slot.hold(head, pointer, self.traits.dpop)).collect()
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
    pub fn authorize(
        &self,
        head: &RequestHead<'_>,
        identities: &[&Identity],
        scene: &Scene<'_>,
    ) -> Result<Admitted, Denial> {
        match self.judge(head, identities, scene) {
            Ok(()) => Ok(Admitted::Known),
            // Credentials that do not hold are ignored here; one that would hold with a new nonce, or with more room, is not.
            Err(denial)
                if self.public && !matches!(denial.reason, Reason::DpopNonceRequired | Reason::DpopCapacity) =>
            {
                Ok(Admitted::Anonymous)
            }
            Err(denial) => Err(denial),
        }
    }

    fn judge(&self, head: &RequestHead<'_>, identities: &[&Identity], scene: &Scene<'_>) -> Result<(), Denial> {
        let held = self.hold(head, scene.pointer).unwrap_or_default();
        if held.is_empty() && !self.slots.is_empty() {
            return Err(self.missing(&held, scene.pointer));
        }
        let by_slot = self.by_slot(&held, head, identities);
        let mut best: Option<(usize, Shortfall)> = None;
        let mut invalid = None;
        for (index, alternative) in self.alternatives.iter().enumerate() {
            let ready = (head.client_certificate || !alternative.certificate) && alternative.is_held(&held);
            if !ready {
                continue;
            }
            match alternative.shortfall(&by_slot, &self.traits, scene) {
                Ok(shortfall) if best.is_none_or(|(_, least)| shortfall < least) => best = Some((index, shortfall)),
                Ok(_) => {}
                Err(evidence) => invalid = Some(evidence),
            }
        }
        let Some((index, shortfall)) = best else {
            return Err(match invalid {
                Some(evidence) => deny(Reason::TokenInvalid, scene.pointer, evidence),
                None => self.missing(&held, scene.pointer),
            });
        };
        // Before anything is said of scopes: who only found a token learns nothing about it.
        self.prove(head, &by_slot, scene)?;
        match shortfall {
            Shortfall::Nothing => Ok(()),
            Shortfall::Assurance => Err(self.weak(index, scene.pointer)),
            Shortfall::Scopes(_) => Err(self.insufficient(index, scene.pointer)),
        }
    }

    /// Whether each credential comes from whoever it is bound to (RFC 8705 §3, RFC 9449 §7).
    fn prove(&self, head: &RequestHead<'_>, by_slot: &[Option<&Identity>], scene: &Scene<'_>) -> Result<(), Denial> {
        for (slot, identity) in self.slots.iter().zip(by_slot) {
            let Some(identity) = identity else { continue };
            let binding = &identity.confirmation;
            if binding.certificate.is_some() && binding.certificate.as_ref() != head.certificate_thumbprint {
                return Err(deny(Reason::TokenBound, scene.pointer, "the credential is bound to another certificate"));
            }
            let shown = if *slot == Slot::Bearer { authorization(head.headers) } else { Authorization::Absent };
            match (&binding.jkt, shown) {
                (Some(jkt), Authorization::Token(Scheme::Dpop, token)) => scene.verify(head, token, jkt)?,
                (Some(_), _) => {
                    return Err(deny(Reason::TokenBound, scene.pointer, "the credential is bound to a key"));
                }
                // RFC 9449 §7.1: the scheme is for tokens that are bound.
                (None, Authorization::Token(Scheme::Dpop, _)) => {
                    return Err(deny(Reason::TokenInvalid, scene.pointer, "the token is not bound to a key"));
                }
                (None, _) => {}
            }
        }
        Ok(())
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

    fn weak(&self, index: usize, pointer: &str) -> Denial {
        let mut evidence = "needs a stronger or more recent sign-in".to_owned();
        if !self.traits.acr.is_empty() {
            let _ = write!(evidence, ", acr {}", self.traits.acr.join(" or "));
        }
        if let Some(seconds) = self.traits.max_age_seconds {
            let _ = write!(evidence, ", at most {seconds} s ago");
        }
        let mut denial = deny(Reason::AcrInsufficient, pointer, evidence);
        denial.layer = Layer::Authorize;
        denial.alternative = Some(index);
        denial
    }

    /// The `WWW-Authenticate` fields of a refusal (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3, RFC 9728 §5.1).
    pub fn challenges(&self, denial: &Denial, head: &RequestHead<'_>, resource_metadata: &str) -> Vec<String> {
        let (error, alternative) = match denial.reason {
            Reason::CredentialsMissing | Reason::ClientCertificateMissing => (None, self.first_token_alternative()),
            Reason::TokenInvalid | Reason::TokenBound => (Some("invalid_token"), None),
            Reason::TokenInQuery | Reason::CredentialsAmbiguous => (Some("invalid_request"), None),
            Reason::DpopProofMissing | Reason::DpopProofInvalid | Reason::DpopReplayed => {
                (Some("invalid_dpop_proof"), None)
            }
            Reason::DpopNonceRequired => (Some("use_dpop_nonce"), None),
            Reason::ScopeInsufficient => (Some("insufficient_scope"), denial.alternative),
            Reason::AcrInsufficient => (Some("insufficient_user_authentication"), None),
            _ => return Vec::new(),
        };
        if !self.takes_tokens() && denial.status == 401 {
            // RFC 9110 §11.6.1: a 401 carries a challenge, though no registered scheme says "API key" or "certificate".
            return vec![if self.slots.is_empty() { "ClientCertificate" } else { "ApiKey" }.to_owned()];
        }
        let with_proof = self.traits.dpop && shows_proof(head);
        let scheme = if with_proof { Scheme::Dpop } else { Scheme::Bearer };
        let mut challenge = format!("{} resource_metadata=\"{}\"", scheme.name(), quoted(resource_metadata));
        if let Some(error) = error {
            let _ = write!(challenge, ", error=\"{error}\"");
        }
        let scopes = alternative.map(|index| self.scopes(index)).unwrap_or_default();
        if !scopes.is_empty() {
            let _ = write!(challenge, ", scope=\"{}\"", quoted(&scopes));
        }
        if denial.reason == Reason::AcrInsufficient {
            self.ask_for_assurance(&mut challenge);
        }
        let algorithms = format!("algs=\"{}\"", algorithm_list());
        match (self.traits.dpop, with_proof) {
            (false, _) => vec![challenge],
            (true, true) => vec![format!("{challenge}, {algorithms}")],
            (true, false) => vec![challenge, format!("DPoP {algorithms}")],
        }
    }

    /// RFC 9470 §3.
    fn ask_for_assurance(&self, challenge: &mut String) {
        if !self.traits.acr.is_empty() {
            let _ = write!(challenge, ", acr_values=\"{}\"", quoted(&self.traits.acr.join(" ")));
        }
        if let Some(seconds) = self.traits.max_age_seconds {
            let _ = write!(challenge, ", max_age=\"{seconds}\"");
        }
    }

    fn first_token_alternative(&self) -> Option<usize> {
        let bearer = self.slots.iter().position(|slot| *slot == Slot::Bearer)?;
        self.alternatives.iter().position(|alternative| alternative.needs.iter().any(|(slot, _)| *slot == bearer))
    }
}

/// Whether the request shows its token as bound to a key (RFC 9449 §7.1).
pub(super) fn shows_proof(head: &RequestHead<'_>) -> bool {
    matches!(authorization(head.headers), Authorization::Token(Scheme::Dpop, _))
}

/// What identities are held against.
pub(super) struct Scene<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub pointer: &'a str,
    /// Weakest first.
    pub acr_order: &'a [String],
    pub rules: Option<&'a ProofRules>,
    pub proofs: &'a Proofs,
    /// NumericDate seconds.
    pub now: u64,
}

/// What an alternative lacks, least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shortfall {
    Nothing,
    Assurance,
    Scopes(usize),
}

impl Alternative {
    fn is_held(&self, held: &[Held<'_>]) -> bool {
        self.needs.iter().all(|(slot, _)| matches!(held.get(*slot), Some(Held::Secret(_))))
    }

    /// What is missing, or why an identity does not count at all.
    fn shortfall(
        &self,
        by_slot: &[Option<&Identity>],
        traits: &Traits,
        scene: &Scene<'_>,
    ) -> Result<Shortfall, &'static str> {
        let mut missing = 0;
        let mut assured = traits.acr.is_empty() && traits.max_age_seconds.is_none();
        for (slot, scopes) in &self.needs {
            let identity = by_slot.get(*slot).copied().flatten().ok_or("a credential has no identity")?;
            scene.check(identity)?;
            missing += scopes.iter().filter(|scope| identity.scopes.binary_search(scope).is_err()).count();
            assured |= scene.assures(identity, traits);
        }
        Ok(match (missing, assured) {
            (0, true) => Shortfall::Nothing,
            (0, false) => Shortfall::Assurance,
            (missing, _) => Shortfall::Scopes(missing),
        })
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

    /// RFC 9470 §5: whether the user behind a credential signed in strongly and recently enough.
    fn assures(&self, identity: &Identity, traits: &Traits) -> bool {
        let recent = traits.max_age_seconds.is_none_or(|max_age| {
            identity.auth_time.is_some_and(|signed_in| self.now.saturating_sub(signed_in) <= max_age)
        });
        recent && (traits.acr.is_empty() || identity.acr.as_ref().is_some_and(|acr| self.satisfies(acr, &traits.acr)))
    }

    /// One that is asked for, or one that is at least as strong as one of them.
    fn satisfies(&self, acr: &str, wanted: &[String]) -> bool {
        let rank = |acr: &str| self.acr_order.iter().position(|known| known == acr);
        let have = rank(acr);
        wanted
            .iter()
            .any(|wanted| wanted == acr || matches!((have, rank(wanted)), (Some(have), Some(rank)) if have >= rank))
    }

    fn verify(&self, head: &RequestHead<'_>, token: &str, jkt: &[u8; 32]) -> Result<(), Denial> {
        let (Some(rules), Some(proof)) = (self.rules, head.headers.first("dpop")) else {
            return Err(deny(Reason::DpopProofMissing, self.pointer, "no proof of possession"));
        };
        let claimed = Claimed { proof, token, jkt, method: head.method, path: head.path };
        rules.verify(&claimed, self.proofs, self.now).map_err(|(reason, evidence)| deny(reason, self.pointer, evidence))
    }
}

impl Slot {
    fn kind(&self) -> CredentialKind {
        match self {
            Slot::Bearer => CredentialKind::AccessToken,
            Slot::Key { .. } => CredentialKind::ApiKey,
        }
    }

    fn hold<'h>(&self, head: &RequestHead<'h>, pointer: &str, dpop: bool) -> Result<Held<'h>, Denial> {
        let (found, prefix) = match self {
            Slot::Bearer => match authorization(head.headers) {
                Authorization::Malformed => return Ok(Held::Malformed),
                Authorization::Token(Scheme::Dpop, token) if dpop => {
                    one_proof(head, pointer)?;
                    (Presented::Once(Cow::Borrowed(token)), ACCESS_TOKEN_PREFIX)
                }
                Authorization::Token(Scheme::Bearer, token) => {
                    (Presented::Once(Cow::Borrowed(token)), ACCESS_TOKEN_PREFIX)
                }
                Authorization::Absent | Authorization::Other | Authorization::Token(Scheme::Dpop, _) => {
                    (Presented::Absent, ACCESS_TOKEN_PREFIX)
                }
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

/// RFC 9449 §4.3, check 1.
fn one_proof(head: &RequestHead<'_>, pointer: &str) -> Result<(), Denial> {
    match head.headers.count("dpop") {
        0 => Err(deny(Reason::DpopProofMissing, pointer, "no proof of possession")),
        1 => Ok(()),
        _ => Err(deny(Reason::DpopProofInvalid, pointer, "several proofs of possession")),
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
