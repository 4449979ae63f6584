use serde_json::json;

use super::*;

fn form(schema: Value, more: Value, body: &str) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let content = content(&schemas, "application/x-www-form-urlencoded", "form", more);
    validate_content(&content, None, body.as_bytes(), &schemas, &sizes()).map_err(|refusal| refusal.reason.name())
}

fn multipart_bytes(schema: Value, more: Value, body: &[u8]) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let content = content(&schemas, "multipart/form-data", "multipart", more);
    let content_type = Some(&b"multipart/form-data; boundary=XX"[..]);
    validate_content(&content, content_type, body, &schemas, &sizes()).map_err(|refusal| refusal.reason.name())
}

/// Each part is `header lines|body`; `;` in the header separates lines.
fn multipart(schema: Value, more: Value, parts: &[(&str, &str)]) -> Result<(), &'static str> {
    let mut body = String::new();
    for (headers, content) in parts {
        body.push_str(&format!("--XX\r\n{}\r\n\r\n{content}\r\n", headers.replace('\n', "\r\n")));
    }
    body.push_str("--XX--\r\n");
    multipart_bytes(schema, more, body.as_bytes())
}

fn text(schema: Value, content_type: &str, body: &[u8]) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let content = content(&schemas, "text/plain", "text", json!({}));
    validate_content(&content, Some(content_type.as_bytes()), body, &schemas, &sizes())
        .map_err(|refusal| refusal.reason.name())
}

const INVALID: Result<(), &str> = Err("body_invalid");
const MALFORMED: Result<(), &str> = Err("body_malformed");
const DUPLICATE: Result<(), &str> = Err("body_duplicate_key");
const COMPLEX: Result<(), &str> = Err("body_too_complex");

fn user() -> Value {
    json!({"decode": {"types": ["object"], "properties": {
        "name": {"types": ["string"]},
        "age": {"types": ["integer"]},
        "tags": {"types": ["array"], "items": {"types": ["integer"]}},
        "address": {"types": ["object"]},
        "photo": {"types": ["string"]}
    }}})
}

fn exactly(value: Value) -> Value {
    json!({"const": value})
}

