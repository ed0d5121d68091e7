"""One GenICam camera through harvesters: found, configured, read, torn down. Runs in the acquisition process.

`genicam` never releases Python's lock, and what a vendor's producer does to its process it does to nobody else
(`inspector.camera.acquisition`).
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the bindings' own making
    from genicam import genapi, gentl
    from harvesters.core import Callback, ImageAcquirer
    from harvesters.util.pfnc import symbolics

from inspector.camera import CameraError, features
from inspector.camera.clock import CameraClock
from inspector.camera.discovery import GENICAM_ERRORS, Found, asked, producer_files
from inspector.camera.pixels import FORMATS, to_image
from inspector.camera.settings import GenicamCamera
from inspector.inspection import Image

CHUNKS = ("FrameID", "ExposureTime")
LATCHES = (  # SFNC 2 counts nanoseconds, GigE Vision 1 ticks
    ("TimestampLatch", "TimestampLatchValue", ""),
    ("GevTimestampControlLatch", "GevTimestampValue", "GevTimestampTickFrequency"),
)
LATCH_EVERY_NS = 10_000_000_000


class CameraLostError(CameraError):
    """The camera was there and is gone, or no longer does its work."""


@dataclass(frozen=True, slots=True, eq=False)
class Grab:
    """A complete frame. The image lies in the camera's buffer until the device is asked for the next one."""

    image: Image
    frame_id: int | None  # None: this camera does not count
    captured_ns: int  # host's monotonic clock
    is_exact: bool  # whether that is known by the camera's own clock
    exposure_us: float | None


