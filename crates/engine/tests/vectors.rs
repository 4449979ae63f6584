//! Runs `vectors/` (format: `vectors/README.md`) through the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_engine::{
    Confirmation, Credential, CredentialKind, DecidedRequest, Denial, Identity, Limiter, Plan, Proofs, RequestHead,
    ResponseHead, WholeRequest, WholeResponse, decide_request, decide_response, self_check,
};

mod proofs;

use proofs::{Key, Proof};

const NOW: u64 = 1_764_018_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    payload: Value,
    credentials: BTreeMap<String, KnownCredential>,
    #[serde(default)]
    keys: BTreeMap<String, Key>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownCredential {
    secret: String,
    identity: Option<KnownIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownIdentity {
    kind: String,
    client_id: String,
    subject: String,
    scopes: Vec<String>,
    issuer: String,
    audience: Vec<String>,
    expires_at: Option<u64>,
    jkt: Option<String>,
    certificate: Option<String>,
    acr: Option<String>,
    auth_time: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Option<Request>,
    expect: Option<Value>,
    #[serde(default = "yes")]
    available: bool,
    response: Option<Response>,
    expect_response: Option<Value>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    request: Request,
    now: u64,
    expect: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    target: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    no_host: bool,
    body: Option<Body>,
    #[serde(rename = "as")]
    caller: Option<String>,
    proof: Option<Proof>,
    address: Option<IpAddr>,
    #[serde(default)]
    client_certificate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<Body>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Bytes { base64: String },
}

fn yes() -> bool {
    true
}

type Fields = Vec<(String, Vec<u8>)>;

impl Body {
    fn bytes(body: Option<&Body>) -> Vec<u8> {
        match body {
            None => Vec::new(),
            Some(Body::Text(text)) => text.clone().into_bytes(),
            Some(Body::Bytes { base64 }) => STANDARD.decode(base64).unwrap(),
        }
    }
}

impl File {
    fn with_secrets(&self, text: &str) -> String {
        self.credentials
            .iter()
            .fold(text.to_owned(), |text, (name, credential)| text.replace(&format!("{{{name}}}"), &credential.secret))
    }

    fn headers(&self, request: &Request, body: &[u8], nonce: Option<&str>, now: u64) -> Fields {
        let mut headers: Fields = Vec::new();
        for (name, value) in &request.headers {
            headers.push((name.to_ascii_lowercase(), self.with_secrets(value).into_bytes()));
        }
        let has = |headers: &Fields, name: &str| headers.iter().any(|(known, _)| known == name);
        if !has(&headers, "host") && !request.no_host {
            headers.push(("host".to_owned(), b"api.example".to_vec()));
        }
        if let Some(caller) = &request.caller {
            let scheme = if request.proof.is_some() { "DPoP" } else { "Bearer" };
            let secret = &self.credentials[caller].secret;
            headers.push(("authorization".to_owned(), format!("{scheme} {secret}").into()));
            for proof in request.proof.iter().flat_map(|proof| {
                proof.make(
                    &self.keys,
                    &proofs::Occasion { method: &request.method, target: &request.target, secret, nonce, now },
                )
            }) {
                headers.push(("dpop".to_owned(), proof.into_bytes()));
            }
        }
        if request.body.is_some() && !has(&headers, "content-length") && !has(&headers, "transfer-encoding") {
            headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        headers
    }

    fn resolve(&self, available: bool, credential: &Credential<'_>) -> Result<Option<Identity>, ()> {
        if !available {
            return Err(());
        }
        let known = self.credentials.values().find(|known| known.secret == credential.secret);
        Ok(known
            .and_then(|known| known.identity.as_ref())
            .map(KnownIdentity::identity)
            .filter(|identity| identity.kind == credential.kind))
    }

    fn decide(
        &self,
        plan: &Plan,
        (limiter, proofs): (&Limiter, &Proofs),
        request: &Request,
        available: bool,
        now: u64,
    ) -> Value {
        let body = Body::bytes(request.body.as_ref());
        let headers = self.headers(request, &body, plan.current_nonce(proofs, now).as_deref(), now);
        let target = self.with_secrets(&request.target);
        let whole = WholeRequest { head: head(request, &target, &headers), body: &body };
        let resolve = |credential: &Credential<'_>| self.resolve(available, credential);
        summary(&decide_request(plan, Some(limiter), proofs, &whole, &resolve, now))
    }

    fn decide_response(&self, plan: &Plan, request: &Request, response: &Response) -> Value {
        let headers = self.headers(request, b"", None, NOW);
        let target = self.with_secrets(&request.target);
        let whole = WholeRequest { head: head(request, &target, &headers), body: b"" };
        let body = Body::bytes(response.body.as_ref());
        let mut fields: Fields =
            response.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone().into_bytes())).collect();
        let bodiless = response.status < 200 || matches!(response.status, 204 | 304);
        if !bodiless && !fields.iter().any(|(name, _)| name == "content-length") {
            fields.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        let answer = WholeResponse { head: ResponseHead { status: response.status, headers: &fields }, body: &body };
        let decided = decide_response(plan, &whole, &answer);
        let mut found = denial_summary(decided.denial.as_ref());
        found["outcome"] = decided.outcome.into();
        found["observed"] = observed(&decided.observed);
        found
    }
}

impl KnownIdentity {
    fn identity(&self) -> Identity {
        Identity {
            kind: if self.kind == "api_key" { CredentialKind::ApiKey } else { CredentialKind::AccessToken },
            client_id: self.client_id.clone(),
            subject: self.subject.clone(),
            scopes: self.scopes.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            expires_at: self.expires_at,
            confirmation: Confirmation {
                jkt: self.jkt.as_ref().map(|jkt| URL_SAFE_NO_PAD.decode(jkt).unwrap().try_into().unwrap()),
                certificate: self.certificate.as_ref().map(|name| *thumbprint(name)),
            },
            acr: self.acr.clone(),
            auth_time: self.auth_time,
        }
    }
}

/// The certificates of the vectors have names: `client`, which requests show, and any other.
fn thumbprint(name: &str) -> &'static [u8; 32] {
    if name == "client" { &[1; 32] } else { &[2; 32] }
}

