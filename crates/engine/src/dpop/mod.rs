//! Demonstrating proof of possession (RFC 9449): whether a request comes from whoever holds the token's key.
//!
//! ```text
//! compact JWS ─▶ header, claims (strict JSON) ─▶ key's thumbprint = the token's ─▶ htm, htu, iat, ath, nonce ─▶ signature ─▶ not used before
//! ```
//!
//! Cheap checks come first: without the token and its public key nobody gets a signature verified.

mod key;
mod members;
mod nonce;
mod replays;
pub mod sample;
mod target;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::key::Key;
pub(crate) use self::key::{ALGORITHMS, algorithm_list};
use self::members::Members;
use self::nonce::Nonces;
use self::replays::{Replays, Seen};
use crate::bundle::{BundleError, Dpop};
use crate::decision::Reason;

/// Longer proofs are not read. One with a key and a signature of 4096-bit RSA takes about 2,500.
const MAX_PROOF_BYTES: usize = 4_096;
const MAX_JTI_BYTES: usize = 256;
/// Lives longer than this would only fill the memory of used proofs.
const MAX_LIFE_SECONDS: u64 = 3_600;

/// What a bundle says of proofs.
pub(crate) struct ProofRules {
    /// As `target::origin_of` spells them.
    origins: Vec<String>,
    nonce: bool,
    max_age_seconds: u64,
}

/// What a process knows of proofs: its nonces, and those that were used. One for all bundles and threads.
pub struct Proofs {
    nonces: Nonces,
    used: Replays,
}

/// A proof and what it must be a proof of.
pub(crate) struct Claimed<'a> {
    pub proof: &'a [u8],
    pub token: &'a str,
    /// `cnf.jkt` of the token (RFC 9449 §6).
    pub jkt: &'a [u8; 32],
    pub method: &'a str,
    /// Raw, without query.
    pub path: &'a str,
}

/// Why a proof does not do: the reason and what is wrong, without repeating any of it.
pub(crate) type Fault = (Reason, &'static str);

impl Proofs {
    /// `key` must be random and secret; `max_used` bounds the memory of used proofs.
    pub fn new(key: &[u8; 32], max_used: usize) -> Proofs {
        Proofs { nonces: Nonces::new(key), used: Replays::new(max_used) }
    }

    /// How many used proofs are remembered.
    pub fn used(&self) -> usize {
        self.used.entries()
    }
}

impl ProofRules {
    pub fn new(raw: &Dpop) -> Result<ProofRules, BundleError> {
        let refuse = |problem: String| BundleError::plan("authentication.dpop", problem);
        if raw.max_age_seconds == 0 || raw.max_age_seconds > MAX_LIFE_SECONDS {
            return Err(refuse(format!("max_age_seconds is not between 1 and {MAX_LIFE_SECONDS}")));
        }
        let read =
            |origin: &String| target::read_origin(origin).ok_or_else(|| refuse(format!("`{origin}` is not an origin")));
        let origins = raw.origins.iter().map(read).collect::<Result<_, _>>()?;
        Ok(ProofRules { origins, nonce: raw.nonce, max_age_seconds: raw.max_age_seconds })
    }

    /// The nonce that a client should use next; `None` where none is asked for.
    pub fn nonce(&self, proofs: &Proofs, now: u64) -> Option<String> {
        self.nonce.then(|| proofs.nonces.current(self.max_age_seconds, now))
    }

    /// An origin that proofs may name, for the self-check.
    pub fn sample_origin(&self) -> Option<&str> {
        self.origins.first().map(String::as_str)
    }

    /// Checks a proof at `now` (NumericDate seconds) and notes it as used. RFC 9449 §4.3 (checks 2 to 12), §7.1, §9, §11.1.
    pub fn verify(&self, claimed: &Claimed<'_>, proofs: &Proofs, now: u64) -> Result<(), Fault> {
        let proof = Split::read(claimed.proof).map_err(invalid)?;
        let header = Members::parse(&proof.header).ok_or_else(|| invalid("the proof's header is not strict JSON"))?;
        let key = read_header(&header).map_err(invalid)?;
        let thumbprint = key.thumbprint();
        if thumbprint != *claimed.jkt {
            return Err(invalid("the proof's key is not the token's"));
        }
        let claims = Members::parse(&proof.claims).ok_or_else(|| invalid("the proof's claims are not strict JSON"))?;
        let (jti, last_second) = self.check_claims(&claims, claimed, now).map_err(invalid)?;
        let until = last_second.min(self.check_nonce(&claims, proofs, now)?);
        if !key.verifies(proof.signed, &proof.signature) {
            return Err(invalid("the proof's signature does not hold"));
        }
        match proofs.used.note(proof_id(&thumbprint, jti), until, now) {
            Seen::First => Ok(()),
            Seen::Again => Err((Reason::DpopReplayed, "the proof was used before")),
            Seen::Full => Err((Reason::DpopCapacity, "too many used proofs are remembered")),
        }
    }

    /// The proof's `jti`, and the last second at which its `iat` allows it.
    fn check_claims<'c>(
        &self,
        claims: &'c Members<'_>,
        claimed: &Claimed<'_>,
        now: u64,
    ) -> Result<(&'c str, u64), &'static str> {
        let jti = claims.text("jti").filter(|jti| (1..=MAX_JTI_BYTES).contains(&jti.len()));
        let jti = jti.ok_or("the proof's `jti` is missing, empty or too long")?;
        // Methods have case (RFC 9110 §9.1).
        if claims.text("htm") != Some(claimed.method) {
            return Err("the proof's `htm` is not the request's method");
        }
        if !claims.text("htu").is_some_and(|htu| target::is_target(htu, &self.origins, claimed.path)) {
            return Err("the proof's `htu` is not the request's address");
        }
        let issued = claims.number("iat").and_then(seconds).ok_or("the proof's `iat` is missing or no time")?;
        if issued.abs_diff(now) > self.max_age_seconds {
            return Err("the proof's `iat` is too far from now");
        }
        // RFC 7519 §4.1.4, §4.1.5: a proof need not have them; one that has them means them.
        if claims.has("exp") && claims.number("exp").and_then(seconds).is_none_or(|exp| exp <= now) {
            return Err("the proof has expired");
        }
        let latest = now.saturating_add(self.max_age_seconds);
        if claims.has("nbf") && claims.number("nbf").and_then(seconds).is_none_or(|nbf| nbf > latest) {
            return Err("the proof is not valid yet");
        }
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, claimed.token.as_bytes()));
        if claims.text("ath") != Some(hash.as_str()) {
            return Err("the proof's `ath` is not the token's hash");
        }
        Ok((jti, issued.saturating_add(self.max_age_seconds)))
    }

    /// The last second at which the proof's nonce holds (RFC 9449 §9). Where none is asked for, one of another server's does no harm.
    fn check_nonce(&self, claims: &Members<'_>, proofs: &Proofs, now: u64) -> Result<u64, Fault> {
        if !self.nonce {
            return Ok(u64::MAX);
        }
        let until = |nonce: &str| proofs.nonces.holds_until(nonce, self.max_age_seconds, now);
        let missing = (Reason::DpopNonceRequired, "the proof has no nonce of ours, or an old one");
        claims.text("nonce").and_then(until).ok_or(missing)
    }
}

