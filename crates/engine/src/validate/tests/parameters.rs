use serde_json::json;

use super::*;

const NONE: Ignored<'static> = Ignored { query: &[], cookies: &[] };

type HeaderList = Vec<(String, Vec<u8>)>;

/// The reason that one parameter of `schema` refuses with, for a query.
fn query(schema: Value, spec: Value, query: &str) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let params = [parameter(&schemas, spec)];
    run(&params, &schemas, &[], query, &Vec::new())
}

fn path(schema: Value, spec: Value, value: &str) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let mut spec = spec;
    spec["in"] = json!("path");
    spec["required"] = json!(true);
    let params = [parameter(&schemas, spec)];
    run(&params, &schemas, &[("p", value)], "", &Vec::new())
}

fn header(schema: Value, spec: Value, values: &[&str]) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let mut spec = spec;
    spec["in"] = json!("header");
    spec["name"] = json!("X-P");
    spec["style"] = json!("simple");
    let params = [parameter(&schemas, spec)];
    let headers: HeaderList = values.iter().map(|value| ("x-p".to_owned(), value.as_bytes().to_vec())).collect();
    run(&params, &schemas, &[], "", &headers)
}

fn cookie(schema: Value, spec: Value, values: &[&str]) -> Result<(), &'static str> {
    let schemas = one("draft2020-12", schema);
    let mut spec = spec;
    spec["in"] = json!("cookie");
    let params = [parameter(&schemas, spec)];
    let headers: HeaderList = values.iter().map(|value| ("cookie".to_owned(), value.as_bytes().to_vec())).collect();
    run(&params, &schemas, &[], "", &headers)
}

fn run(
    params: &[ParameterSpec],
    schemas: &Schemas,
    path: &[(&str, &str)],
    query: &str,
    headers: &HeaderList,
) -> Result<(), &'static str> {
    validate_parameters(params, true, path, Some(query), headers, schemas, &sizes(), NONE)
        .map_err(|refusal| refusal.reason.name())
}

const INVALID: Result<(), &str> = Err("parameter_invalid");
const MALFORMED: Result<(), &str> = Err("parameter_malformed");
const DUPLICATED: Result<(), &str> = Err("parameter_duplicated");
const MISSING: Result<(), &str> = Err("parameter_missing");
const UNKNOWN: Result<(), &str> = Err("parameter_unknown");

fn integers() -> Value {
    json!({"types": ["array"], "items": {"types": ["integer"]}})
}

fn color() -> Value {
    json!({"types": ["object"], "properties": {"R": {"types": ["integer"]}, "G": {"types": ["integer"]}}})
}

/// Exactly `{"R": 100, "G": 200}`.
fn exactly_color() -> Value {
    json!({"const": {"R": 100, "G": 200}})
}

fn exactly(value: Value) -> Value {
    json!({"const": value})
}

#[test]
fn scalars_are_read_as_their_types() {
    let cases = [
        ("integer", "5", json!(5)),
        ("integer", "-5", json!(-5)),
        ("number", "5", json!(5)),
        ("number", "1.50", json!(1.5)),
        ("number", "1e2", json!(100.0)),
        ("boolean", "true", json!(true)),
        ("string", "5", json!("5")),
        ("string", "", json!("")),
        ("null", "", json!(null)),
    ];
    for (kind, text, value) in cases {
        let spec = json!({"decode": {"types": [kind]}});
        assert_eq!(query(exactly(value.clone()), spec, &format!("p={text}")), Ok(()), "{kind} {text}");
    }
    for (kind, text) in [
        ("integer", "5.0"),
        ("integer", "05"),
        ("integer", "%2B5"),
        ("integer", ""),
        ("integer", "5+"),
        ("integer", "0x1"),
        ("integer", "99999999999999999999"),
        ("integer", "٣"),
        ("number", "1."),
        ("number", ".5"),
        ("number", "NaN"),
        ("number", "1e999"),
        ("number", "1e2e3"),
        ("boolean", "True"),
        ("boolean", "1"),
    ] {
        let spec = json!({"decode": {"types": [kind]}});
        assert_eq!(query(json!({"type": kind}), spec, &format!("p={text}")), INVALID, "{kind} {text}");
    }
}

