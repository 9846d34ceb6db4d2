"""A provider's module, written from the contract: every abstract method with its signature.

Taken from :mod:`leadertag.providers` when it is written, so that the two cannot drift apart.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from leadertag.hookspecs import HookEvent, Specs
from leadertag.providers import Provider

_WIDTH = 100
_WORD = re.compile(r"[A-Za-z_]+")
_GIVEN = "create"
"""The one abstract method that a skeleton has already."""

_MODULE = '''\
"""The {kind} provider."""

from __future__ import annotations

{imports}

from {module}.backend import Backend


class {cls}({base}):
    """{about}"""

    contract: ClassVar[int] = {contract}
    """The version of leadertag's contracts that this is written for."""
    characteristics: ClassVar[frozenset[Characteristic]] = frozenset()
    """What holds beyond the verbs: declare it, and the contract's tests hold you to it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))
{methods}'''

_EVENTS = (HookEvent.PROMOTE, HookEvent.DEMOTE, HookEvent.FOLLOW)
_HOOK = '''\
"""What a service does when its role changes. See leadertag.hookspecs for all events."""

from __future__ import annotations

from leadertag import RoleChange, hookimpl
from leadertag.config.table import Table


class {cls}:
    """Keep the methods that the service needs, and remove the others."""

    def __init__(self, settings: Table) -> None:
        """Read the hook's table; ConfigError for anything wrong. Nothing is connected to here."""
{methods}'''


def provider_module(kind: str, base: type[Provider], module: str, prefix: str) -> str:
    """Return the source of a module with a provider derived from ``base``.

    Each verb raises NotImplementedError with a message that names it and says what it does.
    """
    cls = f"{prefix}{kind.capitalize()}"
    methods = list(_abstract(base))
    words = {"ClassVar", "Characteristic", "Self", "BackendContext", base.__name__}
    for _, function in methods:
        words |= set(_WORD.findall(str(inspect.signature(function))))
    source = _MODULE.format(
        kind=kind, module=module, cls=cls, base=base.__name__, about=_first_line(base),
        contract=Provider.contract,
        imports=_imports(words), methods="".join(_method(cls, *one) for one in methods),
    )  # fmt: skip
    return source.rstrip("\n") + "\n"


def hook_module(prefix: str) -> str:
    """Return the source of a module with a hook for the events that most services have."""
    cls = f"{prefix}Hook"
    methods = (_method(cls, None, getattr(Specs, f"leadertag_{event}")) for event in _EVENTS)
    return _HOOK.format(cls=cls, methods="".join(methods))


def _abstract(base: type[Provider]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """Yield the attribute and the function of each abstract method, in the contract's order."""
    for owner in reversed(base.__mro__):
        for name, attribute in vars(owner).items():
            if name in base.__abstractmethods__ and name != _GIVEN:
                yield attribute, getattr(attribute, "fget", None) or attribute


def _method(cls: str, attribute: Any, function: Callable[..., Any]) -> str:
    """Return an unwritten method; ``attribute`` is what the class has, ``None`` for a hook's."""
    hook = "    @hookimpl\n" if attribute is None else ""
    decorator = "    @property\n" if isinstance(attribute, property) else hook
    docstring = inspect.getdoc(function) or ""
    return "".join((
        "\n", decorator, _definition(function), _docstring(docstring),
        _raised(f"{cls}.{function.__name__}: {_paragraph(docstring)}"),
    ))  # fmt: skip


def _definition(function: Callable[..., Any]) -> str:
    """Return the line (or lines, as a formatter would break them) that defines it."""
    signature = inspect.signature(function)
    # The annotations are strings already: what stands in the contract, word for word.
    parameters = [_parameter(one) for one in signature.parameters.values()]
    for number, one in enumerate(signature.parameters.values()):
        if one.kind is one.KEYWORD_ONLY:
            parameters.insert(number, "*")
            break
    head, tail = f"    def {function.__name__}(", f") -> {signature.return_annotation}:\n"
    whole = f"{head}{', '.join(parameters)}{tail}"
    if _fits(whole):
        return whole
    inside = f"        {', '.join(parameters)}\n"
    if not _fits(inside):
        inside = "".join(f"        {parameter},\n" for parameter in parameters)
    return f"{head}\n{inside}    {tail}"


def _parameter(one: inspect.Parameter) -> str:
    if one.annotation is one.empty:
        return one.name
    default = "" if one.default is one.empty else f" = {_literal(one.default)}"
    return f"{one.name}: {one.annotation}{default}"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _docstring(text: str) -> str:
    lines = text.replace("\\", "\\\\").split("\n")
    if len(lines) == 1:
        return f'        """{lines[0]}"""\n'
    return (
        textwrap.indent(
            '"""' + "\n".join(lines) + '\n"""', " " * 8, lambda line: bool(line.strip())
        )
        + "\n"
    )


def _raised(message: str) -> str:
    text = message.replace('"', "'")
    line = f'        raise NotImplementedError("{text}")\n'
    if _fits(line):
        return line
    inside = [text]
    if not _fits(f'            "{text}"'):
        *first, last = textwrap.wrap(text, _WIDTH - 15, break_on_hyphens=False)
        inside = [*(f"{chunk} " for chunk in first), last]
    strings = "".join(f'            "{chunk}"\n' for chunk in inside)
    return f"        raise NotImplementedError(\n{strings}        )\n"


def _fits(line: str) -> bool:
    return len(line.rstrip("\n")) <= _WIDTH


def _paragraph(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].replace("``", "").split())


def _first_line(base: type[Provider]) -> str:
    return (inspect.getdoc(base) or "").partition("\n")[0]


def _imports(words: set[str]) -> str:
    """Return import statements for those of the words that the contract's module imports."""
    contract = vars(sys.modules[Provider.__module__])
    found: dict[str, list[str]] = {}
    for word in words:
        home = getattr(contract.get(word), "__module__", None)
        if home is not None:
            found.setdefault(home, []).append(word)
    own = [module for module in sorted(found) if not module.startswith("leadertag")]
    others = [module for module in sorted(found) if module.startswith("leadertag")]
    blocks = [[_import(module, found[module]) for module in block] for block in (own, others)]
    return "\n\n".join("\n".join(block) for block in blocks)


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(sorted(names))}"
    if _fits(line):
        return line
    return f"from {module} import (\n" + "".join(f"    {n},\n" for n in sorted(names)) + ")"
