//! Counts HTTP/2 frames as they come in, because h2 answers some of them for ever (PING, SETTINGS) and drops others silently.
//!
//! Only frame headers are looked at (RFC 9113 §4.1); everything else is h2's to judge. Pure; `wire.rs` feeds it.

const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
/// CONTINUATION frames of one block; an honest block of 32 KiB needs two.
const MAX_CONTINUATIONS: u32 = 16;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a connection may send beyond its allowance: so many at once, so many a second after that.
struct Allowance {
    left: u32,
    burst: u32,
    per_second: u32,
    filled_at_ms: u64,
}

impl Allowance {
    const fn new(burst: u32, per_second: u32) -> Allowance {
        Allowance { left: burst, burst, per_second, filled_at_ms: 0 }
    }

    fn spend(&mut self, now_ms: u64) -> bool {
        if self.left == 0 {
            let seconds = u32::try_from(now_ms.saturating_sub(self.filled_at_ms) / 1_000).unwrap_or(u32::MAX);
            if seconds == 0 {
                return false;
            }
            self.filled_at_ms = now_ms;
            self.left = seconds.saturating_mul(self.per_second).min(self.burst);
        }
        self.left = self.left.saturating_sub(1);
        true
    }
}

/// The frames of one connection, from the client's preface on.
pub struct FrameCounter {
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_seen: usize,
    payload_left: usize,
    /// Bytes and frames of the header block under way, if one is.
    block: Option<(usize, u32)>,
    max_block_bytes: usize,
    /// Header blocks that were complete.
    blocks: u64,
    control: Allowance,
    resets: Allowance,
    empty: Allowance,
}

impl FrameCounter {
    /// `max_block_bytes` bounds one compressed header block. Allowances leave room for BDP probes and cancelled page loads.
    pub fn new(max_block_bytes: usize, now_ms: u64) -> FrameCounter {
        let mut counter = FrameCounter {
            preface_left: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_seen: 0,
            payload_left: 0,
            block: None,
            max_block_bytes,
            blocks: 0,
            control: Allowance::new(200, 50),
            resets: Allowance::new(400, 100),
            empty: Allowance::new(100, 10),
        };
        for allowance in [&mut counter.control, &mut counter.resets, &mut counter.empty] {
            allowance.filled_at_ms = now_ms;
        }
        counter
    }

    pub fn block_open(&self) -> bool {
        self.block.is_some()
    }

    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Counts the frames that begin in `bytes`. An error names the flood.
    pub fn scan(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let skip = if self.preface_left > 0 { &mut self.preface_left } else { &mut self.payload_left };
            if *skip > 0 {
                let n = bytes.len().min(*skip);
                *skip -= n;
                bytes = bytes.get(n..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { break };
            if let Some(slot) = self.header.get_mut(self.header_seen) {
                *slot = *first;
            }
            self.header_seen += 1;
            bytes = rest;
            if self.header_seen == HEADER_BYTES {
                self.header_seen = 0;
                self.frame(now_ms)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now_ms: u64) -> Result<(), &'static str> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = (a as usize) << 16 | (b as usize) << 8 | c as usize;
        self.payload_left = length;
        match kind {
            HEADERS | CONTINUATION => return self.header_block(kind, flags, length),
            WINDOW_UPDATE => {}
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            DATA if !self.empty.spend(now_ms) => return Err("a flood of empty DATA frames"),
            DATA => {}
            RST_STREAM if !self.resets.spend(now_ms) => return Err("a flood of RST_STREAM frames"),
            RST_STREAM => {}
            PING if !self.control.spend(now_ms) => return Err("a flood of PING frames"),
            SETTINGS if !self.control.spend(now_ms) => return Err("a flood of SETTINGS frames"),
            PING | SETTINGS => {}
            _ if !self.control.spend(now_ms) => return Err("a flood of frames without effect"),
            _ => {}
        }
        Ok(())
    }

    fn header_block(&mut self, kind: u8, flags: u8, length: usize) -> Result<(), &'static str> {
        let (bytes, frames) = match self.block {
            Some((bytes, frames)) if kind == CONTINUATION => (bytes + length, frames + 1),
            _ => (length, 0),
        };
        if bytes > self.max_block_bytes || frames > MAX_CONTINUATIONS {
            return Err("a header block without end");
        }
        let done = flags & END_HEADERS != 0;
        self.blocks += u64::from(done);
        self.block = (!done).then_some((bytes, frames));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).expect("short"), kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn started() -> FrameCounter {
        let mut counter = FrameCounter::new(32_768, 0);
        counter.scan(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).expect("a preface is no flood");
        counter
    }

    #[test]
    fn floods_of_cheap_frames_are_cut_and_honest_rates_are_not() {
        for (kind, flags) in [(PING, 0), (SETTINGS, 0), (RST_STREAM, 0), (DATA, 0), (0x42, 0)] {
            let mut counter = started();
            let one = frame(kind, flags, b"");
            let mut now_ms = 0;
            for _ in 0..500 {
                counter.scan(&one, now_ms).expect("ten a second are honest");
                now_ms += 100;
            }
            assert!((0..2_000).any(|_| counter.scan(&one, now_ms).is_err()), "frame type {kind}");
        }
    }

    #[test]
    fn frames_are_counted_alike_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        for _ in 0..150 {
            bytes.extend(frame(DATA, 0, b"x"));
            bytes.extend(frame(PING, 0, b"12345678"));
            bytes.extend(frame(HEADERS, END_HEADERS, b"abc"));
        }
        for cut in 1..40 {
            let mut counter = started();
            for piece in bytes.chunks(cut) {
                counter.scan(piece, 0).expect("under the allowance");
            }
            assert_eq!((counter.blocks(), counter.control.left), (150, 50));
        }
    }

    #[test]
    fn a_header_block_without_end_is_cut() {
        let mut counter = started();
        counter.scan(&frame(HEADERS, 0, b"a"), 0).expect("a block may be continued");
        assert!(counter.block_open());
        assert!((0..100).any(|_| counter.scan(&frame(CONTINUATION, 0, b""), 0).is_err()));
        let mut counter = started();
        counter.scan(&frame(HEADERS, 0, &[0; 200]), 0).expect("short");
        assert!((0..16).all(|_| counter.scan(&frame(CONTINUATION, 0, &[0; 200]), 0).is_ok()));
        let mut counter = FrameCounter::new(300, 0);
        counter.preface_left = 0;
        counter.scan(&frame(HEADERS, 0, &[0; 200]), 0).expect("short");
        assert!(counter.scan(&frame(CONTINUATION, 0, &[0; 200]), 0).is_err());
    }
}
