//! Credentials against a real TLS server that plays the authorization server, well and badly.

mod support;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use stockade_engine::CredentialKind::{self, AccessToken, ApiKey};
use stockade_gateway::config;
use stockade_gateway::identity::{Credentials, Unavailable, Verified};
use stockade_gateway::metrics::Metrics;
use support::{Authority, Folder, server_config};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const RESOURCE: &str = "https://api.example";

/// What the server says and does; tests change it while it runs.
#[derive(Default)]
struct Server {
    tokens: Mutex<HashMap<String, Value>>,
    raw_answer: Mutex<Option<(u16, String)>>,
    introspections: AtomicUsize,
    feed: Mutex<Feed>,
    news: Notify,
    /// Introspections read their answer, and then wait for this.
    hold: AtomicBool,
    released: Notify,
    down: AtomicBool,
    feed_down: AtomicBool,
    canaries: AtomicUsize,
    canaries_fail: AtomicBool,
    /// Canaries are said to be revoked, and the feed keeps silent about them.
    feed_lies: AtomicBool,
}

#[derive(Default)]
struct Feed {
    epoch: String,
    revocations: Vec<Value>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn token(client_id: &str) -> Value {
    let now = now() as u64;
    json!({
        "active": true, "client_id": client_id, "sub": client_id, "scope": "b a b", "iss": "https://as.example",
        "aud": RESOURCE, "iat": now, "exp": now + 600, "jti": "j", "token_type": "Bearer",
        "internal_token": "head.body.signature", "internal_token_exp": now + 120,
    })
}

impl Server {
    fn issue(&self, secret: &str, answer: Value) {
        self.tokens.lock().expect("a lock").insert(secret.to_owned(), answer);
    }

    fn revoke_token(&self, secret: &str) {
        self.issue(secret, json!({"active": false}));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.publish(json!({"kind": "token", "digest": digest}));
    }

    fn revoke_client(&self, client_id: &str) {
        for answer in self.tokens.lock().expect("a lock").values_mut().filter(|answer| answer["client_id"] == client_id)
        {
            *answer = json!({"active": false});
        }
        self.publish(json!({"kind": "client", "client_id": client_id}));
    }

    fn publish(&self, mut revocation: Value) {
        let mut feed = self.feed.lock().expect("a lock");
        revocation["sequence"] = json!(feed.revocations.len() + 1);
        revocation["revoked_at"] = json!(now());
        feed.revocations.push(revocation);
        drop(feed);
        self.news.notify_waiters();
    }

    fn set_feed_down(&self, down: bool) {
        self.feed_down.store(down, SeqCst);
        self.news.notify_waiters();
    }

    fn asked(&self) -> usize {
        self.introspections.load(SeqCst)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let reply = |status: u16, body: String| {
            Response::builder().status(status).body(Full::new(Bytes::from(body))).expect("a response")
        };
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match path.as_str() {
            "/internal/introspect" => {
                let form = request.into_body().collect().await.expect("a body").to_bytes();
                let form = fields(std::str::from_utf8(&form).expect("text"));
                self.introspections.fetch_add(1, SeqCst);
                if let Some((status, body)) = self.raw_answer.lock().expect("a lock").clone() {
                    return reply(status, body);
                }
                let known = self.tokens.lock().expect("a lock").get(&form["token"]).cloned();
                let known = known.filter(|_| form["resource"] == RESOURCE);
                let mut answer = known.unwrap_or_else(|| json!({"active": false}));
                if let Some(operation) = form.get("operation") {
                    answer["internal_token"] = json!(operation.replace(' ', "-"));
                }
                let answer = answer.to_string();
                if self.hold.load(SeqCst) {
                    self.released.notified().await;
                }
                reply(200, answer)
            }
            "/internal/revocations" => {
                let fields = fields(&query);
                let (after, wait) =
                    (fields["after"].parse().expect("a number"), fields["wait"].parse().expect("a number"));
                let news = self.news.notified();
                let (page, worth_telling) = self.page(after, &fields["epoch"]);
                if worth_telling {
                    return reply(200, page);
                }
                let _ = tokio::time::timeout(Duration::from_secs(wait), news).await;
                if self.feed_down.load(SeqCst) {
                    return reply(503, String::new());
                }
                reply(200, self.page(after, &fields["epoch"]).0)
            }
            "/internal/canary" if self.canaries_fail.load(SeqCst) => reply(503, String::new()),
            "/internal/canary" => {
                let secret = format!("canary {}", self.canaries.fetch_add(1, SeqCst));
                self.issue(&secret, token("c_canary"));
                reply(200, json!({"token": secret, "expires_in": 120}).to_string())
            }
            "/internal/canary/revoke" => {
                let form = request.into_body().collect().await.expect("a body").to_bytes();
                let secret = fields(std::str::from_utf8(&form).expect("text"))["token"].clone();
                if !self.feed_lies.load(SeqCst) {
                    self.revoke_token(&secret);
                }
                reply(200, json!({"revoked_at": now()}).to_string())
            }
            _ => reply(404, String::new()),
        }
    }

