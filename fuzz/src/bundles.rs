//! Bundles: the envelope around any payload, and any payload inside a valid envelope.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;
use stockade_engine::{BundleError, Credential, Plan, Reason, WholeRequest, decide_request, open_bundle, self_check};

use crate::support::{AREAS, Fields, NOW, fingerprint, head, proofs};

pub const ENVELOPE_WORDS: &[&str] =
    &["stockade-bundle 1\n", "serial ", "sha256 ", "ed25519 ", "\n", "0", "18446744073709551615", " "];
pub const PAYLOAD_WORDS: &[&str] = &[
    "{id}",
    "{",
    "}",
    "/{a}/{a}",
    "//",
    "/..",
    "\"style\": \"deepObject\"",
    "\"explode\": true",
    "\"kind\":\"multipart\"",
    "\"mutual_tls\"",
    "\"types\":[\"integer\"]",
    "\"$ref\":\"#/$defs/",
    "\"pattern\":\"(?=a)\"",
    "\"pattern\":\"(a{99}){99}\"",
    "null",
    "true",
    "-1",
    "18446744073709551616",
    "\"2XX\"",
    "\"default\"",
    "[",
    "]",
    "[]",
    "{}",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key() -> (Ed25519KeyPair, [u8; 32]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes");
    let public = pair.public_key().as_ref().try_into().expect("32 bytes");
    (pair, public)
}

fn signed(serial: &str, payload: &[u8]) -> Vec<u8> {
    let (pair, public) = key();
    let sha256 = hex(digest::digest(&digest::SHA256, payload).as_ref());
    let covered = format!("stockade-bundle 1\nserial {serial}\nsha256 {sha256}\n");
    let signature = hex(pair.sign(covered.as_bytes()).as_ref());
    [format!("{covered}ed25519 {} {signature}\n", hex(&public)).as_bytes(), payload].concat()
}

/// Data: a bundle file; and the same bytes as a serial, a line feed and a payload that are then signed as they should be.
pub fn envelope(data: &[u8]) -> u64 {
    let (_, public) = key();
    let print = check_open(data, &public);
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let serial = String::from_utf8_lossy(&data[..at]);
    let payload = data.get(at + 1..).unwrap_or_default();
    let file = signed(&serial, payload);
    let one_spelling = serial.parse::<u64>().is_ok_and(|number| number.to_string() == serial);
    match open_bundle(&file, &public) {
        Ok(opened) => {
            assert!(one_spelling, "two spellings of one serial: {serial:?}");
            assert_eq!((opened.serial.to_string().as_str(), opened.payload), (&*serial, payload));
        }
        Err(error) => assert!(!one_spelling || serial.len() > 200, "an honest bundle is refused: {error}"),
    }
    // Any byte of the signed lines counts.
    if let Some(place) = payload.first().map(|byte| usize::from(*byte)) {
        let mut changed = file;
        if let Some(byte) = changed.get_mut(place) {
            *byte ^= 1;
            assert!(open_bundle(&changed, &public).is_err(), "byte {place} does not count");
        }
    }
    print
}

/// Whatever opens is exactly what its maker would have written.
fn check_open(file: &[u8], public: &[u8; 32]) -> u64 {
    match open_bundle(file, public) {
        Ok(opened) => {
            assert_eq!(digest::digest(&digest::SHA256, opened.payload).as_ref(), opened.sha256);
            assert_eq!(signed(&opened.serial.to_string(), opened.payload), file, "another spelling of a bundle");
            1
        }
        Err(error) => fingerprint(error.to_string()),
    }
}

pub fn envelope_seeds() -> Vec<Vec<u8>> {
    vec![signed("42", b"{\"a\":1}"), signed("0", b""), b"42\n{\"a\":1}".to_vec(), b"18446744073709551615\n".to_vec()]
}

/// Data: a payload.
pub fn payload(data: &[u8]) -> u64 {
    let plan = match Plan::load(data) {
        Ok(plan) => plan,
        Err(error) => {
            return error_print(&error);
        }
    };
    // What loads can be attacked, and asked.
    let checked = self_check(&plan).map(|report| report.operations.min(9)).map_err(drop);
    let value: Value = serde_json::from_slice(data).expect("what loads is JSON");
    let headers: Fields = vec![("content-type".to_owned(), b"application/json".to_vec())];
    for operation in value["operations"].as_array().into_iter().flatten().take(8) {
        let path = operation["paths"][0].as_str().unwrap_or_default().replace(['{', '}'], "");
        let method = operation["method"].as_str().unwrap_or_default();
        for target in [path.clone(), format!("{path}?a=1&b[c]=2")] {
            let request = WholeRequest { head: head(method, &target, &headers, true), body: b"{\"a\":[1,\"x\"]}" };
            let nobody = |_: &Credential<'_>| Ok(None);
            let decided = decide_request(&plan, None, &proofs(), &request, &nobody, NOW);
            // The bundle's own words may stand in a pointer: the signer of a bundle is no stranger.
            assert_ne!(decided.denial.map(|denial| denial.reason), Some(Reason::Panic), "the engine panicked");
        }
    }
    fingerprint(checked)
}

/// The kind of error and the beginning of what it says; the rest comes from the payload.
fn error_print(error: &BundleError) -> u64 {
    let said = match error {
        BundleError::Plan { problem, .. } | BundleError::Payload(problem) => problem.as_str(),
        _ => "",
    };
    let words = said.split(['`', '"', ':']).next().unwrap_or_default();
    fingerprint((
        std::mem::discriminant(error),
        words.chars().filter(char::is_ascii_alphabetic).take(30).collect::<String>(),
    ))
}

pub fn payload_seeds() -> Vec<Vec<u8>> {
    // One operation a seed: small enough to be changed where it matters.
    let mut seeds = Vec::new();
    for area in AREAS.iter() {
        let payload = &area.file["payload"];
        for operation in payload["operations"].as_array().into_iter().flatten() {
            let mut small = payload.clone();
            small["operations"] = Value::Array(vec![operation.clone()]);
            seeds.push(small.to_string().into_bytes());
        }
    }
    seeds
}
