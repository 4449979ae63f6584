//! From a payload to a plan. Whatever is wrong with a bundle shows here, and never at a request.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::cors::CorsPlan;
use super::framing::Framing;
use super::requests::Body;
use super::responses::{Response, Responses};
use super::routing::{Router, Template};
use super::security::{Security, Traits};
use super::{METADATA_PATH, Names, Operation, Plan};
use crate::bundle::{
    Authentication, BundleError, InternalToken, KeyPlace, Payload, PayloadBody, PayloadHeader, PayloadOperation,
    PayloadResponse, PayloadSizes, UnknownQuery,
};
use crate::dpop::{ALGORITHMS, ProofRules};
use crate::limits::Quota;
use crate::validate::{Content, ContentSpec, Parameter, ParameterSpec, Schemas, Sizes};

impl Plan {
    /// Reads a payload and builds every router, validator and answer; nothing is left for later.
    pub fn load(payload: &[u8]) -> Result<Plan, BundleError> {
        let mut payload = Payload::read(payload)?;
        check_quota("limits.per_address", payload.limits.per_address.as_ref())?;
        check_quota("limits.per_client", payload.limits.per_client.as_ref())?;
        let schemas = build_schemas(&mut payload)?;
        let keys = KeyNames::of(&payload.operations);
        let dpop = payload.authentication.dpop.as_ref().map(ProofRules::new).transpose()?;
        let operations = payload
            .operations
            .into_iter()
            .map(|operation| Builder { schemas: &schemas, keys: &keys, dpop: dpop.is_some() }.operation(operation))
            .collect::<Result<Vec<_>, _>>()?;
        let router = build_router(&operations)?;
        let sizes = payload.sizes;
        Ok(Plan {
            framing: Framing::new(&payload.hosts, keys.headers.iter().cloned(), sizes.max_target_bytes),
            router,
            operations,
            cors: payload.cors.map(CorsPlan::new).transpose()?,
            schemas,
            schema_pointers: payload.schema_pointers.into_iter().collect(),
            json_sizes: json_sizes(&sizes),
            max_body_bytes: sizes.max_body_bytes,
            max_response_bytes: sizes.max_response_bytes,
            max_tracked_keys: payload.limits.max_tracked_keys,
            per_address: payload.limits.per_address,
            per_client: payload.limits.per_client,
            metadata: metadata(&payload.authentication),
            metadata_paths: metadata_paths(&payload.authentication.audience),
            issuer: payload.authentication.issuer,
            audience: payload.authentication.audience,
            scopes_supported: payload.authentication.scopes_supported,
            dpop,
            acr_order: payload.authentication.acr_order,
            problem_base: payload.problem_base,
        })
    }
}

fn check_quota(place: &str, quota: Option<&Quota>) -> Result<(), BundleError> {
    match quota {
        Some(quota) if quota.requests == 0 || quota.period_seconds == 0 || quota.burst == 0 => {
            Err(BundleError::plan(place, "a limit of zero"))
        }
        _ => Ok(()),
    }
}

fn json_sizes(sizes: &PayloadSizes) -> Sizes {
    Sizes {
        max_json_depth: sizes.max_json_depth,
        max_json_nodes: sizes.max_json_nodes,
        max_json_string_bytes: sizes.max_json_string_bytes,
        max_number_chars: sizes.max_number_chars,
        max_parameters: sizes.max_parameters,
        max_multipart_parts: sizes.max_multipart_parts,
    }
}

fn build_schemas(payload: &mut Payload) -> Result<Schemas, BundleError> {
    let schemas = std::mem::take(&mut payload.schemas);
    let mut wanted: Vec<&str> = payload.operations.iter().flat_map(schema_keys).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if let Some(missing) = wanted.iter().find(|key| !schemas.contains_key(**key)) {
        return Err(BundleError::Schema {
            schema: (*missing).to_owned(),
            message: "it is used but not there".to_owned(),
        });
    }
    Schemas::build(&payload.dialect, schemas, &wanted)
        .map_err(|problem| BundleError::Schema { schema: problem.schema, message: problem.message })
}

/// Every schema that an operation names.
fn schema_keys(operation: &PayloadOperation) -> impl Iterator<Item = &str> {
    let parameters = operation.parameters.iter().filter_map(|parameter| parameter.schema.as_deref());
    let body = operation.body.iter().flat_map(|body| &body.content);
    let responses = operation.responses.iter().flat_map(|response| &response.content);
    let contents = body.chain(responses).filter_map(|content| content.schema.as_deref());
    let headers = operation.responses.iter().flat_map(|response| &response.headers);
    parameters.chain(contents).chain(headers.filter_map(|header| header.schema.as_deref()))
}

