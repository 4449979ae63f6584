//! A real gateway process between a raw client and an upstream that tells what it received.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::Folder;

pub const PATIENCE: Duration = Duration::from_secs(20);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An ephemeral bundle key.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    pub fn new() -> Signer {
        Signer(Ed25519KeyPair::generate().expect("a key"))
    }

    pub fn public_key(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    pub fn sign(&self, serial: u64, payload: &Value) -> Vec<u8> {
        let payload = serde_json::to_vec(payload).expect("JSON");
        let signed =
            format!("stockade-bundle 1\nserial {serial}\nsha256 {}\n", hex(digest(&SHA256, &payload).as_ref()));
        let signature = hex(self.0.sign(signed.as_bytes()).as_ref());
        let mut file = format!("{signed}ed25519 {} {signature}\n", self.public_key()).into_bytes();
        file.extend(payload);
        file
    }
}

/// A public operation that answers JSON; `more` overrides members.
pub fn operation(id: &str, method: &str, path: &str, more: Value) -> Value {
    let mut operation = json!({
        "id": id, "method": method, "paths": [path], "pointer": format!("/paths/{id}"), "deny": null,
        "modes": {"authenticate": "enforce", "authorize": "enforce", "limits": "enforce",
                  "validate_request": "enforce", "validate_response": "enforce"},
        "security": [], "parameters": [], "unknown_query": "allow", "body": null,
        "responses": [{"status": "200", "headers": [], "pointer": "/r",
                       "content": [content("application/json", "json", Some("any"))]}],
        "limit": null, "upgrade": [], "stream_response": false
    });
    merge(&mut operation, more);
    operation
}

pub fn content(media_type: &str, kind: &str, schema: Option<&str>) -> Value {
    json!({"media_type": media_type, "kind": kind, "schema": schema, "decode": null, "encoding": {}, "pointer": "/c"})
}

pub fn body(max_bytes: u64, content: Value) -> Value {
    json!({"required": false, "max_bytes": max_bytes, "pointer": "/b", "content": [content]})
}

/// The operations that most tests use.
pub fn operations() -> Vec<Value> {
    let binary = json!([{"status": "200", "headers": [], "pointer": "/r",
                         "content": [content("application/octet-stream", "binary", None)]}]);
    let order = body(65_536, content("application/json", "json", Some("order")));
    let events = json!([{"status": "200", "headers": [], "pointer": "/r",
                         "content": [content("text/event-stream", "text", None)]}]);
    vec![
        operation("echo", "GET", "/echo", json!({})),
        operation("slow", "GET", "/slow", json!({})),
        operation("order", "POST", "/orders", json!({"body": order})),
        operation(
            "upload",
            "POST",
            "/upload",
            json!({"body": body(3 << 20, content("application/octet-stream", "binary", None))}),
        ),
        operation("download", "GET", "/download", json!({"responses": binary})),
        operation("leak", "GET", "/leak", json!({})),
        operation(
            "wrong",
            "GET",
            "/wrong",
            json!({"responses": [
            {"status": "200", "headers": [], "pointer": "/r", "content": [content("application/json", "json", Some("order"))]}]}),
        ),
        operation(
            "watched",
            "GET",
            "/watched",
            json!({"modes": {"authenticate": "enforce", "authorize": "enforce", "limits": "enforce",
            "validate_request": "enforce", "validate_response": "observe"}, "responses": [
            {"status": "200", "headers": [], "pointer": "/r", "content": [content("application/json", "json", Some("order"))]}]}),
        ),
        operation("feed", "GET", "/feed", json!({"responses": events, "stream_response": true})),
        operation("limited", "GET", "/limited", json!({"limit": {"requests": 3, "period_seconds": 60, "burst": 3}})),
        operation("socket", "GET", "/socket", json!({"upgrade": ["websocket"]})),
        operation(
            "private",
            "GET",
            "/private",
            json!({"security": [[{"kind": "token", "scheme": "oauth", "scopes": []}]]}),
        ),
        operation("certified", "GET", "/certified", json!({"security": [[{"kind": "mutual_tls", "scheme": "mtls"}]]})),
    ]
}

pub fn payload(mut operations: Vec<Value>) -> Value {
    operations.sort_by_key(|operation| (operation["paths"][0].to_string(), operation["method"].to_string()));
    json!({
        "format": 1, "description": {"title": "T", "version": "1", "source": "t.yaml", "sha256": "0".repeat(64)},
        "dialect": "draft2020-12", "hosts": [],
        "authentication": {"issuer": "https://as.test", "audience": "https://api.test", "scopes_supported": []},
        "cors": null, "limits": {"per_address": null, "per_client": null, "max_tracked_keys": 1000},
        "sizes": {"max_target_bytes": 8192, "max_body_bytes": 1048576, "max_response_bytes": 1048576, "max_json_depth": 32,
                  "max_json_nodes": 10000, "max_json_string_bytes": 65536, "max_number_chars": 64, "max_parameters": 100,
                  "max_multipart_parts": 10},
        "problem_base": "https://problems.test/",
        "schemas": {"any": true, "order": {"type": "object", "required": ["qty"], "properties": {"qty": {"type": "integer", "minimum": 1}}}},
        "schema_pointers": {"any": "/any", "order": "/order"},
        "operations": operations
    })
}

fn merge(into: &mut Value, more: Value) {
    match more {
        Value::Object(more) if into.is_object() => {
            for (name, value) in more {
                if value.is_object() && into[&name].is_object() && name != "modes" {
                    merge(&mut into[&name], value);
                } else {
                    into[name] = value;
                }
            }
        }
        more => *into = more,
    }
}

/// A gateway process with its folder.
pub struct Gate {
    pub address: SocketAddr,
    pub folder: Folder,
    pub signer: Signer,
    pub child: Child,
}

