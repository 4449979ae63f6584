//! What the self-check needs to know of each operation, told by the bundle and not by what was compiled from it:
//! a mistake in the compiled security must not hide itself.

use super::{Operation, Plan};
use crate::bundle::{KeyPlace, PayloadRequirement};
use crate::decision::Mode;
use crate::dpop::Proofs;
use crate::plan::Lookup;
use crate::request::RequestHead;

/// Values tried for the variables of a sample path, until it leads to its operation.
const SAMPLES: &[&str] = &["0", "x", "q7", "00000000-0000-4000-8000-000000000000"];

/// One operation from outside.
pub(crate) struct Shape<'p> {
    pub id: &'p str,
    pub method: &'p str,
    /// A sample path for each of its templates.
    pub paths: Vec<String>,
    /// Whether the description admits anonymous callers.
    pub public: bool,
    /// Whether every call is refused, because the operation uses something unsupported.
    pub denied: bool,
    pub authenticate: Mode,
    pub authorize: Mode,
    pub takes_tokens: bool,
    /// Header names in lower case.
    pub keys: Vec<(KeyPlace, String)>,
    pub scopes: Vec<&'p str>,
    /// `acr` values of which one, or a stronger one, must be shown.
    pub acr: &'p [String],
    pub max_age_seconds: Option<u64>,
    /// Whether no alternative can be had without a scope (or a client certificate).
    pub every_alternative_has_scopes: bool,
}

impl Plan {
    pub(crate) fn shapes(&self) -> impl Iterator<Item = Shape<'_>> {
        self.operations.iter().map(|operation| self.shape(operation))
    }

    /// Whether the policy lets anyone call an operation.
    pub(crate) fn is_unprotected(&self, index: usize) -> bool {
        self.operations
            .get(index)
            .is_some_and(|operation| is_public(operation) || operation.modes.authenticate != Mode::Enforce)
    }

    /// What proofs must name, and the nonce that they must have; `None`: no proof is taken.
    pub(crate) fn proof_terms(&self, proofs: &Proofs, now: u64) -> Option<(&str, Option<String>)> {
        let rules = self.dpop.as_ref()?;
        Some((rules.sample_origin()?, rules.nonce(proofs, now)))
    }

    pub(crate) fn sample_host(&self) -> &str {
        &self.framing.sample_host
    }

    fn shape<'p>(&'p self, operation: &'p Operation) -> Shape<'p> {
        let requirements = || operation.declared_security.iter().flatten();
        let mut keys: Vec<(KeyPlace, String)> = Vec::new();
        for requirement in requirements() {
            if let PayloadRequirement::ApiKey { place, name, .. } = requirement {
                let name = if *place == KeyPlace::Header { name.to_ascii_lowercase() } else { name.clone() };
                if !keys.contains(&(*place, name.clone())) {
                    keys.push((*place, name));
                }
            }
        }
        Shape {
            id: &operation.id,
            method: &operation.method,
            paths: self.sample_paths(operation),
            public: is_public(operation),
            denied: operation.deny.is_some(),
            authenticate: operation.modes.authenticate,
            authorize: operation.modes.authorize,
            takes_tokens: requirements().any(|requirement| matches!(requirement, PayloadRequirement::Token { .. })),
            keys,
            acr: &operation.declared_acr,
            max_age_seconds: operation.declared_max_age,
            scopes: requirements().flat_map(scopes).map(String::as_str).collect(),
            every_alternative_has_scopes: operation.declared_security.iter().all(|alternative| {
                let certificate = |requirement| matches!(requirement, &PayloadRequirement::MutualTls { .. });
                alternative.iter().any(|requirement| certificate(requirement) || !scopes(requirement).is_empty())
            }),
        }
    }

    fn sample_paths(&self, operation: &Operation) -> Vec<String> {
        operation
            .templates
            .iter()
            .map(|template| {
                let with = |sample: &str| {
                    let mut marks = template.matrix.iter();
                    template.fill(|name| match marks.next() {
                        Some(true) => format!(";{name}={sample}"),
                        _ => sample.to_owned(),
                    })
                };
                let leads_home = |path: &String| self.leads_to(operation, path);
                SAMPLES.iter().map(|sample| with(sample)).find(leads_home).unwrap_or_else(|| with("0"))
            })
            .collect()
    }

    fn leads_to(&self, operation: &Operation, path: &str) -> bool {
        let headers: Vec<(String, Vec<u8>)> = Vec::new();
        let head = RequestHead {
            method: &operation.method,
            path,
            query: None,
            host: self.sample_host(),
            headers: &headers,
            address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            client_certificate: false,
            certificate_thumbprint: None,
        };
        matches!(self.look_up(&head), Lookup::Route(route) if std::ptr::eq(route.operation, operation))
    }
}

fn is_public(operation: &Operation) -> bool {
    operation.declared_security.is_empty() || operation.declared_security.iter().any(Vec::is_empty)
}

fn scopes(requirement: &PayloadRequirement) -> &[String] {
    match requirement {
        PayloadRequirement::Token { scopes, .. } | PayloadRequirement::ApiKey { scopes, .. } => scopes,
        PayloadRequirement::MutualTls { .. } => &[],
    }
}
