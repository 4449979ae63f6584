use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

#[test]
fn both_dialects_are_what_they_are() {
    // Draft 4: `exclusiveMinimum` is a boolean, and 1.0 is not written as an integer.
    assert!(check("draft4", json!({"minimum": 1, "exclusiveMinimum": true}), json!(1)).is_err());
    assert!(check("draft4", json!({"type": "integer"}), json!(1.0)).is_err());
    assert!(check("draft2020-12", json!({"exclusiveMinimum": 1}), json!(1)).is_err());
    assert!(check("draft2020-12", json!({"type": "integer"}), json!(1.0)).is_ok());
    assert!(check("draft2020-12", json!({"prefixItems": [{"type": "string"}]}), json!([1])).is_err());
    // Draft 4 ignores what stands beside `$ref`.
    let schemas = json!({"a": {"$ref": "#/$defs/b", "maxLength": 1}, "b": {"type": "string"}});
    for (dialect, valid) in [("draft4", true), ("draft2020-12", false)] {
        let schemas = Schemas::build(dialect, schemas.as_object().unwrap().clone(), &["a"]).unwrap();
        assert_eq!(schemas.check(schemas.id("a").unwrap(), &json!("xx")).is_ok(), valid, "{dialect}");
    }
    assert!(Schemas::build("draft3", Map::new(), &[]).is_err());
}

#[test]
fn formats_are_asserted_in_both_dialects() {
    let cases = [
        ("date", json!("2026-11-24"), json!("2026-13-24")),
        ("date-time", json!("2026-11-24T20:53:19.5Z"), json!("2026-11-24 20:53")),
        ("uuid", json!("7f3d9a52-1c0b-4f7e-9d27-5a1b2c3d4e5f"), json!("7f3d9a52")),
        ("uri", json!("https://a.example/b"), json!("not a uri")),
        ("email", json!("a@b.example"), json!("a.b.example")),
        ("idn-email", json!("ü@b.example"), json!("ü")),
        ("hostname", json!("a.example"), json!("-a.example")),
        ("ipv4", json!("127.0.0.1"), json!("127.0.0.256")),
        ("ipv6", json!("::1"), json!(":::1")),
        ("int32", json!(i32::MAX), json!(i64::from(i32::MAX) + 1)),
        ("int32", json!(i32::MIN), json!(1.5)),
        ("int64", json!(i64::MIN), json!(u64::MAX)),
        ("uint64", json!(u64::MAX), json!(-1)),
        ("float", json!(1.5), json!(1e39)),
        ("byte", json!("aGk="), json!("aGk")),
        ("byte", json!(""), json!("a-_b")),
        ("base64url", json!("a-_b"), json!("a+/b")),
    ];
    for dialect in ["draft4", "draft2020-12"] {
        for (format, valid, invalid) in &cases {
            let schema = json!({"format": format});
            assert!(check(dialect, schema.clone(), valid.clone()).is_ok(), "{dialect} {format} {valid}");
            let violation = check(dialect, schema.clone(), invalid.clone()).expect_err(format);
            assert_eq!((violation.keyword.as_str(), violation.schema_path.as_str()), ("format", "/format"), "{format}");
            assert!(check(dialect, schema, json!([])).is_ok(), "{format} says nothing about arrays");
        }
        for format in ["double", "password", "binary", "something-new"] {
            assert!(check(dialect, json!({"format": format}), json!("any \u{1} text")).is_ok(), "{format}");
            assert!(check(dialect, json!({"format": format}), json!(1e300)).is_ok(), "{format}");
        }
    }
}

#[test]
fn base64_is_checked_across_pieces() {
    let valid = "QUJD".repeat(2000);
    assert!(check("draft4", json!({"format": "byte"}), json!(valid)).is_ok());
    let padded_inside = format!("{}QUI={}", "QUJD".repeat(255), "QUJD".repeat(2));
    assert!(check("draft4", json!({"format": "byte"}), json!(padded_inside)).is_err());
}

