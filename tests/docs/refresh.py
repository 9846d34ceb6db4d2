"""`python -m tests.docs.refresh`: writes anew what the pages have from elsewhere.

The state diagram, the files of examples/ that are shown, and the output of those sample
commands that have the same output everywhere.
"""

from __future__ import annotations

import re
import shlex

from leadertag.election.diagram import mermaid
from tests.docs.pages import PAGES, ROOT
from tests.docs.samples import leadertag

_FILE = re.compile(r"(<!-- file: (\S+) -->\n```\w*\n).*?(^```$)", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"(^```console\n\$ (leadertag [^\n]+ explain)\n).*?(^```$)", re.M | re.S)
_DIAGRAM = re.compile(r"(<!-- diagram -->\n```mermaid\n).*?(^```$)", re.MULTILINE | re.DOTALL)


def refreshed(text: str) -> str:
    """The page's text with all of that as it is now."""
    text = _FILE.sub(lambda m: m[1] + (ROOT / m[2]).read_text() + m[3], text)
    text = _CONSOLE.sub(lambda m: m[1] + leadertag(*shlex.split(m[2])[1:]).stdout + m[3], text)
    return _DIAGRAM.sub(lambda m: m[1] + mermaid() + "\n" + m[2], text)


def main() -> None:
    """Rewrite the pages that changed."""
    for page in PAGES:
        path = ROOT / page
        old = path.read_text()
        new = refreshed(old)
        if new != old:
            path.write_text(new)
            print(page)


if __name__ == "__main__":
    main()
