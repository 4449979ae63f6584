//! The PROXY protocol header, versions 1 and 2, from balancers that the configuration trusts.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;

use crate::accept::Socket;

/// A version 2 header with a few TLVs fits; longer ones have no use here.
const MAX_HEADER_BYTES: usize = 2_048;

/// Reads the header; what was read beyond it stays with the socket. `None`: the balancer speaks for itself (health checks).
pub async fn read(socket: &mut Socket) -> io::Result<Option<IpAddr>> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        if socket.stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((source, length)) = parse(&bytes)? else { continue };
        socket.early = bytes.split_off(length.min(bytes.len()));
        return Ok(source);
    }
}

/// The source and the header's length; `None`: more is needed.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(Option<IpAddr>, usize)>> {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() && bytes.len() < MAX_HEADER_BYTES {
        return Ok(None);
    }
    source(&result).map(Some)
}

fn source(result: &HeaderResult<'_>) -> io::Result<(Option<IpAddr>, usize)> {
    match result {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(ip) => Some(ip.source_address.into()),
                v1::Addresses::Tcp6(ip) => Some(ip.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            Ok((source, header.header.len()))
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some(ip.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some(ip.source_address.into()),
                _ => None,
            };
            Ok((source, header.header.len()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
