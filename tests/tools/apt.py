"""Downloads Debian packages without root and without touching the machine's apt.

apt gets a configuration of its own (lists, cache and sources in a temporary
folder), so signatures and digests are still apt's business. The mirror is the one
that this machine already uses, asked for at run time.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

APT_TIMEOUT = 300.0  # seconds; a slow mirror, not a hanging one
ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# One line a target: site, suite as written in the sources, component, origin.
_TARGET_FORMAT = "$(SITE)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"

_CONFIG = """\
Dir::State::lists "{base}/lists";
Dir::Cache "{base}/cache";
Dir::Etc::sourcelist "{base}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class FetchFailed(Exception):
    """The download tool is missing here, or it refused; the message is one line."""


def _run(argv: Sequence[str], cwd: Path | None = None) -> str:
    """The command's output; FetchFailed with the last line of its errors when it fails."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=APT_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchFailed(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise FetchFailed(f"{argv[0]}: {lines[-1]}")
    return done.stdout


class AptRelease:
    """One suite of the machine's mirror, with an apt state of its own below `base`.

    `suite` None means the machine's own release, with its updates and security fixes.
    """

    def __init__(self, base: Path, suite: str | None = None) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise FetchFailed("apt-get and dpkg are needed")
        self._base = base
        self._config = base / "apt.conf"
        for folder in ("lists/partial", "cache/archives/partial"):
            (base / folder).mkdir(parents=True)
        self._config.write_text(_CONFIG.format(base=base))
        (base / "sources.list").write_text("".join(self._sources(suite)))
        self._apt("apt-get", "--error-on=any", "update")

    def download(self, packages: Sequence[str], into: Path) -> None:
        """Downloads the packages, verified by apt, and unpacks them below `into`."""
        debs = self._base / "debs"
        debs.mkdir(exist_ok=True)
        self._apt("apt-get", "download", *packages, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            _run(["dpkg", "-x", str(deb), str(into)])
            deb.unlink()

    def libraries_of(self, packages: Sequence[str]) -> list[str]:
        """The library packages that these depend on, libc6 aside (every machine has it)."""
        text = self._apt("apt-cache", "depends", "--important", *packages)
        words = (line.split()[-1] for line in text.splitlines() if "Depends:" in line)
        return sorted({word for word in words if word.startswith("lib")} - {"libc6"})

    def _apt(self, tool: str, *argv: str, cwd: Path | None = None) -> str:
        return _run([tool, "-q", "-c", str(self._config), *argv], cwd=cwd)

    def _sources(self, suite: str | None) -> list[str]:
        own = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        signed = f" [signed-by={ARCHIVE_KEYRING}]" if ARCHIVE_KEYRING.exists() else ""
        targets = _targets()
        mirror = _mirror(targets, own)
        if suite is not None:
            return [f"deb{signed} {mirror} {suite} main\n"]
        lines = [f"deb{signed} {mirror} {own} main\n"]
        for site, release, component, _ in targets:
            if release in (f"{own}-updates", f"{own}-security") and component == "main":
                lines.append(f"deb{signed} {site} {release} main\n")
        return list(dict.fromkeys(lines))


def _targets() -> list[tuple[str, str, str, str]]:
    # Container images ship without lists: ask for what is configured, not what is present.
    argv = ["apt-get", "-o", "APT::Get::IndexTargets::OnlyPresent=false", "indextargets"]
    text = _run([*argv, "--format", _TARGET_FORMAT, "Created-By: Packages"])
    rows = (line.split("|") for line in text.splitlines())
    return [(row[0], row[1], row[2], row[3]) for row in rows if len(row) == 4]


def _mirror(targets: Sequence[tuple[str, str, str, str]], release: str) -> str:
    """The site that serves the distribution itself (others may use its suite names)."""
    names = (release, "stable", "oldstable")
    found = [t for t in targets if t[1] in names and t[2] == "main"]
    found.sort(key=lambda t: (t[3] != "Debian", not t[0].rstrip("/").endswith("/debian")))
    if not found:
        raise FetchFailed("no Debian mirror among apt's sources")
    return found[0][0]
