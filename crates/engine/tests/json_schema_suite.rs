//! The official JSON-Schema-Test-Suite against what the engine really does: its JSON parser, its schema options
//! (formats asserted, regular expressions in linear time, nothing fetched) and its view of instances.
//!
//! The suite lives in `$STOCKADE_SHARED/json-schema-test-suite`, else in `../shared` beside the repository; without it
//! the test says so and passes. Every case must agree but for those in `KNOWN`, each of which must still disagree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, Registry};
use serde_json::{Map, Value};
use stockade_engine::testing::{Bundle, LoneSchema};

/// Cases that end otherwise than the suite wants, by dialect, file, case and test, with the reason.
const KNOWN: &[(&str, &str, &str)] = &[
    ("draft4", "optional/bignum.json | integer | a bignum is an integer", BEYOND_64_BITS),
    ("draft4", "optional/bignum.json | integer | a negative bignum is an integer", BEYOND_64_BITS),
    ("draft4", "optional/bignum.json | number | a bignum is a number", BEYOND_64_BITS),
    ("draft4", "optional/bignum.json | number | a negative bignum is a number", BEYOND_64_BITS),
    (
        "draft4",
        "optional/bignum.json | minimum integer comparison | comparison works for very negative numbers",
        BEYOND_64_BITS,
    ),
    ("draft2020-12", "optional/bignum.json | integer | a bignum is an integer", BEYOND_64_BITS),
    ("draft2020-12", "optional/bignum.json | integer | a negative bignum is an integer", BEYOND_64_BITS),
    ("draft2020-12", "optional/bignum.json | number | a bignum is a number", BEYOND_64_BITS),
    ("draft2020-12", "optional/bignum.json | number | a negative bignum is a number", BEYOND_64_BITS),
    (
        "draft2020-12",
        "optional/bignum.json | minimum integer comparison | comparison works for very negative numbers",
        BEYOND_64_BITS,
    ),
    ("draft2020-12", "format.json | date format | invalid date string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "format.json | date-time format | invalid date-time string is only an annotation by default",
        ASSERTED,
    ),
    (
        "draft2020-12",
        "format.json | duration format | invalid duration string is only an annotation by default",
        ASSERTED,
    ),
    ("draft2020-12", "format.json | email format | invalid email string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "format.json | hostname format | invalid hostname string is only an annotation by default",
        ASSERTED,
    ),
    (
        "draft2020-12",
        "format.json | idn-email format | invalid idn-email string is only an annotation by default",
        ASSERTED,
    ),
    (
        "draft2020-12",
        "format.json | idn-hostname format | invalid idn-hostname string is only an annotation by default",
        ASSERTED,
    ),
    ("draft2020-12", "format.json | ipv4 format | invalid ipv4 string is only an annotation by default", ASSERTED),
    ("draft2020-12", "format.json | ipv6 format | invalid ipv6 string is only an annotation by default", ASSERTED),
    ("draft2020-12", "format.json | iri format | invalid iri string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "format.json | iri-reference format | invalid iri-reference string is only an annotation by default",
        ASSERTED,
    ),
    (
        "draft2020-12",
        "format.json | json-pointer format | invalid json-pointer string is only an annotation by default",
        ASSERTED,
    ),
    ("draft2020-12", "format.json | regex format | invalid regex string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "format.json | relative-json-pointer format | invalid relative-json-pointer string is only an annotation by default",
        ASSERTED,
    ),
    ("draft2020-12", "format.json | time format | invalid time string is only an annotation by default", ASSERTED),
    ("draft2020-12", "format.json | uri format | invalid uri string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "format.json | uri-reference format | invalid uri-reference string is only an annotation by default",
        ASSERTED,
    ),
    (
        "draft2020-12",
        "format.json | uri-template format | invalid uri-template string is only an annotation by default",
        ASSERTED,
    ),
    ("draft2020-12", "format.json | uuid format | invalid uuid string is only an annotation by default", ASSERTED),
    (
        "draft2020-12",
        "optional/cross-draft.json | refs to historic drafts are processed as historic drafts | first item not a string is valid",
        OTHER_DIALECT,
    ),
];

/// OpenAPI's formats are asserted in both dialects; the suite's default is that they only annotate.
const ASSERTED: &str = "formats are asserted on purpose";
/// See `validate::json`: refused, so that no bound is ever compared with a rounded value.
const BEYOND_64_BITS: &str = "whole numbers beyond 64 bits are refused on purpose";
/// A bundle has one dialect, and the suite's copy here has no document of that draft.
const OTHER_DIALECT: &str = "a bundle has one dialect";

struct Dialect {
    /// The bundle's name for it.
    name: &'static str,
    /// The suite's.
    folder: &'static str,
    draft: Draft,
    /// Cases that agreed when last measured; fewer is a regression.
    floor: usize,
}

#[test]
fn draft_4_agrees_with_the_suite() {
    run(&Dialect { name: "draft4", folder: "draft4", draft: Draft::Draft4, floor: 932 });
}

#[test]
fn draft_2020_12_agrees_with_the_suite() {
    run(&Dialect { name: "draft2020-12", folder: "draft2020-12", draft: Draft::Draft202012, floor: 2200 });
}

