//! The gateway as a process: what clients, upstreams and operators see.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Folder;
use support::gate::{Answer, Gate, Signer, Upstream, configuration, kill, operations, payload, spawn, wait};

fn post(path: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: api.test\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_request_reaches_the_upstream_with_our_fields_and_not_the_clients() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let answer = gate.ask(
        "GET /echo?a=1 HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-User: admin\r\nX-Real-IP: 10.0.0.1\r\n\
         Authorization: Bearer stolen\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n",
    );
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true})));
    assert_eq!(answer.field("server"), None, "what the upstream runs on stays inside");
    let head = &upstream.received()[0];
    let mut lines: Vec<&str> = head.trim_end().lines().filter(|line| !line.starts_with("traceparent: 00-")).collect();
    lines.sort_unstable();
    let host = format!("host: {}", upstream.url().trim_start_matches("http://"));
    assert!(head.contains("traceparent: 00-"));
    let wanted = [
        "GET /echo?a=1 HTTP/1.1",
        &host,
        "via: 1.1 stockade",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: api.test",
        "x-forwarded-proto: http",
        "x-kept: yes",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn each_refusal_is_a_problem_whose_event_tells_why() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let cases = [
        ("GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 404, "lookup", "operation_unknown"),
        ("DELETE /echo HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 405, "lookup", "method_unknown"),
        ("GET /a/../echo HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400, "lookup", "path_ambiguous"),
        ("GET /echo HTTP/1.1\r\n\r\n".to_owned(), 400, "framing", "bad_host"),
        ("GET /echo HTTP/1.1\r\nhost: a\r\nx-a: b\n\r\n".to_owned(), 400, "framing", "bad_request"),
        ("TRACE /echo HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 405, "framing", "method_not_allowed"),
        (format!("GET /echo HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(40_000)), 431, "framing", "headers_too_large"),
        (post("/orders", "application/json", "{\"qty\":0}"), 400, "validate_request", "body_invalid"),
        (post("/orders", "application/json", "{\"qty\":1,\"qty\":2}"), 400, "validate_request", "body_duplicate_key"),
        (post("/orders", "text/plain", "x"), 415, "validate_request", "media_type_unsupported"),
        (post("/orders", "application/json", &"x".repeat(70_000)), 413, "validate_request", "body_too_large"),
        (post("/upload", "application/octet-stream", &"x".repeat(4 << 20)), 413, "validate_request", "body_too_large"),
        ("GET /private HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 401, "authenticate", "credentials_missing"),
        ("GET /echo HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(), 400, "framing", "upgrade_refused"),
        ("POST /orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), 400, "framing", "bad_request"),
    ];
    for (request, status, layer, reason) in cases {
        let answer = gate.ask(&request);
        let shown = request.get(..60).unwrap_or(&request);
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
        assert_eq!(answer.json()["status"], status);
        assert!(answer.json()["type"].as_str().is_some_and(|kind| kind.starts_with("https://problems.test/")));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        let id = answer.event_id();
        let event =
            gate.events(|event| event["id"] == id.as_str()).pop().unwrap_or_else(|| panic!("no event for {shown:?}"));
        assert_eq!(
            (&event["layer"], &event["reason"], &event["status"]),
            (&json!(layer), &json!(reason), &json!(status)),
            "{shown:?}"
        );
    }
    assert_eq!(gate.get("/private").field("www-authenticate").map(|value| value.starts_with("Bearer ")), Some(true));
    assert_eq!(
        gate.ask("DELETE /echo HTTP/1.1\r\nhost: a\r\n\r\n").field("allow").map(|allow| allow.contains("GET")),
        Some(true)
    );
    assert!(upstream.received().is_empty(), "nothing that is refused is forwarded");
}

#[test]
fn a_refusal_is_read_even_by_a_client_that_is_still_sending() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    for _ in 0..20 {
        let mut stream = gate.connect();
        let mut sender = stream.try_clone().expect("a clone");
        let sending = std::thread::spawn(move || {
            let _ = sender.write_all(b"POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n");
            let _ = sender.write_all(&[b'x'; 200_000]);
        });
        assert_eq!(Answer::read(&mut stream).expect("an answer").status, 404);
        sending.join().expect("sent");
    }
}

#[test]
fn nobody_is_asked_to_go_on_before_the_head_is_decided() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let expect = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        )
    };
    assert_eq!(gate.ask(&expect("/nothing")).status, 404);
    let mut stream = gate.connect();
    stream.write_all(expect("/orders").as_bytes()).expect("sent");
    assert_eq!(Answer::read(&mut stream).expect("an answer").status, 100);
    stream.write_all(b"{\"qty\":1}").expect("sent");
    assert_eq!(Answer::read(&mut stream).expect("an answer").status, 200);
    assert_eq!(gate.ask("POST /orders HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\ncontent-length: 0\r\n\r\n").status, 417);
}

#[test]
fn what_the_upstream_says_wrongly_stays_inside() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    for (path, status, reason) in [("/leak", 500, "error_sanitised"), ("/wrong", 502, "body_invalid")] {
        let answer = gate.get(path);
        assert_eq!(answer.status, status);
        assert!(!answer.head.contains("secret") && !String::from_utf8_lossy(&answer.body).contains("secret"));
        let id = answer.event_id();
        assert_eq!(gate.events(|event| event["id"] == id.as_str())[0]["reason"], reason);
    }
    let watched = gate.get("/watched");
    assert_eq!((watched.status, watched.json()), (200, json!({"qty": "secret"})), "`observe` lets it pass");
    let seen = gate.events(|event| event["outcome"] == "observe");
    assert_eq!((&seen[0]["operation"], &seen[0]["reason"]), (&json!("watched"), &json!("body_invalid")));
}

#[test]
fn streams_pass_as_they_come_in_constant_memory() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let mut stream = gate.connect();
    stream.write_all(b"GET /feed HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    let started = Instant::now();
    let mut seen = String::new();
    let mut bytes = [0; 1024];
    while !seen.contains("data: 1") {
        let n = stream.read(&mut bytes).expect("bytes");
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    assert!(started.elapsed() < Duration::from_millis(600), "the first event does not wait for the second");
    let mut stream = gate.connect();
    stream.write_all(b"GET /download HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    let head_and_body = std::io::copy(&mut (&stream).take(33_554_432), &mut std::io::sink()).expect("a body");
    assert_eq!(head_and_body, 33_554_432);
    let upload = post("/upload", "application/octet-stream", &"x".repeat(3 << 20));
    assert_eq!(gate.ask(&upload).status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.child.id())).expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    assert!(kilobytes < 60_000, "{kilobytes} kB");
}

#[test]
fn an_upgrade_is_spliced_where_it_is_declared() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let mut stream = gate.connect();
    // The first bytes of the tunnel come with the request: they must not be read as HTTP.
    stream
        .write_all(b"GET /socket HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n\x81\x00early")
        .expect("sent");
    let answer = Answer::read(&mut stream).expect("an answer");
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    let mut bytes = [0; 7];
    stream.read_exact(&mut bytes).expect("an echo");
    assert_eq!(&bytes, b"\x81\x00early");
    stream.write_all(b"later..").expect("sent");
    stream.read_exact(&mut bytes).expect("an echo");
    assert_eq!(&bytes, b"later..");
    stream.shutdown(Shutdown::Write).expect("a half close");
    assert_eq!(stream.read(&mut bytes).expect("an end"), 0);
}

#[test]
fn a_rate_is_told_and_kept() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let first = gate.get("/limited");
    assert_eq!(first.field("ratelimit-policy"), Some("\"operation\";q=3;w=60"));
    assert!(first.field("ratelimit").is_some_and(|state| state.starts_with("\"operation\";r=2;t=")));
    assert_eq!([gate.get("/limited").status, gate.get("/limited").status], [200, 200]);
    let over = gate.get("/limited");
    assert_eq!(over.status, 429);
    assert!(
        over.field("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|n| (1..=60).contains(&n)))
    );
}

#[test]
fn an_address_is_believed_from_trusted_proxies_only() {
    let upstream = Upstream::start();
    let ask = "GET /echo HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1, 198.51.100.7\r\n\r\n";
    let trusting =
        Gate::start(&upstream, json!({"listen": {"trusted_proxies": ["127.0.0.0/8"]}, "events": {"allowed": true}}));
    assert_eq!(trusting.ask(ask).status, 200);
    assert_eq!(trusting.events(|event| event["kind"] == "decision")[0]["client"]["address"], "198.51.100.7");
    let proxied = Gate::start(
        &upstream,
        json!({"listen": {"trusted_proxies": ["127.0.0.0/8"], "proxy_protocol": true}, "events": {"allowed": true}}),
    );
    assert_eq!(proxied.ask(&format!("PROXY TCP4 203.0.113.5 127.0.0.1 1 2\r\n{ask}")).status, 200);
    assert_eq!(proxied.events(|event| event["kind"] == "decision")[0]["client"]["address"], "203.0.113.5");
    let mut stream = proxied.connect();
    stream.write_all(ask.as_bytes()).expect("sent");
    assert!(Answer::read(&mut stream).is_none(), "a trusted balancer must send the header");
}

/// Short deadlines, so that the tests are short.
fn hasty() -> Value {
    json!({"connections": {"header_timeout_ms": 600, "idle_timeout_ms": 1200, "body_grace_seconds": 0, "write_timeout_ms": 800,
                           "body_min_bytes_per_second": 1000}})
}

#[test]
fn who_is_slow_is_cut_while_others_are_served() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, hasty());
    // A head that drips.
    let mut head = gate.connect();
    head.write_all(b"GET /echo HTTP/1.1\r\n").expect("sent");
    // A body that drips, to be validated; another to be streamed.
    let mut body = gate.connect();
    body.write_all(
        b"POST /orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{",
    )
    .expect("sent");
    let mut upload = gate.connect();
    upload.write_all(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: 5000\r\n\r\n{").expect("sent");
    // One who asks for much and reads nothing.
    let mut reader = gate.connect();
    reader.write_all(b"GET /download HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    // One who says nothing, and one who has nothing more to say.
    let mut silent = gate.connect();
    let mut idle = gate.connect();
    idle.write_all(b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    assert_eq!(Answer::read(&mut idle).expect("an answer").status, 200);
    for _ in 0..20 {
        let _ = head.write_all(b"x");
        assert_eq!(gate.get("/echo").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(Answer::read(&mut head).expect("an answer").status, 408);
    assert_eq!(Answer::read(&mut body).expect("an answer").status, 408);
    assert_eq!(Answer::read(&mut upload).expect("an answer").status, 408);
    assert!(Answer::read(&mut silent).is_none());
    assert!(Answer::read(&mut idle).is_none());
    let mut read = Vec::new();
    let _ = reader.read_to_end(&mut read);
    assert!(read.len() < 33_554_432, "the slow reader was cut after {} bytes", read.len());
    assert!(!gate.events(|event| event["reason"] == "timeout").is_empty());
}

#[test]
fn overload_is_shed_early_with_a_time_to_come_back() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({"connections": {"max_per_address": 4, "max_in_flight": 2}}));
    let mut slow: Vec<TcpStream> = (0..2).map(|_| gate.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    }
    std::thread::sleep(Duration::from_millis(200));
    let shed = gate.get("/echo");
    assert_eq!((shed.status, shed.field("retry-after")), (503, Some("1")));
    let id = shed.event_id();
    assert_eq!(gate.events(|event| event["id"] == id.as_str())[0]["reason"], "overloaded");
    let _held: Vec<TcpStream> = (0..2).map(|_| gate.connect()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let refused = Answer::read(&mut gate.connect()).expect("an answer to a connection too many");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(slow.iter_mut().all(|stream| Answer::read(stream).is_some_and(|answer| answer.status == 200)));
    drop((slow, _held));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(gate.get("/echo").status, 200, "places are given back");
}

#[test]
fn out_of_descriptors_it_waits_and_counts_and_comes_back() {
    let upstream = Upstream::start();
    let gate = Gate::start_with_descriptors(&upstream, 60);
    let spent = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.child.id())).expect("a status");
        let fields: Vec<u64> = stat
            .rsplit(") ")
            .next()
            .into_iter()
            .flat_map(|rest| rest.split(' '))
            .map(|f| f.parse().unwrap_or(0))
            .collect();
        fields[11] + fields[12]
    };
    let crowd: Vec<TcpStream> = (0..120).map(|_| gate.connect()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = spent();
    std::thread::sleep(Duration::from_secs(1));
    assert!(spent() - before < 30, "it spins: {} ticks in a second", spent() - before);
    drop(crowd);
    assert_eq!(gate.get("/echo").status, 200);
    let metrics = gate.metrics();
    let errors =
        metrics.lines().find_map(|line| line.strip_prefix("stockade_accept_errors_total ")).expect("a counter");
    assert_ne!(errors, "0");
}

#[test]
fn bodies_in_memory_have_one_budget() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({"connections": {"max_buffered_bytes": 50_000}}));
    let half = |n: usize| format!("{{\"qty\":1,\"x\":\"{}\"}}", "x".repeat(n));
    assert_eq!(gate.ask(&post("/orders", "application/json", &half(40_000))).status, 200);
    let over = gate.ask(&post("/orders", "application/json", &half(60_000)));
    assert_eq!((over.status, over.field("retry-after")), (503, Some("1")));
    assert_eq!(gate.ask(&post("/orders", "application/json", &half(40_000))).status, 200, "the budget is given back");
}

#[test]
fn a_good_bundle_is_swapped_in_and_a_bad_one_changes_nothing() {
    let upstream = Upstream::start();
    let gate = Gate::start(&upstream, json!({}));
    let offer = |name: &str, bytes: &[u8]| {
        std::fs::write(gate.folder.path(name), bytes).expect("a file");
        let body = json!({"path": gate.folder.path(name)}).to_string();
        gate.admin(&format!("POST /bundle HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let mut more = operations();
    more.push(support::gate::operation("new", "GET", "/new", json!({})));
    assert_eq!(gate.get("/new").status, 404);
    let other = Signer::new().sign(3, &payload(more.clone()));
    let mut torn = gate.signer.sign(3, &payload(more.clone()));
    torn.truncate(torn.len() - 1);
    let broken = gate.signer.sign(3, &json!({"format": 1}));
    for (what, bytes) in [("another key", &other), ("torn", &torn), ("broken", &broken), ("nothing", &Vec::new())] {
        let answer = offer("bad.stkb", bytes);
        assert_eq!(answer.status, 422, "{what}");
        assert_eq!((gate.get("/new").status, gate.get("/echo").status), (404, 200), "{what}");
    }
    let good = offer("good.stkb", &gate.signer.sign(2, &payload(more.clone())));
    assert_eq!((good.status, &good.json()["serial"]), (200, &json!(2)));
    assert_eq!(gate.get("/new").status, 200);
    assert_eq!(offer("old.stkb", &gate.signer.sign(1, &payload(operations()))).status, 422);
    assert_eq!(gate.get("/new").status, 200);
    let status = gate.admin("GET /status HTTP/1.1\r\nhost: a\r\n\r\n").json();
    assert_eq!((&status["ready"], &status["bundle"]["serial"]), (&json!(true), &json!(2)));
    assert!(gate.metrics().contains("stockade_bundle_serial 2"));
}

#[test]
fn what_keeps_it_from_starting_has_its_own_status() {
    let run = |config: &str, bundle: &[u8]| {
        let folder = Folder::new();
        folder.write("gateway.json", config);
        std::fs::write(folder.path("b.stkb"), bundle).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_stockade-gateway"))
            .arg(folder.path("gateway.json"))
            .output()
            .expect("run");
        let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("stockade-gateway: error: "), "{last}");
        output.status.code()
    };
    let signer = Signer::new();
    let config = |more| {
        configuration(&signer, "http://127.0.0.1:9", json!({"listen": {"address": "127.0.0.1:0"}}), more).to_string()
    };
    let good = signer.sign(1, &payload(operations()));
    assert_eq!(run("{}", &good), Some(2));
    assert_eq!(run(&config(json!({"surprise": 1})), &good), Some(2));
    assert_eq!(run(&config(json!({"threads": 0})), &good), Some(2));
    assert_eq!(run(&config(json!({})), b"not a bundle"), Some(3));
    assert_eq!(run(&config(json!({})), &Signer::new().sign(1, &payload(operations()))), Some(3));
    assert_eq!(run(&config(json!({"listen": {"address": null, "fds": [3]}})), &good), Some(1));
}

/// Asks for `/echo` again and again on kept connections, and opens a new one where the gate says close.
fn load(address: std::net::SocketAddr, stop: &AtomicBool, served: &AtomicUsize) {
    'connections: while !stop.load(SeqCst) {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        for _ in 0..200 {
            stream.write_all(b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
            let answer = Answer::read(&mut stream).expect("an answer");
            assert_eq!(answer.status, 200);
            served.fetch_add(1, SeqCst);
            if answer.field("connection") == Some("close") || stop.load(SeqCst) {
                continue 'connections;
            }
        }
    }
}

#[test]
fn a_new_process_takes_over_without_a_failed_request() {
    let upstream = Upstream::start();
    let folder = Folder::new();
    let signer = Signer::new();
    std::fs::write(folder.path("b.stkb"), signer.sign(1, &payload(operations()))).expect("a file");
    let config = configuration(&signer, &upstream.url(), json!({"listen": {"fds": [3]}}), json!({}));
    folder.write("gateway.json", &config.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The listening socket is the child's descriptor 0 here: std passes no other on. systemd's variables say where to count from.
    let start = || {
        let socket = OwnedFd::from(listener.try_clone().expect("a clone"));
        spawn(&folder, Stdio::from(socket), &[("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0")])
    };
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut old = start();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (stop.clone(), served.clone());
            std::thread::spawn(move || load(address, &stop, &served))
        })
        .collect();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        let new = start();
        kill(&old, "TERM");
        assert_eq!(wait(&mut old), 0);
        old = new;
    }
    let after = served.load(SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, SeqCst);
    let failures = clients.into_iter().filter_map(|client| client.join().err()).count();
    let _ = old.kill();
    let _ = old.wait();
    assert_eq!(failures, 0);
    assert!(served.load(SeqCst) > after, "the last process serves");
}

#[test]
fn a_drain_finishes_what_is_under_way_and_a_second_signal_does_not() {
    let upstream = Upstream::start();
    let mut gate = Gate::start(&upstream, json!({}));
    let mut stream = gate.connect();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    gate.signal("TERM");
    let answer = Answer::read(&mut stream).expect("an answer");
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    assert_eq!(gate.wait(), 0);
    let mut gate = Gate::start(&upstream, json!({"drain_seconds": 60, "connections": {"header_timeout_ms": 60000}}));
    let _open = gate.connect();
    gate.signal("INT");
    std::thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    gate.signal("INT");
    assert_eq!(gate.wait(), 0);
    assert!(started.elapsed() < Duration::from_secs(3));
}
