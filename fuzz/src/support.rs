//! What several targets need: bundles from `vectors/`, heads out of plain text, fingerprints.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use serde_json::Value;
use stockade_engine::{DecidedRequest, Denial, Plan, Proofs, Reason, RequestHead};

/// A word that no description has. Where an input holds it, no evidence may (`docs/contracts.md` §6).
pub const CANARY: &str = "cAnArY";
pub const NOW: u64 = 1_764_018_000;

pub type Fields = Vec<(String, Vec<u8>)>;

/// One bundle of `vectors/`, loaded.
pub struct Area {
    pub name: &'static str,
    pub file: Value,
    pub plan: Plan,
}

impl Area {
    fn load(name: &'static str, text: &str, adapt: impl Fn(&mut Value)) -> Area {
        let mut file: Value = serde_json::from_str(text).expect("a vectors file");
        adapt(&mut file["payload"]);
        let plan = Plan::load(file["payload"].to_string().as_bytes()).expect("a bundle of vectors");
        Area { name, file, plan }
    }

    /// The bundle's operation with this id.
    pub fn operation(&self, id: &str) -> &Value {
        let operations = self.file["payload"]["operations"].as_array().map(Vec::as_slice).unwrap_or_default();
        operations.iter().find(|operation| operation["id"] == id).unwrap_or(&Value::Null)
    }

    /// `text` with `{name}` replaced by the secret of the credential `name`.
    pub fn with_secrets(&self, text: &str) -> String {
        let known = self.file["credentials"].as_object().into_iter().flatten();
        known.fold(text.to_owned(), |text, (name, credential)| {
            text.replace(&format!("{{{name}}}"), credential["secret"].as_str().unwrap_or_default())
        })
    }

    pub fn cases(&self) -> &[Value] {
        self.file["cases"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

macro_rules! areas {
    ($($name:literal),*) => {
        vec![$(Area::load($name, include_str!(concat!("../../vectors/", $name, ".json")), |_| {})),*]
    };
}

/// The bundles of `vectors/`.
pub static AREAS: LazyLock<Vec<Area>> = LazyLock::new(|| {
    areas!(
        "bodies",
        "bound",
        "cors",
        "draft4",
        "framing",
        "limits",
        "modes",
        "parameters",
        "paths",
        "responses",
        "routing",
        "security"
    )
});

/// The operations of `vectors/bodies.json` with the sizes that the compiler writes by default.
pub static ROOMY: LazyLock<Area> = LazyLock::new(|| {
    Area::load("bodies", include_str!("../../vectors/bodies.json"), |payload| {
        payload["sizes"] = serde_json::json!({
            "max_target_bytes": 8192, "max_body_bytes": 1_048_576, "max_response_bytes": 8_388_608, "max_json_depth": 64,
            "max_json_nodes": 100_000, "max_json_string_bytes": 1_048_576, "max_number_chars": 64, "max_parameters": 200,
            "max_multipart_parts": 100});
        for operation in payload["operations"].as_array_mut().into_iter().flatten() {
            if let Some(max_bytes) = operation["body"].get_mut("max_bytes") {
                *max_bytes = 1_048_576.into();
            }
        }
    })
});

pub fn area(name: &str) -> &'static Area {
    AREAS.iter().find(|area| area.name == name).unwrap_or_else(|| &AREAS[0])
}

/// A head and a body out of lines: `first line`, `name: value` …, an empty line, the body.
pub struct Message {
    pub first: String,
    pub headers: Fields,
    pub body: Vec<u8>,
}

impl Message {
    pub fn read(data: &[u8]) -> Message {
        let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
            Some(at) => (&data[..at], &data[at + 2..]),
            None => (data, &b""[..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        Message { first, headers: fields(lines), body: body.to_vec() }
    }

    pub fn write(first: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
        let mut data = first.as_bytes().to_vec();
        for (name, value) in headers {
            data.extend_from_slice(format!("\n{name}: {value}").as_bytes());
        }
        data.extend_from_slice(b"\n\n");
        data.extend_from_slice(body);
        data
    }
}

pub fn fields<'d>(lines: impl Iterator<Item = &'d [u8]>) -> Fields {
    lines
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b": ").or(value.strip_prefix(b":")).unwrap_or(value);
            (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec())
        })
        .collect()
}

pub fn head<'a>(method: &'a str, target: &'a str, headers: &'a Fields, client_certificate: bool) -> RequestHead<'a> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let host = headers.iter().find(|(name, _)| name == "host").and_then(|(_, value)| std::str::from_utf8(value).ok());
    let host = host.unwrap_or("api.example");
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let certificate_thumbprint = None;
    RequestHead { method, path, query, host, headers, address, client_certificate, certificate_thumbprint }
}

/// A process that has seen no proof yet.
pub fn proofs() -> Proofs {
    Proofs::new(&[0; 32], 1_024)
}

/// What must hold of every refusal, whatever it is for.
pub fn check_denial(denial: &Denial) {
    assert_ne!(denial.reason, Reason::Panic, "the engine panicked");
    assert!((400..=599).contains(&denial.status), "{denial:?}");
    assert!(!denial.evidence.contains(CANARY), "evidence repeats the input: {denial:?}");
    assert!(!denial.pointer.as_ref().is_some_and(|pointer| pointer.contains(CANARY)), "{denial:?}");
    assert!(denial.evidence.len() < 4_096, "evidence of {} bytes", denial.evidence.len());
}

pub fn check_decision(decided: &DecidedRequest) {
    for denial in decided.denial.iter().chain(&decided.observed) {
        check_denial(denial);
    }
    assert_eq!(decided.outcome == "deny", decided.denial.is_some(), "{decided:?}");
    assert_eq!(decided.outcome == "answer", decided.answer.is_some(), "{decided:?}");
    for challenge in &decided.challenges {
        http::HeaderValue::from_str(challenge).expect("a challenge fits into a field");
    }
}

/// A number for what happened; numbers inside evidence do not count, as there are too many of them.
pub fn fingerprint(happened: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    happened.hash(&mut hasher);
    hasher.finish()
}

pub fn denial_print(denial: Option<&Denial>) -> u64 {
    let shape = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).take(60).collect() };
    fingerprint(denial.map(|d| (d.reason, shape(&d.evidence), d.pointer.as_deref().map(|p| p.len().min(64)))))
}

pub fn decision_print(decided: &DecidedRequest) -> u64 {
    fingerprint((decided.outcome, &decided.operation, denial_print(decided.denial.as_ref()), decided.observed.len()))
}

/// Independent of the engine: percent-decoding that takes anything, `+` as a space.
pub fn form_decode(text: &str) -> Vec<u8> {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).collect()
}
