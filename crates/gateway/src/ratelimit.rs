//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 §3, §4: structured field lists).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use stockade_engine::{LimitState, Quota};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

struct Checked {
    policy: &'static str,
    quota: Quota,
    state: LimitState,
}

/// The quotas that one request was checked against.
#[derive(Default)]
pub struct Limits(SmallVec<[Checked; 3]>);

impl Limits {
    pub fn add(&mut self, policy: &'static str, quota: Quota, state: LimitState) {
        self.0.push(Checked { policy, quota, state });
    }

    /// Seconds until a refused request would be admitted, by the quota that refused it.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.iter().filter(|checked| !checked.state.allowed).map(|checked| checked.state.retry_after_seconds).max()
    }

    /// Tells the client where it stands. Its address's quota is of interest only where it is the only one, or refused.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let told = || {
            self.0.iter().filter(|checked| self.0.len() == 1 || checked.policy != "address" || !checked.state.allowed)
        };
        if told().next().is_none() {
            return;
        }
        let policies = told().map(|Checked { policy, quota, .. }| Item {
            policy,
            first: (b";q=", u64::from(quota.requests)),
            second: (b";w=", u64::from(quota.period_seconds)),
        });
        let states = told().map(|Checked { policy, state, .. }| Item {
            policy,
            first: (b";r=", u64::from(state.remaining)),
            second: (b";t=", state.reset_seconds),
        });
        insert(headers, RATELIMIT_POLICY, policies);
        insert(headers, RATELIMIT, states);
    }
}

/// `"policy";a=1;b=2`.
struct Item {
    policy: &'static str,
    first: (&'static [u8], u64),
    second: (&'static [u8], u64),
}

/// Every answer has these fields: no formatting machinery.
fn insert(headers: &mut HeaderMap, name: HeaderName, items: impl Iterator<Item = Item>) {
    let mut text: SmallVec<[u8; 128]> = SmallVec::new();
    let mut digits = itoa::Buffer::new();
    for Item { policy, first, second } in items {
        text.extend_from_slice(if text.is_empty() { b"\"" } else { b", \"" });
        text.extend_from_slice(policy.as_bytes());
        text.push(b'"');
        for (parameter, value) in [first, second] {
            text.extend_from_slice(parameter);
            text.extend_from_slice(digits.format(value).as_bytes());
        }
    }
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(allowed: bool) -> LimitState {
        let retry_after_seconds = if allowed { 0 } else { 7 };
        LimitState { allowed, limit: 10, remaining: u32::from(allowed) * 4, reset_seconds: 30, retry_after_seconds }
    }

    #[test]
    fn the_client_is_told_its_own_quotas() {
        let quota = Quota { requests: 10, period_seconds: 60, burst: 10 };
        let mut limits = Limits::default();
        limits.add("address", quota, state(true));
        let mut headers = HeaderMap::new();
        limits.tell(&mut headers);
        assert_eq!(headers[RATELIMIT], "\"address\";r=4;t=30");
        limits.add("client", quota, state(true));
        limits.add("operation", quota, state(false));
        limits.tell(&mut headers);
        assert_eq!(headers[RATELIMIT], "\"client\";r=4;t=30, \"operation\";r=0;t=30");
        assert_eq!(headers[RATELIMIT_POLICY], "\"client\";q=10;w=60, \"operation\";q=10;w=60");
        assert_eq!(limits.retry_after_seconds(), Some(7));
    }
}
