//! `multipart/form-data` bodies (RFC 7578 over RFC 2046): one object, each part a property.
//!
//! Strict, since parsers differ on everything else: CRLF only, nothing before the first boundary, nothing but one CRLF
//! after the last, no folded headers, no `filename*`, no backslash in a name or file name (half of the parsers take it
//! as an escape), and the boundary nowhere but where a part ends (RFC 2046 §5.1.1; some readers split at a bare line feed,
//! some wherever it stands). A part is JSON, text or bytes by its `Content-Type`; without one, what has a file name is bytes,
//! and else what the description makes of it.
//! Bytes appear to the schema as a string of as many characters (`format: binary` accepts any).

use memchr::memmem::Finder;

use super::content::{ContentSpec, decode_of, json_reading, judge_object, latin1, read_text, string_reading};
use super::decode::{Decode, Reading, Type};
use super::form::Field;
use super::media_type::{MediaType, is_token, parameters};
use super::style::name_of_length;
use super::{Refusal, Schemas, Sizes};
use crate::decision::Reason;

const MAX_PART_HEADER_BYTES: usize = 8192;
const MAX_PART_HEADERS: usize = 16;

/// Reads the parts and checks their object.
pub(super) fn validate_multipart(
    content: &ContentSpec,
    content_type: Option<&[u8]>,
    body: &[u8],
    schemas: &Schemas,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let media = content_type.and_then(MediaType::parse);
    let boundary = media.as_ref().and_then(|media| media.parameter("boundary")).filter(|text| is_boundary(text));
    let boundary = boundary.ok_or_else(|| malformed("there is no valid `boundary`"))?;
    if !is_named_once(content_type.unwrap_or_default(), b"boundary") {
        return Err(malformed("the word `boundary` stands more than once in the `Content-Type`"));
    }
    let mut members: Vec<(String, Reading)> = Vec::new();
    for (count, part) in Parts::new(boundary, body)?.enumerate() {
        if count >= sizes.max_multipart_parts {
            let evidence = format!("more than {} parts", sizes.max_multipart_parts);
            return Err(Refusal::new(Reason::BodyTooComplex, evidence));
        }
        let part = part?;
        let about = |refusal: Refusal| refusal.about(&format!("the part with {}", name_of_length(part.name)));
        add(&mut members, &part, content, sizes).map_err(about)?;
    }
    judge_object(content, members, schemas)
}

fn malformed(evidence: &'static str) -> Refusal {
    Refusal::new(Reason::BodyMalformed, evidence)
}

/// Some readers look for the word and not for the parameter: they would find `;x-boundary=a; boundary=b` first.
fn is_named_once(value: &[u8], word: &[u8]) -> bool {
    value.windows(word.len()).filter(|window| window.eq_ignore_ascii_case(word)).count() == 1
}

/// RFC 2046 §5.1.1.
fn is_boundary(text: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(permitted) && !text.ends_with(' ')
}

/// One part, its header fields read.
struct Part<'b> {
    name: &'b str,
    is_file: bool,
    media: Option<MediaType<'b>>,
    body: &'b [u8],
}

/// The parts in order; after an error nothing more.
struct Parts<'b> {
    /// What follows the last boundary seen.
    rest: &'b [u8],
    /// Two hyphens and the boundary.
    mark: Finder<'static>,
    ended: bool,
}

impl<'b> Parts<'b> {
    fn new(boundary: &str, body: &'b [u8]) -> Result<Parts<'b>, Refusal> {
        let mark = format!("--{boundary}");
        let rest = body.strip_prefix(mark.as_bytes());
        let rest = rest.ok_or_else(|| malformed("the body does not start with its boundary"))?;
        Ok(Parts { rest, mark: Finder::new(mark.as_bytes()).into_owned(), ended: false })
    }

    fn read(&mut self) -> Result<Option<Part<'b>>, Refusal> {
        if let Some(rest) = self.rest.strip_prefix(b"--") {
            self.ended = true;
            return match rest {
                b"" | b"\r\n" => Ok(None),
                _ => Err(malformed("something follows the last boundary")),
            };
        }
        let part = self.rest.strip_prefix(b"\r\n").ok_or_else(|| malformed("a boundary is not followed by CRLF"))?;
        let at = self.mark.find(part).ok_or_else(|| malformed("the last boundary is missing"))?;
        let (part, rest) = part.split_at(at);
        self.rest = rest.get(self.mark.needle().len()..).unwrap_or_default();
        let part = part.strip_suffix(b"\r\n").ok_or_else(|| malformed("a boundary stands inside a line"))?;
        read_part(part).map(Some)
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = Result<Part<'b>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let part = self.read().transpose();
        self.ended |= !matches!(part, Some(Ok(_)));
        part
    }
}

fn read_part(part: &[u8]) -> Result<Part<'_>, Refusal> {
    let mut name = None;
    let mut media = None;
    let mut rest = part;
    for _ in 0..=MAX_PART_HEADERS {
        let line_end = Finder::new(b"\r\n").find(rest.get(..MAX_PART_HEADER_BYTES).unwrap_or(rest));
        let line_end = line_end.ok_or_else(|| malformed("a part's header does not end"))?;
        let (line, after) = rest.split_at(line_end);
        rest = after.get(2..).unwrap_or_default();
        if line.is_empty() {
            let (name, is_file) = name.ok_or_else(|| malformed("a part has no `Content-Disposition`"))?;
            return Ok(Part { name, is_file, media, body: rest });
        }
        let (field, value) = read_header(line)?;
        let twice = match field.to_ascii_lowercase().as_str() {
            "content-disposition" => name.replace(read_disposition(value)?).is_some(),
            "content-type" => media.replace(read_media(value)?).is_some(),
            "content-transfer-encoding" => {
                let plain = ["7bit", "8bit", "binary"].iter().any(|known| value.eq_ignore_ascii_case(known));
                if plain { false } else { return Err(malformed("a part has a transfer encoding")) }
            }
            _ => false,
        };
        if twice {
            return Err(malformed("a part's header field stands twice"));
        }
    }
    Err(malformed("a part has too many header fields"))
}

