"""Which GenICam cameras there are, and which one the station means. Only for processes that `genicam` may block."""

import ipaddress
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self, TypeVar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the bindings' own making
    from genicam import genapi, gentl
    from harvesters.core import Harvester

from inspector.camera import CameraError, features
from inspector.camera.settings import SIMULATED_PRODUCER, GenicamCamera

SEARCH_PATH = "GENICAM_GENTL64_PATH"
GENICAM_ERRORS = (gentl.GenericException, genapi.GenericException)

T = TypeVar("T")
LISTING_S = 30.0  # for all producers together

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a camera says of itself before it is opened; what it does not say is empty."""

    producer: str  # file
    vendor: str
    model: str
    serial: str
    user_id: str
    ip: str
    transport: str  # GEV, U3V, CL, …
    access: str  # ready, in use, …

    def __str__(self) -> str:
        named = [f'serial "{self.serial}"' if self.serial else "", f'user_id "{self.user_id}"' if self.user_id else ""]
        address = [f"ip {self.ip}" if self.ip else ""]
        return ", ".join(part for part in [f"{self.vendor} {self.model}", *named, *address] if part)


def producer_files(producer: Path | None) -> list[Path]:
    """The GenTL producers to look through: the one that is named, else all on GENICAM_GENTL64_PATH.

    Raises:
        CameraError: there is none.
    """
    if producer == SIMULATED_PRODUCER:
        from inspector.camera.gentl import producer_file

        return [producer_file()]
    if producer is not None:
        if not producer.is_file():
            raise CameraError(f"GenTL producer {producer} does not exist: correct camera.producer in station.toml")
        return [producer.absolute()]
    folders = [Path(folder) for folder in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if folder]
    found = sorted(file for folder in folders for file in folder.glob("*.cti"))
    if not found:
        raise CameraError(
            "no GenTL producer: name the camera maker's .cti file as camera.producer in station.toml, or its folder in "
            f"the environment variable {SEARCH_PATH}"
        )
    return found


class Found:
    """The producers' cameras, listed anew each time; within a process only one of these may be open."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._complaints: deque[str] = deque(maxlen=5)
        self.harvester = Harvester(logger=_listening_logger(self._complaints))
        for file in files:
            self.harvester.add_file(str(file))
        self._files = files
        try:
            self.harvester.update()
        except GENICAM_ERRORS as error:
            self.__exit__()
            names = ", ".join(file.name for file in files)
            raise CameraError(f"{names}: its cameras cannot be listed ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.harvester.__exit__(None, None, None)  # unlike reset(), also forgets the finalizer that keeps it alive

    def identities(self) -> list[Identity]:
        """All cameras, in the producers' order."""
        addresses = self._addresses()
        return [_identity(info, addresses) for info in self.harvester.device_info_list]

    def choose(self, config: GenicamCamera) -> tuple[int, Identity]:
        """The camera that the station names, and its place in the list.

        Raises:
            CameraError: it is not there, or more than one fits.
        """
        listed = self.identities()
        fitting = [index for index, camera in enumerate(listed) if _fits(camera, config)]
        if len(fitting) == 1:
            return fitting[0], listed[fitting[0]]
        wanted = ", ".join(
            f'{key} "{value}"' for key in ("serial", "user_id", "ip") if (value := getattr(config, key)) is not None
        )
        seen = "; ".join(str(camera) for camera in listed)
        if fitting:
            key = "camera.producer: two of them list it" if config.serial else "camera.serial"
            raise CameraError(f"{len(fitting)} cameras fit {wanted or 'a station that names none'}: set {key} ({seen})")
        if seen:
            raise CameraError(f"no camera with {wanted}: there are {seen}")
        complaints = f" ({'; '.join(self._complaints)})" if self._complaints else ""
        raise CameraError(
            f"{', '.join(file.name for file in self._files)} finds no camera: check its power, its cable, its IP "
            f"address and that no firewall is in the way{complaints}"
        )

    def _addresses(self) -> dict[str, str]:
        """IP addresses of network cameras by device id, as the producers' interfaces tell them (GenTL SFNC)."""
        interfaces = {id(info.parent): info.parent for info in self.harvester.device_info_list}
        return {key: ip for interface in interfaces.values() for key, ip in _addresses_on(interface.node_map)}


def _addresses_on(nodes: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - genicam has no types
    """Device id and IP address of each camera on an interface."""
    selector = features.find(nodes, "DeviceSelector") if nodes else None
    address = features.find(nodes, "GevDeviceIPAddress") if nodes else None
    if selector is None or address is None:
        return
    try:
        for index in range(selector.max + 1):
            selector.value = index
            yield nodes.DeviceID.value, str(ipaddress.IPv4Address(address.value))
    except GENICAM_ERRORS as error:
        log.warning("the cameras' addresses cannot be read: %s", error)


def _identity(info: Any, addresses: dict[str, str]) -> Identity:  # noqa: ANN401
    status = asked(lambda: gentl.DEVICE_ACCESS_STATUS_LIST(info.access_status).name, "")
    return Identity(
        producer=str(asked(lambda: info.parent.parent.path_name, "")),
        vendor=asked(lambda: info.vendor, ""),
        model=asked(lambda: info.model, ""),
        serial=asked(lambda: info.serial_number, ""),
        user_id=asked(lambda: info.user_defined_name, ""),
        ip=addresses.get(info.id_, ""),
        transport=asked(lambda: info.tl_type, ""),
        access=status.removeprefix("DEVICE_ACCESS_STATUS_").lower().replace("_", " "),
    )


def _fits(camera: Identity, config: GenicamCamera) -> bool:
    named = (config.serial, camera.serial), (config.user_id, camera.user_id), (config.ip, camera.ip)
    return all(wanted is None or wanted == found for wanted, found in named)


def asked(question: Callable[[], T], otherwise: T) -> T:
    """What a camera need not know."""
    try:
        return question()
    except (*GENICAM_ERRORS, AttributeError):
        return otherwise


class _Keep(logging.Handler):
    """Keeps harvesters' warnings for our own error message instead of printing them."""

    def __init__(self, complaints: deque[str]) -> None:
        super().__init__()
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.append(record.getMessage())


def _listening_logger(complaints: deque[str]) -> logging.Logger:
    logger = logging.getLogger("inspector.harvesters")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.handlers = [_Keep(complaints)]
    return logger


def apart(question: Callable[..., T], *arguments: object) -> T:
    """Ask producers in a process of its own: one that crashes or hangs takes nothing along.

    Raises:
        CameraError: it did; or what the question raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(question, *arguments).result(LISTING_S)
        except BrokenProcessPool as error:
            raise CameraError("a GenTL producer crashed: name one as --producer to find out which") from error
        except TimeoutError as error:
            for process in pool._processes.values():  # noqa: SLF001 - the pool would wait for it
                process.kill()
            raise CameraError(
                f"a GenTL producer hangs for {LISTING_S:.0f} s: name one as --producer to find out which"
            ) from error


def list_cameras(producer: Path | None) -> list[Identity]:
    """All cameras of the producer, or of all on GENICAM_GENTL64_PATH.

    Raises:
        CameraError: there is no producer, or it does not work.
    """
    with Found(producer_files(producer)) as found:
        return found.identities()
