"""The `[camera]` tables of station.toml. Knows no device."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from inspector.table import BesideFile, Table, beside

SIMULATED_PRODUCER = Path("simulator")  # stands for the GenTL producer that comes with Inspector


class FolderCamera(Table):
    """Replays a folder of images."""

    kind: Literal["folder"] = Field(title="Kind", description="replays images from a folder")
    folder: BesideFile = Field(title="Folder", description="of png, jpg, bmp or tif images, replayed sorted by name")
    rate_hz: float | None = Field(None, gt=0, title="Rate", description="parts a second; absent: as fast as it goes")
    loop: bool = Field(False, title="Loop", description="start again after the last image instead of ending")
    trigger: Literal["free-run", "software"] = Field(
        "free-run", title="Trigger", description="software: an image for each part that the PLC announces"
    )


class SimulatedCamera(Table):
    """The rendered demo line, for a station without a camera."""

    kind: Literal["simulator"] = Field(title="Kind", description="renders the demo product")
    rate_hz: float = Field(2.0, gt=0, title="Rate", description="parts a second")
    fault_rate: float = Field(0.2, ge=0, le=1, title="Fault rate", description="share of anomalous parts")
    seed: int = Field(0, ge=0, title="Seed", description="the same seed renders the same parts")
    parts: int | None = Field(None, gt=0, title="Parts", description="end after so many parts; absent: never")


class GenicamCamera(Table):
    """An industrial camera behind its maker's GenTL producer, or the simulated one."""

    kind: Literal["genicam"]
    producer: Path | None = Field(
        None,
        title="Producer",
        description=".cti file of the camera's maker, or simulator; absent: GENICAM_GENTL64_PATH",
    )
    serial: str | None = Field(None, title="Serial number", description="of the camera; absent: the only one there is")
    user_id: str | None = Field(None, title="User id", description="the name that somebody gave to the camera")
    ip: str | None = Field(None, title="IP address", description="of a network camera")
    trigger: Literal["hardware", "software", "free-run"] = Field(
        "hardware", title="Trigger", description="what exposes a part: an input line, the station, the camera itself"
    )
    trigger_line: str = Field("Line0", title="Trigger line", description="the camera's input, its TriggerSource")
    rate_hz: float | None = Field(
        None,
        gt=0,
        title="Rate",
        description="parts a second, triggered or in free run; absent: as they are asked for",
    )
    timeout_ms: float = Field(
        1000, gt=0, title="Time-out", description="a frame that comes later after its trigger is lost"
    )
    region: tuple[int, int, int, int] | None = Field(
        None, title="Region", description="x, y, width, height in pixels of the sensor; absent: as the camera has it"
    )
    buffers: int = Field(8, ge=2, le=256, title="Buffers", description="frames that wait while the station is busy")
    features: dict[str, bool | int | float | str] = Field(
        default_factory=dict, title="Features", description="the camera's settings by their SFNC names"
    )

    @field_validator("producer")
    @classmethod
    def _beside_the_file(cls, producer: Path | None, info: ValidationInfo) -> Path | None:
        return producer if producer in {None, SIMULATED_PRODUCER} else beside(producer, info)


class VideoCamera(Table):
    """A video file, or an ordinary USB camera: to try things at a desk."""

    kind: Literal["video"]
    file: BesideFile | None = Field(None, title="File", description="video to replay")
    device: int | None = Field(None, ge=0, title="Device", description="number of the USB camera, 0 is the first")
    rate_hz: float | None = Field(None, gt=0, title="Rate", description="frames a second; absent: the source's own")
    loop: bool = Field(False, title="Loop", description="start the file again after its last frame")

    @model_validator(mode="after")
    def _one_source(self) -> "VideoCamera":
        if (self.file is None) == (self.device is None):
            raise ValueError("a video camera needs either file or device")
        return self


CameraConfig = GenicamCamera | VideoCamera | FolderCamera | SimulatedCamera