fn build_router(operations: &[Operation]) -> Result<Router, BundleError> {
    let mut router = Router::new();
    let mut ids = HashSet::new();
    for (index, operation) in operations.iter().enumerate() {
        let place = format!("operation `{}`", operation.id);
        if !ids.insert(operation.id.as_str()) {
            return Err(BundleError::plan(place, "the id stands twice"));
        }
        for (which, template) in operation.templates.iter().enumerate() {
            router.add(template, &operation.method, index, which).map_err(|other| {
                let other = operations.get(other).map(|other| other.id.as_str()).unwrap_or_default();
                BundleError::plan(&place, format!("`{}` {} is also `{other}`", template.text, operation.method))
            })?;
        }
    }
    Ok(router)
}

/// RFC 9728 §2. Tokens are taken from the header only, so that is all `bearer_methods_supported` names.
fn metadata(authentication: &Authentication) -> Vec<u8> {
    let mut document = json!({
        "resource": authentication.audience,
        "authorization_servers": [authentication.issuer],
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": true,
    });
    if let (Some(_), Some(fields)) = (&authentication.dpop, document.as_object_mut()) {
        fields.insert("dpop_signing_alg_values_supported".to_owned(), ALGORITHMS.into());
    }
    if let (false, Some(fields)) = (authentication.scopes_supported.is_empty(), document.as_object_mut()) {
        fields.insert("scopes_supported".to_owned(), Value::from(authentication.scopes_supported.clone()));
    }
    document.to_string().into_bytes()
}

fn metadata_paths(audience: &str) -> Vec<String> {
    let after_scheme = audience.split_once("://").map_or("", |(_, rest)| rest);
    let path = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let mut paths = vec![METADATA_PATH.to_owned()];
    if !path.is_empty() {
        paths.push(format!("{METADATA_PATH}{path}"));
    }
    paths
}

/// The names of all API keys of a plan. Header names in lower case.
#[derive(Default)]
struct KeyNames {
    headers: Vec<String>,
    query: Vec<String>,
    cookies: Vec<String>,
}

impl KeyNames {
    fn of(operations: &[PayloadOperation]) -> KeyNames {
        use crate::bundle::PayloadRequirement::ApiKey;
        let mut keys = KeyNames::default();
        for requirement in operations.iter().flat_map(|operation| &operation.security).flatten() {
            if let ApiKey { place, name, .. } = requirement {
                match place {
                    KeyPlace::Header => keys.headers.push(name.to_ascii_lowercase()),
                    KeyPlace::Query => keys.query.push(name.clone()),
                    KeyPlace::Cookie => keys.cookies.push(name.clone()),
                }
            }
        }
        for list in [&mut keys.headers, &mut keys.query, &mut keys.cookies] {
            list.sort_unstable();
            list.dedup();
        }
        keys
    }
}

struct Builder<'b> {
    schemas: &'b Schemas,
    keys: &'b KeyNames,
    dpop: bool,
}

impl Builder<'_> {
    fn operation(&self, raw: PayloadOperation) -> Result<Operation, BundleError> {
        let refuse = |problem: String| BundleError::plan(format!("operation `{}`", raw.id), problem);
        if raw.method.is_empty() || raw.method.bytes().any(|byte| !byte.is_ascii_uppercase() && byte != b'-') {
            return Err(refuse(format!("`{}` is not a method", raw.method)));
        }
        check_quota(&format!("operation `{}`, limit", raw.id), raw.limit.as_ref())?;
        let declared = Declared::of(&raw.parameters);
        let mut templates = Vec::new();
        for text in &raw.paths {
            match Template::parse(text) {
                Ok(template) => templates.push(mark_matrix(template, &raw.parameters)),
                // An unsupported operation is refused as a whole; a template that fits nothing refuses as well.
                Err(_) if raw.deny.is_some() => {}
                Err(problem) => return Err(refuse(format!("path `{text}`: {problem}"))),
            }
        }
        let traits = Traits {
            declares_access_token: declared.query.iter().any(|name| name == "access_token"),
            dpop: self.dpop,
            acr: raw.acr.clone(),
            max_age_seconds: raw.max_age_seconds,
        };
        let assured = !traits.acr.is_empty() || traits.max_age_seconds.is_some();
        let security = Security::new(&raw.security, traits);
        if assured && security.is_public() {
            return Err(refuse("it asks for an `acr` and is open to all".to_owned()));
        }
        let cors_headers = cors_headers(&security, &declared, raw.body.is_some(), self.dpop);
        let strip_headers = strip_headers(&self.keys.headers, &security, &declared);
        let strip_query = strip(&self.keys.query, security.keys(KeyPlace::Query), &declared.query);
        let strip_cookies = strip(&self.keys.cookies, security.keys(KeyPlace::Cookie), &declared.cookies);
        let build = |parameter| ParameterSpec::build(parameter, self.schemas).map_err(&refuse);
        Ok(Operation {
            templates,
            parameters: raw.parameters.into_iter().map(build).collect::<Result<_, _>>()?,
            unknown_query_denied: raw.unknown_query == UnknownQuery::Deny,
            body: raw.body.map(|body| self.body(body)).transpose().map_err(&refuse)?,
            responses: self.responses(raw.responses).map_err(&refuse)?,
            limit: raw.limit,
            internal_operation: internal_operation(raw.internal_token, &raw.method, &raw.paths),
            upgrade: raw.upgrade,
            stream_response: raw.stream_response,
            strip_headers,
            strip_query,
            strip_cookies,
            cors_headers,
            security,
            declared_security: raw.security,
            declared_acr: raw.acr,
            declared_max_age: raw.max_age_seconds,
            pointer: raw.pointer,
            deny: raw.deny,
            modes: raw.modes,
            method: raw.method,
            id: raw.id.clone(),
        })
    }

    fn body(&self, raw: PayloadBody) -> Result<Body, String> {
        let content = self.contents(raw.content)?;
        Ok(Body { required: raw.required, max_bytes: raw.max_bytes, pointer: raw.pointer, content })
    }

    fn contents(&self, raw: Vec<Content>) -> Result<Vec<ContentSpec>, String> {
        raw.into_iter().map(|content| ContentSpec::build(content, self.schemas)).collect()
    }

    fn responses(&self, raw: Vec<PayloadResponse>) -> Result<Responses, String> {
        let mut responses = Responses::default();
        for response in raw {
            let (cookies, headers): (Vec<_>, Vec<_>) =
                response.headers.into_iter().partition(|header| header.name.eq_ignore_ascii_case("set-cookie"));
            let built = Response {
                required_cookie: cookies.into_iter().find(|header| header.required).map(|header| header.pointer),
                headers: headers
                    .into_iter()
                    .map(header_parameter)
                    .map(|header| ParameterSpec::build(header, self.schemas))
                    .collect::<Result<_, _>>()?,
                content: self.contents(response.content)?,
                pointer: response.pointer,
            };
            let status = response.status;
            responses.add(&status, built).map_err(|problem| format!("response `{status}`: {problem}"))?;
        }
        Ok(responses)
    }
}