fn read_header(line: &[u8]) -> Result<(&str, &str), Refusal> {
    let text = std::str::from_utf8(line).map_err(|_| malformed("a part's header is not UTF-8"))?;
    if text.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(malformed("a control character in a part's header"));
    }
    match text.split_once(':') {
        Some((name, value)) if is_token(name) => Ok((name, value.trim_matches([' ', '\t']))),
        _ => Err(malformed("a part's header field is malformed")),
    }
}

fn read_media(value: &str) -> Result<MediaType<'_>, Refusal> {
    MediaType::parse(value.as_bytes()).ok_or_else(|| malformed("a part's `Content-Type` is malformed"))
}

/// The name, and whether there is a file name (RFC 7578 §4.2, which knows no other parameter and forbids `filename*`).
fn read_disposition(value: &str) -> Result<(&str, bool), Refusal> {
    let bad = || malformed("a part's `Content-Disposition` is malformed");
    if value.contains('\\') {
        return Err(malformed("a backslash in a part's `Content-Disposition`"));
    }
    let (kind, rest) = match value.find(';') {
        Some(at) => value.split_at(at),
        None => (value, ""),
    };
    let found = parameters(rest).ok_or_else(bad)?;
    if !kind.trim_matches([' ', '\t']).eq_ignore_ascii_case("form-data")
        || found.iter().any(|(name, _)| !matches!(name.as_str(), "name" | "filename"))
    {
        return Err(bad());
    }
    let name = found.iter().find(|(name, _)| name == "name").map(|(_, value)| value.as_ref()).ok_or_else(bad)?;
    // Without escapes the name stands in the header as it is; borrow it from there.
    let at = rest.find(name).ok_or_else(bad)?;
    let borrowed = rest.get(at..at + name.len()).ok_or_else(bad)?;
    Ok((borrowed, found.iter().any(|(name, _)| name == "filename")))
}

fn add(
    members: &mut Vec<(String, Reading)>,
    part: &Part<'_>,
    content: &ContentSpec,
    sizes: &Sizes,
) -> Result<(), Refusal> {
    let decode = decode_of(content, part.name);
    let field = content.fields.get(part.name);
    let reading = read_value(part, decode, field, sizes)?;
    let whole = matches!(&reading, Reading::Fixed(value) if value.is_array());
    let array = decode.may_be(Type::Array) && !whole;
    match members.iter_mut().find(|(name, _)| name == part.name) {
        Some((_, Reading::Array(items))) if array => items.push(reading),
        Some(_) => return Err(Refusal::new(Reason::BodyDuplicateKey, "stands twice")),
        None => {
            let reading = if array { Reading::Array(vec![reading]) } else { reading };
            members.push((part.name.to_owned(), reading));
        }
    }
    Ok(())
}

fn read_value(part: &Part<'_>, decode: &Decode, field: Option<&Field>, sizes: &Sizes) -> Result<Reading, Refusal> {
    let item =
        if decode.may_be(Type::Array) { decode.items.as_deref().unwrap_or(&super::decode::TEXT) } else { decode };
    let json = match &part.media {
        Some(media) => media.is_json(),
        None => !part.is_file && (field.is_some_and(|field| field.json) || is_object_only(item)),
    };
    check_media(part, field, json)?;
    if json {
        return json_reading(part.body, sizes);
    }
    let text = match &part.media {
        Some(media) => media.is_text() && !part.is_file,
        None => !part.is_file,
    };
    if !text {
        return Ok(string_reading(latin1(part.body)));
    }
    if part.body.len() > sizes.max_json_string_bytes {
        return Err(Refusal::new(Reason::BodyTooComplex, "the text is longer than `max_json_string_bytes`"));
    }
    Ok(Reading::scalar(&read_text(part.media.as_ref(), part.body)?, item, sizes))
}

/// An object cannot be spelled as text: its part is JSON though it may not say so (OpenAPI 3.1 §4.8.15.1.1).
fn is_object_only(decode: &Decode) -> bool {
    decode.types().iter().all(|kind| matches!(kind, Type::Object | Type::Null)) && decode.may_be(Type::Object)
}

/// The part's media type against `encoding.contentType`; a part that names none is text, or the JSON it is read as.
fn check_media(part: &Part<'_>, field: Option<&Field>, json: bool) -> Result<(), Refusal> {
    let Some(ranges) = field.map(|field| field.content_types.as_slice()).filter(|ranges| !ranges.is_empty()) else {
        return Ok(());
    };
    let fits = match &part.media {
        Some(media) => ranges.iter().any(|range| range.fit(media).is_some()),
        None if json => true,
        None => {
            MediaType::parse(b"text/plain").is_some_and(|media| ranges.iter().any(|range| range.fit(&media).is_some()))
        }
    };
    if fits { Ok(()) } else { Err(Refusal::new(Reason::BodyInvalid, "the part's media type is not declared")) }
}
