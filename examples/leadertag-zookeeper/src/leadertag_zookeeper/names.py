"""The nodes. What others chose the name of is quoted: no slash in it counts."""

from __future__ import annotations

from urllib.parse import quote

from leadertag.plan import NOTES


class Names:
    """Paths below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.locks = f"{prefix}/locks"
        """Written with every change of a lock or a plan: what a watch of locks looks at."""
        self.holders = f"{self.locks}/holder"
        self.sessions = f"{prefix}/sessions"
        self.instances = f"{prefix}/instances"
        """Written with every change of a registration."""
        self.alive = f"{prefix}/alive"
        self.beats = f"{prefix}/beats"
        self.queries = f"{prefix}/queries"

    def folders(self) -> list[str]:
        """Return the nodes that have to be there before anything is written, in order."""
        parts = self.prefix.split("/")
        above = ["/".join(parts[: n + 1]) for n in range(1, len(parts))]
        kinds = [f"{self.locks}/{kind}" for kind in ("record", "holder", *NOTES)]
        return [*above, self.locks, *kinds, self.sessions, self.instances, self.alive,
                self.beats, self.queries]  # fmt: skip

    def record(self, key: str) -> str:
        """Return where the record of a lock stands."""
        return f"{self.locks}/record/{_quoted(key)}"

    def holder(self, key: str) -> str:
        """Return the node that exists while the lock is held."""
        return f"{self.holders}/{_quoted(key)}"

    def note(self, key: str, name: str) -> str:
        """Return where a note of a lock stands; ``name`` is one of leadertag's NOTES."""
        return f"{self.locks}/{name}/{_quoted(key)}"

    def session(self, name: str) -> str:
        """Return the node that a session is taken up with."""
        return f"{self.sessions}/{name}"

    def service(self, service: str) -> str:
        """Return the node above a service's instances, written with each change of them."""
        return f"{self.instances}/{_quoted(service)}"

    def instance(self, service: str, node: str, instance_id: str) -> str:
        """Return the node of an instance."""
        return f"{self.service(service)}/{self.child(node, instance_id)}"

    def child(self, node: str, instance_id: str) -> str:
        """Return what an instance is called under its service."""
        return f"{_quoted(node)}:{_quoted(instance_id)}"

    def query(self, name: str) -> str:
        """Return the node of a query's definition."""
        return f"{self.queries}/{_quoted(name)}"


def _quoted(name: str) -> str:
    # A dot alone, or two, mean something in a path.
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
