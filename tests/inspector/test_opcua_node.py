"""The OPC UA server with a client that shares no code with it: node-opcua, driving a real handshake."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="asyncua is not installed: pip install -e '.[opcua]'")

from inspector.inspection import RecipeId, Verdict
from inspector.plc import PlcInputs, PlcOutputs, Reason
from inspector.plc.handshake import Decided, Handshake, StartInspection, StationState

from .opcua_site import Site

SCRIPT = Path(__file__).parents[1] / "interop" / "opcua.test.mjs"


@pytest.fixture
def node() -> str:
    modules = os.environ.get("INSPECTOR_NODE_MODULES")
    if modules is None or not Path(modules, "node-opcua").is_dir():
        pytest.skip("node-opcua is not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled (.ci/run)")
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    return found


class Line:
    """A station that accepts every second part, by its trigger's number."""

    def __init__(self) -> None:
        self.handshake = Handshake(boot_id=7, own_deadline_ns=10**9)
        self.beat = 0

    def wrote(self, inputs: PlcInputs) -> None:
        for action in self.handshake.plc_wrote(inputs, time.monotonic_ns()):
            assert isinstance(action, StartInspection)
            verdict = Verdict.REJECT if inputs.trigger_seq % 2 else Verdict.ACCEPT
            reason = Reason.OVER_THRESHOLD if inputs.trigger_seq % 2 else Reason.NONE
            decided = Decided(action.token, verdict, reason, 0.5, 12, journalled=True, recipe=action.recipe)
            self.handshake.decided(decided, time.monotonic_ns())

    def outputs(self) -> PlcOutputs:
        now_ns = time.monotonic_ns()
        self.beat += 1
        self.handshake.station_said(StationState(ready=True, heartbeat=self.beat, recipe=RecipeId(1, 1)), now_ns)
        return self.handshake.outputs(now_ns)


def test_node_opcua_inspects_parts_and_is_kept_from_what_it_may_not(node: str, tmp_path: Path) -> None:
    site, line = Site(tmp_path), Line()
    site.make_files()
    nodesets = Path(os.environ["INSPECTOR_NODE_MODULES"], "node-opcua-nodesets", "nodesets")
    vision = nodesets if nodesets.is_dir() else None
    with site.serving(site.settings(anonymous=True, machine_vision=vision), line.wrote, line.outputs):
        done = subprocess.run(  # noqa: S603
            [node, SCRIPT, site.url, tmp_path, *(["vision"] if vision else [])],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
