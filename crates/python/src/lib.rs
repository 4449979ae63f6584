//! Python face of the engine, and the gateway's entry point. Typed in `src/stockade/_native.pyi`.

use std::net::IpAddr;
use std::path::Path;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use stockade_engine::{
    Answer, Confirmation, Credential, CredentialKind, DecidedRequest, Denial, Identity, Limiter, Plan, Proofs,
    RequestHead, ResponseHead, WholeRequest, WholeResponse,
};

type Fields = Vec<(String, Vec<u8>)>;

fn refused(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A loaded bundle with its own limits.
#[pyclass(frozen)]
struct Engine {
    plan: Plan,
    limiter: Limiter,
    proofs: Proofs,
    serial: Option<u64>,
}

#[pymethods]
impl Engine {
    #[staticmethod]
    fn from_payload(py: Python<'_>, payload: &[u8]) -> PyResult<Engine> {
        py.detach(|| Engine::load(payload, None)).map_err(refused)
    }

    #[staticmethod]
    fn from_bundle(py: Python<'_>, file: &[u8], public_key: [u8; 32]) -> PyResult<Engine> {
        let load = || {
            let envelope = stockade_engine::open_bundle(file, &public_key)?;
            Engine::load(envelope.payload, Some(envelope.serial))
        };
        py.detach(load).map_err(refused)
    }

    #[getter]
    fn serial(&self) -> Option<u64> {
        self.serial
    }

    /// The RFC 9728 document.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.plan.metadata())
    }

    /// The nonce that a proof made at `now` needs; None: none is asked for.
    fn nonce(&self, now: u64) -> Option<String> {
        self.plan.current_nonce(&self.proofs, now)
    }

    #[pyo3(signature = (
        *, method, target, headers, body, address, client_certificate, certificate_thumbprint, identities, available, now
    ))]
    #[allow(clippy::too_many_arguments)]
    fn decide_request<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        target: &str,
        headers: Fields,
        body: &[u8],
        address: &str,
        client_certificate: bool,
        certificate_thumbprint: Option<[u8; 32]>,
        identities: &Bound<'py, PyDict>,
        available: bool,
        now: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let headers = in_lower_case(headers);
        let head = RequestHead {
            client_certificate,
            certificate_thumbprint: certificate_thumbprint.as_ref(),
            ..head(method, target, &headers, address)?
        };
        let request = WholeRequest { head, body };
        let known = read_identities(identities)?;
        let resolve = |credential: &Credential<'_>| match available {
            false => Err(()),
            true => Ok(known
                .iter()
                .find(|(secret, _)| *secret == credential.secret)
                .and_then(|(_, known)| known.as_ref().filter(|identity| identity.kind == credential.kind).cloned())),
        };
        let decide =
            || stockade_engine::decide_request(&self.plan, Some(&self.limiter), &self.proofs, &request, &resolve, now);
        request_dict(py, &decide())
    }

    #[pyo3(signature = (*, method, target, headers, status, response_headers, response_body))]
    #[allow(clippy::too_many_arguments)]
    fn decide_response<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        target: &str,
        headers: Fields,
        status: u16,
        response_headers: Fields,
        response_body: &[u8],
    ) -> PyResult<Bound<'py, PyDict>> {
        let headers = in_lower_case(headers);
        let response_headers = in_lower_case(response_headers);
        let request = WholeRequest { head: head(method, target, &headers, "127.0.0.1")?, body: b"" };
        let response = WholeResponse { head: ResponseHead { status, headers: &response_headers }, body: response_body };
        let decided = stockade_engine::decide_response(&self.plan, &request, &response);
        let dict = PyDict::new(py);
        dict.set_item("outcome", decided.outcome)?;
        dict.set_item("denial", decided.denial.as_ref().map(|denial| denial_dict(py, denial)).transpose()?)?;
        dict.set_item("observed", denial_list(py, &decided.observed)?)?;
        Ok(dict)
    }

    /// Attacks the plan; raises ValueError with the attack that passed.
    fn self_check<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| stockade_engine::self_check(&self.plan)).map_err(refused)?;
        let dict = PyDict::new(py);
        dict.set_item("cases", report.cases)?;
        dict.set_item("operations", report.operations)?;
        dict.set_item("unprotected", report.unprotected)?;
        Ok(dict)
    }
}

impl Engine {
    fn load(payload: &[u8], serial: Option<u64>) -> Result<Engine, stockade_engine::BundleError> {
        let plan = Plan::load(payload)?;
        let limiter = Limiter::new(plan.max_tracked_keys());
        // Nothing but this engine's own callers ever sees its nonces, and the same inputs are to give the same answers.
        let proofs = Proofs::new(&[0; 32], plan.max_tracked_keys());
        Ok(Engine { plan, limiter, proofs, serial })
    }
}