impl Gate {
    /// In clear text, before `upstream`, with `more` in its configuration.
    pub fn start(upstream: &Upstream, more: Value) -> Gate {
        Gate::with(Folder::new(), upstream.url(), payload(operations()), more)
    }

    pub fn with(folder: Folder, upstream: String, payload: Value, more: Value) -> Gate {
        let address = free_address();
        let signer = Signer::new();
        std::fs::write(folder.path("b.stkb"), signer.sign(1, &payload)).expect("a file");
        let config = configuration(&signer, &upstream, json!({"listen": {"address": address.to_string()}}), more);
        folder.write("gateway.json", &config.to_string());
        let child = spawn(&folder, Stdio::null(), &[]);
        Gate { address, folder, signer, child }
    }

    /// As [`Gate::start`], with at most `descriptors` open files.
    pub fn start_with_descriptors(upstream: &Upstream, descriptors: u32) -> Gate {
        let mut gate = Gate::start(upstream, json!({}));
        kill(&gate.child, "KILL");
        let _ = gate.child.wait();
        let program = env!("CARGO_BIN_EXE_stockade-gateway");
        let line = format!("ulimit -n {descriptors} && exec {program} {}", gate.folder.path("gateway.json").display());
        gate.child = ready(Command::new("sh").args(["-c", &line]));
        gate
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        // A refusal may come, and the connection end, before all is sent.
        let _ = stream.write_all(request.as_bytes());
        Answer::read(&mut stream).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: api.test\r\n\r\n"))
    }

    pub fn admin(&self, request: &str) -> Answer {
        let mut stream = std::os::unix::net::UnixStream::connect(self.folder.path("a.sock")).expect("the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("sent");
        Answer::read(&mut stream).expect("an answer")
    }

    pub fn metrics(&self) -> String {
        String::from_utf8(self.admin("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").body).expect("text")
    }

    /// The events so far for which `wanted` holds; waits for the first.
    pub fn events(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let text = std::fs::read_to_string(self.folder.path("events.jsonl")).unwrap_or_default();
            let found: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(&wanted).collect();
            if !found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, name: &str) {
        kill(&self.child, name);
    }

    /// The exit status, once it ends.
    pub fn wait(&mut self) -> i32 {
        wait(&mut self.child)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

pub fn wait(child: &mut Child) -> i32 {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the gateway does not end");
}

pub fn configuration(signer: &Signer, upstream: &str, listen: Value, more: Value) -> Value {
    let mut config = json!({
        "threads": 2, "bundle": {"path": "b.stkb", "public_key": signer.public_key()},
        "upstream": {"endpoints": [upstream], "response_timeout_ms": 5000},
        "events": {"path": "events.jsonl"}, "admin": {"socket": "a.sock"}, "drain_seconds": 5
    });
    merge(&mut config, listen);
    merge(&mut config, more);
    config
}

/// Starts the gateway on `gateway.json`, and waits until it is ready.
pub fn spawn(folder: &Folder, stdin: Stdio, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade-gateway"));
    ready(command.arg(folder.path("gateway.json")).envs(environment.iter().copied()).stdin(stdin))
}

fn ready(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the gateway");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("standard output");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

/// An HTTP/1 answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// `None` at the end of the connection.
    pub fn read(stream: &mut impl Read) -> Option<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: Vec::new() };
        if let Some(length) = answer.field("content-length") {
            answer.body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The event id of a problem document.
    pub fn event_id(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        self.json()["instance"].as_str().and_then(|urn| urn.strip_prefix("urn:uuid:")).expect("an id").to_owned()
    }
}

/// Answers as its path says, and keeps the heads of what it received. Threads and blocking sockets: plain to read.
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || while serve(&stream, &kept).is_some() {});
            }
        });
        Upstream { address, received }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request heads so far.
    pub fn received(&self) -> Vec<String> {
        self.received.lock().expect("heads").clone()
    }
}

fn serve(mut stream: &TcpStream, received: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(n, _)| *n == name).map(|(_, value)| value.to_owned())
    };
    let length = field("content-length").map_or(0, |value| value.parse().expect("a length"));
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
    if field("transfer-encoding").is_some() {
        let mut tail = Vec::new();
        while !tail.ends_with(b"0\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            tail.push(byte[0]);
        }
    }
    received.lock().expect("heads").push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    let json = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nserver: secret/1.0\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    match path.split('?').next().unwrap_or_default() {
        "/slow" => {
            std::thread::sleep(Duration::from_millis(700));
            stream.write_all(json("200 OK", "{\"slow\":true}").as_bytes()).ok()
        }
        "/leak" => {
            let body = "Traceback (most recent call last): secret";
            let head = format!("HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).ok()
        }
        "/wrong" | "/watched" => stream.write_all(json("200 OK", "{\"qty\":\"secret\"}").as_bytes()).ok(),
        "/download" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 33554432\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            (0..512).try_for_each(|_| stream.write_all(&[b'x'; 65_536])).ok()
        }
        "/feed" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}9\r\ndata: 1\n\n\r\n").as_bytes()).ok()?;
            std::thread::sleep(Duration::from_millis(700));
            stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").ok()
        }
        "/socket" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            let mut bytes = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..n]).ok()?;
            }
            None
        }
        _ => stream.write_all(json("200 OK", "{\"ok\":true}").as_bytes()).ok(),
    }
}

/// Certificates for a gateway with TLS: `listen.tls` and the authority's file.
pub fn tls_files(folder: &Folder) -> (Value, PathBuf) {
    let authority = super::Authority::new(folder, "ca");
    let (certificate, key) = authority.issue(folder, "server", "api.test");
    (json!({"certificate": certificate, "key": key}), authority.ca)
}
