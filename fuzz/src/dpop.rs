//! Proofs of possession (RFC 9449): signed by the token's own key over whatever header and claims, or no proof at all.

use serde_json::{Value, json};
use stockade_engine::sample::{SampleKey, access_token_hash};
use stockade_engine::{
    Confirmation, Credential, CredentialKind, DecidedRequest, Identity, Proofs, Reason, RequestHead, WholeRequest,
    decide_request,
};

use crate::support::{Area, Fields, NOW, area, check_decision, decision_print, fingerprint, head, proofs};

pub const WORDS: &[&str] = &[
    "\"typ\":\"dpop+jwt\"",
    "\"alg\":\"EdDSA\"",
    "\"alg\":\"Ed25519\"",
    "\"alg\":\"ES256\"",
    "\"alg\":\"none\"",
    "\"crit\":[]",
    "\"jwk\":{",
    "\"kty\":\"OKP\"",
    "\"crv\":\"Ed25519\"",
    "\"d\":\"\"",
    "\"jti\":\"j\"",
    "\"htm\":\"GET\"",
    "\"htu\":\"https://api.example/orders\"",
    "https://API.example:443/orders?x#y",
    "https://other.example:8443",
    "\"iat\":1764018000",
    "\"iat\":1764017940.5",
    "\"iat\":1764018061",
    "\"exp\":1764018001",
    "\"nbf\":1764018061",
    "\"ath\":\"\"",
    "\"nonce\":\"\"",
    "\\u006a",
    "1e400",
    "-0",
    "null",
    "{",
    "}",
    ",",
    ".",
    "%6f",
    "\n",
];

const MAX_AGE: f64 = 60.0;

struct Scene<'s> {
    area: &'s Area,
    key: SampleKey,
    token: &'s str,
    proofs: Proofs,
}

/// Data: a header, a claims set and a target, a line each, which the token's key signs; without a second line, the proof itself.
pub fn proof(data: &[u8]) -> u64 {
    let area = area("bound");
    let token = area.file["credentials"]["bound"]["secret"].as_str().unwrap_or_default();
    let scene = Scene { area, key: SampleKey::new(1).expect("a key"), token, proofs: proofs() };
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let (first, claims, target) = (lines.next().unwrap_or_default(), lines.next(), lines.next().unwrap_or("/orders"));
    let Some(claims) = claims else {
        let decided = scene.ask(data, target);
        assert_ne!(decided.outcome, "allow", "what nobody signed is taken for a proof");
        return decision_print(&decided);
    };
    let signed = scene.key.sign_text(first, claims);
    let decided = scene.ask(signed.as_bytes(), target);
    let everyone_may = decided.operation.as_deref() == Some("open") || !decided.observed.is_empty();
    if decided.outcome == "allow" && !everyone_may {
        check_allowed(&scene, first, claims, target, &signed);
    }
    let again =
        Scene { proofs: proofs(), key: SampleKey::new(1).expect("a key"), ..scene }.ask(signed.as_bytes(), target);
    assert_eq!(format!("{decided:?}"), format!("{again:?}"), "the same proof at another gate, another decision");
    fingerprint((decision_print(&decided), decided.nonce.is_some()))
}

/// Read as forgivingly as can be, the proof still is one of this token for this request, now, and once.
fn check_allowed(scene: &Scene<'_>, header: &str, claims: &str, target: &str, signed: &str) {
    let header: Value = serde_json::from_str(header).expect("a header");
    let claims: Value = serde_json::from_str(claims).expect("claims");
    assert!(header["typ"].as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")));
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519", "{header}");
    assert_eq!(header["jwk"]["x"], scene.key.jwk()["x"]);
    assert!(header.get("crit").is_none() && header["jwk"].get("d").is_none());
    assert!(claims["jti"].as_str().is_some_and(|jti| !jti.is_empty()));
    assert!(claims["htm"] == "GET" && claims["ath"] == access_token_hash(scene.token));
    let (iat, now) = (claims["iat"].as_f64().expect("a time"), NOW as f64);
    assert!((iat.floor() - now).abs() <= MAX_AGE, "{iat}");
    let path = target.split('?').next().unwrap_or_default();
    let htu: http::Uri =
        claims["htu"].as_str().and_then(|htu| htu.split('#').next()?.parse().ok()).expect("an address");
    let decoded = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    assert_eq!(decoded(htu.path()), decoded(path));
    assert!(matches!(htu.host().map(str::to_ascii_lowercase).as_deref(), Some("api.example" | "other.example")));
    assert_eq!(htu.scheme_str(), Some("https"));
    let again = scene.ask(signed.as_bytes(), target);
    assert_eq!(again.denial.map(|denial| denial.reason), Some(Reason::DpopReplayed), "used twice");
    let mut damaged = signed.as_bytes().to_vec();
    if let Some(last) = damaged.last_mut() {
        *last = if *last == b'A' { b'B' } else { b'A' };
    }
    assert_ne!(scene.ask(&damaged, target).outcome, "allow", "another signature");
}

impl Scene<'_> {
    fn ask(&self, proof: &[u8], target: &str) -> DecidedRequest {
        let authorization = format!("DPoP {}", self.token);
        let headers: Fields =
            vec![("authorization".to_owned(), authorization.into_bytes()), ("dpop".to_owned(), proof.to_vec())];
        let head: RequestHead<'_> = head("GET", target, &headers, false);
        let identity = Identity {
            kind: CredentialKind::AccessToken,
            client_id: "c".to_owned(),
            subject: "u".to_owned(),
            scopes: vec!["orders:read".to_owned()],
            issuer: "https://auth.example".to_owned(),
            audience: vec!["https://api.example".to_owned()],
            expires_at: Some(NOW + 60),
            confirmation: Confirmation { jkt: self.key.jkt(), certificate: None },
            acr: None,
            auth_time: None,
        };
        let known = |_: &Credential<'_>| Ok(Some(identity.clone()));
        let whole = WholeRequest { head, body: b"" };
        let decided = decide_request(&self.area.plan, None, &self.proofs, &whole, &known, NOW);
        check_decision(&decided);
        decided
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let area = area("bound");
    let token = area.file["credentials"]["bound"]["secret"].as_str().unwrap_or_default();
    let Some(key) = SampleKey::new(1) else { return Vec::new() };
    let nonce = area.plan.current_nonce(&proofs(), NOW);
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": key.jwk()});
    let claims = |target: &str| {
        json!({"jti": "j", "htm": "GET", "htu": format!("https://api.example{target}"), "iat": NOW,
               "ath": access_token_hash(token), "nonce": nonce})
    };
    let mut seeds: Vec<Vec<u8>> = ["/orders", "/orders/a%2Db", "/open", "/strong", "/watched"]
        .map(|target| format!("{header}\n{}\n{target}", claims(target)).into_bytes())
        .into();
    let stranger = SampleKey::new(2).map(|stranger| stranger.proof(&claims("/orders")).into_bytes());
    seeds.extend(stranger);
    seeds.push(b"e30.e30.e30".to_vec());
    seeds
}
