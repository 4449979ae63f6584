//! A bundle on its way into force: read, verified, built, attacked. Nothing here touches what serves.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use stockade_engine::{Plan, open_bundle, self_check};

use crate::config::Config;
use crate::metrics::{Metrics, Operations};

/// The largest bundle file that is read (`docs/contracts.md` §1).
const MAX_BUNDLE_BYTES: u64 = (128 << 20) + 4_096;

/// A bundle that may serve, with what status and events say about it.
pub struct Force {
    pub plan: Plan,
    pub operations: Operations,
    /// By `Route::operation_index`, for events.
    pub names: Vec<Name>,
    pub serial: u64,
    /// Lower-case hex of the payload's digest.
    pub sha256: String,
    /// Where clients find out how to get a token (RFC 9728 §3.1).
    pub resource_metadata: String,
    pub self_check_cases: usize,
    pub self_check_milliseconds: u64,
}

/// One thread's hold on the bundle in force: cloned for each request without touching the counter that threads share.
#[derive(Clone)]
pub struct Held(Rc<Inner>);

struct Inner(Arc<Force>);

impl Held {
    pub fn new(force: Arc<Force>) -> Held {
        Held(Rc::new(Inner(force)))
    }

    pub fn is(&self, force: &Arc<Force>) -> bool {
        Arc::ptr_eq(&self.0.0, force)
    }
}

impl std::ops::Deref for Held {
    type Target = Force;

    fn deref(&self) -> &Force {
        &self.0.0
    }
}

/// Why a bundle does not come into force. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("cannot read the bundle: {0}")]
    Read(std::io::Error),
    #[error("the bundle is larger than 128 MiB")]
    TooLarge,
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    SelfCheck(String),
}

/// Reads and checks the bundle at `path`. Blocks, for as long as building takes.
pub fn read(path: &Path, config: &Config, metrics: &Metrics) -> Result<Force, LoadError> {
    let file = std::fs::File::open(path).map_err(LoadError::Read)?;
    if file.metadata().map_err(LoadError::Read)?.len() > MAX_BUNDLE_BYTES {
        return Err(LoadError::TooLarge);
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BUNDLE_BYTES), &mut bytes)
        .map_err(LoadError::Read)?;
    // A panic in the engine is a refused bundle.
    std::panic::catch_unwind(|| build(&bytes, config, metrics))
        .unwrap_or_else(|_| Err(LoadError::Refused("the engine failed on this bundle".to_owned())))
}

fn build(bytes: &[u8], config: &Config, metrics: &Metrics) -> Result<Force, LoadError> {
    let refuse = |error: &dyn std::fmt::Display| LoadError::Refused(error.to_string());
    let key = config.public_key().ok_or_else(|| refuse(&"no public key is configured"))?;
    let envelope = open_bundle(bytes, &key).map_err(|error| refuse(&error))?;
    let plan = Plan::load(envelope.payload).map_err(|error| refuse(&error))?;
    let started = Instant::now();
    let report = self_check(&plan).map_err(|failure| LoadError::SelfCheck(failure.to_string()))?;
    let self_check_milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let names: Names = serde_json::from_slice(envelope.payload).map_err(|error| refuse(&error))?;
    Ok(Force {
        operations: metrics.operations(names.operations.iter().map(|operation| operation.id.as_str())),
        resource_metadata: metadata_url(plan.audience()),
        names: names.operations,
        plan,
        serial: envelope.serial,
        sha256: envelope.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        self_check_cases: report.cases,
        self_check_milliseconds,
    })
}

/// The operations' names; all else is the engine's to read.
#[derive(Deserialize)]
struct Names {
    operations: Vec<Name>,
}

/// What events and metrics call an operation.
#[derive(Deserialize)]
pub struct Name {
    pub id: String,
    paths: Vec<String>,
}

impl Name {
    /// The operation's first path template.
    pub fn path_template(&self) -> &str {
        self.paths.first().map_or("", String::as_str)
    }
}

/// The well-known path goes between host and path of the resource (RFC 9728 §3.1).
fn metadata_url(resource: &str) -> String {
    let (scheme, rest) = resource.split_once("://").unwrap_or(("https", resource));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let slash = if path.is_empty() { "" } else { "/" };
    format!("{scheme}://{host}/.well-known/oauth-protected-resource{slash}{path}")
}

#[cfg(test)]
mod tests {
    use super::metadata_url;

    #[test]
    fn metadata_stands_between_host_and_path() {
        let well_known = "https://a.example/.well-known/oauth-protected-resource";
        assert_eq!(metadata_url("https://a.example"), well_known);
        assert_eq!(metadata_url("https://a.example/"), well_known);
        assert_eq!(metadata_url("https://a.example/v1/x"), format!("{well_known}/v1/x"));
    }
}
