//! What stands between the socket and hyper: the HTTP/1 guard, the wire around it, the HTTP/2 frame counter, PROXY headers.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stockade_engine::Reason;
use stockade_gateway::fuzzing::{FrameCounter, asks_upgrade, proxy_header, wire_http1};
use stockade_gateway::guard::{Guard, REFUSED_METHOD, Verdict};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::support::fingerprint;

const MAX_HEAD_BYTES: usize = 1_024;
const MAX_HEADERS: usize = 16;
/// Longer streams show nothing that shorter ones do not.
const MAX_STREAM_BYTES: usize = 8_192;
/// Nothing here waits for time: what takes this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

pub const HTTP1_WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\n",
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    "content-length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length: 05\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\na: b\r\n\r\n",
    "5;x=\"y\"\r\n",
    "00005\r\n",
    "fffffffffffffff\r\n",
    "hello",
    " HTTP/1.1",
    " HTTP/1.0",
    "HTTP/2.0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "connection: upgrade\r\n",
    "connection: close\r\n",
    "upgrade: websocket\r\n",
    "expect: 100-continue\r\n",
    "OPTIONS * HTTP/1.1",
    "http://a/",
    "\t",
    " ",
    ":",
    ";",
    "\0",
    "\u{b}",
    "é",
];
pub const PROXY_WORDS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "\r\n",
    "192.0.2.1 ",
    "2001:db8::1 ",
    "1 ",
    "65535",
    "\r\n\r\n\0\r\nQUIT\n",
    "\u{21}\u{11}\0\u{c}",
    " ",
];

/// A message as hyper hands it on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    /// `None`: it broke off.
    body: Option<Bytes>,
}

/// Shows `bytes` to a guard in pieces. Answers with what passed, whether it was refused, the guard, and how much had passed when
/// each head was complete.
fn feed(bytes: &[u8], mut cut: impl FnMut() -> usize) -> (Vec<u8>, Option<Reason>, Guard, Vec<usize>) {
    let mut guard = Guard::new(MAX_HEAD_BYTES, MAX_HEADERS);
    let (mut passed, mut held, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut().clamp(1, rest.len()));
        rest = after;
        held.extend_from_slice(piece);
        loop {
            let heads = guard.heads();
            let (pass, refused, again) = match guard.scan(&held) {
                Verdict::Pass => (held.len(), None, false),
                Verdict::Keep(pass) => (pass, None, false),
                Verdict::Await(pass) => {
                    // As if every upgrade were declined.
                    guard.resume();
                    (pass, None, pass < held.len())
                }
                Verdict::Refuse { pass, refusal, .. } => (pass, Some(refusal.reason), false),
            };
            assert!(pass <= held.len());
            passed.extend(held.drain(..pass));
            ends.extend((heads..guard.heads()).map(|_| passed.len()));
            if refused.is_some() {
                return (passed, refused, guard, ends);
            }
            if !again {
                break;
            }
        }
    }
    (passed, None, guard, ends)
}

