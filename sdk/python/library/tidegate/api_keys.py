"""The node's API keys. Capability and grant: ``api-keys``."""

from __future__ import annotations

from typing import NamedTuple

from . import _host

_api_keys = _host.interface("api_keys")


class ApiKey(NamedTuple):
    id: str
    name: str


def find(value: str) -> ApiKey | None:
    """The enabled key of this value whose usage plan includes this API and stage."""
    key = _api_keys.find(value)
    return key and ApiKey(key.id, key.name)