#[test]
fn patterns_are_ecma_262_and_not_anchored() {
    let matches = |pattern: &str, text: &str| check("draft2020-12", json!({"pattern": pattern}), json!(text)).is_ok();
    assert!(matches(r"\d", "a1b") && !matches(r"^\d$", "٣"));
    assert!(matches(r"^\w+$", "abc_1") && !matches(r"^\w+$", "é"));
    assert!(matches(r"^\/a\/$", "/a/"));
    assert!(matches(r"^[\w\-.]+$", "a-b.c"));
    assert!(matches(r"^\cA$", "\u{1}"));
    assert!(matches(r"^\p{L}+$", "éa"));
    assert!(!matches(r"^a$", "a\n"));
}

#[test]
fn look_ahead_at_the_start_of_a_pattern_is_understood() {
    let schema = json!({"properties": {"p": {"type": "string", "pattern": r"^(?=.*\d)(?!.*--)[a-z\d-]{4,}$"}}});
    for dialect in ["draft4", "draft2020-12"] {
        let valid = |text: &str| check(dialect, schema.clone(), json!({"p": text})).is_ok();
        assert!(valid("abc1") && valid("a-b1") && !valid("abcd") && !valid("a--1") && !valid("ab1"), "{dialect}");
        let violation = check(dialect, schema.clone(), json!({"p": "a--1"})).unwrap_err();
        assert_eq!(violation.to_string(), "/p: does not match the pattern; got a string of 4 characters");
        assert_eq!((violation.keyword.as_str(), violation.schema_path.as_str()), ("pattern", "/properties/p/pattern"));
        assert!(check(dialect, json!({"pattern": "(?=^.{2,3}$)a"}), json!("abc")).is_ok());
        assert!(check(dialect, json!({"pattern": "(?=^.{2,3}$)a"}), json!("abcd")).is_err());
        assert!(check(dialect, json!({"pattern": "^(?!x)"}), json!(5)).is_ok());
        // Only where schemas stand: data that looks like one stays as it is.
        let data = json!({"pattern": "^(?!x)y"});
        assert!(check(dialect, json!({"enum": [data]}), data.clone()).is_ok());
        assert_eq!(check_schemas(dialect, &json!({"a": schema})), []);
    }
}

#[test]
fn patterns_that_need_backtracking_are_named() {
    for pattern in [r"(a)\1", r"a(?!b)", r"(?<=a)b", r"^(?=a)b(?!c)", r"^(?!(a)\1)a", "(", "(a{1000}){1000}"] {
        let schemas =
            json!({"bad": {"properties": {"x": {"pattern": pattern}}}, "good": {}, "user": {"$ref": "#/$defs/bad"}});
        for dialect in ["draft4", "draft2020-12"] {
            let problems = check_schemas(dialect, &schemas);
            let keys: Vec<&str> = problems.iter().map(|problem| problem.schema.as_str()).collect();
            assert_eq!(keys, ["bad", "user"], "{dialect} {pattern}: {problems:?}");
            assert!(problems[0].message.contains(pattern), "{pattern}: {}", problems[0].message);
            let schemas = schemas.as_object().unwrap();
            assert!(Schemas::build(dialect, schemas.clone(), &["good", "user"]).is_err(), "{pattern}");
            assert!(Schemas::build(dialect, schemas.clone(), &["good"]).is_ok(), "an unwanted schema does no harm");
        }
    }
}

