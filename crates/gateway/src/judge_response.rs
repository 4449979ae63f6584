//! The way to the upstream and back: what it is sent, and what of its answer the client gets.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use smallvec::SmallVec;
use stockade_engine::{Denial, Layer, Mode, Reason, RequestHead, ResponseHead, ResponsePlan, Route};

use crate::body::{Budget, OutBody};
use crate::config::UpstreamProtocol;
use crate::deadlines::Upgrade;
use crate::head::{self, Fields, Forwarding};
use crate::judge_request::{Asked, Forward};
use crate::refused::Refused;
use crate::service::Exchange;
use crate::upstream::{UpstreamBody, UpstreamResponseBody};
use crate::{trace, tunnel};

/// What of a request's head an answer is judged by.
const JUDGED_BY: [HeaderName; 6] = [
    header::ACCEPT,
    header::CONNECTION,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::RANGE,
    header::UPGRADE,
];

impl Exchange {
    /// Sends the request on, and judges what comes back.
    pub async fn forward(
        &mut self,
        route: &Route<'_>,
        parts: &mut Parts,
        host: &HeaderValue,
        forward: Forward,
    ) -> Result<Response<OutBody>, Refused> {
        let Forward { body, fault, token, upgrade, budget } = forward;
        let kept = kept_headers(&parts.headers);
        let request = self.upstream_request(route, parts, host, body, token, upgrade.as_ref())?;
        let replayable = is_idempotent(&parts.method) && matches!(request.body(), UpstreamBody::Empty);
        let sent = Instant::now();
        let answered = self.worker.upstream.send(request, replayable).await;
        drop(budget);
        self.record.upstream_answered(sent.elapsed());
        let response = match (answered, fault.take()) {
            (Ok(response), _) => response,
            (Err(_), Some(fault)) => return Err(fault.into()),
            (Err(error), None) => return Err(error.into()),
        };
        let fields = Fields(&kept);
        let peer = self.peer.clone();
        let head = self.request_head(&peer, parts, host.to_str().unwrap_or_default(), &fields);
        self.judge(route, &head, response, upgrade).await
    }