    fn page(&self, after: usize, epoch: &str) -> (String, bool) {
        if self.feed_down.load(SeqCst) {
            return (String::new(), true);
        }
        let feed = self.feed.lock().expect("a lock");
        let reset = epoch != feed.epoch;
        let news: Vec<Value> = feed.revocations.iter().skip(if reset { usize::MAX } else { after }).cloned().collect();
        let page = json!({
            "epoch": feed.epoch, "sequence": feed.revocations.len(), "reset": reset, "now": now(), "revocations": news,
        });
        (page.to_string(), reset || !news.is_empty())
    }
}

fn fields(form: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).expect("text"), 16).expect("hex"));
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// The server on a thread of its own, and the credentials that ask it.
struct Scene {
    server: Arc<Server>,
    credentials: Arc<Credentials>,
    metrics: Arc<Metrics>,
    settings: config::AuthorizationServer,
    _folder: Folder,
}

fn scene(more: Value) -> Scene {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "ca");
    let server = Arc::new(Server::default());
    server.feed.lock().expect("a lock").epoch = "one".to_owned();
    let tls = server_config(&authority.issue(&folder, "server", "localhost"), Some(&authority.ca), &[]);
    let port = serve(server.clone(), tls);
    let client = authority.issue(&folder, "client", "stockade-gateway");
    let mut all = json!({
        "url": format!("https://localhost:{port}"), "ca": authority.ca, "certificate": client.0, "key": client.1,
        "timeout_ms": 1000,
    });
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    let settings: config::AuthorizationServer = serde_json::from_value(all).expect("settings");
    let metrics = Arc::new(Metrics::new());
    let credentials = Arc::new(Credentials::start(&settings, metrics.clone(), None).expect("credentials"));
    Scene { server, credentials, metrics, settings, _folder: folder }
}

fn serve(server: Arc<Server>, tls: Arc<rustls::ServerConfig>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                if server.down.load(SeqCst) {
                    continue;
                }
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
                    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
                    let service = hyper::service::service_fn(move |request| {
                        let server = server.clone();
                        async move {
                            match server.down.load(SeqCst) {
                                true => Err(std::io::Error::other("down")),
                                false => Ok(server.answer(request).await),
                            }
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Ok::<(), Infallible>(())
        })
    });
    port
}

impl Scene {
    /// Waits until the feed has answered, and remembers a credential called `probe`.
    async fn fresh(&self) {
        self.until("the feed is fresh", || async {
            let _ = self.cached("nothing");
            self.metrics.credential_misses.value() > 0
        })
        .await;
        self.server.issue("probe", token("probe"));
        assert!(self.resolve("probe").await.expect("an answer").is_some());
        self.server.introspections.store(0, SeqCst);
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition().await {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn resolve(&self, secret: &str) -> Result<Option<Arc<Verified>>, Unavailable> {
        self.credentials.resolve(AccessToken, secret, RESOURCE, None).await
    }

    fn cached(&self, secret: &str) -> Option<Arc<Verified>> {
        self.credentials.cached(AccessToken, secret, None)
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(40), test).await.expect("the test ends");
    });
}

