//! Any bytes give a verdict, the same each time. Seeded: a failure repeats.

use serde_json::json;

use super::*;

/// xorshift64*: enough to mix bytes, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }

    /// Pieces that mean something to the parser, with stray bytes between them.
    fn bytes(&mut self, pieces: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(8) {
                0 => bytes.push((self.next() >> 56) as u8),
                _ => bytes.extend_from_slice(pieces[self.below(pieces.len())].as_bytes()),
            }
        }
        bytes
    }
}

const ROUNDS: usize = 20_000;

fn schemas() -> Schemas {
    one(
        "draft2020-12",
        json!({
            "type": ["object", "array", "string", "integer"],
            "properties": {"a": {"type": "integer", "format": "int32"}, "b": {"$ref": "#/$defs/s"}},
            "items": {"anyOf": [{"$ref": "#/$defs/s"}, {"type": "null"}]},
            "uniqueItems": true, "maxLength": 4, "pattern": "^[a-z]*$", "additionalProperties": {"type": "string"}
        }),
    )
}

fn decode() -> Value {
    json!({
        "types": ["object", "array", "integer", "string"], "items": {"types": ["integer", "null", "string"]},
        "properties": {"a": {"types": ["integer"]}, "b": {"types": ["array"], "items": {"types": ["integer"]}}},
        "additional": {"types": ["string"]}
    })
}

/// Runs `verdict` on many inputs, each twice.
fn hold(pieces: &[&str], verdict: impl Fn(&[u8]) -> Result<(), Refusal>) {
    let mut random = Random(0x5eed);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let bytes = random.bytes(pieces);
        let first = verdict(&bytes);
        assert_eq!(first, verdict(&bytes), "{bytes:?}");
        accepted += usize::from(first.is_ok());
    }
    assert!(accepted > 0, "the generator reaches past the parser");
    assert!(accepted < ROUNDS, "the parser refuses something");
}

#[test]
fn any_json_bytes_get_a_verdict() {
    let schemas = schemas();
    let content = content(&schemas, "application/json", "json", json!({}));
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"\\u00",
        "\"\\ud83d\\ude00\"",
        "\\",
        "\"",
        "1",
        "-",
        "e9",
        "1.5",
        "true",
        "null",
        " ",
        "18446744073709551616",
        "é",
        "{}",
        "[]",
        "\"x\"",
    ];
    hold(&pieces, |bytes| validate_content(&content, None, bytes, &schemas, &sizes()));
}

#[test]
fn what_is_accepted_as_json_is_what_serde_json_reads() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "1",
        "-2",
        "1.5",
        "true",
        "null",
        " ",
        "{}",
        "[]",
        "[1,2]",
        "{\"a\":1}",
    ];
    let mut random = Random(7);
    for _ in 0..ROUNDS {
        let bytes = random.bytes(&pieces);
        let theirs: Option<Value> = serde_json::from_slice(&bytes).ok();
        match parse_json(&bytes, &sizes()) {
            Ok(ours) => assert_eq!(Some(ours), theirs),
            Err(refusal) if refusal.reason == Reason::BodyMalformed => assert_eq!(theirs, None, "{bytes:?}"),
            Err(_) => {}
        }
    }
}

#[test]
fn any_form_bytes_get_a_verdict() {
    let schemas = schemas();
    let encoding = json!({"content_type": null, "style": "deepObject", "explode": true, "allow_reserved": false});
    let content = content(&schemas, "a/b", "form", json!({"decode": decode(), "encoding": {"d": encoding}}));
    let pieces = ["a", "=", "&", "b", "%", "%41", "%zz", "+", "1", ",", "[", "]", "d[", "d[x]=1", "é", "a=1&"];
    hold(&pieces, |bytes| validate_content(&content, None, bytes, &schemas, &sizes()));
}

#[test]
fn any_multipart_bytes_get_a_verdict() {
    let schemas = schemas();
    let content = content(&schemas, "multipart/form-data", "multipart", json!({"decode": decode()}));
    let pieces = [
        "--XX",
        "\r\n",
        "--",
        "Content-Disposition: form-data; name=\"a\"",
        "Content-Disposition: form-data; name=x",
        "\r\n\r\n",
        "; filename=\"f\"",
        "Content-Type: application/json",
        "1",
        "{}",
        "\n",
        ":",
        "\"",
        "--XX\r\nContent-Disposition: form-data; name=z\r\n\r\nq\r\n",
    ];
    let content_type = Some(&b"multipart/form-data; boundary=XX"[..]);
    hold(&pieces, |bytes| {
        // Most random bytes fail at the first boundary; give every other input the frame of a sound body.
        let framed =
            [&b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"[..], bytes, b"\r\n--XX--"].concat();
        let plain = validate_content(&content, content_type, bytes, &schemas, &sizes());
        plain.or_else(|_| validate_content(&content, content_type, &framed, &schemas, &sizes()))
    });
}

#[test]
fn any_parameters_get_a_verdict() {
    let schemas = schemas();
    let spec = |place: &str, style: &str, explode: bool| {
        parameter(&schemas, json!({"in": place, "style": style, "explode": explode, "decode": decode()}))
    };
    let params: Vec<ParameterSpec> = [
        ("query", "form", true),
        ("query", "form", false),
        ("query", "deepObject", true),
        ("query", "pipeDelimited", false),
        ("query", "spaceDelimited", false),
        ("cookie", "form", true),
        ("cookie", "form", false),
        ("header", "simple", false),
        ("header", "simple", true),
        ("path", "simple", false),
        ("path", "label", true),
        ("path", "matrix", false),
        ("path", "matrix", true),
    ]
    .into_iter()
    .map(|(place, style, explode)| spec(place, style, explode))
    .collect();
    let pieces = [
        "p", "=", "&", ",", ";", "|", ".", "%20", "%2C", "%", "[", "]", "a", "b", "1", "é", "p=1", "p[a]=1", "+", "\"",
        ";p=",
    ];
    for param in params.chunks(1) {
        let mut random = Random(11);
        for _ in 0..2_000 {
            let bytes = random.bytes(&pieces);
            let text = String::from_utf8_lossy(&bytes);
            let headers = vec![("p".to_owned(), bytes.clone()), ("cookie".to_owned(), bytes.clone())];
            let ignored = Ignored { query: &["k"], cookies: &["k"] };
            let verdict = || {
                validate_parameters(param, true, &[("p", &text)], Some(&text), &headers, &schemas, &sizes(), ignored)
            };
            assert_eq!(verdict(), verdict(), "{text}");
        }
    }
}

#[test]
fn any_content_type_gets_a_choice_or_a_refusal() {
    let schemas = schemas();
    let contents =
        [content(&schemas, "application/json", "json", json!({})), content(&schemas, "a/*", "binary", json!({}))];
    let pieces =
        ["application", "/", "json", "a", ";", "charset", "=", "utf-8", "\"", "\\", " ", "*", ",", "boundary=", "é"];
    hold(&pieces, |bytes| choose_content(&contents, Some(bytes)).map(|_| ()));
}
