"""Map 1.0: what the handshake says, as 16-bit registers for Modbus and for any PLC that reads words. Pure.

Words are big-endian, high word first; texts hold two ASCII characters a word, the first in the high byte. The table is
in docs/integration.md.
"""

import struct
from collections.abc import Sequence

from inspector.plc import MAP_VERSION, Command, PlcInputs, PlcOutputs

OUTPUT_REGISTERS = 40  # input registers 0..39, mirrored in holding registers from MIRROR on
INPUT_REGISTERS = 19  # holding registers 0..18
MIRROR = 100
STATUS = 1  # the station's register that says whether its result is valid: it is written last
TRIGGER_SEQ = 2  # the PLC's register whose change is the trigger: it is written last
_OUTPUTS = struct.Struct(">9H f 7H 20s 3I 4H I")
_INPUTS = struct.Struct(">6H 20s I H")

if _OUTPUTS.size != 2 * OUTPUT_REGISTERS or _INPUTS.size != 2 * INPUT_REGISTERS:
    raise AssertionError("the register map has another size than it says")


def words_of(outputs: PlcOutputs) -> list[int]:
    """The station's registers, for the PLC to read in one block."""
    counters = outputs.counters
    memory = _OUTPUTS.pack(
        MAP_VERSION,
        outputs.status,
        outputs.heartbeat,
        outputs.plc_heartbeat,
        outputs.trigger_seq,
        outputs.result_seq,
        outputs.outcome,
        outputs.outcome ^ 0xFFFF,
        outputs.reason,
        outputs.score,
        min(outputs.inspection_ms, 0xFFFF),
        outputs.recipe,
        outputs.recipe_revision,
        outputs.model_id,
        0,  # defect count: the network has no classes
        0,  # class mask
        outputs.queue_depth,
        outputs.part_id.encode("ascii", "replace"),
        counters.total & 0xFFFFFFFF,
        counters.ng & 0xFFFFFFFF,
        counters.not_inspected & 0xFFFFFFFF,
        outputs.error_code,
        outputs.warning_code,
        outputs.opc_state,
        outputs.boot_id,
        outputs.encoder,
    )
    return list(struct.unpack(f">{OUTPUT_REGISTERS}H", memory))


def outputs_checked(words: Sequence[int]) -> bool:
    """Whether a block that was read is of this map and its verdict is not torn: the inverse must fit."""
    return len(words) == OUTPUT_REGISTERS and words[0] == MAP_VERSION and words[6] ^ words[7] == 0xFFFF


def text_of(words: Sequence[int]) -> str:
    """The text in some words."""
    return struct.pack(f">{len(words)}H", *words).split(b"\0")[0].decode("ascii", "replace").strip()


def inputs_of(words: Sequence[int]) -> PlcInputs:
    """What the PLC has written.

    Raises:
        ValueError: there are not `INPUT_REGISTERS` words.
    """
    if len(words) != INPUT_REGISTERS:
        raise ValueError(f"{len(words)} registers are not the PLC's {INPUT_REGISTERS}")
    memory = struct.pack(f">{INPUT_REGISTERS}H", *words)
    command, heartbeat, trigger, acknowledged, recipe, recipe_seq, part_id, encoder, deadline = _INPUTS.unpack(memory)
    return PlcInputs(
        command=Command(command & sum(Command)),
        heartbeat=heartbeat,
        trigger_seq=trigger,
        result_ack_seq=acknowledged,
        recipe_request=recipe,
        recipe_request_seq=recipe_seq,
        part_id=part_id.split(b"\0")[0].decode("ascii", "replace").strip(),
        encoder=encoder,
        deadline_ms=deadline,
    )


def words_from_plc(inputs: PlcInputs) -> list[int]:
    """The PLC's registers, as a PLC writes them: for clients in tests and for `inspector plc check`."""
    memory = _INPUTS.pack(
        inputs.command,
        inputs.heartbeat,
        inputs.trigger_seq,
        inputs.result_ack_seq,
        inputs.recipe_request,
        inputs.recipe_request_seq,
        inputs.part_id.encode("ascii", "replace"),
        inputs.encoder,
        inputs.deadline_ms,
    )
    return list(struct.unpack(f">{INPUT_REGISTERS}H", memory))
