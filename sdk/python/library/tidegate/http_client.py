"""Requests to other servers. Capability and grant: ``http-client``."""

from __future__ import annotations

from collections.abc import Sequence

from . import Response, _host

_http_client = _host.interface("http_client")


def send(
    uri: str,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    timeout_ms: int = 5000,
) -> Response:
    """Sends a request and waits for the whole response; raises where there is none."""
    request = _http_client.OutgoingRequest(method, uri, list(headers), body, timeout_ms)
    response = _http_client.send(request)
    return Response(response.status, response.headers, response.body)
