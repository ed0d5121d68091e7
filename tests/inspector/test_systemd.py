"""The units are what systemd understands, and shut in as tightly as they can be."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SERVICE, BRIDGE, MQTT = "inspector-run@.service", "inspector-plc@.service", "inspector-mqtt@.service"
BINARY = "/opt/inspector/bin/inspector"

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists here, as verify asks for one."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(BINARY, "/bin/true"))
    return tmp_path


@needs_systemd
def test_the_units_are_verified(units: Path) -> None:
    done = analyze(
        "verify", "--man=no", "--recursive-errors=yes", SERVICE, BRIDGE, MQTT, "inspector.target", folder=units
    )
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_a_misspelt_key_would_not_pass(units: Path) -> None:
    text = (units / SERVICE).read_text()
    (units / SERVICE).write_text(text.replace("WatchdogSec=", "WatchdogSecs="))
    done = analyze("verify", "--man=no", "--recursive-errors=yes", SERVICE, folder=units)
    assert done.returncode != 0


@needs_systemd
@pytest.mark.parametrize("unit", [SERVICE, BRIDGE, MQTT])
def test_the_services_are_shut_in(units: Path, unit: str) -> None:
    done = analyze("security", "--offline=true", "--threshold=25", unit, folder=units)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "line", ["Type=notify", "WatchdogSec=2s", "WatchdogSignal=SIGABRT", "Restart=always", "RestartSec=500ms"]
)
def test_a_station_that_hangs_or_dies_is_started_again(line: str) -> None:
    assert line in (UNITS / SERVICE).read_text().splitlines()


@pytest.mark.parametrize(("unit", "command"), [(SERVICE, "run"), (BRIDGE, "plc"), (MQTT, "mqtt")])
def test_the_services_run_the_commands_that_there_are(unit: str, command: str) -> None:
    assert f"ExecStart={BINARY} {command} --station /etc/inspector/%i.toml" in (UNITS / unit).read_text().splitlines()
