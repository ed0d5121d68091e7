"""The `[plc.opcua]` table of station.toml. Reads no file that it names."""

import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

_ENCRYPTION = ("certificate", "private_key", "trusted", "users")


class OpcUaSettings(BaseModel):
    """Who may connect to the station's OPC UA server, and what it shows besides its variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path | None = Field(
        None, title="Certificate", description="the station's own, .der or .pem; absent: nothing is encrypted"
    )
    private_key: Path | None = Field(None, title="Private key", description="of the certificate, .pem, for this user")
    trusted: Path | None = Field(
        None, title="Trusted", description="folder with the certificates of the clients that may connect"
    )
    users: Path | None = Field(None, title="Users", description="file of names, roles and hashed passwords")
    anonymous: bool = Field(
        False, title="Anonymous", description="lets everybody read, unencrypted and without a name; nobody writes so"
    )
    application_uri: str = Field(
        default_factory=lambda: f"urn:{socket.gethostname()}:inspector",
        pattern=r"^urn:\S+$",
        title="Application URI",
        description="names this server in the whole plant, and in its certificate; absent: made of the host's name",
    )
    machine_vision: Path | None = Field(
        None,
        title="Machine vision",
        description="folder with Opc.Ua.MachineVision.NodeSet2.xml (OPC 40100-1); absent: the plain variables alone",
    )

    @field_validator("certificate", "private_key", "trusted", "users", "machine_vision")
    @classmethod
    def _beside_the_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder = info.context["folder"] if info.context else Path.cwd()
        return None if path is None else Path(folder, path.expanduser())

    @model_validator(mode="after")
    def _somebody_can_connect(self) -> "OpcUaSettings":
        missing = [key for key in _ENCRYPTION if getattr(self, key) is None]
        if 0 < len(missing) < len(_ENCRYPTION):
            raise ValueError(f"{', '.join(_ENCRYPTION)} come together: set {' and '.join(missing)} too")
        if missing and not self.anonymous:
            raise ValueError(f"nobody could connect: set {', '.join(_ENCRYPTION)}, or anonymous = true to let all read")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether there is an encrypted endpoint, with names and passwords."""
        return self.certificate is not None
