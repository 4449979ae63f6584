//! The admin interface: HTTP/1.1 on a Unix socket of mode 0600 (`docs/contracts.md` §5).
//!
//! What it asks of the process is behind [`Control`]; requests come from the supervisor only, so they are few and may be slow.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::metrics;

const MAX_CONNECTIONS: usize = 16;
const MAX_BODY_BYTES: usize = 64 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /status`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub ready: bool,
    pub bundle: Bundle,
    pub connections: usize,
    pub in_flight: usize,
    pub pid: u32,
    pub version: &'static str,
    pub self_check: SelfCheck,
}

/// The bundle in force; `sha256` is lower-case hex of the payload's digest.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    pub serial: u64,
    pub sha256: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct SelfCheck {
    pub cases: usize,
    pub milliseconds: u64,
}

/// `POST /bundle`, taken.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    pub serial: u64,
    pub sha256: String,
    pub milliseconds: u64,
}

/// What the admin interface asks of the process.
pub trait Control: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// OpenMetrics text.
    fn metrics(&self) -> String;
    /// Verifies, builds, self-checks and swaps. Blocks; it is called off the runtime. `Err` is one line for the operator.
    fn load_bundle(&self, path: &Path) -> Result<Loaded, String>;
    /// Reads certificates and keys again. Blocks; it is called off the runtime.
    fn reload_certificates(&self) -> Result<(), String>;
    /// Starts the drain.
    fn drain(&self);
}

/// The bound socket. Its file goes when this is dropped, unless a newer process has taken the name over.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    owner: u32,
}

impl AdminSocket {
    /// Binds `path` with mode 0600, replacing what an older process left or still holds there. Needs a runtime.
    pub fn bind(path: &Path) -> io::Result<AdminSocket> {
        let mut name = OsString::from(".");
        name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        let found = fs::metadata(&temporary)?;
        // The name changes hands at once: there is no moment without a socket.
        fs::rename(&temporary, path)?;
        Ok(AdminSocket { listener, path: path.to_owned(), inode: found.ino(), owner: found.uid() })
    }

    /// Serves for ever.
    pub async fn serve(&self, control: Arc<dyn Control>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) if self.may(&stream) => {
                    let control = control.clone();
                    tokio::spawn(async move {
                        serve_connection(stream, control).await;
                        drop(place);
                    });
                }
                Ok(_) => {}
                // Descriptors are exhausted, most likely: others must give some back first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The file's mode already keeps others out; this holds where a file system ignores it.
    fn may(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn serve_connection(stream: UnixStream, control: Arc<dyn Control>) {
    let service = hyper::service::service_fn(move |request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(answer(request, control).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, control: Arc<dyn Control>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => json(StatusCode::OK, &control.status()),
        (&Method::GET, "/metrics") => text(metrics::CONTENT_TYPE, control.metrics()),
        (&Method::POST, "/bundle") => match bundle_path(request).await {
            Ok(path) => finish(off_runtime(move || control.load_bundle(&path)).await),
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
        },
        (&Method::POST, "/certificates") => {
            finish(off_runtime(move || control.reload_certificates().map(|()| Empty {})).await)
        }
        (&Method::POST, "/drain") => {
            control.drain();
            json(StatusCode::ACCEPTED, &Empty {})
        }
        (_, "/status" | "/metrics" | "/bundle" | "/certificates" | "/drain") => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
        _ => refuse(StatusCode::NOT_FOUND, "not found"),
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleRequest {
    path: PathBuf,
}

async fn bundle_path(request: Request<Incoming>) -> Result<PathBuf, String> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| "the body took too long".to_owned())?;
    let bytes = body.map_err(|_| "the body cannot be read".to_owned())?.to_bytes();
    serde_json::from_slice::<BundleRequest>(&bytes)
        .map(|request| request.path)
        .map_err(|error| format!("the body must be {{\"path\": \"…\"}}: {error}"))
}

/// Runs what blocks on a thread of its own; a panic in it is an error, and the process lives.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("a panic; nothing was changed".to_owned()))
}

fn finish<T: Serialize>(result: Result<T, String>) -> Response<Full<Bytes>> {
    match result {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &error),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "error": error }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // Plain structs of strings and numbers: writing them to memory does not fail.
    let mut response = text("application/json", serde_json::to_string(value).unwrap_or_default());
    *response.status_mut() = status;
    response
}

fn text(media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}
