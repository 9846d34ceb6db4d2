"""``leadertag plugins new``: the skeleton of a plugin, in a distribution of its own.

What is the same for every plugin stands in ``templates``; the providers' methods are written
from :mod:`leadertag.providers` itself (see :mod:`leadertag.scaffold.methods`).
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from leadertag import __version__
from leadertag.errors import ConfigError
from leadertag.providers import LockProvider, QueryProvider, SelfRegistered
from leadertag.scaffold.methods import hook_module, provider_module

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 24
KINDS: Mapping[str, Any] = {
    "lock": LockProvider, "registry": SelfRegistered, "query": QueryProvider,
}  # fmt: skip
"""What each provider of a skeleton derives from. A backend that checks health itself has a
plain RegistryProvider: three methods less."""
_PLAIN = {
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "init.py": "src/{module}/__init__.py",
    "settings.py": "src/{module}/settings.py",
    "backend.py": "src/{module}/backend.py",
    "py.typed": "src/{module}/py.typed",
    "conftest.py": "tests/conftest.py",
    "harness.py": "tests/harness.py",
    "test_contract.py": "tests/test_contract.py",
}
_HOOK = {"test_hook.py": "tests/test_hook.py"}


def checked(name: str) -> str:
    """Return a name that fits a distribution, a module and an entry point; else ConfigError."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{name!r} cannot be a plugin's name: write lower-case letters, digits and single "
            f"hyphens between them, a letter first, {LONGEST_NAME} characters at most"
        )
    return name


def skeleton(name: str, *, hook: bool = False) -> dict[str, str]:
    """Return the texts of a plugin's files by their paths in its folder.

    Raises ConfigError for a name that cannot be one.
    """
    module = f"leadertag_{checked(name).replace('-', '_')}"
    prefix = "".join(part.capitalize() for part in name.split("-"))
    words = {
        "name": name, "module": module, "Class": prefix, "version": __version__,
        "VARIABLE": f"{name.replace('-', '_').upper()}_TEST_ADDRESS",
        "hook_entry": _HOOK_ENTRY.format(name=name, module=module, prefix=prefix) if hook else "",
        "hook_import": f"from {module}.hook import {prefix}Hook\n" if hook else "",
        "hook_name": f'    "{prefix}Hook",\n' if hook else "",
    }  # fmt: skip
    chosen = {**_PLAIN, **(_HOOK if hook else {})}
    texts = {
        path.format(module=module): Template(_template(source)).substitute(words)
        for source, path in chosen.items()
    }
    for kind, base in KINDS.items():
        texts[f"src/{module}/{kind}.py"] = provider_module(kind, base, module, prefix)
    if hook:
        texts[f"src/{module}/hook.py"] = hook_module(prefix)
    return dict(sorted(texts.items()))


_HOOK_ENTRY = """
[project.entry-points."leadertag.hooks"]
{name} = "{module}:{prefix}Hook"
"""


def _template(name: str) -> str:
    return (files("leadertag.scaffold") / "templates" / f"{name}.tmpl").read_text("utf-8")


def write(texts: Mapping[str, str], directory: str) -> None:
    """Write the files into a directory that is made for them: all of them or nothing.

    Raises ConfigError where the directory exists or cannot be made.
    """
    try:
        os.mkdir(directory)  # taken from here on, whoever else wants it
    except FileExistsError:
        raise ConfigError(f"{directory} exists already: name another with --directory") from None
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}") from error
    beside = f"{directory.rstrip('/')}.{uuid.uuid4().hex[:8]}"
    try:
        for path, text in texts.items():
            whole = os.path.join(beside, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "x", encoding="utf-8") as file:
                file.write(text)
        os.rename(beside, directory)  # in the place of the empty one, in one step
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        os.rmdir(directory)
        if isinstance(error, OSError):
            raise ConfigError(f"{directory} cannot be written: {error.strerror}") from error
        raise
