use serde_json::json;

use super::*;
use crate::decision::Reason;

fn reason(text: &[u8]) -> Option<&'static str> {
    parse_json(text, &sizes()).err().map(|refusal| refusal.reason.name())
}

#[test]
fn a_sound_text_becomes_its_value() {
    let text = br#" {"a": [1, -2, 0.5, 1e3, true, false, null], "b": {"c": "\u00e9\ud83d\ude00\n"}} "#;
    let value = parse_json(text, &sizes()).expect("sound");
    assert_eq!(value, json!({"a": [1, -2, 0.5, 1000.0, true, false, null], "b": {"c": "é😀\n"}}));
}

#[test]
fn a_name_twice_in_one_object_is_refused_however_it_is_spelled() {
    for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"x":{"b":1,"b":1}}]"#, r#"{"":1,"":2}"#] {
        assert_eq!(reason(text.as_bytes()), Some("body_duplicate_key"), "{text}");
    }
    assert_eq!(reason(br#"{"a":{"a":1},"b":{"a":1}}"#), None);
    // Names are compared as they are: no case folding, no Unicode normalisation.
    assert_eq!(reason("{\"a\":1,\"A\":1,\"\u{e9}\":1,\"e\u{301}\":1}".as_bytes()), None);
}

#[test]
fn what_is_no_json_is_refused() {
    let texts: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"{a:1}",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"0x10",
        b"NaN",
        b"Infinity",
        b"-",
        b"1e",
        b"tru",
        b"nulll",
        b"[1] 2",
        b"{} {}",
        b"//c\n1",
        b"/**/1",
        b"\"a",
        b"\"\x01\"",
        b"\"\\x\"",
        b"\"\\u12\"",
        b"\xef\xbb\xbf{}",
        b"\"\xff\"",
        b"\"\xc0\xaf\"",
        b"\"\xed\xa0\x80\"",
        b"\"\\ud800\"",
        b"\"\\udc00\"",
        b"\"\\ud800\\u0041\"",
        b"[1}",
        b"]",
        b"\x00",
        b"1\x00",
    ];
    for text in texts {
        assert_eq!(reason(text), Some("body_malformed"), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_is_bounded_at_the_limit_exactly() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(reason(nested(8).as_bytes()), None);
    assert_eq!(reason(nested(9).as_bytes()), Some("body_too_deep"));
    let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert_eq!(reason(objects(8).as_bytes()), None);
    assert_eq!(reason(objects(9).as_bytes()), Some("body_too_deep"));
    // Brackets in strings do not count.
    assert_eq!(reason(br#"["[[[[[[[[[[[[","\"[[[[[[[[[[","\\"]"#), None);
}

#[test]
fn a_million_brackets_are_refused_without_being_parsed() {
    let mut text = vec![b'['; 1_000_000];
    assert_eq!(reason(&text), Some("body_too_deep"));
    text.fill(b'{');
    assert_eq!(reason(&text), Some("body_too_deep"));
}

#[test]
fn a_configured_depth_beyond_the_parsers_own_has_no_effect() {
    let sizes = Sizes { max_json_depth: usize::MAX, ..sizes() };
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse_json(nested(127).as_bytes(), &sizes).is_ok());
    assert_eq!(parse_json(nested(128).as_bytes(), &sizes).unwrap_err().reason, Reason::BodyTooDeep);
    assert_eq!(parse_json(nested(100_000).as_bytes(), &sizes).unwrap_err().reason, Reason::BodyTooDeep);
}

#[test]
fn values_strings_and_numbers_are_bounded() {
    let list = |items: usize| format!("[{}]", vec!["1"; items].join(","));
    assert_eq!(reason(list(998).as_bytes()), None);
    assert_eq!(reason(list(1001).as_bytes()), Some("body_too_complex"));
    let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    assert_eq!(reason(string(4096).as_bytes()), None);
    assert_eq!(reason(string(4097).as_bytes()), Some("body_too_complex"));
    assert_eq!(reason(format!("{{{}:1}}", string(4097)).as_bytes()), Some("body_too_complex"));
    let number = |chars: usize| format!("0.{}", "1".repeat(chars - 2));
    assert_eq!(reason(number(32).as_bytes()), None);
    assert_eq!(reason(number(33).as_bytes()), Some("body_too_complex"));
}

#[test]
fn no_number_is_rounded_unseen() {
    for text in ["18446744073709551615", "-9223372036854775808", "0", "-0", "1e10", "5e-324"] {
        assert_eq!(reason(text.as_bytes()), None, "{text}");
    }
    for text in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"] {
        assert_eq!(reason(text.as_bytes()), Some("body_too_complex"), "{text}");
    }
    assert_eq!(reason(b"1e400"), Some("body_malformed"));
    assert_eq!(parse_json(b"18446744073709551615", &sizes()).unwrap(), json!(u64::MAX));
    assert_eq!(parse_json(b"0.1", &sizes()).unwrap(), json!(0.1));
}

#[test]
fn evidence_holds_nothing_of_the_text() {
    for text in [r#"{"secretname":"secretvalue","secretname":1}"#, r#"{"secretname": secretvalue}"#, r#""secretvalue"#]
    {
        let refusal = parse_json(text.as_bytes(), &sizes()).unwrap_err();
        assert!(!refusal.evidence.contains("secret"), "{}", refusal.evidence);
    }
}
