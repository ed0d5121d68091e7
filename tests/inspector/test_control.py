"""Triggers from the bridge to the camera."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from inspector.camera import CameraError, Trigger
from inspector.camera.folder import FolderReplay
from inspector.camera.simulator import SimulatedLine
from inspector.control import Answer, ControlClient, ControlServer
from inspector.inspection import Frame

from .tiny import part, write_image


@pytest.fixture
def endpoint() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="insp-") as folder:
        yield f"ipc://{folder}/control"


def ask(client: ControlClient, trigger: Trigger) -> Answer:
    ends = time.monotonic() + 10
    while not client.expose(trigger):
        assert time.monotonic() < ends
        time.sleep(0.01)
    answer = client.answer(5000)
    assert answer is not None
    return answer


def test_a_part_is_exposed_and_the_answer_names_its_request(endpoint: str) -> None:
    asked: list[Trigger] = []
    with ControlServer(endpoint, asked.append), ControlClient(endpoint) as client:
        assert ask(client, Trigger(5 << 32 | 1, "P-1", 77, asked_ns=1 << 60)).ok
        answer = ask(client, Trigger(6, "P-2"))
    assert asked == [Trigger(5 << 32 | 1, "P-1", 77, asked_ns=1 << 60), Trigger(6, "P-2")]
    assert answer.request >= 2


def test_a_camera_that_takes_no_triggers_is_an_answer(endpoint: str) -> None:
    line = SimulatedLine(rate_hz=1, fault_rate=0)
    with ControlServer(endpoint, line.expose), ControlClient(endpoint) as client:
        answer = ask(client, Trigger(1, "P-1"))
    assert not answer.ok
    assert 'take a camera with trigger = "software"' in answer.text


def test_a_trigger_is_not_kept_for_a_station_that_is_not_there(endpoint: str) -> None:
    with ControlClient(endpoint) as client:
        assert not client.expose(Trigger(1, "P-1"))
        assert client.answer(0) is None


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"v": 2, "request": 9, "kind": "expose"}, "version 2 is not 1"),
        ({"v": 1, "request": 9, "kind": "dance"}, "Invalid value 'dance'"),
        ({"v": 1, "request": 9, "kind": "expose"}, "missing required field `trigger`"),
    ],
)
def test_what_is_not_understood_is_answered(endpoint: str, message: dict[str, object], says: str) -> None:
    with (
        ControlServer(endpoint, lambda trigger: pytest.fail(f"{trigger} was exposed")),
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.set(zmq.LINGER, 0)
        dealer.connect(endpoint)
        dealer.send(b"no message at all")
        dealer.send(msgspec.msgpack.encode(message))
        assert dealer.poll(5000)
        answer = msgspec.msgpack.decode(dealer.recv(), type=Answer)
        assert not dealer.poll(50)
    assert (answer.request, answer.ok) == (9, False)
    assert says in answer.text


def test_a_folder_shows_an_image_for_each_part_that_is_asked_for(tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / f"{number}.png", part(50 * number))
    with FolderReplay(tmp_path, triggered=True) as camera:
        events = iter(camera)
        assert next(events) is None
        for token in (7, 8, 9):
            camera.expose(Trigger(token, f"P-{token}", token))
        frames = [next(events) for _ in range(3)]
    assert all(isinstance(frame, Frame) for frame in frames)
    assert [(f.part_id, f.trigger, f.encoder, f.image[0, 0, 0]) for f in frames if f] == [
        ("P-7", 7, 7, 0), ("P-8", 8, 8, 50), ("P-9", 9, 9, 0),
    ]  # fmt: skip


def test_a_folder_that_is_replayed_by_itself_refuses(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r'set camera\.trigger = "software"'):
        FolderReplay(tmp_path).expose(Trigger(1, "P"))
