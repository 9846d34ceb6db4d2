"""Finds, loads and checks plugins: providers and hooks, by the name of their entry point.

Names are read with :mod:`importlib.metadata`, at every call: stevedore's own list of
them is cached on disk and can be minutes old after an installation. stevedore loads
what was found. Nothing is imported here before a plugin is asked for.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from leadertag.errors import PluginBroken, PluginError, PluginNotFound, did_you_mean

if TYPE_CHECKING:
    from leadertag.hookspecs import HookEvent
    from leadertag.model import Characteristic
    from leadertag.providers import Provider

Kind = Literal["lock", "registry", "query"]
KINDS: tuple[Kind, ...] = ("lock", "registry", "query")

_HOOKS = "hooks"
_DISTRIBUTION = "leadertag"
# What of leadertag's own plugins needs an extra, and the modules that the extra brings.
_EXTRAS: Mapping[str, frozenset[str]] = {
    "consul": frozenset({"consul", "requests"}),
    "etcd": frozenset({"etcd3", "grpc"}),
    "redis": frozenset({"redis"}),
    "template": frozenset({"jinja2"}),
}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One installed plugin. ``kind`` is ``lock``, ``registry``, ``query`` or ``hook``.

    ``distribution`` is name and version; ``target`` is ``module:attribute``. ``error``
    is ``""``, or one line that says why the plugin cannot be used; what could not be
    found out then is empty.
    """

    kind: str
    name: str
    distribution: str
    target: str
    characteristics: frozenset[Characteristic] = frozenset()
    events: frozenset[HookEvent] = frozenset()
    error: str = ""


def load_provider(kind: Kind, name: str) -> type[Provider]:
    """Return the class of a provider.

    Raises PluginNotFound (the message lists what is installed), or PluginBroken when it
    cannot be imported, is of the wrong kind, incomplete, written for another version of
    the contract, or offered by two distributions.
    """
    plugin = _load(_find(kind, name), kind)
    _check_provider(plugin, kind, name)
    return cast("type[Provider]", plugin)


def load_hook(name: str) -> type:
    """Return the class of a hook; raises as :func:`load_provider` does."""
    plugin = _load(_find(_HOOKS, name), _HOOKS)
    _check_hook(plugin, name)
    return cast(type, plugin)


def hook_events(plugin: type) -> frozenset[HookEvent]:
    """Return the events for which a hook's class has a marked method."""
    from leadertag.hookspecs import HookEvent

    return frozenset(
        event for event in HookEvent if _marked(getattr(plugin, f"leadertag_{event}", None))
    )


def installed() -> list[PluginInfo]:
    """Return every installed plugin, the broken ones with the reason, by kind and name."""
    return [
        _info(entry, group)
        for group in (*KINDS, _HOOKS)
        for entry in sorted(_entries(group), key=lambda entry: (entry.name, entry.value))
    ]


def _info(entry: importlib.metadata.EntryPoint, group: str) -> PluginInfo:
    kind = "hook" if group == _HOOKS else group
    found = (kind, entry.name, _distribution(entry), entry.value)
    try:
        if group == _HOOKS:
            return PluginInfo(*found, events=hook_events(load_hook(entry.name)))
        provider = load_provider(cast(Kind, group), entry.name)
    except PluginError as error:
        return PluginInfo(*found, error=str(error))
    return PluginInfo(*found, characteristics=provider.characteristics)


# -- finding -----------------------------------------------------------------------------


def _entries(group: str) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=f"leadertag.{group}"))


def _find(group: str, name: str) -> importlib.metadata.EntryPoint:
    entries = _entries(group)
    matches = [entry for entry in entries if entry.name == name]
    if not matches:
        raise PluginNotFound(not_installed(group, name, {entry.name for entry in entries}))
    if len(matches) > 1:
        offers = " and ".join(sorted(f"{_distribution(e)} ({e.value})" for e in matches))
        raise PluginBroken(f"{_what(group, name)} is offered twice, by {offers}: uninstall one")
    return matches[0]


def not_installed(group: str, name: str, names: Iterable[str]) -> str:
    """Return the message for a plugin that nobody offers, with what is there and what would help.

    ``group`` is ``lock``, ``registry``, ``query`` or ``hooks``; ``names`` are those installed.
    """
    known = sorted(names)
    listed = ", ".join(known) or "none"
    if name in _EXTRAS:
        hint = f"pip install '{_DISTRIBUTION}[{name}]'"
    else:
        hint = f"a plugin offers it under the entry-point group leadertag.{group}"
    return f"{_what(group, name)} is not installed{did_you_mean(name, known)} " + (
        f"(installed: {listed}; {hint})"
    )


def _what(group: str, name: str) -> str:
    return f"the hook {name!r}" if group == _HOOKS else f"the {group} provider {name!r}"


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    # An entry point that was made by hand has none; half an installation leaves one without a name.
    if not (entry.dist and entry.dist.metadata["Name"]):
        return "an unknown distribution"
    return f"{entry.dist.name} {entry.dist.version}"


