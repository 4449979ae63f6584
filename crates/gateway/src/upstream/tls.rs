//! TLS towards the upstream and the authorization server.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::UpstreamConfigError;
use crate::config;

/// `ca` absent: the system's roots. Refuses what can trust nobody.
pub(super) fn client_config(
    config: &config::UpstreamTls,
    http2: bool,
    tls13_only: bool,
) -> Result<ClientConfig, UpstreamConfigError> {
    let versions = if tls13_only { &[&rustls::version::TLS13][..] } else { rustls::DEFAULT_VERSIONS };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|error| UpstreamConfigError::Tls(error.to_string()))?
        .with_root_certificates(roots(config.ca.as_deref())?);
    let mut client = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| UpstreamConfigError::Tls(format!("`{}`: {error}", certificate.display())))?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(UpstreamConfigError::Tls("a client certificate needs a key, and a key a certificate".into())),
    };
    client.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(client)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, UpstreamConfigError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| UpstreamConfigError::Read(path.into(), error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match roots.is_empty() {
        true => Err(UpstreamConfigError::Tls("there is no trusted root certificate: name one with `tls.ca`".into())),
        false => Ok(roots),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamConfigError> {
    let read = |error: rustls_pki_types::pem::Error| UpstreamConfigError::Read(path.into(), error.to_string());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(read)?.collect();
    let found = found.map_err(read)?;
    match found.is_empty() {
        true => Err(UpstreamConfigError::Read(path.into(), "no certificate in it".into())),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, UpstreamConfigError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| UpstreamConfigError::Read(path.into(), error.to_string()))
}
