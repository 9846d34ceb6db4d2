"""leadertag keeps exactly one healthy instance of a service marked as its leader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from leadertag.errors import HookError, LeaderTagError
    from leadertag.hookspecs import HookEvent, Probe, RoleChange, hookimpl
    from leadertag.model import Health, Instance, Role

__all__ = [
    "Health",
    "HookError",
    "HookEvent",
    "Instance",
    "LeaderTagError",
    "Probe",
    "Role",
    "RoleChange",
    "__version__",
    "hookimpl",
]

_HOME = {
    "HookError": "errors",
    "LeaderTagError": "errors",
    "HookEvent": "hookspecs",
    "Probe": "hookspecs",
    "RoleChange": "hookspecs",
    "hookimpl": "hookspecs",
    "Health": "model",
    "Instance": "model",
    "Role": "model",
}


def __getattr__(name: str) -> Any:
    # Lazily, so that `leadertag --version` costs an interpreter start and nothing more.
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'leadertag' has no attribute {name!r}")
    return getattr(importlib.import_module(f"leadertag.{_HOME[name]}"), name)