fn run(dialect: &Dialect) {
    let Some(root) = suite() else {
        println!("skipped: JSON-Schema-Test-Suite is not here (set STOCKADE_SHARED)");
        return;
    };
    let remotes = remotes(&root.join("remotes"), dialect);
    let registry = Registry::new()
        .draft(dialect.draft)
        .extend(remotes.iter().map(|(uri, document)| (uri.as_str(), document)))
        .and_then(|builder| builder.prepare())
        .expect("the suite's remotes load");
    let mut outcome = Outcome::default();
    for file in files(&root.join("tests").join(dialect.folder)) {
        run_file(dialect, &root, &file, &registry, &mut outcome);
    }
    println!("{}: {} of {} agree", dialect.name, outcome.agreed, outcome.total);
    for (_, test, reason) in KNOWN.iter().filter(|(name, ..)| *name == dialect.name) {
        println!("{}: otherwise on purpose: {test}: {reason}", dialect.name);
    }
    let known: BTreeSet<String> =
        KNOWN.iter().filter(|(name, ..)| *name == dialect.name).map(|(_, test, _)| (*test).to_owned()).collect();
    let unexpected: Vec<_> = outcome.disagreed.difference(&known).collect();
    let mended: Vec<_> = known.difference(&outcome.disagreed).collect();
    assert!(unexpected.is_empty(), "disagree: {unexpected:#?}");
    assert!(mended.is_empty(), "agree now, take them off the list: {mended:#?}");
    assert!(outcome.agreed >= dialect.floor, "{} agreed, {} before", outcome.agreed, dialect.floor);
}

#[derive(Default)]
struct Outcome {
    total: usize,
    agreed: usize,
    disagreed: BTreeSet<String>,
}

fn run_file(dialect: &Dialect, root: &Path, file: &Path, registry: &Registry<'_>, outcome: &mut Outcome) {
    let name = file.strip_prefix(root.join("tests").join(dialect.folder)).expect("inside the suite").display();
    let file = fs::read_to_string(file).expect("readable");
    let cases: Value = serde_json::from_str(&file).expect("JSON");
    let mut instances = instances(&file).into_iter();
    for case in cases.as_array().expect("a list of cases") {
        let schema = &case["schema"];
        let built = LoneSchema::build(dialect.name, schema, registry);
        let bundled = bundled(dialect, schema);
        for test in case["tests"].as_array().expect("a list of tests") {
            let title = format!("{name} | {} | {}", text(&case["description"]), text(&test["description"]));
            let wanted = test["valid"].as_bool().expect("a boolean");
            let instance = instances.next().expect("a text for each test");
            // What the parser refuses is refused; a schema that cannot be built agrees with nothing.
            let refused = |evidence: String| println!("{}: {title}: {evidence}", dialect.name);
            let accepts = |schema: &LoneSchema| schema.accepts(instance.as_bytes()).map_err(refused).unwrap_or(false);
            let answer = built.as_ref().map(accepts);
            if let Some(bundle) = &bundled {
                let key = bundle.key("case").expect("wanted");
                let same = bundle.check(key, instance.as_bytes()).is_ok();
                assert_eq!(answer == Ok(true), same, "{title}: alone and in a bundle differ");
            }
            outcome.total += 1;
            if answer == Ok(wanted) {
                outcome.agreed += 1;
            } else {
                println!("{}: {title}: wanted {wanted}, got {answer:?}", dialect.name);
                outcome.disagreed.insert(title);
            }
        }
    }
}

/// The same schema as a bundle holds it, where it is one that a bundle could hold: without identifiers and references.
fn bundled(dialect: &Dialect, schema: &Value) -> Option<Bundle> {
    let text = schema.to_string();
    let plain = !["\"$ref\"", "\"$id\"", "\"id\"", "\"$dynamicRef\"", "\"$anchor\"", "\"$dynamicAnchor\""]
        .iter()
        .any(|keyword| text.contains(keyword));
    let schemas = Map::from_iter([("case".to_owned(), schema.clone())]);
    plain.then(|| Bundle::build(dialect.name, schemas, &["case"]).ok()).flatten()
}

/// The texts of all `data` members of all tests, in order, as they stand in the file: a value that has been parsed
/// and written again would have lost what makes a large number interesting.
fn instances(file: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for case in elements(file.trim()) {
        let tests = members(case).into_iter().find(|(name, _)| *name == "tests").expect("tests").1;
        for test in elements(tests) {
            found.push(members(test).into_iter().find(|(name, _)| *name == "data").expect("data").1);
        }
    }
    found
}

fn elements(array: &str) -> Vec<&str> {
    split(array)
}

fn members(object: &str) -> Vec<(&str, &str)> {
    let member = |text| {
        let (name, value) = split_top(text, ':').expect("a name and a value");
        (name.trim().trim_matches('"'), value.trim())
    };
    split(object).into_iter().map(member).collect()
}

/// The pieces between the top-level commas of a bracketed text.
fn split(bracketed: &str) -> Vec<&str> {
    let mut rest = bracketed[1..bracketed.len() - 1].trim();
    let mut pieces = Vec::new();
    while let Some((piece, after)) = split_top(rest, ',') {
        pieces.push(piece.trim());
        rest = after;
    }
    if !rest.trim().is_empty() {
        pieces.push(rest.trim());
    }
    pieces
}

/// Splits at the first `separator` outside of strings and brackets.
fn split_top(text: &str, separator: char) -> Option<(&str, &str)> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ if depth == 0 && character == separator => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn suite() -> Option<PathBuf> {
    let shared = std::env::var_os("STOCKADE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let root = shared.join("json-schema-test-suite");
    root.is_dir().then_some(root)
}

/// Every JSON file below `folder`, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found
}

/// The documents that the suite expects under `http://localhost:1234/`; those of other drafts left out.
fn remotes(folder: &Path, dialect: &Dialect) -> Vec<(String, Value)> {
    files(folder)
        .into_iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(folder).ok()?.to_str()?.replace('\\', "/");
            let foreign =
                relative.starts_with("v1/") || (relative.starts_with("draft") && !relative.starts_with(dialect.folder));
            let document = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            (!foreign).then(|| (format!("http://localhost:1234/{relative}"), document))
        })
        .collect()
}
