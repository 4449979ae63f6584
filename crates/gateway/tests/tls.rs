//! TLS and HTTP/2 towards clients, against the gateway as a process.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use support::gate::{Gate, Upstream, operations, payload, tls_files};
use support::{Authority, Folder, on_thread};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

struct Site {
    gate: Gate,
    ca: std::path::PathBuf,
    upstream: Upstream,
}

/// A gateway with TLS; `more` goes into its configuration.
fn site(more: Value) -> Site {
    let upstream = Upstream::start();
    let folder = Folder::new();
    let (tls, ca) = tls_files(&folder);
    let mut config = json!({"listen": {"tls": tls}});
    for (name, value) in more.as_object().expect("an object") {
        config[name] = value.clone();
    }
    let gate = Gate::with(folder, upstream.url(), payload(operations()), config);
    Site { gate, ca, upstream }
}

#[derive(Debug)]
struct Forger(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Forger {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Site {
    /// Shows a certificate and signs with another key than its own.
    async fn forge(&self, certificate: &Path, key: &Path) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let signer = provider.key_provider.load_private_key(key).expect("a signer");
        let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
        let forged = Arc::new(Forger(Arc::new(rustls::sign::CertifiedKey::new(chain, signer))));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).expect("a certificate")).expect("a root");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_cert_resolver(forged);
        let stream = TcpStream::connect(self.gate.address).await?;
        TlsConnector::from(Arc::new(config)).connect("api.test".try_into().expect("a name"), stream).await
    }

    async fn connect(&self, alpn: &str, identity: Option<(&Path, &Path)>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(certificate).expect("a certificate")],
                PrivateKeyDer::from_pem_file(key).expect("a key"),
            ),
            None => Ok(builder.with_no_client_auth()),
        }
        .expect("a client");
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.gate.address).await?;
        let name = "api.test".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = self.connect("h2", None).await.expect("a handshake");
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        sender
    }

    async fn status(&self, alpn_http1: TlsStream<TcpStream>, path: &str) -> StatusCode {
        let (mut sender, connection) = http1::handshake(TokioIo::new(alpn_http1)).await.expect("a connection");
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "api.test").body(Empty::<Bytes>::new()).expect("a request");
        sender.send_request(request).await.expect("an answer").status()
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://api.test{path}")).body(Full::default()).expect("a request")
}

#[test]
fn both_versions_are_served_over_tls() {
    let site = site(json!({}));
    on_thread(async {
        let stream = site.connect("http/1.1", None).await.expect("a handshake");
        assert_eq!(site.status(stream, "/echo").await, 200);
        let mut sender = site.http2().await;
        let mut request = get("/echo?a=b");
        for crumb in ["a=1", "b=2"] {
            request.headers_mut().append("cookie", crumb.parse().expect("a value"));
        }
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "{\"ok\":true}");
        let heads = site.upstream.received();
        let head = heads.last().expect("a request");
        assert!(head.starts_with("GET /echo?a=b HTTP/1.1\r\n"));
        for line in ["cookie: a=1; b=2", "x-forwarded-host: api.test", "x-forwarded-proto: https"] {
            assert!(head.contains(line), "{line} in {head}");
        }
        let mut order = get("/orders");
        *order.method_mut() = http::Method::POST;
        *order.body_mut() = Full::from("{\"qty\":0}");
        order.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
        assert_eq!(sender.send_request(order).await.expect("an answer").status(), 400);
        let mut other = get("/echo");
        other.headers_mut().insert("host", "other.test".parse().expect("a value"));
        assert_eq!(sender.send_request(other).await.expect("an answer").status(), 400, "two hosts");
        assert_eq!(sender.send_request(get("/nothing")).await.expect("an answer").status(), 404);
    });
}