#[test]
fn the_next_type_is_tried_where_the_schema_refuses_the_first() {
    let schema = json!({"anyOf": [{"type": "integer", "maximum": 9}, {"type": "string", "minLength": 3}]});
    let spec = json!({"decode": {"types": ["integer", "string"]}});
    assert_eq!(query(schema.clone(), spec.clone(), "p=5"), Ok(()));
    assert_eq!(query(schema.clone(), spec.clone(), "p=555"), Ok(()));
    assert_eq!(query(schema.clone(), spec.clone(), "p=55"), INVALID);
    let list = json!({"type": "array", "items": schema});
    let spec = json!({"decode": {"types": ["array"], "items": {"types": ["integer", "string"]}}});
    assert_eq!(query(list.clone(), spec.clone(), "p=5&p=555&p=abc&p=777"), Ok(()));
    assert_eq!(query(list, spec, "p=5&p=55"), INVALID);
}

#[test]
fn query_arrays_in_every_style() {
    let expected = || exactly(json!([3, 4, 5]));
    for (style, explode, text) in [
        ("form", true, "p=3&p=4&p=5"),
        ("form", false, "p=3,4,5"),
        ("form", false, "p=3%2C4%2C5"),
        ("spaceDelimited", false, "p=3%204%205"),
        ("spaceDelimited", false, "p=3+4+5"),
        ("spaceDelimited", true, "p=3&p=4&p=5"),
        ("pipeDelimited", false, "p=3|4|5"),
        ("pipeDelimited", false, "p=3%7C4%7c5"),
    ] {
        let spec = json!({"style": style, "explode": explode, "decode": integers()});
        assert_eq!(query(expected(), spec, text), Ok(()), "{style} {explode} {text}");
    }
    let spec = json!({"explode": false, "decode": integers()});
    assert_eq!(query(expected(), spec.clone(), "p=3,4,5&p=6"), DUPLICATED);
    assert_eq!(query(exactly(json!([])), spec, "p="), Ok(()));
    // An encoded comma beside bare ones is data.
    let spec = json!({"explode": false, "decode": {"types": ["array"], "items": {"types": ["string"]}}});
    assert_eq!(query(exactly(json!(["a,b", "c"])), spec, "p=a%2Cb,c"), Ok(()));
}

#[test]
fn query_objects_in_every_style() {
    for (style, explode, text) in [
        ("form", true, "R=100&G=200"),
        ("form", false, "p=R,100,G,200"),
        ("spaceDelimited", false, "p=R%20100%20G%20200"),
        ("pipeDelimited", false, "p=R|100|G|200"),
        ("deepObject", true, "p[R]=100&p%5BG%5D=200"),
    ] {
        let spec = json!({"style": style, "explode": explode, "decode": color()});
        assert_eq!(query(exactly_color(), spec.clone(), text), Ok(()), "{style} {explode} {text}");
        assert_eq!(query(exactly_color(), spec, &format!("{text}&x=1")), UNKNOWN, "{style} {explode}");
    }
    let deep = |text| query(exactly_color(), json!({"style": "deepObject", "decode": color()}), text);
    assert_eq!(deep("p[R]=100&p[R]=100&p[G]=200"), DUPLICATED);
    assert_eq!(deep("p[R]=100&p[G]=200&p[B]=1"), INVALID);
    assert_eq!(deep("p[R=100"), UNKNOWN);
    assert_eq!(deep("p[]=100"), UNKNOWN);
    assert_eq!(query(exactly_color(), json!({"explode": false, "decode": color()}), "p=R,100,G"), INVALID);
    assert_eq!(query(exactly_color(), json!({"explode": false, "decode": color()}), "p=R,1,R,2"), DUPLICATED);
    assert_eq!(query(exactly_color(), json!({"decode": color()}), "R=100&R=1&G=200"), DUPLICATED);
}

#[test]
fn deep_objects_nest_and_hold_arrays() {
    let decode = json!({"types": ["object"], "properties": {
        "a": {"types": ["object"], "properties": {"b": {"types": ["integer"]}}},
        "c": {"types": ["array"], "items": {"types": ["integer"]}}
    }});
    let expected = exactly(json!({"a": {"b": 1}, "c": [2, 3]}));
    let spec = json!({"style": "deepObject", "decode": decode});
    assert_eq!(query(expected.clone(), spec.clone(), "p[a][b]=1&p[c]=2&p[c]=3"), Ok(()));
    assert_eq!(query(expected.clone(), spec.clone(), "p[a][b]=1&p[c][]=2&p[c][]=3"), Ok(()));
    assert_eq!(query(expected, spec, "p[a]=1&p[a][b]=1"), DUPLICATED);
}

