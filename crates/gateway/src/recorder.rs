//! What is recorded of one exchange: events and metrics. Values of the request never enter.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request};
use stockade_engine::{Denial, Layer, Route};

use crate::events::{Client, Event, EventId, Kind, Outcome};
use crate::force::Held;
use crate::identity::Verified;
use crate::trace;
use crate::worker::Worker;

const MAX_MASKED_SEGMENTS: usize = 8;
const MAX_PLAIN_SEGMENT_BYTES: usize = 32;

pub struct Recorder {
    worker: Rc<Worker>,
    force: Held,
    address: IpAddr,
    method: http::Method,
    path: http::Uri,
    /// `Route::operation_index`.
    operation: Option<usize>,
    client: Option<Arc<Verified>>,
    traceparent: Option<HeaderValue>,
    started: Instant,
    upstream: Option<Duration>,
}

impl Recorder {
    pub fn new<B>(worker: &Rc<Worker>, force: &Held, request: &Request<B>, address: IpAddr) -> Recorder {
        Recorder {
            worker: worker.clone(),
            force: force.clone(),
            address,
            method: request.method().clone(),
            path: request.uri().clone(),
            operation: None,
            client: None,
            traceparent: request.headers().get(trace::TRACEPARENT).cloned(),
            started: Instant::now(),
            upstream: None,
        }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn found(&mut self, route: &Route<'_>) {
        self.operation = Some(route.operation_index());
    }

    pub fn identified(&mut self, client: &Arc<Verified>) {
        self.client = Some(client.clone());
    }

    pub fn upstream_answered(&mut self, after: Duration) {
        self.upstream = Some(after);
    }

    /// A layer in `observe` mode would have refused.
    pub fn observed(&self, denial: Denial) {
        self.count(Outcome::Observe, Some(&denial), denial.status);
        self.emit(self.event(Outcome::Observe, Some(denial)));
    }

    /// The request is refused. The event's id goes into the problem document.
    pub fn refused(&self, denial: Denial) -> EventId {
        let failed = matches!(denial.layer, Layer::Upstream | Layer::Internal);
        let outcome = if failed { Outcome::Error } else { Outcome::Deny };
        self.count(outcome, Some(&denial), denial.status);
        self.time();
        let event = self.event(outcome, Some(denial));
        let id = event.id;
        self.emit(event);
        id
    }

    /// The request is answered as asked.
    pub fn allowed(&self, status: u16) {
        self.count(Outcome::Allow, None, status);
        self.time();
        if self.worker.shared.config.events.allowed {
            let mut event = self.event(Outcome::Allow, None);
            event.status = Some(status);
            self.emit(event);
        }
    }

    fn count(&self, outcome: Outcome, denial: Option<&Denial>, status: u16) {
        let cause = denial.map(|denial| (denial.layer, denial.reason));
        self.worker.shared.metrics.decision(&self.force.operations, self.operation, outcome, cause, status);
    }

    fn time(&self) {
        let spent = self.started.elapsed().saturating_sub(self.upstream.unwrap_or_default());
        self.worker.shared.metrics.gateway_seconds.observe(spent);
    }

    fn event(&self, outcome: Outcome, denial: Option<Denial>) -> Event {
        let mut event = Event::new(Kind::Decision, outcome);
        if let Some(denial) = denial {
            event.layer = Some(denial.layer);
            event.reason = Some(denial.reason);
            event.status = Some(denial.status);
            event.pointer = denial.pointer.map(Cow::Owned);
            event.evidence = Some(denial.evidence);
        }
        event.method = Some(mask_method(&self.method));
        let operation = self.operation.and_then(|index| self.force.names.get(index));
        event.operation = operation.map(|operation| operation.id.clone().into());
        event.path = Some(match operation {
            Some(operation) => operation.path_template().to_owned().into(),
            None => mask(self.path.path()).into(),
        });
        let client_id = self.client.as_ref().map(|client| client.identity.client_id.clone());
        event.client = Some(Client { address: Some(self.address), client_id: client_id.map(Cow::Owned) });
        event.trace_id = self.traceparent.as_ref().and_then(trace::trace_id).map(Cow::Owned);
        event.bundle = self.force.sha256.get(..16).map(|digest| digest.to_owned().into());
        event.serial = Some(self.force.serial);
        event.duration_us = Some(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        event
    }

    fn emit(&self, event: Event) {
        self.worker.shared.events.emit(event);
    }
}

fn mask_method(method: &http::Method) -> Cow<'static, str> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    known.into_iter().find(|name| method.as_str() == *name).unwrap_or("*").into()
}

/// A path of which only words are kept: numbers, identifiers and secrets become `*`.
fn mask(path: &str) -> String {
    let plain = |segment: &str| {
        segment.len() <= MAX_PLAIN_SEGMENT_BYTES
            && segment.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_' | b'.'))
    };
    let mut masked = String::new();
    for segment in path.split('/').skip(1).take(MAX_MASKED_SEGMENTS) {
        masked.push('/');
        masked.push_str(if plain(segment) { segment } else { "*" });
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn only_words_of_an_unknown_path_are_kept() {
        assert_eq!(mask("/orders/17/notes"), "/orders/*/notes");
        assert_eq!(mask("/t/stk_at_Abc/%2e%2e"), "/t/*/*");
        assert_eq!(mask("*"), "");
    }
}