#[test]
fn certificates_are_reloaded_without_dropping_anyone() {
    let site = site(json!({}));
    on_thread(async {
        let mut old = site.http2().await;
        let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().map(|c| c[0].to_vec());
        let before = shown(&site.connect("h2", None).await.expect("a handshake"));
        let authority = Authority::new(&site.gate.folder, "ca");
        authority.issue(&site.gate.folder, "server", "api.test");
        site.gate.signal("HUP");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = shown(&site.connect("h2", None).await.expect("the new certificate"));
        assert_ne!(before, after);
        assert_eq!(old.send_request(get("/echo")).await.expect("an answer").status(), 200);
        site.gate.folder.write("server.pem", "nonsense");
        let answer = site.gate.admin("POST /certificates HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answer.status, 422);
        assert_eq!(shown(&site.connect("h2", None).await.expect("as before")), after);
    });
}

#[test]
fn a_client_certificate_counts_only_when_the_configured_authority_signed_it() {
    let folder = Folder::new();
    let clients = Authority::new(&folder, "clients");
    let (certificate, key) = clients.issue(&folder, "client", "client.test");
    let strangers = Authority::new(&folder, "strangers");
    let (other_certificate, other_key) = strangers.issue(&folder, "stranger", "client.test");
    let with = |wanted: &str| {
        let upstream = Upstream::start();
        let own = Folder::new();
        let (mut tls, ca) = tls_files(&own);
        tls["client_ca"] = json!(clients.ca);
        tls["client_certificate"] = json!(wanted);
        let gate = Gate::with(own, upstream.url(), payload(operations()), json!({"listen": {"tls": tls}}));
        Site { gate, ca, upstream }
    };
    let optional = with("optional");
    let required = with("required");
    on_thread(async {
        let known = Some((&*certificate, &*key));
        for site in [&optional, &required] {
            let stream = site.connect("http/1.1", known).await.expect("a handshake");
            assert_eq!(site.status(stream, "/certified").await, 200);
            let stranger = site.connect("http/1.1", Some((&other_certificate, &other_key))).await;
            assert!(is_refused(stranger).await);
        }
        let stream = optional.connect("http/1.1", None).await.expect("a handshake");
        assert_eq!(optional.status(stream, "/certified").await, 401);
        assert!(is_refused(required.connect("http/1.1", None).await).await);
    });
}

#[test]
fn any_certificate_is_taken_for_binding_and_none_of_them_names_its_owner() {
    let folder = Folder::new();
    let (certificate, key) = Authority::new(&folder, "strangers").issue(&folder, "stranger", "client.test");
    let (_, other_key) = Authority::new(&folder, "others").issue(&folder, "other", "client.test");
    let upstream = Upstream::start();
    let own = Folder::new();
    let (mut tls, ca) = tls_files(&own);
    tls["client_certificate"] = json!("any");
    let gate = Gate::with(own, upstream.url(), payload(operations()), json!({"listen": {"tls": tls}}));
    let site = Site { gate, ca, upstream };
    on_thread(async {
        let stranger = Some((&*certificate, &*key));
        for identity in [None, stranger] {
            for (path, status) in [("/echo", 200), ("/certified", 401)] {
                let stream = site.connect("http/1.1", identity).await.expect("a handshake");
                assert_eq!(site.status(stream, path).await, status, "{path} {}", identity.is_some());
            }
        }
        let refused = site.forge(&certificate, &other_key).await;
        assert!(is_refused(refused).await, "a certificate without its key");
    });
}

/// In TLS 1.3 the client learns that its certificate is refused when it reads.
async fn is_refused(stream: std::io::Result<TlsStream<TcpStream>>) -> bool {
    match stream {
        Err(_) => true,
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n").await;
            stream.read_u8().await.is_err()
        }
    }
}

