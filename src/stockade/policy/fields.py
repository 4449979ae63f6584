"""Field types that the policy's models share: each accepts the short forms that people write, and nothing else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from stockade.policy.quantities import format_quota, parse_quota, parse_size

Mode = Literal["enforce", "observe", "off"]
Strictness = Literal["deny", "allow"]

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)\Z")
_HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
MAX_PORT = 65535


class Model(BaseModel):
    """Frozen, strict, and closed; a section that is written but empty means its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: {} if value is None and key in cls._sections() else value for key, value in data.items()}

    @classmethod
    def _sections(cls) -> set[str]:
        annotations = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Model)}


def _as_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, (str, Path)) else value


def _as_path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("a path must not be empty")
    base = (info.context or {}).get("base")
    return base / value if base is not None else Path(value)


def split_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8443`, `[::1]:8443` or `localhost:8443` → host (without brackets), port. Raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdecimal() or not _HOST.match(host) or int(port) > MAX_PORT:
        raise ValueError(f"`{text}` is not an address; write it as `127.0.0.1:8443`")
    if host.startswith("["):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    return host, int(port)


def _check_address(text: str) -> str:
    split_address(text)
    return text


def _check_network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"`{text}` is not an upstream; write it as `http://127.0.0.1:9000`")
    if parts.username or parts.password or parts.query or parts.fragment or parts.port == 0:
        raise ValueError("an upstream holds a scheme, a host, a port and at most a path")
    return text.rstrip("/")


def check_https(text: str) -> str:
    """A URL that may carry secrets: https, or http on loopback. Raises ValueError."""
    parts = urlsplit(text)
    if not parts.hostname or parts.query or parts.fragment or parts.username or parts.port == 0:
        raise ValueError(f"`{text}` is not an https URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"`{text}` must be an https URL")
    return text


def _check_host_name(text: str) -> str:
    name = text.lower().rstrip(".")
    address = name[1:-1] if name.startswith("[") and name.endswith("]") else ""
    if address:
        ipaddress.IPv6Address(address)
    elif not _HOST_NAME.match(name):
        raise ValueError(f"`{text}` is not a host name; write it without scheme and port")
    return name


def _check_origin(text: str) -> str:
    if text == "*":
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"`{text}` is not an origin; write it as `https://app.example.com`")
    return text.lower()


Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], BeforeValidator(_as_tuple)]
FilePath = Annotated[Path, BeforeValidator(_as_path)]
Address = Annotated[str, AfterValidator(_check_address)]
Network = Annotated[str, AfterValidator(_check_network)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
HttpsUrl = Annotated[str, AfterValidator(check_https)]
HostName = Annotated[str, AfterValidator(_check_host_name)]
Origin = Annotated[str, AfterValidator(_check_origin)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1, le=1 << 40)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Seconds = Annotated[int, Field(ge=1, le=10 * 365 * 86400)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]


class Quota(Model):
    """`100/minute`, `100/minute burst 20`, or the three numbers: so many requests a period, so many at once."""

    requests: Annotated[int, Field(ge=1, le=10**9)] = Field(description="requests a period")
    period_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(default=60, description="length of the period")
    burst: Annotated[int, Field(ge=1, le=10**9)] = Field(description="requests at once; `requests` where not given")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            return parse_quota(data)
        if isinstance(data, Mapping) and "requests" in data and "burst" not in data:
            return {**data, "burst": data["requests"]}
        return data

    def __str__(self) -> str:
        return format_quota(self.requests, self.period_seconds, self.burst)


MODES: tuple[str, ...] = get_args(Mode)
