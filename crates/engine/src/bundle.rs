//! The signed file that the compiler writes (`docs/contracts.md` §1): opened, checked, and read into plain data.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, signature};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::decision::Mode;
use crate::limits::Quota;
use crate::validate::{Content, Decode, Parameter};

/// Larger files are not read.
pub const MAX_BUNDLE_BYTES: usize = 128 << 20;

const MAGIC: &str = "stockade-bundle 1";
const FORMAT: u32 = 1;

/// An opened bundle: digest and signature hold.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub serial: u64,
    pub sha256: [u8; 32],
    pub payload: &'a [u8],
}

/// Why a bundle is refused. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("the bundle is larger than 128 MiB")]
    TooLarge,
    #[error("the bundle's header is malformed: {0}")]
    Envelope(&'static str),
    #[error("the bundle is signed with another key than the one configured")]
    Key,
    #[error("the bundle's payload does not match its sha256")]
    Digest,
    #[error("the bundle's signature does not hold")]
    Signature,
    #[error("the bundle's payload cannot be read: {0}")]
    Payload(String),
    #[error("the bundle's payload has format {0}; this version reads format 1")]
    Format(u32),
    #[error("the bundle's {place} is refused: {problem}")]
    Plan { place: String, problem: String },
    #[error("the bundle's schema `{schema}` cannot be built: {message}")]
    Schema { schema: String, message: String },
}

impl BundleError {
    pub(crate) fn plan(place: impl Into<String>, problem: impl Into<String>) -> BundleError {
        BundleError::Plan { place: place.into(), problem: problem.into() }
    }
}

/// Opens a bundle file: parses the four lines, then checks the payload's SHA-256 and the Ed25519 signature (RFC 8032).
///
/// `public_key` is the only key that is trusted; the one in the file must equal it.
pub fn open_bundle<'a>(file: &'a [u8], public_key: &[u8; 32]) -> Result<Envelope<'a>, BundleError> {
    if file.len() > MAX_BUNDLE_BYTES {
        return Err(BundleError::TooLarge);
    }
    let (magic, rest) = line(file)?;
    if magic != MAGIC {
        return Err(BundleError::Envelope("the first line is not `stockade-bundle 1`"));
    }
    let (serial, rest) = line(rest)?;
    let serial = serial.strip_prefix("serial ").and_then(decimal);
    let serial = serial.ok_or(BundleError::Envelope("the second line is not `serial <decimal>`"))?;
    let (digest_line, signed_end) = line(rest)?;
    let sha256 = digest_line.strip_prefix("sha256 ").and_then(hex::<32>);
    let sha256 = sha256.ok_or(BundleError::Envelope("the third line is not `sha256 <64 hex digits>`"))?;
    let (signature_line, payload) = line(signed_end)?;
    let parts = signature_line.strip_prefix("ed25519 ").and_then(|words| words.split_once(' '));
    let parts = parts.and_then(|(key, signature)| Some((hex::<32>(key)?, hex::<64>(signature)?)));
    let (key, signed) =
        parts.ok_or(BundleError::Envelope("the fourth line is not `ed25519 <public key> <signature>`"))?;

    if key != *public_key {
        return Err(BundleError::Key);
    }
    let covered = file.get(..file.len() - signed_end.len()).unwrap_or_default();
    signature::UnparsedPublicKey::new(&signature::ED25519, public_key)
        .verify(covered, &signed)
        .map_err(|_| BundleError::Signature)?;
    if digest::digest(&digest::SHA256, payload).as_ref() != sha256 {
        return Err(BundleError::Digest);
    }
    Ok(Envelope { serial, sha256, payload })
}

/// The next line without its line feed, and what follows. The four lines are short; a long one is not ours.
fn line(bytes: &[u8]) -> Result<(&str, &[u8]), BundleError> {
    let window = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    let end = memchr::memchr(b'\n', window).ok_or(BundleError::Envelope("a line is missing or too long"))?;
    let (head, tail) = bytes.split_at(end);
    let text = std::str::from_utf8(head).map_err(|_| BundleError::Envelope("a line is not text"))?;
    Ok((text, tail.get(1..).unwrap_or_default()))
}

/// A decimal without sign or leading zeros: one spelling for one number.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    canonical.then(|| text.parse().ok()).flatten()
}