/// Data: what a client sends.
pub fn guard(data: &[u8]) -> u64 {
    let data = data.get(..MAX_STREAM_BYTES).unwrap_or(data);
    let (passed, refused, guard, _) = feed(data, || usize::MAX);
    let mut seed = fingerprint(data);
    let cuts = feed(data, || {
        seed = seed.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (seed >> 58) as usize
    });
    let (single, single_refused, single_guard, ends) = feed(data, || 1);
    assert!(data.starts_with(&passed), "the guard changes what it passes");
    assert_eq!((&cuts.0, cuts.1), (&passed, refused), "cut at random");
    assert_eq!((&single, single_refused), (&passed, refused), "byte by byte");
    assert_eq!((guard.heads(), guard.between_messages()), (single_guard.heads(), single_guard.between_messages()));

    let (seen, malformed) = run(hyper_reads(&passed));
    let shown = String::from_utf8_lossy(&passed);
    assert!(!malformed, "hyper refuses what passed: {shown:?}");
    let closes = closes(&passed);
    assert!(seen.len() as u64 == guard.heads() || closes && (seen.len() as u64) < guard.heads(), "{seen:?} {shown:?}");
    if refused.is_none() && !closes && guard.between_messages() {
        assert!(seen.iter().all(|message| message.body.is_some()), "{seen:?} {shown:?}");
    }
    // The guard's head ends exactly where hyper's does: a byte less, and hyper does not see it.
    if let Some((number, end)) =
        ends.get(seen.len().saturating_sub(1)).map(|end| (seen.len(), *end)).filter(|_| !seen.is_empty())
    {
        assert_eq!(run(hyper_reads(&passed[..end])).0.len(), number, "{shown:?}");
        assert_eq!(run(hyper_reads(&passed[..end - 1])).0.len(), number - 1, "{shown:?}");
    }
    let state = format!("{guard:?}");
    let state: String =
        state.split("searched").next().unwrap_or_default().chars().filter(char::is_ascii_alphabetic).collect();
    fingerprint((
        refused,
        seen.len().min(6),
        state,
        seen.iter().filter(|message| message.body.is_none()).count().min(3),
    ))
}

/// Whether some head may make hyper look no further.
fn closes(passed: &[u8]) -> bool {
    let text = String::from_utf8_lossy(passed).to_ascii_lowercase();
    text.contains("close") || text.contains("http/1.0")
}

/// Runs one future on this thread, with an end to waiting.
fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("the connection hangs")
    })
}

async fn hyper_reads(bytes: &[u8]) -> (Vec<Seen>, bool) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.expect("room");
    client.shutdown().await.expect("an end");
    serve(server, || {}, client).await
}

/// What hyper makes of a connection: the messages, and whether it calls the stream malformed.
async fn serve<S>(
    server: S,
    decline: impl Fn() + Clone + 'static,
    mut client: tokio::io::DuplexStream,
) -> (Vec<Seen>, bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = seen.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (noted, decline) = (noted.clone(), decline.clone());
        async move {
            let (parts, body) = request.into_parts();
            let at = noted.borrow().len();
            noted.borrow_mut().push(Seen {
                method: parts.method.to_string(),
                target: parts.uri.to_string(),
                body: None,
            });
            let body = body.collect().await.ok().map(|whole| whole.to_bytes());
            noted.borrow_mut()[at].body = body;
            if asks_upgrade(&parts).is_some() {
                decline();
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.half_close(true);
    let served = connection.serve_connection(TokioIo::new(server), service).await;
    let _ = client.read_to_end(&mut Vec::new()).await;
    let seen = seen.borrow().clone();
    (seen, served.is_err_and(|error| error.is_parse()))
}

/// Data: what a client sends, in as many pieces as the first byte says. Through the real I/O wrapper hyper must see what it sees
/// in the bytes that pass the guard, and then the stand-in for what does not.
pub fn wire(data: &[u8]) -> u64 {
    let Some((first, data)) = data.split_first() else { return 0 };
    let data = data.get(..MAX_STREAM_BYTES).unwrap_or(data);
    let (passed, refused, ..) = feed(data, || usize::MAX);
    let (expected, _) = run(hyper_reads(&passed));
    let size = data.len() / usize::from(first % 16 + 1) + 1;
    let (mut seen, malformed) = run(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let (wired, decline) = wire_http1(server, MAX_HEAD_BYTES, MAX_HEADERS).expect("a place");
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let decline = Rc::new(decline);
        let served = serve(wired, move || decline(), reader);
        let send = async {
            for piece in data.chunks(size) {
                // An end that has seen enough takes no more.
                if client.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut Vec::new()).await;
            let _ = writer.shutdown().await;
        };
        tokio::join!(served, send).0
    });
    assert!(!malformed, "hyper refuses what passed");
    let refusals = seen.iter().filter(|message| message.method == REFUSED_METHOD).count();
    assert!(refusals <= usize::from(refused.is_some()), "{seen:?}");
    seen.retain(|message| message.method != REFUSED_METHOD);
    assert_eq!(seen, expected, "through the wire hyper sees something else");
    fingerprint((refused, refusals, seen.len().min(6)))
}

/// Data: HTTP/2 frames, behind the preface.
pub fn frames(data: &[u8]) -> u64 {
    let data = data.get(..MAX_STREAM_BYTES).unwrap_or(data);
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", data].concat();
    let count = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut counter = FrameCounter::new(1_024, 0);
        let flood = pieces.map(|piece| counter.scan(piece, 0)).find(Result::is_err);
        (flood, counter.blocks(), counter.block_open())
    };
    let (flood, blocks, open) = count(&mut std::iter::once(bytes.as_slice()));
    assert_eq!(count(&mut bytes.chunks(1)), (flood, blocks, open), "byte by byte");
    assert_eq!(count(&mut bytes.chunks(7)), (flood, blocks, open), "seven by seven");
    if flood.is_none() {
        let accepted = run(h2_accepts(&bytes));
        assert!(accepted <= blocks, "h2 sees {accepted} heads, the counter {blocks}");
    }
    fingerprint((flood, blocks.min(9), open))
}

