//! Bodies of every kind through `Route::validate_body`, each against an independent and more forgiving reading.

use serde_json::Value;
use stockade_engine::{Credential, DecidedRequest, Reason, WholeRequest, decide_request, testing};

use crate::requests::content_type;
use crate::support::{
    Area, CANARY, NOW, ROOMY, area, check_decision, decision_print, fingerprint, form_decode, head, proofs,
};

pub const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u0000",
    "\\ud800",
    "\\uDC00",
    "\\u00e9",
    "\\\"",
    "null",
    "true",
    "false",
    "1e400",
    "-0",
    "1E-7",
    "18446744073709551616",
    "9223372036854775808",
    "0.1",
    "\"qty\":",
    "\"q\\u0074y\":",
    "\"note\":",
    "\"tags\":[",
    "{\"qty\":1}",
    "\u{feff}",
    " ",
    "\n",
    "[[[[[[[[[[",
    CANARY,
];
pub const FORM_WORDS: &[&str] = &[
    "qty=", "tags=", "q%74y", "&", "=", "+", "%20", "%00", "%ff", "%c3%a9", "&&", "qty[]=", "1", "-1", "01", "1.0",
    "tags[0]=", ";", CANARY,
];
pub const MULTIPART_WORDS: &[&str] = &[
    "\r\n",
    "--B",
    "--B--",
    "\r\n--B\r\n",
    "\n--B\n",
    "Content-Disposition: form-data; name=\"title\"",
    "Content-Disposition: form-data; name=\"file\"; filename=\"a.png\"",
    "Content-Disposition: form-data; name=\"meta\"",
    "name=\"admin\"",
    "filename*=utf-8''x",
    "Content-Type: image/png",
    "Content-Type: application/json",
    "{\"n\":1}",
    "\\\"",
    "multipart/form-data; boundary=B",
    "boundary=\"B\"",
    "Content-Transfer-Encoding: base64",
    "; ",
    "=",
    "\"",
    "\n",
    CANARY,
];
pub const MEDIA_WORDS: &[&str] = &[
    "application/json",
    "application/problem+json",
    "text/plain",
    "image/png",
    "*/*",
    "; charset=",
    "utf-8",
    "iso-8859-1",
    "us-ascii",
    "utf-16",
    "\"",
    "\\",
    ";",
    "/",
    "=",
    "boundary=",
    " ",
    "\t",
    ",",
    "\n",
    "q=0",
    CANARY,
];

fn decide(area: &Area, target: &str, media: &[u8], body: &[u8]) -> DecidedRequest {
    let headers = content_type(media);
    let whole = WholeRequest { head: head("POST", target, &headers, false), body };
    let nobody = |_: &Credential<'_>| Ok(None);
    let decided = decide_request(&area.plan, None, &proofs(), &whole, &nobody, NOW);
    check_decision(&decided);
    decided
}

fn allowed(decided: &DecidedRequest) -> bool {
    decided.outcome == "allow"
}

/// Data: a JSON text.
pub fn json(data: &[u8]) -> u64 {
    let other: Result<Value, _> = serde_json::from_slice(data);
    let free = decide(&ROOMY, "/free", b"application/json", data);
    match (&other, testing::parse(data)) {
        (Ok(other), Ok(value)) => {
            assert!(allowed(&free), "what is parsed passes where there is no schema: {free:?}");
            assert_eq!(*other, value, "two readings of one text");
            let text = value.to_string();
            assert_eq!(testing::parse(text.as_bytes()), Ok(value), "written and read again");
        }
        (Err(error), Ok(_)) => panic!("accepted what serde_json refuses: {error}"),
        (Ok(_), Err(reason)) => assert_ne!(reason, Reason::BodyMalformed.name(), "serde_json accepts it"),
        (Err(_), Err(_)) => assert!(data.is_empty() || !allowed(&free)),
    }
    let order = decide(&ROOMY, "/json", b"application/json", data);
    if allowed(&order) {
        let members = other.as_ref().ok().and_then(Value::as_object).expect("an order is an object");
        assert!(members.keys().all(|name| ["qty", "note", "tags"].contains(&name.as_str())), "{members:?}");
        assert!(members["qty"].as_f64().is_some_and(|qty| qty >= 1.0 && qty.fract() == 0.0), "{members:?}");
        assert!(members.get("note").is_none_or(Value::is_string) && members.get("tags").is_none_or(Value::is_array));
    }
    let small = decide(area("bodies"), "/json", b"application/json", data);
    if allowed(&small) {
        assert!(allowed(&order), "smaller limits, and it passes");
    }
    fingerprint([decision_print(&free), decision_print(&order), decision_print(&small)])
}

pub fn json_seeds() -> Vec<Vec<u8>> {
    seeds_of("application/json", false)
}

