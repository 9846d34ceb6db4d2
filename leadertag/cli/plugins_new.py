"""``leadertag plugins new NAME``: write the skeleton of a plugin."""

from __future__ import annotations

import argparse
import os

from leadertag.cli import exits
from leadertag.cli.common import ascii_only, print_json
from leadertag.errors import ConfigError
from leadertag.plugins import installed
from leadertag.scaffold import checked, skeleton, write


def new(args: argparse.Namespace) -> int:
    """Write it; ConfigError for a name or a directory that cannot be used."""
    name = checked(args.name)
    for plugin in installed():
        if plugin.name == name:
            raise ConfigError(
                f"there is a {plugin.kind} plugin {name!r} already, of {plugin.distribution}: "
                "choose another name"
            )
    directory = os.path.expanduser(args.directory or f"leadertag-{name}")
    texts = skeleton(name, hook=args.hook)
    write(texts, directory)
    if args.json:
        print_json({"directory": directory, "files": list(texts)})
        return exits.OK
    print(ascii_only(f"{directory}: {len(texts)} files; README.md tells how to go on, in short:"))
    print(ascii_only(f"  cd {directory} && pip install -e '.[test]' && pytest -x"))
    return exits.OK
