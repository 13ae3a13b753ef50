"""Between the author's module and the generated bindings: what the component's entry module is made of."""

from __future__ import annotations

import json
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from componentize_py_types import Err
from wit_world.imports import types as wit

import tidegate
from tidegate import log

# A component holds no sources, and a traceback that looks for them traps.
linecache.getlines = lambda filename, module_globals=None: []


class _Lines:
    """What is printed, line by line in the node's log: a plugin has no output of its own."""

    def __init__(self, write: Callable[[object], None]) -> None:
        self._write, self._rest = write, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._write(line)
        return len(text)

    def flush(self) -> None:
        pass


_plugin: Any = None
_names: list[str] = []
#: What the plugin's steps call.
_methods: list[str] = []


def plugin(module: ModuleType) -> type:
    """The class of the interface ``plugin``."""
    from wit_world.exports.plugin import Setup, Standing

    class Plugin:
        def configure(self, configuration: str) -> Setup:
            global _plugin, _names
            sys.stdout, sys.stderr = _Lines(log.info), _Lines(log.warn)  # type: ignore[assignment]
            try:
                _plugin = module.configure(json.loads(configuration))
                for name in _methods:
                    if not callable(getattr(_plugin, name, None)):
                        raise TypeError(f"configure returned {_plugin!r}, which has no method {name}")
                reads: Mapping[str, str] = _plugin.reads() if hasattr(_plugin, "reads") else {}
                _names = list(reads)
                return Setup([_reading(text) for text in reads.values()], Standing(None, None, None))
            except Exception as error:
                raise Err(_told(error)) from None

    return Plugin


def authorizer() -> type:
    from wit_world.exports import authorizer as its

    def decide(verdict: tidegate.Verdict) -> Any:
        match verdict:
            case tidegate.Allow(str() as id, context, None | str() as key):
                return its.Verdict_Allow(its.Principal(id, _pairs(context.items()), key))
            case tidegate.Unauthorized(None | str() as challenge):
                return its.Verdict_Unauthorized(challenge)
            case tidegate.Forbidden(None | str() as reason):
                return its.Verdict_Forbidden(reason)
        raise _no_answer("authorize", verdict)

    return _step("authorize", decide)


def throttle() -> type:
    from wit_world.exports import throttle as its

    def decide(admission: tidegate.Admission) -> Any:
        match admission:
            case tidegate.Admit():
                return its.Admission_Admit()
            case tidegate.Reject(int() as retry_ms):
                return its.Admission_Reject(retry_ms)
            case tidegate.Exceeded(int() as renews_in_ms):
                return its.Admission_Exceeded(renews_in_ms)
        raise _no_answer("admit", admission)

    return _step("admit", decide)


def validator() -> type:
    from wit_world.exports import validator as its

    def decide(validity: tidegate.Validity) -> Any:
        match validity:
            case tidegate.Valid():
                return its.Validity_Valid()
            case tidegate.InvalidParameters(str() as message):
                return its.Validity_InvalidParameters(message)
            case tidegate.InvalidBody(str() as message):
                return its.Validity_InvalidBody(message)
            case tidegate.UnsupportedMediaType():
                return its.Validity_UnsupportedMediaType()
        raise _no_answer("validate", validity)

    return _step("validate", decide)


def request_transform() -> type:
    from wit_world.exports import request_transform as its

    def decide(outcome: Sequence[tidegate.Edit] | tidegate.Response) -> Any:
        if isinstance(outcome, tidegate.Response):
            return its.Outcome_Respond(_response(outcome))
        return its.Outcome_Edits(_edits(outcome))

    return _step("transform_request", decide)


