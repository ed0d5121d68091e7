"""Certificates of OPC UA: the station's own, and those of the clients that it trusts. Knows no socket."""

import ipaddress
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inspector.plc import PlcPortError

log = logging.getLogger(__name__)

VALID_DAYS = 3650
REFUSED = "refused"  # folder in the folder of trusted certificates
MOST_REFUSED = 32  # files in it: strangers must not fill the disk
_NAMES = {".der", ".cer", ".crt", ".pem"}


def create_certificate(certificate: Path, private_key: Path, application_uri: str, hosts: Sequence[str]) -> None:
    """Make a key and a certificate that the key signs itself; `hosts` are the names and addresses of the station.

    The key is readable by its owner alone, whatever the umask. Nothing is overwritten.

    Raises:
        PlcPortError: a file is there already, or cannot be written.
    """
    key = generate_private_key()
    made = generate_self_signed_app_certificate(
        key,
        common_name="Inspector",
        names={},
        subject_alt_names=[x509.UniformResourceIdentifier(application_uri), *map(_alternative_name, hosts)],
        extended=[ExtendedKeyUsageOID.SERVER_AUTH],
        days=VALID_DAYS,
    )
    encoding = Encoding.PEM if certificate.suffix == ".pem" else Encoding.DER
    try:
        for path in (certificate, private_key):
            if path.exists():  # looked at before either is written
                raise FileExistsError(f"{path} is there already")
        _write_new(private_key, dump_private_key_as_pem(key), 0o600)
        _write_new(certificate, made.public_bytes(encoding), 0o644)
    except OSError as error:
        raise PlcPortError(
            f"no certificate was made for OPC UA ({error}): move {certificate} and {private_key} away to have others, "
            "or correct plc.opcua.certificate and plc.opcua.private_key"
        ) from error


def load_identity(certificate: Path, private_key: Path, application_uri: str) -> tuple[x509.Certificate, RSAPrivateKey]:
    """The station's certificate and its key.

    Raises:
        PlcPortError: they cannot be read or used, do not belong together, or are of another application.
    """
    try:
        own = _certificate_in(certificate)
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise PlcPortError(
            f"OPC UA has no certificate ({error}): make one with `inspector plc certificate`, or correct "
            f"plc.opcua.certificate ({certificate}) and plc.opcua.private_key ({private_key})"
        ) from error
    if not isinstance(key, RSAPrivateKey) or key.public_key() != own.public_key():
        raise PlcPortError(
            f"{private_key} is not the key of {certificate}: correct plc.opcua.private_key or plc.opcua.certificate"
        )
    if application_uri not in _uris(own):
        raise PlcPortError(
            f"{certificate} is of {', '.join(_uris(own)) or 'no application'}, not of {application_uri}: set "
            "plc.opcua.application_uri as in the certificate, or make another one with `inspector plc certificate`"
        )
    if not _is_timely(own):
        raise PlcPortError(
            f"{certificate} is valid from {own.not_valid_before_utc:%Y-%m-%d} to {own.not_valid_after_utc:%Y-%m-%d} "
            "only: make another one with `inspector plc certificate`, or correct the clock"
        )
    if private_key.stat().st_mode & 0o077:
        log.warning("%s can be read by others than its owner: chmod 600 %s", private_key, private_key)
    return own, key


class TrustedCertificates:
    """A folder with the certificates of the clients that may connect; it is read anew for every client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: set[bytes] = set()  # of whom the log has said that they were refused

    def check(self) -> None:
        """See at the start whether the folder is of any use.

        Raises:
            PlcPortError: it is no folder, or a file in it is no certificate.
        """
        if not self._folder.is_dir():
            raise PlcPortError(f"{self._folder} is no folder: make it, or correct plc.opcua.trusted")
        for path in self._files():
            try:
                _certificate_in(path)
            except (OSError, ValueError) as error:
                raise PlcPortError(f"{path} is no certificate ({error}): move it out of plc.opcua.trusted") from error

    def accepts(self, der: bytes) -> bool:
        """Whether the client with this certificate may connect; if not, the log says how it could."""
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError as error:
            log.warning("an OPC UA client was refused: its certificate cannot be read (%s)", error)
            return False
        if certificate not in self._trusted():
            self._tell(certificate, f"nobody trusts it. To trust it: {self._kept(certificate)}")
            return False
        if not _is_timely(certificate):
            validity = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
            self._tell(certificate, f"it is valid from {validity} only. Give the client another, or correct the clock")
            return False
        return True

    def _trusted(self) -> Iterator[x509.Certificate]:
        for path in self._files():
            try:
                yield _certificate_in(path)
            except (OSError, ValueError) as error:
                log.warning("%s is no certificate (%s): move it out of plc.opcua.trusted", path, error)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.suffix.lower() in _NAMES)

    def _kept(self, certificate: x509.Certificate) -> str:
        """Keep a refused certificate, so that it can be looked at; how to trust it."""
        path = self._folder / REFUSED / f"{certificate.fingerprint(hashes.SHA256()).hex()}.der"
        try:
            path.parent.mkdir(exist_ok=True)
            if not path.exists() and len(list(path.parent.iterdir())) < MOST_REFUSED:
                path.write_bytes(certificate.public_bytes(Encoding.DER))
        except OSError as error:
            log.warning("the certificate of a refused OPC UA client cannot be kept: %s", error)
        return f"mv {path} {self._folder}" if path.exists() else f"copy its certificate to {self._folder}"

    def _tell(self, certificate: x509.Certificate, why: str) -> None:
        """Say it once of each client: one that is refused tries again and again."""
        who = certificate.fingerprint(hashes.SHA256())
        if who not in self._told:
            if len(self._told) >= MOST_REFUSED:
                self._told.clear()
            self._told.add(who)
            log.warning("an OPC UA client was refused, %s: %s", _described(certificate), why)


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)


def _certificate_in(path: Path) -> x509.Certificate:
    content = path.read_bytes()
    is_pem = content.lstrip().startswith(b"-----BEGIN")
    return x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _is_timely(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc


def _described(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = names[0].value if names else "no name"
    return f"{name!r} of {_uris(certificate)!r} (SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()})"
