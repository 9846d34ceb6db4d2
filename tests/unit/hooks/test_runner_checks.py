"""What HookRunner refuses at the start, and what it tells of what its hooks do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from leadertag.errors import ConfigError, PluginBroken, PluginNotFound
from leadertag.hooks.loading import Redactor
from leadertag.hooks.runner import HookRunner
from leadertag.hookspecs import HookEvent as Event
from tests.unit.hooks.helpers import Spies, change, hook, install

MakeRunner = Callable[..., HookRunner]


# -- what is told ------------------------------------------------------------------------


def test_secrets_are_neither_in_messages_nor_in_the_log(
    make_runner: MakeRunner, spies: Spies, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "leak"}, password="hunter2-and-more"))
    with caplog.at_level(logging.DEBUG, "leadertag.hooks"):
        outcome = runner.run(change(Event.PROMOTE))
    assert outcome.message.endswith("cannot log in with ***")
    assert "| the password is ***" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"url": "redis://name:open-sesame@host/0"},
        {"url": "redis://:open-sesame@host"},
        {"url": "unix:///socket?db=1&password=open-sesame"},
        {"environment": {"PGPASSWORD": "open-sesame"}},
        {"api_key": "open-sesame"},
    ],
)
def test_what_is_secret_in_settings(options: dict[str, object]) -> None:
    assert Redactor(options).clean("no open-sesame, host") == "no ***, host"


def test_the_end_of_the_output_is_logged(
    make_runner: MakeRunner, spies: Spies, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(spies.hook("a", do={"promote": "flood"}))
    with caplog.at_level(logging.INFO, "leadertag.hooks"):
        assert runner.run(change(Event.PROMOTE)).ok
    assert "| line 4999" in caplog.text
    assert "first line" not in caplog.text
    assert "earlier output was dropped" in caplog.text


# -- what is run only where it is named ----------------------------------------------------


@pytest.mark.parametrize("event", [Event.FENCE, Event.VERIFY])
def test_a_command_is_not_asked_what_it_may_not_know(make_runner: MakeRunner, event: Event) -> None:
    options = {"command": ["true"]}
    assert not make_runner(hook("command", options)).handles(event)
    assert make_runner(hook("command", options, events=[event])).run(change(event)).ok
    refuses = {"command": ["sh", "-c", "echo no; exit 1"]}
    outcome = make_runner(hook("command", refuses, events=[event])).run(change(event))
    assert outcome.message.endswith(f"command: {event} failed: sh: exit status 1: no")


# -- what is refused at the start ----------------------------------------------------------


def test_an_unknown_hook_is_refused(make_runner: MakeRunner) -> None:
    with pytest.raises(PluginNotFound, match="did you mean 'command'"):
        make_runner(hook("comand", {}))


def test_an_unknown_option_is_refused(make_runner: MakeRunner, spies: Spies) -> None:
    with pytest.raises(ConfigError, match="unknown key 'nmae'"):
        make_runner(hook(spies.use, {"name": "a", "log": "x", "nmae": "b"}))


def test_an_event_that_the_hook_does_not_handle_is_refused(make_runner: MakeRunner) -> None:
    settings = hook("command", {"command": ["true"]}, events=[Event.PROBE])
    with pytest.raises(ConfigError, match="does not handle 'probe'"):
        make_runner(settings)


def test_an_option_that_cannot_be_passed_on_is_refused(
    make_runner: MakeRunner, plugins: Path
) -> None:
    source = """
        from leadertag import hookimpl
        class Any:
            def __init__(self, settings):
                settings.raw("when")
            @hookimpl
            def leadertag_promote(self, change): pass
    """
    install(plugins, {"leadertag.hooks": {"any": "Any"}}, source)
    with pytest.raises(ConfigError, match="cannot be passed on"):
        make_runner(hook("any", {"when": {1, 2}}))


BROKEN = {
    "misspelt": ("@hookimpl\n def leadertag_promot(self, change): pass", "'leadertag_promote'"),
    "unmarked": ("def leadertag_promote(self, change): pass", "without the marker"),
    "argument": ("@hookimpl\n def leadertag_promote(self, chang): pass", "chang"),
    "wrapper": ("@hookimpl(wrapper=True)\n def leadertag_promote(self, change): yield", "wrapper"),
    "empty": ("pass", "no method marked"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_hook_is_refused(make_runner: MakeRunner, plugins: Path, case: str) -> None:
    body, told = BROKEN[case]
    source = (
        "from leadertag import hookimpl\nclass Hook:\n def __init__(self, settings): pass\n "
        f"{body}\n"
    )
    install(plugins, {"leadertag.hooks": {"wrong": "Hook"}}, source)
    with pytest.raises(PluginBroken, match=told) as caught:
        make_runner(hook("wrong", {}))
    assert "\n" not in str(caught.value)


def test_a_hook_that_cannot_be_made_is_refused_without_its_secrets(
    make_runner: MakeRunner, plugins: Path
) -> None:
    source = """
        from leadertag import hookimpl
        class Hook:
            def __init__(self, settings):
                raise RuntimeError("bad " + settings.text("token"))
            @hookimpl
            def leadertag_promote(self, change): pass
    """
    install(plugins, {"leadertag.hooks": {"wrong": "Hook"}}, source)
    with pytest.raises(ConfigError, match=r"cannot be made: RuntimeError: bad \*\*\*"):
        make_runner(hook("wrong", {"token": "swordfish"}))


# -- probes ------------------------------------------------------------------------------


def test_the_first_hook_with_a_probe_opens_it(
    make_runner: MakeRunner, spies: Spies, plugins: Path
) -> None:
    source = """
        from leadertag import hookimpl
        class Prober:
            def __init__(self, settings): pass
            @hookimpl
            def leadertag_probe(self, election, instance):
                return (election, instance.id)
    """
    install(plugins, {"leadertag.hooks": {"prober": "Prober"}}, source)
    instance = change(Event.PROMOTE).instance
    assert make_runner(spies.hook("a")).open_probe(instance) is None
    runner = make_runner(spies.hook("a"), hook("prober", {}))
    assert runner.handles(Event.PROBE)
    assert runner.open_probe(instance) == ("redis", "redis-1")
