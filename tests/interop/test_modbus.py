"""Modbus clients that were not written here, against the real server."""

import asyncio
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from inspector.plc import Command, Outcome, PlcInputs, PlcOutputs
from inspector.plc.modbus import ModbusServer
from inspector.plc.registers import words_of

NODE_MODULES = os.environ.get("INSPECTOR_NODE_MODULES", "")
OUTPUTS = PlcOutputs(outcome=Outcome.OK, part_id="P-9", boot_id=77, encoder=0x00010002)


def said_by(*command: str) -> tuple[str, list[PlcInputs]]:
    """What a client prints, and what the server heard of it."""
    heard: list[PlcInputs] = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    async def main() -> str:
        async with ModbusServer("127.0.0.1", port, heard.append, lambda: OUTPUTS).serving():
            words = [word.replace("PORT", str(port)) for word in command]
            pipe = asyncio.subprocess.PIPE
            client = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
            out, err = await asyncio.wait_for(client.communicate(), 30)
            assert client.returncode == 0, err.decode() + out.decode()
            return out.decode()

    return asyncio.run(main()), heard


def test_modbus_serial_reads_the_block_and_triggers_a_part(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not Path(NODE_MODULES, "modbus-serial").is_dir():
        pytest.skip("node or modbus-serial is not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = tmp_path / "modbus.mjs"
    script.write_text(Path(__file__).with_name("modbus.mjs").read_text())
    out, heard = said_by(node, str(script), "PORT")
    block, refused = (json.loads(line) for line in out.splitlines())
    assert block == {"inputs": words_of(OUTPUTS), "mirror": words_of(OUTPUTS)}
    assert refused == {"refused": True}
    assert [inputs.command for inputs in heard] == [Command.ENABLE] * 3
    assert heard[-1] == PlcInputs(
        command=Command.ENABLE, trigger_seq=5, part_id="P-9", encoder=0x00010002, deadline_ms=300
    )


def test_mbpoll_reads_and_writes() -> None:
    mbpoll = shutil.which("mbpoll")
    if mbpoll is None:
        pytest.skip("mbpoll is not here: apt install mbpoll")
    options = ["-0", "-m", "tcp", "-p", "PORT", "-a", "1"]
    out, _ = said_by(mbpoll, *options, "-1", "-t", "3", "-r", "0", "-c", "40", "127.0.0.1")
    values = [line.split("\t")[1].split()[0] for line in out.splitlines() if line.startswith("[")]
    assert [int(value) for value in values] == words_of(OUTPUTS)
    _, heard = said_by(mbpoll, *options, "-t", "4", "-r", "2", "127.0.0.1", "41")
    assert [inputs.trigger_seq for inputs in heard] == [41]
