//! W3C trace context (Trace Context Level 2, §3): passed on when it is valid, begun when it is not there.

use std::cell::Cell;

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const MAX_TRACESTATE_BYTES: usize = 512;

/// Leaves exactly one valid `traceparent` in `headers`. Unsampled when it is ours: the gate records events, not spans.
pub fn ensure(headers: &mut HeaderMap) {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    if matches!((parents.next(), parents.next()), (Some(parent), None) if is_valid(parent.as_bytes())) {
        let state: usize = headers.get_all(&TRACESTATE).iter().map(HeaderValue::len).sum();
        if state > MAX_TRACESTATE_BYTES {
            headers.remove(&TRACESTATE);
        }
        return;
    }
    headers.remove(&TRACESTATE);
    headers.insert(TRACEPARENT, begin());
}

/// The trace id of a valid `traceparent`, for events.
pub fn trace_id(parent: &HeaderValue) -> Option<String> {
    let parent = Some(parent.as_bytes()).filter(|parent| is_valid(parent))?;
    Some(String::from_utf8_lossy(parent.get(3..35)?).into_owned())
}

/// `version-trace_id-parent_id-flags` in lower-case hex; ids of zeros and version ff are invalid.
fn is_valid(parent: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        parent.get(range).is_some_and(|part| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let zeros = |range: std::ops::Range<usize>| parent.get(range).is_none_or(|part| part.iter().all(|b| *b == b'0'));
    let dashes = [2, 35, 52].iter().all(|n| parent.get(*n) == Some(&b'-'));
    let version = parent.get(..2);
    let length = if version == Some(b"00") { parent.len() == 55 } else { parent.len() >= 55 };
    let more = parent.len() == 55 || parent.get(55) == Some(&b'-');
    dashes
        && length
        && more
        && version != Some(b"ff")
        && hex(0..2)
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zeros(3..35)
        && !zeros(36..52)
}

fn begin() -> HeaderValue {
    thread_local! {
        static SEED: (ahash::RandomState, Cell<u64>) = (ahash::RandomState::new(), const { Cell::new(0) });
    }
    let [a, b, c] = SEED.with(|(state, count)| {
        let n = count.get();
        count.set(n.wrapping_add(3));
        // Unique, not secret; zero ids are invalid.
        [state.hash_one(n) | 1, state.hash_one(n + 1), state.hash_one(n + 2) | 1]
    });
    let mut text = [b'-'; 55];
    let mut put = |at: usize, word: u64| {
        for (n, slot) in text.iter_mut().skip(at).take(16).enumerate() {
            *slot = b"0123456789abcdef"[(word >> (60 - 4 * n) & 0xf) as usize];
        }
    };
    put(3, a);
    put(19, b);
    put(36, c);
    text[..2].copy_from_slice(b"00");
    text[53..].copy_from_slice(b"00");
    HeaderValue::from_bytes(&text)
        .unwrap_or(HeaderValue::from_static("00-00000000000000000000000000000001-0000000000000001-00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_contexts_pass_and_others_are_begun_anew() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (parent, kept) in [
            (valid, true),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", true),
            ("x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
            headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
            ensure(&mut headers);
            assert_eq!(headers[TRACEPARENT] == parent, kept, "{parent}");
            assert_eq!(headers.contains_key(TRACESTATE), kept);
            assert!(is_valid(headers[TRACEPARENT].as_bytes()));
        }
    }

    #[test]
    fn begun_traces_differ() {
        assert_ne!(begin(), begin());
    }
}