fn invalid(evidence: &'static str) -> Fault {
    (Reason::DpopProofInvalid, evidence)
}

/// RFC 9449 §4.2: `typ`, `alg`, `jwk`. Whatever else would lead to a key (`kid`, `jku`, `x5u`, `x5c`) is not looked at, and an
/// extension that must be understood (`crit`, RFC 7515 §4.1.11) is not.
fn read_header<'h>(header: &'h Members<'_>) -> Result<Key<'h>, &'static str> {
    // RFC 7515 §4.1.9: media types are compared without case.
    if !header.text("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
        return Err("the proof's `typ` is not `dpop+jwt`");
    }
    if header.has("crit") {
        return Err("the proof's header has `crit`");
    }
    let algorithm = header.text("alg").ok_or("the proof has no `alg`")?;
    Key::read(algorithm, header.object("jwk").ok_or("the proof has no `jwk`")?)
}

fn seconds(number: f64) -> Option<u64> {
    // Whole seconds are what is compared; a NumericDate may have fractions (RFC 7519 §2).
    (number.is_finite() && (0.0..9e15).contains(&number)).then_some(number as u64)
}

fn proof_id(thumbprint: &[u8; 32], jti: &str) -> [u8; 16] {
    let mut hash = Context::new(&SHA256);
    hash.update(thumbprint);
    hash.update(jti.as_bytes());
    let mut id = [0; 16];
    for (byte, value) in id.iter_mut().zip(digest_of(hash)) {
        *byte = value;
    }
    id
}

fn digest_of(hash: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *byte = *value;
    }
    bytes
}

/// A compact serialization taken apart (RFC 7515 §7.1).
struct Split<'a> {
    /// What the signature covers.
    signed: &'a [u8],
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Split<'a> {
    fn read(proof: &'a [u8]) -> Result<Split<'a>, &'static str> {
        if proof.len() > MAX_PROOF_BYTES {
            return Err("the proof is too long");
        }
        let malformed = "the proof is not a compact JWS";
        let mut parts = proof.split(|byte| *byte == b'.');
        let (header, claims, signature) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(header), Some(claims), Some(signature), None) => (header, claims, signature),
            _ => return Err(malformed),
        };
        let signed = proof.get(..header.len() + 1 + claims.len()).unwrap_or_default();
        let (header, claims) = (decode(header).ok_or(malformed)?, decode(claims).ok_or(malformed)?);
        Ok(Split { signed, header, claims, signature: decode(signature).ok_or(malformed)? })
    }
}

/// base64url without padding; one text for one value (RFC 7515 §2, RFC 4648 §3.5).
fn decode(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
