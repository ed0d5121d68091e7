"""OPC 40100-1: the states, and that a client's odd filter is its own affair."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="asyncua is not installed: pip install -e '.[opcua]'")

from asyncua import ua

from inspector.plc import Outcome, PlcOutputs, Reason, StatusBit
from inspector.plc.opcua_vision import NAMESPACE, NODESET, ResultState, State, result_state_of, state_of

from .opcua_site import Site, node

ONLINE = StatusBit.ONLINE | StatusBit.RECIPE_ACTIVE


@pytest.fixture
def nodesets() -> Path:
    folder = Path(os.environ.get("INSPECTOR_NODE_MODULES", "."), "node-opcua-nodesets", "nodesets")
    if not (folder / NODESET).is_file():
        pytest.skip(f"{NODESET} is not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled (.ci/run)")
    return folder


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (StatusBit(0), State.PREOPERATIONAL),
        (StatusBit.ERROR, State.ERROR),
        (ONLINE | StatusBit.ERROR | StatusBit.BUSY, State.ERROR),
        (ONLINE, State.INITIALIZED),
        (ONLINE | StatusBit.CHANGEOVER_BUSY, State.INITIALIZED),
        (ONLINE | StatusBit.READY, State.READY),
        (ONLINE | StatusBit.READY | StatusBit.BUSY, State.SINGLE_EXECUTION),
    ],
)
def test_the_state_follows_the_status_bits(status: StatusBit, state: State) -> None:
    assert state_of(PlcOutputs(status=status)) is state


@pytest.mark.parametrize(
    ("outcome", "reason", "state"),
    [
        (Outcome.OK, Reason.NONE, ResultState.COMPLETED),
        (Outcome.NG, Reason.OVER_THRESHOLD, ResultState.COMPLETED),
        (Outcome.NOT_INSPECTED, Reason.TIMEOUT, ResultState.FAILED),
        (Outcome.NOT_INSPECTED, Reason.ABORTED, ResultState.ABORTED),
    ],
)
def test_a_bad_part_is_a_job_that_was_completed(outcome: Outcome, reason: Reason, state: ResultState) -> None:
    assert result_state_of(PlcOutputs(outcome=outcome, reason=reason)) is state


class Seen:
    """What a subscription has told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event_notification(self, event: ua.Any) -> None:
        self.events.append(event.PartId.Id)


def test_an_odd_filter_of_one_client_does_not_keep_events_from_the_others(
    nodesets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    shown = PlcOutputs(status=ONLINE | StatusBit.RESULT_VALID, outcome=Outcome.OK)
    seen, odd = Seen(), Seen()

    async def main() -> None:
        async with site.connected() as client:
            types = await client.get_namespace_index(NAMESPACE)
            kind = await client.nodes.base_event_type.get_child(f"{types}:ResultReadyEventType")
            clause = ua.SimpleAttributeOperand(
                kind.nodeid, [ua.QualifiedName("add_property", 0)], ua.AttributeIds.Value
            )
            await (await client.create_subscription(20, odd)).subscribe_events(
                await node(client, "VisionSystem"), kind, ua.EventFilter([clause])
            )
            await (await client.create_subscription(20, seen)).subscribe_events(client.nodes.server, kind)
            for number in (1, 1, 2):
                site.outputs = replace(shown, result_seq=number, part_id=f"P-{number}")
                async with asyncio.timeout(10):
                    while f"P-{number}" not in seen.events:
                        await asyncio.sleep(0.01)

    settings = {"certificate": None, "private_key": None, "trusted": None, "users": None}
    with site.serving(site.settings(anonymous=True, machine_vision=nodesets, **settings)):
        asyncio.run(main())
    assert seen.events == ["P-1", "P-2"]
    assert odd.events == []
    assert "client's filter of events cannot be evaluated" in caplog.text
