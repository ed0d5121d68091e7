"""The settings of OPC UA and the file of its users; neither needs an OPC UA library."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from inspector.plc import PlcPortError
from inspector.plc.opcua_settings import OpcUaSettings
from inspector.plc.opcua_users import Role, add_user, load_users

FILES = {"certificate": "a.der", "private_key": "a.pem", "trusted": "trusted", "users": "users"}


def test_files_are_beside_the_station_file(tmp_path: Path) -> None:
    settings = OpcUaSettings.model_validate(FILES | {"users": "/etc/users"}, context={"folder": tmp_path})
    assert (settings.certificate, settings.users) == (tmp_path / "a.der", Path("/etc/users"))
    assert settings.is_encrypted
    assert settings.application_uri.startswith("urn:")


def test_everybody_may_read_without_any_file() -> None:
    assert not OpcUaSettings(anonymous=True).is_encrypted


@pytest.mark.parametrize("missing", FILES)
def test_the_files_of_encryption_come_together(missing: str) -> None:
    rest = {key: name for key, name in FILES.items() if key != missing}
    with pytest.raises(ValidationError, match=f"come together: set {missing} too"):
        OpcUaSettings.model_validate(rest | {"anonymous": True})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nobody could connect"),
        (FILES | {"certficate": "x"}, "Extra inputs"),
        (FILES | {"application_uri": "x"}, "urn"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OpcUaSettings.model_validate(settings)


def test_users_are_told_by_name_and_password(tmp_path: Path) -> None:
    path = tmp_path / "users"
    add_user(path, "line-1", Role.PLC, "correct horse")
    add_user(path, "anna", Role.OBSERVER, "battery staple")
    add_user(path, "anna", Role.MAINTENANCE, "battery staple 2")
    users = load_users(path)
    for _ in range(2):  # the second time from memory
        assert users.role_of("line-1", "correct horse") is Role.PLC
        assert users.role_of("anna", "battery staple 2") is Role.MAINTENANCE
        assert users.role_of("anna", "battery staple") is None
        assert users.role_of("line-1", "battery staple 2") is None
        assert users.role_of("nobody", "correct horse") is None
        assert users.role_of("line-1", "x" * 5000) is None
    assert "horse" not in path.read_text()
    assert path.read_text().count("anna") == 1


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_file_of_users_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        add_user(tmp_path / "users", "plc", Role.PLC, "correct horse")
    finally:
        os.umask(before)
    assert (tmp_path / "users").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


@pytest.mark.parametrize(("name", "password"), [("a:b", "correct horse"), ("", "correct horse"), ("plc", "short")])
def test_names_and_passwords_that_cannot_be_used(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"may hold only|has 8 to"):
        add_user(tmp_path / "users", name, Role.PLC, password)


@pytest.mark.parametrize("line", ["plc", "plc:boss:scrypt:00:00", "plc:plc:scrypt:zz:00", "plc:plc:scrypt:00:00"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "users").write_text(f"# the line's users\n\n{line}\n")
    with pytest.raises(PlcPortError, match=r"users: line 3 is no name:role"):
        load_users(tmp_path / "users")