/// `N` bytes as lower-case hex digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = match pair {
            [high, low] => nibble(*high)? << 4 | nibble(*low)?,
            _ => return None,
        };
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The payload as written, before anything is resolved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    format: u32,
    #[allow(dead_code)] // read by people and by `stockade explain`, not by the engine
    description: About,
    pub dialect: String,
    pub hosts: Vec<String>,
    pub authentication: Authentication,
    pub cors: Option<Cors>,
    pub limits: Limits,
    pub sizes: PayloadSizes,
    pub problem_base: String,
    pub schemas: Map<String, Value>,
    pub schema_pointers: BTreeMap<String, String>,
    pub operations: Vec<PayloadOperation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct About {
    title: String,
    version: String,
    source: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authentication {
    pub issuer: String,
    pub audience: String,
    pub scopes_supported: Vec<String>,
    /// Absent: no proof of possession is accepted.
    #[serde(default)]
    pub dpop: Option<Dpop>,
    /// Weakest first.
    #[serde(default)]
    pub acr_order: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dpop {
    pub origins: Vec<String>,
    pub nonce: bool,
    pub max_age_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cors {
    pub origins: Vec<String>,
    pub allow_credentials: bool,
    pub max_age_seconds: u64,
    pub expose_headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub per_address: Option<Quota>,
    pub per_client: Option<Quota>,
    pub max_tracked_keys: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayloadSizes {
    pub max_target_bytes: usize,
    pub max_body_bytes: usize,
    pub max_response_bytes: usize,
    pub max_json_depth: usize,
    pub max_json_nodes: usize,
    pub max_json_string_bytes: usize,
    pub max_number_chars: usize,
    pub max_parameters: usize,
    pub max_multipart_parts: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayloadOperation {
    pub id: String,
    pub method: String,
    pub paths: Vec<String>,
    pub pointer: String,
    pub deny: Option<Deny>,
    pub modes: Modes,
    pub security: Vec<Vec<PayloadRequirement>>,
    pub parameters: Vec<Parameter>,
    pub unknown_query: UnknownQuery,
    pub body: Option<PayloadBody>,
    pub responses: Vec<PayloadResponse>,
    pub limit: Option<Quota>,
    #[serde(default)]
    pub acr: Vec<String>,
    #[serde(default)]
    pub max_age_seconds: Option<u64>,
    #[serde(default)]
    pub internal_token: InternalToken,
    pub upgrade: Vec<String>,
    pub stream_response: bool,
}

/// Whether the upstream's token is for all operations or for one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InternalToken {
    #[default]
    Shared,
    Operation,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deny {
    pub construct: String,
    pub pointer: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Modes {
    pub authenticate: Mode,
    pub authorize: Mode,
    pub limits: Mode,
    pub validate_request: Mode,
    pub validate_response: Mode,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PayloadRequirement {
    Token {
        #[allow(dead_code)] // the scheme's name is for people
        scheme: String,
        scopes: Vec<String>,
    },
    ApiKey {
        #[allow(dead_code)]
        scheme: String,
        #[serde(rename = "in")]
        place: KeyPlace,
        name: String,
        scopes: Vec<String>,
    },
    MutualTls {
        #[allow(dead_code)]
        scheme: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyPlace {
    Header,
    Query,
    Cookie,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownQuery {
    Deny,
    Allow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayloadBody {
    pub required: bool,
    pub max_bytes: usize,
    pub pointer: String,
    pub content: Vec<Content>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayloadResponse {
    pub status: String,
    pub headers: Vec<PayloadHeader>,
    pub content: Vec<Content>,
    pub pointer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayloadHeader {
    pub name: String,
    pub required: bool,
    pub schema: Option<String>,
    #[serde(default)]
    pub decode: Option<Decode>,
    pub pointer: String,
}

impl Payload {
    /// Reads the JSON; unknown fields and formats are refused.
    pub fn read(bytes: &[u8]) -> Result<Payload, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge);
        }
        let payload: Payload =
            serde_json::from_slice(bytes).map_err(|error| BundleError::Payload(error.to_string()))?;
        if payload.format != FORMAT {
            return Err(BundleError::Format(payload.format));
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    const SEED: [u8; 32] = [7; 32];

    fn to_hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn key() -> (Ed25519KeyPair, [u8; 32]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, public)
    }

    fn signed(serial: &str, payload: &[u8]) -> Vec<u8> {
        let (pair, public) = key();
        let sha256 = to_hex(digest::digest(&digest::SHA256, payload).as_ref());
        let covered = format!("stockade-bundle 1\nserial {serial}\nsha256 {sha256}\n");
        let signature = to_hex(pair.sign(covered.as_bytes()).as_ref());
        let mut file = format!("{covered}ed25519 {} {signature}\n", to_hex(&public)).into_bytes();
        file.extend_from_slice(payload);
        file
    }

    #[test]
    fn a_signed_bundle_opens_to_its_serial_and_payload() {
        let file = signed("42", b"{\"a\":1}");
        let envelope = open_bundle(&file, &key().1).unwrap();
        assert_eq!((envelope.serial, envelope.payload), (42, &b"{\"a\":1}"[..]));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let file = signed("42", b"{\"a\":1}");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(open_bundle(&changed, &key().1).is_err(), "byte {at}");
        }
    }

    #[test]
    fn any_truncation_is_refused() {
        let file = signed("42", b"{\"a\":1}");
        for length in 0..file.len() {
            assert!(open_bundle(&file[..length], &key().1).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn another_key_is_refused_by_name() {
        let file = signed("42", b"{}");
        assert!(matches!(open_bundle(&file, &[1; 32]), Err(BundleError::Key)));
    }

    #[test]
    fn a_serial_has_one_spelling() {
        for serial in ["042", "+42", "", " 42", "18446744073709551616", "-1", "4 2"] {
            assert!(matches!(open_bundle(&signed(serial, b"{}"), &key().1), Err(BundleError::Envelope(_))), "{serial}");
        }
        assert_eq!(open_bundle(&signed("0", b"{}"), &key().1).unwrap().serial, 0);
        assert_eq!(open_bundle(&signed("18446744073709551615", b"{}"), &key().1).unwrap().serial, u64::MAX);
    }
}
