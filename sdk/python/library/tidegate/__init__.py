"""What a Tidegate plugin in Python is written with.

A plugin is a module with a function ``configure``, which takes the binding's configuration (a JSON object, checked by the
host against the plugin's schema) and returns an object with a method for each step that plugin.toml names:
:class:`Authorizer`, :class:`Throttle`, :class:`Validator`, :class:`RequestTransform`, :class:`Integration`,
:class:`ResponseTransform`, :class:`LogSink`. They need not be inherited from; they say what a step is given and answers.

An exception in ``configure`` refuses the deployment with its text. In a step it means that no decision could be made: the
binding's fault policy applies, and the traceback is in the log.

What the host offers beside the request are modules, to be named in plugin.toml's ``capabilities``: ``tidegate.crypto``,
``jwks``, ``rate_limit``, ``quota``, ``api_keys``, ``shared_cache``, ``http_client``, ``secrets``, ``metrics``, ``log_output``,
``request_body``, ``response_body``. Units and bounds are documented in the WIT package ``tidegate:gateway``.

Outside a component the types work and the host's functions raise, so that decisions can be tested with any test runner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Union

from . import _host

_request = _host.interface("request")
_log = _host.interface("log")


class Request:
    """The request in hand, read value by value. Each look-up is a call of the host; what ``reads`` names costs half."""

    def __init__(self, given: Mapping[str, str | None] | None = None) -> None:
        #: The values that the plugin's ``reads`` names.
        self.given: Mapping[str, str | None] = given or {}

    @property
    def method(self) -> str:
        return _request.method()

    @property
    def path(self) -> str:
        """Below the stage, percent-encoded, without the query."""
        return _request.path()

    @property
    def query_string(self) -> str | None:
        return _request.query_string()

    def header(self, name: str) -> str | None:
        return _request.header(name)

    def headers(self) -> list[tuple[str, str]]:
        """All field lines in the order received, names in lower case."""
        return _request.headers()

    def query_parameter(self, name: str) -> str | None:
        """The last value, decoded."""
        return _request.query_parameter(name)

    def query_parameters(self) -> list[tuple[str, str]]:
        return _request.query_parameters()

    def path_parameter(self, name: str) -> str | None:
        return _request.path_parameter(name)

    def path_parameters(self) -> list[tuple[str, str]]:
        return _request.path_parameters()

    def stage_variable(self, name: str) -> str | None:
        return _request.stage_variable(name)

    def context(self, name: str) -> str | None:
        """A variable of ``$context``, without the prefix: ``requestId``."""
        return _request.context(name)


class Log:
    """Lines for the node's log, with the binding's name and the request's id. Needs no grant."""

    def trace(self, message: object) -> None:
        self._write("TRACE", message)

    def debug(self, message: object) -> None:
        self._write("DEBUG", message)

    def info(self, message: object) -> None:
        self._write("INFO", message)

    def warn(self, message: object) -> None:
        self._write("WARN", message)

    def error(self, message: object) -> None:
        self._write("ERROR", message)

    def _write(self, level: str, message: object) -> None:
        _log.write(_log.Level[level], str(message))


log = Log()


@dataclass(frozen=True)
class Allow:
    """Proceed, as this principal."""

    id: str
    #: Each becomes ``$context.authorizer.{key}``.
    context: Mapping[str, str] = field(default_factory=dict)
    usage_identifier_key: str | None = None


@dataclass(frozen=True)
class Unauthorized:
    """401, with a ``WWW-Authenticate`` challenge."""

    challenge: str | None = None


@dataclass(frozen=True)
class Forbidden:
    """403; the reason is for the log."""

    reason: str | None = None


Verdict = Union[Allow, Unauthorized, Forbidden]


@dataclass(frozen=True)
class Admit:
    """Proceed."""


@dataclass(frozen=True)
class Reject:
    """429; a retry can succeed after this many milliseconds."""

    retry_ms: int


@dataclass(frozen=True)
class Exceeded:
    """429, of a quota; it begins anew after this many milliseconds."""

    renews_in_ms: int


