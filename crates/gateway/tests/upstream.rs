//! The way to the upstream, against real sockets; several of the upstreams talk nonsense.

mod support;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::json;
use stockade_engine::{Layer, Reason};
use stockade_gateway::config;
use stockade_gateway::metrics::Metrics;
use stockade_gateway::upstream::{
    BoxError, Upstream, UpstreamBody, UpstreamError, UpstreamResponseBody, UpstreamShared,
};
use support::{Authority, Folder, RawServer, on_thread, read_head, read_request, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

struct Side {
    upstream: Upstream,
    shared: Arc<UpstreamShared>,
    metrics: Arc<Metrics>,
}

fn settings(endpoints: &[String], more: serde_json::Value) -> Arc<config::Upstream> {
    let mut all = json!({"endpoints": endpoints, "connect_timeout_ms": 500, "response_timeout_ms": 500});
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    Arc::new(serde_json::from_value(all).expect("settings"))
}

fn side(endpoints: &[String], more: serde_json::Value) -> Side {
    let config = settings(endpoints, more);
    let metrics = Arc::new(Metrics::new());
    let shared = Arc::new(UpstreamShared::new(config.clone(), metrics.clone(), None).expect("an upstream"));
    Side { upstream: Upstream::new(config, shared.clone()), shared, metrics }
}

fn get(path: &str) -> Request<UpstreamBody> {
    Request::get(path).body(UpstreamBody::Empty).expect("a request")
}

fn post(path: &str, body: &'static str) -> Request<UpstreamBody> {
    Request::post(path).body(UpstreamBody::Full(Bytes::from_static(body.as_bytes()))).expect("a request")
}

impl Side {
    async fn get(&self, path: &str) -> Result<(u16, String), UpstreamError> {
        text(self.upstream.send(get(path), true).await?).await
    }

    async fn post(&self, path: &str, body: &'static str) -> Result<(u16, String), UpstreamError> {
        text(self.upstream.send(post(path, body), false).await?).await
    }
}

async fn text(response: Response<UpstreamResponseBody>) -> Result<(u16, String), UpstreamError> {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(bytes.to_vec()).expect("text")))
}

/// A server that gives the same answer to each request, as often as it is asked.
async fn always(answer: &'static [u8]) -> RawServer {
    RawServer::start(move |mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A server that gives one answer and closes.
async fn once(answer: Vec<u8>) -> RawServer {
    let answer = Rc::new(answer);
    RawServer::start(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            if read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(&answer).await;
            }
        }
    })
    .await
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_connection_serves_one_request_after_the_other() {
    on_thread(async {
        let server = always(OK).await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..20 {
            assert_eq!(side.get("/").await.expect("an answer"), (200, "ok".to_owned()));
        }
        assert_eq!(server.accepted(), 1);
        assert_eq!(side.metrics.upstream_reused.value(), 19);
    });
}

