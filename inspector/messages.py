"""What the station says: verdicts, views and status as MessagePack. Pure; knows no socket, camera or screen.

The wire, for a subscriber in any language: `[topic, header]` for `result` and `status`, and
`[b"view", header, image, map]`, whose buffers are little-endian, row by row, with dtype and shape in the header.
Optional fields may join the header; another meaning gets another `v`, and a reader refuses a `v` that it does not know.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import cv2
import msgspec
import numpy as np

from inspector.inspection import AnomalyMap, Cause, Image, Inspection, Verdict

VERSION = 1
VIEW_WIDTH = 640

Topic = Literal["result", "view", "status"]
State = Literal["starting", "ready", "not ready", "stopped", "failed"]


class MessageError(Exception):
    """Bytes that are no message of this version; the text says why."""


class Origin(msgspec.Struct, frozen=True):
    """Who sends, and since when."""

    station: str
    boot: str  # new at each start of `run`; sequence numbers count from 1 in each


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message carries, besides `kind`, which is its topic."""

    v: int = VERSION
    station: str
    boot: str
    seq: int  # of this topic in this boot, from 1: a hole is a lost message
    sent_utc: str


class Result(Header, frozen=True, kw_only=True, tag="result"):
    """The verdict on one part."""

    part_id: str
    sequence: int  # of the camera
    verdict: Verdict
    score: float | None  # None: there is no finite score
    threshold: float
    reason: str
    parts: dict[str, float]  # the score's parts by name
    recipe: str
    bundle: str
    deadline_ms: float  # from captured_ns; a receiver must not act on a result that comes later
    captured_ns: int  # monotonic clock of the station
    captured_utc: str
    timings: dict[str, float]  # wait_ms, infer_ms, decide_ms; publishing is not over yet: see Status
    cause: Cause = Cause.NONE  # the reason, for machines
    trigger: int | None = None  # whose part it is, where somebody asked for it
    encoder: int = 0  # of the belt at the trigger
    recipe_number: int = 0  # 0: unknown, from before recipes had numbers
    recipe_revision: int = 0


class ViewHeader(Header, frozen=True, kw_only=True, tag="view"):
    """What the buffers of a view hold."""

    part_id: str
    sequence: int
    verdict: Verdict
    score: float | None
    threshold: float
    image_dtype: Literal["uint8"] = "uint8"
    image_shape: tuple[int, int, int]  # (H, W, C), RGB or grey, scaled down to VIEW_WIDTH
    full_shape: tuple[int, int, int]  # of the camera's frame
    map_dtype: Literal["float32"] = "float32"
    map_shape: tuple[int, int]  # (0, 0): there is no map


