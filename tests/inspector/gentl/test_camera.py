"""What a consumer finds, and what it sees: identity, regions, pixels, brightness, chunks, time."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.camera.gentl.stage import Stage

from .client import LOCKED, REFUSED, abandon, acquirer, configure, fetched, frame_ids, gentl, harvester, opened, process

WIDTH, HEIGHT = 48, 32
PICTURE = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = PICTURE[..., :1]
DEPTHS = {"Mono8": 8, "Mono10": 10, "Mono12": 12, "Mono16": 16, "Mono10p": 10, "Mono12p": 12}
BAYER = {"BayerRG": "RGGB", "BayerGR": "GRBG", "BayerGB": "GBRG", "BayerBG": "BGGR"}
FORMATS = [*DEPTHS, "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "BayerRG12", "RGB8", "BGR8"]


def deepened(samples: np.ndarray, depth: int) -> np.ndarray:
    """White stays white."""
    wide = samples.astype(np.uint16)
    return samples if depth == 8 else (wide << (depth - 8)) | (wide >> (16 - depth))


def mosaic(picture: np.ndarray, pattern: str) -> np.ndarray:
    samples = np.zeros(picture.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        y, x = divmod(place, 2)
        samples[y::2, x::2] = picture[y::2, x::2, "RGB".index(colour)]
    return samples


def image(picture: np.ndarray, pixel_format: str) -> np.ndarray:
    """What OpenCV and NumPy make of the picture."""
    colour = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
    if pixel_format in DEPTHS:
        return deepened(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), DEPTHS[pixel_format])
    if pixel_format.startswith("Bayer"):
        return deepened(mosaic(colour, BAYER[pixel_format[:7]]), int(pixel_format[7:]))
    return colour if pixel_format == "RGB8" else colour[..., ::-1]


def test_a_camera_is_listed_with_its_identity(producer: Path) -> None:
    with Stage("b", 16, 16), Stage("a", 16, 16, serial="4711", user_id="left"), harvester(producer) as consumer:
        first, second = consumer.device_info_list
        assert (first.id_, first.serial_number, first.user_defined_name) == ("simulated:a", "4711", "left")
        assert (first.vendor, first.model, first.tl_type) == ("Inspector", "Simulated camera", "Custom")
        assert first.display_name == "Inspector Simulated camera (a)"
        assert first.access_status == 1
        assert second.id_ == "simulated:b"


def test_it_says_the_same_of_itself(producer: Path) -> None:
    with Stage("a", 64, 32, serial="4711") as stage, acquirer(producer, "4711") as camera:
        nodes = camera.remote_device.node_map
        assert (nodes.DeviceVendorName.value, nodes.DeviceModelName.value) == ("Inspector", "Simulated camera")
        assert (nodes.DeviceSerialNumber.value, nodes.DeviceUserID.value) == ("4711", "a")
        assert (nodes.SensorWidth.value, nodes.SensorHeight.value) == (64, 32)
        assert (nodes.WidthMax.value, nodes.HeightMax.value) == (64, 32)
        assert camera.system.node_map.ModuleID.value == "inspector"
        assert camera.device.node_map.ModuleID.value == "simulated:a"
        nodes.DeviceUserID.value = "right"
        assert stage.user_id == "right"
        assert camera.device.user_defined_name == "right"


def test_every_feature_is_explained(producer: Path) -> None:
    with Stage("a", 16, 16) as stage, acquirer(producer, stage.serial) as camera:
        nodes = camera.remote_device.node_map
        features = [feature.node for category in nodes.Root.features for feature in category.features]
        assert len(features) > 35
        assert [node.name for node in features if not node.tooltip or not node.description] == []


def test_a_file_that_is_no_running_stage_is_no_camera(producer: Path, stages: Path) -> None:
    (stages / "short.stage").write_bytes(b"INSPSTGE")
    (stages / "foreign.stage").write_bytes(bytes(1 << 16))
    process("from inspector.camera.gentl.stage import Stage\nStage('dead', 16, 16).__enter__(); os._exit(1)")
    with Stage("a", 16, 16), harvester(producer) as consumer:
        assert [info.id_ for info in consumer.device_info_list] == ["simulated:a"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_as_the_standard_has_them(producer: Path, channels: int) -> None:
    picture = PICTURE if channels == 3 else GREY
    with (
        Stage("a", WIDTH, HEIGHT, channels=channels) as stage,
        acquirer(producer, stage.serial) as camera,
    ):
        for pixel_format in FORMATS:
            configure(camera, PixelFormat=pixel_format)
            stage.show(picture, 1)
            camera.start()
            expected = image(picture, pixel_format)
            samples = fetched(camera)
            camera.stop()
            assert samples is not None
            assert np.array_equal(samples.reshape(expected.shape), expected), pixel_format


def test_a_deep_format_holds_the_picture_in_its_high_bits(producer: Path) -> None:
    with Stage("a", WIDTH, HEIGHT, channels=1) as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, PixelFormat="Mono12")
        stage.show(GREY, 1)
        camera.start()
        assert np.array_equal(fetched(camera) >> 4, GREY.ravel())


def test_a_region_is_cut_out(producer: Path) -> None:
    with Stage("a", WIDTH, HEIGHT) as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, PixelFormat="BayerRG8", Width=20, Height=18, OffsetX=8, OffsetY=4)
        stage.show(PICTURE, 1)
        camera.start()
        buffer = camera.try_fetch(timeout=5)
        component = buffer.payload.components[0]
        expected = image(PICTURE, "BayerRG8")[4:22, 8:28]
        assert (component.width, component.height, component.x_offset, component.y_offset) == (20, 18, 8, 4)
        assert np.array_equal(component.data.reshape(18, 20), expected)


def test_a_region_stays_on_the_sensor(producer: Path) -> None:
    with Stage("a", 64, 32) as stage, acquirer(producer, stage.serial) as camera:
        nodes = camera.remote_device.node_map
        assert (nodes.Width.min, nodes.Width.max, nodes.Width.inc) == (16, 64, 4)
        assert (nodes.Height.min, nodes.Height.max, nodes.Height.inc) == (16, 32, 2)
        assert (nodes.OffsetX.max, nodes.OffsetY.max) == (0, 0)
        configure(camera, Width=24, Height=16)
        assert (nodes.OffsetX.max, nodes.OffsetX.inc, nodes.OffsetY.max, nodes.OffsetY.inc) == (40, 4, 16, 2)
        configure(camera, OffsetX=12)
        assert nodes.Width.max == 52
        for name, value in (("Width", 56), ("Width", 22), ("Height", 17), ("OffsetX", 2), ("OffsetX", 44)):
            with pytest.raises(REFUSED):
                configure(camera, **{name: value})


def test_the_payload_is_locked_while_it_acquires(producer: Path) -> None:
    with Stage("a", 64, 32) as stage, acquirer(producer, stage.serial) as camera:
        camera.start()
        for name, value in (("Width", 32), ("OffsetX", 0), ("PixelFormat", "Mono8"), ("ChunkModeActive", True)):
            with pytest.raises(LOCKED):
                configure(camera, **{name: value})
        configure(camera, ExposureTime=100.0, Gain=3.0, TriggerMode="On")
        camera.stop()
        configure(camera, Width=32)


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12p", "BGR8"])
def test_padded_lines(producer: Path, pixel_format: str) -> None:
    with Stage("a", WIDTH, HEIGHT) as stage, acquirer(producer, stage.serial) as camera:
        stage.line_padding = 5
        configure(camera, PixelFormat=pixel_format)
        stage.show(PICTURE, 1)
        camera.start()
        raw = camera.try_fetch(timeout=5, is_raw=True)
        lines = np.frombuffer(raw.raw_buffer, np.uint8).reshape(HEIGHT, -1).copy()
        assert raw.padding_x == 5
        assert (lines[:, -5:] == 0xFF).all()
        raw.parent.queue_buffer(raw)
        camera.stop()
        stage.line_padding = 0
        stage.show(PICTURE, 1)
        camera.start()
        raw = camera.try_fetch(timeout=5, is_raw=True)
        assert np.array_equal(np.frombuffer(raw.raw_buffer, np.uint8).reshape(HEIGHT, -1), lines[:, :-5])


@pytest.mark.parametrize(
    ("exposure_us", "gain_db"),
    [(5000, 0), (2500, 0), (10, 0), (7500, 0), (12345, 0), (2500, 6.0206), (1000, 24), (60000, 24)],
)
def test_brightness_is_linear_and_saturates(producer: Path, exposure_us: float, gain_db: float) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with Stage("a", 16, 16, channels=1) as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, ExposureTime=float(exposure_us), Gain=float(gain_db))
        stage.show(ramp, 1)
        camera.start()
        seen = fetched(camera)
        assert seen is not None
        ideal = np.minimum(np.arange(256) * exposure_us / 5000 * 10 ** (gain_db / 20), 255)
        assert np.abs(seen - ideal).max() <= 1.01
        assert seen[0] == 0
        assert (np.diff(seen.astype(int)) >= 0).all()


def test_a_frame_carries_its_chunks(producer: Path) -> None:
    with Stage("a", WIDTH, HEIGHT) as stage, acquirer(producer, stage.serial) as camera:
        nodes = camera.remote_device.node_map
        plain = nodes.PayloadSize.value
        configure(camera, ChunkModeActive=True, ExposureTime=2500.0, PixelFormat="BGR8")
        assert nodes.PayloadSize.value == plain + 24
        for _ in range(3):
            stage.show(PICTURE, 1)
        camera.start()
        for frame_id in (1, 2, 3):
            buffer = camera.try_fetch(timeout=5)
            assert (nodes.ChunkFrameID.value, nodes.ChunkExposureTime.value) == (frame_id, 2500.0)
            assert nodes.ChunkTimestamp.value == buffer.timestamp_ns
            assert buffer.payload.components[0].data.size == plain
            buffer.queue()


def test_only_the_chunks_that_are_enabled(producer: Path) -> None:
    with Stage("a", WIDTH, HEIGHT) as stage, acquirer(producer, stage.serial) as camera:
        nodes = camera.remote_device.node_map
        plain = nodes.PayloadSize.value
        configure(camera, ChunkModeActive=True, ChunkSelector="FrameID", ChunkEnable=False)
        configure(camera, ChunkSelector="Timestamp")
        assert nodes.ChunkEnable.value
        assert nodes.PayloadSize.value == plain + 16
        stage.show(PICTURE, 1)
        camera.start()
        buffer = camera.try_fetch(timeout=5)
        assert nodes.ChunkTimestamp.value == buffer.timestamp_ns
        with pytest.raises(REFUSED):
            _ = nodes.ChunkFrameID.value


def test_frames_carry_the_time_of_their_exposure(producer: Path) -> None:
    with Stage("a", WIDTH, HEIGHT) as stage, acquirer(producer, stage.serial) as camera:
        stage.clock_offset_ns = 5 * 10**15
        stage.clock_ppm = 200
        before_ns = time.monotonic_ns()
        for _ in range(4):
            stage.show(PICTURE, 1)
        camera.start()
        seen = []
        for _ in range(4):
            buffer = camera.try_fetch(timeout=5)
            seen.append((buffer.frame_id, buffer.timestamp_ns))
            buffer.queue()
        truth = stage.exposures()
        assert [(exposure.frame_id, exposure.part) for exposure in truth] == [(1, 0), (2, 1), (3, 2), (4, 3)]
        assert all(before_ns < exposure.exposed_ns < time.monotonic_ns() for exposure in truth)
        for (frame_id, timestamp_ns), exposure in zip(seen, truth, strict=True):
            assert frame_id == exposure.frame_id
            assert abs(timestamp_ns - stage.camera_ns(exposure.exposed_ns)) <= 1


def test_the_clock_can_be_latched(producer: Path) -> None:
    with Stage("a", 16, 16) as stage, acquirer(producer, stage.serial) as camera:
        nodes = camera.remote_device.node_map
        stage.clock_offset_ns = -(10**9)
        before_ns = time.monotonic_ns()
        nodes.TimestampLatch.execute()
        after_ns = time.monotonic_ns()
        latched = nodes.TimestampLatchValue.value
        assert stage.camera_ns(before_ns) <= latched <= stage.camera_ns(after_ns)
        assert nodes.TimestampLatchValue.value == latched


def test_two_cameras_do_not_mix(producer: Path) -> None:
    with (
        Stage("a", WIDTH, HEIGHT, channels=1) as first,
        Stage("b", 16, 16, channels=1) as second,
        harvester(producer) as consumer,
        opened(consumer, first.serial) as large,
        opened(consumer, second.serial) as small,
    ):
        for stage, side in ((first, (HEIGHT, WIDTH)), (second, (16, 16))):
            for number in range(3):
                stage.show(np.full(side, 100 * (stage is second) + number, np.uint8), 1)
        large.start()
        small.start()
        for number in range(3):
            assert (fetched(small) == 100 + number).all()
            assert (fetched(large) == number).all()
        for stage in (first, second):
            assert [exposure.frame_id for exposure in stage.exposures()] == [1, 2, 3]
        second.present = False
        first.show(GREY, 1)
        assert frame_ids(large, 1) == [4]
        abandon(small)


def test_a_camera_serves_one_process_at_a_time(producer: Path) -> None:
    script = (
        "import sys\n"
        "with harvester(Path(sys.argv[1])) as consumer:\n"
        "    print(consumer.device_info_list[0].access_status)\n"
        "    try:\n        consumer.create(0)\n    except gentl.ResourceInUseException:\n        print('in use')\n"
        "    else:\n        print('mine'); os._exit(1)"
    )
    with Stage("a", 16, 16) as stage, harvester(producer) as consumer:
        with opened(consumer, stage.serial):
            assert consumer.device_info_list[0].access_status == 5
            assert process(script, str(producer)).stdout.split("\n")[:2] == ["4", "in use"]
            with pytest.raises(gentl.ResourceInUseException):
                consumer.create(0)
        assert process(script, str(producer)).stdout.split() == ["1", "mine"]  # and dies with it open
        with opened(consumer, stage.serial):
            assert stage.counters.opens == 3
