"""The demo's service: a server that remembers what role it was told. Starts as nobody's."""

from __future__ import annotations

import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    """One question, or one order, a connection."""

    role = "on its own"

    def handle(self) -> None:
        """Answer ``role?``; anything else is the new role."""
        line = self.rfile.readline().decode().strip()
        if line and line != "role?":
            Handler.role = line
        self.wfile.write(f"{Handler.role}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    """A server that comes back at once on the same port."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
