//! Nonces without memory (RFC 9449 §8, §9): what a key says of a stretch of time.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

const CONTEXT: &[u8] = b"stockade dpop nonce 1";
const BYTES: usize = 16;

/// Nonces of one process. Each holds for a window of half the proofs' life and for the next one.
pub(super) struct Nonces(hmac::Key);

impl Nonces {
    pub fn new(key: &[u8; 32]) -> Nonces {
        Nonces(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The nonce to hand out at `now`.
    pub fn current(&self, life_seconds: u64, now: u64) -> String {
        self.of(window(life_seconds, now))
    }

    /// The last second at which `nonce` holds; `None`: it does not hold at `now`.
    pub fn holds_until(&self, nonce: &str, life_seconds: u64, now: u64) -> Option<u64> {
        let newest = window(life_seconds, now);
        let holds = |window: u64| bool::from(self.of(window).as_bytes().ct_eq(nonce.as_bytes()));
        let issued = [Some(newest), newest.checked_sub(1)].into_iter().flatten().find(|window| holds(*window))?;
        Some(issued.saturating_add(2).saturating_mul(length(life_seconds)).saturating_sub(1))
    }

    fn of(&self, window: u64) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(CONTEXT);
        context.update(&window.to_be_bytes());
        let tag = context.sign();
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..BYTES).unwrap_or_default())
    }
}

fn length(life_seconds: u64) -> u64 {
    (life_seconds / 2).max(1)
}

fn window(life_seconds: u64, now: u64) -> u64 {
    now / length(life_seconds)
}