    fn upstream_request(
        &self,
        route: &Route<'_>,
        parts: &mut Parts,
        host: &HeaderValue,
        body: UpstreamBody,
        token: Option<HeaderValue>,
        upgrade: Option<&Asked>,
    ) -> Result<Request<UpstreamBody>, Refused> {
        let mut headers = std::mem::take(&mut parts.headers);
        let forwarding = Forwarding { peer: &self.peer, host };
        let credentials: SmallVec<[&str; 4]> = route.credential_headers().collect();
        head::to_upstream(&mut headers, &forwarding, &credentials);
        head::strip_cookies(&mut headers, route.strip_cookies());
        trace::ensure(&mut headers);
        if self.worker.shared.config.upstream.protocol == UpstreamProtocol::Http1 {
            headers.remove(header::TE);
        }
        headers.insert(header::HOST, host.clone());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token);
        }
        if let Some(asked) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, asked.protocol.clone());
        } else if route.mode(Layer::ValidateResponse) != Mode::Off {
            // What is judged must be whole, and in the clear.
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
            if headers.contains_key(header::ACCEPT_ENCODING) {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
        }
        let target = head::upstream_target(&parts.uri, route.canonical_path(), route.strip_query());
        let uri = target.map_err(|_| {
            Denial::new(Layer::Internal, Reason::Panic, None, "the canonical path is not a valid target")
        })?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The response's stages: declared at all, then its body, then what of it the client may see.
    async fn judge(
        &mut self,
        route: &Route<'_>,
        head: &RequestHead<'_>,
        response: Response<UpstreamResponseBody>,
        upgrade: Option<Asked>,
    ) -> Result<Response<OutBody>, Refused> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, upgrade);
        }
        let (parts, body) = response.into_parts();
        let fields = Fields(&parts.headers);
        let answer = ResponseHead { status: parts.status.as_u16(), headers: &fields };
        let plan = match route.mode(Layer::ValidateResponse) {
            Mode::Off => ResponsePlan::Pass,
            _ => route.judge_response(head, &answer),
        };
        let body = match plan {
            ResponsePlan::Pass => OutBody::stream(Bytes::new(), body),
            ResponsePlan::Deny(denial) | ResponsePlan::Sanitise(denial) => {
                if let Err(refused) = self.settle(route, Err(denial), ()) {
                    body.discard();
                    return Err(refused);
                }
                OutBody::stream(Bytes::new(), body)
            }
            ResponsePlan::Inspect { max_bytes } => self.inspect(route, &answer, body, max_bytes).await?,
        };
        Ok(self.answered(parts.status, parts.headers, body))
    }

    async fn inspect(
        &mut self,
        route: &Route<'_>,
        answer: &ResponseHead<'_>,
        body: UpstreamResponseBody,
        max_bytes: usize,
    ) -> Result<OutBody, Refused> {
        let mut budget = Budget::new(&self.worker);
        let (bytes, rest) = read_up_to(body, max_bytes, &mut budget).await?;
        let judged = match &rest {
            Some(_) => Err(Denial::new(
                Layer::ValidateResponse,
                Reason::BodyTooLarge,
                None,
                format!("the body exceeds {max_bytes} bytes"),
            )),
            None => route.judge_response_body(answer, &bytes),
        };
        self.settle(route, judged, ())?;
        Ok(match rest {
            Some(rest) => OutBody::stream(bytes, rest),
            None => OutBody::full(bytes),
        }
        .with_budget(budget))
    }

    /// Both sides have agreed: from here on bytes pass unseen.
    fn switch(
        &mut self,
        response: Response<UpstreamResponseBody>,
        upgrade: Option<Asked>,
    ) -> Result<Response<OutBody>, Refused> {
        let protocol = response.headers().get(header::UPGRADE);
        let granted = upgrade.filter(|asked| {
            protocol.is_some_and(|granted| granted.as_bytes().eq_ignore_ascii_case(asked.protocol.as_bytes()))
        });
        let Some(asked) = granted else {
            let evidence = "101 without the upgrade that was asked for";
            return Err(Denial::new(Layer::Upstream, Reason::ProtocolError, None, evidence).into());
        };
        let (mut parts, _) = response.into_parts();
        let Some(upstream) = parts.extensions.remove::<OnUpgrade>() else {
            let evidence = "101 on a connection that cannot switch";
            return Err(Denial::new(Layer::Upstream, Reason::ProtocolError, None, evidence).into());
        };
        head::to_client(&mut parts.headers);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, asked.protocol);
        self.pace.answer_upgrade(Upgrade::Granted);
        tunnel::start(&self.worker, &self.pace, asked.client, upstream);
        self.record.allowed(101);
        let mut response = Response::new(OutBody::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = parts.headers;
        Ok(response)
    }

    /// The upstream's answer, as the client gets it.
    fn answered(&mut self, status: StatusCode, mut headers: HeaderMap, body: OutBody) -> Response<OutBody> {
        head::to_client(&mut headers);
        self.finish(&mut headers);
        self.record.allowed(status.as_u16());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Reads at most `max_bytes`; what is beyond comes back with the part that was read.
async fn read_up_to(
    mut body: UpstreamResponseBody,
    max_bytes: usize,
    budget: &mut Budget,
) -> Result<(Bytes, Option<UpstreamResponseBody>), Refused> {
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame
            .map_err(|_| Denial::new(Layer::Upstream, Reason::ProtocolError, None, "the upstream's body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if budget.grow(data.len()).is_none() {
            return Err(Refused::overloaded(Layer::Limits, "too much is buffered"));
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        if first.len().max(whole.len()) > max_bytes {
            return Ok((if whole.is_empty() { first } else { whole.into() }, Some(body)));
        }
    }
    Ok((if whole.is_empty() { first } else { whole.into() }, None))
}

fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    // Most requests have none of them, and few fields: going through those is less than six look-ups.
    for (name, value) in headers {
        if JUDGED_BY.contains(name) && !kept.contains_key(name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}