fn head<'a>(request: &'a Request, target: &'a str, headers: &'a Fields) -> RequestHead<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_slice()).unwrap_or_default();
    RequestHead {
        method: &request.method,
        path,
        query,
        host: std::str::from_utf8(host).unwrap(),
        headers,
        address: request.address.unwrap_or(IpAddr::from([127, 0, 0, 1])),
        client_certificate: request.client_certificate,
        certificate_thumbprint: request.client_certificate.then(|| thumbprint("client")),
    }
}

fn observed(denials: &[Denial]) -> Value {
    denials.iter().map(|denial| denial.reason.name()).collect()
}

fn denial_summary(denial: Option<&Denial>) -> Value {
    let Some(denial) = denial else { return json!({}) };
    json!({
        "layer": denial.layer.name(),
        "reason": denial.reason.name(),
        "status": denial.status,
        "pointer": denial.pointer,
        "evidence": denial.evidence,
    })
}

fn summary(decided: &DecidedRequest) -> Value {
    let mut found = denial_summary(decided.denial.as_ref());
    found["outcome"] = decided.outcome.into();
    found["observed"] = observed(&decided.observed);
    found["operation"] = decided.operation.clone().into();
    found["path"] = decided.canonical_path.clone().into();
    found["allow"] = decided.allow.clone().into();
    found["challenge"] = (!decided.challenges.is_empty()).then(|| decided.challenges.join(", ")).into();
    found["nonce"] = decided.nonce.is_some().into();
    if let Some(answer) = &decided.answer {
        found["answer"] = json!({
            "status": answer.status,
            "headers": answer.headers,
            "json": serde_json::from_slice::<Value>(&answer.body).unwrap_or_default(),
        });
    }
    found
}

/// Whether everything that `expected` says is so in `found`; objects are compared member by member, all else as it is.
fn holds(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().all(|(key, value)| holds(value, found.get(key).unwrap_or(&Value::Null)))
        }
        _ => expected == found,
    }
}

fn vectors() -> Vec<(String, File)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read(&path).unwrap();
            files.push((name.clone(), serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"))));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files
}

fn load(name: &str, file: &File) -> Plan {
    Plan::load(file.payload.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name} ({}): {error}", file.title))
}

#[test]
fn the_engine_answers_every_vector() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, file) in vectors() {
        let plan = load(&name, &file);
        for case in &file.cases {
            count += 1;
            let limits = (&Limiter::new(plan.max_tracked_keys()), &Proofs::new(&[7; 32], plan.max_tracked_keys()));
            let mut check = |what: &str, expected: &Value, found: Value| {
                if !holds(expected, &found) {
                    failures.push(format!("{name}: {}{what}\n  wanted {expected}\n  found  {found}", case.name));
                }
            };
            if let (Some(request), Some(expect)) = (&case.request, &case.expect) {
                check("", expect, file.decide(&plan, limits, request, case.available, NOW));
            }
            if let (Some(request), Some(response), Some(expect)) =
                (&case.request, &case.response, &case.expect_response)
                && file.decide(&plan, limits, request, true, NOW)["outcome"] == "allow"
            {
                check(", response", expect, file.decide_response(&plan, request, response));
            }
            for (index, step) in case.steps.iter().enumerate() {
                let found = file.decide(&plan, limits, &step.request, case.available, step.now);
                check(&format!(", step {index}"), &step.expect, found);
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} vectors differ:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= 450, "only {count} vectors were found");
}

#[test]
fn every_vector_bundle_passes_its_self_check() {
    for (name, file) in vectors() {
        self_check(&load(&name, &file)).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}
