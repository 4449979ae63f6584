//! What an upstream may answer (`docs/contracts.md` §2, response rules).

use super::requests::{Declared, is_encoded};
use super::{Operation, Plan, ResponsePlan};
use crate::decision::{Denial, Layer, Reason};
use crate::request::{RequestHead, ResponseHead};
use crate::validate::{
    ContentKind, ContentSpec, Ignored, ParameterSpec, Refusal, choose_content, validate_content, validate_parameters,
};

/// One declared response.
pub(super) struct Response {
    pub headers: Vec<ParameterSpec>,
    /// Where `Set-Cookie` is required. It stands once a cookie, so that its value is no parameter's (RFC 6265 §3).
    pub required_cookie: Option<String>,
    pub content: Vec<ContentSpec>,
    pub pointer: String,
}

/// The declared responses: an exact status comes before a range, a range before the default.
#[derive(Default)]
pub(super) struct Responses {
    exact: Vec<(u16, Response)>,
    ranges: Vec<(u16, Response)>,
    default: Option<Response>,
}

impl Responses {
    /// Adds a response under `200`, `2XX` or `default`; the message says why it cannot be.
    pub fn add(&mut self, status: &str, response: Response) -> Result<(), &'static str> {
        if status == "default" {
            return match self.default.replace(response) {
                None => Ok(()),
                Some(_) => Err("the default response stands twice"),
            };
        }
        let (list, number) = match status.strip_suffix("XX") {
            Some(class) => (&mut self.ranges, class.parse().ok().filter(|class| (1..=5).contains(class))),
            None => (&mut self.exact, status.parse().ok().filter(|status| (100..=599).contains(status))),
        };
        let number: u16 = number.filter(|_| status.len() == 3).ok_or("the status is none")?;
        if list.iter().any(|(known, _)| *known == number) {
            return Err("the status stands twice");
        }
        list.push((number, response));
        Ok(())
    }

    fn find(&self, status: u16) -> Option<&Response> {
        let among = |list: &'_ Vec<(u16, Response)>, wanted: u16| list.iter().position(|(number, _)| *number == wanted);
        if let Some(index) = among(&self.exact, status) {
            return self.exact.get(index).map(|(_, response)| response);
        }
        if let Some(index) = among(&self.ranges, status / 100) {
            return self.ranges.get(index).map(|(_, response)| response);
        }
        self.default.as_ref()
    }
}

impl Plan {
    pub(super) fn judge_head(
        &self,
        operation: &Operation,
        request: &RequestHead<'_>,
        response: &ResponseHead<'_>,
    ) -> ResponsePlan {
        match self.judge(operation, request, response) {
            Ok(plan) => plan,
            Err(denial) if denial.reason == Reason::ErrorSanitised => ResponsePlan::Sanitise(denial),
            Err(denial) => ResponsePlan::Deny(denial),
        }
    }

