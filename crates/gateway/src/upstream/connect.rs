//! Opening connections: address, TCP, TLS, HTTP. Runs in a task of its own, so that a requester who leaves spoils nothing.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use super::endpoint::{Endpoint, UpstreamShared};
use super::io::{Io, Place, Stream};
use super::pool::{Connection, Link, Streams};
use crate::config::UpstreamProtocol;

/// Largest head of an answer, and largest block of trailers.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Largest read buffer of a connection.
const MAX_BUFFER_BYTES: usize = 128 << 10;
/// Addresses of one name that are tried before giving up.
const MAX_ADDRESSES: usize = 3;
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Opens a connection within `limit`.
pub(super) async fn open(
    shared: &UpstreamShared,
    endpoint: &Endpoint,
    protocol: UpstreamProtocol,
    place: Place,
    limit: Duration,
    max_age: Duration,
) -> Result<Connection, UpstreamError> {
    let opened = tokio::time::timeout(limit, attempt(shared, endpoint, protocol, place, limit)).await;
    let result = match opened {
        Ok(Ok((link, received))) => Ok(Connection { link, received, expires: expiry(max_age) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(UpstreamError::Unreachable("connecting to the upstream took too long".into())),
    };
    match &result {
        Ok(_) => shared.metrics.upstream_connects_ok.inc(),
        Err(_) => {
            endpoint.forget_addresses();
            shared.metrics.upstream_connects_failed.inc();
        }
    }
    result
}

async fn attempt(
    shared: &UpstreamShared,
    endpoint: &Endpoint,
    protocol: UpstreamProtocol,
    place: Place,
    limit: Duration,
) -> Result<(Link, Arc<AtomicU64>), UpstreamError> {
    let stream = connect_tcp(endpoint, limit).await?;
    let stream = match (&endpoint.server_name, shared.client()) {
        (Some(name), Some(client)) => {
            let tls = TlsConnector::from(client).connect(name.clone(), stream).await.map_err(|error| {
                UpstreamError::Unreachable(
                    format!("the TLS handshake with the upstream failed: {}", tls_failure(&error)).into(),
                )
            })?;
            if protocol == UpstreamProtocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(UpstreamError::Protocol("the upstream does not speak HTTP/2".into()));
            }
            Stream::Tls(Box::new(tls))
        }
        (None, _) => Stream::Plain(stream),
        (Some(_), None) => return Err(UpstreamError::Unreachable("TLS to the upstream is not set up".into())),
    };
    let received = Arc::new(AtomicU64::new(0));
    let io = TokioIo::new(Io::new(stream, received.clone(), place));
    let link = match protocol {
        UpstreamProtocol::Http1 => handshake_http1(io).await,
        UpstreamProtocol::Http2 => handshake_http2(io).await,
    };
    let link = link.map_err(|_| UpstreamError::Unreachable("the connection to the upstream broke at once".into()))?;
    Ok((link, received))
}

/// Tries the endpoint's addresses in turn, each with its share of the time.
async fn connect_tcp(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, UpstreamError> {
    let addresses = endpoint
        .addresses()
        .await
        .map_err(|_| UpstreamError::Unreachable("the upstream's name has no address".into()))?;
    let count = addresses.len().clamp(1, MAX_ADDRESSES);
    let share = limit / u32::try_from(count).unwrap_or(1);
    let mut refusal = "connecting to the upstream took too long".into();
    for address in addresses.into_iter().take(count) {
        match tokio::time::timeout(share, dial(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => refusal = format!("cannot connect to the upstream: {}", error.kind()).into(),
            Err(_) => {}
        }
    }
    Err(UpstreamError::Unreachable(refusal))
}

async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // A peer that vanished while an event stream was silent is found out.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn handshake_http1(io: TokioIo<Io>) -> hyper::Result<Link> {
    let (sender, connection) =
        http1::Builder::new().max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_BUFFER_BYTES).handshake(io).await?;
    spawn_local(async move {
        // Whoever uses the connection hears of its end.
        let _ = connection.with_upgrades().await;
    });
    Ok(Link::Http1(sender))
}

async fn handshake_http2(io: TokioIo<Io>) -> hyper::Result<Link> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(io)
        .await?;
    spawn_local(async move {
        let _ = connection.await;
    });
    Ok(Link::Http2(sender, Rc::new(Streams::default())))
}

/// Runs hyper's HTTP/2 tasks on the thread that they were made on.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(async move {
            let _ = future.await;
        });
    }
}

/// Says what failed without the peer's own words.
fn tls_failure(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => "its certificate is not trusted",
        Some(rustls::Error::AlertReceived(_)) => "it refused ours",
        Some(rustls::Error::NoApplicationProtocol) => "it speaks no protocol that we offer",
        Some(_) => "it broke the protocol",
        None => "the connection broke",
    }
}

/// Connections opened together do not end together: each lives nine to ten tenths of its age.
fn expiry(max_age: Duration) -> Instant {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let tenth = max_age / 10;
    let step = u32::try_from(OPENED.fetch_add(37, Relaxed) % 100).unwrap_or(0);
    Instant::now() + max_age.saturating_sub(tenth * step / 100)
}
