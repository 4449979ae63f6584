//! The plan attacked before it is put in force.
//!
//! Every operation that is not public is asked for without a credential, with ones that must not do, and by the tricks
//! that lead a gate to look at one path and an upstream at another. Whatever passes keeps the plan out of force.
//! Response and parameter rules are not attacked here: they depend on data, these do not.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::bundle::KeyPlace;
use crate::decision::{Layer, Mode, Outcome, Reason};
use crate::dpop::Proofs;
use crate::dpop::sample::{SampleKey, access_token_hash};
use crate::plan::credential::{ACCESS_TOKEN_PREFIX, API_KEY_PREFIX, counterfeit};
use crate::plan::{
    Admitted, Confirmation, Credential, CredentialKind, Credentials, Identity, Lookup, Plan, Route, Shape,
};
use crate::request::RequestHead;

/// The moment at which the check takes place. Any will do: no verdict depends on the real time.
const NOW: u64 = 2_000_000_000;

type Fields = Vec<(String, Vec<u8>)>;

/// What was tried. `unprotected` names operations whose policy does not enforce authentication.
#[derive(Clone, Debug, Default)]
pub struct SelfCheckReport {
    pub cases: usize,
    pub operations: usize,
    pub unprotected: Vec<String>,
}

/// An attack that passed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("self-check: operation `{operation}` lets through: {case}")]
pub struct SelfCheckFailure {
    pub operation: String,
    pub case: String,
}

/// Attacks every operation of the plan. No clock, no randomness.
pub fn self_check(plan: &Plan) -> Result<SelfCheckReport, SelfCheckFailure> {
    let proofs = Proofs::new(&[0; 32], 1 << 20);
    let mut check = Check { plan, proofs, report: SelfCheckReport::default() };
    for shape in plan.shapes() {
        check.operation(&shape)?;
    }
    Ok(check.report)
}

struct Check<'p> {
    plan: &'p Plan,
    /// Its key is known: nothing but the check ever sees these nonces.
    proofs: Proofs,
    report: SelfCheckReport,
}

/// One request of the check.
struct Attempt<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fields: &'a Fields,
}

/// What the authorization server would say about every credential of an attempt.
enum Resolved<'i> {
    /// Each credential is unknown.
    Unknown,
    As(&'i Identity),
}

