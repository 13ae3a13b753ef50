"""The generated bindings, where there are any."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def interface(name: str) -> Any:
    """The bindings of an interface of the host.

    Raises ImportError where the component's world has no such interface.
    """
    if importlib.util.find_spec("wit_world") is None:
        return _Outside()
    try:
        return importlib.import_module(f"wit_world.imports.{name}")
    except ImportError:
        if name in _OF_EVERY_PLUGIN:
            return _Outside()  # a function has another world
        capability = name.replace("_", "-")
        raise ImportError(f'plugin.toml: add "{capability}" to `capabilities`') from None


class _Outside:
    """Stands for the host where there is none."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is a function of the host for plugins: there is none here")


_OF_EVERY_PLUGIN = ("request", "log")