#[test]
fn answers_without_a_body_give_the_connection_back_without_being_read() {
    on_thread(async {
        for answer in [
            &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            let server = always(answer).await;
            let side = side(&[server.url()], json!({}));
            for _ in 0..5 {
                drop(side.upstream.send(get("/"), true).await.expect("an answer"));
            }
            assert_eq!(server.accepted(), 1, "{}", String::from_utf8_lossy(answer));
        }
        let server = always(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n").await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..5 {
            let head = Request::head("/").body(UpstreamBody::Empty).expect("a request");
            let response = side.upstream.send(head, true).await.expect("an answer");
            assert_eq!(response.headers()[header::CONTENT_LENGTH], "500");
            assert!(response.into_body().is_end_stream());
        }
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_body_dropped_halfway_closes_its_connection() {
    on_thread(async {
        let server = always(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
        let side = side(&[server.url()], json!({}));
        for expected in 1..4 {
            let mut response = side.upstream.send(get("/"), true).await.expect("an answer");
            assert!(response.body_mut().frame().await.expect("a piece").is_ok());
            drop(response);
            assert_eq!(server.accepted(), expected);
        }
    });
}

#[test]
fn a_body_that_nobody_wants_keeps_its_connection_if_it_is_small() {
    on_thread(async {
        for (answer, connections) in [
            (&b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"[..], 1),
            (b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 1),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno", 3),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 70000\r\n\r\nno", 3),
        ] {
            let server = always(answer).await;
            let side = side(&[server.url()], json!({}));
            for _ in 0..3 {
                side.upstream.send(get("/"), true).await.expect("an answer").into_body().discard();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            assert_eq!(server.accepted(), connections, "{}", String::from_utf8_lossy(answer));
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(side.metrics.upstream_connections.value(), i64::from(connections == 1));
        }
    });
}

#[test]
fn surplus_bytes_never_become_the_next_answer() {
    on_thread(async {
        let surplus = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        for (answer, method) in [
            (&surplus[..], Method::GET),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Method::HEAD),
            (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Method::GET),
            (b"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Method::GET),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
                Method::GET,
            ),
        ] {
            let server = always(answer).await;
            let side = side(&[server.url()], json!({}));
            for expected in 1..4 {
                let mut request = get("/");
                *request.method_mut() = method.clone();
                let response = side.upstream.send(request, true).await.expect("an answer");
                let (_, body) = text(response).await.expect("a body");
                assert!(body.is_empty() || body == "ok", "{body}");
                assert_eq!(server.accepted(), expected, "{}", String::from_utf8_lossy(answer));
            }
        }
    });
}

#[test]
fn surplus_bytes_that_come_later_close_the_idle_connection() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            while read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(OK).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            }
        })
        .await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..3 {
            assert_eq!(side.get("/").await.expect("an answer").1, "ok");
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(server.accepted(), 3);
    });
}

#[test]
fn nonsense_heads_are_protocol_errors() {
    on_thread(async {
        let bomb = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(70_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(200));
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1_000_000));
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 20 Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\rSet-Cookie: evil\r\ncontent-length: 0\r\n\r\n",
            "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/0.9 200 OK\r\n\r\n",
            "<html>hello</html>",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            &bomb,
            &many,
            &endless,
        ] {
            let server = once(answer.as_bytes().to_vec()).await;
            let side = side(&[server.url()], json!({}));
            let error = side.post("/", "{}").await.expect_err(answer);
            assert_eq!(error.reason(), (Layer::Upstream, Reason::ProtocolError), "{:.90}: {error}", answer);
            assert_eq!(side.metrics.upstream_nonsense.value(), 1);
        }
    });
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_never_an_end() {
    on_thread(async {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nsho",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nok\n0\n\n",
        ] {
            let server = once(answer.as_bytes().to_vec()).await;
            let side = side(&[server.url()], json!({}));
            let error = side.get("/").await.expect_err(answer);
            assert_eq!(error.reason().1, Reason::ProtocolError, "{answer}");
            assert_eq!(side.metrics.upstream_bodies_cut.value(), 1, "{answer}");
        }
    });
}

