//! Proofs of a key that everybody knows: for the self-check, tests and measurements. No token of a server is ever bound to it
//! but on purpose.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::key::Key;
use super::members::Members;

/// An Ed25519 key made from a seed, with the proofs that it signs.
pub struct SampleKey(Ed25519KeyPair);

impl SampleKey {
    /// `None`: the library refuses the seed.
    pub fn new(seed: u8) -> Option<SampleKey> {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).ok().map(SampleKey)
    }

    pub fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.0.public_key())})
    }

    /// The thumbprint of RFC 7638.
    pub fn jkt(&self) -> Option<[u8; 32]> {
        let jwk = self.jwk().to_string();
        Some(Key::read("EdDSA", &Members::parse(jwk.as_bytes())?).ok()?.thumbprint())
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs what need not be JSON.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A proof of the usual form (RFC 9449 §4.2) with these claims.
    pub fn proof(&self, claims: &Value) -> String {
        self.sign(&json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": self.jwk()}), claims)
    }
}

/// `ath`: the hash of an access token (RFC 9449 §4.2).
pub fn access_token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}
