"""The wire as docs/wire.md tells it: its clients are run as they stand there, and the schema is that of the code."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inspector.bus import Publisher
from inspector.curve import allow_client
from inspector.inspection import Verdict
from inspector.schema import FILE, schema
from inspector.station import Bus

from .test_curve import free_endpoint, made
from .test_journal import result

DOCS = Path(__file__).parents[2] / "docs" / "wire.md"
NODE_MODULES = os.environ.get("INSPECTOR_NODE_MODULES", "")
WANTED = [
    "p1 PASS 0.5",
    "p2 REJECT 0.5 over",
    "result 3 never arrived: its part was not inspected",
    "p4 REJECT 0.5 no picture",
]


def code(language: str, first_line: str) -> str:
    found: list[str] = re.findall(rf"```{language}\n({re.escape(first_line)}\n.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(found) == 1
    return found[0]


@dataclass
class Wire:
    """A station's publisher, and what its client is told on the command line."""

    publisher: Publisher
    arguments: list[str]


@pytest.fixture(params=["ipc", "tcp"])
def wire(bus: Bus, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    if request.param == "ipc":
        with Publisher(bus, "line1") as publisher:
            yield Wire(publisher, [bus.result])
        return
    curve = made(tmp_path / "keys")
    own = allow_client(curve, "laptop")
    locked = bus.model_copy(update={"result": free_endpoint()})
    with Publisher(locked, "line1", curve=curve) as publisher:
        yield Wire(publisher, [locked.result, str(curve.private_key.with_suffix(".key")), str(own)])


def heard_by(command: list[str], publisher: Publisher) -> list[str]:
    """What a client prints of three verdicts with a hole between them."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:  # noqa: S603
        try:
            assert publisher.listeners("result", 20_000), client.communicate(timeout=5)[1]
            time.sleep(0.1)
            for seq, verdict, reason in (
                (1, Verdict.ACCEPT, ""), (2, Verdict.REJECT, "over"), (4, Verdict.FAULT, "no picture"),
            ):  # fmt: skip
                told = result(seq, verdict)
                publisher.send_result(type(told)(**(_fields(told) | {"reason": reason})))
            assert client.stdout is not None
            return [client.stdout.readline().strip() for _ in WANTED]
        finally:
            client.kill()


def _fields(told: object) -> dict[str, object]:
    return {name: getattr(told, name) for name in told.__struct_fields__}  # type: ignore[attr-defined]


def test_the_python_client_of_the_documentation_hears_every_verdict(wire: Wire, tmp_path: Path) -> None:
    pytest.importorskip("msgpack", reason="msgpack is not installed: pip install -e '.[dev]'")
    client = tmp_path / "client.py"
    client.write_text(code("python", "# wire client: python"))
    assert heard_by([sys.executable, str(client), *wire.arguments], wire.publisher) == WANTED


def test_the_javascript_client_of_the_documentation_hears_every_verdict(wire: Wire, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not Path(NODE_MODULES, "zeromq").is_dir():
        pytest.skip(
            "node and zeromq are not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled (.ci/run)"
        )
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    client = tmp_path / "client.mjs"
    client.write_text(code("js", "// wire client: node"))
    assert heard_by([node, str(client), *wire.arguments], wire.publisher) == WANTED


def test_the_schema_that_is_published_is_that_of_the_code() -> None:
    assert FILE.read_text(encoding="utf-8") == schema(), "run python -m inspector.schema"


def test_the_documentation_names_every_endpoint_and_kind() -> None:
    text = DOCS.read_text()
    for name in (*Bus.model_fields, "follow", "ack", "decision", "tip", "expose", "change", "answer"):
        assert f"`{name}`" in text or f'kind: "{name}"' in text, name
