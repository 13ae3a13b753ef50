"""A cache that all instances of a binding share. Capability and grant: ``shared-cache``."""

from __future__ import annotations

from . import _host

_shared_cache = _host.interface("shared_cache")


def get(key: str) -> bytes | None:
    return _shared_cache.get(key)


def set(key: str, value: bytes, ttl_ms: int) -> None:
    _shared_cache.set(key, value, ttl_ms)


def delete(key: str) -> None:
    _shared_cache.delete(key)
