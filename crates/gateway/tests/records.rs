//! Events, metrics and the admin interface.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stockade_engine::{Layer, Reason};
use stockade_gateway::admin::{AdminSocket, Bundle, Control, Loaded, SelfCheck, Status};
use stockade_gateway::config;
use stockade_gateway::events::{Client, Event, Events, Kind, Outcome};
use stockade_gateway::metrics::Metrics;
use support::Folder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn start(path: &Path, more: Value) -> (Events, Arc<Metrics>) {
    let mut all = json!({"path": path});
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    let config: config::Events = serde_json::from_value(all).expect("settings");
    let metrics = Arc::new(Metrics::new());
    (Events::start(&config, metrics.clone()).expect("a thread"), metrics)
}

fn event(detail: &str) -> Event {
    let mut event = Event::new(Kind::Process, Outcome::Allow);
    event.detail = Some(detail.to_owned().into());
    event
}

fn flush(events: &Events) {
    assert!(events.flush(Duration::from_secs(10)), "written in ten seconds");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn an_event_is_one_line_with_what_is_known_and_no_null() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    let (events, metrics) = start(&path, json!({}));
    let mut full = Event::new(Kind::Decision, Outcome::Deny);
    full.layer = Some(Layer::ValidateRequest);
    full.reason = Some(Reason::BodyInvalid);
    full.status = Some(400);
    full.operation = Some("createOrder".into());
    full.path = Some("/orders\n{\"x\"}".into());
    full.client = Some(Client { address: Some([127, 0, 0, 1].into()), client_id: None });
    full.evidence = Some("ü".repeat(2000).into());
    full.serial = Some(3);
    let id = full.id.to_string();
    events.emit(full);
    events.emit(Event::new(Kind::AuthorizationServer, Outcome::Error));
    flush(&events);
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    let first = &lines[0];
    assert_eq!(
        (&first["id"], &first["layer"], &first["reason"], &first["status"], &first["kind"], &first["outcome"]),
        (
            &json!(id),
            &json!("validate_request"),
            &json!("body_invalid"),
            &json!(400),
            &json!("decision"),
            &json!("deny")
        )
    );
    assert_eq!(first["client"], json!({"address": "127.0.0.1"}));
    assert_eq!(first["path"], "/orders\n{\"x\"}");
    assert_eq!(first["evidence"].as_str().map(str::len), Some(1024));
    let time = first["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");
    let names: Vec<&String> = lines[1].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["id", "kind", "outcome", "time"]);
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(metrics.events_written.value(), 2);
}

#[test]
fn files_rotate_by_size_and_the_oldest_goes() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    let (events, metrics) = start(&path, json!({"max_bytes": 2000, "files": 3, "queue": 10_000}));
    for number in 0..300 {
        events.emit(event(&number.to_string()));
        if number % 5 == 0 {
            flush(&events);
        }
    }
    flush(&events);
    assert_eq!(metrics.events_written.value(), 300);
    let file = |number: usize| PathBuf::from(format!("{}.{number}", path.display()));
    let mut numbers = Vec::new();
    for path in [file(3), file(2), file(1), path.clone()] {
        let size = std::fs::metadata(&path).expect("a file").len();
        assert!(size <= 2500, "{size}");
        numbers.extend(
            lines(&path).iter().map(|line| line["detail"].as_str().expect("text").parse::<usize>().expect("a number")),
        );
    }
    assert!(!file(4).exists());
    // A gapless tail of what was written.
    assert!(
        numbers.len() > 20 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.last() == Some(&299)
    );
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let folder = Folder::new();
    // Nobody reads the pipe, so the writer hangs in it.
    let path = folder.path("events.pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("both ends");
    let (events, metrics) = start(&path, json!({"queue": 16}));
    let started = Instant::now();
    for _ in 0..50_000 {
        events.emit(event(&"x".repeat(900)));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(metrics.events_dropped.value() > 10_000);
    assert!(!events.flush(Duration::from_millis(50)));
    let started = Instant::now();
    drop(events);
    assert!(started.elapsed() < Duration::from_secs(4));
    drop(reader);
}

#[test]
fn a_full_disk_is_counted_and_writing_resumes() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    symlink("/dev/full", &path).expect("a link");
    let mode = std::fs::metadata("/dev/full").expect("a device").mode();
    let (events, metrics) = start(&path, json!({}));
    events.emit(event("lost"));
    flush(&events);
    events.emit(event("lost as well"));
    flush(&events);
    assert_eq!((metrics.events_failed.value(), metrics.events_written.value()), (2, 0));
    assert_eq!(std::fs::metadata("/dev/full").expect("a device").mode(), mode);
    std::fs::remove_file(&path).expect("removed");
    std::thread::sleep(Duration::from_millis(1100));
    events.emit(event("kept"));
    flush(&events);
    assert_eq!((lines(&path).len(), metrics.events_written.value()), (1, 1));
    assert!(metrics.encode().contains("stockade_events_failed_total 2\n"));
}