#[test]
fn free_properties_of_an_exploded_object_leave_other_parameters_alone() {
    let schemas = one("draft2020-12", json!({}));
    let params = [
        parameter(
            &schemas,
            json!({"name": "filter", "decode": {"types": ["object"], "additional": {"types": ["string"]}}}),
        ),
        parameter(&schemas, json!({"name": "limit", "decode": {"types": ["integer"]}})),
    ];
    assert_eq!(run(&params, &schemas, &[], "anything=1&limit=5", &Vec::new()), Ok(()));
    assert_eq!(run(&params, &schemas, &[], "limit=5&limit=6", &Vec::new()), DUPLICATED);
}

#[test]
fn unknown_missing_duplicated_and_empty_query_parameters() {
    let schema = || json!({"type": "string", "minLength": 1});
    assert_eq!(query(schema(), json!({}), "q=1"), UNKNOWN);
    assert_eq!(query(schema(), json!({}), "P=1"), UNKNOWN);
    assert_eq!(query(schema(), json!({}), ""), Ok(()));
    assert_eq!(query(schema(), json!({"required": true}), ""), MISSING);
    assert_eq!(query(schema(), json!({"required": true}), "&&p=1&"), Ok(()));
    assert_eq!(query(schema(), json!({}), "p=1&p=1"), DUPLICATED);
    assert_eq!(query(schema(), json!({}), "p"), INVALID);
    assert_eq!(query(schema(), json!({"allow_empty_value": true}), "p="), Ok(()));
    assert_eq!(query(schema(), json!({"allow_empty_value": true}), "p"), Ok(()));
    assert_eq!(query(schema(), json!({"allow_empty_value": true}), "p=&p="), DUPLICATED);
    // The same parameter under an encoded name is the same parameter.
    assert_eq!(query(schema(), json!({}), "p=1&%70=2"), DUPLICATED);
}

#[test]
fn unknown_query_parameters_pass_where_allowed_but_not_malformed() {
    let schemas = one("draft4", json!({}));
    let validate = |query| {
        validate_parameters(&[], false, &[], Some(query), &Vec::new(), &schemas, &sizes(), NONE)
            .map_err(|refusal| refusal.reason.name())
    };
    assert_eq!(validate("a=1&a=2"), Ok(()));
    assert_eq!(validate("a=%zz"), MALFORMED);
    assert_eq!(validate("a=%00"), MALFORMED);
}

#[test]
fn credentials_are_neither_unknown_nor_validated() {
    let schemas = one("draft4", json!({}));
    let ignored = Ignored { query: &["api_key"], cookies: &["session"] };
    let validate = |query| validate_parameters(&[], true, &[], Some(query), &Vec::new(), &schemas, &sizes(), ignored);
    assert!(validate("api_key=x").is_ok());
    assert!(validate("api_key2=x").is_err());
}

#[test]
fn text_is_decoded_once_and_controls_are_refused() {
    let one_text = |text: &str| exactly(json!(text));
    assert_eq!(query(one_text("a b+c%20"), json!({}), "p=a+b%2Bc%2520"), Ok(()));
    assert_eq!(query(one_text("a&b=c"), json!({}), "p=a%26b%3Dc"), Ok(()));
    assert_eq!(query(one_text("a=b"), json!({}), "p=a=b"), Ok(()));
    assert_eq!(query(one_text("a\tb\r\n"), json!({}), "p=a%09b%0D%0A"), Ok(()));
    for bad in ["p=%", "p=%4", "p=%gg", "p=%ff", "p=%c0%80", "p=%00", "p=a%1b", "p=%7f", "%00=1", "p=1&%zz=1"] {
        assert_eq!(query(json!({}), json!({}), bad), MALFORMED, "{bad}");
    }
    assert_eq!(path(one_text("a+b c"), json!({"style": "simple"}), "a+b%20c"), Ok(()));
    assert_eq!(path(one_text("a/b"), json!({"style": "simple"}), "a%2Fb"), Ok(()));
    for bad in ["%0a", "a%00", "%"] {
        assert_eq!(path(json!({}), json!({"style": "simple"}), bad), MALFORMED, "{bad}");
    }
}