impl Check<'_> {
    fn operation(&mut self, shape: &Shape<'_>) -> Result<(), SelfCheckFailure> {
        self.report.operations += 1;
        if shape.public || shape.denied {
            return Ok(());
        }
        if shape.authenticate != Mode::Enforce {
            self.report.unprotected.push(shape.id.to_owned());
            return Ok(());
        }
        for path in &shape.paths {
            self.reach(shape, path)?;
            self.without_credentials(shape, path)?;
            self.with_wrong_credentials(shape, path)?;
            self.with_found_credentials(shape, path)?;
            self.with_weak_sign_in(shape, path)?;
            self.by_other_paths(shape, path)?;
            self.by_other_methods(shape, path)?;
        }
        Ok(())
    }

    /// The sample request leads to the operation: else the attacks below would prove nothing.
    fn reach(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        let host = self.plan.sample_host();
        let fields = Fields::new();
        let attempt = Attempt { method: shape.method, path, query: None, fields: &fields };
        match self.plan.look_up(&head(&attempt, host)) {
            Lookup::Route(route) if route.operation_id() == shape.id => Ok(()),
            _ => Err(shape.failure("its own path, which leads elsewhere")),
        }
    }

    fn without_credentials(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        self.refused(shape, "no credential", &shape.attempt(path, &Fields::new()), &Resolved::Unknown)?;
        let spoofed = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "admin"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1;host=localhost;proto=https"),
            ("x-original-url", "/"),
            ("x-rewrite-url", "/"),
            ("x-http-method-override", "GET"),
            ("x-method-override", "OPTIONS"),
            ("x-http-method", "HEAD"),
            ("authorization", "Basic YWRtaW46YWRtaW4="),
            ("authorization", "Bearer"),
            ("authorization", "Bearer null"),
        ];
        for (name, value) in spoofed {
            let fields = vec![(name.to_owned(), value.as_bytes().to_vec())];
            let case = format!("no credential, `{name}: {value}`");
            self.refused(shape, &case, &shape.attempt(path, &fields), &Resolved::Unknown)?;
        }
        let query = format!("access_token={}", counterfeit(ACCESS_TOKEN_PREFIX, 1));
        let fields = Fields::new();
        let attempt = Attempt { query: Some(&query), ..shape.attempt(path, &fields) };
        self.refused(shape, "a token in the query", &attempt, &Resolved::As(&self.full_identity(shape)))
    }

    /// Every credential that the operation takes is presented and well formed; only what it stands for is wrong.
    fn with_wrong_credentials(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        let (fields, query) = presented(shape, false);
        let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &fields) };
        self.refused(shape, "an unknown credential", &attempt, &Resolved::Unknown)?;
        if !shape.takes_credentials() {
            return Ok(());
        }
        let full = self.full_identity(shape);
        let wrong = [
            ("a credential of another issuer", Identity { issuer: "https://other.invalid".to_owned(), ..full.clone() }),
            (
                "a credential for another audience",
                Identity { audience: vec!["https://other.invalid".to_owned()], ..full.clone() },
            ),
            ("a credential for no audience", Identity { audience: Vec::new(), ..full.clone() }),
            ("an expired credential", Identity { expires_at: Some(NOW), ..full.clone() }),
        ];
        for (case, identity) in &wrong {
            self.refused(shape, case, &attempt, &Resolved::As(identity))?;
        }
        if shape.every_alternative_has_scopes && shape.authorize == Mode::Enforce {
            let none = Identity { scopes: Vec::new(), ..full.clone() };
            self.refused(shape, "a credential without scopes", &attempt, &Resolved::As(&none))?;
            let other = Identity { scopes: vec!["stockade:self-check".to_owned()], ..full.clone() };
            self.refused(shape, "a credential with another scope", &attempt, &Resolved::As(&other))?;
        }
        let (damaged, query) = presented(shape, true);
        let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &damaged) };
        self.refused(shape, "a credential with a wrong checksum", &attempt, &Resolved::As(&full))
    }

    /// Credentials that are bound to a key or a certificate, shown by somebody who has neither.
    fn with_found_credentials(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        if !shape.takes_credentials() {
            return Ok(());
        }
        let full = self.full_identity(shape);
        let to_certificate = Confirmation { certificate: Some([7; 32]), ..Confirmation::default() };
        let bound = Identity { confirmation: to_certificate, ..full.clone() };
        let (fields, query) = presented(shape, false);
        let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &fields) };
        self.refused(shape, "a certificate's token without the certificate", &attempt, &Resolved::As(&bound))?;
        let (Some(key), Some(stranger)) = (SampleKey::new(1), SampleKey::new(2)) else { return Ok(()) };
        let to_key = Confirmation { jkt: key.jkt(), ..Confirmation::default() };
        let bound = Identity { confirmation: to_key, ..full };
        self.refused(shape, "a key's token shown as bearer", &attempt, &Resolved::As(&bound))?;
        if shape.takes_tokens {
            self.with_wrong_proofs(shape, path, &bound, &key, &stranger)?;
        }
        Ok(())
    }

    /// RFC 9449 §11: a proof is of one key, for one request, once.
    fn with_wrong_proofs(
        &mut self,
        shape: &Shape<'_>,
        path: &str,
        bound: &Identity,
        key: &SampleKey,
        stranger: &SampleKey,
    ) -> Result<(), SelfCheckFailure> {
        let token = counterfeit(ACCESS_TOKEN_PREFIX, 2);
        let terms = self.plan.proof_terms(&self.proofs, NOW);
        let Some((origin, nonce)) = terms.map(|(origin, nonce)| (origin.to_owned(), nonce)) else { return Ok(()) };
        let claims = |jti: &str| {
            json!({"jti": jti, "htm": shape.method, "htu": format!("{origin}{path}"), "iat": NOW,
                   "ath": access_token_hash(&token), "nonce": nonce})
        };
        let with = |jti: &str, name: &str, value: Value| {
            let mut claims = claims(jti);
            claims[name] = value;
            claims
        };
        let unsigned = key.proof(&claims("unsigned")).rsplit_once('.').map(|(signed, _)| format!("{signed}."));
        let symmetric = json!({"typ": "dpop+jwt", "alg": "HS256", "jwk": key.jwk()});
        let other_method = if shape.method == "GET" { "POST" } else { "GET" };
        let wrong = [
            ("no proof", None),
            ("a proof that is none", Some("e30.e30.".to_owned())),
            ("a proof without a signature", unsigned),
            ("a proof of another key", Some(stranger.proof(&claims("stranger")))),
            ("a proof with a symmetric algorithm", Some(key.sign(&symmetric, &claims("symmetric")))),
            ("a proof for another method", Some(key.proof(&with("method", "htm", other_method.into())))),
            ("a proof for another path", Some(key.proof(&with("path", "htu", format!("{origin}/self-check").into())))),
            (
                "a proof for another host",
                Some(key.proof(&with("host", "htu", format!("https://other.invalid{path}").into()))),
            ),
            ("a proof for another token", Some(key.proof(&with("token", "ath", access_token_hash("other").into())))),
            ("an old proof", Some(key.proof(&with("old", "iat", (NOW - 100_000).into())))),
        ];
        for (case, proof) in wrong {
            let (fields, query) = shown(shape, &token, proof.as_deref());
            let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &fields) };
            self.refused(shape, &format!("a key's token with {case}"), &attempt, &Resolved::As(bound))?;
        }
        let right = key.proof(&claims(&format!("{} {path}", shape.id)));
        let (fields, query) = shown(shape, &token, Some(&right));
        let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &fields) };
        self.proof_holds(shape, &attempt, bound)?;
        self.refused(shape, "a key's token with a proof that was used before", &attempt, &Resolved::As(bound))
    }

    /// A proof that is right is not refused for what it is: else the attacks before would prove nothing.
    fn proof_holds(&self, shape: &Shape<'_>, attempt: &Attempt<'_>, bound: &Identity) -> Result<(), SelfCheckFailure> {
        let head = head(attempt, self.plan.sample_host());
        let Lookup::Route(route) = self.plan.look_up(&head) else { return Ok(()) };
        let Ok(Credentials::Present(credentials)) = route.credentials(&head) else { return Ok(()) };
        let identities = as_each(&credentials, bound);
        let found = route.authorize(&head, &identities.iter().collect::<Vec<_>>(), &self.proofs, NOW);
        match found.map_err(|denial| denial.reason) {
            Err(
                Reason::DpopProofInvalid | Reason::DpopProofMissing | Reason::DpopNonceRequired | Reason::DpopReplayed,
            ) => Err(shape.failure("no proof at all, not even the right one")),
            _ => Ok(()),
        }
    }

    /// RFC 9470: users who signed in too weakly or too long ago.
    fn with_weak_sign_in(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        if shape.authorize != Mode::Enforce || !shape.takes_credentials() {
            return Ok(());
        }
        let full = self.full_identity(shape);
        let mut weak = Vec::new();
        if !shape.acr.is_empty() {
            weak.push(("a user whose sign-in is not known", Identity { acr: None, ..full.clone() }));
            let other = Some("stockade:self-check".to_owned());
            weak.push(("a user who signed in otherwise", Identity { acr: other, ..full.clone() }));
        }
        if let Some(seconds) = shape.max_age_seconds {
            weak.push(("a user who signed in at no known time", Identity { auth_time: None, ..full.clone() }));
            let old = NOW.saturating_sub(seconds).saturating_sub(1);
            weak.push(("a user who signed in too long ago", Identity { auth_time: Some(old), ..full }));
        }
        for (case, identity) in &weak {
            let (fields, query) = presented(shape, false);
            let attempt = Attempt { query: query.as_deref(), ..shape.attempt(path, &fields) };
            self.refused(shape, case, &attempt, &Resolved::As(identity))?;
        }
        Ok(())
    }

    fn by_other_paths(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        let fields = Fields::new();
        for spelling in spellings(path) {
            let case = format!("no credential, the path spelled `{spelling}`");
            self.harmless(shape, &case, &shape.attempt(&spelling, &fields))?;
        }
        Ok(())
    }

    fn by_other_methods(&mut self, shape: &Shape<'_>, path: &str) -> Result<(), SelfCheckFailure> {
        let fields = Fields::new();
        let lower = shape.method.to_ascii_lowercase();
        let methods = [
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "PATCH",
            "DELETE",
            "OPTIONS",
            "TRACE",
            "CONNECT",
            "PROPFIND",
            "FOO",
            lower.as_str(),
        ];
        for method in methods.into_iter().filter(|method| *method != shape.method) {
            let case = format!("no credential, method `{method}`");
            self.harmless(shape, &case, &Attempt { method, ..shape.attempt(path, &fields) })?;
        }
        Ok(())
    }

    /// The attempt must be refused.
    fn refused(
        &mut self,
        shape: &Shape<'_>,
        case: &str,
        attempt: &Attempt<'_>,
        resolved: &Resolved<'_>,
    ) -> Result<(), SelfCheckFailure> {
        self.report.cases += 1;
        let head = head(attempt, self.plan.sample_host());
        match self.plan.look_up(&head) {
            Lookup::Route(route) if admits(&route, &head, resolved, &self.proofs) => Err(shape.failure(case)),
            _ => Ok(()),
        }
    }

    /// The attempt must be refused, or lead to another operation whose own rules admit it.
    fn harmless(&mut self, shape: &Shape<'_>, case: &str, attempt: &Attempt<'_>) -> Result<(), SelfCheckFailure> {
        self.report.cases += 1;
        let head = head(attempt, self.plan.sample_host());
        match self.plan.look_up(&head) {
            Lookup::Route(route) if admits(&route, &head, &Resolved::Unknown, &self.proofs) => {
                let elsewhere = route.operation_id() != shape.id && self.plan.is_unprotected(route.operation_index());
                if elsewhere { Ok(()) } else { Err(shape.failure(case)) }
            }
            _ => Ok(()),
        }
    }

    /// An identity that lacks nothing.
    fn full_identity(&self, shape: &Shape<'_>) -> Identity {
        let mut scopes: Vec<String> = shape.scopes.iter().map(|scope| (*scope).to_owned()).collect();
        scopes.sort_unstable();
        Identity {
            kind: CredentialKind::AccessToken,
            client_id: "self-check".to_owned(),
            subject: "self-check".to_owned(),
            scopes,
            issuer: self.plan.issuer().to_owned(),
            audience: vec![self.plan.audience().to_owned()],
            expires_at: Some(NOW + 60),
            confirmation: Confirmation::default(),
            acr: shape.acr.first().cloned(),
            auth_time: Some(NOW),
        }
    }
}