Admission = Union[Admit, Reject, Exceeded]


@dataclass(frozen=True)
class Valid:
    """Proceed."""


@dataclass(frozen=True)
class InvalidParameters:
    """400, with a message for the caller."""

    message: str


@dataclass(frozen=True)
class InvalidBody:
    """400, with a message for the caller."""

    message: str


@dataclass(frozen=True)
class UnsupportedMediaType:
    """415."""


Validity = Union[Valid, InvalidParameters, InvalidBody, UnsupportedMediaType]


@dataclass(frozen=True)
class SetHeader:
    """Sets a header field to one value, whatever it held."""

    name: str
    value: str


@dataclass(frozen=True)
class AppendHeader:
    """Adds a field line and leaves those of the same name."""

    name: str
    value: str


@dataclass(frozen=True)
class RemoveHeader:
    """Removes all field lines of the name."""

    name: str


@dataclass(frozen=True)
class RenameHeader:
    """Gives all field lines of the first name the second name."""

    name: str
    to: str


@dataclass(frozen=True)
class SetQueryParameter:
    """Sets a query parameter; both are given decoded. Only for requests."""

    name: str
    value: str


@dataclass(frozen=True)
class RemoveQueryParameter:
    """Removes all values of a query parameter. Only for requests."""

    name: str


@dataclass(frozen=True)
class RenameQueryParameter:
    """Gives a query parameter another name. Only for requests."""

    name: str
    to: str


@dataclass(frozen=True)
class SetPath:
    """Replaces the path; percent-encoded. Only for requests."""

    path: str


@dataclass(frozen=True)
class SetStatus:
    """Sets the status code, 200 to 599. Only for responses."""

    status: int


@dataclass(frozen=True)
class SetBody:
    """Replaces the body."""

    body: bytes


#: A change to a message; they are applied in their order.
Edit = Union[
    SetHeader,
    AppendHeader,
    RemoveHeader,
    RenameHeader,
    SetQueryParameter,
    RemoveQueryParameter,
    RenameQueryParameter,
    SetPath,
    SetStatus,
    SetBody,
]


@dataclass(frozen=True)
class Response:
    """A whole response. A request transform or an integration that returns it answers with it."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Forward:
    """Sends the request to a server: an upstream of the node, or a granted host."""

    uri: str
    method: str | None = None
    edits: Sequence[Edit] = ()
    timeout_ms: int | None = None


@dataclass(frozen=True)
class Invoke:
    """Invokes a function of the node."""

    function: str
    edits: Sequence[Edit] = ()
    timeout_ms: int | None = None


Plan = Union[Response, Forward, Invoke]


class Reads(Protocol):
    """A plugin that wants values with each call, as ``request.given``. At most 64."""

    def reads(self) -> Mapping[str, str]:
        """Readings by the names that they shall have: ``header:x-token``, ``query-parameter:q``, ``path-parameter:id``,
        ``stage-variable:v``, ``context:requestId``, ``method``, ``path``, ``query-string``."""
        ...


class Authorizer(Protocol):
    """Decides whether a request may proceed, and who sends it."""

    def authorize(self, request: Request) -> Verdict: ...


class Throttle(Protocol):
    """Decides whether there is capacity for a request."""

    def admit(self, request: Request) -> Admission: ...


class Validator(Protocol):
    """Decides whether a request is what the API's definition says."""

    def validate(self, request: Request) -> Validity: ...


class RequestTransform(Protocol):
    """Changes a request before the integration, or answers it."""

    def transform_request(self, request: Request) -> Sequence[Edit] | Response: ...


class Integration(Protocol):
    """Decides what answers a request."""

    def integrate(self, request: Request) -> Plan: ...


class ResponseTransform(Protocol):
    """Changes a response before it goes to the caller; it is read by ``tidegate.response``."""

    def transform_response(self, request: Request) -> Sequence[Edit]: ...


class LogSink(Protocol):
    """Takes 1 to 256 served requests, the oldest first, each the values that ``reads`` names."""

    def write(self, records: Sequence[Mapping[str, str | None]]) -> None: ...
