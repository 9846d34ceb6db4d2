"""Makes programs of Debian's Java packages run from where they were unpacked.

Their jars lie in usr/share/java, and the runtime has its own configuration in /etc: links that
lead nowhere when nothing was installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

# As upstream's script of that name, of which it understands the one word that is needed.
_SERVER = """\
#!/bin/sh
# zkServer.sh start-foreground CONFIG
here=$(dirname "$(readlink -f "$0")")
[ "$1" = start-foreground ] || {{ echo "usage: zkServer.sh start-foreground CONFIG" >&2; exit 2; }}
java=$(command -v java || ls "$here"/../lib/jvm/*/bin/java | head -n 1)
exec "$java" $SERVER_JVMFLAGS -cp "{classpath}" \\
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$2"
"""
ZOOKEEPER_JARS = (
    "zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "metrics-core", "snappy-java",
)  # fmt: skip
"""What a server needs of all that the package depends on."""


def arrange_zookeeper(root: Path) -> None:
    """Puts the server's jars, and a script that starts it, to where programs are kept."""
    jars = root / "usr/lib/zookeeper"
    jars.mkdir(parents=True)
    for name in ZOOKEEPER_JARS:
        shutil.copy(root / f"usr/share/java/{name}.jar", jars)
    _inline(root)
    script = root / "usr/bin/zkServer.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_SERVER.format(classpath=_classpath(ZOOKEEPER_JARS)))
    script.chmod(0o755)


def _classpath(names: Sequence[str]) -> str:
    return ":".join(f"$here/../lib/zookeeper/{name}.jar" for name in names)


def _inline(root: Path) -> None:
    """Replaces each link to an absolute path by what it means below `root`, if that is there."""
    for folder, _, names in os.walk(root / "usr/lib/jvm"):
        for path in (Path(folder) / name for name in names):
            target = os.readlink(path) if path.is_symlink() else ""
            meant = root / target.lstrip("/")
            if target.startswith("/") and meant.is_file():
                path.unlink()
                shutil.copy(meant, path)