#[test]
fn a_valid_token_is_asked_for_once_and_then_remembered() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        scene.server.issue("good token/+&=ü", token("c_1"));
        assert!(scene.cached("good token/+&=ü").is_none());
        let verified = scene.resolve("good token/+&=ü").await.expect("an answer").expect("valid");
        assert_eq!(verified.identity.client_id, "c_1");
        assert_eq!(verified.identity.scopes, ["a", "b"]);
        assert_eq!(verified.identity.audience, [RESOURCE]);
        assert_eq!(verified.internal_token, "Bearer head.body.signature");
        assert!(verified.internal_token.is_sensitive());
        for _ in 0..10 {
            assert!(scene.cached("good token/+&=ü").is_some());
        }
        assert_eq!(scene.server.asked(), 1);
        // Neither is it an API key, nor good for another audience.
        assert!(scene.credentials.cached(ApiKey, "good token/+&=ü", None).is_none());
        assert!(
            scene.credentials.resolve(ApiKey, "good token/+&=ü", RESOURCE, None).await.expect("an answer").is_none()
        );
        assert!(scene.cached("good token/+&=ü").is_some());
    });
}

#[test]
fn an_unknown_token_is_not_asked_for_twice_and_pushes_nothing_out() {
    run(async {
        let scene = scene(json!({"max_cached": 4}));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        assert!(scene.resolve("good").await.expect("an answer").is_some());
        for number in 0..200 {
            assert!(scene.resolve(&format!("garbage {number}")).await.expect("an answer").is_none());
        }
        let asked = scene.server.asked();
        assert!(scene.resolve("garbage 199").await.expect("an answer").is_none());
        assert_eq!(scene.server.asked(), asked);
        assert!(scene.cached("good").is_some());
    });
}

#[test]
fn many_who_ask_for_one_token_make_one_question() {
    run(async {
        let scene = Arc::new(scene(json!({})));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        scene.server.hold.store(true, SeqCst);
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let scene = scene.clone();
                tokio::spawn(async move { scene.resolve("good").await.expect("an answer").is_some() })
            })
            .collect();
        scene.until("the question arrives", || async { scene.server.asked() == 1 }).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        scene.server.hold.store(false, SeqCst);
        scene.server.released.notify_waiters();
        for task in tasks {
            assert!(task.await.expect("no panic"));
        }
        assert_eq!(scene.server.asked(), 1);
    });
}

#[test]
fn a_revoked_token_is_forgotten_at_once_and_others_are_not() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        scene.server.issue("first", token("c_1"));
        scene.server.issue("second", token("c_1"));
        assert!(scene.resolve("first").await.expect("an answer").is_some());
        assert!(scene.resolve("second").await.expect("an answer").is_some());
        let started = Instant::now();
        scene.server.revoke_token("first");
        scene.until("the revocation is in force", || async { scene.cached("first").is_none() }).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert!(scene.cached("second").is_some());
        assert!(scene.resolve("first").await.expect("an answer").is_none());
        assert_eq!(scene.metrics.revocations_token.value(), 1);
        assert_eq!(scene.metrics.revocation_lag_seconds.count(), 1);
    });
}

#[test]
fn a_revoked_client_loses_all_its_tokens_and_no_other_client_does() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        for (secret, client) in [("a", "c_1"), ("b", "c_1"), ("c", "c_2")] {
            scene.server.issue(secret, token(client));
            assert!(scene.resolve(secret).await.expect("an answer").is_some());
        }
        scene.server.revoke_client("c_1");
        scene.until("both are gone", || async { scene.cached("a").is_none() && scene.cached("b").is_none() }).await;
        assert!(scene.cached("c").is_some());
    });
}