#[test]
fn informational_answers_are_swallowed() {
    on_thread(async {
        let server = always(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..3 {
            let response = side.upstream.send(get("/"), true).await.expect("an answer");
            assert!(!response.headers().contains_key("link"));
            assert_eq!(text(response).await.expect("a body"), (200, "ok".to_owned()));
        }
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn the_upstreams_own_words_and_hop_by_hop_fields_stay_behind() {
    on_thread(async {
        let server = always(
            b"HTTP/1.1 200 Totally Fine\r\nconnection: keep-alive, x-secret, content-length\r\nkeep-alive: timeout=5\r\n\
              x-secret: 1\r\nproxy-connection: close\r\nupgrade: h2c\r\nx-kept: 1\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
        let side = side(&[server.url()], json!({}));
        let response = side.upstream.send(get("/"), true).await.expect("an answer");
        assert!(response.extensions().get::<hyper::ext::ReasonPhrase>().is_none());
        let names: Vec<&str> = response.headers().keys().map(header::HeaderName::as_str).collect();
        assert_eq!(names, ["x-kept", "content-length"]);
        let server = always(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
        let side = self::side(&[server.url()], json!({}));
        let response = side.upstream.send(get("/"), true).await.expect("an answer");
        assert!(response.headers().is_empty());
        assert_eq!(text(response).await.expect("a body").1, "ok");
    });
}

fn upgrade(path: &str) -> Request<UpstreamBody> {
    let builder = Request::get(path).header(header::CONNECTION, "keep-alive, Upgrade");
    builder.header(header::UPGRADE, "websocket").body(UpstreamBody::Empty).expect("a request")
}

#[test]
fn an_upgrade_that_was_asked_for_carries_bytes_both_ways() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            let head = read_head(&mut stream).await.expect("a request");
            assert!(head.contains("upgrade: websocket\r\n"));
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\nhello";
            stream.write_all(switch).await.expect("written");
            let mut echo = [0; 4];
            stream.read_exact(&mut echo).await.expect("read");
            stream.write_all(&echo).await.expect("written");
        })
        .await;
        let side = side(&[server.url()], json!({}));
        let mut response = side.upstream.send(upgrade("/ws"), false).await.expect("an answer");
        assert_eq!(response.status(), 101);
        assert!(
            response.headers().contains_key(header::UPGRADE) && response.headers().contains_key(header::CONNECTION)
        );
        let upgraded = hyper::upgrade::on(&mut response).await.expect("an upgrade");
        let mut io = TokioIo::new(upgraded);
        let mut hello = [0; 5];
        io.read_exact(&mut hello).await.expect("read");
        assert_eq!(&hello, b"hello");
        assert_eq!(side.metrics.upstream_connections.value(), 1);
        io.write_all(b"ping").await.expect("written");
        let mut pong = [0; 4];
        io.read_exact(&mut pong).await.expect("read");
        assert_eq!(&pong, b"ping");
        drop(io);
        assert_eq!(side.metrics.upstream_connections.value(), 0);
    });
}

#[test]
fn a_switch_to_another_protocol_is_a_protocol_error() {
    on_thread(async {
        for answer in [
            &b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"[..],
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nupgrade: h2c\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\nevil",
        ] {
            let server = once(answer.to_vec()).await;
            let side = side(&[server.url()], json!({}));
            let error = side.upstream.send(upgrade("/"), false).await.err().expect("a refusal");
            assert_eq!(error.reason().1, Reason::ProtocolError);
        }
    });
}

#[test]
fn an_upstream_that_closes_after_each_answer_costs_no_get() {
    on_thread(async {
        let server = once(OK.to_vec()).await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..400 {
            assert_eq!(side.get("/").await.expect("an answer").0, 200);
        }
    });
}

/// A server that answers a connection's first request and closes upon the second without a word.
async fn forgetful(seen: Rc<RefCell<Vec<String>>>) -> RawServer {
    RawServer::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            for number in 0..2 {
                let Some((head, _)) = read_request(&mut stream).await else { return };
                seen.borrow_mut().push(head.split(' ').next().unwrap_or_default().to_owned());
                if number == 0 {
                    let _ = stream.write_all(OK).await;
                }
            }
        }
    })
    .await
}

#[test]
fn a_get_is_sent_again_when_a_pooled_connection_ends_without_a_word() {
    on_thread(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let server = forgetful(seen.clone()).await;
        let side = side(&[server.url()], json!({}));
        for _ in 0..4 {
            assert_eq!(side.get("/").await.expect("an answer").0, 200);
        }
        assert_eq!(side.metrics.upstream_retries.value(), 3);
        assert_eq!(seen.borrow().len(), 7);
    });
}

#[test]
fn a_post_that_may_have_arrived_is_never_sent_again() {
    on_thread(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let server = forgetful(seen.clone()).await;
        let side = side(&[server.url()], json!({}));
        assert_eq!(side.post("/", "{}").await.expect("an answer").0, 200);
        let error = side.post("/", "{}").await.expect_err("no answer");
        assert_eq!(error.reason().1, Reason::Unreachable);
        // Neither is a GET whose caller says that it changes something.
        assert_eq!(side.post("/", "{}").await.expect("an answer").0, 200);
        assert!(side.upstream.send(get("/"), false).await.is_err());
        assert_eq!(*seen.borrow(), ["POST", "POST", "POST", "GET"]);
        assert_eq!(side.metrics.upstream_retries.value(), 0);
    });
}

