//! Stockade's decision engine: a compiled bundle and a request in, a decision out.
//!
//! Pure: no I/O, no clock, no threads of its own, no type of any HTTP library. Time and identity are arguments.
//! The order of the calls is the order of `docs/contracts.md` §2; each stage takes what the stage before it proved.
//!
//! ```text
//! Plan::look_up(head) ─▶ Route ─▶ Limiter::check ─▶ Route::credentials ─▶ [mount resolves them] ─▶ Route::authorize
//!      ─▶ Limiter::check ─▶ Route::validate_head ─▶ Route::validate_body ─▶ [upstream] ─▶ Route::judge_response ─▶ Route::judge_response_body
//! ```

mod bundle;
mod decide;
mod decision;
mod dpop;
mod gate_fields;
mod limits;
mod plan;
mod request;
mod self_check;
mod validate;

pub use bundle::{BundleError, Envelope, MAX_BUNDLE_BYTES, open_bundle};
pub use decide::{
    DecidedRequest, DecidedResponse, Resolve, SPACE_ADDRESS, SPACE_CLIENT, SPACE_OPERATION, WholeRequest,
    WholeResponse, decide_request, decide_response,
};
pub use decision::{Denial, Layer, Mode, Outcome, Reason};
pub use dpop::Proofs;
#[doc(hidden)]
pub use dpop::sample;
pub use gate_fields::is_gate_field;
pub use limits::{LimitState, Limiter, Quota};
pub use plan::{
    Admitted, Answer, BodyPlan, Confirmation, Credential, CredentialKind, Credentials, Identity, Lookup, Plan,
    ResponsePlan, Route,
};
pub use request::{Headers, RequestHead, ResponseHead};
pub use self_check::{SelfCheckFailure, SelfCheckReport, self_check};
#[doc(hidden)]
pub use validate::testing;
pub use validate::{SchemaProblem, check_schemas};
