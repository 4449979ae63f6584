//! A refusal on its way to its answer.

use http::header::{self, HeaderName, HeaderValue};
use stockade_engine::{Denial, Layer, Reason};

use crate::body::BodyFault;
use crate::upstream::UpstreamError;

/// Until a shed client may try again.
const OVERLOAD_RETRY_SECONDS: u64 = 1;

/// A refusal, with what its answer says beside the problem. Boxed: it is the rare way out of every stage.
pub struct Refused(pub Box<Refusal>);

pub struct Refusal {
    pub denial: Denial,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Refused {
        Refused(Box::new(Refusal { denial, headers: Vec::new() }))
    }
}

impl Refused {
    pub fn with(mut self, name: HeaderName, value: &str) -> Refused {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    pub fn overloaded(layer: Layer, evidence: &'static str) -> Refused {
        Refused::from(Denial::new(layer, Reason::Overloaded, None, evidence)).retry_after(OVERLOAD_RETRY_SECONDS)
    }

    pub fn retry_after(self, seconds: u64) -> Refused {
        self.with(header::RETRY_AFTER, itoa::Buffer::new().format(seconds.max(1)))
    }
}

impl From<BodyFault> for Refused {
    fn from(fault: BodyFault) -> Refused {
        let layer = match fault {
            BodyFault::TooLarge => Layer::ValidateRequest,
            BodyFault::Overloaded => return Refused::overloaded(Layer::Limits, "too much is buffered"),
            _ => Layer::Framing,
        };
        Denial::new(layer, fault.reason(), None, fault.to_string()).into()
    }
}

impl From<UpstreamError> for Refused {
    fn from(error: UpstreamError) -> Refused {
        let (layer, reason) = error.reason();
        let refused = Refused::from(Denial::new(layer, reason, None, error.to_string()));
        if reason == Reason::Overloaded { refused.retry_after(OVERLOAD_RETRY_SECONDS) } else { refused }
    }
}
