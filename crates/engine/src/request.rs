//! What a mount hands in: heads as borrowed views, so that no HTTP library's types enter the engine.

use std::net::IpAddr;

/// The header block of a message, in order. Names are matched without case; implementations may store them in lower case.
pub trait Headers {
    /// The first value of `name` (lower case), or `None`.
    fn first(&self, name: &str) -> Option<&[u8]>;
    /// How many fields are called `name` (lower case).
    fn count(&self, name: &str) -> usize;
    /// Calls `visit(name in lower case, value)` for each field, in order, until it returns false.
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8]) -> bool);
}

/// A plain list of fields, for the mounts that have no HTTP library (names must be lower case).
impl Headers for Vec<(String, Vec<u8>)> {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
    fn count(&self, name: &str) -> usize {
        self.iter().filter(|(n, _)| n == name).count()
    }
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8]) -> bool) {
        for (name, value) in self {
            if !visit(name, value) {
                return;
            }
        }
    }
}

/// A request before its body. `path` and `query` are the raw bytes of the target as text (no fragment, still percent-encoded).
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// Upper-case token, as on the wire (methods are case-sensitive, RFC 9110 §9.1).
    pub method: &'a str,
    /// Raw path; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// Raw query without the `?`.
    pub query: Option<&'a str>,
    /// `Host` or `:authority` as received; the mount has already refused two differing ones.
    pub host: &'a str,
    pub headers: &'a dyn Headers,
    /// The client's address, after trusted proxies.
    pub address: IpAddr,
    /// Whether the TLS peer showed a certificate that the configured CA signed.
    pub client_certificate: bool,
    /// SHA-256 of the certificate that the TLS peer showed and has the key of, whoever signed it (RFC 8705 §3).
    pub certificate_thumbprint: Option<&'a [u8; 32]>,
}

/// A response before its body.
#[derive(Clone, Copy)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub headers: &'a dyn Headers,
}
