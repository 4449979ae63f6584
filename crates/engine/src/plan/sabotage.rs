//! Plans broken on purpose: what the self-check must notice.

use super::Plan;
use super::routing::{Router, Template};
use super::security::{Security, Traits};
use crate::bundle::{Dpop, PayloadRequirement};
use crate::dpop::ProofRules;

impl Plan {
    /// Forgets an operation's security, as a compiler bug would.
    pub(crate) fn forget_security(&mut self, index: usize) {
        self.operations[index].security = Security::new(&[], Traits::default());
    }

    /// Forgets the scopes only.
    pub(crate) fn forget_scopes(&mut self, index: usize) {
        let operation = &mut self.operations[index];
        let bare = operation.declared_security.iter().map(|alternative| {
            let requirement =
                |_: &PayloadRequirement| PayloadRequirement::Token { scheme: String::new(), scopes: Vec::new() };
            alternative.iter().map(requirement).collect()
        });
        operation.security = Security::new(&bare.collect::<Vec<_>>(), Traits::default());
    }

    /// Forgets how users must have signed in.
    pub(crate) fn forget_assurance(&mut self, index: usize) {
        let operation = &mut self.operations[index];
        operation.security = Security::new(&operation.declared_security, Traits { dpop: true, ..Traits::default() });
    }

    /// Takes proofs for the other host that the self-check tries.
    pub(crate) fn confuse_origin(&mut self) {
        let origins = vec!["https://other.invalid".to_owned()];
        self.dpop = Some(ProofRules::new(&Dpop { origins, nonce: true, max_age_seconds: 60 }).unwrap());
    }

    /// Answers for every audience that the self-check tries.
    pub(crate) fn confuse_audience(&mut self) {
        self.audience = "https://other.invalid".to_owned();
    }

    /// Leads a path, in another spelling too, to another operation.
    pub(crate) fn misroute(&mut self, template: &str, method: &str, index: usize) {
        let mut router = Router::new();
        router.add(&Template::parse(template).unwrap(), method, index, 0).unwrap();
        self.router = router;
    }
}
