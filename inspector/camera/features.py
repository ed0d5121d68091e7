"""Settings of a GenICam camera by their SFNC names: written, read back, refused with what is allowed."""

import logging
import math
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from genicam import genapi, gentl

from inspector.camera import CameraError

Value = bool | int | float | str
TOLERANCE = 0.05  # by which a camera may round a number, an exposure to whole lines for example
LEAST = 0.01  # the same of a number that is nearly nothing

log = logging.getLogger(__name__)


class FeatureError(CameraError):
    """A setting that the camera does not have or does not take; the text names it and says what is allowed."""


def find(nodes: Any, name: str) -> Any | None:  # noqa: ANN401 - genicam has no types
    """The node of that name, or None where the camera has none or does not offer it now."""
    if not name or not nodes.has_node(name):
        return None
    node = nodes.get_node(name)
    return node if genapi.is_available(node) else None


def apply(nodes: Any, features: Iterable[tuple[str, Value]]) -> None:  # noqa: ANN401
    """Write features in their order, each read back.

    Raises:
        FeatureError: the camera has no such feature, it cannot be written now, or the value is not allowed.
    """
    for name, value in features:
        write(nodes, name, value)


def write(nodes: Any, name: str, value: Value) -> None:  # noqa: ANN401
    """Write one feature and read it back; a command is executed by `true`.

    Raises:
        FeatureError: as `apply`.
    """
    node = find(nodes, name)
    if node is None:
        raise FeatureError(f"the camera has no feature {name}{_similar(nodes, name)}")
    try:
        if isinstance(node, genapi.ICommand):
            node.execute()
            return
        if genapi.is_readable(node) and type(node.value) is type(value) and node.value == value:
            return  # many cameras fix what they have but one of
        _require_writable(name, node)
        node.value = _converted(name, node, value)
        _require_taken(name, node, value)
    except (genapi.OutOfRangeException, genapi.InvalidArgumentException) as error:
        raise FeatureError(f"{name} = {value!r} is not taken: {allowed(node)}") from error
    except genapi.GenericException as error:
        raise FeatureError(f"{name} = {value!r} is not taken: the camera says {error}") from error


def verify(nodes: Any, features: Iterable[tuple[str, Value]]) -> None:  # noqa: ANN401
    """Read all settings back once more; of one that was written several times, the last counts.

    Raises:
        FeatureError: one is not what it was set to.
    """
    for name, value in dict(features).items():
        node = find(nodes, name)
        if node is None or isinstance(node, genapi.ICommand):
            continue
        if not _taken(node, value):
            raise FeatureError(f"{name} = {value!r} was undone by another setting: it is {node.value!r} now")


def region(x: int, y: int, width: int, height: int) -> list[tuple[str, Value]]:
    """The features that cut a region out of the sensor, in an order in which each is allowed."""
    return [("OffsetX", 0), ("OffsetY", 0), ("Width", width), ("Height", height), ("OffsetX", x), ("OffsetY", y)]


def settings(nodes: Any) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401
    """Name, value and what is allowed of all features that can be written or read now."""
    for node in nodes.nodes:
        if node.node.is_feature() and not isinstance(node, genapi.ICategory):
            try:
                if genapi.is_available(node):
                    yield node.node.name, _shown_value(node), _shown_range(node)
            except (genapi.GenericException, gentl.GenericException) as error:
                yield node.node.name, "cannot be read", str(error)


def _shown_value(node: Any) -> str:  # noqa: ANN401
    readable = not isinstance(node, genapi.ICommand) and genapi.is_readable(node)
    return str(getattr(node, "value", "")) if readable else ""


def _shown_range(node: Any) -> str:  # noqa: ANN401
    if isinstance(node, genapi.ICommand):
        return "true executes it"
    return allowed(node) if genapi.is_writable(node) else "it is fixed now"


def allowed(node: Any) -> str:  # noqa: ANN401
    """What a node takes, in words."""
    if isinstance(node, genapi.IEnumeration):
        return f"allowed are {', '.join(node.symbolics)}"
    if isinstance(node, genapi.IInteger):
        return f"allowed are whole numbers from {node.min} to {node.max} in steps of {node.inc}"
    if isinstance(node, genapi.IFloat):
        unit = f" {node.unit}" if node.unit else ""
        return f"allowed are {node.min:g} to {node.max:g}{unit}"
    if isinstance(node, genapi.IBoolean):
        return "allowed are true and false"
    return "it takes text"


def _require_writable(name: str, node: Any) -> None:  # noqa: ANN401
    if not genapi.is_writable(node):
        raise FeatureError(f"{name} cannot be written: the camera fixes it, or another setting locks it")


def _converted(name: str, node: Any, value: Value) -> Value:  # noqa: ANN401
    """The value as the node takes it; TOML tells 1 from 1.0 and true."""
    wanted: dict[type, tuple[type, ...]] = {
        genapi.IBoolean: (bool,),
        genapi.IInteger: (int,),
        genapi.IFloat: (int, float),
        genapi.IEnumeration: (str,),
        genapi.IString: (str,),
    }
    for kind, types in wanted.items():
        if isinstance(node, kind):
            right = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
            if not right:
                raise FeatureError(f"{name} = {value!r} is not taken: {allowed(node)}")
            return float(value) if float in types else value
    raise FeatureError(f"{name} cannot be set: it is no setting but {type(node).__name__}")


def _require_taken(name: str, node: Any, value: Value) -> None:  # noqa: ANN401
    if not _taken(node, value):
        raise FeatureError(f"{name} = {value!r} is not taken: the camera made {node.value!r} of it; {allowed(node)}")
    if node.value != value:
        log.warning("the camera made %s = %r of %r", name, node.value, value)


def _taken(node: Any, value: Value) -> bool:  # noqa: ANN401
    found = node.value
    if isinstance(found, float) and not isinstance(value, str):
        return math.isclose(found, value, rel_tol=TOLERANCE, abs_tol=LEAST)
    return bool(found == value)


def _similar(nodes: Any, name: str) -> str:  # noqa: ANN401
    names = [node.node.name for node in nodes.nodes if node.node.is_feature()]
    close = get_close_matches(name, names, n=1)
    return f": did you mean {close[0]}?" if close else ": inspector cameras --features lists what it has"
