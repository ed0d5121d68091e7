"""One command, `inspector`. Bodies import lazily: `--help` needs no runtime, and a station needs no torch."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from inspector import imagining, judging, learning, looking
from inspector.command import JsonFile, make_parent, plainly

app = typer.Typer(
    name="inspector",
    help="Inspects every part on a line: learns a product from good images, accepts or rejects in real time.",
    epilog="Start with: inspector demo   ·   then: inspector check, inspector run, inspector watch",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(looking.app)  # without a name: its commands are this one's, after those below
app.add_typer(learning.app)
app.add_typer(imagining.app)
app.add_typer(judging.app)

STATION = "Station"

StationFile = Annotated[Path, typer.Option("--station", help="the station's file", show_default=True)]
DEFAULT_STATION = Path("station.toml")


def _show_version(version: bool) -> None:
    if version:
        typer.echo(metadata.version("inspector"))
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Inspects every part on a line: learns a product from good images, accepts or rejects in real time."""


@app.command(rich_help_panel=STATION, epilog="Example: inspector run --station line1.toml")
@plainly
def run(
    station: StationFile = DEFAULT_STATION,
    recipe: Annotated[
        int | None, typer.Option(help="number of the recipe to start with; without it, the one that was active last")
    ] = None,
) -> None:
    """Inspect: camera to verdict, until the camera ends or Ctrl-C.

    Verdicts, views and status are published on the station's bus: see them with [b]inspector watch[/b].
    """
    import faulthandler
    import logging

    from inspector.run import run as run_station
    from inspector.station_file import load_station

    faulthandler.enable(sys.__stderr__ or 2)  # the watchdog's SIGABRT then says where it hung
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    summary = run_station(load_station(station), recipe)
    Console().print(Text(str(summary)))


@app.command(rich_help_panel=STATION, epilog="Example: inspector watch --station line1.toml")
@plainly
def watch(station: StationFile = DEFAULT_STATION) -> None:
    """Show the verdicts of a running station, a line each, until Ctrl-C."""
    from inspector.service import stop_signals
    from inspector.station_file import load_station
    from inspector.watch import watch as watch_station

    with stop_signals() as stop:
        watch_station(load_station(station), Console(highlight=False), stop=stop)


@app.command(rich_help_panel=STATION, epilog="Example: inspector recipe 2 --station line1.toml")
@plainly
def recipe(
    number: Annotated[
        int | None, typer.Argument(help="of the recipe that is wanted; without it, which there are")
    ] = None,
    station: StationFile = DEFAULT_STATION,
) -> None:
    """Change a running station to another recipe, or to the same one anew from its files, and wait for its answer.

    No part is inspected meanwhile. When the recipe is refused, the old one stays active; the exit code is 1.
    """
    from inspector.changeover import ask_station
    from inspector.station_file import load_station

    loaded = load_station(station)
    if number is None:
        for known in loaded.all_recipes:
            typer.echo(f"{known.number:5}  {known.name}  {known.bundle}")
        return
    with Console(stderr=True).status(f"recipe {number} is being loaded"):
        answer = ask_station(loaded, number)
    style, mark = ("green", "ok    ") if answer.ok else ("bold red", "REFUSED")
    text = f" recipe {answer.recipe}, revision {answer.revision}, is active. {answer.text}"
    Console(highlight=False).print(Text.assemble((mark, style), text), soft_wrap=True)
    if not answer.ok:
        raise typer.Exit(1)


