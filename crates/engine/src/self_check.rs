//! The plan attacked before it is put in force.

use crate::plan::Plan;

/// What was tried. `unprotected` names operations whose policy does not enforce authentication.
#[derive(Clone, Debug, Default)]
pub struct SelfCheckReport {
    pub cases: usize,
    pub operations: usize,
    pub unprotected: Vec<String>,
}

/// An attack that passed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("self-check: operation `{operation}` lets through: {case}")]
pub struct SelfCheckFailure {
    pub operation: String,
    pub case: String,
}

/// Attacks every operation of the plan. No clock, no randomness.
pub fn self_check(_plan: &Plan) -> Result<SelfCheckReport, SelfCheckFailure> {
    todo!()
}