/// Data: a form.
pub fn form(data: &[u8]) -> u64 {
    let media = b"application/x-www-form-urlencoded";
    let decided = decide(&ROOMY, "/form", media, data);
    if allowed(&decided) {
        let text = std::str::from_utf8(data).expect("a form is UTF-8");
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (form_decode(name), form_decode(value)))
            .collect();
        assert!(pairs.iter().all(|(name, _)| [&b"qty"[..], b"tags"].contains(&name.as_slice())), "{text:?}");
        let quantities: Vec<&Vec<u8>> =
            pairs.iter().filter(|(name, _)| name == b"qty").map(|(_, value)| value).collect();
        assert_eq!(quantities.len(), 1, "{text:?}");
        let quantity = std::str::from_utf8(quantities[0]).expect("a number is text");
        assert!(quantity.parse::<i128>().is_ok() && !quantity.starts_with('+'), "{text:?}");
    }
    let small = decide(area("bodies"), "/form", media, data);
    assert!(!allowed(&small) || allowed(&decided), "smaller limits, and it passes");
    fingerprint([decision_print(&decided), decision_print(&small)])
}

pub fn form_seeds() -> Vec<Vec<u8>> {
    seeds_of("application/x-www-form-urlencoded", false)
}

fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, b""),
    }
}

/// Data: a line with the `Content-Type`, then the body.
pub fn multipart(data: &[u8]) -> u64 {
    let (media, body) = first_line(data);
    let decided = decide(&ROOMY, "/multipart", media, body);
    if allowed(&decided) && !body.is_empty() {
        let boundary = boundary(media).expect("an allowed body has a boundary");
        check_parts(&boundary, body);
    }
    let small = decide(area("bodies"), "/multipart", media, body);
    assert!(!allowed(&small) || allowed(&decided), "smaller limits, and it passes");
    fingerprint([decision_print(&decided), decision_print(&small)])
}

/// What everyone finds between `boundary=` and its end, quoted or not.
fn boundary(media: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(media).into_owned();
    let at = text.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let rest = &text[at..];
    let value = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => rest.split([';', ' ', '\t']).next().unwrap_or_default(),
    };
    (!value.is_empty()).then(|| value.as_bytes().to_vec())
}

/// The most forgiving reader there is takes every `--boundary` for one, and any line end: it must find the same parts.
fn check_parts(boundary: &[u8], body: &[u8]) {
    let mark = [b"--", boundary].concat();
    let mut pieces = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        pieces.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    assert!(rest.starts_with(b"--"), "the last boundary closes the body");
    let mut seen = Vec::new();
    for piece in pieces.into_iter().skip(1) {
        let head_end = piece.windows(4).position(|window| window == b"\r\n\r\n").expect("a part has a head");
        let head = String::from_utf8(piece[..head_end].to_vec()).expect("a part's head is text");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "a line end of another kind: {head:?}");
        let at = head.to_ascii_lowercase().find("name=").expect("a part has a name") + 5;
        let name = head[at..].trim_start_matches('"').split(['"', ';', '\r', ' ', '\t']).next().unwrap_or_default();
        assert!(["title", "file", "meta"].contains(&name), "a part that no schema has: {head:?}");
        assert!(!seen.contains(&name.to_owned()), "a part twice: {name}");
        seen.push(name.to_owned());
    }
    assert!(seen.iter().any(|name| name == "title"), "a required part is missing");
}

pub fn multipart_seeds() -> Vec<Vec<u8>> {
    seeds_of("multipart/form-data", true)
}

/// Bodies of the vectors with this media type, behind a line with the whole `Content-Type` where asked for.
fn seeds_of(media: &str, with_line: bool) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for case in area("bodies").cases() {
        let headers = case["request"]["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let value =
            headers.iter().find(|pair| pair[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("content-type")));
        let value = value.and_then(|pair| pair[1].as_str()).unwrap_or_default();
        if let Some(body) = case["request"]["body"].as_str().filter(|_| value.starts_with(media)) {
            let line = if with_line { format!("{value}\n") } else { String::new() };
            seeds.push([line.as_bytes(), body.as_bytes()].concat());
        }
    }
    seeds
}

/// Data: a line with the `Content-Type`, then the body.
pub fn text(data: &[u8]) -> u64 {
    let (media, body) = first_line(data);
    let decided = decide(&ROOMY, "/text", media, body);
    if allowed(&decided) {
        // ISO 8859-1 or not: five characters at most.
        let length = std::str::from_utf8(body).map_or(body.len(), |text| text.chars().count());
        assert!(length <= 5, "longer than the schema lets it be");
    }
    let binary = decide(&ROOMY, "/several", media, body);
    fingerprint([decision_print(&decided), decision_print(&binary)])
}

/// Data: a `Content-Type`.
pub fn media_type(data: &[u8]) -> u64 {
    let mut prints = Vec::new();
    for (target, declared) in
        [("/json", "application/json"), ("/problem", "application/problem+json"), ("/several", "")]
    {
        let decided = decide(&ROOMY, target, data, b"{\"qty\":1}");
        prints.push(decision_print(&decided));
        if !allowed(&decided) {
            continue;
        }
        let text = std::str::from_utf8(data).map(str::to_ascii_lowercase).unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).to_owned();
        match declared {
            "" => assert_eq!(essence.matches('/').count(), 1, "{text:?}"),
            declared => assert_eq!(essence, declared, "{text:?}"),
        }
    }
    fingerprint(prints)
}
