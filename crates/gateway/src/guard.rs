//! The HTTP/1 guard: reads every request head as it is on the wire, before hyper does, and follows the framing to the next.
//!
//! hyper repairs some ambiguous messages (it drops `Content-Length` beside `Transfer-Encoding`, takes bare line feeds, looks
//! at the last transfer coding only), so that no service behind it can still see them. A gate must refuse them: the hop in
//! front may have read them otherwise (RFC 9112 §11.2). This module is pure; `wire.rs` feeds it.
//!
//! INVARIANT: for bytes that pass, hyper sees the same message boundaries (`tests/guard_agrees_with_hyper.rs`).

use std::mem::MaybeUninit;

use memchr::memchr;
use stockade_engine::Reason;

/// Longest target that hyper parses.
const MAX_TARGET_BYTES: usize = 65_534;
/// Chunk extensions and trailers have no honest use of this size (RFC 9112 §7.1.1).
const MAX_CHUNK_EXTENSION_BYTES: usize = 256;
const MAX_TRAILER_BYTES: usize = 8_192;
/// Empty lines before a request line that some old clients send (RFC 9112 §2.2).
const MAX_LEADING_BYTES: usize = 4;
/// Sixteen hex digits could wrap; no chunk is that long.
const MAX_CHUNK_DIGITS: u8 = 15;
/// `Vec`s of header slots above this go to the heap.
const INLINE_HEADERS: usize = 100;

/// The method of the request that stands in for a refused head. No client's head with it passes.
pub const REFUSED_METHOD: &str = "STOCKADE-REFUSED";
/// What hyper reads in place of a refused head.
pub const REFUSED_HEAD: &[u8] = b"STOCKADE-REFUSED / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// Why bytes do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub evidence: &'static str,
}

/// What may be done with the bytes that were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The first bytes pass; the rest begins a head. Show it again, with what follows.
    Keep(usize),
    /// The first bytes end with a request for an upgrade. Show the rest again once that is answered ([`Guard::resume`]).
    Await(usize),
    /// The first bytes pass; then the stream cannot be trusted any more.
    Refuse {
        pass: usize,
        in_body: bool,
        refusal: Refusal,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Head,
    /// An upgrade was asked for, and its answer is not known yet.
    Upgrade,
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkExtension {
        size: u64,
        seen: usize,
    },
    ChunkSizeLf {
        size: u64,
    },
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    /// At the beginning of a trailer line, or of the empty line that ends the body.
    TrailerStart {
        seen: usize,
    },
    TrailerName {
        seen: usize,
    },
    TrailerValue {
        seen: usize,
    },
    TrailerLf {
        seen: usize,
    },
    EndLf,
    Refused,
}

/// The state of one connection's request stream.
#[derive(Debug)]
pub struct Guard {
    framing: Framing,
    /// How much of the kept head was searched already.
    searched: usize,
    upgrade_after_body: bool,
    max_head_bytes: usize,
    max_headers: usize,
    heads: u64,
}

impl Guard {
    pub fn new(max_head_bytes: usize, max_headers: usize) -> Guard {
        Guard { framing: Framing::Head, searched: 0, upgrade_after_body: false, max_head_bytes, max_headers, heads: 0 }
    }

    /// How many complete heads have passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the stream stands between two messages.
    pub fn between_messages(&self) -> bool {
        matches!(self.framing, Framing::Head | Framing::Upgrade)
    }

    /// The upgrade was not granted: what follows is HTTP again.
    pub fn resume(&mut self) {
        if self.framing == Framing::Upgrade {
            self.framing = Framing::Head;
        }
    }

