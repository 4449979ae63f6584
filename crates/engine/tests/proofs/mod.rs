//! Proofs of possession as `vectors/` describe them.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    alg: String,
    pkcs8: String,
    jwk: Value,
}

/// What differs from a right proof.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    key: String,
    #[serde(default)]
    header: Map<String, Value>,
    #[serde(default)]
    claims: Map<String, Value>,
    #[serde(default)]
    iat_offset: i64,
    #[serde(default)]
    nonce: Nonce,
    /// Stands in its place.
    text: Option<String>,
    #[serde(default = "once")]
    times: usize,
    #[serde(default)]
    damaged: bool,
    /// Members are put in by hand, so that a name may stand twice.
    raw_claims: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Nonce {
    #[default]
    Current,
    None,
    Other,
}

fn once() -> usize {
    1
}

pub struct Occasion<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub secret: &'a str,
    pub nonce: Option<&'a str>,
    pub now: u64,
}

impl Proof {
    pub fn make(&self, keys: &BTreeMap<String, Key>, occasion: &Occasion<'_>) -> Vec<String> {
        let text = self.text.clone().unwrap_or_else(|| self.sign(&keys[&self.key], occasion));
        vec![text; self.times]
    }

    fn sign(&self, key: &Key, occasion: &Occasion<'_>) -> String {
        let header = merged(json!({"typ": "dpop+jwt", "alg": key.alg, "jwk": key.jwk}), &self.header);
        let path = occasion.target.split('?').next().unwrap();
        let mut claims = json!({
            "jti": "vector", "htm": occasion.method, "htu": format!("https://api.example{path}"),
            "iat": occasion.now.saturating_add_signed(self.iat_offset),
            "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, occasion.secret.as_bytes())),
        });
        match self.nonce {
            Nonce::Current => claims["nonce"] = occasion.nonce.into(),
            Nonce::None => {}
            Nonce::Other => claims["nonce"] = "AAAAAAAAAAAAAAAAAAAAAA".into(),
        }
        if claims["nonce"].is_null() {
            claims.as_object_mut().unwrap().remove("nonce");
        }
        let mut claims = merged(claims, &self.claims).to_string();
        if let Some(raw) = &self.raw_claims {
            claims.insert_str(1, raw);
        }
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let mut signature = key.sign(signed.as_bytes());
        if self.damaged {
            signature[0] ^= 1;
        }
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `null` takes a member away.
fn merged(mut value: Value, more: &Map<String, Value>) -> Value {
    let members = value.as_object_mut().unwrap();
    for (name, item) in more {
        match item {
            Value::Null => drop(members.remove(name)),
            item => drop(members.insert(name.clone(), item.clone())),
        }
    }
    value
}

impl Key {
    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let pkcs8 = STANDARD.decode(&self.pkcs8).unwrap();
        match self.alg.as_str() {
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, signed),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &pkcs8, signed),
            "PS256" => rsa(&RSA_PSS_SHA256, &pkcs8, signed),
            "RS256" => rsa(&RSA_PKCS1_SHA256, &pkcs8, signed),
            _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap().sign(signed).as_ref().to_vec(),
        }
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).unwrap();
    key.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
}

fn rsa(encoding: &'static dyn RsaEncoding, pkcs8: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = RsaKeyPair::from_pkcs8(pkcs8).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), signed, &mut signature).unwrap();
    signature
}