#[test]
fn a_handshake_that_does_not_come_is_cut() {
    let site = site(json!({"connections": {"handshake_timeout_ms": 300}}));
    on_thread(async {
        let mut silent = TcpStream::connect(site.gate.address).await.expect("a connection");
        assert_eq!(silent.read(&mut [0; 8]).await.expect("an end"), 0);
        // The end may be seen before it is counted.
        let counted = || site.gate.metrics().contains("stockade_tls_handshakes_total{outcome=\"timeout\"} 1");
        for _ in 0..200 {
            if counted() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never counted");
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// GET of `path` as an HPACK block without indexing (RFC 7541 §6.2.2).
fn block(path: &str) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x87];
    for (index, text) in [(1, "api.test"), (4, path)] {
        bytes.extend([index, u8::try_from(text.len()).expect("short")]);
        bytes.extend(text.bytes());
    }
    bytes
}

#[test]
fn floods_are_cut_while_others_are_served() {
    let site = site(json!({"connections": {"header_timeout_ms": 800}}));
    let resets = |n: u32| {
        let stream = 2 * n + 1;
        [frame(1, 5, stream, &block("/slow")), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    type Piece<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let floods: [(&str, Piece<'_>); 7] = [
        ("PING", &|_| frame(6, 0, 0, &[0; 8])),
        ("SETTINGS", &|_| frame(4, 0, 0, &[])),
        ("rapid reset", &resets),
        ("unknown frames", &|_| frame(0x42, 0, 0, &[])),
        ("PRIORITY", &|_| frame(2, 0, 3, &[0, 0, 0, 0, 1])),
        ("CONTINUATION", &|n| if n == 0 { frame(1, 1, 1, &block("/echo")) } else { frame(9, 0, 1, &[]) }),
        ("an open header block", &|n| if n == 0 { frame(1, 1, 1, &block("/echo")) } else { Vec::new() }),
    ];
    on_thread(async {
        let mut honest = site.http2().await;
        for (name, piece) in floods {
            let mut stream = site.connect("h2", None).await.expect("a handshake");
            stream.write_all(PREFACE).await.expect("sent");
            let (mut reader, mut writer) = tokio::io::split(stream);
            let sending = tokio::spawn({
                let bytes: Vec<Vec<u8>> = (0..5_000).map(piece).collect();
                async move {
                    for piece in bytes {
                        if writer.write_all(&piece).await.is_err() {
                            return writer;
                        }
                    }
                    let _ = writer.flush().await;
                    writer
                }
            });
            let answer = honest.send_request(get("/echo")).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{name}");
            let mut sink = tokio::io::sink();
            let ended = tokio::time::timeout(Duration::from_secs(5), tokio::io::copy(&mut reader, &mut sink)).await;
            assert!(ended.is_ok(), "{name}: the connection is cut");
            sending.abort();
        }
        let metrics = site.gate.metrics();
        let cut =
            metrics.lines().find_map(|line| line.strip_prefix("stockade_protocol_errors_total ")).expect("a counter");
        assert!(cut.parse::<u64>().expect("a number") >= 5, "{cut}");
        assert!(!site.gate.events(|event| event["kind"] == "connection").is_empty());
    });
}

#[test]
fn a_stream_whose_client_takes_nothing_is_reset_and_the_connection_lives() {
    let site = site(json!({"connections": {"write_timeout_ms": 700}}));
    on_thread(async {
        let mut sender = site.http2().await;
        let stuck = sender.send_request(get("/download")).await.expect("an answer");
        let mut body = stuck.into_body();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(sender.send_request(get("/echo")).await.expect("an answer").status(), 200);
        }
        let mut read = 0;
        let broken = loop {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(broken && read < 33_554_432, "{read}");
        assert_eq!(sender.send_request(get("/echo")).await.expect("an answer").status(), 200);
    });
}

#[test]
fn a_drain_lets_http2_streams_end() {
    let mut site = site(json!({}));
    on_thread(async {
        let mut sender = site.http2().await;
        let slow = sender.send_request(get("/slow"));
        let signal = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            site.gate.signal("TERM");
        };
        let (answer, ()) = tokio::join!(slow, signal);
        assert_eq!(answer.expect("an answer").status(), 200);
    });
    assert_eq!(site.gate.wait(), 0);
}
