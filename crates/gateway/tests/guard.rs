//! The guard: what it refuses, and that hyper sees the same message boundaries in what passes.

mod support;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stockade_engine::Reason;
use stockade_gateway::guard::{Guard, Verdict};
use support::on_thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAX_HEAD_BYTES: usize = 4_096;
const MAX_HEADERS: usize = 32;

/// Shows `bytes` to a guard in pieces of `cut`. Answers with what passed, whether it was refused, and the guard.
fn feed(bytes: &[u8], mut cut: impl FnMut() -> usize) -> (Vec<u8>, Option<Reason>, Guard) {
    let mut guard = Guard::new(MAX_HEAD_BYTES, MAX_HEADERS);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut().clamp(1, rest.len()));
        rest = after;
        held.extend_from_slice(piece);
        let (pass, refused) = match guard.scan(&held) {
            Verdict::Pass => (held.len(), None),
            Verdict::Keep(pass) => (pass, None),
            Verdict::Await(pass) => {
                // As if every upgrade were declined.
                guard.resume();
                (pass, None)
            }
            Verdict::Refuse { pass, refusal, .. } => (pass, Some(refusal.reason)),
        };
        passed.extend(held.drain(..pass));
        if refused.is_some() {
            return (passed, refused, guard);
        }
    }
    (passed, None, guard)
}

fn refused(bytes: &[u8]) -> Option<Reason> {
    let whole = feed(bytes, || usize::MAX).1;
    assert_eq!(feed(bytes, || 1).1, whole, "byte by byte: {:?}", String::from_utf8_lossy(bytes));
    whole
}

fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n").into_bytes()
}

fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}").into_bytes()
}

#[test]
fn honest_messages_pass_unchanged() {
    for bytes in [
        get(""),
        [get(""), get("")].concat(),
        [b"\r\n".to_vec(), get("")].concat(),
        post("content-length: 5\r\n", "hello"),
        post("Content-Length: 0\r\n", ""),
        post("transfer-encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\n", "5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n"),
        post("transfer-encoding: chunked\r\n", "000a\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n"),
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"GET http://a/b?c[d]=e HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"GET /?q={a|b}^ HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        get("x-name: caf\u{e9}\r\n"),
    ] {
        for cut in [1, 2, 7, usize::MAX] {
            let (passed, refused, guard) = feed(&bytes, || cut);
            assert_eq!(refused, None, "{:?}", String::from_utf8_lossy(&bytes));
            assert_eq!(passed, bytes);
            assert!(guard.between_messages());
        }
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: hidden\r\n\r\n";
    for lines in [
        "content-length: 43\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "content-length: 0\r\ncontent-length: 43\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5;\r\n",
        "content-length: 18446744073709551621\r\n",
        "content-length:\r\n",
        "content-length: 0005\r\n",
        "content-length : 5\r\n",
        "content-length:\r\n 5\r\n",
    ] {
        assert!(refused(&post(lines, smuggled)).is_some(), "{lines:?}");
    }
    let old = format!("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    assert_eq!(refused(old.as_bytes()), Some(Reason::BadRequest));
}

#[test]
fn heads_that_hyper_would_repair_are_refused() {
    for lines in [
        "x-a: b\nx-b: c\r\n",
        "x-a: b\rx-b: c\r\n",
        "x-a: b\r\n c\r\n",
        "x-a: b\r\n\tc\r\n",
        "x-a: b\0c\r\n",
        "x-a: b\x7fc\r\n",
        "x a: b\r\n",
        "x-a : b\r\n",
        ": b\r\n",
        "x-a b\r\n",
        "x-a(b): c\r\n",
    ] {
        assert_eq!(refused(&get(lines)), Some(Reason::BadRequest), "{lines:?}");
    }
    for line in [
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET / HTTP/1.1 x",
        "GET / HTTP/1.10",
        "GET  / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "\0GET / HTTP/1.1",
        " GET / HTTP/1.1",
        "GE(T / HTTP/1.1",
        "GET HTTP/1.1",
        "GET x/ HTTP/1.1",
        "GET \\/ HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /<> HTTP/1.1",
        "GET * HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        assert_eq!(refused(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()), Some(Reason::BadRequest), "{line:?}");
    }
    assert_eq!(refused(b"GET / HTTP/1.1\nhost: a\n\n"), Some(Reason::BadRequest));
    assert_eq!(refused(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"), Some(Reason::BadRequest));
}

#[test]
fn what_is_too_large_or_never_served_says_so() {
    let long = "a".repeat(MAX_HEAD_BYTES);
    assert_eq!(refused(format!("GET /{long}").as_bytes()), Some(Reason::TargetTooLong));
    assert_eq!(refused(&get(&format!("x-a: {long}\r\n"))), Some(Reason::HeadersTooLarge));
    let many: String = (0..MAX_HEADERS).map(|n| format!("x-{n}: b\r\n")).collect();
    assert_eq!(refused(&get(&many)), Some(Reason::HeadersTooLarge));
    // What follows beyond the limit changes nothing, whether it has come yet or not.
    assert_eq!(refused(&get(&format!("x-a: {long}\r\nx-b: c\n"))), Some(Reason::HeadersTooLarge));
    for line in ["CONNECT a:22 HTTP/1.1", "TRACE / HTTP/1.1", "STOCKADE-REFUSED / HTTP/1.1"] {
        assert_eq!(refused(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()), Some(Reason::MethodNotAllowed));
    }
}

#[test]
fn chunks_are_followed_strictly() {
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0_5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        ";a\r\nhello\r\n0\r\n\r\n",
        "0\r\nx y: z\r\n\r\n",
        "0\r\n: z\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx: a\n\r\n",
    ] {
        let bytes = post("transfer-encoding: chunked\r\n", body);
        assert_eq!(refused(&bytes), Some(Reason::BadRequest), "{body:?}");
    }
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(65_536));
    assert!(refused(&post("transfer-encoding: chunked\r\n", &extension)).is_some());
    let trailer = format!("0\r\nx: {}\r\n\r\n", "a".repeat(65_536));
    assert_eq!(refused(&post("transfer-encoding: chunked\r\n", &trailer)), Some(Reason::HeadersTooLarge));
}

#[test]
fn nothing_passes_while_an_upgrade_is_open() {
    let ask = get("connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n");
    let mut guard = Guard::new(MAX_HEAD_BYTES, MAX_HEADERS);
    let bytes = [ask.clone(), get("")].concat();
    assert_eq!(guard.scan(&bytes), Verdict::Await(ask.len()));
    assert_eq!(guard.scan(&get("")), Verdict::Await(0));
    guard.resume();
    assert_eq!(guard.scan(&get("")), Verdict::Pass);
    // Without `Connection: upgrade` nothing is asked (RFC 9110 §7.8).
    assert_eq!(guard.scan(&get("upgrade: websocket\r\n")), Verdict::Pass);
}

/// A small generator of its own, so that a failure can be repeated from its seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }
}

/// Mostly valid pipelined requests, with an odd piece here and there, and sometimes a byte changed.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.next(5) {
        let odd = random.next(6) == 0;
        message(random, odd, &mut bytes);
    }
    if random.next(4) == 0 {
        let at = random.next(bytes.len());
        bytes[at] = *b"\r\n\0 :;0a\x7f\xff".get(random.next(10)).unwrap_or(&b' ');
    }
    bytes
}

