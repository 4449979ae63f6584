//! What the engine alone costs for one request and its answer: `cost BUNDLE TOKEN TARGET BODY_FILE ANSWER_FILE`.
//!
//! Runs every stage that the gateway runs, in its order, on one thread: lookup with framing checks, credentials, scopes,
//! three limits' worth of GCRA, head, body, response head, response body. POST where the body file is not empty.
//! Prints {"us", "rounds"}: the median of the rounds' wall time per request, which on one busy thread is CPU time.
//! The bundle's signature is not looked at; `open_bundle` has its own tests.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Instant;

use stockade_engine::{
    BodyPlan, Credentials, Identity, Limiter, Lookup, Plan, Proofs, Quota, RequestHead, ResponseHead, ResponsePlan,
    SPACE_ADDRESS, SPACE_CLIENT, SPACE_OPERATION,
};

const ROUNDS: usize = 41;
const REQUESTS: u32 = 5_000;
const NOW: u64 = 1_800_000_000;
const QUOTA: Quota = Quota { requests: 1_000_000_000, period_seconds: 1, burst: 1_000_000_000 };

type Fields = Vec<(String, Vec<u8>)>;

struct Case {
    plan: Plan,
    limiter: Limiter,
    proofs: Proofs,
    identity: Identity,
    method: &'static str,
    path: String,
    query: Option<String>,
    headers: Fields,
    body: Vec<u8>,
    answer_headers: Fields,
    answer: Vec<u8>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("cost: error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let case = read(arguments)?;
    decide(&case, NOW * 1_000_000_000)?;
    let mut rounds: Vec<f64> = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let started = Instant::now();
        for number in 0..REQUESTS {
            let nanoseconds = NOW * 1_000_000_000 + (round as u64) * 1_000_000 + u64::from(number);
            black_box(decide(black_box(&case), nanoseconds)?);
        }
        rounds.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS));
    }
    rounds.sort_by(f64::total_cmp);
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{{\"us\": {median:.3}, \"rounds\": {ROUNDS}}}");
    Ok(())
}

fn read(arguments: &[String]) -> Result<Case, String> {
    let [bundle, token, target, body, answer] = arguments else {
        return Err("usage: cost BUNDLE TOKEN TARGET BODY_FILE ANSWER_FILE".to_owned());
    };
    let file = |path: &String| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    let (bundle, body, answer) = (file(bundle)?, file(body)?, file(answer)?);
    let payload = bundle.splitn(5, |byte| *byte == b'\n').nth(4).ok_or("the bundle has no payload")?;
    let plan = Plan::load(payload).map_err(|error| error.to_string())?;
    let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let mut headers = vec![
        field("host", b"127.0.0.1:8443"),
        field("authorization", format!("Bearer {token}").as_bytes()),
        field("user-agent", b"bench"),
        field("accept", b"*/*"),
    ];
    if !body.is_empty() {
        headers.push(field("content-type", b"application/json"));
        headers.push(field("content-length", body.len().to_string().as_bytes()));
    }
    let identity = Identity {
        kind: stockade_engine::CredentialKind::AccessToken,
        client_id: "c_bench".to_owned(),
        subject: "c_bench".to_owned(),
        scopes: plan.scopes_supported().to_vec(),
        issuer: plan.issuer().to_owned(),
        audience: vec![plan.audience().to_owned()],
        expires_at: Some(NOW + 600),
        confirmation: stockade_engine::Confirmation::default(),
        acr: None,
        auth_time: None,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.clone(), None),
    };
    Ok(Case {
        limiter: Limiter::new(plan.max_tracked_keys()),
        proofs: Proofs::new(&[0; 32], 1),
        plan,
        identity,
        method: if body.is_empty() { "GET" } else { "POST" },
        path,
        query,
        headers,
        body,
        answer_headers: vec![
            field("content-type", b"application/json"),
            field("content-length", answer.len().to_string().as_bytes()),
        ],
        answer,
    })
}

/// All stages of one exchange; an error where any of them refuses.
fn decide(case: &Case, nanoseconds: u64) -> Result<(), String> {
    let head = RequestHead {
        method: case.method,
        path: &case.path,
        query: case.query.as_deref(),
        host: "127.0.0.1:8443",
        headers: &case.headers,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_certificate: false,
        certificate_thumbprint: None,
    };
    let route = match case.plan.look_up(&head) {
        Lookup::Route(route) => route,
        Lookup::Answer(_) => return Err("the request was answered by the engine".to_owned()),
        Lookup::Deny(denial, _) => return Err(format!("{denial:?}")),
    };
    let refused = |denial| format!("{denial:?}");
    count(&case.limiter, SPACE_ADDRESS, &[&[127, 0, 0, 1]], nanoseconds)?;
    match route.credentials(&head).map_err(refused)? {
        Credentials::Present(_) => {}
        Credentials::Public => return Err("the operation is public".to_owned()),
    }
    route.authorize(&head, &[&case.identity], &case.proofs, NOW).map_err(refused)?;
    let client = case.identity.client_id.as_bytes();
    count(&case.limiter, SPACE_CLIENT, &[client], nanoseconds)?;
    count(&case.limiter, SPACE_OPERATION, &[client, route.operation_id().as_bytes()], nanoseconds)?;
    match route.validate_head(&head).map_err(refused)? {
        BodyPlan::None | BodyPlan::Inspect { .. } => route.validate_body(&head, &case.body).map_err(refused)?,
        BodyPlan::Stream { .. } => return Err("the body would be streamed".to_owned()),
    }
    let response = ResponseHead { status: 200, headers: &case.answer_headers };
    match route.judge_response(&head, &response) {
        ResponsePlan::Inspect { .. } => route.judge_response_body(&response, &case.answer).map_err(refused),
        _ => Err("the answer is not inspected".to_owned()),
    }
}

fn count(limiter: &Limiter, space: u8, parts: &[&[u8]], nanoseconds: u64) -> Result<(), String> {
    let state = limiter.check(limiter.key(space, parts), &QUOTA, nanoseconds);
    if state.allowed { Ok(()) } else { Err("a limit refused".to_owned()) }
}
