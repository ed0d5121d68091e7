"""station.toml is right, or an error names the file, the key, the line and what to do."""

from pathlib import Path

import pytest

from inspector.camera.settings import FolderCamera, SimulatedCamera
from inspector.station import Station, StationError, curve_of, recipe_of
from inspector.station_file import load_station

GOOD = """
name = "line1"
deadline_ms = 100
[camera]
kind = "folder"
folder = "images"
[recipe]
name = "tray"
bundle = "tray.bundle"
"""


def load(folder: Path, text: str) -> Station:
    (folder / "station.toml").write_text(text)
    return load_station(folder / "station.toml")


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    station = load(tmp_path, GOOD)
    assert isinstance(station.camera, FolderCamera)
    assert station.camera.folder == tmp_path / "images"
    assert station.recipe.bundle == tmp_path / "tray.bundle"
    assert station.bus.result == f"ipc://{tmp_path}/runs/line1/result"


def test_the_shipped_station_runs_the_simulated_line() -> None:
    station = load_station(Path(__file__).parents[2] / "station.toml")
    assert isinstance(station.camera, SimulatedCamera)
    assert station.recipe.bundle.parts[-2:] == ("demo", "kit_tray.bundle")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"images"', '"images"\nrate_hz = -3', "camera.rate_hz: must be greater than 0 (got -3) (line 7)"),
        ('folder = "images"', 'foldr = "images"', "camera.foldr: is not a known key: did you mean folder? (line 6)"),
        ('folder = "images"', "", "camera.folder: is missing"),
        ('kind = "folder"', "", 'camera: kind is missing: set kind = "genicam", "video"'),
        ('kind = "folder"', 'kind = "gige"', "'gige'"),
        ("deadline_ms = 100", "deadline_ms = 0", "deadline_ms: must be greater than 0 (got 0) (line 3)"),
        ("deadline_ms = 100", "deadline_ms = inf", "deadline_ms: must be a finite number"),
        ('name = "line1"', 'name = "../x"', "name: may hold only letters"),
        ('name = "tray"', 'name = "tray"\nthreshold = nan', "recipe.threshold: must be a finite number"),
        ("deadline_ms = 100", 'deadline_ms = 100\nengine = "magic"', "engine: must be 'onnxruntime-cpu'"),
        ("[recipe]", '[bus]\nresult = "tcp://10.0.0.1:5555"\n[recipe]', "bus.result is tcp://, which needs keys"),
        ("[recipe]", '[bus]\nview = "tcp://127.0.0.1:5555"\n[recipe]', "bus.view is tcp://, which needs keys"),
        ("[recipe]", '[bus]\nview = "tcp://localhost:5555"\n[recipe]', "bus.view: must be ipc://PATH, or tcp://ADDRESS"),
        ("[recipe]", '[curve]\nclients = "keys"\n[recipe]', "curve.private_key: is missing"),
        ("[recipe]", '[bus]\nresult = "tcp://*:5555"\n[recipe]', "bus.result: must be ipc://PATH"),
        ("[recipe]", '[bus]\nresult = "ipc://a"\nview = "ipc://a"\n[recipe]', "five different endpoints"),
        ("[recipe]", "[recipe", "is not valid TOML"),
        ("deadline_ms = 100", "bus = 3\ndeadline_ms = 100", "bus: must be"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named(tmp_path: Path, before: str, after: str, says: str) -> None:
    with pytest.raises(StationError) as caught:
        load(tmp_path, GOOD.replace(before, after))
    assert str(caught.value).startswith(f"{tmp_path / 'station.toml'}: ")
    assert says in str(caught.value)


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(StationError) as caught:
        load(tmp_path, GOOD.replace("deadline_ms = 100", "").replace("bundle", "bundel"))
    assert len(str(caught.value).splitlines()) == 3


SECOND = """
[[recipes]]
name = "lid"
bundle = "lid.bundle"
number = 2
"""


def test_a_station_may_have_several_recipes(tmp_path: Path) -> None:
    station = load(tmp_path, GOOD + SECOND)
    assert [recipe.number for recipe in station.all_recipes] == [1, 2]
    assert recipe_of(station, 2).bundle == tmp_path / "lid.bundle"
    with pytest.raises(StationError, match=r"has no recipe 3: it has 1 \(tray\), 2 \(lid\); add \[\[recipes\]\]"):
        recipe_of(station, 3)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("number = 2", "number = 1", "recipe number 1 is there twice"),
        ("number = 2", "", "recipe number 1 is there twice"),
        ("number = 2", "nummer = 2", "recipes.0.nummer: is not a known key: did you mean number? (line 14)"),
        ('name = "lid"', "", "recipes.0.name: is missing"),
    ],
)
def test_a_wrong_key_of_another_recipe_is_named(tmp_path: Path, before: str, after: str, says: str) -> None:
    with pytest.raises(StationError) as caught:
        load(tmp_path, GOOD + SECOND.replace(before, after))
    assert says in str(caught.value)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555", "tcp://[::1]:5555"])