    fn judge(
        &self,
        operation: &Operation,
        request: &RequestHead<'_>,
        response: &ResponseHead<'_>,
    ) -> Result<ResponsePlan, Denial> {
        let status = response.status;
        if status == 101 {
            return match operation.upgrade.is_empty() {
                false => Ok(ResponsePlan::Pass),
                true => Err(deny(Reason::StatusUndeclared, &operation.pointer, "an upgrade that is not declared")),
            };
        }
        let Some(declared) = operation.responses.find(status) else {
            return undeclared(operation, request, status);
        };
        self.check_headers(declared, response)?;
        if request.method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(ResponsePlan::Pass);
        }
        self.judge_content(operation, declared, response)
    }

    fn check_headers(&self, declared: &Response, response: &ResponseHead<'_>) -> Result<(), Denial> {
        if let (Some(pointer), 0) = (&declared.required_cookie, response.headers.count("set-cookie")) {
            return Err(deny(Reason::HeaderMissing, pointer, "set-cookie is missing"));
        }
        if declared.headers.is_empty() {
            return Ok(());
        }
        let ignored = Ignored { query: &[], cookies: &[] };
        validate_parameters(
            &declared.headers,
            false,
            &[],
            None,
            response.headers,
            &self.schemas,
            &self.json_sizes,
            ignored,
        )
        .map_err(|refusal| {
            let reason = match refusal.reason {
                Reason::ParameterMissing => Reason::HeaderMissing,
                _ => Reason::HeaderInvalid,
            };
            self.response_denial(Refusal { reason, ..refusal }, &declared.pointer)
        })
    }

    fn judge_content(
        &self,
        operation: &Operation,
        declared: &Response,
        response: &ResponseHead<'_>,
    ) -> Result<ResponsePlan, Denial> {
        let length = Declared::of(response.headers);
        if length == Declared::Bytes(0)
            && (declared.content.is_empty() || response.headers.first("content-type").is_none())
        {
            return Ok(ResponsePlan::Pass);
        }
        if declared.content.is_empty() {
            return self.judge_unexpected(operation, declared, response, length);
        }
        let max_bytes = self.max_response_bytes;
        if response.headers.first("content-type").is_none() && !operation.stream_response {
            // Nothing at all may follow; anything else has an undeclared type.
            return Ok(ResponsePlan::Inspect { max_bytes });
        }
        let content = self.choose_response(declared, response)?;
        if operation.stream_response || !needs_inspection(content) {
            return Ok(ResponsePlan::Pass);
        }
        if is_encoded(response.headers) {
            return Err(deny(
                Reason::ContentEncodingUnsupported,
                content.pointer(),
                "an encoded body cannot be inspected",
            ));
        }
        if matches!(length, Declared::Bytes(bytes) if bytes > max_bytes as u64) {
            return Err(deny(
                Reason::BodyTooLarge,
                content.pointer(),
                format!("more than {max_bytes} bytes are announced"),
            ));
        }
        Ok(ResponsePlan::Inspect { max_bytes })
    }

    /// The status is declared without content. An error's status is worth keeping; what came with it is not.
    fn judge_unexpected(
        &self,
        operation: &Operation,
        declared: &Response,
        response: &ResponseHead<'_>,
        length: Declared,
    ) -> Result<ResponsePlan, Denial> {
        match length {
            _ if operation.stream_response => Ok(ResponsePlan::Pass),
            _ if response.status >= 400 => {
                Err(sanitise(&declared.pointer, response.status, "the error is declared without content"))
            }
            Declared::Bytes(_) => {
                Err(deny(Reason::BodyUnexpected, &declared.pointer, "the response is declared without content"))
            }
            _ => Ok(ResponsePlan::Inspect { max_bytes: self.max_response_bytes }),
        }
    }

    fn choose_response<'d>(
        &self,
        declared: &'d Response,
        response: &ResponseHead<'_>,
    ) -> Result<&'d ContentSpec, Denial> {
        choose_content(&declared.content, response.headers.first("content-type")).map_err(|refusal| {
            self.response_denial(Refusal { reason: Reason::MediaTypeUndeclared, ..refusal }, &declared.pointer)
        })
    }

    pub(super) fn judge_body(
        &self,
        operation: &Operation,
        response: &ResponseHead<'_>,
        bytes: &[u8],
    ) -> Result<(), Denial> {
        let Some(declared) = operation.responses.find(response.status) else { return Ok(()) };
        let content_type = response.headers.first("content-type");
        if bytes.is_empty() && (declared.content.is_empty() || content_type.is_none()) {
            return Ok(());
        }
        if declared.content.is_empty() {
            return Err(deny(Reason::BodyUnexpected, &declared.pointer, "the response is declared without content"));
        }
        if bytes.len() > self.max_response_bytes {
            return Err(deny(
                Reason::BodyTooLarge,
                &declared.pointer,
                format!("more than {} bytes", self.max_response_bytes),
            ));
        }
        let content = self.choose_response(declared, response)?;
        if !needs_inspection(content) {
            return Ok(());
        }
        validate_content(content, content_type, bytes, &self.schemas, &self.json_sizes)
            .map_err(|refusal| self.response_denial(refusal, content.pointer()))
    }

    fn response_denial(&self, refusal: Refusal, pointer: &str) -> Denial {
        let pointer = self.place_of(&refusal, pointer);
        Denial::new(Layer::ValidateResponse, refusal.reason, Some(pointer), refusal.evidence)
    }
}

fn needs_inspection(content: &ContentSpec) -> bool {
    match content.kind() {
        ContentKind::Binary => false,
        ContentKind::Text => content.has_schema(),
        ContentKind::Json | ContentKind::Form | ContentKind::Multipart => true,
    }
}

/// RFC 9110 §15.4.5: 304 answers a conditional GET or HEAD, declared or not.
fn undeclared(operation: &Operation, request: &RequestHead<'_>, status: u16) -> Result<ResponsePlan, Denial> {
    let conditional = || {
        let asks = |name| request.headers.first(name).is_some();
        matches!(request.method, "GET" | "HEAD") && (asks("if-none-match") || asks("if-modified-since"))
    };
    match status {
        304 if conditional() => Ok(ResponsePlan::Pass),
        400..=599 => Err(sanitise(&operation.pointer, status, "the error status is not declared")),
        _ => Err(deny(Reason::StatusUndeclared, &operation.pointer, format!("status {status} is not declared"))),
    }
}

fn sanitise(pointer: &str, status: u16, evidence: &'static str) -> Denial {
    Denial { status, ..deny(Reason::ErrorSanitised, pointer, evidence) }
}

fn deny(reason: Reason, pointer: &str, evidence: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
    Denial::new(Layer::ValidateResponse, reason, Some(pointer.to_owned()), evidence)
}