    /// Judges the next bytes of the stream. After [`Verdict::Keep`] they begin with what was kept.
    pub fn scan(&mut self, bytes: &[u8]) -> Verdict {
        let mut pass = 0;
        loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            let step = match self.framing {
                _ if rest.is_empty() => return Verdict::Pass,
                Framing::Refused => return Verdict::Keep(pass),
                Framing::Upgrade => return Verdict::Await(pass),
                Framing::Head => self.head(rest),
                _ => self.body(rest),
            };
            match step {
                Ok(0) => return Verdict::Keep(pass),
                Ok(used) => pass += used,
                Err(refusal) => {
                    let in_body = self.framing != Framing::Head;
                    self.framing = Framing::Refused;
                    return Verdict::Refuse { pass, in_body, refusal };
                }
            }
        }
    }

    /// The length of the head, once it is complete; 0 until then.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        // What lies beyond the limit is not looked at: a refusal must not depend on how much has come yet.
        let within = bytes.get(..self.max_head_bytes).unwrap_or(bytes);
        let Some(end) = self.find_end(within)? else { return self.incomplete(bytes) };
        let head = bytes.get(..end).unwrap_or(bytes);
        let judged = if self.max_headers <= INLINE_HEADERS {
            let mut slots = [const { MaybeUninit::uninit() }; INLINE_HEADERS];
            judge_head(head, slots.get_mut(..self.max_headers).unwrap_or_default())?
        } else {
            judge_head(head, &mut vec![MaybeUninit::uninit(); self.max_headers])?
        };
        self.heads += 1;
        self.searched = 0;
        self.upgrade_after_body = judged.upgrade;
        self.framing = match judged.body {
            Body::None => self.after_body(),
            Body::Length(bytes) => Framing::Length(bytes),
            Body::Chunked => Framing::ChunkSize { size: 0, digits: 0 },
        };
        Ok(end)
    }

    fn after_body(&mut self) -> Framing {
        if std::mem::take(&mut self.upgrade_after_body) { Framing::Upgrade } else { Framing::Head }
    }

    /// The length of the head with its empty line, once it is there. Every line must end in CR LF.
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        // The line under way is searched again: it is where the last search stopped.
        let mut line = self.searched;
        let mut started = line > 0;
        while let Some(n) = bytes.get(line..).and_then(|rest| memchr(b'\n', rest)) {
            if n == 0 || bytes.get(line + n - 1) != Some(&b'\r') {
                return Err(refusal(Reason::BadRequest, "a line of the head does not end in CR LF"));
            }
            let empty = n == 1;
            line += n + 1;
            if empty && started {
                return Ok(Some(line));
            }
            if empty && line > MAX_LEADING_BYTES {
                return Err(refusal(Reason::BadRequest, "empty lines before the request line"));
            }
            started |= !empty;
            if started {
                self.searched = line;
            }
        }
        Ok(None)
    }

    fn incomplete(&self, bytes: &[u8]) -> Result<usize, Refusal> {
        if bytes.len() <= self.max_head_bytes {
            Ok(0)
        } else if self.searched == 0 {
            Err(refusal(Reason::TargetTooLong, "the request line exceeds the limit of the head"))
        } else {
            Err(refusal(Reason::HeadersTooLarge, "the head exceeds its limit"))
        }
    }

    /// One step through a body.
    fn body(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        let (next, used) = match (self.framing, first) {
            (Framing::Length(left), _) => {
                let used = take(left, bytes.len());
                let left = left - used as u64;
                (if left == 0 { self.after_body() } else { Framing::Length(left) }, used)
            }
            (Framing::ChunkSize { size, digits }, b) if b.is_ascii_hexdigit() => {
                if digits == MAX_CHUNK_DIGITS {
                    return malformed("a chunk size has too many digits");
                }
                let digit = (b as char).to_digit(16).unwrap_or_default();
                (Framing::ChunkSize { size: size << 4 | u64::from(digit), digits: digits + 1 }, 1)
            }
            (Framing::ChunkSize { size, digits: 1.. }, b'\r') => (Framing::ChunkSizeLf { size }, 1),
            (Framing::ChunkSize { size, digits: 1.. }, b';') => (Framing::ChunkExtension { size, seen: 0 }, 1),
            (Framing::ChunkSize { .. }, _) => return malformed("a chunk size is malformed"),
            (Framing::ChunkExtension { size, .. }, b'\r') => (Framing::ChunkSizeLf { size }, 1),
            (Framing::ChunkExtension { size, seen }, b) if is_field_byte(b) && seen < MAX_CHUNK_EXTENSION_BYTES => {
                (Framing::ChunkExtension { size, seen: seen + 1 }, 1)
            }
            (Framing::ChunkExtension { .. }, _) => return malformed("a chunk extension is malformed"),
            (Framing::ChunkSizeLf { size: 0 }, b'\n') => (Framing::TrailerStart { seen: 0 }, 1),
            (Framing::ChunkSizeLf { size }, b'\n') => (Framing::ChunkData(size), 1),
            (Framing::ChunkSizeLf { .. }, _) => return malformed("a chunk size does not end in CR LF"),
            (Framing::ChunkData(left), _) => {
                let used = take(left, bytes.len());
                let left = left - used as u64;
                (if left == 0 { Framing::ChunkDataCr } else { Framing::ChunkData(left) }, used)
            }
            (Framing::ChunkDataCr, b'\r') => (Framing::ChunkDataLf, 1),
            (Framing::ChunkDataLf, b'\n') => (Framing::ChunkSize { size: 0, digits: 0 }, 1),
            (Framing::ChunkDataCr | Framing::ChunkDataLf, _) => {
                return malformed("a chunk's data is not followed by CR LF");
            }
            (Framing::TrailerStart { .. }, b'\r') => (Framing::EndLf, 1),
            (Framing::EndLf, b'\n') => (self.after_body(), 1),
            (Framing::TrailerStart { seen } | Framing::TrailerName { seen }, b) if is_token_byte(b) => {
                (Framing::TrailerName { seen: trailer_bytes(seen)? }, 1)
            }
            (Framing::TrailerName { seen }, b':') => (Framing::TrailerValue { seen: trailer_bytes(seen)? }, 1),
            (Framing::TrailerValue { seen }, b'\r') => (Framing::TrailerLf { seen: trailer_bytes(seen)? }, 1),
            (Framing::TrailerValue { seen }, b) if is_field_byte(b) => {
                (Framing::TrailerValue { seen: trailer_bytes(seen)? }, 1)
            }
            (Framing::TrailerLf { seen }, b'\n') => (Framing::TrailerStart { seen }, 1),
            _ => return malformed("the trailer section is malformed"),
        };
        self.framing = next;
        Ok(used)
    }
}

