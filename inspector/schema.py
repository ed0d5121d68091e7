"""The wire's messages as JSON Schema: `python -m inspector.schema` writes docs/wire.schema.json."""

import json
from pathlib import Path

import msgspec

from inspector.control import Answer, Change, Expose
from inspector.decisions import Ack, Decision, Follow, Tip
from inspector.messages import Result, Status, ViewHeader

MESSAGES = (Result, ViewHeader, Status, Decision, Tip, Follow, Ack, Expose, Change, Answer)
FILE = Path(__file__).parent.parent / "docs" / "wire.schema.json"


def schema() -> str:
    """All messages, as one schema."""
    references, components = msgspec.json.schema_components(MESSAGES, ref_template="#/$defs/{name}")
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Inspector's messages, version 1",
        "oneOf": list(references),
        "$defs": components,
    }
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")