@app.command(rich_help_panel=STATION, epilog="Example: inspector check --station line1.toml")
@plainly
def check(station: StationFile = DEFAULT_STATION) -> None:
    """Try the config, the bundle, the engine and the camera: a line each; the exit code is 1 when one fails."""
    from inspector.check import check as findings

    console = Console(highlight=False)
    failed = False
    for finding in findings(station):
        failed |= not finding.ok
        mark = ("ok    ", "green") if finding.ok else ("FAILED", "bold red")
        console.print(Text.assemble(mark, f" {finding.what:8} {finding.text}"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


bus_app = typer.Typer(
    help="Let other machines hear the station over tcp://, by the table curve of its file.", no_args_is_help=True
)
app.add_typer(bus_app, name="bus", rich_help_panel=STATION)


@bus_app.command("key", epilog="Example: inspector bus key --station line1.toml")
@plainly
def bus_key(station: StationFile = DEFAULT_STATION) -> None:
    """Make the pair of keys that curve.private_key names, once, and the folder of the clients' keys."""
    from inspector.curve import create_keys
    from inspector.station import curve_of
    from inspector.station_file import load_station

    curve = curve_of(load_station(station))
    public = create_keys(curve.private_key)
    curve.clients.mkdir(parents=True, exist_ok=True)
    typer.echo(f"{public} is for the clients; {curve.private_key} stays here")


@bus_app.command("client", epilog="Example: inspector bus client laptop --station line1.toml")
@plainly
def bus_client(
    name: Annotated[str, typer.Argument(help="letters, digits, - _ and .")],
    station: StationFile = DEFAULT_STATION,
) -> None:
    """Make a pair of keys for a client, and let it in.

    Of a client that has a pair already, copy NAME.key to the folder curve.clients instead.
    """
    from inspector.curve import allow_client
    from inspector.station import curve_of
    from inspector.station_file import load_station

    secret = allow_client(curve_of(load_station(station)), name)
    typer.echo(f"move {secret} to the client, with the station's public key; here it is not needed")


plc_app = typer.Typer(help="Serve the line's PLC: triggers in, results out, by the table plc of the station's file.")
app.add_typer(plc_app, name="plc", rich_help_panel=STATION)


@plc_app.callback(invoke_without_command=True, epilog="Example: inspector plc --station line1.toml")
@plainly
def plc(context: typer.Context, station: StationFile = DEFAULT_STATION) -> None:
    """Serve the line's PLC: triggers in, results out, by the table plc of the station's file.

    It runs beside [b]inspector run[/b], and passes no part whose accept is not in the journal. docs/integration.md
    takes you from an empty PLC project to a running handshake.
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio
    import logging

    from inspector.plc.bridge import Bridge
    from inspector.service import stop_signals
    from inspector.station_file import load_station

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with stop_signals() as stop, Bridge(load_station(station)) as bridge:
        asyncio.run(bridge.run(stop))


@plc_app.command("check", epilog="Example: inspector plc check --station line1.toml")
@plainly
def plc_check(station: StationFile = DEFAULT_STATION) -> None:
    """Read both blocks, from the running bridge or out of the PLC, and print what they mean; nothing is written."""
    from inspector.plc.monitor import read_once, table_of
    from inspector.station_file import load_station

    Console().print(table_of(*read_once(load_station(station))))


@plc_app.command("monitor", epilog="Example: inspector plc monitor --station line1.toml")
@plainly
def plc_monitor(
    station: StationFile = DEFAULT_STATION,
    seconds: Annotated[float | None, typer.Option(help="end after so long")] = None,
) -> None:
    """Show both blocks live, from the running bridge or out of the PLC, until Ctrl-C; nothing is written."""
    from inspector.plc.monitor import monitor
    from inspector.service import stop_signals
    from inspector.station_file import load_station

    with stop_signals() as stop:
        monitor(load_station(station), Console(), stop, seconds)


@plc_app.command("certificate", epilog="Example: inspector plc certificate --station line1.toml --host 192.168.1.20")
@plainly
def plc_certificate(
    station: StationFile = DEFAULT_STATION,
    host: Annotated[list[str] | None, typer.Option(help="name or address that clients call; may be repeated")] = None,
) -> None:
    """Make the certificate and the key that [plc.opcua] names, once; clients then trust this certificate."""
    import socket

    from inspector.plc.opcua_certificates import create_certificate
    from inspector.station import opcua_of
    from inspector.station_file import load_station

    settings = opcua_of(load_station(station))
    if settings.certificate is None or settings.private_key is None:
        raise typer.BadParameter("[plc.opcua] names no certificate and private_key: nothing would be encrypted")
    hosts = host or [socket.gethostname(), "localhost", "127.0.0.1"]
    create_certificate(settings.certificate, settings.private_key, settings.application_uri, hosts)
    typer.echo(f"{settings.certificate} is for {', '.join(hosts)}; its key is {settings.private_key}")


@plc_app.command("user", epilog="Example: inspector plc user line-plc plc --station line1.toml")
@plainly
def plc_user(
    name: Annotated[str, typer.Argument(help="letters, digits, - _ and .")],
    role: Annotated[str, typer.Argument(help="observer (reads), plc (reads, writes, calls) or maintenance")],
    station: StationFile = DEFAULT_STATION,
) -> None:
    """Let somebody in over OPC UA, or give another role or password; the password is asked for."""
    from inspector.plc.opcua_users import Role, add_user
    from inspector.station import opcua_of
    from inspector.station_file import load_station

    settings = opcua_of(load_station(station))
    if settings.users is None:
        raise typer.BadParameter("[plc.opcua] names no users")
    password = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    try:
        add_user(settings.users, name, Role(role), password)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{name} is {role}: restart inspector plc")


mqtt_app = typer.Typer(
    help="Report decisions and state to line and plant over MQTT 5 and Sparkplug B, by the table mqtt."
)
app.add_typer(mqtt_app, name="mqtt", rich_help_panel=STATION)


@mqtt_app.callback(invoke_without_command=True, epilog="Example: inspector mqtt --station line1.toml")
@plainly
def mqtt(context: typer.Context, station: StationFile = DEFAULT_STATION) -> None:
    """Report decisions and state to line and plant, MQTT 5 and Sparkplug B, by the table mqtt of the station's file.

    It runs beside [b]inspector run[/b] and only reads: it passes no part. docs/mqtt.md has topics and payloads.
    """
    if context.invoked_subcommand is not None:
        return
    import logging

    from inspector.mqtt.reporter import Reporter
    from inspector.service import stop_signals
    from inspector.station_file import load_station

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with stop_signals() as stop, Reporter(load_station(station)) as reporter:
        reporter.run(stop)


@mqtt_app.command("check", epilog="Example: inspector mqtt check --station line1.toml")
@plainly
def mqtt_check(station: StationFile = DEFAULT_STATION) -> None:
    """Try the broker as inspector mqtt does, beside it, and print what it says; the exit code is 2 when it says no."""
    from inspector.mqtt.check import check_broker
    from inspector.station_file import load_station

    Console().print(check_broker(load_station(station)))


@app.command(rich_help_panel=STATION, epilog="Example: inspector bench kit_tray.bundle --parts 1000 --json bench.json")
@plainly
def bench(
    bundle: Annotated[Path | None, typer.Argument(help="trained model; without it, one with random weights")] = None,
    json: JsonFile = None,
    parts: Annotated[int, typer.Option(help="parts to measure; p99.9 needs 1000", min=1)] = 200,
) -> None:
    """Measure latency and throughput of the whole loop on this machine, from exposure to another process's verdict.

    The figures are printed as JSON. Frames have the bundle's own size; without a bundle, 1280 x 1024.
    """
    from json import dumps
    from tempfile import TemporaryDirectory

    from inspector.bench import bench as measure
    from inspector.bundle import load_bundle

    make_parent(json)
    with TemporaryDirectory(prefix="inspector-bench-") as folder:
        if bundle is None:
            from export.untrained import untrained_bundle

            loaded = untrained_bundle(Path(folder), height=1024, width=1280)
        else:
            loaded = load_bundle(bundle)
        rows = measure(loaded, parts=parts)
    text = dumps(rows, indent=2)
    typer.echo(text)
    if json:
        json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
