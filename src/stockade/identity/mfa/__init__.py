"""Factors beside the password: one-time codes (RFC 6238), passkeys (WebAuthn), recovery codes."""