#[test]
fn nothing_is_sent_again_once_a_byte_of_the_answer_came() {
    on_thread(async {
        let count = Rc::new(Cell::new(0));
        let counter = count.clone();
        let server = RawServer::start(move |mut stream, _| {
            let counter = counter.clone();
            async move {
                let _ = read_request(&mut stream).await;
                counter.set(counter.get() + 1);
                let _ = stream.write_all(OK).await;
                if read_request(&mut stream).await.is_some() {
                    counter.set(counter.get() + 1);
                    let _ = stream.write_all(b"HTTP/1.1 20").await;
                }
            }
        })
        .await;
        let side = side(&[server.url()], json!({}));
        assert!(side.get("/").await.is_ok());
        assert!(side.get("/").await.is_err());
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn all_places_taken_means_waiting_and_then_overloaded() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            while read_request(&mut stream).await.is_some() {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let _ = stream.write_all(OK).await;
            }
        })
        .await;
        let limits = json!({"max_connections": 2, "max_waiting": 6, "wait_timeout_ms": 400});
        let side = Rc::new(side(&[server.url()], limits));
        let mut tasks = Vec::new();
        for _ in 0..12 {
            let side = side.clone();
            tasks.push(spawn_local(async move { side.get("/").await }));
        }
        let (mut served, mut refused) = (0, 0);
        for task in tasks {
            match task.await.expect("no panic") {
                Ok(_) => served += 1,
                Err(UpstreamError::Overloaded) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((served, refused, server.accepted()), (8, 4, 2));
        assert_eq!(side.metrics.upstream_waiting.value(), 0);
    });
}