#[test]
fn a_missing_folder_is_no_reason_to_stop() {
    let folder = Folder::new();
    let path = folder.path("later/events.jsonl");
    let (events, metrics) = start(&path, json!({}));
    events.emit(event("lost"));
    flush(&events);
    assert_eq!(metrics.events_failed.value(), 1);
    std::fs::create_dir(folder.path("later")).expect("a folder");
    std::thread::sleep(Duration::from_millis(1100));
    events.emit(event("kept"));
    flush(&events);
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_file_that_is_taken_away_is_made_anew() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    let (events, _) = start(&path, json!({}));
    events.emit(event("first"));
    flush(&events);
    std::fs::rename(&path, folder.path("taken.jsonl")).expect("renamed");
    std::thread::sleep(Duration::from_millis(1100));
    events.emit(event("second"));
    flush(&events);
    assert_eq!(lines(&path)[0]["detail"], "second");
}

#[test]
fn a_line_that_a_crash_cut_does_not_swallow_the_next() {
    let folder = Folder::new();
    let path = folder.write("events.jsonl", "{\"id\": \"cut");
    let (events, _) = start(&path, json!({}));
    events.emit(event("whole"));
    flush(&events);
    let text = std::fs::read_to_string(&path).expect("a file");
    let last = text.lines().last().expect("a line");
    assert_eq!(serde_json::from_str::<Value>(last).expect("a JSON line")["detail"], "whole");
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_was_emitted_before_the_end_is_written() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    let (events, _) = start(&path, json!({}));
    for number in 0..1000 {
        events.emit(event(&number.to_string()));
    }
    drop(events);
    assert_eq!(lines(&path).len(), 1000);
}

#[test]
fn two_processes_share_one_file_during_a_handover() {
    let folder = Folder::new();
    let path = folder.path("events.jsonl");
    let (old, old_metrics) = start(&path, json!({"max_bytes": 4000, "files": 50}));
    let (new, new_metrics) = start(&path, json!({"max_bytes": 4000, "files": 50}));
    for _ in 0..100 {
        old.emit(event("old"));
        flush(&old);
        new.emit(event("new"));
        flush(&new);
    }
    let mut all = lines(&path).len();
    for number in 1..=50 {
        all += lines(Path::new(&format!("{}.{number}", path.display()))).len();
    }
    assert_eq!((all, old_metrics.events_failed.value() + new_metrics.events_failed.value()), (200, 0));
}

#[test]
fn metrics_keep_their_counts_over_a_swap_and_forget_what_is_gone() {
    let metrics = Metrics::new();
    let first = metrics.operations(["a\"b", "gone"]);
    metrics.decision(&first, Some(0), Outcome::Allow, None, 200);
    metrics.decision(&first, Some(1), Outcome::Allow, None, 204);
    metrics.decision(&first, Some(0), Outcome::Deny, Some((Layer::Authenticate, Reason::TokenInvalid)), 401);
    metrics.decision(&first, Some(0), Outcome::Observe, Some((Layer::ValidateRequest, Reason::BodyInvalid)), 400);
    metrics.decision(&first, None, Outcome::Deny, Some((Layer::Lookup, Reason::OperationUnknown)), 404);
    metrics.decision(&first, Some(99), Outcome::Error, None, 1);
    let second = metrics.operations(["new", "a\"b"]);
    drop(first);
    metrics.decision(&second, Some(1), Outcome::Allow, None, 200);
    let third = metrics.operations(["a\"b"]);
    metrics.decision(&third, Some(0), Outcome::Allow, None, 200);
    drop(second);
    let _fourth = metrics.operations(["a\"b"]);
    let text = metrics.encode();
    for line in [
        r#"stockade_requests_total{operation="a\"b",outcome="allow",status="2xx"} 3"#,
        r#"stockade_requests_total{operation="a\"b",outcome="deny",status="4xx"} 1"#,
        r#"stockade_requests_total{operation="",outcome="deny",status="4xx"} 1"#,
        r#"stockade_requests_total{operation="",outcome="error",status="other"} 1"#,
        r#"stockade_denials_total{operation="a\"b",outcome="observe",layer="validate_request",reason="body_invalid",status="4xx"} 1"#,
        r#"stockade_denials_total{operation="",outcome="deny",layer="lookup",reason="operation_unknown",status="4xx"} 1"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
    }
    assert!(!text.contains("operation=\"gone\"") && !text.contains("operation=\"new\""));
}

