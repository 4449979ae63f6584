//! The fields that speak for the gate: stripped when a client sends them, refused when one is disguised by underscores.

/// Whether `name` (lower case) is a field by which upstreams learn who asks, and through whom: only the gate may set it.
pub fn is_gate_field(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else {
        return matches!(name, "forwarded" | "true-client-ip" | "cf-connecting-ip" | "client-ip" | "fastly-client-ip")
            || name.starts_with("ssl-client-")
            || name == "remote-user"
            || name == "client-cert"
            || name == "client-cert-chain";
    };
    [
        "user-id",
        "user-name",
        "user-email",
        "user-role",
        "user-group",
        "user-claims",
        "username",
        "userid",
        "userinfo",
        "forwarded",
        "authenticated",
        "client-cert",
        "ssl-client",
        "remote-",
        "auth-request-",
        "stockade-",
        "envoy-",
        "original-",
    ]
    .iter()
    .any(|prefix| rest.starts_with(prefix))
        || matches!(
            rest,
            "user"
                | "real-ip"
                | "client-ip"
                | "cluster-client-ip"
                | "credential-identifier"
                | "consumer-id"
                | "consumer-username"
                | "goog-authenticated-user-email"
                | "goog-authenticated-user-id"
                | "rewrite-url"
                | "http-method-override"
                | "http-method"
                | "method-override"
                | "anonymous-consumer"
                | "identity"
                | "principal"
        )
}
