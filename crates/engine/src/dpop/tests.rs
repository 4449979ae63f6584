//! Proofs as `vectors/` do not have them: every byte, every second, the memory's bounds.

use serde_json::{Value, json};

use super::key::Key;
use super::members::Members;
use super::sample::{SampleKey, access_token_hash};
use super::*;

const NOW: u64 = 1_764_018_000;
const TOKEN: &str = "stk_at_token";

fn rules(nonce: bool) -> ProofRules {
    let origins = vec!["https://api.example".to_owned()];
    ProofRules::new(&Dpop { origins, nonce, max_age_seconds: 60 }).unwrap()
}

fn proofs() -> Proofs {
    Proofs::new(&[3; 32], 10_000)
}

fn claims(jti: &str, nonce: Option<&str>) -> Value {
    let ath = access_token_hash(TOKEN);
    let mut claims = json!({"jti": jti, "htm": "GET", "htu": "https://api.example/a", "iat": NOW, "ath": ath});
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    claims
}

fn judge(rules: &ProofRules, proofs: &Proofs, key: &SampleKey, proof: &[u8], now: u64) -> Result<(), Reason> {
    let jkt = key.jkt().unwrap();
    let claimed = Claimed { proof, token: TOKEN, jkt: &jkt, method: "GET", path: "/a" };
    rules.verify(&claimed, proofs, now).map_err(|(reason, _)| reason)
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638_and_of_rfc_9449() {
    let of = |algorithm: &str, jwk: Value| {
        let text = jwk.to_string();
        let members = Members::parse(text.as_bytes()).unwrap();
        URL_SAFE_NO_PAD.encode(Key::read(algorithm, &members).unwrap().thumbprint())
    };
    // RFC 7638 §3.1.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
             tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO\
             pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    assert_eq!(of("RS256", rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // RFC 9449 §4.1 and §6.1.
    let ec = json!({"kty": "EC", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA", "crv": "P-256"});
    assert_eq!(of("ES256", ec), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    // RFC 8037 §A.3.
    let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(of("EdDSA", okp), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_example_of_rfc_9449_holds() {
    // §7.1: the proof for a protected resource, with the token of the same example.
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
                 VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
                 nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
                 QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj\
                 oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z\
                 WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF\
                 c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E\
                 OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let jkt = URL_SAFE_NO_PAD.decode("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap().try_into().unwrap();
    let origins = vec!["https://resource.example.org".to_owned()];
    let rules = ProofRules::new(&Dpop { origins, nonce: false, max_age_seconds: 60 }).unwrap();
    let (proof, path) = (proof.as_bytes(), "/protectedresource");
    let claimed = Claimed { proof, token, jkt: &jkt, method: "GET", path };
    assert_eq!(rules.verify(&claimed, &proofs(), 1_562_262_618), Ok(()));
    assert!(rules.verify(&Claimed { method: "POST", ..claimed }, &proofs(), 1_562_262_618).is_err());
}

#[test]
fn changing_any_byte_of_a_proof_never_authorizes() {
    let (rules, key) = (rules(false), SampleKey::new(1).unwrap());
    let proof = key.proof(&claims("one", None)).into_bytes();
    assert_eq!(judge(&rules, &proofs(), &key, &proof, NOW), Ok(()));
    for at in 0..proof.len() {
        for change in [1_u8, 2, 4, 0x20, 0x80] {
            let mut changed = proof.clone();
            changed[at] ^= change;
            assert_eq!(judge(&rules, &proofs(), &key, &changed, NOW), Err(Reason::DpopProofInvalid), "byte {at}");
        }
    }
    for length in 0..proof.len() {
        assert!(judge(&rules, &proofs(), &key, &proof[..length], NOW).is_err(), "{length} bytes");
    }
    for more in ["A", ".", "=", " ", "\0", ",x"] {
        assert!(judge(&rules, &proofs(), &key, &[&proof, more.as_bytes()].concat(), NOW).is_err(), "{more:?}");
    }
}

#[test]
fn a_proof_that_was_accepted_is_never_accepted_again() {
    // Whatever the clock does between both: the memory lasts as long as the proof could.
    for nonce in [false, true] {
        let (rules, key) = (rules(nonce), SampleKey::new(1).unwrap());
        for first in (NOW - 70..=NOW + 70).step_by(7) {
            for later in (0..140).step_by(3) {
                let proofs = proofs();
                let text = rules.nonce(&proofs, first);
                let proof = key.proof(&claims("one", text.as_deref())).into_bytes();
                if judge(&rules, &proofs, &key, &proof, first).is_ok() {
                    // Others come meanwhile, so that the memory is swept.
                    for number in 0..200_u16 {
                        let _ = proofs.used.note(proof_id(&[0; 32], &number.to_string()), first, first + later);
                    }
                    assert!(judge(&rules, &proofs, &key, &proof, first + later).is_err(), "{first} + {later}");
                }
            }
        }
    }
}

#[test]
fn a_nonce_holds_for_its_window_and_the_next_and_for_one_process() {
    let (mine, other) = (Nonces::new(&[1; 32]), Nonces::new(&[2; 32]));
    let issued = NOW - NOW % 30;
    let nonce = mine.current(60, issued);
    assert_eq!(nonce.len(), 22);
    for (now, holds) in [(issued, true), (issued + 29, true), (issued + 59, true), (issued + 60, false)] {
        assert_eq!(mine.holds_until(&nonce, 60, now), holds.then_some(issued + 59), "{now}");
    }
    assert_eq!(mine.holds_until(&nonce, 60, issued - 1), None, "before its time");
    assert_eq!(other.holds_until(&nonce, 60, issued), None);
    assert_eq!(mine.holds_until("", 60, issued), None);
    assert_ne!(mine.current(60, issued + 30), nonce);
    assert_eq!(mine.current(60, 0), mine.current(60, 29), "the first window has no one before it");
    assert!(mine.holds_until(&mine.current(1, 0), 1, 0).is_some());
}

#[test]
fn a_full_memory_denies_and_comes_back() {
    let (rules, key) = (rules(false), SampleKey::new(1).unwrap());
    let proofs = Proofs::new(&[3; 32], 64);
    let bring = |jti: usize, iat: u64, now: u64| {
        let mut claims = claims(&jti.to_string(), None);
        claims["iat"] = iat.into();
        judge(&rules, &proofs, &key, key.proof(&claims).as_bytes(), now)
    };
    let results: Vec<_> = (0..500).map(|jti| bring(jti, NOW, NOW)).collect();
    assert!(results.contains(&Err(Reason::DpopCapacity)) && results.contains(&Ok(())));
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Reason::DpopCapacity))));
    assert!(proofs.used() <= 64);
    let accepted = results.iter().position(Result::is_ok).unwrap();
    assert_eq!(bring(accepted, NOW, NOW), Err(Reason::DpopReplayed), "what lives is not pushed out");
    assert_eq!(bring(1_000, NOW + 61, NOW + 61), Ok(()));
}

#[test]
fn rules_that_make_no_sense_are_refused_at_load() {
    let make = |origin: &str, max_age_seconds| {
        ProofRules::new(&Dpop { origins: vec![origin.to_owned()], nonce: true, max_age_seconds }).is_ok()
    };
    assert!(make("https://api.example:8443", 60) && make("http://127.0.0.1:80", 1) && make("https://[::1]:1", 3_600));
    for origin in ["", "api.example", "ftp://api.example", "https://", "https://a b", "https://u@h", "https://h/path"] {
        assert!(!make(origin, 60), "{origin}");
    }
    assert!(!make("https://api.example", 0) && !make("https://api.example", 3_601));
}

#[test]
fn any_text_is_judged_without_a_panic() {
    let (rules, key) = (rules(true), SampleKey::new(1).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b"{}[]\":,.=ey0J-_ \x00\x7f\xffnull";
    for _ in 0..20_000 {
        let text: Vec<u8> = (0..next() % 60).map(|_| alphabet[next() as usize % alphabet.len()]).collect();
        let part = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        assert!(judge(&rules, &proofs(), &key, &text, NOW).is_err());
        let dressed = format!("{}.{}.{}", part(&text), part(&text), part(&text));
        assert!(judge(&rules, &proofs(), &key, dressed.as_bytes(), NOW).is_err());
    }
}
