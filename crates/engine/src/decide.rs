//! The whole flow for mounts without sockets: complete messages in, one outcome out.

use crate::decision::Denial;
use crate::limits::Limiter;
use crate::plan::{Answer, Credential, Identity, Plan};
use crate::request::{RequestHead, ResponseHead};

pub struct WholeRequest<'a> {
    pub head: RequestHead<'a>,
    pub body: &'a [u8],
}

pub struct WholeResponse<'a> {
    pub head: ResponseHead<'a>,
    pub body: &'a [u8],
}

#[derive(Clone, Debug)]
pub struct DecidedRequest {
    /// `allow`, `deny` or `answer`.
    pub outcome: &'static str,
    pub denial: Option<Denial>,
    /// What layers in `observe` mode would have refused.
    pub observed: Vec<Denial>,
    pub operation: Option<String>,
    pub canonical_path: Option<String>,
    pub answer: Option<Answer>,
}

#[derive(Clone, Debug)]
pub struct DecidedResponse {
    /// `allow`, `deny` or `sanitise`.
    pub outcome: &'static str,
    pub denial: Option<Denial>,
    pub observed: Vec<Denial>,
}

/// Decides one request. `resolve` answers for a credential: an identity, `None` when it is not valid, `Err` when nobody can say.
pub fn decide_request(
    _plan: &Plan,
    _limiter: Option<&Limiter>,
    _request: &WholeRequest<'_>,
    _resolve: &dyn Fn(&Credential<'_>) -> Result<Option<Identity>, ()>,
    _now: u64,
) -> DecidedRequest {
    todo!()
}

/// Decides the answer to a request.
pub fn decide_response(_plan: &Plan, _request: &WholeRequest<'_>, _response: &WholeResponse<'_>) -> DecidedResponse {
    todo!()
}
