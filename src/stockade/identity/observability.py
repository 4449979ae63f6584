"""What the server says about itself: JSON log lines on standard error, and counters in OpenMetrics text.

Secrets never enter: events carry fixed names, client ids, token ids and reasons, no credential and no input.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGER = logging.getLogger("stockade.identity")


def log(level: str, event: str, **fields: Any) -> None:
    """Write one event; `level` is debug, info, warning or error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if _LOGGER.isEnabledFor(number):
        _LOGGER.log(number, event, extra={"fields": fields})


def log_defect(event: str, error: BaseException) -> None:
    """Write where an unexpected exception came from. Its message may quote input, so only its type is kept."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    log(
        "error",
        event,
        exception=type(error).__name__,
        frames=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    )


def start_logging(level: str) -> None:
    """Send every logger of the process to standard error as JSON lines; libraries from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    _LOGGER.setLevel(level.upper())


class Metrics:
    """Counters with labels, and gauges."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter of `_FAMILIES`."""
        self._values[name][tuple(sorted(labels.items()))] += amount

    def set(self, name: str, value: float, /) -> None:
        """Set a gauge of `_FAMILIES`."""
        self._values[name][()] = value

    def value(self, name: str, /, **labels: str) -> float:
        """Read one value; 0 when it was never touched."""
        return self._values[name][tuple(sorted(labels.items()))]

    def render(self) -> str:
        """OpenMetrics 1.0 text."""
        lines: list[str] = []
        for name, (kind, description) in _FAMILIES.items():
            lines += [f"# TYPE {_PREFIX}{name} {kind}", f"# HELP {_PREFIX}{name} {description}"]
            suffix = "_total" if kind == "counter" else ""
            samples: Mapping[tuple[tuple[str, str], ...], float] = self._values.get(name) or {(): 0}
            lines += [f"{_PREFIX}{name}{suffix}{_labels(labels)} {value:g}" for labels, value in samples.items()]
        return "\n".join([*lines, "# EOF", ""])


_PREFIX = "stockade_identity_"
_FAMILIES = {
    "tokens_issued": ("counter", "Access tokens that were given out."),
    "authorizations": ("counter", "Answers to authorization requests, by result: `granted` or an OAuth error."),
    "pushed_requests": ("counter", "Pushed authorization requests, by result: `kept` or an OAuth error."),
    "refresh_token_reuse": ("counter", "Grants revoked because a used refresh token came again."),
    "token_requests_refused": ("counter", "Requests to the token endpoint that were refused, by OAuth error."),
    "client_authentication_failures": ("counter", "Failed client authentications, by method."),
    "client_authentication_throttled": ("counter", "Requests refused before authentication, too many failures."),
    "forms_refused": ("counter", "Forms that did not come from our page in that browser, by what showed it."),
    "dpop_proofs_refused": ("counter", "DPoP proofs that were refused."),
    "dpop_nonces_demanded": ("counter", "Requests sent back for a DPoP nonce."),
    "sign_ins": ("counter", "Steps of people's sign-ins, by result."),
    "device_codes_issued": ("counter", "Device codes that were given out."),
    "user_codes_unknown": ("counter", "User codes that were typed and do not exist."),
    "user_codes_throttled": ("counter", "User codes not looked up, too many unknown ones from that address."),
    "introspections_for_resource_servers": ("counter", "Answers to resource servers, by result."),
    "clients_registered": ("counter", "Clients that registered themselves."),
    "registrations_refused": ("counter", "Registrations without a token that is good for them."),
    "introspections": ("counter", "Introspection answers, by result."),
    "revocations": ("counter", "Access tokens that their clients revoked here."),
    "revocations_told": ("counter", "Entries of the revocation log that were told to gateways, by kind."),
    "revocation_waiters": ("gauge", "Gateways that wait for news from the revocation log."),
    "unavailable": ("counter", "Answers 503, by the dependency that failed."),
    "internal_errors": ("counter", "Answers 500."),
    "connections_refused": ("counter", "Connections closed before a request, by reason."),
    "external_key_refreshes": ("counter", "Fetches of the external issuer's metadata or keys, by result."),
    "signing_key_rotations": ("counter", "Times that this process saw another key come into force."),
    "rows_purged": ("counter", "Expired rows that were removed."),
}


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": "authorization_server",
            # Libraries format paths and addresses into their messages, no credentials; JSON keeps it on one line.
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False, default=str)
