"""The response in hand, in a response transform."""

from __future__ import annotations

from . import _host

_response = _host.interface("response")


def status() -> int:
    return _response.status()


def header(name: str) -> str | None:
    return _response.header(name)


def headers() -> list[tuple[str, str]]:
    return _response.headers()