#[test]
fn schemas_that_are_none_are_named() {
    let bad = [
        json!({"type": "strin"}),
        json!({"required": "a"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"$ref": "https://elsewhere.example/schema"}),
        json!({"minimum": "1"}),
        json!(5),
    ];
    for dialect in ["draft4", "draft2020-12"] {
        for schema in &bad {
            let problems = check_schemas(dialect, &json!({"bad": schema, "good": {"type": "string"}}));
            let keys: Vec<&str> = problems.iter().map(|problem| problem.schema.as_str()).collect();
            assert_eq!(keys, ["bad"], "{dialect} {schema}: {problems:?}");
        }
        assert_eq!(check_schemas(dialect, &json!({"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}})), []);
    }
    assert_eq!(check_schemas("draft4", &json!({"bad": {"exclusiveMinimum": 3}})).len(), 1);
    assert_eq!(check_schemas("draft9", &json!({})).len(), 1);
}

#[test]
fn one_bad_schema_among_thousands_is_found_in_time() {
    let mut schemas: Map<String, Value> = (0..3000)
        .map(|i| {
            (format!("k{i:04}"), json!({"properties": {"next": {"$ref": format!("#/$defs/k{:04}", (i + 1) % 3000)}}}))
        })
        .collect();
    schemas.insert("bad".to_owned(), json!({"pattern": "("}));
    schemas.insert("user".to_owned(), json!({"items": {"$ref": "#/$defs/bad"}}));
    let start = Instant::now();
    let problems = check_schemas("draft4", &Value::Object(schemas));
    let keys: Vec<&str> = problems.iter().map(|problem| problem.schema.as_str()).collect();
    assert_eq!(keys, ["bad", "user"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn catastrophic_patterns_run_in_linear_time() {
    let schemas = one("draft2020-12", json!({"pattern": "^(a+)+$"}));
    let start = Instant::now();
    assert!(schemas.check(schemas.id("s").unwrap(), &json!(format!("{}b", "a".repeat(100_000)))).is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// Each level offers two alternatives that both look at the same child: 2^depth visits for who is not careful.
#[test]
fn a_recursive_choice_costs_a_bounded_time_to_refuse() {
    let schema = json!({
        "anyOf": [
            {"type": "object", "required": ["a"], "properties": {"child": {"$ref": "#/$defs/s"}}},
            {"type": "object", "required": ["b"], "properties": {"child": {"$ref": "#/$defs/s"}}},
            {"type": "object", "minProperties": 1, "properties": {"child": {"$ref": "#/$defs/s"}}, "not": {"maxProperties": 1}}
        ]
    });
    for dialect in ["draft4", "draft2020-12"] {
        let schemas = one(dialect, schema.clone());
        let mut instance = json!({"a": 1, "b": 1, "child": 5});
        for _ in 0..60 {
            instance = json!({"a": 1, "b": 1, "child": instance});
        }
        let start = Instant::now();
        assert!(schemas.check(schemas.id("s").unwrap(), &instance).is_err());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn a_check_that_takes_too_many_steps_refuses() {
    // 60 alternatives at each of 3 levels, none of which holds, on a tiny instance.
    let level = |alternative: fn(usize) -> Value| json!({"anyOf": (0..60).map(alternative).collect::<Vec<_>>()});
    let schemas = json!({
        "s": level(|_| json!({"properties": {"c": {"$ref": "#/$defs/middle"}}})),
        "middle": level(|_| json!({"properties": {"c": {"$ref": "#/$defs/leaf"}}})),
        "leaf": level(|i| json!({"required": [format!("x{i}")]}))
    });
    let schemas = Schemas::build("draft2020-12", schemas.as_object().unwrap().clone(), &["s"]).unwrap();
    let start = Instant::now();
    let violation = schemas.check(schemas.id("s").unwrap(), &json!({"c": {"c": {}}})).unwrap_err();
    assert!(violation.is_exhaustion(), "{violation:?}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn recursion_through_references_works_and_ends() {
    let schemas = json!({
        "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "value": {"$ref": "#/$defs/value"}},
                 "additionalProperties": false},
        "value": {"type": "integer"},
        "loop": {"$ref": "#/$defs/pool"}, "pool": {"$ref": "#/$defs/loop"}
    });
    let schemas = Schemas::build("draft2020-12", schemas.as_object().unwrap().clone(), &["tree", "loop"]).unwrap();
    let tree = schemas.id("tree").unwrap();
    assert!(schemas.check(tree, &json!({"left": {"left": {"value": 1}}})).is_ok());
    let violation = schemas.check(tree, &json!({"left": {"left": {"value": "x"}}})).unwrap_err();
    assert_eq!(violation.instance, "/left/left/value");
    assert_eq!((violation.schema_key.as_str(), violation.schema_path.as_str()), ("value", "/type"));
    assert!(schemas.check(schemas.id("loop").unwrap(), &json!(1)).is_ok());
    assert!(schemas.id("value").is_none(), "only wanted keys have an id");
}

#[test]
fn unevaluated_properties_see_through_references() {
    let schemas = json!({
        "base": {"type": "object", "properties": {"id": {"type": "integer"}}},
        "s": {"allOf": [{"$ref": "#/$defs/base"}], "properties": {"name": {"type": "string"}}, "unevaluatedProperties": false}
    });
    let schemas = Schemas::build("draft2020-12", schemas.as_object().unwrap().clone(), &["s"]).unwrap();
    let id = schemas.id("s").unwrap();
    assert!(schemas.check(id, &json!({"id": 1, "name": "n"})).is_ok());
    let violation = schemas.check(id, &json!({"id": 1, "role": "admin"})).unwrap_err();
    assert_eq!(violation.keyword, "unevaluatedProperties");
}

#[test]
fn violations_tell_where_and_why_without_values() {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 5, "pattern": "^[a-z]+$"},
            "qty": {"type": "integer", "minimum": 1},
            "kind": {"enum": ["x", "y"]},
            "tags": {"type": "array", "uniqueItems": true, "maxItems": 2},
            "choice": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            "a/b": {"type": "null"}
        },
        "additionalProperties": {"type": "boolean"}
    });
    let cases = [
        (json!({"name": "secret"}), "/name: maxLength is 5; got a string of 6 characters"),
        (json!({"name": "SEC"}), "/name: does not match the pattern; got a string of 3 characters"),
        (json!({"name": "a", "qty": -42}), "/qty: minimum is 1; got a number of 3 characters"),
        (json!({"qty": 1}), "required property `name` is missing"),
        (json!({"name": "a", "kind": "secret"}), "/kind: not one of 2 permitted values; got a string of 6 characters"),
        (json!({"name": "a", "tags": [1, 1]}), "/tags: items are not unique; got an array of 2 items"),
        (json!({"name": "a", "choice": []}), "/choice: none of 2 alternatives holds; got an array of 0 items"),
        (json!({"name": "a", "a/b": 1}), "/a~1b: must be null; got a number of 1 character"),
        (json!({"name": "a", "secret": 1}), "/<6 characters>: must be boolean; got a number of 1 character"),
        (json!({"name": "a", "qty": true}), "/qty: must be integer; got a boolean"),
        (json!("secret"), "must be object; got a string of 6 characters"),
    ];
    for dialect in ["draft4", "draft2020-12"] {
        for (instance, evidence) in &cases {
            let violation = check(dialect, schema.clone(), instance.clone()).expect_err(evidence);
            assert_eq!(violation.to_string(), *evidence, "{dialect}");
            assert_eq!(violation.schema_key, "s");
        }
    }
}

#[test]
fn undeclared_properties_are_named_by_length_unless_some_schema_declares_them() {
    let schema = json!({"properties": {"a": {"properties": {"declared": {}}}}, "additionalProperties": false});
    let violation = check("draft4", schema.clone(), json!({"secret": 1})).unwrap_err();
    assert_eq!(violation.evidence, "1 property is not declared: a name of 6 characters");
    assert_eq!(
        (violation.keyword.as_str(), violation.schema_path.as_str()),
        ("additionalProperties", "/additionalProperties")
    );
    let violation = check("draft4", schema, json!({"declared": 1})).unwrap_err();
    assert_eq!(violation.evidence, "1 property is not declared: `declared`");
}

#[test]
fn equality_is_json_schemas() {
    let unique = |items: Value| check("draft2020-12", json!({"uniqueItems": true}), items).is_ok();
    assert!(!unique(json!([1, 1.0])));
    assert!(!unique(json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}])));
    assert!(unique(json!([1, true, "1", null, [1], {"a": 1}, 1.5, 0, false, ""])));
    assert!(unique(json!([u64::MAX, u64::MAX - 1, i64::MAX])));
    assert!(!unique(json!([u64::MAX, 0, u64::MAX])));
    assert!(!unique(json!([0, 1, -0.0])));
    let constant =
        |expected: Value, instance: Value| check("draft2020-12", json!({"const": expected}), instance).is_ok();
    assert!(constant(json!({"a": [1]}), json!({"a": [1.0]})));
    assert!(!constant(json!(false), json!(0)));
    assert!(!constant(json!(9007199254740993_u64), json!(9007199254740992_u64)));
}

#[test]
fn serde_jsons_objects_are_sorted() {
    let value = json!({"b": 1, "a": 2});
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b"], "view::compare relies on it");
}
