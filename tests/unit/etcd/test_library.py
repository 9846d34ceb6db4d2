"""etcd3 with whatever protobuf is installed; and nothing imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from leadertag_etcd.library import _descriptor


def python(code: str) -> str:
    """Run it in a process of its own, so that nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_imported_before_the_first_request() -> None:
    code = (
        "import sys\n"
        "from leadertag.config.table import Table\n"
        "from leadertag.providers import BackendContext\n"
        "from leadertag_etcd import EtcdLock, EtcdQuery, EtcdRegistry\n"
        "context = BackendContext(Table({}, 'test'), {})\n"
        "for kind in (EtcdLock, EtcdRegistry, EtcdQuery): kind.create(context)\n"
        "print([m for m in ('etcd3', 'grpc', 'google.protobuf') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_the_package_alone_loads_no_provider() -> None:
    code = (
        "import leadertag_etcd, sys\n"
        "print([m for m in sys.modules if m.startswith('leadertag_etcd.')])"
    )
    assert python(code) == "[]"


def test_it_loads_and_speaks() -> None:
    code = (
        "from leadertag_etcd.library import load\n"
        "rpc = load().rpc\n"
        "request = rpc.RangeRequest(key=b'a', range_end=b'b', limit=3)\n"
        "again = rpc.RangeRequest.FromString(request.SerializeToString())\n"
        "print(again.key, again.limit, rpc.Compare.EQUAL, rpc.Compare.MOD, rpc.RangeRequest.KEY)\n"
        "import etcd3\n"
        "print(etcd3.Etcd3Client('127.0.0.1', 1).transactions.put.__name__)"
    )
    assert python(code).splitlines() == ["b'a' 3 0 2 0", "Put"]


@pytest.mark.parametrize("first", ["import google.protobuf.descriptor", "import grpc"])
def test_what_was_imported_before_does_not_matter(first: str) -> None:
    """Also another client with files of the same names in protobuf's common pool."""
    code = (
        f"{first}\n"
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "other = descriptor_pb2.FileDescriptorProto(name='kv.proto', package='another')\n"
        "descriptor_pool.Default().AddSerializedFile(other.SerializeToString())\n"
        "from leadertag_etcd.library import load\n"
        "print(load().rpc.PutRequest(key=b'x').key)"
    )
    assert python(code) == "b'x'"


def test_without_the_library_the_hint_is_one_line() -> None:
    code = (
        "import sys\n"
        "class Nothing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'etcd3':\n"
        "            raise ModuleNotFoundError('No module named etcd3', name=name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "from leadertag.errors import PluginBroken\n"
        "from leadertag_etcd.library import load\n"
        "try: load()\n"
        "except PluginBroken as error: print(error)"
    )
    message = python(code)
    assert "pip install 'leadertag[etcd]'" in message
    assert "\n" not in message


def test_a_module_of_another_form_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kv_pb2.py"
    path.write_text("DESCRIPTOR = None\n")
    with pytest.raises(ValueError, match="kv_pb2"):
        _descriptor(str(path))
    path.write_text(r"""  serialized_pb=_b('\n\x08kv.proto\'\xff')""")
    assert _descriptor(str(path)) == b"\n\x08kv.proto'\xff"