struct Judged {
    body: Body,
    upgrade: bool,
}

enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Checks one complete head: what RFC 9112 §3, §5 and §6 ask for, and nothing that hyper would repair.
fn judge_head<'b>(head: &'b [u8], slots: &mut [MaybeUninit<httparse::Header<'b>>]) -> Result<Judged, Refusal> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(refusal(Reason::BadRequest, "the head ends early")),
        Err(error) => return Err(parse_refusal(error)),
    }
    let method = request.method.unwrap_or_default();
    check_target(method, request.path.unwrap_or_default())?;
    let mut fields = Fields::default();
    for field in request.headers.iter() {
        fields.read(field)?;
    }
    fields.judge(method, request.version == Some(1))
}

/// What the head says about framing.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl Fields {
    fn read(&mut self, field: &httparse::Header<'_>) -> Result<(), Refusal> {
        let name = field.name;
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                if self.length.is_some() {
                    return Err(refusal(Reason::HeaderDuplicated, "several Content-Length fields"));
                }
                self.length = Some(content_length(field.value)?);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked {
                    return Err(refusal(Reason::HeaderDuplicated, "several Transfer-Encoding fields"));
                }
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(refusal(Reason::BadRequest, "the transfer coding is not exactly `chunked`"));
                }
                self.chunked = true;
            }
            7 if name.eq_ignore_ascii_case("upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case("connection") => {
                self.connection_upgrade |= lists(field.value, b"upgrade");
            }
            _ => {}
        }
        Ok(())
    }

    fn judge(&self, method: &str, http11: bool) -> Result<Judged, Refusal> {
        if self.chunked && self.length.is_some() {
            return Err(refusal(Reason::BadRequest, "Content-Length beside Transfer-Encoding"));
        }
        if self.chunked && !http11 {
            return Err(refusal(Reason::BadRequest, "Transfer-Encoding in HTTP/1.0"));
        }
        if method == "CONNECT" || method == "TRACE" {
            return Err(refusal(Reason::MethodNotAllowed, "CONNECT or TRACE"));
        }
        let body = match (self.chunked, self.length) {
            (true, _) => Body::Chunked,
            (false, None | Some(0)) => Body::None,
            (false, Some(length)) => Body::Length(length),
        };
        Ok(Judged { body, upgrade: self.upgrade && self.connection_upgrade && http11 })
    }
}