def integration() -> type:
    def decide(plan: tidegate.Plan) -> Any:
        match plan:
            case tidegate.Response():
                return wit.Plan_Respond(_response(plan))
            case tidegate.Forward(str() as uri, None | str() as method, edits, None | int() as timeout_ms):
                return wit.Plan_Forward(wit.Forward(uri, method, _edits(edits), timeout_ms))
            case tidegate.Invoke(str() as function, edits, None | int() as timeout_ms):
                return wit.Plan_Invoke(wit.Invocation(function, _edits(edits), timeout_ms))
        raise _no_answer("integrate", plan)

    return _step("integrate", decide)


def response_transform() -> type:
    return _step("transform_response", _edits)


def log_sink() -> type:
    _methods.append("write")

    class LogSink:
        def write(self, records: list[list[str | None]]) -> None:
            try:
                _plugin.write([dict(zip(_names, record)) for record in records])
            except Exception as error:
                raise Err(_told(error)) from None

    return LogSink


def _step(name: str, decide: Callable[[Any], Any]) -> type:
    """A class whose one method asks the plugin's method of that name."""
    _methods.append(name)

    def method(self: object, given: list[str | None]) -> Any:
        try:
            return decide(getattr(_plugin, name)(tidegate.Request(dict(zip(_names, given)))))
        except Exception as error:
            log.error("".join(traceback.format_exception(error)))
            raise Err(_told(error)) from None

    return type(name, (), {name: method})


def _edits(edits: Sequence[tidegate.Edit]) -> list[Any]:
    return [_edit(edit) for edit in edits]


def _edit(edit: tidegate.Edit) -> Any:
    match edit:
        case tidegate.SetHeader(str() as name, str() as value):
            return wit.Edit_SetHeader((name, value))
        case tidegate.AppendHeader(str() as name, str() as value):
            return wit.Edit_AppendHeader((name, value))
        case tidegate.RemoveHeader(str() as name):
            return wit.Edit_RemoveHeader(name)
        case tidegate.RenameHeader(str() as name, str() as to):
            return wit.Edit_RenameHeader((name, to))
        case tidegate.SetQueryParameter(str() as name, str() as value):
            return wit.Edit_SetQueryParameter((name, value))
        case tidegate.RemoveQueryParameter(str() as name):
            return wit.Edit_RemoveQueryParameter(name)
        case tidegate.RenameQueryParameter(str() as name, str() as to):
            return wit.Edit_RenameQueryParameter((name, to))
        case tidegate.SetPath(str() as path):
            return wit.Edit_SetPath(path)
        case tidegate.SetStatus(int() as status):
            return wit.Edit_SetStatus(status)
        case tidegate.SetBody(bytes() | bytearray() as body):
            return wit.Edit_SetBody(body)
    raise TypeError(f"{edit!r} is no edit, or holds a value of another type than it should")


def _response(response: tidegate.Response) -> Any:
    match response:
        case tidegate.Response(int() as status, headers, bytes() | bytearray() as body):
            return wit.Response(status, _pairs(headers), body)
    raise TypeError(f"{response!r} holds a value of another type than it should")


def _pairs(given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Texts, or the reason why not: for the host they have to be."""
    pairs = list(given)
    for pair in pairs:
        match pair:
            case (str(), str()):
                pass
            case _:
                raise TypeError(f"{pair!r} is no pair of texts")
    return pairs


def _reading(text: str) -> Any:
    kind, _, name = text.partition(":")
    plain = {"method": wit.Reading_Method, "path": wit.Reading_Path, "query-string": wit.Reading_QueryString}
    named = {
        "header": wit.Reading_Header,
        "query-parameter": wit.Reading_QueryParameter,
        "path-parameter": wit.Reading_PathParameter,
        "stage-variable": wit.Reading_StageVariable,
        "context": wit.Reading_Context,
    }
    if kind in plain and not name:
        return plain[kind]()
    if kind in named and name:
        return named[kind](name)
    raise ValueError(f"{text!r} is no reading; one is 'header:x-name'")


def _no_answer(name: str, answer: object) -> TypeError:
    return TypeError(f"{name} answered {answer!r}, which is no answer, or holds a value of another type than it should")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