impl Shape<'_> {
    fn attempt<'a>(&'a self, path: &'a str, fields: &'a Fields) -> Attempt<'a> {
        Attempt { method: self.method, path, query: None, fields }
    }

    fn takes_credentials(&self) -> bool {
        self.takes_tokens || !self.keys.is_empty()
    }

    fn failure(&self, case: &str) -> SelfCheckFailure {
        SelfCheckFailure { operation: self.id.to_owned(), case: case.to_owned() }
    }
}

fn head<'a>(attempt: &'a Attempt<'_>, host: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: attempt.method,
        path: attempt.path,
        query: attempt.query,
        host,
        headers: attempt.fields,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_certificate: false,
        certificate_thumbprint: None,
    }
}

/// Whether authentication and authorization, in the modes that are set, let the request through.
fn admits(route: &Route<'_>, head: &RequestHead<'_>, resolved: &Resolved<'_>, proofs: &Proofs) -> bool {
    let credentials = match route.settle(route.credentials(head), Credentials::Public) {
        Outcome::Deny(_) => return false,
        Outcome::Go(credentials) | Outcome::Observed(credentials, _) => credentials,
    };
    let Credentials::Present(credentials) = credentials else { return authorizes(route, head, &[], proofs) };
    match resolved {
        Resolved::Unknown if route.allows_anonymous() => authorizes(route, head, &[], proofs),
        Resolved::Unknown => route.mode(Layer::Authenticate) != Mode::Enforce,
        Resolved::As(identity) => {
            let identities = as_each(&credentials, identity);
            authorizes(route, head, &identities.iter().collect::<Vec<_>>(), proofs)
        }
    }
}

