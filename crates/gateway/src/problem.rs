//! Problem documents (RFC 9457, `docs/contracts.md` §7): the only place that builds one.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use stockade_engine::Layer;

use crate::body::OutBody;
use crate::events::EventId;

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
}

/// What the caller may know: fixed per slug, the same for every request.
struct Text {
    slug: &'static str,
    title: &'static str,
    detail: &'static str,
}

const fn text(slug: &'static str, title: &'static str, detail: &'static str) -> Text {
    Text { slug, title, detail }
}

const BAD_REQUEST: Text = text("bad-request", "Bad request", "the request cannot be understood");
const REQUEST_INVALID: Text =
    text("request-invalid", "Request invalid", "the request does not match the API's description");
const TOO_LARGE: Text = text("too-large", "Too large", "the request exceeds a size limit");
const INTERNAL: Text = text("internal", "Internal error", "the request could not be handled");

fn text_for(status: u16, layer: Layer) -> &'static Text {
    match status {
        400 if layer == Layer::ValidateRequest => &REQUEST_INVALID,
        401 => &const { text("unauthorized", "Unauthorized", "valid credentials are required") },
        403 => &const { text("forbidden", "Forbidden", "these credentials do not permit this request") },
        404 => &const { text("not-found", "Not found", "there is no such resource") },
        405 => &const { text("method-not-allowed", "Method not allowed", "the resource does not support this method") },
        408 => &const { text("timeout", "Request timeout", "the request took too long to arrive") },
        413 | 414 | 431 => &TOO_LARGE,
        415 => {
            &const {
                text(
                    "unsupported-media-type",
                    "Unsupported media type",
                    "the body's media type or coding is not accepted",
                )
            }
        }
        421 => &const { text("misdirected", "Misdirected request", "this server does not answer for that host") },
        429 => &const { text("too-many-requests", "Too many requests", "the rate limit is exceeded; try again later") },
        501 => &const { text("not-implemented", "Not implemented", "this operation is not available") },
        502 => &const { text("bad-gateway", "Bad gateway", "the upstream's answer cannot be passed on") },
        503 => &const { text("unavailable", "Service unavailable", "the service cannot answer now; try again later") },
        504 => &const { text("gateway-timeout", "Gateway timeout", "the upstream did not answer in time") },
        400..=499 => &BAD_REQUEST,
        _ => &INTERNAL,
    }
}

/// A refusal as its caller sees it. `base` comes from the bundle.
pub fn response(base: &str, status: u16, layer: Layer, id: EventId) -> Response<OutBody> {
    let text = text_for(status, layer);
    let problem = Problem {
        r#type: format!("{base}{}", text.slug),
        title: text.title,
        status,
        detail: text.detail,
        instance: format!("urn:uuid:{id}"),
    };
    // A struct of strings and a number: writing it to memory does not fail.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(OutBody::full(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    harden(headers);
    response
}

/// What every answer of our own carries.
pub fn harden(headers: &mut http::HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
