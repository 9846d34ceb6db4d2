"""The client library, etcd3, made to import with any protobuf release.

etcd3's generated modules build their message descriptors in a way that protobuf refuses
since 4.0. The descriptors themselves also stand in those modules, serialized, and every
release reads them in that form. So the three modules are made from that here, before
etcd3 is imported; the rest of it, its gRPC stubs too, is used as it is. Nothing has to be
pinned, no variable set, and protobuf's fast implementation stays.

The messages live in a descriptor pool of their own: other etcd clients in the same process
bring files of the same name, which one pool would refuse.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from leadertag.errors import PluginBroken

_FILES = ("kv", "auth", "rpc")  # in the order in which they depend on each other
_SERIALIZED = re.compile(r"serialized_pb=_b\(('(?:[^'\\\n]|\\.)*')\)")
_mutex = threading.Lock()
_loaded: list[Library] = []


@dataclass(frozen=True, slots=True)
class Library:
    """``rpc`` has etcd's messages and stubs (``etcd3.etcdrpc``)."""

    grpc: Any
    rpc: Any


def load() -> Library:
    """Import etcd3 and gRPC, once; PluginBroken when they are missing or of no use."""
    with _mutex:
        if not _loaded:
            _loaded.append(_import())
        return _loaded[0]


def _import() -> Library:
    try:
        if "etcd3" not in sys.modules:
            _provide_messages()
        importlib.import_module("etcd3")
        return Library(importlib.import_module("grpc"), importlib.import_module("etcd3.etcdrpc"))
    except (ImportError, AttributeError, TypeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise PluginBroken(
            f"the etcd backend needs etcd3 with grpcio and protobuf: "
            f"pip install 'leadertag[etcd]' ({text})"
        ) from error


def _provide_messages() -> None:
    """Put the generated modules, made anew, where etcd3 will look for them."""
    from google.protobuf import descriptor_pool, message_factory

    spec = importlib.util.find_spec("etcd3")
    if spec is None or spec.origin is None:
        raise ImportError("No module named 'etcd3'")
    folder = os.path.join(os.path.dirname(spec.origin), "etcdrpc")
    pool = descriptor_pool.DescriptorPool()
    for name in _FILES:
        pool.AddSerializedFile(_descriptor(os.path.join(folder, f"{name}_pb2.py")))
    for name in _FILES:
        file = pool.FindFileByName(f"{name}.proto")
        module = ModuleType(f"etcd3.etcdrpc.{name}_pb2")
        module.__dict__["DESCRIPTOR"] = file
        for message in file.message_types_by_name.values():
            module.__dict__[message.name] = message_factory.GetMessageClass(message)
        for enum in file.enum_types_by_name.values():
            module.__dict__.update({value.name: value.number for value in enum.values})
        sys.modules[module.__name__] = module


def _descriptor(path: str) -> bytes:
    with open(path, encoding="utf-8") as file:
        found = _SERIALIZED.search(file.read())
    if found is None:
        raise ValueError(f"{path} is not as etcd3 0.12 has it")
    text: str = ast.literal_eval(found[1])
    return text.encode("latin-1")