fn message(random: &mut Random, odd: bool, bytes: &mut Vec<u8>) {
    let mut pick = |plain: &[&'static str], strange: &[&'static str]| {
        let from = if odd && random.next(3) == 0 { strange } else { plain };
        from[random.next(from.len())].as_bytes()
    };
    bytes.extend(pick(&["GET ", "POST ", "PUT ", "HEAD ", "X "], &["OPTIONS * HTTP/1.1\r\n", "GET  ", ""]));
    bytes.extend(pick(
        &["/", "/a?b=c", "http://a/", "/%2e", "//", "/a;b", "/|"],
        &["*", "/\"", "/`", "x", "/?\"", "/\u{e9}"],
    ));
    bytes.extend(pick(
        &[" HTTP/1.1\r\nhost: a\r\n"],
        &[" HTTP/1.0\r\n", " HTTP/1.2\r\n", " HTTP/1.1\n", " HTTP/1.1\r\n"],
    ));
    for _ in 0..2 {
        let fields =
            ["x: y\r\n", "x:y \r\n", "x:\r\n", "x: \u{e9}\r\n", "expect: 100-continue\r\n", "te: trailers\r\n", ""];
        let strange = [
            "connection: close\r\n",
            "connection: upgrade\r\n",
            "upgrade: h2c\r\n",
            "content-length: 3\r\n",
            "transfer-encoding: chunked\r\n",
            "x : y\r\n",
            " x: y\r\n",
            "x: y\n",
            "x: y\r",
        ];
        bytes.extend(pick(&fields, &strange));
    }
    let bodies = [
        "\r\n",
        "content-length: 5\r\n\r\nhello",
        "content-length: 0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n005\r\nhello\r\n5;x=\"y\"\r\nhello\r\n0\r\na: b\r\nc:d\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\n\r\n0\r\n00\r\n\r\n",
    ];
    let strange = [
        "transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n5;\t\r\nhello\r\n0\r\na\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "content-length: 9\r\n\r\nhello",
    ];
    bytes.extend(pick(&bodies, &strange));
}

/// What hyper makes of `bytes`: the requests it saw, how many of them whole, and whether it called the stream malformed.
async fn hyper_reads(bytes: &[u8]) -> (u64, u64, bool) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let seen = Rc::new(RefCell::new((0, 0)));
    let counted = seen.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let counted = counted.clone();
        async move {
            counted.borrow_mut().0 += 1;
            if request.into_body().collect().await.is_ok() {
                counted.borrow_mut().1 += 1;
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    client.write_all(bytes).await.expect("room");
    client.shutdown().await.expect("an end");
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.half_close(true);
    let served = connection.serve_connection(TokioIo::new(server), service).await;
    let _ = client.read_to_end(&mut Vec::new()).await;
    let (requests, whole) = *seen.borrow();
    (requests, whole, served.is_err_and(|error| error.is_parse()))
}

#[test]
fn hyper_sees_the_same_boundaries_in_what_passes() {
    on_thread(async {
        let (mut messages, mut refusals) = (0, 0);
        for seed in 1..60_000u64 {
            let mut random = Random(seed);
            let bytes = stream(&mut random);
            let (passed, refused, guard) = feed(&bytes, || 1 + random.next(40));
            let (requests, whole, malformed) = hyper_reads(&passed).await;
            let shown = String::from_utf8_lossy(&passed);
            assert!(!malformed, "seed {seed}: hyper refuses what passed: {shown:?}");
            // After a request that closes the connection hyper looks no further.
            let closes = shown.contains("close") || shown.contains("HTTP/1.0");
            assert!(requests == guard.heads() || closes && requests < guard.heads(), "seed {seed}: {shown:?}");
            if refused.is_none() && !closes && guard.between_messages() {
                assert_eq!(whole, requests, "seed {seed}: {shown:?}");
            }
            messages += requests;
            refusals += u64::from(refused.is_some());
        }
        assert!(messages > 60_000 && refusals > 10_000, "the generator is worth its time: {messages}, {refusals}");
    });
}