/// One identity for each credential.
fn as_each(credentials: &[Credential<'_>], identity: &Identity) -> Vec<Identity> {
    credentials.iter().map(|credential| Identity { kind: credential.kind, ..identity.clone() }).collect()
}

fn authorizes(route: &Route<'_>, head: &RequestHead<'_>, identities: &[&Identity], proofs: &Proofs) -> bool {
    let found = route.authorize(head, identities, proofs, NOW);
    !matches!(route.settle(found, Admitted::Anonymous), Outcome::Deny(_))
}

/// As [`presented`], the token with the scheme for keys.
fn shown(shape: &Shape<'_>, token: &str, proof: Option<&str>) -> (Fields, Option<String>) {
    let (mut fields, query) = presented(shape, false);
    fields.retain(|(name, _)| name != "authorization");
    fields.push(("authorization".to_owned(), format!("DPoP {token}").into_bytes()));
    fields.extend(proof.map(|proof| ("dpop".to_owned(), proof.as_bytes().to_vec())));
    (fields, query)
}

/// Headers and query with every credential that the operation takes; `damaged`: with checksums that do not hold.
fn presented(shape: &Shape<'_>, damaged: bool) -> (Fields, Option<String>) {
    let counterfeit = |prefix: &str, seed: u8| {
        let mut text = counterfeit(prefix, seed);
        if damaged && let Some(last) = text.pop() {
            text.push(if last == 'A' { 'Q' } else { 'A' });
        }
        text
    };
    let mut fields = Fields::new();
    let mut query = Vec::new();
    let mut cookies = Vec::new();
    if shape.takes_tokens {
        fields
            .push(("authorization".to_owned(), format!("Bearer {}", counterfeit(ACCESS_TOKEN_PREFIX, 2)).into_bytes()));
    }
    for (index, (place, name)) in shape.keys.iter().enumerate() {
        let key = counterfeit(API_KEY_PREFIX, u8::try_from(index % 200).unwrap_or(0) + 3);
        match place {
            KeyPlace::Header if *name == "authorization" && shape.takes_tokens => {}
            KeyPlace::Header => fields.push(((*name).to_owned(), key.into_bytes())),
            KeyPlace::Query => query.push(format!("{}={key}", escaped(name))),
            KeyPlace::Cookie => cookies.push(format!("{name}={key}")),
        }
    }
    if !cookies.is_empty() {
        fields.push(("cookie".to_owned(), cookies.join("; ").into_bytes()));
    }
    (fields, (!query.is_empty()).then(|| query.join("&")))
}

fn escaped(name: &str) -> Cow<'_, str> {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).into()
}