async fn h2_accepts(bytes: &[u8]) -> u64 {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.expect("room");
    client.shutdown().await.expect("an end");
    let Ok(mut connection) = h2::server::handshake(server).await else { return 0 };
    let mut accepted = 0;
    let mut requests = Vec::new();
    while let Some(Ok(request)) = connection.accept().await {
        accepted += 1;
        requests.push(request);
    }
    accepted
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let head = [0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
    let settings = frame(4, 0, 0, &[]);
    vec![
        [settings.clone(), frame(1, 5, 1, &head), frame(6, 0, 0, b"12345678")].concat(),
        [settings.clone(), frame(1, 0, 1, &head[..3]), frame(9, 4, 1, &head[3..]), frame(0, 1, 1, b"hello")].concat(),
        [settings.clone(), frame(1, 4, 1, &head), frame(3, 0, 1, &[0, 0, 0, 8]), frame(1, 5, 3, &head)].concat(),
        [settings, frame(8, 0, 0, &[0, 0, 1, 0]), frame(2, 0, 1, &[0, 0, 0, 0, 1]), frame(7, 0, 0, &[0; 8])].concat(),
    ]
}

/// Data: the beginning of a connection from a trusted balancer.
pub fn proxy_protocol(data: &[u8]) -> u64 {
    let read = |piece: usize| {
        let mut end = 0;
        while end < data.len() {
            end = (end + piece).min(data.len());
            match proxy_header(&data[..end]) {
                Ok(None) => {}
                Ok(Some(found)) => return Some(Ok(found)),
                Err(_) => return Some(Err(())),
            }
        }
        None
    };
    let whole = read(data.len().max(1));
    for piece in [1, 7, 100] {
        assert_eq!(read(piece), whole, "in pieces of {piece}");
    }
    if let Some(Ok((source, length))) = whole {
        assert!(length <= data.len());
        let alone = proxy_header(&data[..length]).ok().flatten();
        assert_eq!(alone, Some((source, length)), "what follows the header changes it");
    }
    fingerprint(whole.map(|found| found.map(|(source, _)| source.map(|address| address.is_ipv4()))))
}

pub fn proxy_seeds() -> Vec<Vec<u8>> {
    let v2 = |kind: [u8; 2], body: &[u8]| {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &kind[..], &length, body, b"GET / HTTP/1.1\r\n\r\n"].concat()
    };
    vec![
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n\x16\x03\x01".to_vec(),
        v2([0x21, 0x11], &[192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 1, 187]),
        v2([0x21, 0x21], &[1; 36]),
        v2([0x20, 0], &[]),
        v2([0x21, 0x11], &[192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 1, 187, 4, 0, 1, 9]),
    ]
}
