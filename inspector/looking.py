"""Commands around cameras: which there are, what they see, images to learn from, a simulated one, what they bear."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from inspector.command import make_parent, plainly
from inspector.terminal import progress_bars

if TYPE_CHECKING:
    from inspector.bundle import Bundle
    from inspector.camera.settings import CameraConfig

app = typer.Typer()
CAMERAS = "Cameras"

StationOption = Annotated[
    Path | None, typer.Option("--station", help="take the camera of this station's file", exists=True, dir_okay=False)
]
Producer = Annotated[
    Path | None,
    typer.Option(help="a camera maker's .cti file, or [b]simulator[/b]; without it, all on GENICAM_GENTL64_PATH"),
]
Serial = Annotated[str | None, typer.Option(help="of the camera, where there are several")]
Usb = Annotated[int | None, typer.Option(help="number of an ordinary USB camera, 0 is the first")]
Video = Annotated[Path | None, typer.Option(help="a video file, or a folder of images", exists=True)]


@app.command(rich_help_panel=CAMERAS, epilog="Example: inspector cameras --station line1.toml --live")
@plainly
def cameras(
    station: StationOption = None,
    producer: Producer = None,
    serial: Serial = None,
    usb: Usb = None,
    video: Video = None,
    live: Annotated[bool, typer.Option("--live", help="show picture, rate, losses and exposure until Ctrl-C")] = False,
    features: Annotated[
        bool, typer.Option("--features", help="list the camera's settings, their values and what they take")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="end --live after so long")] = None,
) -> None:
    """List the cameras that are found, or look through one of them."""
    from inspector.camera import CameraError
    from inspector.camera.discovery import apart, list_cameras
    from inspector.camera.settings import GenicamCamera
    from inspector.cameras import show_features, show_live, table_of
    from inspector.service import stop_signals

    console = Console()
    if not live and not features:
        if serial is not None or usb is not None or video is not None:
            raise CameraError("say what to do with this camera: --live or --features; without both, all are listed")
        console.print(table_of(apart(list_cameras, _producer(station, producer))))
        return
    config = _camera(station, producer=producer, serial=serial, usb=usb, video=video)
    if features:
        if not isinstance(config, GenicamCamera):
            raise CameraError("only GenICam cameras have features: this camera is none")
        show_features(config, console)
    if live:
        with stop_signals() as stop:
            show_live(config, console, stop, seconds)


@app.command(rich_help_panel=CAMERAS, epilog="Example: inspector capture images/cap --count 100 --station line1.toml")
@plainly
def capture(
    dataset: Annotated[Path, typer.Argument(help="folder of the product's images; made when it is not there")],
    count: Annotated[int, typer.Option(help="how many images to keep", min=1)] = 100,
    into: Annotated[
        str, typer.Option(help="where in the dataset: train/good, validation/good, test/TYPE")
    ] = "train/good",
    every: Annotated[float, typer.Option(help="least seconds between two images", min=0)] = 0.0,
    keep_all: Annotated[bool, typer.Option("--all", help="keep blurred and repeated ones, too")] = False,
    station: StationOption = None,
    producer: Producer = None,
    serial: Serial = None,
    usb: Usb = None,
    video: Video = None,
) -> None:
    """Collect images of good parts to learn from, with a preview; blurred and repeated ones are left out.

    Without a camera named, that of station.toml is taken. What the dataset holds already stays.
    """
    from inspector.capture import capture as collect
    from inspector.service import stop_signals

    config = _camera(station, producer=producer, serial=serial, usb=usb, video=video)
    console = Console()
    with stop_signals() as stop:
        done = collect(config, dataset / into, console, count=count, every_s=every, keep_all=keep_all, stop=stop)
    exposed = f"; {done.advised} of them are badly exposed" if done.advised else ""
    console.print(f"{dataset / into}: {done}{exposed}", soft_wrap=True)


@app.command(rich_help_panel=CAMERAS, epilog="Example: inspector simulate images/cap/test --rate 5")
@plainly
def simulate(
    folder: Annotated[
        Path | None, typer.Argument(help="images to show; without it, the rendered kit tray", exists=True)
    ] = None,
    rate: Annotated[float, typer.Option(help="parts a second", min=0.01)] = 2.0,
    name: Annotated[str, typer.Option(help="the camera's serial number")] = "SIM-1",
    fault_rate: Annotated[float, typer.Option(help="share of faulty kit trays", min=0, max=1)] = 0.2,
    seed: Annotated[int, typer.Option(help="the same seed renders the same kit trays", min=0)] = 0,
    parts: Annotated[int | None, typer.Option(help="end after so many parts", min=1)] = None,
) -> None:
    """Be a GenICam camera with parts passing in front of it, until Ctrl-C; any station can open it meanwhile.

    It comes with a GenTL producer of its own, so that everything but the light is real. Images from a folder and the
    folders under it are shown sorted by name, again and again, all in the size of the first.
    """
    from itertools import chain, count, islice

    from inspector.camera.gentl import producer_file
    from inspector.camera.gentl.stage import Stage
    from inspector.camera.simulator import SimulatedLine
    from inspector.service import stop_signals
    from inspector.simulate import SNIPPET, pass_by, pictures_in

    if folder is not None:
        pictures = pictures_in(folder)
    else:
        line = SimulatedLine(rate_hz=rate, fault_rate=fault_rate, seed=seed)
        pictures = (line.picture(number) for number in count())
    first = next(pictures)
    height, width, channels = first.shape
    console = Console()
    with Stage(name, width, height, channels=channels, serial=name) as stage, stop_signals() as stop:
        console.print(f"camera {name}, {width} x {height}, is there; producer {producer_file()}\nfor station.toml:\n")
        console.print(SNIPPET.format(serial=name), highlight=False, markup=False)
        exposed = pass_by(stage, islice(chain([first], pictures), parts), rate_hz=rate, stop=stop)
    console.print(f"{exposed} parts exposed")


stress = typer.Typer(help="Measure what the camera path bears, with the simulated camera; figures as JSON.")
app.add_typer(stress, name="stress", rich_help_panel=CAMERAS)
JsonOut = Annotated[Path | None, typer.Option("--json", help="write the figures there, too", dir_okay=False)]


@stress.command(epilog="Example: inspector stress speed --json speed.json")
@plainly
def speed(
    bundle: Annotated[Path | None, typer.Argument(help="trained model; without it, one with random weights")] = None,
    triggers: Annotated[int, typer.Option(help="software triggers to time; p99.9 needs 1000", min=10)] = 1000,
    json: JsonOut = None,
) -> None:
    """Frames a second, processor time a frame, trigger to image, and what a camera costs the inference beside it."""
    from tempfile import TemporaryDirectory

    from inspector.bundle import load_bundle
    from inspector.stress.speed import speed as measure

    make_parent(json)
    with TemporaryDirectory(prefix="inspector-stress-") as folder, progress_bars() as progress:
        loaded = load_bundle(bundle) if bundle else _untrained(Path(folder))
        rows = measure(loaded, progress, triggers=triggers)
    _print_json(rows, json)


@stress.command(epilog="Example: inspector stress soak --frames 200000")
@plainly
def soak(frames: Annotated[int, typer.Option(help="how many", min=2000)] = 200_000, json: JsonOut = None) -> None:
    """Run for long: some frames are lost or incomplete, every one is accounted for, and memory must stay flat."""
    from inspector.stress.soak import soak as measure

    make_parent(json)
    with progress_bars() as progress:
        rows = [measure(frames, progress)]
    _print_json(rows, json)


@stress.command(epilog="Example: inspector stress loss --cycles 100")
@plainly
def loss(cycles: Annotated[int, typer.Option(help="how many losses", min=4)] = 100, json: JsonOut = None) -> None:
    """Lose the camera and get it back: unplugged, stalled, hanging, crashed in turn. No verdict may be invented."""
    from inspector.stress.loss import loss as measure

    make_parent(json)
    with progress_bars() as progress:
        rows = measure(cycles, progress)
    _print_json(rows, json)


@stress.command("plc", epilog="Example: inspector stress plc --parts 10000")
@plainly
def plc_latency(
    bundle: Annotated[Path | None, typer.Argument(help="inspect with it; without it, a fixed delay")] = None,
    parts: Annotated[int, typer.Option(help="parts to trigger; p99.9 needs 1000", min=10)] = 10_000,
    delay: Annotated[float, typer.Option(help="milliseconds of the fixed delay", min=0)] = 20.0,
    untrained: Annotated[bool, typer.Option("--untrained", help="inspect with a model of random weights")] = False,
    json: JsonOut = None,
) -> None:
    """Trigger to result where the PLC is, over Modbus; a pass without an accept in the journal is an error."""
    from tempfile import TemporaryDirectory

    from inspector.bundle import load_bundle
    from inspector.plc.campaign import latency

    make_parent(json)
    with TemporaryDirectory(prefix="inspector-stress-") as folder, progress_bars() as progress:
        loaded = load_bundle(bundle) if bundle else _untrained(Path(folder)) if untrained else None
        rows = [latency(parts, progress, delay_ms=delay, bundle=loaded)]
    _print_json(rows, json)


@stress.command("faults", epilog="Example: inspector stress faults --parts 20000")
@plainly
def plc_faults(
    parts: Annotated[int, typer.Option(help="parts to trigger", min=10)] = 20_000,
    seed: Annotated[int, typer.Option(help="of the faults", min=0)] = 0,
    run_on: Annotated[bool, typer.Option("--run-on", help="the belt goes on while the PLC is not ready")] = False,
    json: JsonOut = None,
) -> None:
    """Kill, stop, disconnect, fill the disk, turn the clock while parts pass; none may without a journalled accept."""
    from inspector.plc.campaign import faults

    make_parent(json)
    with progress_bars() as progress:
        rows = [faults(parts, progress, seed=seed, run_on=run_on)]
    _print_json(rows, json)


def _untrained(folder: Path) -> "Bundle":
    from export.untrained import untrained_bundle
    from inspector.stress.rig import HEIGHT, WIDTH

    return untrained_bundle(folder, height=HEIGHT, width=WIDTH)


def _print_json(rows: list[dict[str, object]], file: Path | None) -> None:
    from json import dumps

    text = dumps(rows, indent=2)
    typer.echo(text)
    if file:
        file.write_text(text + "\n", encoding="utf-8")


def _producer(station: Path | None, producer: Path | None) -> Path | None:
    from inspector.camera.settings import GenicamCamera
    from inspector.station_file import load_station

    camera = load_station(station).camera if station and producer is None else None
    return camera.producer if isinstance(camera, GenicamCamera) else producer


def _camera(
    station: Path | None, *, producer: Path | None, serial: str | None, usb: int | None, video: Path | None
) -> "CameraConfig":
    """The camera that the options name; without any, that of the station's file."""
    from inspector.camera.settings import FolderCamera, GenicamCamera, VideoCamera
    from inspector.station_file import load_station

    if usb is not None:
        return VideoCamera(kind="video", device=usb)
    if video is not None:
        return FolderCamera(kind="folder", folder=video) if video.is_dir() else VideoCamera(kind="video", file=video)
    named = {key: value for key, value in {"producer": producer, "serial": serial}.items() if value is not None}
    if named and station is None:
        return GenicamCamera.model_validate({"kind": "genicam", "trigger": "free-run"} | named)
    camera = load_station(station or Path("station.toml")).camera
    return camera.model_copy(update=named) if isinstance(camera, GenicamCamera) else camera
