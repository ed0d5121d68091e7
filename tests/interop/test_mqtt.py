"""Sparkplug payloads in a codec that was not written here: Eclipse Tahu's, in Node.js."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install -e '.[mqtt]'")

from inspector.decisions import Decision
from inspector.inspection import Verdict
from inspector.messages import Result
from inspector.mqtt.sparkplug import SparkplugSpeaker
from inspector.mqtt.words import Action, Closed, Heard, Message, Opened, StationState

NODE_MODULES = os.environ.get("INSPECTOR_NODE_MODULES", "")
READY = StationState(station="line1", state="ready", recipe="Tüte", parts=70000, accepted=4)


def decision(number: int, score: float | None) -> Decision:
    result = Result(
        station="line1", boot="b", seq=1, sent_utc="2026-01-02T03:04:05.000006+00:00", part_id="P-0042", sequence=1,
        verdict=Verdict.REJECT, score=score, threshold=1.0, reason="über", parts={}, recipe="Tüte", bundle="tray-1",
        deadline_ms=100.0, captured_ns=5, captured_utc="2026-01-02T03:04:05.000006+00:00", timings={},
    )  # fmt: skip
    return Decision(id=number, result=result)


def said() -> tuple[SparkplugSpeaker, list[Message]]:
    """A death, a birth that knows a decision, that decision as historical, another one, a change of state."""
    speaker = SparkplugSpeaker("plant", "line1", None, READY, lambda: 255, lambda: 1_700_000_000.0)
    will = speaker.will()
    speaker.decide(decision(2**40, None))
    actions: list[Action] = [*speaker.hear(Opened()), *speaker.decide(decision(7, 0.1))]
    actions += speaker.tell(StationState(station="line1", state="silent", parts=70000, accepted=4))
    return speaker, [will, *(action for action in actions if isinstance(action, Message))]


def test_eclipse_tahu_reads_what_is_said_and_its_rebirth_is_heard(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not Path(NODE_MODULES, "sparkplug-payload").is_dir():
        pytest.skip("node or sparkplug-payload is not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = tmp_path / "sparkplug.mjs"
    script.write_text(Path(__file__).with_name("sparkplug.mjs").read_text())
    speaker, messages = said()
    lines = "".join(f"{message.payload.hex()}\n" for message in messages)
    done = subprocess.run([node, script], input=lines, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    assert done.returncode == 0, done.stderr
    *read, command = done.stdout.splitlines()
    death, birth, late, now, change = (json.loads(line) for line in read)

    assert death["metrics"] == [{"name": "bdSeq", "type": "Int64", "value": 255, "timestamp": 1_700_000_000_000}]
    assert "seq" not in death
    assert [payload["seq"] for payload in (birth, late, now, change)] == [0, 1, 2, 3]
    assert birth["timestamp"] == 1_700_000_000_000
    born = {metric["name"]: metric for metric in birth["metrics"]}
    assert {name: (born[name]["type"], born[name]["value"]) for name in (
        "bdSeq", "Node Control/Rebirth", "Station/State", "Station/Recipe", "Counters/Parts", "Counters/Faults",
        "Decision/Id", "Decision/Threshold", "Decision/PartId",
    )} == {
        "bdSeq": ("Int64", 255), "Node Control/Rebirth": ("Boolean", False), "Station/State": ("String", "ready"),
        "Station/Recipe": ("String", "Tüte"), "Counters/Parts": ("Int64", 70000), "Counters/Faults": ("Int64", 0),
        "Decision/Id": ("Int64", 2**40), "Decision/Threshold": ("Double", 1.0), "Decision/PartId": ("String", "P-0042"),
    }  # fmt: skip
    assert born["Decision/Score"]["value"] is None
    assert all("isHistorical" not in metric for metric in birth["metrics"] + now["metrics"])
    assert all(metric["isHistorical"] for metric in late["metrics"])
    assert {metric["name"]: metric["value"] for metric in now["metrics"]}["Decision/Score"] == 0.1
    assert all(metric["timestamp"] == 1_767_323_045_000 for metric in now["metrics"])
    changed = {metric["name"]: metric["value"] for metric in change["metrics"]}
    assert changed == {"Station/State": "silent", "Station/Recipe": ""}

    (again,) = speaker.hear(Heard(Message("spBv1.0/plant/NCMD/line1", bytes.fromhex(command))))
    assert isinstance(again, Message)
    assert again.topic == "spBv1.0/plant/NBIRTH/line1"
    speaker.hear(Closed())
    assert speaker.hear(Heard(Message("spBv1.0/plant/NCMD/line1", bytes.fromhex(command)))) == []
