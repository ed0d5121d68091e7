"""The `[plc.opcua]` table of station.toml. Reads no file that it names."""

import socket

from pydantic import Field, model_validator

from inspector.table import BesideFile, Table

_ENCRYPTION = ("certificate", "private_key", "trusted", "users")


class OpcUaSettings(Table):
    """Who may connect to the station's OPC UA server, and what it shows besides its variables."""

    certificate: BesideFile | None = Field(
        None, title="Certificate", description="the station's own, .der or .pem; absent: nothing is encrypted"
    )
    private_key: BesideFile | None = Field(
        None, title="Private key", description="of the certificate, .pem, for this user"
    )
    trusted: BesideFile | None = Field(
        None, title="Trusted", description="folder with the certificates of the clients that may connect"
    )
    users: BesideFile | None = Field(None, title="Users", description="file of names, roles and hashed passwords")
    anonymous: bool = Field(
        False, title="Anonymous", description="lets everybody read, unencrypted and without a name; nobody writes so"
    )
    application_uri: str = Field(
        default_factory=lambda: f"urn:{socket.gethostname()}:inspector",
        pattern=r"^urn:\S+$",
        title="Application URI",
        description="names this server in the whole plant, and in its certificate; absent: made of the host's name",
    )
    machine_vision: BesideFile | None = Field(
        None,
        title="Machine vision",
        description="folder with Opc.Ua.MachineVision.NodeSet2.xml (OPC 40100-1); absent: the plain variables alone",
    )

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