/// Other spellings of a path that some reader would take for it.
fn spellings(path: &str) -> Vec<String> {
    let last = path.rfind('/').unwrap_or(0);
    let (before, after) = path.split_at(last);
    let tail = after.strip_prefix('/').unwrap_or(after);
    let mut spellings = vec![
        format!("{path}/"),
        format!("{path}//"),
        format!("/{path}"),
        format!("//{path}"),
        format!("{before}//{tail}"),
        format!("{before}/./{tail}"),
        format!("{before}/%2e/{tail}"),
        format!("{before}/x/../{tail}"),
        format!("{before}/x/%2E%2e/{tail}"),
        format!("{before}/x/..;/{tail}"),
        format!("{before}/x%2f..%2f{tail}"),
        format!("{before}%2f{tail}"),
        format!("{before}%2F{tail}"),
        format!("{before}%5c{tail}"),
        format!("{before}\\{tail}"),
        format!("{before}%252f{tail}"),
        format!("{path};x"),
        format!("{path};x=y"),
        format!("{path}%3bx"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("{path}%09"),
        format!("{path}."),
        format!("{path}/."),
        format!("{path}/%2e%2e"),
        format!("{path}/..;/"),
        format!("{path}%23"),
        format!("{path}%3f"),
        format!("/;{path}"),
        path.to_ascii_uppercase(),
        swap_case(path),
        encode_letters(path),
        path.replace('/', "/./"),
        path.replace('/', "//"),
    ];
    spellings.retain(|spelling| spelling != path);
    spellings
}

fn swap_case(path: &str) -> String {
    path.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
}

/// The first letter of each segment as an escape: the same path for every reader.
fn encode_letters(path: &str) -> String {
    let mut after_slash = false;
    let mut text = String::new();
    for c in path.chars() {
        if after_slash && c.is_ascii_alphabetic() {
            text.push_str(&format!("%{:02x}", u32::from(c)));
        } else {
            text.push(c);
        }
        after_slash = c == '/';
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn operation(id: &str, path: &str, security: Value) -> Value {
        let modes = json!({"authenticate": "enforce", "authorize": "enforce", "limits": "enforce",
                           "validate_request": "enforce", "validate_response": "enforce"});
        json!({"id": id, "method": "GET", "paths": [path], "pointer": "/p", "deny": null, "modes": modes, "security": security,
               "parameters": [], "unknown_query": "deny", "body": null, "responses": [], "limit": null, "upgrade": [],
               "stream_response": false})
    }

    fn plan(operations: Vec<Value>) -> Plan {
        let payload = json!({
            "format": 1, "description": {"title": "", "version": "", "source": "", "sha256": ""}, "dialect": "draft2020-12",
            "hosts": [], "authentication": {"issuer": "https://a.example", "audience": "https://b.example", "scopes_supported": [],
                "dpop": {"origins": ["https://b.example"], "nonce": true, "max_age_seconds": 60}, "acr_order": ["pwd", "mfa"]},
            "cors": null, "limits": {"per_address": null, "per_client": null, "max_tracked_keys": 10},
            "sizes": {"max_target_bytes": 1000, "max_body_bytes": 10, "max_response_bytes": 10, "max_json_depth": 8,
                      "max_json_nodes": 10, "max_json_string_bytes": 10, "max_number_chars": 10, "max_parameters": 10,
                      "max_multipart_parts": 10},
            "problem_base": "", "schemas": {}, "schema_pointers": {}, "operations": operations});
        Plan::load(payload.to_string().as_bytes()).unwrap()
    }

    fn token(scopes: &[&str]) -> Value {
        json!([[{"kind": "token", "scheme": "t", "scopes": scopes}]])
    }

    fn assured(mut operation: Value) -> Value {
        operation["acr"] = json!(["mfa"]);
        operation["max_age_seconds"] = 60.into();
        operation
    }

    fn shop() -> Plan {
        let key = |place: &str, name: &str| json!({"kind": "api_key", "scheme": "k", "in": place, "name": name, "scopes": []});
        plan(vec![
            operation("public", "/items/{id}", json!([])),
            operation("read", "/orders/{id}", token(&["read"])),
            operation("bare", "/me", token(&[])),
            assured(operation("strong", "/payments", token(&["read"]))),
            operation(
                "keys",
                "/keys",
                json!([[key("header", "X-Key"), key("cookie", "k")], [key("query", "q")], [key("cookie", "l")]]),
            ),
            operation(
                "mixed",
                "/report.{format}",
                json!([[{"kind": "mutual_tls", "scheme": "m"}, key("header", "Authorization")]]),
            ),
        ])
    }

    #[test]
    fn a_sound_plan_passes() {
        let report = self_check(&shop()).unwrap();
        assert_eq!(report.operations, 6);
        assert!(report.cases > 200, "{}", report.cases);
        assert!(report.unprotected.is_empty());
    }

    #[test]
    fn forgotten_security_is_noticed() {
        for index in 1..5 {
            let mut plan = shop();
            plan.forget_security(index);
            let failure = self_check(&plan).unwrap_err();
            assert!(failure.case.contains("no credential"), "{failure}");
        }
    }

    #[test]
    fn forgotten_scopes_are_noticed() {
        let mut plan = shop();
        plan.forget_scopes(1);
        let failure = self_check(&plan).unwrap_err();
        assert_eq!((failure.operation.as_str(), failure.case.as_str()), ("read", "a credential without scopes"));
    }

    #[test]
    fn forgotten_assurance_is_noticed() {
        let mut plan = shop();
        plan.forget_assurance(3);
        let failure = self_check(&plan).unwrap_err();
        assert_eq!(
            (failure.operation.as_str(), failure.case.as_str()),
            ("strong", "a user whose sign-in is not known")
        );
    }

    #[test]
    fn proofs_that_may_name_another_host_are_noticed() {
        let mut plan = shop();
        plan.confuse_origin();
        assert_eq!(self_check(&plan).unwrap_err().case, "a key's token with a proof for another host");
    }

    #[test]
    fn a_wrong_audience_is_noticed() {
        let mut plan = shop();
        plan.confuse_audience();
        assert_eq!(self_check(&plan).unwrap_err().case, "a credential for another audience");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_noticed() {
        let mut plan = shop();
        plan.misroute("/orders/{id}", "GET", 0);
        assert!(self_check(&plan).unwrap_err().case.contains("leads elsewhere"));
    }

    #[test]
    fn an_operation_that_policy_leaves_open_is_reported() {
        let mut open = operation("open", "/open", token(&[]));
        open["modes"]["authenticate"] = "observe".into();
        assert_eq!(self_check(&plan(vec![open])).unwrap().unprotected, ["open"]);
    }

    #[test]
    fn a_thousand_operations_take_less_than_a_second() {
        let operations = (0..1000)
            .map(|i| operation(&format!("o{i}"), &format!("/v1/things{}/{{id}}/parts{i}", i % 50), token(&["s"])));
        let plan = plan(operations.collect());
        let best = (0..3).map(|_| {
            let started = std::time::Instant::now();
            self_check(&plan).unwrap();
            started.elapsed()
        });
        let best = best.min().unwrap();
        assert!(best.as_millis() < 1000, "{best:?}");
    }
}
