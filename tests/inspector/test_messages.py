"""The wire: what is encoded is decoded again, and nothing else is."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.inspection import Decision, Frame, Image, Inspection, Prediction, Timings, Verdict
from inspector.messages import VERSION, MessageError, Origin, Result, Status, View, decode, encode, result_of, view_of

from .tiny import part

ORIGIN = Origin("line1", "boot")
SENT = "2026-01-02T03:04:05.000000+00:00"


def inspected(image: Image, prediction: Prediction | None, verdict: Verdict = Verdict.REJECT) -> Inspection:
    frame = Frame(7, "part-7", image, 5_000_000)
    decision = Decision(verdict, prediction.score if prediction else None, 0.5, "because")
    return Inspection(frame, prediction, decision, "tray", "tray-1", Timings(1.0, 2.0, 3.0, float("nan")))


PREDICTION = Prediction(0.75, np.arange(6, dtype=np.float32).reshape(2, 3), {"maps": 0.75})


def result() -> Result:
    return result_of(inspected(part(9), PREDICTION), ORIGIN, seq=3, deadline_ms=100, sent_utc=SENT, age_ns=500_000_000)


def test_a_result_survives_the_wire() -> None:
    sent = result()
    assert decode(encode(sent)) == sent
    assert sent.captured_utc == "2026-01-02T03:04:04.500000+00:00"
    assert sent.timings == {"wait_ms": 1.0, "infer_ms": 2.0, "decide_ms": 3.0}


def test_a_result_is_plain_messagepack_for_any_language() -> None:
    topic, header = encode(result())
    plain = msgspec.msgpack.decode(header)
    assert topic == b"result"
    assert plain["kind"] == "result"
    assert plain["v"] == VERSION
    assert plain["verdict"] == "reject"
    assert (plain["boot"], plain["seq"], plain["part_id"]) == ("boot", 3, "part-7")


@given(height=st.integers(1, 40), width=st.integers(1, 900), channels=st.sampled_from([1, 3]), grey=st.integers(0, 255))
def test_a_view_survives_the_wire_and_is_never_wide(height: int, width: int, channels: int, grey: int) -> None:
    image = np.full((height, width, channels), grey, np.uint8)
    view = decode(encode(view_of(inspected(image, PREDICTION), ORIGIN, 1, SENT)))
    assert isinstance(view, View)
    assert view.image.shape[1] == min(width, 640)
    assert view.image.shape[2] == channels
    assert (view.image == grey).all()
    assert view.header.full_shape == image.shape
    assert np.array_equal(view.anomaly_map, PREDICTION.anomaly_map)


def test_the_view_of_a_fault_has_no_map() -> None:
    view = decode(encode(view_of(inspected(part(9), None, Verdict.FAULT), ORIGIN, 1, SENT)))
    assert isinstance(view, View)
    assert view.anomaly_map.size == 0


def test_an_unknown_optional_field_is_ignored() -> None:
    topic, header = encode(result())
    wider = msgspec.msgpack.encode(msgspec.msgpack.decode(header) | {"lane": 4})
    assert decode([topic, wider]) == result()


def test_another_version_is_refused() -> None:
    topic, header = encode(result())
    newer = msgspec.msgpack.encode(msgspec.msgpack.decode(header) | {"v": VERSION + 1, "verdict": 1})
    with pytest.raises(MessageError, match="version 2 is not 1"):
        decode([topic, newer])


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_bytes_that_are_no_message_are_an_error(frames: list[bytes]) -> None:
    with pytest.raises(MessageError):
        decode(frames)


def test_a_view_whose_buffer_was_cut_is_refused() -> None:
    frames = encode(view_of(inspected(part(9), PREDICTION), ORIGIN, 1, SENT))
    with pytest.raises(MessageError, match="bytes that the header names"):
        decode([*frames[:2], frames[2][:-1], frames[3]])


def test_an_unknown_verdict_is_never_read_as_one() -> None:
    topic, header = encode(result())
    with pytest.raises(MessageError):
        decode([topic, msgspec.msgpack.encode(msgspec.msgpack.decode(header) | {"verdict": "maybe"})])


def test_only_the_state_ready_is_ready() -> None:
    for state in ("starting", "ready", "not ready", "stopped", "failed"):
        status = Status(
            state=state, station="s", boot="b", seq=1, sent_utc=SENT, reason="", recipe="", bundle="", engine="",
            parts=0, accepted=0, rejected=0, faults=0, result_seq=0, publish_ms=None,
        )  # fmt: skip
        assert status.ready == (state == "ready")
