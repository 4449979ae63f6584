//! Cross-origin requests (WHATWG Fetch §3.2), answered from the bundle.

use super::Answer;
use crate::bundle::{BundleError, Cors};
use crate::request::{Headers, RequestHead};

/// The compiled `cors` section.
pub(super) struct CorsPlan {
    origins: Vec<String>,
    any_origin: bool,
    allow_credentials: bool,
    max_age: String,
    expose_headers: String,
}

impl CorsPlan {
    pub fn new(cors: Cors) -> Result<CorsPlan, BundleError> {
        let any_origin = cors.origins.iter().any(|origin| origin == "*");
        if any_origin && cors.allow_credentials {
            return Err(BundleError::plan("cors", "any origin together with credentials"));
        }
        if let Some(origin) = cors.origins.iter().find(|origin| !is_header_text(origin)) {
            return Err(BundleError::plan("cors", format!("`{origin}` is not an origin")));
        }
        let expose_headers = cors.expose_headers.join(", ");
        if !is_header_text(&expose_headers) {
            return Err(BundleError::plan("cors", "expose_headers are not field names"));
        }
        Ok(CorsPlan {
            origins: cors.origins,
            any_origin,
            allow_credentials: cors.allow_credentials,
            max_age: cors.max_age_seconds.to_string(),
            expose_headers,
        })
    }

    /// Whether this is a preflight: `OPTIONS` with both fields that a browser sends.
    pub fn is_preflight(head: &RequestHead<'_>) -> bool {
        head.method == "OPTIONS"
            && head.headers.first("origin").is_some()
            && head.headers.first("access-control-request-method").is_some()
    }

    /// Answers a preflight for a path. An origin that is not allowed learns nothing but that it is not.
    pub fn preflight(&self, head: &RequestHead<'_>, methods: &[String], request_headers: &str) -> Answer {
        let mut headers =
            vec![("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers".to_owned())];
        if let Some(origin) = self.allowed(head.headers) {
            headers.push(("access-control-allow-origin", origin));
            headers.push(("access-control-allow-methods", methods.join(", ")));
            if !request_headers.is_empty() {
                headers.push(("access-control-allow-headers", request_headers.to_owned()));
            }
            headers.push(("access-control-max-age", self.max_age.clone()));
            if self.allow_credentials {
                headers.push(("access-control-allow-credentials", "true".to_owned()));
            }
        }
        Answer { status: 204, headers, body: Vec::new() }
    }

    /// Fields for an actual answer.
    pub fn answer_headers(&self, headers: &dyn Headers) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if !self.any_origin {
            fields.push(("vary", "Origin".to_owned()));
        }
        let Some(origin) = self.allowed(headers) else { return fields };
        fields.push(("access-control-allow-origin", origin));
        if self.allow_credentials {
            fields.push(("access-control-allow-credentials", "true".to_owned()));
        }
        if !self.expose_headers.is_empty() {
            fields.push(("access-control-expose-headers", self.expose_headers.clone()));
        }
        fields
    }

    fn allowed(&self, headers: &dyn Headers) -> Option<String> {
        let origin = headers.first("origin")?;
        if self.any_origin {
            return Some("*".to_owned());
        }
        self.origins.iter().find(|known| known.as_bytes() == origin).cloned()
    }
}

fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}