#[test]
fn json_bodies_are_parsed_and_checked() {
    let schemas = one("draft4", json!({"type": "object", "required": ["a"]}));
    let content = content(&schemas, "application/json", "json", json!({}));
    let validate = |body: &str| {
        validate_content(&content, None, body.as_bytes(), &schemas, &sizes()).map_err(|refusal| refusal.reason.name())
    };
    assert_eq!(validate(r#"{"a":1}"#), Ok(()));
    assert_eq!(validate("{}"), INVALID);
    assert_eq!(validate(""), MALFORMED);
    assert_eq!(validate(r#"{"a":1,"a":1}"#), DUPLICATE);
}

#[test]
fn forms_become_objects() {
    let expected = exactly(json!({"name": "Ann Lee", "age": 5, "tags": [1, 2], "other": "5"}));
    assert_eq!(form(expected, user(), "name=Ann+Lee&age=5&tags=1&tags=2&other=5"), Ok(()));
    assert_eq!(form(exactly(json!({})), user(), ""), Ok(()));
    assert_eq!(form(exactly(json!({"tags": [1]})), user(), "tags=1"), Ok(()));
    assert_eq!(form(json!({}), user(), "age=5&age=5"), DUPLICATE);
    assert_eq!(form(json!({}), user(), "other=5&other=5"), DUPLICATE);
    assert_eq!(form(json!({"properties": {"age": {"type": "integer"}}}), user(), "age=x"), INVALID);
    assert_eq!(form(json!({"additionalProperties": false}), user(), "x=1"), INVALID);
    for bad in ["a=%", "%zz=1", "a=%ff"] {
        assert_eq!(form(json!({}), user(), bad), MALFORMED, "{bad}");
    }
}

#[test]
fn form_fields_follow_their_encoding() {
    let encoding = |more: Value| {
        let mut encoding = json!({"content_type": null, "style": "form", "explode": true, "allow_reserved": false});
        for (name, value) in more.as_object().unwrap() {
            encoding[name] = value.clone();
        }
        let mut spec = user();
        spec["encoding"] = json!({"tags": encoding, "address": encoding});
        spec
    };
    let comma = encoding(json!({"explode": false}));
    assert_eq!(form(exactly(json!({"tags": [1, 2], "name": "x"})), comma.clone(), "tags=1,2&name=x"), Ok(()));
    assert_eq!(form(json!({}), comma, "tags=1&tags=2"), DUPLICATE);
    let deep = encoding(json!({"style": "deepObject"}));
    assert_eq!(form(exactly(json!({"address": {"city": "X"}})), deep, "address[city]=X"), Ok(()));
    let document = encoding(json!({"content_type": "application/json"}));
    assert_eq!(form(exactly(json!({"address": {"city": [1]}})), document.clone(), "address={\"city\":[1]}"), Ok(()));
    assert_eq!(form(json!({}), document.clone(), "address={"), MALFORMED);
    assert_eq!(form(json!({}), document.clone(), "address={\"a\":1,\"a\":1}"), DUPLICATE);
    assert_eq!(form(json!({}), document, "address={}&address={}"), DUPLICATE);
}

#[test]
fn forms_are_bounded() {
    let many = |count: usize| (0..count).map(|i| format!("f{i}=1")).collect::<Vec<_>>().join("&");
    assert_eq!(form(json!({}), json!({}), &many(1000)), Ok(()));
    assert_eq!(form(json!({}), json!({}), &many(1001)), COMPLEX);
    assert_eq!(form(json!({}), json!({}), &format!("a={}", "x".repeat(20_000))), COMPLEX);
}

#[test]
fn parts_become_properties() {
    let expected = exactly(json!({"name": "Ann", "age": 5, "tags": [1, 2], "address": {"city": "X"}}));
    let parts = [
        ("Content-Disposition: form-data; name=\"name\"", "Ann"),
        ("content-disposition: form-data; name=age", "5"),
        ("Content-Disposition: form-data; name=\"tags\"", "1"),
        ("Content-Disposition: form-data; name=\"tags\"\nContent-Type: text/plain", "2"),
        ("Content-Disposition: form-data; name=\"address\"", "{\"city\":\"X\"}"),
    ];
    assert_eq!(multipart(expected, user(), &parts), Ok(()));
    let twice = [parts[0], parts[0]];
    assert_eq!(multipart(json!({}), user(), &twice), DUPLICATE);
    let six = [parts[2]; 6];
    assert_eq!(multipart(json!({}), user(), &six), COMPLEX);
}

#[test]
fn files_are_strings_of_their_bytes() {
    let schema =
        json!({"properties": {"photo": {"type": "string", "format": "binary", "maxLength": 4}}, "required": ["photo"]});
    let file = |bytes: &[u8]| {
        let mut body =
            b"--XX\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
                .to_vec();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n--XX--");
        body
    };
    assert_eq!(multipart_bytes(schema.clone(), user(), &file(b"\xff\x00\r\n")), Ok(()));
    assert_eq!(multipart_bytes(schema.clone(), user(), &file(b"12345")), INVALID);
    assert_eq!(multipart_bytes(schema, user(), &file(b"")), Ok(()));
}

#[test]
fn part_types_must_be_declared() {
    let mut spec = user();
    spec["encoding"] = json!({"photo": {"content_type": "image/png, image/*", "style": "form", "explode": true, "allow_reserved": false}});
    let part = |media: &str| {
        let header = format!("Content-Disposition: form-data; name=\"photo\"; filename=\"f\"{media}");
        multipart(json!({}), spec.clone(), &[(&header, "x")])
    };
    assert_eq!(part("\nContent-Type: image/gif"), Ok(()));
    assert_eq!(part("\nContent-Type: text/html"), INVALID);
    assert_eq!(part(""), INVALID);
}

#[test]
fn json_parts_are_json() {
    let part = |body| {
        let header = "Content-Disposition: form-data; name=\"address\"\nContent-Type: application/json";
        multipart(json!({}), user(), &[(header, body)])
    };
    assert_eq!(part("{\"a\":[1]}"), Ok(()));
    assert_eq!(part("{\"a\":1,\"a\":1}"), DUPLICATE);
    assert_eq!(part("{"), MALFORMED);
    assert_eq!(part("[[[[[[[[[1]]]]]]]]]"), Err("body_too_deep"));
}

#[test]
fn what_is_no_strict_multipart_is_refused() {
    let header = "Content-Disposition: form-data; name=\"a\"";
    let sound = format!("--XX\r\n{header}\r\n\r\nx\r\n--XX--\r\n");
    assert_eq!(multipart_bytes(json!({}), json!({}), sound.as_bytes()), Ok(()));
    let bad = [
        String::new(),
        "--XX".to_owned(),
        "--XX\r\n".to_owned(),
        sound.replace("\r\n", "\n"),
        format!("preamble\r\n{sound}"),
        format!("\r\n{sound}"),
        format!("{sound}epilogue"),
        format!("{sound}{sound}"),
        sound.replace("--XX--", "--XX"),
        sound.replace("--XX--", "--XXX--"),
        sound.replace("x\r\n--XX--", "x\r\n--XXX\r\n--XX--"),
        sound.replace("x\r\n--XX--", "x\r\n--XX \r\n--XX--"),
        sound.replace("\r\n\r\nx", "\r\nx"),
        sound.replace(header, "Content-Type: text/plain"),
        sound.replace(header, &format!("{header}\r\n{header}")),
        sound.replace(header, &format!("{header}\r\nContent-Type: text/plain\r\nContent-Type: text/plain")),
        sound.replace(header, &format!("{header}\r\n folded")),
        sound.replace(header, &format!("{header}\r\nX : y")),
        sound.replace(header, &format!("{header}\r\nContent-Transfer-Encoding: base64")),
        sound.replace(header, &format!("{header}\r\nX: {}", "y".repeat(9000))),
        sound.replace(header, &format!("{header}{}", "\r\nX: y".repeat(20))),
        sound.replace("form-data", "attachment"),
        sound.replace("; name=\"a\"", ""),
        sound.replace("name=\"a\"", "name=\"a\"; name=\"b\""),
        sound.replace("name=\"a\"", "name=\"a"),
        sound.replace("name=\"a\"", "name=\"a\\\"b\""),
        sound.replace("name=\"a\"", "name=\"a\"; filename*=UTF-8''x"),
        sound.replace("name=\"a\"", "name=\"a\u{0}\""),
    ];
    for body in bad {
        assert_eq!(multipart_bytes(json!({}), json!({}), body.as_bytes()), MALFORMED, "{body:?}");
    }
}

#[test]
fn a_part_may_hold_what_looks_almost_like_a_boundary() {
    let parts = [("Content-Disposition: form-data; name=\"name\"", "a\r\n--X\r\n-XX\r\n--xx\r\n- -XX--\r\n")];
    assert_eq!(multipart(exactly(json!({"name": parts[0].1})), user(), &parts), Ok(()));
}

#[test]
fn a_boundary_inside_a_part_is_refused_wherever_it_stands() {
    // Readers that split at a bare line feed, or anywhere, would find a part that no schema has judged.
    let hidden = "--XX\r\nContent-Disposition: form-data; name=\"admin\"\r\n\r\n1";
    for before in ["a", "a\n", "a\r", "a-", "\r\n\t", "\r\n-"] {
        let content = format!("{before}{hidden}");
        let parts = [("Content-Disposition: form-data; name=\"name\"", content.as_str())];
        assert_eq!(multipart(json!({}), json!({}), &parts), MALFORMED, "{before:?}");
    }
}

#[test]
fn a_bad_boundary_is_refused() {
    let schemas = one("draft4", json!({}));
    let content = content(&schemas, "multipart/form-data", "multipart", json!({}));
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a@b\"",
        "multipart/form-data; boundary=a; boundary=b",
        &long,
    ] {
        let body = b"--a\r\n";
        let refusal = validate_content(&content, Some(content_type.as_bytes()), body, &schemas, &sizes()).unwrap_err();
        assert_eq!(refusal.reason.name(), "body_malformed", "{content_type}");
    }
}

#[test]
fn texts_are_strings_in_their_charset() {
    let e = || exactly(json!("é"));
    assert_eq!(text(e(), "text/plain", "é".as_bytes()), Ok(()));
    assert_eq!(text(e(), "text/plain; charset=UTF-8", "é".as_bytes()), Ok(()));
    assert_eq!(text(e(), "text/plain; charset=iso-8859-1", b"\xe9"), Ok(()));
    assert_eq!(text(e(), "text/plain; charset=utf-8", b"\xe9"), MALFORMED);
    assert_eq!(text(e(), "text/plain; charset=us-ascii", "é".as_bytes()), MALFORMED);
    assert_eq!(text(e(), "text/plain; charset=utf-16", b"\x00\xe9"), Err("media_type_unsupported"));
    assert_eq!(text(json!({"maxLength": 2}), "text/plain", b"abc"), INVALID);
    assert_eq!(text(json!({}), "text/plain", &[b'a'; 4097]), COMPLEX);
}

#[test]
fn the_most_specific_media_type_is_chosen() {
    let schemas = one("draft4", json!({}));
    let of = |media_type: &str, kind: &str| content(&schemas, media_type, kind, json!({"pointer": media_type}));
    let contents = [
        of("*/*", "binary"),
        of("image/*", "binary"),
        of("Application/JSON; charset=utf-8", "json"),
        of("image/png", "binary"),
    ];
    let choose =
        |value: &str| choose_content(&contents, Some(value.as_bytes())).map(|content| content.pointer().to_owned());
    assert_eq!(choose("image/png; q=1").as_deref(), Ok("image/png"));
    assert_eq!(choose("IMAGE/gif").as_deref(), Ok("image/*"));
    assert_eq!(choose("text/plain").as_deref(), Ok("*/*"));
    assert_eq!(choose("application/json").as_deref(), Ok("Application/JSON; charset=utf-8"));
    assert_eq!(choose("application/json; charset=\"UTF-8\"").as_deref(), Ok("Application/JSON; charset=utf-8"));
    for bad in
        ["application/json; charset=utf-16", "application/json; charset=utf-8; charset=utf-8", "json", "", "a/b, c/d"]
    {
        assert_eq!(choose(bad).unwrap_err().reason.name(), "media_type_unsupported", "{bad}");
    }
    assert!(choose_content(&contents, None).is_err());
    assert!(choose_content(&[], Some(b"text/plain")).is_err());
    assert!(choose_content(&contents[1..2], Some(b"text/plain")).is_err());
}

#[test]
fn refusals_of_bodies_hold_nothing_of_the_client() {
    let schemas = one("draft4", json!({"properties": {"name": {"maxLength": 1}}, "additionalProperties": false}));
    let content = content(&schemas, "multipart/form-data", "multipart", json!({}));
    let body =
        |name: &str| format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nsecret\r\n--XX--\r\n");
    for name in ["secret", "name"] {
        let content_type = Some(&b"multipart/form-data; boundary=XX"[..]);
        let refusal = validate_content(&content, content_type, body(name).as_bytes(), &schemas, &sizes()).unwrap_err();
        assert!(!refusal.evidence.contains("secret"), "{}", refusal.evidence);
        assert_eq!(refusal.pointer.as_deref(), Some("/c"));
    }
}
