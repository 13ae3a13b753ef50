"""The response's content. Capability: ``response-body``; naming it makes the host collect the body before each call."""

from __future__ import annotations

from . import _host

_response_body = _host.interface("response_body")


def read() -> bytes:
    return _response_body.read()