#[test]
fn a_revocation_that_overtakes_an_answer_wins() {
    run(async {
        for by_client in [false, true] {
            let scene = Arc::new(scene(json!({})));
            scene.fresh().await;
            scene.server.issue("good", token("c_1"));
            scene.server.hold.store(true, SeqCst);
            let asking = {
                let scene = scene.clone();
                tokio::spawn(async move { scene.resolve("good").await })
            };
            scene.until("the question arrives", || async { scene.server.asked() == 1 }).await;
            // The server has read "active" already; now the token is revoked, and the feed tells first.
            match by_client {
                true => scene.server.revoke_client("c_1"),
                false => scene.server.revoke_token("good"),
            }
            let counter = if by_client { &scene.metrics.revocations_client } else { &scene.metrics.revocations_token };
            scene.until("the revocation arrives", || async { counter.value() == 1 }).await;
            scene.server.hold.store(false, SeqCst);
            scene.server.released.notify_waiters();
            assert!(asking.await.expect("no panic").expect("an answer").is_none());
            assert!(scene.cached("good").is_none());
            assert_eq!(scene.server.asked(), 2);
            assert_eq!(scene.metrics.introspections_repeated.value(), 1);
        }
    });
}

#[test]
fn a_new_epoch_empties_the_cache() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        assert!(scene.resolve("good").await.expect("an answer").is_some());
        scene.server.feed.lock().expect("a lock").epoch = "two".to_owned();
        scene.server.news.notify_waiters();
        scene.until("the cache is empty", || async { scene.cached("good").is_none() }).await;
        assert!(scene.resolve("good").await.expect("an answer").is_some());
        scene.until("it is in use again", || async { scene.cached("good").is_some() }).await;
        assert_eq!(scene.metrics.revocation_resets.value(), 1);
    });
}

#[test]
fn a_revocation_that_is_not_understood_empties_the_cache() {
    run(async {
        for odd in [json!({"kind": "family", "family": "x"}), json!({"kind": "token", "digest": "xyz"})] {
            let scene = scene(json!({}));
            scene.fresh().await;
            assert!(scene.cached("probe").is_some());
            scene.server.publish(odd);
            scene.until("the cache is empty", || async { scene.cached("probe").is_none() }).await;
        }
    });
}

#[test]
fn while_the_feed_is_silent_nothing_remembered_is_used() {
    run(async {
        let scene = scene(json!({"stale_seconds": 1}));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        assert!(scene.resolve("good").await.expect("an answer").is_some());
        scene.server.set_feed_down(true);
        scene.until("the memory is stale", || async { scene.cached("good").is_none() }).await;
        // Introspection still works, so the credential does; each use asks.
        let asked = scene.server.asked();
        for _ in 0..3 {
            assert!(scene.cached("good").is_none());
            assert!(scene.resolve("good").await.expect("an answer").is_some());
        }
        assert_eq!(scene.server.asked(), asked + 3);
        assert!(scene.metrics.credential_stale.value() >= 3);
        // Revoked while the feed was silent: it is in force before anything remembered is used again.
        scene.server.issue("other", token("c_2"));
        assert!(scene.resolve("other").await.expect("an answer").is_some());
        scene.server.revoke_token("good");
        scene.server.set_feed_down(false);
        scene.until("the memory is in use", || async { scene.cached("other").is_some() }).await;
        assert!(scene.cached("good").is_none());
    });
}

#[test]
fn an_outage_is_unavailable_and_ends_by_itself() {
    run(async {
        let scene = scene(json!({"stale_seconds": 1, "timeout_ms": 300}));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        assert!(scene.resolve("good").await.expect("an answer").is_some());
        scene.server.down.store(true, SeqCst);
        scene.server.news.notify_waiters();
        // Remembered ones go on for a bounded time.
        assert!(scene.cached("good").is_some());
        scene.until("the memory is stale", || async { scene.cached("good").is_none() }).await;
        let started = Instant::now();
        let unavailable = scene.resolve("good").await.err().expect("unavailable");
        assert!(unavailable.retry_after_seconds > 0 && started.elapsed() < Duration::from_secs(1));
        assert!(scene.resolve("unknown").await.is_err());
        assert!(scene.metrics.introspections_failed.value() >= 2);
        scene.server.down.store(false, SeqCst);
        scene.until("it is in use again", || async { scene.cached("good").is_some() }).await;
    });
}

