"""Text for people: on one line, and without anything that a terminal would act on."""

from __future__ import annotations

import logging
from typing import Any


def one_line(text: str) -> str:
    """Return a text on one line, whatever a server put into it; control characters escaped."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return a text of any number of lines with its control characters escaped."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


class OneLineFormatter(logging.Formatter):
    """Names and reasons in a log line may come from anybody: none begins a line of its own.

    A traceback keeps its lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without the traceback."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Return the traceback."""
        return printable(super().formatException(ei))