fn internal_operation(wanted: InternalToken, method: &str, paths: &[String]) -> Option<String> {
    (wanted == InternalToken::Operation).then(|| format!("{method} {}", paths.first().map_or("", String::as_str)))
}

/// A response header is read like a header parameter.
fn header_parameter(raw: PayloadHeader) -> Parameter {
    Parameter {
        name: raw.name,
        place: "header".to_owned(),
        required: raw.required,
        style: "simple".to_owned(),
        explode: false,
        allow_reserved: false,
        allow_empty_value: false,
        content: None,
        schema: raw.schema,
        decode: raw.decode,
        pointer: raw.pointer,
    }
}

/// The names of an operation's parameters, by place. Header names in lower case.
#[derive(Default)]
struct Declared {
    headers: Vec<String>,
    query: Vec<String>,
    cookies: Vec<String>,
}

impl Declared {
    fn of(parameters: &[Parameter]) -> Declared {
        let mut declared = Declared::default();
        for parameter in parameters {
            match parameter.place.as_str() {
                "header" => declared.headers.push(parameter.name.to_ascii_lowercase()),
                "query" => declared.query.push(parameter.name.clone()),
                "cookie" => declared.cookies.push(parameter.name.clone()),
                _ => {}
            }
        }
        declared
    }
}

fn mark_matrix(mut template: Template, parameters: &[Parameter]) -> Template {
    let is_matrix =
        |name: &String| parameters.iter().any(|p| p.place == "path" && p.style == "matrix" && p.name == *name);
    template.matrix = template.variables.iter().map(is_matrix).collect();
    template
}

/// The operation's own keys, then those of others that mean nothing else here.
fn strip<'k>(all: &[String], own: impl Iterator<Item = &'k str>, declared: &[String]) -> Names {
    let mut names: Vec<String> = own.map(str::to_owned).collect();
    let count = names.len();
    let others = all.iter().filter(|name| !declared.contains(name) && !names.contains(name));
    let others: Vec<String> = others.cloned().collect();
    names.extend(others);
    Names { names, own: count }
}

fn strip_headers(all: &[String], security: &Security, declared: &Declared) -> Vec<String> {
    let mut headers = strip(all, security.keys(KeyPlace::Header), &declared.headers).names;
    // Whoever reads `api_key` by way of CGI reads `api-key` as well.
    let twins: Vec<String> = headers.iter().map(|name| name.replace('_', "-")).collect();
    headers.extend(twins);
    headers.push("authorization".to_owned());
    headers.push("dpop".to_owned());
    headers.sort_unstable();
    headers.dedup();
    headers
}

fn cors_headers(security: &Security, declared: &Declared, has_body: bool, dpop: bool) -> String {
    let mut names = declared.headers.clone();
    names.extend(security.keys(KeyPlace::Header).map(str::to_owned));
    if security.takes_tokens() {
        names.push("authorization".to_owned());
        names.extend(dpop.then(|| "dpop".to_owned()));
    }
    if has_body {
        names.push("content-type".to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