fn in_lower_case(fields: Fields) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

fn head<'a>(method: &'a str, target: &'a str, headers: &'a Fields, address: &str) -> PyResult<RequestHead<'a>> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_slice());
    Ok(RequestHead {
        method,
        path,
        query,
        // What is not text is no host either; the engine refuses the empty one.
        host: host.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default(),
        headers,
        address: address.parse::<IpAddr>().map_err(refused)?,
        client_certificate: false,
        certificate_thumbprint: None,
    })
}

fn read_identities(mapping: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Option<Identity>)>> {
    let mut identities = Vec::with_capacity(mapping.len());
    for (secret, value) in mapping {
        let identity = if value.is_none() { None } else { Some(read_identity(value.cast::<PyDict>()?)?) };
        identities.push((secret.extract()?, identity));
    }
    Ok(identities)
}

fn read_identity(fields: &Bound<'_, PyDict>) -> PyResult<Identity> {
    let field = |name: &str| fields.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("no `{name}`")));
    let kind: String = field("kind")?.extract()?;
    let mut scopes: Vec<String> = field("scopes")?.extract()?;
    scopes.sort_unstable();
    Ok(Identity {
        kind: match kind.as_str() {
            "access_token" => CredentialKind::AccessToken,
            "api_key" => CredentialKind::ApiKey,
            other => return Err(PyValueError::new_err(format!("unknown kind `{other}`"))),
        },
        client_id: field("client_id")?.extract()?,
        subject: field("subject")?.extract()?,
        scopes,
        issuer: field("issuer")?.extract()?,
        audience: field("audience")?.extract()?,
        expires_at: field("expires_at")?.extract()?,
        confirmation: Confirmation { jkt: field("jkt")?.extract()?, certificate: field("certificate")?.extract()? },
        acr: field("acr")?.extract()?,
        auth_time: field("auth_time")?.extract()?,
    })
}

fn request_dict<'py>(py: Python<'py>, decided: &DecidedRequest) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("outcome", decided.outcome)?;
    dict.set_item("denial", decided.denial.as_ref().map(|denial| denial_dict(py, denial)).transpose()?)?;
    dict.set_item("observed", denial_list(py, &decided.observed)?)?;
    dict.set_item("operation", &decided.operation)?;
    dict.set_item("canonical_path", &decided.canonical_path)?;
    dict.set_item("answer", decided.answer.as_ref().map(|answer| answer_dict(py, answer)).transpose()?)?;
    dict.set_item("allow", &decided.allow)?;
    dict.set_item("challenges", &decided.challenges)?;
    dict.set_item("nonce", &decided.nonce)?;
    Ok(dict)
}

fn denial_list<'py>(py: Python<'py>, denials: &[Denial]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    denials.iter().map(|denial| denial_dict(py, denial)).collect()
}

fn denial_dict<'py>(py: Python<'py>, denial: &Denial) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("layer", denial.layer.name())?;
    dict.set_item("reason", denial.reason.name())?;
    dict.set_item("status", denial.status)?;
    dict.set_item("pointer", &denial.pointer)?;
    dict.set_item("evidence", denial.evidence.as_ref())?;
    Ok(dict)
}

fn answer_dict<'py>(py: Python<'py>, answer: &Answer) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("status", answer.status)?;
    dict.set_item("headers", answer.headers.clone())?;
    dict.set_item("body", PyBytes::new(py, &answer.body))?;
    Ok(dict)
}

/// Every key of `schemas` (JSON text of an object) that cannot be built, with the reason.
#[pyfunction]
fn check_schemas(py: Python<'_>, dialect: &str, schemas: &[u8]) -> PyResult<Vec<(String, String)>> {
    let schemas = serde_json::from_slice(schemas).map_err(refused)?;
    let problems = py.detach(|| stockade_engine::check_schemas(dialect, &schemas));
    Ok(problems.into_iter().map(|problem| (problem.schema, problem.message)).collect())
}

/// Checks a bundle file's digest and signature: its serial, its payload's SHA-256 and the payload.
#[pyfunction]
fn open_bundle<'py>(
    py: Python<'py>,
    file: &[u8],
    public_key: [u8; 32],
) -> PyResult<(u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let envelope = py.detach(|| stockade_engine::open_bundle(file, &public_key)).map_err(refused)?;
    Ok((envelope.serial, PyBytes::new(py, &envelope.sha256), PyBytes::new(py, envelope.payload)))
}

/// Runs the gateway until it is told to stop: its exit status.
#[pyfunction]
fn serve(py: Python<'_>, config_path: &str) -> i32 {
    py.detach(|| stockade_gateway::run(Path::new(config_path)))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(check_schemas, module)?)?;
    module.add_function(wrap_pyfunction!(open_bundle, module)?)?;
    module.add_function(wrap_pyfunction!(serve, module)?)
}
