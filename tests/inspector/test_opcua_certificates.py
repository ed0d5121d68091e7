"""Certificates of OPC UA, as files."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="asyncua is not installed: pip install -e '.[opcua]'")

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from inspector.plc import PlcPortError
from inspector.plc import opcua_certificates as certificates
from inspector.plc.opcua_certificates import MOST_REFUSED, TrustedCertificates, create_certificate, load_identity

URI = "urn:test:inspector"


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_key_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create_certificate(tmp_path / "own.pem", tmp_path / "own.key", URI, [])
    finally:
        os.umask(before)
    assert (tmp_path / "own.key").stat().st_mode & 0o777 == 0o600
    assert load_identity(tmp_path / "own.pem", tmp_path / "own.key", URI)


def test_the_certificate_says_what_clients_look_for(tmp_path: Path) -> None:
    create_certificate(tmp_path / "own.der", tmp_path / "own.key", URI, ["station-3", "192.168.0.7", "::1"])
    own, _ = load_identity(tmp_path / "own.der", tmp_path / "own.key", URI)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    assert names.get_values_for_type(x509.DNSName) == ["station-3"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.168.0.7", "::1"]
    usage = own.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_encipherment
    assert usage.data_encipherment


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "own.key").write_text("precious")
    with pytest.raises(PlcPortError, match=r"own.key is there already.*move"):
        create_certificate(tmp_path / "own.der", tmp_path / "own.key", URI, [])
    assert (tmp_path / "own.key").read_text() == "precious"
    assert not (tmp_path / "own.der").exists()


def test_a_certificate_that_has_run_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "VALID_DAYS", 0)
    create_certificate(tmp_path / "own.der", tmp_path / "own.key", URI, [])
    with pytest.raises(PlcPortError, match=f"own.der is valid from .* to {datetime.now(UTC):%Y}.*clock"):
        load_identity(tmp_path / "own.der", tmp_path / "own.key", URI)
    (tmp_path / "trusted").mkdir()
    der = (tmp_path / "own.der").read_bytes()
    (tmp_path / "trusted" / "client.crt").write_bytes(der)
    assert not TrustedCertificates(tmp_path / "trusted").accepts(der)


def test_der_and_pem_are_trusted_alike(tmp_path: Path) -> None:
    create_certificate(tmp_path / "client.pem", tmp_path / "client.key", URI, [])
    pem = (tmp_path / "client.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    for name, content in {"client.pem": pem, "client.der": der, "client.CRT": pem}.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        trusted = TrustedCertificates(folder)
        trusted.check()
        assert not trusted.accepts(der)
        (folder / name).write_bytes(content)
        assert trusted.accepts(der)
    assert not trusted.accepts(b"nothing")


def test_strangers_do_not_fill_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    create_certificate(tmp_path / "client.der", tmp_path / "client.key", URI, [])
    der = (tmp_path / "client.der").read_bytes()
    refused = tmp_path / "trusted" / "refused"
    refused.mkdir(parents=True)
    for number in range(MOST_REFUSED):
        (refused / f"{number}.der").touch()
    trusted = TrustedCertificates(tmp_path / "trusted")
    for _ in range(3):
        assert not trusted.accepts(der)
    assert len(list(refused.iterdir())) == MOST_REFUSED
    assert [record.getMessage().count("copy its certificate to") for record in caplog.records] == [1]


def test_a_trust_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlcPortError, match=r"nowhere is no folder.*plc.opcua.trusted"):
        TrustedCertificates(tmp_path / "nowhere").check()
