"""Functions: standard ``wasi:http`` components, for a module with a function ``handle``, which takes a :class:`Request` and
returns a :class:`Response`. An exception is 500, and its traceback is in the log.

More of WASI (streamed bodies, requests to other servers, clocks) is in the generated package ``wit_world``.
"""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    #: Percent-encoded, without the query.
    path: str
    #: Without the ``?``; empty where there is none.
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The field's value, several joined by ``, `` (RFC 9110 section 5.3)."""
        values = [value for known, value in self.headers if known.lower() == name.lower()]
        return ", ".join(values) if values else None


@dataclass(frozen=True)
class Response:
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


def handler(module: ModuleType) -> type:
    """The class of the interface ``incoming-handler``."""
    from componentize_py_types import Err, Ok
    from wit_world.imports import streams, types

    def received(request: Any) -> Request:
        path, _, query = (request.path_with_query() or "/").partition("?")
        headers = [(name, value.decode("latin-1")) for name, value in request.headers().entries()]
        return Request(method_of(request.method()), path, query, headers, content(request))

    def method_of(method: Any) -> str:
        known = type(method).__name__.removeprefix("Method_").upper()
        return method.value if known == "OTHER" else known

    def content(request: Any) -> bytes:
        collected = bytearray()
        body = request.consume()
        with body.stream() as stream:
            while True:
                try:
                    collected += stream.blocking_read(CHUNK)
                except Err as error:
                    if isinstance(error.value, streams.StreamError_Closed):
                        break
                    raise
        types.IncomingBody.finish(body)
        return bytes(collected)

    def send(response: Response, out: Any) -> None:
        fields = [(name, value.encode("latin-1")) for name, value in response.headers]
        outgoing = types.OutgoingResponse(types.Fields.from_list(fields))
        outgoing.set_status_code(response.status)
        body = outgoing.body()
        types.ResponseOutparam.set(out, Ok(outgoing))
        with body.write() as stream:
            for start in range(0, len(response.body), CHUNK):
                stream.blocking_write_and_flush(response.body[start : start + CHUNK])
        types.OutgoingBody.finish(body, None)

    seeded = False

    class IncomingHandler:
        def handle(self, request: Any, response_out: Any) -> None:
            # Every instance begins from one snapshot: the module's own numbers would be the same in all of them.
            nonlocal seeded
            if not seeded:
                random.seed()
                seeded = True
            try:
                response = module.handle(received(request))
            except Exception:
                traceback.print_exc(file=sys.stderr)
                response = Response(500)
            send(response, response_out)

    return IncomingHandler


#: Octets of one read or write: the most that a blocking write takes.
CHUNK = 4096
