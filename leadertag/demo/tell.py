"""The demo's hook command: tells the service its role, out of the hook's environment."""

from __future__ import annotations

import os
import socket
import sys


def tell(port: int, line: str) -> str:
    """Send one line to the service and return its answer; OSError when it is down."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(f"{line}\n".encode())
        return connection.makefile().readline().strip()


def main() -> None:
    """Tell it; a service that is down counts as demoted."""
    event, leader = os.environ["LEADERTAG_EVENT"], os.environ["LEADERTAG_LEADER_ID"]
    lines = {"promote": "leader", "demote": "on its own", "follow": f"follower of {leader}"}
    try:
        tell(int(sys.argv[1]), lines[event])
    except ConnectionRefusedError:
        if event != "demote":
            raise


if __name__ == "__main__":
    main()