#[test]
fn garbage_is_unavailable_and_counted_and_never_an_identity() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let with = |name: &str, value: Value| {
            let mut answer = token("c_1");
            answer[name] = value;
            answer.to_string()
        };
        let without = |name: &str| {
            let mut answer = token("c_1");
            answer.as_object_mut().expect("an object").remove(name);
            answer.to_string()
        };
        let mut answers = vec![
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"active": "false"}"#.to_owned(),
            r#"{"active": 1}"#.to_owned(),
            r#"{"active": null}"#.to_owned(),
            r#"{"active": false, "active": true}"#.to_owned(),
            "<html>".to_owned(),
            token("c_1").to_string()[..100].to_owned(),
            format!("{} trailing", token("c_1")),
            format!("{{\"pad\": \"{}\", \"active\": false}}", "x".repeat(100_000)),
            with("active", json!("true")),
            with("exp", json!("1")),
            with("exp", json!(-1)),
            with("exp", json!(null)),
            with("client_id", json!("")),
            with("client_id", json!(7)),
            with("scope", json!(["a"])),
            with("aud", json!(7)),
            with("token_type", json!("bearer")),
            with("token_type", json!("DPoP")),
            with("cnf", json!({})),
            with("cnf", json!("jkt")),
            with("cnf", json!({"jkt": "short"})),
            with("cnf", json!({"jkt": 7})),
            with("cnf", json!({"jkt": "A".repeat(43), "x5t": "B"})),
            with("cnf", json!({"jwk": {"kty": "OKP"}})),
            with("cnf", json!({"x5t#S256": "A".repeat(44)})),
            with("acr", json!(7)),
            with("auth_time", json!("yesterday")),
            with("sid", json!(7)),
            with("grant_id", json!(["g"])),
            with("internal_token", json!("a\r\nX-Admin: 1")),
            with("internal_token_exp", json!(1)),
        ];
        answers.extend(
            ["client_id", "sub", "scope", "iss", "aud", "exp", "token_type", "internal_token", "internal_token_exp"]
                .map(without),
        );
        for (count, answer) in (1..).zip(answers) {
            *scene.server.raw_answer.lock().expect("a lock") = Some((200, answer.clone()));
            assert!(scene.resolve("token").await.is_err(), "{answer:.80}");
            assert!(scene.cached("token").is_none());
            let counted = scene.metrics.introspections_garbage.value() + scene.metrics.introspections_failed.value();
            assert_eq!(counted, count, "{answer:.80}");
        }
        for status in [201, 204, 302, 400, 401, 500, 503] {
            *scene.server.raw_answer.lock().expect("a lock") = Some((status, token("c_1").to_string()));
            assert!(scene.resolve("token").await.is_err(), "{status}");
        }
    });
}

#[test]
fn a_credential_is_remembered_no_longer_than_anything_in_it_lasts() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let at = |seconds: i64| json!((now() as i64 + seconds) as u64);
        for (secret, member, value) in [
            ("short", "exp", at(2)),
            ("short internal", "internal_token_exp", at(7)),
            ("too short", "internal_token_exp", at(4)),
        ] {
            let mut answer = token("c_1");
            answer[member] = value;
            scene.server.issue(secret, answer);
            assert!(scene.resolve(secret).await.expect("an answer").is_some());
        }
        assert!(scene.cached("short").is_some() && scene.cached("short internal").is_some());
        assert!(scene.cached("too short").is_none());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert!(scene.cached("short").is_none() && scene.cached("short internal").is_none());
        assert!(scene.resolve("short").await.expect("an answer").is_none());
    });
}

#[test]
fn the_cache_time_is_a_bound_and_zero_remembers_nothing() {
    run(async {
        let brief = scene(json!({"cache_seconds": 1}));
        brief.fresh().await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(brief.cached("probe").is_none());
        let never = scene(json!({"cache_seconds": 0}));
        never.fresh().await;
        never.server.issue("good", token("c_1"));
        for _ in 0..3 {
            assert!(never.resolve("good").await.expect("an answer").is_some());
            assert!(never.cached("good").is_none());
        }
        assert_eq!(never.server.asked(), 3);
    });
}

