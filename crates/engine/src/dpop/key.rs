//! The public key that a proof carries: read strictly, named by its thumbprint, used to verify.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use smallvec::SmallVec;

use super::decode;
use super::members::Members;

/// What RFC 9728 `dpop_signing_alg_values_supported` and challenges name: asymmetric ones alone (RFC 9449 §4.3).
pub(crate) const ALGORITHMS: &[&str] = &["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"];

/// Members that only a private or a symmetric key has (RFC 7518 §6.2.2, §6.3.2, §6.4; RFC 8037 §2).
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// RSA moduli, in bytes: 2048 to 4096 bits.
const MIN_MODULUS_BYTES: usize = 256;
const MAX_MODULUS_BYTES: usize = 512;
/// 65537, the one public exponent in use; large ones would only cost time.
const EXPONENT: &str = "AQAB";

#[derive(Clone, Copy)]
enum Algorithm {
    Es256,
    Es384,
    Ed25519,
    Ps256,
    Rs256,
}

impl Algorithm {
    fn of(name: &str) -> Option<Algorithm> {
        Some(match name {
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            // RFC 9864 names the curve; RFC 8037 did not.
            "EdDSA" | "Ed25519" => Algorithm::Ed25519,
            "PS256" => Algorithm::Ps256,
            "RS256" => Algorithm::Rs256,
            _ => return None,
        })
    }
}

/// A JSON Web Key of a proof (RFC 7517), as the text it came in: base64url has one spelling, so the text is the key.
pub(super) struct Key<'a> {
    algorithm: Algorithm,
    parts: Parts<'a>,
}

enum Parts<'a> {
    Curve { crv: &'static str, x: &'a str, y: &'a str },
    Edwards { x: &'a str },
    Rsa { n: &'a str },
}

impl<'a> Key<'a> {
    /// RFC 9449 §4.3: the algorithm is an asymmetric one that is known here, and the key holds no private part.
    pub fn read(algorithm: &str, jwk: &'a Members<'_>) -> Result<Key<'a>, &'static str> {
        let algorithm = Algorithm::of(algorithm).ok_or("the proof's `alg` is not accepted")?;
        if PRIVATE.iter().any(|name| jwk.has(name)) {
            return Err("the proof's key holds more than a public key");
        }
        let unfit = "the proof's key does not fit its `alg`";
        let kind = jwk.text("kty").ok_or(unfit)?;
        let member = |name: &str| jwk.text(name).ok_or(unfit);
        let curve = |wanted: &'static str| -> Result<Parts<'a>, &'static str> {
            match (kind, member("crv")?) {
                ("EC", crv) if crv == wanted => Ok(Parts::Curve { crv: wanted, x: member("x")?, y: member("y")? }),
                _ => Err(unfit),
            }
        };
        let parts = match algorithm {
            Algorithm::Es256 => curve("P-256")?,
            Algorithm::Es384 => curve("P-384")?,
            Algorithm::Ed25519 if kind == "OKP" && member("crv")? == "Ed25519" => Parts::Edwards { x: member("x")? },
            Algorithm::Ps256 | Algorithm::Rs256 if kind == "RSA" && member("e")? == EXPONENT => {
                Parts::Rsa { n: member("n")? }
            }
            _ => return Err(unfit),
        };
        Ok(Key { algorithm, parts })
    }

    /// SHA-256 thumbprint (RFC 7638 §3): the required members, sorted, without white space.
    pub fn thumbprint(&self) -> [u8; 32] {
        let pieces: SmallVec<[&str; 9]> = match &self.parts {
            Parts::Curve { crv, x, y } => {
                [r#"{"crv":""#, crv, r#"","kty":"EC","x":""#, x, r#"","y":""#, y, r#""}"#].into_iter().collect()
            }
            Parts::Edwards { x } => [r#"{"crv":"Ed25519","kty":"OKP","x":""#, x, r#""}"#].into_iter().collect(),
            Parts::Rsa { n } => [r#"{"e":""#, EXPONENT, r#"","kty":"RSA","n":""#, n, r#""}"#].into_iter().collect(),
        };
        let mut hash = Context::new(&SHA256);
        for piece in pieces {
            hash.update(piece.as_bytes());
        }
        super::digest_of(hash)
    }

    /// Whether the signature over `signed` is this key's.
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.verify(signed, signature).is_some()
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Option<()> {
        match &self.parts {
            Parts::Curve { crv, x, y } => {
                let width = if *crv == "P-256" { 32 } else { 48 };
                let mut point: SmallVec<[u8; 97]> = SmallVec::from_slice(&[4]);
                point.extend(decode(x)?);
                point.extend(decode(y)?);
                // Each coordinate has its full width (RFC 7518 §6.2.1.2); the library checks that the point is on the curve.
                let whole = point.len() == 1 + 2 * width && x.len() == y.len();
                whole.then(|| check(self.algorithm, &point, signed, signature)).flatten()
            }
            Parts::Edwards { x } => check(self.algorithm, &decode(x)?, signed, signature),
            Parts::Rsa { n } => {
                let n = decode(n)?;
                let fits = (MIN_MODULUS_BYTES..=MAX_MODULUS_BYTES).contains(&n.len()) && n.first() != Some(&0);
                let algorithm = match self.algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    _ => &RSA_PSS_2048_8192_SHA256,
                };
                let components = PublicKeyComponents { n: n.as_slice(), e: &[1_u8, 0, 1][..] };
                fits.then(|| components.verify(algorithm, signed, signature).ok()).flatten()
            }
        }
    }
}

fn check(algorithm: Algorithm, key: &[u8], signed: &[u8], signature: &[u8]) -> Option<()> {
    let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        _ => &ED25519,
    };
    UnparsedPublicKey::new(algorithm, key).verify(signed, signature).ok()
}

/// The algorithms as a challenge lists them.
pub(crate) fn algorithm_list() -> Cow<'static, str> {
    ALGORITHMS.join(" ").into()
}
