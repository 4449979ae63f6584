"""The story of one event in plain words, for the operator; the caller never sees any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.observe.events import Event

# What each reason means and what to do about it: (what happened, what helps). Every reason of the engine has an entry;
# a test compares this table with the engine's own list.
REASONS: dict[str, tuple[str, str]] = {
    "bad_request": ("the message was not well-formed HTTP", "look at the client or the proxy in front of the gate"),
    "bad_host": (
        "the Host header was missing, doubled or not a host name",
        "the client must send exactly one valid Host",
    ),
    "misdirected": (
        "the Host is none of those that the gate answers for",
        "add it to `api.hosts`, or correct the client",
    ),
    "header_duplicated": (
        "a header that may stand once stood twice",
        "correct the client: two values can be read two ways",
    ),
    "header_forbidden": (
        "a header tried to change what the request means (method override, disguised or nominated header)",
        "no honest client needs it; if one does, teach it the plain method and path",
    ),
    "expectation_failed": ("the client expected something other than 100-continue", "correct the client"),
    "target_too_long": (
        "the request target was longer than allowed",
        "raise `limits.sizes.max_target_bytes` if it is honest",
    ),
    "headers_too_large": (
        "the header block was too large",
        "raise `listen.connections.max_header_bytes` if it is honest",
    ),
    "method_not_allowed": ("CONNECT and TRACE are never passed on", "nothing: no API needs them"),
    "timeout": ("the client was too slow", "an attack, or a very bad line"),
    "upgrade_refused": ("the client asked for another protocol", "declare it: `x-stockade: {upgrade: [websocket]}`"),
    "path_ambiguous": (
        "the path can be read in two ways (dot segments, encoded slashes, `//`, `;`, controls)",
        "the client must send the plain path",
    ),
    "operation_unknown": ("no path of the description matches", "describe the path, or forget about it"),
    "method_unknown": ("the path is described, this method is not", "describe the method, or forget about it"),
    "operation_unsupported": (
        "the operation uses a construct that the gate cannot enforce, so all of it is refused",
        "`stockade compile` names the construct",
    ),
    "address_rate": ("this address sent too much", "raise `limits.per_address` if it is honest"),
    "client_rate": ("this client sent too much", "raise `limits.per_client` if it is honest"),
    "operation_rate": ("this client called this operation too often", "raise `x-stockade.limit` there if it is honest"),
    "overloaded": ("the gate or the upstream had no room left", "see the metrics: connections, in flight, waiting"),
    "credentials_missing": ("nothing proved who calls", "the client needs a token: `stockade client create`"),
    "token_invalid": (
        "the credential is unknown, expired, revoked, or not meant for this API",
        "the client should ask for a new token",
    ),
    "token_in_query": (
        "a token stood in the URL, where logs keep it",
        "send it in the Authorization header; revoke this one",
    ),
    "credentials_ambiguous": ("more than one credential of the same kind came", "send one"),
    "client_certificate_missing": ("the operation asks for a client certificate", "connect with one"),
    "dpop_proof_missing": (
        "the token was shown as bound to a key, without a proof that the key is at hand",
        "the client must send one `DPoP` header with each request (RFC 9449 §4)",
    ),
    "dpop_proof_invalid": (
        "the proof is of another key, for another request or token, too old, or malformed; the evidence says which",
        "correct the client, its clock, or `identity.audience` and `api.hosts`, which say what `htu` may be",
    ),
    "dpop_nonce_required": (
        "the proof had no nonce of this gate, or an old one; the answer carries a fresh one",
        "nothing: clients try again with it by themselves (RFC 9449 §9)",
    ),
    "dpop_replayed": (
        "a proof came a second time",
        "an attack, or a client that sends one proof twice: each request needs its own `jti`",
    ),
    "dpop_capacity": (
        "the memory of used proofs is full of ones that still count, so nothing was let through",
        "raise `limits.max_tracked_keys`, or lower `identity.dpop.max_age_seconds`",
    ),
    "token_bound": (
        "the token is bound to a key or a certificate that the caller did not show",
        "if the client is honest: it must send proofs, or connect with its certificate; if not, revoke the token",
    ),
    "authorization_server_unavailable": (
        "the authorization server could not be asked, so nothing was let through",
        "see `stockade up`: is the authorization server running?",
    ),
    "scope_insufficient": ("the caller is known but lacks a scope", "give the client the scope, if it should have it"),
    "acr_insufficient": (
        "the user signed in too weakly or too long ago for this operation",
        "nothing: the client sends the user to sign in again as the challenge says (RFC 9470)",
    ),
    "parameter_missing": ("a required parameter was absent", "correct the client"),
    "parameter_invalid": ("a parameter does not fit its schema", "correct the client or the schema"),
    "parameter_unknown": ("a query parameter is not described", "describe it, or set `unknown_query: allow`"),
    "parameter_duplicated": ("a parameter that may stand once stood twice", "correct the client"),
    "parameter_malformed": ("a parameter could not be decoded", "correct the client"),
    "body_missing": ("the operation requires a body", "correct the client"),
    "body_unexpected": ("no body is described here", "describe it, or correct the sender"),
    "body_malformed": ("the body is not what its media type says", "correct the sender"),
    "body_invalid": ("the body does not fit its schema", "correct the sender or the schema"),
    "body_duplicate_key": (
        "a JSON object names a key twice",
        "correct the sender: two readers may take different values",
    ),
    "body_too_large": ("the body is larger than allowed", "raise `max_body_bytes` if it is honest"),
    "body_too_deep": ("the JSON is nested deeper than allowed", "raise `limits.sizes.max_json_depth` if it is honest"),
    "body_too_complex": ("the body has more values than allowed", "raise `limits.sizes` if it is honest"),
    "media_type_unsupported": ("the media type is not described", "correct the client's Content-Type"),
    "content_encoding_unsupported": ("a compressed body cannot be inspected", "send it uncompressed"),
    "status_undeclared": ("the API answered with a status that it does not describe", "describe it"),
    "media_type_undeclared": ("the API answered with a media type that it does not describe", "describe it"),
    "header_missing": ("the API left out a header that it promises", "correct the API or the description"),
    "header_invalid": ("the API sent a header that does not fit its schema", "correct the API or the description"),
    "error_sanitised": (
        "the API answered with an error it does not describe; its text was withheld",
        "see the API's own log",
    ),
    "unreachable": ("the API did not answer", "is it running where `api.upstream` says?"),
    "upstream_timeout": ("the API took too long", "raise `api.upstream` timeouts, or look at the API"),
    "protocol_error": ("the API's answer was not well-formed HTTP", "look at the API"),
    "panic": (
        "a bug in the engine; the request was refused, nothing else was harmed",
        "please report it with this event",
    ),
}

OUTCOMES = {
    "deny": "was refused",
    "observe": "was let through, but would be refused if the layer were enforced",
    "allow": "was let through",
    "error": "failed",
}

LAYERS = {
    "framing": "HTTP framing",
    "lookup": "operation lookup",
    "limits": "limits",
    "authenticate": "authentication",
    "authorize": "authorization",
    "validate_request": "request validation",
    "validate_response": "response validation",
    "upstream": "the upstream connection",
    "internal": "the gate itself",
}


def explain(event: Event) -> str:
    """Lines of plain words: what came, what happened to it, why, where that is written, what to do."""
    return "\n".join(line for line in (_opening(event), *_because(event), *_context(event)) if line)


def _opening(event: Event) -> str:
    if event.get("kind", "decision") != "decision":
        return f"At {event.get('time', 'an unknown time')}, {str(event['kind']).replace('_', ' ')} event."
    what = (
        " ".join(str(event[key]) for key in ("method", "path") if event.get(key)) or f"a {event.get('kind', 'event')}"
    )
    client = event.get("client") or {}
    who = " ".join(
        part
        for part in (
            f"from {client['address']}" if client.get("address") else "",
            f"by client {client['client_id']}" if client.get("client_id") else "",
        )
        if part
    )
    fate = OUTCOMES.get(str(event.get("outcome")), str(event.get("outcome", "happened")))
    status = f" with status {event['status']}" if event.get("status") else ""
    return f"At {event.get('time', 'an unknown time')}, {what} {who}".rstrip() + f" {fate}{status}."


def _because(event: Event) -> list[str]:
    reason = str(event.get("reason", ""))
    happened, helps = REASONS.get(reason, ("", ""))
    layer = LAYERS.get(str(event.get("layer")), str(event.get("layer", "")))
    return [
        f"  Decided by: {layer} ({reason})" if reason else "",
        f"  Because:    {happened}" if happened else "",
        f"  Evidence:   {event['evidence']}" if event.get("evidence") else "",
        f"  Detail:     {event['detail']}" if event.get("detail") else "",
        f"  Written at: {event['pointer']} in the API description" if event.get("pointer") else "",
        f"  To do:      {helps}" if helps else "",
    ]


def _context(event: Event) -> list[str]:
    bundle = f"{event.get('serial', '?')} ({event['bundle']})" if event.get("bundle") else ""
    return [
        f"  Operation:  {event['operation']}" if event.get("operation") else "",
        f"  Bundle:     serial {bundle}" if bundle else "",
        f"  Trace:      {event['trace_id']}" if event.get("trace_id") else "",
    ]