#[test]
fn waiting_for_a_place_has_a_deadline() {
    on_thread(async {
        let server = always(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
        let side = side(&[server.url()], json!({"max_connections": 1, "wait_timeout_ms": 100}));
        let held = side.upstream.send(get("/"), true).await.expect("an answer");
        let started = Instant::now();
        assert!(matches!(side.get("/").await, Err(UpstreamError::Overloaded)));
        assert!((80..400).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        drop(held);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(side.upstream.send(get("/"), true).await.is_ok());
    });
}

#[test]
fn one_threads_idle_connections_do_not_starve_another() {
    on_thread(async {
        let server = always(OK).await;
        let config = settings(&[server.url()], json!({"max_connections": 1, "wait_timeout_ms": 3000}));
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(UpstreamShared::new(config.clone(), metrics.clone(), None).expect("an upstream"));
        let other = (config.clone(), shared.clone());
        let here = Upstream::new(config, shared);
        assert!(text(here.send(get("/"), true).await.expect("an answer")).await.is_ok());
        // The only place is held by an idle connection of this thread.
        let there = std::thread::spawn(move || {
            on_thread(async move {
                let started = Instant::now();
                let there = Upstream::new(other.0, other.1);
                text(there.send(get("/"), true).await.expect("an answer")).await.expect("a body");
                started.elapsed()
            })
        });
        while !there.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = there.join().expect("no panic");
        assert!(took < Duration::from_millis(900), "{took:?}");
        drop(here);
    });
}

#[test]
fn a_requester_who_leaves_does_not_spoil_the_connect() {
    on_thread(async {
        let folder = Folder::new();
        let authority = Authority::new(&folder, "ca");
        let tls = server_config(&authority.issue(&folder, "server", "localhost"), None, &[]);
        let server = RawServer::start(move |stream, _| {
            let tls = tls.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let mut stream = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await.expect("a handshake");
                while read_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await;
        let url = format!("https://localhost:{}", server.port);
        let side = side(&[url], json!({"tls": {"ca": authority.ca}}));
        assert!(tokio::time::timeout(Duration::from_millis(30), side.get("/")).await.is_err());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(side.get("/").await.expect("an answer").0, 200);
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_stalled_handshake_is_cut_and_blocks_nobody_after_it() {
    on_thread(async {
        let folder = Folder::new();
        let authority = Authority::new(&folder, "ca");
        let tls = server_config(&authority.issue(&folder, "server", "localhost"), None, &[]);
        let server = RawServer::start(move |stream, number| {
            let tls = tls.clone();
            async move {
                if number == 0 {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                }
                let mut stream = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await.expect("a handshake");
                while read_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await;
        let url = format!("https://localhost:{}", server.port);
        let limits = json!({"tls": {"ca": authority.ca}, "connect_timeout_ms": 150, "max_connections": 1});
        let side = side(&[url], limits);
        assert_eq!(side.get("/").await.expect_err("no answer").reason().1, Reason::Unreachable);
        assert_eq!(side.get("/").await.expect("an answer").0, 200);
    });
}

#[test]
fn a_silent_upstream_times_out() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            let _ = read_request(&mut stream).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
        })
        .await;
        let side = side(&[server.url()], json!({"response_timeout_ms": 100}));
        let started = Instant::now();
        let error = side.get("/").await.expect_err("no answer");
        assert_eq!(error.reason(), (Layer::Upstream, Reason::UpstreamTimeout));
        assert!(started.elapsed() < Duration::from_millis(400));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(side.metrics.upstream_connections.value(), 0);
    });
}

#[test]
fn a_stalled_body_times_out_but_an_event_stream_may_pause() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            let (head, _) = read_request(&mut stream).await.expect("a request");
            let kind = if head.contains("/events") { "text/event-stream" } else { "text/plain" };
            let start =
                format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
            stream.write_all(start.as_bytes()).await.expect("written");
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = stream.write_all(b"0\r\n\r\n").await;
        })
        .await;
        let side = side(&[server.url()], json!({"response_timeout_ms": 100}));
        assert_eq!(side.get("/").await.expect_err("a stall").reason().1, Reason::UpstreamTimeout);
        assert_eq!(side.get("/events").await.expect("an answer").1, "ok");
    });
}

/// A body that gives `pieces` pieces with a pause before each, and then perhaps an error.
struct Slow {
    pieces: usize,
    fails: bool,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl Slow {
    fn body(pieces: usize, fails: bool) -> UpstreamBody {
        UpstreamBody::Stream(Box::pin(Slow { pieces, fails, pause: Box::pin(tokio::time::sleep(Slow::PAUSE)) }))
    }

    const PAUSE: Duration = Duration::from_millis(40);
}

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.pieces == 0 {
            return Poll::Ready(self.fails.then(|| Err("the client left".into())));
        }
        std::task::ready!(self.pause.as_mut().poll(context));
        self.pieces -= 1;
        self.pause = Box::pin(tokio::time::sleep(Slow::PAUSE));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ab")))))
    }
}

