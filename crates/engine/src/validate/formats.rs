//! `format` as an assertion, the same names in both dialects.
//!
//! JSON Schema's formats are the validator crate's own; draft 4 gets the later ones too (`uuid`, `duration` …), since
//! OpenAPI 3.0 descriptions use them. OpenAPI's number formats constrain numbers, not strings, which the crate's
//! custom formats cannot do; so the whole keyword is taken over here. An unknown format constrains nothing.

use std::sync::LazyLock;

use ahash::AHashMap;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use jsonschema::json::Node as _;
use jsonschema::paths::Location;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::schema::Options;
use super::view::{View, ViewNode};

/// Formats that the validator crate knows.
const STANDARD_FORMATS: &[&str] = &[
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// Whole numbers of a fixed width: the OpenAPI format registry.
const INTEGER_FORMATS: &[(&str, i128, i128)] = &[
    ("int8", i8::MIN as i128, i8::MAX as i128),
    ("int16", i16::MIN as i128, i16::MAX as i128),
    ("int32", i32::MIN as i128, i32::MAX as i128),
    ("int64", i64::MIN as i128, i64::MAX as i128),
    ("uint8", 0, u8::MAX as i128),
    ("uint16", 0, u16::MAX as i128),
    ("uint32", 0, u32::MAX as i128),
    ("uint64", 0, u64::MAX as i128),
];

/// Takes the `format` keyword over.
pub(super) fn with_formats(options: Options<'_>, draft: Draft) -> Options<'_> {
    let checks: &'static AHashMap<&'static str, Check> = match draft {
        Draft::Draft4 => &DRAFT4,
        _ => &DRAFT202012,
    };
    options.with_keyword("format", move |_: &Map<String, Value>, format: &Value, _: Location| {
        let Some(name) = format.as_str() else {
            return Err(ValidationError::schema("`format` is not a string"));
        };
        let keyword: Box<dyn for<'i> Keyword<'i, View>> = match checks.get_key_value(name) {
            Some((name, check)) => Box::new(Format { name, check }),
            None => Box::new(Format { name: "", check: &Check::Nothing }),
        };
        Ok(keyword)
    })
}

static DRAFT4: LazyLock<AHashMap<&'static str, Check>> = LazyLock::new(|| checks(Draft::Draft4));
static DRAFT202012: LazyLock<AHashMap<&'static str, Check>> = LazyLock::new(|| checks(Draft::Draft202012));

enum Check {
    Nothing,
    /// Numbers must be whole and in the range; anything else passes.
    Integer(i128, i128),
    /// Numbers must be in the range of an IEEE single.
    Single,
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5, with or without padding.
    Base64Url,
    Standard(Validator<View>),
}

fn checks(draft: Draft) -> AHashMap<&'static str, Check> {
    let mut checks: AHashMap<&'static str, Check> =
        STANDARD_FORMATS.iter().filter_map(|name| Some((*name, Check::Standard(standard(draft, name)?)))).collect();
    checks.extend(INTEGER_FORMATS.iter().map(|(name, least, most)| (*name, Check::Integer(*least, *most))));
    checks.extend([("float", Check::Single), ("byte", Check::Base64), ("base64url", Check::Base64Url)]);
    checks
}

fn standard(draft: Draft, name: &str) -> Option<Validator<View>> {
    let options = || jsonschema::options_for::<View>().should_validate_formats(true).offline();
    let draft = if options().is_known_format(draft, name) { draft } else { Draft::Draft202012 };
    options().with_draft(draft).build(&json!({"format": name})).ok()
}

struct Format {
    name: &'static str,
    check: &'static Check,
}

impl<'i> Keyword<'i, View> for Format {
    fn validate(&self, instance: ViewNode<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<View>::is_valid(self, instance) { Ok(()) } else { Err(ValidationError::custom(self.name)) }
    }

    fn is_valid(&self, instance: ViewNode<'i>) -> bool {
        match self.check {
            Check::Nothing => true,
            Check::Standard(validator) => !instance.is_string() || validator.is_valid(instance),
            Check::Integer(least, most) => {
                instance.as_number().is_none_or(|number| whole(number).is_some_and(|n| (*least..=*most).contains(&n)))
            }
            Check::Single => instance
                .as_number()
                .and_then(serde_json::Number::as_f64)
                .is_none_or(|number| number.abs() <= f64::from(f32::MAX)),
            Check::Base64 => instance.as_string().is_none_or(|text| decodes(&STANDARD, &text)),
            Check::Base64Url => instance.as_string().is_none_or(|text| decodes(&URL_SAFE, &text)),
        }
    }
}

/// The exact whole number, however it is written.
fn whole(number: &serde_json::Number) -> Option<i128> {
    super::view::integer(number)
}

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Whether `text` is base64, decoded by pieces so that a large text costs no memory.
fn decodes(engine: &GeneralPurpose, text: &str) -> bool {
    const PIECE: usize = 1024;
    let mut buffer = [0; PIECE];
    let pieces = text.as_bytes().chunks(PIECE);
    let last = pieces.len().saturating_sub(1);
    text.as_bytes().chunks(PIECE).enumerate().all(|(index, piece)| {
        let padded = piece.contains(&b'=');
        (index == last || !padded) && engine.decode_slice(piece, &mut buffer).is_ok()
    })
}