#[test]
fn path_values_in_every_style() {
    let list = || exactly(json!([3, 4, 5]));
    for (style, explode, text) in [
        ("simple", false, "3,4,5"),
        ("simple", true, "3,4,5"),
        ("label", false, ".3,4,5"),
        ("label", true, ".3.4.5"),
        ("matrix", false, ";p=3,4,5"),
        ("matrix", true, ";p=3;p=4;p=5"),
    ] {
        let spec = json!({"style": style, "explode": explode, "decode": integers()});
        assert_eq!(path(list(), spec, text), Ok(()), "{style} {explode} {text}");
    }
    for (style, explode, text) in [
        ("simple", false, "R,100,G,200"),
        ("simple", true, "R=100,G=200"),
        ("label", false, ".R,100,G,200"),
        ("label", true, ".R=100.G=200"),
        ("matrix", false, ";p=R,100,G,200"),
        ("matrix", true, ";R=100;G=200"),
    ] {
        let spec = json!({"style": style, "explode": explode, "decode": color()});
        assert_eq!(path(exactly_color(), spec, text), Ok(()), "{style} {explode} {text}");
    }
    for (style, text) in [("simple", "5"), ("label", ".5"), ("matrix", ";p=5")] {
        let spec = json!({"style": style, "decode": {"types": ["integer"]}});
        assert_eq!(path(exactly(json!(5)), spec.clone(), text), Ok(()), "{style}");
        assert!(path(exactly(json!(5)), spec, "x5").is_err(), "{style}");
    }
    assert_eq!(path(json!({}), json!({"style": "label"}), "5"), MALFORMED);
    assert_eq!(path(json!({}), json!({"style": "matrix"}), ";q=5"), MALFORMED);
    // Delimiters count where they stand unencoded.
    let spec = json!({"style": "simple", "decode": {"types": ["array"]}});
    assert_eq!(path(exactly(json!(["a,b", "c"])), spec, "a%2Cb,c"), Ok(()));
}

#[test]
fn headers_are_lists_or_single_and_never_percent_decoded() {
    assert_eq!(header(exactly(json!("a%20b")), json!({}), &["a%20b"]), Ok(()));
    assert_eq!(header(exactly(json!(5)), json!({"decode": {"types": ["integer"]}}), &[" 5 "]), Ok(()));
    assert_eq!(header(json!({}), json!({}), &["a", "a"]), DUPLICATED);
    assert_eq!(
        header(exactly(json!([3, 4, 5])), json!({"explode": false, "decode": integers()}), &["3, 4", "5"]),
        Ok(())
    );
    assert_eq!(header(exactly_color(), json!({"explode": false, "decode": color()}), &["R,100,G,200"]), Ok(()));
    assert_eq!(header(exactly_color(), json!({"explode": true, "decode": color()}), &["R=100, G=200"]), Ok(()));
    assert_eq!(header(json!({}), json!({"required": true}), &[]), MISSING);
    assert_eq!(header(json!({"maxLength": 1}), json!({}), &["ab"]), INVALID);
}

#[test]
fn accept_content_type_and_authorization_are_not_header_parameters() {
    let schemas = one("draft4", json!({"maxLength": 0}));
    for name in ["Accept", "Content-Type", "AUTHORIZATION"] {
        let params = [parameter(&schemas, json!({"in": "header", "name": name, "style": "simple", "required": true}))];
        assert_eq!(run(&params, &schemas, &[], "", &Vec::new()), Ok(()), "{name}");
    }
}

#[test]
fn header_bytes_that_are_no_text_are_refused() {
    let schemas = one("draft4", json!({}));
    let params = [parameter(&schemas, json!({"in": "header", "name": "X-P", "style": "simple"}))];
    let headers: HeaderList = vec![("x-p".to_owned(), b"\xff".to_vec())];
    assert_eq!(run(&params, &schemas, &[], "", &headers), MALFORMED);
}

