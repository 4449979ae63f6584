//! Belongs to gateway-up.
