"""One configured hook, made and checked, that can be called for an event."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pluggy

from leadertag.config.table import Table
from leadertag.errors import ConfigError, HookError, LeaderTagError, PluginBroken, PluginError
from leadertag.hookspecs import PROJECT, HookEvent, Probe, RoleChange, Specs
from leadertag.model import Instance
from leadertag.plugins import hook_events, load_hook

_SECRET_NAME = re.compile(r"pass|secret|token|credential|(^|_)key$", re.IGNORECASE)
_URL_SECRET = re.compile(r"(?<=:)[^/@:\s]+(?=@)|(?<=[?&]password=)[^&\s]+")
_SHORTEST = 4  # hiding a shorter one would hide half of an innocent message


class LoadedHook:
    """A hook's object with a plugin manager of its own.

    pluggy's call of several implementations stops at the first exception; with one
    manager a hook each runs in isolation, in the order of the configuration.
    """

    def __init__(self, use: str, where: str, options: Mapping[str, Any]) -> None:
        """Make the hook; raises ConfigError for its settings, PluginError for the hook."""
        try:
            plugin = load_hook(use)
        except PluginError as error:
            raise type(error)(f"{where}: {error}") from error
        table = Table(options, where)
        try:
            hook = plugin(table)
        except LeaderTagError:
            raise
        except Exception as error:
            text = Redactor(options).clean(f"{type(error).__name__}: {error}")
            raise ConfigError(f"{where}: the hook {use!r} cannot be made: {text}") from error
        table.done()
        self.use = use
        self.events = hook_events(plugin)
        self.when_named: frozenset[HookEvent] = getattr(plugin, "when_named", frozenset())
        """Events that are meant only where the configuration names them."""
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specs)
        try:
            self._manager.register(hook, use)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            reason = str(error).replace(repr(hook), repr(use)).strip().splitlines()[-1]
            raise PluginBroken(f"{where}: the hook {use!r} is wrong: {reason}") from error

    def call(self, change: RoleChange) -> Any:
        """Run the implementation of ``change.event``; raises what it raises."""
        results = self._caller(change.event)(change=change)
        return results[0] if results else None

    def probe(self, election: str, instance: Instance) -> Probe | None:
        """Open the hook's probe; raises HookError in one line."""
        try:
            found = self._caller(HookEvent.PROBE)(election=election, instance=instance)
        except LeaderTagError:
            raise
        except Exception as error:
            raise HookError(f"{self.use}: no probe: {type(error).__name__}: {error}") from error
        return found[0] if found else None

    def _caller(self, event: HookEvent) -> pluggy.HookCaller:
        caller: pluggy.HookCaller = getattr(self._manager.hook, f"leadertag_{event}")
        return caller


class Redactor:
    """Keeps the secrets of one hook's settings out of messages and logs."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        found = {secret for secret in _secrets("", options) if len(secret) >= _SHORTEST}
        # The longest first, so that none is left half hidden by a shorter one inside it.
        self._secrets = sorted(found, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return ``text`` with every secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(str(key), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(name, item)
    elif isinstance(value, str):
        yield from _URL_SECRET.findall(value)
        # The name of a file with a secret is none, and belongs in messages about it.
        if _SECRET_NAME.search(name) and not name.lower().endswith("_file"):
            yield value