#[test]
fn cookies_by_name() {
    assert_eq!(cookie(exactly(json!(5)), json!({"decode": {"types": ["integer"]}}), &["a=1; p=5;b"]), Ok(()));
    assert_eq!(cookie(exactly(json!("x y")), json!({}), &["p=x%20y"]), Ok(()));
    assert_eq!(cookie(exactly(json!("100%")), json!({}), &["p=100%"]), Ok(()));
    assert_eq!(cookie(exactly(json!("q")), json!({}), &["p=\"q\""]), Ok(()));
    assert_eq!(cookie(exactly(json!([3, 4])), json!({"explode": false, "decode": integers()}), &["p=3,4"]), Ok(()));
    assert_eq!(cookie(json!({}), json!({}), &["p=1; p=2"]), DUPLICATED);
    assert_eq!(cookie(json!({}), json!({}), &["p=1", "p=2"]), DUPLICATED);
    assert_eq!(cookie(json!({}), json!({"required": true}), &["q=1"]), MISSING);
    assert_eq!(cookie(json!({"maxLength": 1}), json!({}), &["p=abc"]), INVALID);
    assert_eq!(cookie(json!({}), json!({}), &["p=%00"]), MALFORMED);
}

#[test]
fn content_parameters_are_documents() {
    let spec = || json!({"content": "application/json"});
    let schema = || json!({"type": "object", "required": ["a"]});
    assert_eq!(query(schema(), spec(), "p=%7B%22a%22%3A1%7D"), Ok(()));
    assert_eq!(query(schema(), spec(), "p={\"a\":1}"), Ok(()));
    assert_eq!(query(schema(), spec(), "p={}"), INVALID);
    for bad in ["p={", "p=", "p={\"a\":1,\"a\":2}", "p=[[[[[[[[[1]]]]]]]]]"] {
        assert_eq!(query(schema(), spec(), bad), MALFORMED, "{bad}");
    }
    assert_eq!(query(schema(), spec(), "p={\"a\":1}&p={\"a\":1}"), DUPLICATED);
    assert_eq!(query(json!({"maxLength": 2}), json!({"content": "text/plain"}), "p=abc"), INVALID);
    assert_eq!(path(schema(), json!({"content": "application/json"}), "%7B%22a%22:1%7D"), Ok(()));
}

#[test]
fn the_number_of_parameters_is_bounded() {
    let many = |count: usize| (0..count).map(|_| "p=1").collect::<Vec<_>>().join("&");
    let spec = || json!({"decode": integers()});
    assert_eq!(query(json!({}), spec(), &many(20)), Ok(()));
    assert_eq!(query(json!({}), spec(), &many(21)), MALFORMED);
    let crumbs = (0..21).map(|i| format!("c{i}=1")).collect::<Vec<_>>().join("; ");
    assert_eq!(cookie(json!({}), json!({}), &[&crumbs]), MALFORMED);
    assert_eq!(
        query(json!({}), json!({"explode": false, "decode": integers()}), &format!("p={}", "1,".repeat(1001))),
        MALFORMED
    );
}

#[test]
fn refusals_point_at_the_parameter_and_hold_no_value() {
    let schemas = one("draft4", json!({"type": "integer"}));
    let params = [parameter(&schemas, json!({"decode": {"types": ["integer"]}}))];
    let refuse = |query| {
        validate_parameters(&params, true, &[], Some(query), &Vec::new(), &schemas, &sizes(), NONE).expect_err(query)
    };
    let refusal = refuse("p=secret");
    assert_eq!(refusal.pointer.as_deref(), Some("/p"));
    assert_eq!(refusal.evidence, "query parameter `p`: must be integer; got a string of 6 characters");
    assert_eq!(refusal.violation.map(|violation| violation.keyword).as_deref(), Some("type"));
    assert_eq!(refuse("secret=1").evidence, "a query parameter with a name of 6 characters is not declared");
}

#[test]
fn a_bundle_that_makes_no_sense_is_refused() {
    let schemas = one("draft4", json!({}));
    for bad in [
        json!({"in": "body"}),
        json!({"style": "matrix"}),
        json!({"in": "path", "style": "form"}),
        json!({"schema": "t"}),
        json!({"content": "json"}),
        json!({"in": "header", "style": "deepObject"}),
    ] {
        let mut spec = json!({
            "name": "p", "in": "query", "required": false, "style": "form", "explode": true, "allow_reserved": false,
            "allow_empty_value": false, "content": null, "schema": "s", "decode": null, "pointer": "/p"
        });
        for (name, value) in bad.as_object().unwrap() {
            spec[name] = value.clone();
        }
        assert!(ParameterSpec::build(serde_json::from_value(spec).unwrap(), &schemas).is_err(), "{bad}");
    }
}
