//! Any bytes get a decision: messages made of parts that matter, put together and damaged at random, seeded.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;
use stockade_engine::{
    Credential, Identity, Limiter, Plan, Proofs, Reason, RequestHead, ResponseHead, WholeRequest, WholeResponse,
    decide_request, decide_response,
};

/// Small, seeded and good enough to mix cases.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Replaces, doubles, drops or inserts a few characters.
    fn damage(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..self.below(4) {
            let at = self.below(chars.len() + 1);
            let odd = *self
                .pick(&['/', '%', ';', '.', '\\', '\0', '\u{e9}', ' ', '&', '=', '"', '{', '[', ',', '\u{feff}', '+']);
            match self.below(4) {
                0 if at < chars.len() => chars[at] = odd,
                1 if at < chars.len() => {
                    chars.remove(at);
                }
                2 if at < chars.len() => chars.insert(at, chars[at]),
                _ => chars.insert(at.min(chars.len()), odd),
            }
        }
        chars.into_iter().collect()
    }
}

struct Sample {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn sample(request: &Value) -> Sample {
    let pairs = request["headers"].as_array().cloned().unwrap_or_default();
    let mut headers: Vec<(String, Vec<u8>)> =
        pairs.iter().map(|pair| (text(&pair[0]).to_ascii_lowercase(), text(&pair[1]).into_bytes())).collect();
    headers.push(("host".to_owned(), b"api.example".to_vec()));
    Sample {
        method: text(&request["method"]),
        target: text(&request["target"]),
        headers,
        body: text(&request["body"]).into(),
    }
}

fn files() -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn any_bytes_get_a_decision() {
    let mut random = Random(0x5eed);
    let nobody = |_: &Credential<'_>| -> Result<Option<Identity>, ()> { Ok(None) };
    for file in files() {
        let plan = Plan::load(file["payload"].to_string().as_bytes()).unwrap();
        let limiter = Limiter::new(100);
        let proofs = Proofs::new(&[0; 32], 100);
        let samples: Vec<Sample> =
            file["cases"].as_array().unwrap().iter().map(|case| sample(&case["request"])).collect();
        for _ in 0..3_000 {
            let target = {
                let target = random.pick(&samples).target.clone();
                random.damage(&target)
            };
            let (path, query) =
                target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
            let mut headers = random.pick(&samples).headers.clone();
            if random.below(3) == 0 {
                let at = random.below(headers.len());
                let (name, value) = headers[at].clone();
                headers[at].1 = random.damage(&String::from_utf8_lossy(&value)).into_bytes();
                headers.push((random.damage(&name), value));
            }
            let body = match random.below(3) {
                0 => (0..random.below(40)).map(|_| random.next() as u8).collect(),
                _ => {
                    let body = random.pick(&samples).body.clone();
                    random.damage(&String::from_utf8_lossy(&body)).into_bytes()
                }
            };
            let method = random.pick(&samples).method.clone();
            let head = RequestHead {
                method: &method,
                path,
                query,
                host: "api.example",
                headers: &headers,
                address: IpAddr::from([127, 0, 0, 1]),
                client_certificate: random.below(2) == 0,
                certificate_thumbprint: None,
            };
            let request = WholeRequest { head, body: &body };
            let now = random.next();
            let decided = decide_request(&plan, Some(&limiter), &proofs, &request, &nobody, now);
            assert_ne!(
                decided.denial.map(|denial| denial.reason),
                Some(Reason::Panic),
                "{method} {target:?} {headers:?} {body:?}"
            );
            let status = [200, 204, 304, 404, 500, 101, 999, 0][random.below(8)];
            let response = WholeResponse { head: ResponseHead { status, headers: &headers }, body: &body };
            let decided = decide_response(&plan, &request, &response);
            assert_ne!(
                decided.denial.map(|denial| denial.reason),
                Some(Reason::Panic),
                "{status} {headers:?} {body:?}"
            );
        }
    }
}

#[test]
fn any_damage_to_a_payload_is_refused_or_harmless() {
    let mut random = Random(0xb0d1e5);
    for file in files() {
        let payload = file["payload"].to_string();
        for _ in 0..30 {
            // A panic here fails the test; a refusal and a plan are both answers.
            let _ = Plan::load(random.damage(&payload).as_bytes());
            let _ = Plan::load(&payload.as_bytes()[..random.below(payload.len())]);
        }
    }
}