class Status(Header, frozen=True, kw_only=True, tag="status"):
    """The heartbeat, driven by the inspection loop's own progress."""

    state: State
    reason: str  # why it is not ready or has failed, or empty
    recipe: str
    bundle: str
    engine: str
    parts: int
    accepted: int
    rejected: int
    faults: int
    result_seq: int  # of the last result sent, 0 = none
    publish_ms: float | None  # of the last result
    alarm: str = ""  # what somebody must see to while parts are inspected, or empty
    recipe_number: int = 0
    recipe_revision: int = 0
    model: int = 0  # first four hexadecimal digits of the bundle's id
    changing_to: int = 0  # number of the recipe that is being loaded; 0: none

    @property
    def ready(self) -> bool:
        """Whether parts are inspected; the line may run only then, and only while status is fresh."""
        return self.state == "ready"


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A part as a person sees it."""

    header: ViewHeader
    image: Image  # (H, W, C) uint8
    anomaly_map: AnomalyMap  # (h, w) float32


Message = Result | View | Status


def result_of(
    inspection: Inspection, origin: Origin, *, seq: int, deadline_ms: float, sent_utc: str, age_ns: int
) -> Result:
    """Put an inspection into words; age_ns is the time since its exposure."""
    frame, decision, timings = inspection.frame, inspection.decision, inspection.timings
    return Result(
        station=origin.station,
        boot=origin.boot,
        seq=seq,
        sent_utc=sent_utc,
        part_id=frame.part_id,
        sequence=frame.sequence,
        verdict=decision.verdict,
        score=decision.score,
        threshold=decision.threshold,
        reason=decision.reason,
        parts=inspection.prediction.parts if inspection.prediction else {},
        recipe=inspection.recipe,
        bundle=inspection.bundle,
        deadline_ms=deadline_ms,
        captured_ns=frame.captured_ns,
        captured_utc=utc_text(datetime.fromisoformat(sent_utc).timestamp() - age_ns / 1e9),
        timings={"wait_ms": timings.wait_ms, "infer_ms": timings.infer_ms, "decide_ms": timings.decide_ms},
        cause=decision.cause,
        trigger=frame.trigger,
        encoder=frame.encoder,
        recipe_number=inspection.recipe_id.number,
        recipe_revision=inspection.recipe_id.revision,
    )


def view_of(inspection: Inspection, origin: Origin, seq: int, sent_utc: str) -> View:
    """Scale the frame down to `VIEW_WIDTH`; the map stays as the network gave it."""
    frame, decision = inspection.frame, inspection.decision
    image = _scaled_down(frame.image)
    anomaly_map = inspection.prediction.anomaly_map if inspection.prediction else np.zeros((0, 0), np.float32)
    header = ViewHeader(
        station=origin.station,
        boot=origin.boot,
        seq=seq,
        sent_utc=sent_utc,
        part_id=frame.part_id,
        sequence=frame.sequence,
        verdict=decision.verdict,
        score=decision.score,
        threshold=decision.threshold,
        image_shape=_shape3(image),
        full_shape=_shape3(frame.image),
        map_shape=(anomaly_map.shape[0], anomaly_map.shape[1]),
    )
    return View(header, image, anomaly_map)


def encode(message: Message) -> list[bytes]:
    """Give the frames of the wire."""
    match message:
        case Result():
            return [b"result", _encoder.encode(message)]
        case Status():
            return [b"status", _encoder.encode(message)]
        case View():
            image, anomaly_map = message.image.tobytes(), message.anomaly_map.astype("<f4", copy=False).tobytes()
            return [b"view", _encoder.encode(message.header), image, anomaly_map]


def decode(frames: list[bytes]) -> Message:
    """Read the frames of the wire.

    Raises:
        MessageError: they are no message, or one of another version.
    """
    if len(frames) < 2:
        raise MessageError(f"{len(frames)} frames are no message: topic and header are the least")
    try:
        version = _version_decoder.decode(frames[1]).v
        if version != VERSION:
            raise MessageError(f"message version {version} is not {VERSION}: update the older side")
        header = _decoder.decode(frames[1])
    except msgspec.MsgspecError as error:
        raise MessageError(f"the header cannot be read: {error}") from error
    if isinstance(header, ViewHeader):
        return _view(header, frames[2:])
    return header


def utc_text(seconds: float) -> str:
    """Give the moment as ISO 8601 with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


class _Version(msgspec.Struct):
    v: int


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Result | ViewHeader | Status] = msgspec.msgpack.Decoder(Result | ViewHeader | Status)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def _view(header: ViewHeader, buffers: list[bytes]) -> View:
    sizes = [int(np.prod(header.image_shape)), 4 * int(np.prod(header.map_shape))]
    if [len(buffer) for buffer in buffers] != sizes or min(*header.image_shape, *header.map_shape) < 0:
        raise MessageError(f"view {header.seq}: the buffers do not have the {sizes} bytes that the header names")
    image = np.frombuffer(buffers[0], np.uint8).reshape(header.image_shape)
    anomaly_map = np.frombuffer(buffers[1], "<f4").astype(np.float32, copy=False).reshape(header.map_shape)
    return View(header, image, anomaly_map)


def _scaled_down(image: Image) -> Image:
    height, width, channels = image.shape
    if width <= VIEW_WIDTH:
        return image
    size = (VIEW_WIDTH, max(1, round(height * VIEW_WIDTH / width)))
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller.astype(np.uint8, copy=False).reshape(size[1], size[0], channels)


def _shape3(image: Image) -> tuple[int, int, int]:
    return image.shape[0], image.shape[1], image.shape[2]
