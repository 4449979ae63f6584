"""What a browser is told about every page: nothing from elsewhere, in no frame, kept by nobody."""

from __future__ import annotations

# `form-action` holds for the redirects after a form too (Chromium), so it could only name every client's every host.
# It stays at 'self': what leaves the server does so from a page that a form led to (rendering.onward), not by redirect.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # RFC 9700 §4.16: for browsers that do not know frame-ancestors.
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # RFC 9700 §4.2.4: interaction ids and codes do not travel to third parties.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "publickey-credentials-get=(self), publickey-credentials-create=(self), "
        "camera=(), microphone=(), geolocation=(), payment=(), usb=()"
    ),
    "Strict-Transport-Security": "max-age=31536000",
}