def test_other_machines_may_be_let_in_with_keys(tmp_path: Path, endpoint: str) -> None:
    curve = '[curve]\nprivate_key = "keys/station.key_secret"\nclients = "keys/clients"\n'
    station = load(tmp_path, GOOD + f'[bus]\nresult = "{endpoint}"\n' + curve)
    assert station.bus.result == endpoint
    assert curve_of(station).clients == tmp_path / "keys" / "clients"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"none\.toml: cannot be read"):
        load_station(tmp_path / "none.toml")


def test_a_station_is_frozen_and_every_field_explains_itself(tmp_path: Path) -> None:
    station = load(tmp_path, GOOD)
    for model in (Station, type(station.camera), SimulatedCamera, type(station.recipe), type(station.bus)):
        assert model.model_config["frozen"]
        for name, field in model.model_fields.items():
            assert field.title, name
            assert field.description, name


S7 = '[plc]\nprotocol = "s7"\nhost = "192.168.0.1"\n[plc.s7]\n'


@pytest.mark.parametrize(
    ("plc", "port"),
    [
        ('[plc]\nprotocol = "modbus-client"\nhost = "192.168.0.1"\n[plc.modbus_client]\n', 502),
        (S7 + "db = 100\npoll_ms = 50\n", 102),
        ('[plc]\nprotocol = "ethernet-ip"\nhost = "192.168.0.1"\n[plc.ethernet_ip]\n', 44818),
    ],
)
def test_a_plc_may_be_the_server(tmp_path: Path, plc: str, port: int) -> None:
    station = load(tmp_path, GOOD + plc)
    assert station.plc is not None
    assert station.plc.client is not None
    assert station.plc.tcp_port == port
    assert load(tmp_path, GOOD + plc.replace("[plc]", "[plc]\nport = 2000")).plc.tcp_port == 2000  # type: ignore[union-attr]
    for name, field in type(station.plc.client).model_fields.items():
        assert field.title, name
        assert field.description, name


@pytest.mark.parametrize(
    ("plc", "says"),
    [
        ('[plc]\nprotocol = "s7"\nhost = "h"\n', 'plc: protocol = "s7" and [plc.s7] belong together'),
        ('[plc]\nprotocol = "modbus"\n[plc.s7]\ndb = 1\n', 'plc: protocol = "s7" and [plc.s7] belong together'),
        ('[plc]\nprotocol = "s7"\n[plc.s7]\ndb = 1\n', 'plc: protocol = "s7" needs host'),
        (S7, "plc.s7.db: is missing"),
        (S7 + "dbb = 1\n", "plc.s7.dbb: is not a known key: did you mean db? (line 14)"),
        (S7 + "db = 1\nto_station = 1\n", "plc.s7.to_station: must be a multiple of 2"),
        (S7 + "db = 1\nfrom_station = 36\n", "to_station (0, 38 bytes) and from_station (36, 80 bytes) overlap"),
        (S7 + "db = 1\npoll_ms = 51\n", "poll_ms = 51 in [plc] is over half of expose_within_ms = 100"),
        (S7.replace("s7", "modbus-client").replace("[plc.modbus-client]", "[plc.modbus_client]\nto_station = 82"),
         "to_station (82, 19 registers) and from_station (100, 40 registers) overlap"),
        (S7.replace("s7", "ethernet-ip").replace("[plc.ethernet-ip]", '[plc.ethernet_ip]\nto_station = "A[0]"'),
         "plc.ethernet_ip.to_station: must be the name of a tag, without an index"),
        (S7.replace("s7", "ethernet-ip").replace("[plc.ethernet-ip]", '[plc.ethernet_ip]\nto_station = "FromStation"'),
         "must be two tags"),
    ],
)  # fmt: skip
def test_a_plc_that_cannot_be_reached_is_refused(tmp_path: Path, plc: str, says: str) -> None:
    with pytest.raises(StationError) as caught:
        load(tmp_path, GOOD + plc)
    assert says in str(caught.value)