# -- loading -----------------------------------------------------------------------------


def _load(entry: importlib.metadata.EntryPoint, group: str) -> object:
    if not entry.pattern.match(entry.value):
        raise PluginBroken(
            f"{_what(group, entry.name)} of {_distribution(entry)} cannot be loaded: its entry "
            f"point {entry.value!r} is no module:attribute"
        )
    from stevedore.driver import DriverManager

    class OneDriver(DriverManager[Any]):
        """stevedore's loader, shown the one entry point that was found just now."""

        def list_entry_points(self) -> list[importlib.metadata.EntryPoint]:
            return [entry]

    try:
        # Not .driver: it mistakes an object that is false for a missing one.
        return OneDriver(f"leadertag.{group}", entry.name).extensions[0].plugin
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module that calls sys.exit(); a Rust extension's panic
        raise PluginBroken(
            f"{_what(group, entry.name)} of {_distribution(entry)} cannot be loaded: "
            + _cause(error)
        ) from error


def _cause(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(error.name)
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _missing(module: str) -> str:
    root = module.partition(".")[0]
    for extra, modules in _EXTRAS.items():
        if root in modules:
            return f"it needs {root}: pip install '{_DISTRIBUTION}[{extra}]'"
    return f"it needs the module {module}, which is not installed"


# -- checking ----------------------------------------------------------------------------


def _check_provider(plugin: object, kind: Kind, name: str) -> None:
    from leadertag import providers

    bases: Mapping[Kind, Any] = {
        "lock": providers.LockProvider,
        "registry": providers.RegistryProvider,
        "query": providers.QueryProvider,
    }
    base = bases[kind]
    what = _what(kind, name)
    if not (isinstance(plugin, type) and issubclass(plugin, base)):
        raise PluginBroken(f"{what} is no {base.__name__} but {_shown(plugin)}")
    _check_contract(getattr(plugin, "contract", None), providers.Provider.contract, what)
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        raise PluginBroken(f"{what} is incomplete: {plugin.__name__} lacks {', '.join(missing)}")
    _check_characteristics(getattr(plugin, "characteristics", None), what)
    _check_required(plugin, what)


def _check_characteristics(declared: object, what: str) -> None:
    from leadertag.model import Characteristic

    words = list(declared) if isinstance(declared, Set | Sequence) else [declared]
    for word in words:
        if not isinstance(word, Characteristic) or isinstance(declared, str):
            raise PluginBroken(
                f"{what} declares the characteristic {word!r}, which is none of "
                + ", ".join(f"Characteristic.{one.name}" for one in Characteristic)
            )


def _check_hook(plugin: object, name: str) -> None:
    what = _what(_HOOKS, name)
    if not isinstance(plugin, type):
        raise PluginBroken(f"{what} is no class but {_shown(plugin)}")
    _check_contract(getattr(plugin, "contract", 1), 1, what)
    for attribute in dir(plugin):
        if attribute.startswith("leadertag_"):
            _check_method(plugin, attribute, what)
    if not hook_events(plugin):
        raise PluginBroken(f"{what} has no method marked with @leadertag.hookimpl")
    _check_required(plugin, what)


def _check_method(plugin: type, attribute: str, what: str) -> None:
    from leadertag.hookspecs import HookEvent

    names = [f"leadertag_{event}" for event in HookEvent]
    options = _marked(getattr(plugin, attribute))
    if attribute not in names:
        near = did_you_mean(attribute, names)
        raise PluginBroken(f"{what} has {attribute}, which is no hook of leadertag{near}")
    if options is None:
        raise PluginBroken(f"{what} has {attribute} without the marker @leadertag.hookimpl")
    if options.get("hookwrapper") or options.get("wrapper"):
        raise PluginBroken(f"{what} has {attribute} as a wrapper, but each hook runs alone")


def _marked(method: object) -> dict[str, Any] | None:
    """Return pluggy's options of a marked method, else ``None``."""
    return getattr(method, "leadertag_impl", None)


def _check_contract(version: object, current: int, what: str) -> None:
    if version == current:
        return
    older = isinstance(version, int) and version < current
    advice = "upgrade the plugin" if older else "upgrade leadertag"
    raise PluginBroken(
        f"{what} was written for contract {version}, this leadertag has {current}: {advice}"
    )


def _check_required(plugin: type, what: str) -> None:
    """Look for the modules in ``plugin.requires``: those that it imports when it is used.

    A plugin that imports late would otherwise fail at the first failover, not at the start.
    """
    from importlib.util import find_spec

    for module in getattr(plugin, "requires", ()):
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:  # of a package around it
            found = False
        if not found:
            raise PluginBroken(f"{what} cannot be used: {_missing(module)}")


def _shown(plugin: object) -> str:
    if isinstance(plugin, type):
        return f"the class {plugin.__module__}.{plugin.__qualname__}"
    return f"an object of type {type(plugin).__name__}"
