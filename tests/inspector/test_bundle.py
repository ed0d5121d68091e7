"""A bundle is used only when every file in it is what its manifest says."""

import json
from pathlib import Path

import pytest

from inspector.bundle import MANIFEST, MODEL, SELF_TEST_IMAGE, BundleError, describe, load_bundle, write_manifest

from .tiny import tiny_manifest


def edit(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_bundle_is_loaded(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.manifest == tiny_manifest(bundle_folder)
    assert bundle.model == bundle_folder / MODEL
    assert bundle.manifest.bundle_id in describe(bundle.manifest)


def test_a_missing_bundle_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.bundle: there is no such bundle.*inspector train"):
        load_bundle(tmp_path / "none.bundle")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no manifest\.json.*copy .* again"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"format": "zip"}', b"null"])
def test_a_manifest_that_is_none_is_refused(bundle_folder: Path, content: bytes) -> None:
    (bundle_folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(bundle_folder)


def test_a_bundle_of_a_newer_inspector_asks_for_an_update(bundle_folder: Path) -> None:
    edit(bundle_folder, format_version=2, something_new=1)
    with pytest.raises(BundleError, match=r"made by a newer Inspector.*update this station"):
        load_bundle(bundle_folder)


def test_a_manifest_with_an_unknown_key_names_it(bundle_folder: Path) -> None:
    edit(bundle_folder, thresold=1)
    with pytest.raises(BundleError, match="thresold"):
        load_bundle(bundle_folder)


def test_a_threshold_that_is_not_finite_is_refused(bundle_folder: Path) -> None:
    path = bundle_folder / MANIFEST
    path.write_text(path.read_text().replace('"value": 0.5', '"value": NaN'))
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", [MODEL, SELF_TEST_IMAGE])
def test_a_changed_file_is_refused_by_name(bundle_folder: Path, name: str) -> None:
    content = bytearray((bundle_folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: was changed or cut short"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", [MODEL, SELF_TEST_IMAGE])
def test_a_truncated_file_is_refused_by_name(bundle_folder: Path, name: str) -> None:
    content = (bundle_folder / name).read_bytes()
    (bundle_folder / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name}: was changed or cut short"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", [MODEL, SELF_TEST_IMAGE])
def test_a_missing_file_is_refused_by_name(bundle_folder: Path, name: str) -> None:
    (bundle_folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        load_bundle(bundle_folder)


def test_a_file_that_nobody_vouches_for_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "deep").mkdir()
    (bundle_folder / "deep" / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"extra\.bin: is not in the manifest"):
        load_bundle(bundle_folder)


def test_a_link_in_a_bundle_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    (bundle_folder / MODEL).rename(tmp_path / "elsewhere.onnx")
    (bundle_folder / MODEL).symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="is a link"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    "name", ["../station.toml", "/etc/passwd", "a/../../b", "..\\b", "./a", "C:b", "", "manifest.json"]
)
def test_a_name_outside_the_bundle_is_refused(bundle_folder: Path, name: str) -> None:
    files = json.loads((bundle_folder / MANIFEST).read_text())["files"]
    edit(bundle_folder, files=files | {name: "0" * 64})
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(bundle_folder)


def test_a_manifest_that_does_not_vouch_for_the_model_is_refused(bundle_folder: Path) -> None:
    files = json.loads((bundle_folder / MANIFEST).read_text())["files"]
    edit(bundle_folder, files={name: digest for name, digest in files.items() if name != MODEL})
    with pytest.raises(BundleError, match=f"does not vouch for {MODEL}"):
        load_bundle(bundle_folder)


def test_a_manifest_is_replaced_whole_and_leaves_nothing_behind(bundle_folder: Path) -> None:
    before = sorted(path.name for path in bundle_folder.iterdir())
    write_manifest(bundle_folder, tiny_manifest(bundle_folder, product="other"))
    assert load_bundle(bundle_folder).manifest.product == "other"
    assert sorted(path.name for path in bundle_folder.iterdir()) == before
