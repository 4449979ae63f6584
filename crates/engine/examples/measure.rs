//! What validation costs: µs a request for a 250-byte JSON body, and building a large description's schemas.
//!
//! `cargo run --release -p stockade-engine --example measure [SCHEMAS.json]`, where the file is
//! `{"dialect": "draft4", "schemas": {…}, "wanted": ["key", …]}` with every `$ref` as `#/$defs/<key>`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use stockade_engine::testing::{Bundle, parse};

const ROUNDS: u32 = 200_000;

fn main() {
    for dialect in ["draft4", "draft2020-12"] {
        requests(dialect);
    }
    if let Some(path) = std::env::args().nth(1) {
        description(&path);
    }
}

fn requests(dialect: &str) {
    let bundle = Bundle::build(dialect, schemas(), &["order"]).expect("the schema is sound");
    let key = bundle.key("order").expect("wanted");
    let body = body();
    let text = body.as_bytes();
    bundle.check(key, text).expect("the body is valid");
    let invalid = body.replace("\"quantity\":2", "\"quantity\":0");
    let parsing = time(|| black_box(parse(black_box(text))).is_ok());
    let both = time(|| bundle.check(key, black_box(text)).is_ok());
    let failing = time(|| bundle.check(key, black_box(invalid.as_bytes())).is_err());
    println!(
        "{dialect}: {} bytes: parse {:.2} µs, parse and validate {:.2} µs, refuse {:.2} µs",
        text.len(),
        micros(parsing),
        micros(both),
        micros(failing)
    );
}

/// The best of five, a round.
fn time(mut work: impl FnMut() -> bool) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert!(work());
        }
        best = best.min(start.elapsed() / ROUNDS);
    }
    best
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

fn description(path: &str) {
    let text = std::fs::read(path).expect("the file is readable");
    let mut document: Value = serde_json::from_slice(&text).expect("the file is JSON");
    let dialect = document["dialect"].as_str().unwrap_or("draft4").to_owned();
    let wanted: Vec<String> = serde_json::from_value(document["wanted"].take()).expect("a list of keys");
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let Value::Object(schemas) = document["schemas"].take() else { panic!("`schemas` is an object") };
    let (count, before, start) = (schemas.len(), resident_mb(), Instant::now());
    let bundle = Bundle::build(&dialect, schemas, &wanted).expect("the schemas are sound");
    let (elapsed, after) = (start.elapsed(), resident_mb());
    println!(
        "{path}: {count} schemas, {} wanted: {:.0} ms, {:.0} µs each, resident {before:.0} MB before and {after:.0} MB after",
        wanted.len(),
        micros(elapsed) / 1000.0,
        micros(elapsed) / wanted.len() as f64
    );
    drop(bundle);
}

/// Linux only; 0 elsewhere.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |kilobytes| kilobytes / 1024.0)
}

fn schemas() -> Map<String, Value> {
    let schemas = json!({
        "order": {
            "type": "object",
            "required": ["customer_id", "items", "currency"],
            "properties": {
                "customer_id": {"type": "string", "format": "uuid"},
                "currency": {"enum": ["EUR", "USD", "CHF"]},
                "items": {"type": "array", "minItems": 1, "maxItems": 50, "items": {"$ref": "#/$defs/item"}},
                "note": {"type": "string", "maxLength": 200},
                "express": {"type": "boolean"}
            },
            "additionalProperties": false
        },
        "item": {
            "type": "object",
            "required": ["sku", "quantity"],
            "properties": {
                "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
                "quantity": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 999},
                "price": {"type": "number", "minimum": 0}
            },
            "additionalProperties": false
        }
    });
    schemas.as_object().cloned().unwrap_or_default()
}

fn body() -> String {
    json!({
        "customer_id": "7f3d9a52-1c0b-4f7e-9d27-5a1b2c3d4e5f",
        "currency": "EUR",
        "items": [
            {"sku": "ABC-1234", "quantity": 2, "price": 19.99},
            {"sku": "XYZ-9876", "quantity": 1, "price": 5},
            {"sku": "QQQ-0001", "quantity": 12}
        ],
        "note": "please ring twice",
        "express": true
    })
    .to_string()
}
