//! The PROXY protocol header, versions 1 and 2, from balancers that the configuration trusts.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;

use crate::accept::Socket;

/// A version 2 header with a few TLVs fits; longer ones have no use here.
const MAX_HEADER_BYTES: usize = 2_048;

const V1_PREFIX: &[u8] = b"PROXY ";
/// With its line end (PROXY protocol §2.1).
const MAX_V1_BYTES: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

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

/// The source and the header's length; `None`: more is needed. However the bytes come in pieces, the answer is the same.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(Option<IpAddr>, usize)>> {
    let found = if agree(bytes, V1_PREFIX) {
        let line = bytes.get(..MAX_V1_BYTES).unwrap_or(bytes);
        match memchr::memmem::find(line, b"\r\n") {
            Some(end) => HeaderResult::parse(line.get(..end + 2).unwrap_or(line)),
            None if bytes.len() < MAX_V1_BYTES => return Ok(None),
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    } else if agree(bytes, V2_SIGNATURE) {
        let result = HeaderResult::parse(bytes);
        if result.is_incomplete() && bytes.len() < MAX_HEADER_BYTES {
            return Ok(None);
        }
        result
    } else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    source(&found).map(Some)
}

/// Whether one begins with the other.
fn agree(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(a, b)| a == b)
}

fn source(result: &HeaderResult<'_>) -> io::Result<(Option<IpAddr>, usize)> {
    match result {
        HeaderResult::V2(Ok(header)) if header.header.len() > MAX_HEADER_BYTES => {
            Err(io::ErrorKind::InvalidData.into())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_in_pieces_is_the_same_header() {
        let binary = [V2_SIGNATURE, &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 1, 187]].concat();
        for header in [&b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\n"[..], &binary] {
            let all = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
            for end in 1..header.len() {
                assert!(matches!(parse(&all[..end]), Ok(None)), "{end} bytes");
            }
            for end in header.len()..all.len() {
                let found = parse(&all[..end]).expect("a header");
                assert_eq!(found, Some((Some(IpAddr::from([192, 0, 2, 1])), header.len())));
            }
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_refused_at_once() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"P P", b"PROXX", b"\r\nX", &[b'P'; 2], b"PROXY TCP4\r\n"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 100]].concat();
        assert!(parse(&endless).is_err());
    }
}