/// RFC 9112 §3.2: origin form, absolute form, or `*` for OPTIONS; visible ASCII only, no fragment.
fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    if method == REFUSED_METHOD {
        return Err(refusal(Reason::MethodNotAllowed, "a reserved method"));
    }
    if target.len() > MAX_TARGET_BYTES {
        return Err(refusal(Reason::TargetTooLong, "the target exceeds what HTTP parsers take"));
    }
    let plain = target.bytes().all(|b| PLAIN_TARGET.get(b as usize).copied().unwrap_or_default());
    match target.as_bytes().first() {
        Some(b'/') if plain => Ok(()),
        Some(b'/') if target.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#') => {
            let parsed = target.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed.as_str() == target);
            if parsed { Ok(()) } else { Err(refusal(Reason::BadRequest, "a byte that may not stand in a target")) }
        }
        Some(b'/') => Err(refusal(Reason::BadRequest, "a byte that may not stand in a target")),
        Some(b'*') if target == "*" && method == "OPTIONS" => Ok(()),
        _ if method == "CONNECT" => Err(refusal(Reason::MethodNotAllowed, "CONNECT")),
        _ => check_absolute(target),
    }
}

fn check_absolute(target: &str) -> Result<(), Refusal> {
    let known = target.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && !target.contains('#')
    });
    if known { Ok(()) } else { Err(refusal(Reason::BadRequest, "the target is neither a path nor an http URI")) }
}

/// RFC 3986's characters of a path and a query: what both [`http::Uri`] and this guard take without a second look.
const PLAIN_TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%[]";
    let mut n = 0;
    while n < allowed.len() {
        table[allowed[n] as usize] = true;
        n += 1;
    }
    table
};

/// RFC 9110 §8.6: digits. A leading zero reads as octal somewhere, so it is refused.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let bad = refusal(Reason::BadRequest, "Content-Length is not a plain number");
    if value.is_empty() || value.len() > 18 || (value.len() > 1 && value.first() == Some(&b'0')) {
        return Err(bad);
    }
    value.iter().try_fold(0u64, |number, b| match b {
        b'0'..=b'9' => Ok(number * 10 + u64::from(b - b'0')),
        _ => Err(bad),
    })
}

/// Whether a comma-separated list holds `item`, without case.
pub fn lists(value: &[u8], item: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(item))
}

fn parse_refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => refusal(Reason::HeadersTooLarge, "too many header fields"),
        httparse::Error::HeaderName => refusal(Reason::BadRequest, "a field name is malformed"),
        httparse::Error::HeaderValue => refusal(Reason::BadRequest, "a field value is malformed"),
        httparse::Error::Version => refusal(Reason::BadRequest, "the version is not HTTP/1.0 or HTTP/1.1"),
        _ => refusal(Reason::BadRequest, "the request line is malformed"),
    }
}

fn refusal(reason: Reason, evidence: &'static str) -> Refusal {
    Refusal { reason, evidence }
}

fn malformed(evidence: &'static str) -> Result<usize, Refusal> {
    Err(refusal(Reason::BadRequest, evidence))
}

fn trailer_bytes(seen: usize) -> Result<usize, Refusal> {
    if seen < MAX_TRAILER_BYTES {
        Ok(seen + 1)
    } else {
        Err(refusal(Reason::HeadersTooLarge, "the trailer section exceeds its limit"))
    }
}

fn take(left: u64, available: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(available)
}

/// RFC 9110 §5.5: visible characters, space, tab and obs-text.
fn is_field_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// RFC 9110 §5.6.2.
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
