"""Asks a DNS server over UDP for A and SRV records: what a client of Consul does."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import dataclass

A, SRV = 1, 33
_TYPES = {"A": A, "SRV": SRV}
_HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additional
_RECORD = struct.Struct("!2HIH")  # type, class, TTL, length of the data
_NXDOMAIN = 3


@dataclass(frozen=True)
class DnsRecord:
    """One answer: `value` is the address (A) or the target's name (SRV); `port` SRV only."""

    name: str
    type: str
    value: str
    port: int = 0
    ttl: int = 0


class DnsError(OSError):
    """The server answered with an error other than "no such name"."""


def query(
    server: str, port: int, name: str, type_: str = "A", timeout: float = 2.0
) -> list[DnsRecord]:
    """The answers of that type.

    An unknown name gives []. Raises DnsError, or TimeoutError after `timeout` s.
    """
    number = random.randrange(1 << 16)
    question = _encode(name) + struct.pack("!2H", _TYPES[type_], 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((server, port))
        sock.send(_HEADER.pack(number, 0x0100, 1, 0, 0, 0) + question)
        while True:
            reply = sock.recv(65535)
            if reply[:2] == struct.pack("!H", number):
                return _parse(reply, type_)


def _encode(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _parse(reply: bytes, type_: str) -> list[DnsRecord]:
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(reply)
    if flags & 0xF not in (0, _NXDOMAIN):
        raise DnsError(f"DNS error {flags & 0xF}")
    at = _HEADER.size
    for _ in range(questions):
        at = _name(reply, at)[1] + 4
    records = []
    for _ in range(answers):
        owner, at = _name(reply, at)
        kind, _, ttl, length = _RECORD.unpack_from(reply, at)
        at += _RECORD.size
        if kind == _TYPES[type_] == A:
            records.append(DnsRecord(owner, "A", socket.inet_ntoa(reply[at : at + 4]), ttl=ttl))
        elif kind == _TYPES[type_] == SRV:
            port: int = struct.unpack_from("!H", reply, at + 4)[0]
            records.append(DnsRecord(owner, "SRV", _name(reply, at + 6)[0], port, ttl))
        at += length
    return records


def _name(reply: bytes, at: int) -> tuple[str, int]:
    """The name at this offset, following compression, and the offset behind it."""
    labels: list[str] = []
    end = None
    while length := reply[at]:
        if length >= 0xC0:
            end = end if end is not None else at + 2
            at = struct.unpack_from("!H", reply, at)[0] & 0x3FFF
            continue
        labels.append(reply[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end if end is not None else at + 1