/// Reads a chunked body as it stands on the wire.
async fn read_chunked(stream: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    while !all.ends_with(b"0\r\n\r\n") {
        all.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(all).ok()
}

#[test]
fn a_slow_upload_puts_the_answers_deadline_off() {
    on_thread(async {
        for method in [Method::POST, Method::GET] {
            let server = RawServer::start(|mut stream, _| async move {
                let head = read_head(&mut stream).await.expect("a request");
                assert!(head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
                let body = read_chunked(&mut stream).await.expect("a body");
                assert_eq!(body.matches("ab").count(), 6);
                stream.write_all(OK).await.expect("written");
            })
            .await;
            let side = side(&[server.url()], json!({"response_timeout_ms": 120}));
            let mut request = get("/");
            *request.method_mut() = method;
            *request.body_mut() = Slow::body(6, false);
            let response = side.upstream.send(request, false).await.expect("an answer");
            assert_eq!(text(response).await.expect("a body").1, "ok");
        }
    });
}

#[test]
fn a_request_body_that_fails_is_the_clients_doing() {
    on_thread(async {
        let server = RawServer::start(|mut stream, _| async move {
            let _ = read_head(&mut stream).await;
            assert_eq!(read_chunked(&mut stream).await, None, "the body must not seem complete");
        })
        .await;
        let side = side(&[server.url()], json!({}));
        let mut request = post("/", "");
        *request.body_mut() = Slow::body(1, true);
        let error = side.upstream.send(request, false).await.err().expect("no answer");
        assert!(
            matches!(&error, UpstreamError::RequestBody(source) if source.to_string() == "the client left"),
            "{error:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(side.metrics.upstream_connections.value(), 0);
    });
}

#[test]
fn the_body_that_is_sent_decides_the_framing() {
    on_thread(async {
        let heads = Rc::new(RefCell::new(Vec::new()));
        let seen = heads.clone();
        let server = RawServer::start(move |mut stream, _| {
            let seen = seen.clone();
            async move {
                while let Some((head, body)) = read_request(&mut stream).await {
                    seen.borrow_mut().push((head, String::from_utf8(body).expect("text")));
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await;
        let side = side(&[server.url()], json!({}));
        for (method, body) in [(Method::POST, UpstreamBody::Empty), (Method::GET, UpstreamBody::Empty)] {
            let request = Request::builder().method(method).uri("/").header("content-length", "40");
            let request = request.header("transfer-encoding", "chunked").header("expect", "100-continue").body(body);
            text(side.upstream.send(request.expect("a request"), false).await.expect("an answer"))
                .await
                .expect("a body");
        }
        let request =
            Request::post("/").header("content-length", "40").body(UpstreamBody::Full(Bytes::from_static(b"abc")));
        text(side.upstream.send(request.expect("a request"), false).await.expect("an answer")).await.expect("a body");
        let heads = heads.borrow();
        assert!(heads[0].0.contains("content-length: 0\r\n"), "{}", heads[0].0);
        assert!(!heads[1].0.contains("content-length"), "{}", heads[1].0);
        assert!(heads[2].0.contains("content-length: 3\r\n") && heads[2].1 == "abc");
        assert!(heads.iter().all(|(head, _)| !head.contains("transfer-encoding") && !head.contains("expect")));
    });
}

#[test]
fn the_target_gets_the_endpoints_prefix_and_host() {
    on_thread(async {
        let heads = Rc::new(RefCell::new(Vec::new()));
        let seen = heads.clone();
        let server = RawServer::start(move |mut stream, _| {
            let seen = seen.clone();
            async move {
                while let Some(head) = read_head(&mut stream).await {
                    seen.borrow_mut().push(head);
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await;
        let request =
            || Request::get("/a?b=c").header("host", "shop.example").body(UpstreamBody::Empty).expect("a request");
        let rewritten = side(&[format!("{}/v1/", server.url())], json!({}));
        text(rewritten.upstream.send(request(), true).await.expect("an answer")).await.expect("a body");
        let preserved = side(&[server.url()], json!({"preserve_host": true}));
        text(preserved.upstream.send(request(), true).await.expect("an answer")).await.expect("a body");
        let heads = heads.borrow();
        assert!(heads[0].starts_with("GET /v1/a?b=c HTTP/1.1\r\n"), "{}", heads[0]);
        assert!(heads[0].contains(&format!("host: 127.0.0.1:{}\r\n", server.port)));
        assert!(heads[1].starts_with("GET /a?b=c HTTP/1.1\r\n") && heads[1].contains("host: shop.example\r\n"));
    });
}

/// A port where nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn a_dead_endpoint_costs_no_request_and_is_taken_out() {
    on_thread(async {
        let server = always(OK).await;
        let side = side(&[nobody().await, server.url()], json!({"eject_after_failures": 3, "eject_seconds": 60}));
        for _ in 0..40 {
            assert_eq!(side.post("/", "{}").await.expect("an answer").0, 200);
        }
        assert_eq!(side.metrics.upstream_ejections.value(), 1);
        assert_eq!(side.metrics.upstream_connects_failed.value(), 3);
    });
}

#[test]
fn the_last_endpoint_is_never_taken_out() {
    on_thread(async {
        let side = side(&[nobody().await, nobody().await], json!({"eject_after_failures": 1, "eject_seconds": 60}));
        for _ in 0..10 {
            assert_eq!(side.get("/").await.expect_err("no answer").reason().1, Reason::Unreachable);
        }
        assert_eq!(side.metrics.upstream_ejections.value(), 1);
    });
}

#[test]
fn an_endpoint_comes_back_after_one_successful_trial() {
    on_thread(async {
        let broken = Rc::new(Cell::new(true));
        let state = broken.clone();
        let flaky = RawServer::start(move |mut stream, _| {
            let state = state.clone();
            async move {
                while read_request(&mut stream).await.is_some() {
                    let answer: &[u8] = if state.get() {
                        b"nonsense\r\n\r\n"
                    } else {
                        b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok"
                    };
                    let _ = stream.write_all(answer).await;
                }
            }
        })
        .await;
        let server = always(OK).await;
        let side = side(&[flaky.url(), server.url()], json!({"eject_after_failures": 2, "eject_seconds": 1}));
        let mut failures = 0;
        for _ in 0..30 {
            failures += usize::from(side.get("/").await.is_err());
        }
        assert_eq!((failures, side.metrics.upstream_ejections.value()), (2, 1));
        broken.set(false);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let mut from_flaky = 0;
        for _ in 0..30 {
            from_flaky += usize::from(side.get("/").await.expect("an answer").0 == 201);
        }
        assert!(from_flaky > 5, "{from_flaky}");
    });
}

#[test]
fn idle_and_old_connections_are_closed() {
    on_thread(async {
        let server = always(OK).await;
        let idle = side(&[server.url()], json!({"idle_timeout_ms": 50}));
        idle.get("/").await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
        idle.get("/").await.expect("an answer");
        assert_eq!(server.accepted(), 2);
        let old = side(&[server.url()], json!({"max_age_seconds": 0}));
        old.get("/").await.expect("an answer");
        old.get("/").await.expect("an answer");
        assert_eq!(server.accepted(), 4);
        // Nobody asks again, and still the idle connection goes.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(idle.metrics.upstream_connections.value(), 0);
    });
}

#[test]
fn tls_trusts_the_named_authority_and_name_only() {
    on_thread(async {
        let folder = Folder::new();
        let (authority, other) = (Authority::new(&folder, "ca"), Authority::new(&folder, "other"));
        let ours = authority.issue(&folder, "server", "api.internal");
        let client = authority.issue(&folder, "client", "stockade-gateway");
        let strange = other.issue(&folder, "strange", "stockade-gateway");
        let tls = server_config(&ours, Some(&authority.ca), &[b"http/1.1"]);
        let server = RawServer::start(move |stream, _| {
            let tls = tls.clone();
            async move {
                let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
                while read_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(OK).await;
                }
            }
        })
        .await;
        let url = format!("https://127.0.0.1:{}", server.port);
        let works = |tls: serde_json::Value| {
            let side = side(std::slice::from_ref(&url), json!({"tls": tls}));
            async move { side.get("/").await.map_err(|error| error.reason().1) }
        };
        let good = json!({"ca": authority.ca, "certificate": client.0, "key": client.1, "server_name": "api.internal"});
        assert_eq!(works(good.clone()).await, Ok((200, "ok".to_owned())));
        for (member, value) in
            [("ca", json!(other.ca)), ("server_name", json!(null)), ("server_name", json!("api.other"))]
        {
            let mut bad = good.clone();
            bad[member] = value;
            assert_eq!(works(bad).await, Err(Reason::Unreachable), "{member}");
        }
        let mut without = good.clone();
        (without["certificate"], without["key"]) = (json!(null), json!(null));
        assert!(works(without).await.is_err());
        let mut wrong = good;
        (wrong["certificate"], wrong["key"]) = (json!(strange.0), json!(strange.1));
        assert!(works(wrong).await.is_err());
    });
}

#[test]
fn configurations_that_cannot_work_are_refused_at_start() {
    for (endpoint, tls) in [
        ("ftp://127.0.0.1", json!({})),
        ("http://user:secret@127.0.0.1", json!({})),
        ("http://127.0.0.1:x", json!({})),
        ("127.0.0.1:80", json!({})),
        ("https://127.0.0.1", json!({"ca": "/nowhere/ca.pem"})),
        ("https://127.0.0.1", json!({"certificate": "/nowhere/client.pem"})),
    ] {
        let config = settings(&[endpoint.to_owned()], json!({"tls": tls}));
        let refused = UpstreamShared::new(config, Arc::new(Metrics::new()), None).err().expect(endpoint).to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}

/// An HTTP/2 server without TLS; `handler` gets each stream.
async fn http2_server<F>(
    handler: impl Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F + Clone + 'static,
) -> RawServer
where
    F: Future<Output = ()> + 'static,
{
    RawServer::start(move |stream, _| {
        let handler = handler.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.expect("a handshake");
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(handler(request, respond));
            }
        }
    })
    .await
}

#[test]
fn http2_carries_many_requests_on_few_connections() {
    on_thread(async {
        let server = http2_server(|request, mut respond| async move {
            assert_eq!(request.uri().scheme_str(), Some("http"));
            assert!(!request.headers().contains_key("host") && !request.headers().contains_key("connection"));
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut body = respond.send_response(Response::new(()), false).expect("sent");
            body.send_data(Bytes::from(request.uri().path().to_owned()), true).expect("sent");
        })
        .await;
        let side = Rc::new(side(&[server.url()], json!({"protocol": "http2"})));
        let mut tasks = Vec::new();
        for number in 0..200 {
            let side = side.clone();
            tasks.push(spawn_local(async move {
                let path = format!("/{number}");
                let request = Request::get(&*path).header("host", "x").header("connection", "keep-alive");
                let response = side.upstream.send(request.body(UpstreamBody::Empty).expect("a request"), true).await;
                assert_eq!(text(response.expect("an answer")).await.expect("a body"), (200, path));
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        assert!((2..=8).contains(&server.accepted()), "{}", server.accepted());
    });
}

#[test]
fn an_http2_stream_reset_without_error_is_no_end_of_a_body() {
    on_thread(async {
        let server = http2_server(|request, mut respond| async move {
            let mut body = respond.send_response(Response::new(()), false).expect("sent");
            body.send_data(Bytes::from_static(b"half"), false).expect("sent");
            if request.uri().path() == "/cut" {
                tokio::time::sleep(Duration::from_millis(20)).await;
                body.send_reset(h2::Reason::NO_ERROR);
            } else {
                body.send_data(Bytes::from_static(b" and half"), true).expect("sent");
            }
        })
        .await;
        let side = side(&[server.url()], json!({"protocol": "http2"}));
        assert_eq!(side.get("/whole").await.expect("an answer").1, "half and half");
        assert!(side.get("/cut").await.is_err());
        assert_eq!(side.get("/whole").await.expect("an answer").1, "half and half");
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_refused_http2_stream_is_sent_again_only_if_that_changes_nothing() {
    on_thread(async {
        let count = Rc::new(Cell::new(0));
        let counter = count.clone();
        let server = http2_server(move |_, mut respond| {
            let counter = counter.clone();
            async move {
                counter.set(counter.get() + 1);
                if counter.get() % 2 == 0 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(Response::new(()), true).expect("sent");
                }
            }
        })
        .await;
        let side = side(&[server.url()], json!({"protocol": "http2"}));
        assert!(side.get("/").await.is_ok());
        assert!(side.get("/").await.is_ok());
        assert_eq!(count.get(), 3);
        assert!(side.post("/", "{}").await.is_err());
        assert_eq!(count.get(), 4);
    });
}

#[test]
fn an_upstream_without_http2_is_a_protocol_error_there() {
    on_thread(async {
        let server = always(OK).await;
        let side = side(&[server.url()], json!({"protocol": "http2"}));
        assert!(side.get("/").await.is_err());
        drop(side.shared);
    });
}