#[test]
fn the_exposition_is_openmetrics() {
    let metrics = Arc::new(Metrics::new());
    metrics.upstream_seconds.observe(Duration::from_micros(300));
    metrics.upstream_seconds.observe(Duration::from_secs(60));
    metrics.connections.inc();
    metrics.connections.inc();
    metrics.connections.dec();
    metrics.read_at_scrape("stockade_limiter_keys", "Keys tracked.", || 7.0);
    let operations = metrics.operations(["a"]);
    metrics.decision(&operations, Some(0), Outcome::Allow, None, 200);
    let text = metrics.encode();
    for line in [
        "stockade_upstream_seconds_bucket{le=\"0.00025\"} 0",
        "stockade_upstream_seconds_bucket{le=\"0.0005\"} 1",
        "stockade_upstream_seconds_bucket{le=\"10.0\"} 1",
        "stockade_upstream_seconds_bucket{le=\"+Inf\"} 2",
        "stockade_upstream_seconds_sum 60.000300000",
        "stockade_upstream_seconds_count 2",
        "stockade_connections_open 1",
        "stockade_limiter_keys 7",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    // Each family is described once, before its samples, and they stand together.
    let mut seen = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => {
                let family = rest.split(' ').next().expect("a name").to_owned();
                assert!(!seen.contains(&family), "{family}");
                seen.push(family);
            }
            None if line.starts_with("# HELP ") => {
                assert!(line[7..].starts_with(seen.last().expect("a type").as_str()))
            }
            None => assert!(line.starts_with(seen.last().expect("a type").as_str()), "{line}"),
        }
    }
}

#[test]
fn counters_of_many_threads_add_up() {
    let metrics = Arc::new(Metrics::new());
    let operations = Arc::new(metrics.operations(["a"]));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (metrics, operations) = (metrics.clone(), operations.clone());
            std::thread::spawn(move || {
                for _ in 0..10_000 {
                    metrics.panics.inc();
                    metrics.decision(&operations, Some(0), Outcome::Allow, None, 200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(metrics.panics.value(), 80_000);
    assert!(metrics.encode().contains("{operation=\"a\",outcome=\"allow\",status=\"2xx\"} 80000\n"));
}

#[derive(Default)]
struct Process {
    draining: AtomicBool,
}

impl Control for Process {
    fn status(&self) -> Status {
        Status {
            ready: true,
            bundle: Bundle { serial: 3, sha256: "ab".to_owned() },
            connections: 1,
            in_flight: 2,
            pid: 4,
            version: "0.1.0",
            self_check: SelfCheck { cases: 5, milliseconds: 6 },
        }
    }

    fn metrics(&self) -> String {
        Metrics::new().encode()
    }

    fn load_bundle(&self, path: &Path) -> Result<Loaded, String> {
        match path.to_str() {
            Some("good") => Ok(Loaded { serial: 4, sha256: "cd".to_owned(), milliseconds: 7 }),
            Some("panic") => panic!("in the loader"),
            _ => Err("the signature does not hold".to_owned()),
        }
    }

    fn reload_certificates(&self) -> Result<(), String> {
        Err("no such file".to_owned())
    }

    fn drain(&self) {
        self.draining.store(true, SeqCst);
    }
}

async fn ask(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn the_admin_interface_answers_as_its_contract_says() {
    support::on_thread(async {
        let folder = Folder::new();
        let path = folder.write("gateway.sock", "stale");
        let process = Arc::new(Process::default());
        let socket = Arc::new(AdminSocket::bind(&path).expect("a socket"));
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let serving = tokio::task::spawn_local({
            let (socket, process) = (socket.clone(), process.clone());
            async move { socket.serve(process).await }
        });
        let (status, body) = ask(&path, &get("/status")).await;
        assert_eq!(status, 200);
        assert_eq!(
            serde_json::from_str::<Value>(&body).expect("JSON"),
            json!({"ready": true, "bundle": {"serial": 3, "sha256": "ab"}, "connections": 1, "in_flight": 2, "pid": 4,
                   "version": "0.1.0", "self_check": {"cases": 5, "milliseconds": 6}})
        );
        let (status, body) = ask(&path, &get("/metrics")).await;
        assert!(status == 200 && body.ends_with("# EOF\n"));
        let loaded = ask(&path, &post("/bundle", r#"{"path": "good"}"#)).await;
        assert_eq!(loaded, (200, r#"{"serial":4,"sha256":"cd","milliseconds":7}"#.to_owned()));
        let refused = ask(&path, &post("/bundle", r#"{"path": "bad"}"#)).await;
        assert_eq!(refused, (422, r#"{"error":"the signature does not hold"}"#.to_owned()));
        assert_eq!(ask(&path, &post("/bundle", r#"{"path": "panic"}"#)).await.0, 422);
        for body in ["", "{}", r#"{"path": 7}"#, r#"{"path": "good", "force": true}"#, &"x".repeat(100_000)] {
            assert_eq!(ask(&path, &post("/bundle", body)).await.0, 400, "{body:.40}");
        }
        assert_eq!(ask(&path, &post("/certificates", "")).await.0, 422);
        assert_eq!(ask(&path, &get("/drain")).await.0, 405);
        assert!(!process.draining.load(SeqCst));
        assert_eq!(ask(&path, &post("/drain", "")).await.0, 202);
        assert!(process.draining.load(SeqCst));
        assert_eq!(ask(&path, &get("/nothing")).await.0, 404);
        // A new process takes the name over; the old one does not take it away when it ends.
        let newer = AdminSocket::bind(&path).expect("a socket");
        serving.abort();
        let _ = serving.await;
        drop(socket);
        assert!(path.exists());
        drop(newer);
        assert!(!path.exists());
    });
}