#[test]
fn an_api_key_without_an_end_is_remembered() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let mut answer = token("c_1");
        (answer["token_type"], answer["exp"], answer["aud"]) = (json!("api_key"), json!(null), json!([RESOURCE, "x"]));
        scene.server.issue("key", answer);
        let resolve = |kind: CredentialKind| scene.credentials.resolve(kind, "key", RESOURCE, None);
        assert!(resolve(AccessToken).await.expect("an answer").is_none());
        let verified = resolve(ApiKey).await.expect("an answer").expect("valid");
        assert_eq!((verified.identity.expires_at, verified.identity.audience.len()), (None, 2));
        assert!(scene.credentials.cached(ApiKey, "key", None).is_some());
        assert!(scene.cached("key").is_none());
    });
}

fn persons_token(sub: &str, sid: &str, grant_id: &str) -> Value {
    let mut answer = token("c_1");
    for (name, value) in [("sub", sub), ("sid", sid), ("grant_id", grant_id)] {
        answer[name] = json!(value);
    }
    answer
}

#[test]
fn a_revoked_user_session_or_grant_takes_its_tokens_along_and_no_others() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let tokens = [
            ("a", persons_token("u_1", "s_1", "g_1")),
            ("b", persons_token("u_1", "s_2", "g_2")),
            ("c", persons_token("u_1", "s_2", "g_3")),
            ("d", persons_token("u_2", "s_3", "g_4")),
            ("e", token("c_1")),
            // Names of one kind mean nothing among those of another.
            ("f", persons_token("g_1", "u_1", "s_1")),
        ];
        for (secret, answer) in &tokens {
            scene.server.issue(secret, answer.clone());
            assert!(scene.resolve(secret).await.expect("an answer").is_some());
        }
        let left =
            || -> String { tokens.iter().map(|(secret, _)| *secret).filter(|s| scene.cached(s).is_some()).collect() };
        assert_eq!(left(), "abcdef");
        for (revocation, remain) in [
            (json!({"kind": "grant", "grant_id": "g_1"}), "bcdef"),
            (json!({"kind": "session", "sid": "s_2"}), "def"),
            (json!({"kind": "user", "sub": "u_2"}), "ef"),
            (json!({"kind": "user", "sub": "u_1"}), "ef"),
        ] {
            let started = Instant::now();
            scene.server.publish(revocation.clone());
            scene.until("it is in force", || async { left() == remain }).await;
            assert!(started.elapsed() < Duration::from_secs(1), "{revocation}: {:?}", started.elapsed());
        }
        let metrics = &scene.metrics;
        scene.until("all are counted", || async { metrics.revocations_user.value() == 2 }).await;
        assert_eq!((metrics.revocations_session.value(), metrics.revocations_grant.value()), (1, 1));
        assert_eq!(metrics.revocation_resets.value(), 0);
    });
}

#[test]
fn a_revocation_of_a_session_overtakes_the_answer_about_its_token() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        scene.server.issue("good", persons_token("u_1", "s_1", "g_1"));
        scene.server.hold.store(true, SeqCst);
        let credentials = scene.credentials.clone();
        let asking = tokio::spawn(async move { credentials.resolve(AccessToken, "good", RESOURCE, None).await });
        scene.until("it is asked", || async { scene.server.asked() == 1 }).await;
        scene.server.issue("good", json!({"active": false}));
        scene.server.publish(json!({"kind": "session", "sid": "s_1"}));
        scene.until("the revocation is in force", || async { scene.metrics.revocations_session.value() == 1 }).await;
        scene.server.hold.store(false, SeqCst);
        scene.server.released.notify_waiters();
        assert!(asking.await.expect("no panic").expect("an answer").is_none());
        assert_eq!(scene.server.asked(), 2);
    });
}

#[test]
fn an_internal_token_is_kept_apart_for_each_operation() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        scene.server.issue("good", token("c_1"));
        let operations = [None, Some("GET /a"), Some("POST /a"), Some("GET /b")];
        for operation in operations {
            assert!(scene.credentials.cached(AccessToken, "good", operation).is_none(), "{operation:?}");
            let found = scene.credentials.resolve(AccessToken, "good", RESOURCE, operation).await;
            assert!(found.expect("an answer").is_some());
        }
        assert_eq!(scene.server.asked(), 4);
        for operation in operations {
            let verified = scene.credentials.cached(AccessToken, "good", operation).expect("remembered");
            let wanted = operation.map_or("head.body.signature".to_owned(), |operation| operation.replace(' ', "-"));
            assert_eq!(verified.internal_token.to_str().expect("text"), format!("Bearer {wanted}"));
        }
        scene.server.revoke_token("good");
        for operation in operations {
            let gone = || async { scene.credentials.cached(AccessToken, "good", operation).is_none() };
            scene.until("it is gone for every operation", gone).await;
        }
    });
}