class Device:
    """A camera that is open and configured, but not started.

    A context manager whose way out copes with a camera that is gone. Whatever the camera does not answer raises
    `CameraLostError`.
    """

    def __init__(self, config: GenicamCamera) -> None:
        self._config = config
        self._clock = CameraClock()
        self._latched_ns = 0
        self._held: Any = None  # the buffer of the last grab
        self._emptied_ns = 0  # when no frame was waiting
        self._chunks: tuple[str, ...] = ()
        self.incomplete = 0  # frames since the camera was opened
        self._seen_incomplete = 0

    def __enter__(self) -> Self:
        """Find, open and configure the camera.

        Raises:
            CameraError: it is not there, in use, or does not take a setting.
        """
        self._found = Found(producer_files(self._config.producer))
        try:
            index, self.identity = self._found.choose(self._config)
            with self._or_lost("cannot be opened: is another program using it?"):
                self._acquirer: ImageAcquirer = self._found.harvester.create(index)
        except BaseException:
            self._found.__exit__()
            raise
        try:
            self._acquirer.add_callback(ImageAcquirer.Events.INCOMPLETE_BUFFER, _Counter(self))
            with self._or_lost("does not answer"):
                self._configure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Tear down as far as it goes: harvesters' own way fails once the camera is gone."""
        self._held = None
        acquirer = self._acquirer
        _attempt(acquirer.stop)
        for stream in acquirer.data_streams:
            _attempt(stream.stop_acquisition, gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
            _attempt(stream.flush_buffer_queue, gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
        _attempt(acquirer.__exit__, None, None, None)  # destroys it, and forgets the finalizer that keeps it
        _attempt(self._found.__exit__)

    @property
    def nodes(self) -> Any:  # noqa: ANN401 - genicam has no types
        """The camera's features."""
        return self._acquirer.remote_device.node_map

    def start(self) -> None:
        """Begin to acquire; most settings are locked from now on."""
        self._emptied_ns = time.monotonic_ns()
        with self._or_lost("cannot be started"):
            self._acquirer.start()
            self._latch()

    def restart(self) -> None:
        """Stop and start, so that no frame of an earlier trigger can come any more."""
        with self._or_lost("cannot be stopped"):
            self._give_back()
            self._acquirer.stop()
        self.start()

    def trigger(self) -> None:
        """Expose one frame now."""
        with self._or_lost("takes no trigger"):
            self.nodes.TriggerSoftware.execute()

    def grab(self, timeout_s: float) -> Grab | None:
        """The next complete frame; None when none came in time, or one was incomplete (see `take_incomplete`).

        Raises:
            PixelFormatError: the frame is not one that can be read.
        """
        with self._or_lost("its stream is broken"):
            self._give_back()
            waiting = self.pending > 0
            if not waiting:
                self._emptied_ns = time.monotonic_ns()
            if time.monotonic_ns() - self._latched_ns > LATCH_EVERY_NS:
                self._latch()
            self._held = self._acquirer.try_fetch(timeout=timeout_s, is_raw=True)
            now_ns = time.monotonic_ns()
            return (
                None if self._held is None else self._read(self._held, self._emptied_ns if waiting else now_ns, now_ns)
            )

    @property
    def has_incomplete(self) -> bool:
        """Whether frames came incomplete since `take_incomplete` was asked last."""
        return self.incomplete > self._seen_incomplete

    def take_incomplete(self) -> int:
        """How many frames came incomplete since this was asked last."""
        new, self._seen_incomplete = self.incomplete - self._seen_incomplete, self.incomplete
        return new

    def assert_alive(self) -> None:
        """Read a register of the camera's own, past every cache."""
        with self._or_lost("does not answer"):
            port = self._acquirer.remote_device.port
            description = next((url for url in port.url_info_list if url.url.lower().startswith("local:")), None)
            if description is not None:
                port.read(description.file_register_address, 4)
            else:  # its description is a file on this machine: a frame grabber's
                self.nodes.Width.node.invalidate_node()
                _ = self.nodes.Width.value

    @property
    def numbers_from_zero(self) -> bool:
        """Whether the first frame of an acquisition has the number 0 (USB3 Vision) instead of 1."""
        return self.identity.transport == "U3V"

    @property
    def pending(self) -> int:
        """Frames that are there and were not asked for yet."""
        return int(asked(lambda: self._acquirer.data_streams[0].num_awaiting_delivery, 0))

    @property
    def image_bytes(self) -> int:
        """The most that one image can take: three bytes a pixel."""
        with self._or_lost("does not say how large its images are"):
            return int(self.nodes.Width.value) * int(self.nodes.Height.value) * 3

    @contextmanager
    def _or_lost(self, what: str) -> Iterator[None]:
        try:
            yield
        except GENICAM_ERRORS as error:
            raise CameraLostError(f"camera {self.identity}: {what} ({error})") from error

    def _configure(self) -> None:
        config, nodes = self._config, self.nodes
        wanted = list(config.features.items())
        if config.region is not None:
            wanted += features.region(*config.region)
        try:
            if features.find(nodes, "AcquisitionMode") is not None:
                features.apply(nodes, [("AcquisitionMode", "Continuous")])
            features.apply(nodes, wanted)
            features.apply(nodes, _trigger(config, nodes))
            features.verify(nodes, wanted)  # a later one may have changed an earlier one
            self._require_readable_pixels()
        except features.FeatureError as error:
            raise features.FeatureError(f"camera {self.identity}: {error}") from error
        self._chunks = _enable_chunks(nodes)
        self._acquirer.num_buffers = max(config.buffers, self._acquirer.min_num_buffers)

    def _require_readable_pixels(self) -> None:
        node = features.find(self.nodes, "PixelFormat")
        code = asked(node.get_int_value, None) if node is not None else None
        name = symbolics.get(code) if code is not None else None
        if name is not None and name not in FORMATS:
            readable = [other for other in node.symbolics if other in FORMATS] if node is not None else []
            raise features.FeatureError(
                f"its PixelFormat {name} cannot be read: set {' or '.join(readable)} in [camera.features]"
            )

    def _give_back(self) -> None:
        """The last grab's buffer, to the camera."""
        if self._held is not None:
            held, self._held = self._held, None
            held.parent.queue_buffer(held)

    def _latch(self) -> None:
        """Read the camera's clock between two readings of ours, where it can be read."""
        self._latched_ns = time.monotonic_ns()
        for latch_name, value_name, frequency_name in LATCHES:
            latch, value = features.find(self.nodes, latch_name), features.find(self.nodes, value_name)
            if latch is None or value is None:
                continue
            frequency = features.find(self.nodes, frequency_name)
            before_ns = time.monotonic_ns()
            latch.execute()
            after_ns = time.monotonic_ns()
            ticks_per_s = frequency.value if frequency is not None else 1_000_000_000
            self._clock.latch(before_ns, value.value * 1_000_000_000 // max(ticks_per_s, 1), after_ns)
            return

    def _read(self, buffer: Any, arrived_ns: int, now_ns: int) -> Grab:  # noqa: ANN401
        name = symbolics.get(buffer.pixel_format, f"{buffer.pixel_format:#010x}")
        padding = asked(lambda: buffer.padding_x, 0)
        captured_ns = self._clock.to_host(asked(lambda: buffer.timestamp_ns, 0), arrived_ns, now_ns)
        frame_id = asked(lambda: buffer.frame_id, None)
        if frame_id is None and "FrameID" in self._chunks:
            frame_id = asked(lambda: self.nodes.ChunkFrameID.value, None)
        exposure = "ExposureTime" in self._chunks
        return Grab(
            to_image(buffer.raw_buffer, name, buffer.width, buffer.height, padding=padding),
            frame_id,
            captured_ns,
            self._clock.is_exact,
            asked(lambda: float(self.nodes.ChunkExposureTime.value), None) if exposure else None,
        )


class _Counter(Callback):  # type: ignore[misc]
    """Counts incomplete frames, which harvesters gives back to the camera by itself."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def emit(self, context: object = None) -> None:  # noqa: ARG002 - harvesters' signature
        self._device.incomplete += 1


def _trigger(config: GenicamCamera, nodes: Any) -> Iterator[tuple[str, features.Value]]:  # noqa: ANN401
    """All triggers off but the one of a frame; a viewer program may have left others on."""
    mode, selector = (features.find(nodes, name) for name in ("TriggerMode", "TriggerSelector"))
    if config.trigger != "free-run" and mode is None:
        raise features.FeatureError('it has no trigger: set camera.trigger = "free-run" in station.toml')
    if selector is not None and "FrameStart" in selector.symbolics:
        for other in selector.symbolics:
            if other != "FrameStart":
                yield "TriggerSelector", other
                if genapi.is_writable(nodes.TriggerMode):
                    yield "TriggerMode", "Off"
        yield "TriggerSelector", "FrameStart"
    if config.trigger != "free-run":
        yield "TriggerMode", "On"
        yield "TriggerSource", "Software" if config.trigger == "software" else config.trigger_line
        return
    if mode is not None:
        yield "TriggerMode", "Off"
    if config.rate_hz is not None:
        if features.find(nodes, "AcquisitionFrameRateEnable") is not None:
            yield "AcquisitionFrameRateEnable", True
        yield "AcquisitionFrameRate", config.rate_hz


def _enable_chunks(nodes: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Ask for frame id and exposure with every frame, where the camera offers them."""
    selector = features.find(nodes, "ChunkSelector")
    if selector is None or features.find(nodes, "ChunkModeActive") is None:
        return ()
    offered = tuple(name for name in CHUNKS if name in selector.symbolics)
    if offered:
        features.write(nodes, "ChunkModeActive", True)
    for name in offered:
        features.write(nodes, "ChunkSelector", name)
        if genapi.is_writable(nodes.ChunkEnable):  # some send a chunk whether it is wanted or not
            features.write(nodes, "ChunkEnable", True)
    return offered


def _attempt(act: Callable[..., object], *arguments: object) -> None:
    """One step of a teardown that goes on whatever becomes of it: the camera may be gone."""
    with suppress(*GENICAM_ERRORS, AttributeError):
        act(*arguments)


def settings_of(config: GenicamCamera) -> list[tuple[str, str, str]]:
    """Name, value and what is allowed of every feature that the camera lets be read or written now; changes none.

    Raises:
        CameraError: the camera cannot be opened.
    """
    with Found(producer_files(config.producer)) as found:
        index, identity = found.choose(config)
        try:
            with found.harvester.create(index) as acquirer:
                return list(features.settings(acquirer.remote_device.node_map))
        except GENICAM_ERRORS as error:
            raise CameraError(f"camera {identity} cannot be read ({error})") from error
