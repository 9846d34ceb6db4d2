"""A wall clock that jumps, for the processes under test alone.

A library, compiled here, that is loaded before libc's own functions (``LD_PRELOAD``) and
adds the seconds in a file to CLOCK_REALTIME and nothing else. The machine's clock stays.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

static long long jump(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, ts);
    if (!done && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) ts->tv_sec += jump();
    return done;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int done = real(tv, zone);
    if (!done) tv->tv_sec += jump();
    return done;
}

time_t time(time_t *out) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out) *out = ts.tv_sec;
    return ts.tv_sec;
}
"""


class WallClock:
    """One node's wall clock."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library, self._file = library, file
        self.jump(0)

    @property
    def env(self) -> Mapping[str, str]:
        """What a process needs to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Set how far it is off, for processes that run already too."""
        data = struct.pack("=q", seconds)
        if self._file.exists():
            with open(self._file, "r+b") as file:  # in place: it is mapped
                file.write(data)
        else:
            self._file.write_bytes(data)


def build(folder: Path) -> tuple[Path | None, str]:
    """The library, or None and why there is none: no compiler, or one without headers."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None, "there is no C compiler"
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(_SOURCE)
    argv = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, f"the C compiler refuses: {(done.stderr.strip() or '?').splitlines()[-1]}"
    return library, ""