#[test]
fn a_token_of_seconds_is_sent_for_seconds() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let mut answer = token("c_1");
        answer["internal_token_exp"] = json!(now() as u64 + 4);
        scene.server.issue("good", answer);
        let operation = Some("GET /a");
        let found = scene.credentials.resolve(AccessToken, "good", RESOURCE, operation).await;
        assert!(found.expect("an answer").is_some());
        assert!(scene.credentials.cached(AccessToken, "good", operation).is_some());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(scene.credentials.cached(AccessToken, "good", operation).is_none(), "sent until its very end");
    });
}

#[test]
fn canaries_measure_how_soon_a_revocation_arrives() {
    run(async {
        let scene = scene(json!({"canary_seconds": 1}));
        scene.fresh().await;
        assert_eq!(scene.server.canaries.load(SeqCst), 0, "for no audience");
        scene.credentials.probe(RESOURCE);
        let measured = &scene.metrics.revocation_canary_seconds;
        scene.until("two are measured", || async { measured.count() >= 2 }).await;
        assert_eq!(scene.metrics.revocation_canary_failures.value(), 0);
        let text = scene.metrics.encode();
        let within =
            text.lines().find(|line| line.starts_with("stockade_revocation_canary_seconds_bucket{le=\"1.0\"}"));
        assert!(within.is_some_and(|line| !line.ends_with(" 0")), "{within:?}");
    });
}

#[test]
fn a_canary_that_cannot_be_had_is_a_failure() {
    run(async {
        let scene = scene(json!({"canary_seconds": 1}));
        scene.fresh().await;
        scene.server.canaries_fail.store(true, SeqCst);
        scene.credentials.probe(RESOURCE);
        let failures = || async { scene.metrics.revocation_canary_failures.value() > 0 };
        scene.until("the failure is counted", failures).await;
        assert_eq!(scene.metrics.revocation_canary_seconds.count(), 0);
        scene.server.canaries_fail.store(false, SeqCst);
        let measured = || async { scene.metrics.revocation_canary_seconds.count() > 0 };
        scene.until("it comes back by itself", measured).await;
    });
}

#[test]
fn a_canary_that_nobody_hears_of_is_a_failure() {
    run(async {
        let scene = scene(json!({"canary_seconds": 1}));
        scene.fresh().await;
        scene.server.feed_lies.store(true, SeqCst);
        scene.credentials.probe(RESOURCE);
        let failures = || async { scene.metrics.revocation_canary_failures.value() > 0 };
        scene.until("the failure is counted", failures).await;
        assert_eq!(scene.metrics.revocation_canary_seconds.count(), 0);
    });
}

#[test]
fn forgetting_makes_every_credential_be_asked_for_again() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        assert!(scene.cached("probe").is_some());
        scene.credentials.forget();
        scene.until("it is forgotten", || async { scene.cached("probe").is_none() }).await;
    });
}

#[test]
fn a_server_of_another_authority_is_never_told_a_token() {
    run(async {
        let scene = scene(json!({}));
        scene.fresh().await;
        let folder = Folder::new();
        let other = Authority::new(&folder, "other");
        let mut settings = scene.settings.clone();
        settings.ca = other.ca;
        let metrics = Arc::new(Metrics::new());
        let credentials = Credentials::start(&settings, metrics.clone(), None).expect("credentials");
        assert!(credentials.resolve(AccessToken, "probe", RESOURCE, None).await.is_err());
        assert_eq!(scene.server.asked(), 0);
        assert!(metrics.revocation_feed_errors.value() > 0);
        let text = metrics.encode();
        assert!(text.contains("stockade_revocation_feed_age_seconds") && !text.contains("probe"));
    });
}
