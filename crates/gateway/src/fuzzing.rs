//! What the fuzz targets reach inside for (`fuzz/`). Not part of the public interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, response};
use stockade_engine::{CredentialKind, Identity};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::accept::Places;
use crate::config::Connections;
use crate::connection::Peer;
use crate::deadlines::{Pace, Upgrade};
use crate::guard::Guard;
use crate::head;
use crate::identity::answer::{Expected, Introspected, Page, Revoked, read};
use crate::upstream::Asked;
use crate::wire::Wire;

pub use crate::frames::FrameCounter;
pub use crate::head::{
    Fields, asks_upgrade, client_address, host, join_cookies, strip_cookies, to_client, upstream_target,
};
pub use crate::trace::ensure as ensure_trace;

/// The PROXY protocol header at the beginning of `bytes`; `Ok(None)`: more is needed, `Err`: none.
pub fn proxy_header(bytes: &[u8]) -> std::io::Result<Option<(Option<IpAddr>, usize)>> {
    crate::proxy::parse(bytes)
}

/// An active introspection answer, the `Authorization` for the upstream, and for how long it is remembered.
pub fn introspection(
    json: &[u8],
    asked: CredentialKind,
    cache_for: Duration,
    unix_now: u64,
) -> Result<Option<(Identity, HeaderValue, Duration)>, &'static str> {
    let now = Instant::now();
    let expected = Expected { kind: asked, digest: [0; 32], for_operation: false };
    Ok(match read(json, &expected, cache_for, now, unix_now)? {
        Introspected::Invalid => None,
        Introspected::Valid(verified) => {
            let usable = verified.usable_for(now);
            Some((verified.identity, verified.internal_token, usable))
        }
    })
}

/// Makes a client's fields, from a peer with TLS, fit for the upstream.
pub fn to_upstream(
    headers: &mut HeaderMap,
    address: IpAddr,
    trusted: bool,
    host: &HeaderValue,
    credentials: &[&str],
) -> Option<()> {
    let peer = Peer { tls: true, ..Peer::new(address, trusted) };
    head::to_upstream(headers, &head::Forwarding { peer: &peer, host }, credentials);
    Some(())
}

/// What a page of the revocation feed makes the gateway forget.
#[derive(Debug, PartialEq, Eq)]
pub enum Forgotten {
    Token([u8; 32]),
    Client(String),
    User(String),
    Session(String),
    Grant(String),
    /// Not understood: everything is forgotten.
    Everything,
}

/// Epoch, sequence and revocations of a page; `None`: no page.
pub fn revocations(json: &[u8]) -> Option<(String, u64, Vec<Forgotten>)> {
    let page: Page = serde_json::from_slice(json).ok()?;
    let mut forgotten: Vec<Forgotten> = page
        .revocations
        .into_iter()
        .map(|revocation| match revocation.what {
            Revoked::Token { digest } => Revoked::parse_digest(&digest).map_or(Forgotten::Everything, Forgotten::Token),
            Revoked::Client { client_id } => Forgotten::Client(client_id),
            Revoked::User { sub } => Forgotten::User(sub),
            Revoked::Session { sid } => Forgotten::Session(sid),
            Revoked::Grant { grant_id } => Forgotten::Grant(grant_id),
            Revoked::Unknown => Forgotten::Everything,
        })
        .collect();
    if page.reset {
        forgotten.push(Forgotten::Everything);
    }
    Some((page.epoch, page.sequence, forgotten))
}

/// The length that the body of an upstream's answer must have; `Err`: the answer is refused.
pub fn upstream_head(
    head: &mut response::Parts,
    to_head: bool,
    upgrade: Option<HeaderValue>,
) -> Result<Option<u64>, &'static str> {
    crate::upstream::response::inspect(head, &Asked { head: to_head, upgrade })
}

/// `inner` behind the guard, as hyper gets it. Upgrades are declined by calling the second value.
pub fn wire_http1<S: AsyncRead + AsyncWrite + Unpin>(
    inner: S,
    max_head_bytes: usize,
    max_headers: usize,
) -> Option<(impl AsyncRead + AsyncWrite + Unpin, impl Fn())> {
    let slot = Places::new(&Connections::default()).take()?;
    let pace = Pace::new(false);
    let wire = Wire::http1(inner, Arc::clone(&pace), Guard::new(max_head_bytes, max_headers), slot);
    Some((wire, move || pace.answer_upgrade(Upgrade::Refused)))
}
