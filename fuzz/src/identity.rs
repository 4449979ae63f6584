//! The authorization server's answers: trusted to be its own, not to be well formed.

use std::time::Duration;

use serde_json::Value;
use stockade_engine::{Confirmation, CredentialKind};
use stockade_gateway::fuzzing::{self, Forgotten};

use crate::support::{NOW, fingerprint};

pub const WORDS: &[&str] = &[
    "\"active\":true",
    "\"active\":false",
    "\"client_id\":\"c\"",
    "\"sub\":\"s\"",
    "\"scope\":\"a b\"",
    "\"iss\":\"i\"",
    "\"aud\":\"a\"",
    "\"aud\":[\"a\"]",
    "\"exp\":null",
    "\"exp\":1764018001",
    "\"exp\":1764018000",
    "\"jti\":\"j\"",
    "\"token_type\":\"Bearer\"",
    "\"token_type\":\"api_key\"",
    "\"internal_token\":\"x\"",
    "\"internal_token_exp\":1764018300",
    "\\r\\n",
    "\"kind\":\"token\"",
    "\"kind\":\"client\"",
    "\"kind\":\"user\",\"sub\":\"u\"",
    "\"kind\":\"session\",\"sid\":\"s\"",
    "\"kind\":\"grant\",\"grant_id\":\"g\"",
    "\"token_type\":\"DPoP\"",
    "\"cnf\":{\"jkt\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
    "\"cnf\":{\"x5t#S256\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
    "\"acr\":\"mfa\",\"auth_time\":1764018000",
    "\"digest\":\"",
    "\"reset\":true",
    "\"sequence\":",
    "18446744073709551616",
    "-1",
    "1e300",
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "\"revoked_at\":1e400",
];

/// Data: an introspection answer.
pub fn introspection(data: &[u8]) -> u64 {
    let mut prints = Vec::new();
    for asked in [CredentialKind::AccessToken, CredentialKind::ApiKey] {
        let cache_for = Duration::from_secs(60);
        match fuzzing::introspection(data, asked, cache_for, NOW) {
            Err(evidence) => prints.push(fingerprint(evidence)),
            Ok(None) => prints.push(1),
            Ok(Some((identity, authorization, usable))) => {
                // Members that nobody asked for are skipped, not read: a number in them may have no double.
                let Ok(answer) = serde_json::from_slice::<Value>(data) else { continue };
                assert_eq!(answer["active"], true);
                assert_eq!(identity.kind, asked);
                assert_eq!(
                    (&answer["client_id"], &answer["iss"]),
                    (&Value::from(identity.client_id), &Value::from(identity.issuer))
                );
                assert!(identity.scopes.is_sorted() && identity.scopes.iter().all(|scope| !scope.contains(' ')));
                assert!(identity.expires_at.is_none_or(|end| end > NOW), "an expired credential");
                assert_eq!(answer["exp"].as_u64(), identity.expires_at);
                let bound = identity.confirmation != Confirmation::default();
                assert_eq!(bound, answer["cnf"].is_object(), "a binding is lost, or made up");
                assert!(identity.confirmation.jkt.is_some() || answer["token_type"] != "DPoP", "bound to no key");
                assert!(usable <= cache_for && identity.expires_at.is_none_or(|end| usable.as_secs() <= end - NOW));
                assert!(authorization.is_sensitive() && authorization.as_bytes().starts_with(b"Bearer "));
                assert!(!format!("{authorization:?}").contains("Bearer"), "a token is shown");
                prints.push(fingerprint((identity.scopes.len().min(9), identity.audience.len().min(9))));
            }
        }
    }
    fingerprint(prints)
}

/// Data: a page of the revocation feed.
pub fn revocations(data: &[u8]) -> u64 {
    let Some((_, sequence, forgotten)) = fuzzing::revocations(data) else { return 0 };
    let Ok(page) = serde_json::from_slice::<Value>(data) else { return 1 };
    assert_eq!(page["sequence"].as_u64(), Some(sequence));
    let said = page["revocations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reset = page["reset"] == true;
    assert_eq!(forgotten.len(), said.len() + usize::from(reset), "a revocation is lost");
    for (said, forgotten) in said.iter().zip(&forgotten) {
        match forgotten {
            Forgotten::Token(digest) => {
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(
                    said["kind"] == "token"
                        && said["digest"].as_str().is_some_and(|text| text.eq_ignore_ascii_case(&hex))
                );
            }
            Forgotten::Client(client_id) => assert!(said["kind"] == "client" && said["client_id"] == **client_id),
            Forgotten::User(sub) => assert!(said["kind"] == "user" && said["sub"] == **sub),
            Forgotten::Session(sid) => assert!(said["kind"] == "session" && said["sid"] == **sid),
            Forgotten::Grant(id) => assert!(said["kind"] == "grant" && said["grant_id"] == **id),
            Forgotten::Everything => {}
        }
    }
    fingerprint(forgotten.iter().take(4).map(std::mem::discriminant).collect::<Vec<_>>())
}
