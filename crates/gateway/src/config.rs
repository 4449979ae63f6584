//! The configuration file that the supervisor writes (`docs/contracts.md` §4).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// Why a configuration is refused (exit status 2). The message never repeats the file's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read `{0}`: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("`{0}`: {1}")]
    Parse(PathBuf, serde_json::Error),
    #[error("{0}")]
    Value(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "two")]
    pub threads: usize,
    pub listen: Listen,
    pub bundle: BundleFile,
    pub upstream: Upstream,
    /// `null` or absent: no operation can be reached that needs a credential.
    #[serde(default)]
    pub authorization_server: Option<AuthorizationServer>,
    #[serde(default)]
    pub connections: Connections,
    #[serde(default)]
    pub events: Events,
    #[serde(default)]
    pub admin: Option<Admin>,
    #[serde(default = "drain_default")]
    pub drain_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Inherited listening sockets; see `listen.rs` for what the supervisor sets.
    #[serde(default)]
    pub fds: Vec<i32>,
    #[serde(default)]
    pub address: Option<SocketAddr>,
    #[serde(default)]
    pub tls: Option<Tls>,
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Addresses whose forwarding headers and PROXY header are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    #[serde(default)]
    pub client_certificate: ClientCertificate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    #[default]
    None,
    Optional,
    Required,
    /// Taken from anyone, to bind tokens to (RFC 8705 §3); none of them proves who its owner is.
    Any,
}

impl ClientCertificate {
    /// Whether a certificate must lead to the configured CA.
    pub fn is_verified(self) -> bool {
        matches!(self, ClientCertificate::Optional | ClientCertificate::Required)
    }
}

impl Listen {
    /// Whether a client's certificate proves who its owner is.
    pub fn verifies_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_verified())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    pub path: PathBuf,
    /// The Ed25519 public key that must have signed it, 64 hex digits.
    pub public_key: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port[/prefix]` or `https://…`, at least one.
    pub endpoints: Vec<String>,
    #[serde(default)]
    pub tls: UpstreamTls,
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    #[serde(default)]
    pub preserve_host: bool,
    #[serde(default = "millis::<2_000>")]
    pub connect_timeout_ms: u64,
    #[serde(default = "millis::<30_000>")]
    pub response_timeout_ms: u64,
    #[serde(default = "millis::<15_000>")]
    pub idle_timeout_ms: u64,
    #[serde(default = "millis::<600>")]
    pub max_age_seconds: u64,
    #[serde(default = "count::<256>")]
    pub max_connections: usize,
    #[serde(default = "count::<1024>")]
    pub max_waiting: usize,
    #[serde(default = "millis::<1_000>")]
    pub wait_timeout_ms: u64,
    #[serde(default = "five")]
    pub eject_after_failures: u32,
    #[serde(default = "millis::<10>")]
    pub eject_seconds: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM file of trusted roots; `null`: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    #[serde(default)]
    pub key: Option<PathBuf>,
    #[serde(default)]
    pub server_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    Http2,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationServer {
    pub url: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    #[serde(default = "millis::<60>")]
    pub cache_seconds: u64,
    /// How often a canary measures the way of a revocation; 0: never.
    #[serde(default = "millis::<60>")]
    pub canary_seconds: u64,
    #[serde(default = "millis::<10>")]
    pub stale_seconds: u64,
    #[serde(default = "count::<100_000>")]
    pub max_cached: usize,
    #[serde(default = "millis::<2_000>")]
    pub timeout_ms: u64,
}

/// Limits and deadlines of client connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    pub max: usize,
    pub max_per_address: usize,
    pub handshake_timeout_ms: u64,
    pub header_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub max_age_seconds: u64,
    pub body_min_bytes_per_second: u64,
    pub body_grace_seconds: u64,
    pub write_timeout_ms: u64,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    pub max_streams: u32,
    pub max_in_flight: usize,
    pub max_buffered_bytes: usize,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            max: 10_000,
            max_per_address: 1_000,
            handshake_timeout_ms: 5_000,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            max_age_seconds: 3_600,
            body_min_bytes_per_second: 512,
            body_grace_seconds: 5,
            write_timeout_ms: 20_000,
            max_header_bytes: 32_768,
            max_headers: 100,
            max_streams: 100,
            max_in_flight: 4_096,
            max_buffered_bytes: 256 << 20,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// `null`: events are counted and dropped.
    pub path: Option<PathBuf>,
    pub max_bytes: u64,
    pub files: usize,
    pub queue: usize,
    /// Whether permitted requests are written too.
    pub allowed: bool,
}

impl Default for Events {
    fn default() -> Events {
        Events { path: None, max_bytes: 64 << 20, files: 5, queue: 8_192, allowed: false }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub socket: PathBuf,
}

impl Config {
    /// Reads and checks the file; relative paths become relative to its folder.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read(path).map_err(|e| ConfigError::Read(path.into(), e))?;
        let mut config: Config = serde_json::from_slice(&text).map_err(|e| ConfigError::Parse(path.into(), e))?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let at = |path: &mut PathBuf| *path = folder.join(&*path);
        let maybe = |path: &mut Option<PathBuf>| path.iter_mut().for_each(at);
        at(&mut self.bundle.path);
        if let Some(tls) = &mut self.listen.tls {
            at(&mut tls.certificate);
            at(&mut tls.key);
            maybe(&mut tls.client_ca);
        }
        maybe(&mut self.upstream.tls.ca);
        maybe(&mut self.upstream.tls.certificate);
        maybe(&mut self.upstream.tls.key);
        if let Some(server) = &mut self.authorization_server {
            at(&mut server.ca);
            at(&mut server.certificate);
            at(&mut server.key);
        }
        maybe(&mut self.events.path);
        if let Some(admin) = &mut self.admin {
            at(&mut admin.socket);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |what: &str| Err(ConfigError::Value(what.to_owned()));
        let c = &self.connections;
        if self.threads == 0 || self.threads > 256 {
            return refuse("`threads` must be between 1 and 256");
        }
        if self.listen.fds.is_empty() == self.listen.address.is_none() {
            return refuse("`listen` needs either `fds` or `address`");
        }
        if self.listen.fds.len() > self.threads || self.listen.fds.iter().any(|fd| *fd < 3) {
            return refuse("`listen.fds` must be numbers from 3 on, no more than `threads`");
        }
        if let Some(tls) = &self.listen.tls
            && tls.client_certificate.is_verified() != tls.client_ca.is_some()
        {
            return refuse("`listen.tls.client_ca` goes with `client_certificate` optional or required");
        }
        if self.upstream.endpoints.is_empty() {
            return refuse("`upstream.endpoints` is empty");
        }
        if self.public_key().is_none() {
            return refuse("`bundle.public_key` must be 64 hex digits");
        }
        if c.max == 0 || c.max_per_address == 0 || c.max_in_flight == 0 || c.max_streams == 0 {
            return refuse("`connections` limits must not be 0");
        }
        if !(1_024..=1 << 20).contains(&c.max_header_bytes) || !(8..=1_000).contains(&c.max_headers) {
            return refuse("`max_header_bytes` must be 1024 to 1048576 and `max_headers` 8 to 1000");
        }
        Ok(())
    }

    /// The bundle's public key as bytes.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        let hex = self.bundle.public_key.as_bytes();
        let mut key = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(key)
    }
}

fn two() -> usize {
    2
}

fn five() -> u32 {
    5
}

fn drain_default() -> u64 {
    20
}

fn millis<const N: u64>() -> u64 {
    N
}

fn count<const N: usize>() -> usize {
    N
}
