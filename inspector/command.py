"""What the commands share: a known error ends one in one clear text, and results have a place before work begins."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

JsonFile = Annotated[Path | None, typer.Option("--json", help="write the figures there", dir_okay=False)]
_EXTRA_OF = {  # the others: train
    "pymodbus": "plc", "asyncua": "opcua", "snap7": "s7", "pylogix": "ethernet-ip", "paho": "mqtt", "google": "mqtt",
}  # fmt: skip
EXTRAS = frozenset(
    {"torch", "safetensors", "onnx", "onnxscript", "scipy", "sklearn", "jinja2", "matplotlib", *_EXTRA_OF}
)

P = ParamSpec("P")


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command end a known error as one clear text in red and exit code 2; anything else is a bug and shows."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        with _errors_as_text():
            command(*args, **kwargs)

    return guarded


def make_parent(file: Path | None) -> None:
    """Find out before long work, not after it, whether its result has a place."""
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _errors_as_text() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        extra = _EXTRA_OF.get(package, "train")
        text = f"{error.name} is not installed here: this command needs pip install -e '.[{extra}]'"
        typer.secho(text, fg="red", err=True)
        raise typer.Exit(2) from error
    except _known_errors() as error:
        Console(stderr=True, highlight=False).print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(2) from error


def _known_errors() -> tuple[type[Exception], ...]:
    """The errors whose text tells a person what to do; looked up only once one is on its way."""
    from inspector.bench import BenchError
    from inspector.bundle import BundleError
    from inspector.bus import BusError
    from inspector.camera import CameraError
    from inspector.curve import CurveError
    from inspector.demo import DemoError
    from inspector.engine import EngineError
    from inspector.image_file import ImageFileError
    from inspector.journal import JournalError
    from inspector.messages import MessageError
    from inspector.mqtt import MqttError
    from inspector.plc import PlcPortError
    from inspector.station import StationError

    known: tuple[type[Exception], ...] = (
        ImageFileError, JournalError, MessageError, MqttError, PlcPortError, StationError, BundleError, CameraError,
        EngineError, BusError, CurveError, BenchError, DemoError, OSError,
    )  # fmt: skip
    if "inspector.stress.rig" in sys.modules:
        from inspector.stress.rig import StressError

        known += (StressError,)
    if "inspector.plc.campaign_station" in sys.modules:
        from inspector.plc.campaign_station import CampaignError

        known += (CampaignError,)
    if "models.data" in sys.modules:
        from models.data import DataError

        known += (DataError,)
    if "models.benchmark" in sys.modules:
        from models.benchmark import BenchmarkError

        known += (BenchmarkError,)
    if "export.parity" in sys.modules:
        from export.parity import ParityError

        known += (ParityError,)
    if "models.loop" in sys.modules:
        known += (FloatingPointError,)
    return known
