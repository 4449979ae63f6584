//! What a request may carry: parameters and a body.

use smallvec::SmallVec;

use super::framing::content_length;
use super::{BodyPlan, Operation, Plan};
use crate::decision::{Denial, Layer, Reason};
use crate::request::RequestHead;
use crate::validate::{
    ContentKind, ContentSpec, Ignored, Refusal, choose_content, validate_content, validate_parameters,
};

/// The declared body of an operation.
pub(super) struct Body {
    pub required: bool,
    pub max_bytes: usize,
    pub pointer: String,
    pub content: Vec<ContentSpec>,
}

/// What the head says about the length of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    /// Chunked, or HTTP/2 without `content-length`.
    Unknown,
    Bytes(u64),
    /// Nothing that frames a body: none in HTTP/1.1, unknown in HTTP/2.
    Nothing,
}

impl Declared {
    pub fn of(headers: &dyn crate::request::Headers) -> Declared {
        if headers.count("transfer-encoding") > 0 {
            return Declared::Unknown;
        }
        match headers.first("content-length") {
            Some(value) => content_length(value).map_or(Declared::Unknown, Declared::Bytes),
            None => Declared::Nothing,
        }
    }
}

impl Plan {
    pub(super) fn validate_request_head(
        &self,
        operation: &Operation,
        head: &RequestHead<'_>,
        path_values: &[(&str, &str)],
        ignored: Ignored<'_>,
    ) -> Result<BodyPlan, Denial> {
        validate_parameters(
            &operation.parameters,
            operation.unknown_query_denied,
            path_values,
            head.query,
            head.headers,
            &self.schemas,
            &self.json_sizes,
            ignored,
        )
        .map_err(|refusal| self.request_denial(refusal, &operation.pointer))?;
        self.plan_body(operation, head)
    }

    fn plan_body(&self, operation: &Operation, head: &RequestHead<'_>) -> Result<BodyPlan, Denial> {
        let declared = Declared::of(head.headers);
        let Some(body) = &operation.body else {
            return match declared {
                Declared::Nothing | Declared::Bytes(0) => Ok(BodyPlan::None),
                _ => Err(deny(Reason::BodyUnexpected, &operation.pointer, "the operation takes no body")),
            };
        };
        let max_bytes = body.max_bytes;
        match declared {
            Declared::Bytes(0) if body.required => {
                return Err(deny(Reason::BodyMissing, &body.pointer, "the body is empty"));
            }
            Declared::Bytes(0) => return Ok(BodyPlan::None),
            Declared::Bytes(bytes) if bytes > max_bytes as u64 => {
                return Err(deny(
                    Reason::BodyTooLarge,
                    &body.pointer,
                    format!("more than {max_bytes} bytes are announced"),
                ));
            }
            // Whether there is a body shows when the connection is read; its media type is judged with it.
            Declared::Nothing if head.headers.first("content-type").is_none() => {
                return Ok(BodyPlan::Inspect { max_bytes });
            }
            _ => {}
        }
        let content = self.choose(body, head)?;
        if content.kind() == ContentKind::Binary {
            return Ok(BodyPlan::Stream { max_bytes });
        }
        if is_encoded(head.headers) {
            return Err(deny(
                Reason::ContentEncodingUnsupported,
                content.pointer(),
                "an encoded body cannot be inspected",
            ));
        }
        Ok(BodyPlan::Inspect { max_bytes })
    }

    fn choose<'b>(&self, body: &'b Body, head: &RequestHead<'_>) -> Result<&'b ContentSpec, Denial> {
        choose_content(&body.content, head.headers.first("content-type"))
            .map_err(|refusal| self.request_denial(refusal, &body.pointer))
    }

    pub(super) fn validate_request_body(
        &self,
        operation: &Operation,
        head: &RequestHead<'_>,
        bytes: &[u8],
    ) -> Result<(), Denial> {
        let Some(body) = &operation.body else {
            return match bytes.is_empty() {
                true => Ok(()),
                false => Err(deny(Reason::BodyUnexpected, &operation.pointer, "the operation takes no body")),
            };
        };
        if bytes.is_empty() {
            return match body.required {
                true => Err(deny(Reason::BodyMissing, &body.pointer, "the body is empty")),
                false => Ok(()),
            };
        }
        if bytes.len() > body.max_bytes {
            return Err(deny(Reason::BodyTooLarge, &body.pointer, format!("more than {} bytes", body.max_bytes)));
        }
        let content = self.choose(body, head)?;
        if content.kind() == ContentKind::Binary {
            return Ok(());
        }
        if is_encoded(head.headers) {
            return Err(deny(
                Reason::ContentEncodingUnsupported,
                content.pointer(),
                "an encoded body cannot be inspected",
            ));
        }
        validate_content(content, head.headers.first("content-type"), bytes, &self.schemas, &self.json_sizes)
            .map_err(|refusal| self.request_denial(refusal, content.pointer()))
    }

    fn request_denial(&self, refusal: Refusal, pointer: &str) -> Denial {
        let pointer = self.place_of(&refusal, pointer);
        Denial::new(Layer::ValidateRequest, refusal.reason, Some(pointer), refusal.evidence)
    }

    /// Where in the description the broken rule stands.
    pub(super) fn place_of(&self, refusal: &Refusal, fallback: &str) -> String {
        let schema = refusal.violation.as_ref().and_then(|violation| {
            let schema = self.schema_pointers.get(violation.schema_key.as_str())?;
            Some(format!("{schema}{}", violation.schema_path))
        });
        schema.unwrap_or_else(|| refusal.pointer.as_deref().unwrap_or(fallback).to_owned())
    }
}

/// A content coding other than `identity` (RFC 9110 §8.4).
pub(super) fn is_encoded(headers: &dyn crate::request::Headers) -> bool {
    if headers.count("content-encoding") == 0 {
        return false;
    }
    let mut encoded = false;
    headers.each(&mut |name, value| {
        encoded |= name == "content-encoding" && !value.trim_ascii().eq_ignore_ascii_case(b"identity");
        !encoded
    });
    encoded
}

fn deny(reason: Reason, pointer: &str, evidence: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
    Denial::new(Layer::ValidateRequest, reason, Some(pointer.to_owned()), evidence)
}

/// The template's variables with the values that this request gives them.
pub(super) fn path_values<'v>(
    names: &'v [String],
    captures: &[(usize, usize)],
    canonical: &'v str,
) -> SmallVec<[(&'v str, &'v str); 4]> {
    let value = |&(start, end): &(usize, usize)| canonical.get(start..end).unwrap_or_default();
    names.iter().map(String::as_str).zip(captures.iter().map(value)).collect()
}
