"""Secrets by name. Capability and grant: ``secrets``."""

from __future__ import annotations

from . import _host

_secrets = _host.interface("secrets")


def get(name: str) -> str | None:
    return _secrets.get(name)
