//! The signed file that the compiler writes (`docs/contracts.md` §1): opened, checked, and read into plain data.

/// An opened bundle: digest and signature hold.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub serial: u64,
    pub sha256: [u8; 32],
    pub payload: &'a [u8],
}

/// Why a bundle is refused. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("the bundle is not a Stockade bundle: {0}")]
    Envelope(&'static str),
}

/// Opens a bundle file: parses the four lines, then checks the payload's SHA-256 and the Ed25519 signature.
pub fn open_bundle<'a>(_file: &'a [u8], _public_key: &[u8; 32]) -> Result<Envelope<'a>, BundleError> {
    todo!()
}
