"""The request's content. Capability: ``request-body``; naming it makes the host collect the body before each call."""

from __future__ import annotations

from . import _host

_request_body = _host.interface("request_body")


def read() -> bytes:
    return _request_body.read()
