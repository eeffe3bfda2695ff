"""Releases built and signed by a workstation and checked by a board; units and wheels."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from bundles import shape_of, write_bundle

from siftmoe.agent.errors import KeyUnusable
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.errors import ConfigError
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.models.errors import BundleCorrupt
from siftmoe.tools.flashing.building.counters import Counters
from siftmoe.tools.flashing.building.program import board_program
from siftmoe.tools.flashing.building.release import Release, agent_arguments, build_release
from siftmoe.tools.flashing.building.signing import Signer
from siftmoe.tools.flashing.building.wheels import Target, requirements
from siftmoe.tools.flashing.errors import ReleaseError
from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.installing import install
from siftmoe.tools.flashing.onboard.releases import Board
from siftmoe.tools.flashing.onboard.services import UDEV_TEXT, unit_texts
from siftmoe.tools.flashing.push import missing
from siftmoe.tools.flashing.site import Site

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target("3.10", "aarch64", "glibc-2.35")
AGENT = AgentEntry(name="one", address="tcp://192.0.2.1:5555", experts="*:0")


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    wheel = tmp_path / "some_thing-1.2-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    bundle = write_bundle(tmp_path / "bundle", shape_of())
    (tmp_path / "keys").mkdir()
    return {
        "experts": [(0, 0), (1, 0)],
        "selection": "0-1:0",
        "packing": "numpy",
        "bundle": Manifest.load(bundle),
        "target": TARGET,
        "wheels": [wheel],
        "keys": None,
        "program": b"program",
        "signer": Signer.of(tmp_path / "keys"),
        "counters": Counters(tmp_path / "keys"),
    }


def test_equal_content_is_the_same_release_and_any_change_another(parts) -> None:
    release = build_release(AGENT, **parts)
    assert build_release(AGENT, **parts) == release
    other = AgentEntry(name="two", address=AGENT.address)
    assert build_release(other, **parts).name != release.name
    assert build_release(AGENT, **{**parts, "program": b"other"}).name != release.name
    files = json.loads(release.manifest)["files"]
    assert "bundle/experts/layer_001_expert_000.onnx" in files
    assert "bundle/experts/layer_000_expert_001.onnx" not in files


def test_a_bundle_that_is_damaged_makes_no_release(parts) -> None:
    path = parts["bundle"].expert_file(1, 0).path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleCorrupt, match="expert 0 of layer 1"):
        build_release(AGENT, **parts)


def test_only_what_a_board_lacks_is_sent(parts) -> None:
    release = build_release(AGENT, **parts)
    blobs = {digest: piece.num_bytes for digest, piece in release.blobs.items()}
    inventory = {"releases": [], "blobs": blobs}
    assert missing(release, inventory) == {}
    digest = next(iter(blobs))
    blobs[digest] -= 1
    assert list(missing(release, inventory)) == [digest]
    assert missing(release, {"releases": [release.name], "blobs": {}}) == {}


def laid_out(release: Release, board: Board) -> Path:
    folder = board.incoming / release.name
    folder.mkdir(parents=True)
    (folder / "release.json").write_bytes(release.manifest)
    (folder / "release.json.sig").write_bytes(release.signature)
    return folder


def test_a_board_believes_its_signer_only(parts, tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.prepare(signers=parts["signer"].line, service={})
    release = build_release(AGENT, **parts)
    folder = laid_out(release, board)
    assert board.manifest(folder) == json.loads(release.manifest)

    (folder / "release.json").write_bytes(release.manifest.replace(b"one", b"two"))
    with pytest.raises(BoardError, match="not signed by whom"):
        board.manifest(folder)
    (folder / "release.json").write_bytes(release.manifest)
    (tmp_path / "other").mkdir()
    stranger = Signer.of(tmp_path / "other")
    (folder / "release.json.sig").write_bytes(stranger.sign(release.manifest))
    with pytest.raises(BoardError, match="not signed by whom"):
        board.manifest(folder)
    (folder / "release.json.sig").write_bytes(release.signature)
    renamed = folder.rename(board.incoming / "0123456789abcdef")
    with pytest.raises(BoardError, match="another release's"):
        board.manifest(renamed)


def test_a_board_does_not_change_its_signer_unasked(parts, tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.prepare(signers=parts["signer"].line, service={})
    (tmp_path / "other").mkdir()
    stranger = Signer.of(tmp_path / "other").line
    with pytest.raises(BoardError, match="another workstation; use --adopt"):
        board.prepare(signers=stranger, service={})
    assert board.inventory()["signers"] == parts["signer"].line
    board.prepare(signers=stranger, service={}, adopt=True)
    assert board.inventory()["signers"] == stranger


def test_a_board_takes_one_agent(tmp_path: Path) -> None:
    text = '[model]\nbundle = "b"\n'
    for number, host in enumerate(["x@here", "x@there", "x@here"]):
        text += f'[[agent]]\nname = "a{number}"\naddress = "tcp://192.0.2.1:{number + 1}"\n'
        text += f'ssh = "{host}"\n'
    (tmp_path / "testbed.toml").write_text(f'{text}[[agent]]\nname = "b"\naddress = "ipc:///b"\n')
    site = Site.load(tmp_path / "testbed.toml")
    assert site.boards(["a1", "a0"]) == [0, 1]
    with pytest.raises(ConfigError, match="'a0' and 'a2' have the same board"):
        site.boards(["a0", "a1", "a2"])
    with pytest.raises(ConfigError, match=r"'b' has no ssh"):
        site.boards(["b"])
    with pytest.raises(ConfigError, match="no agent is called 'c'"):
        site.boards(["c"])


def test_a_release_writes_nowhere_else(parts, tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.prepare(signers=parts["signer"].line, service={})
    manifest = json.loads(build_release(AGENT, **parts).manifest)
    manifest["files"] = {"../../../../evil": {"sha256": "0" * 64, "num_bytes": 0, "mode": 0o644}}
    text = json.dumps(manifest).encode()
    name = hashlib.sha256(text).hexdigest()[:16]
    signature = parts["signer"].sign(text)
    evil = Release(name=name, content="", counter=1, manifest=text, signature=signature, pieces={})
    laid_out(evil, board)
    with pytest.raises(BoardError, match="would not be inside"):
        install(board, name)
    assert board.target("current") is None


def test_a_release_that_did_not_prove_itself_is_not_switched_to(parts, tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.prepare(signers=parts["signer"].line, service={})
    release = build_release(AGENT, **parts)
    laid_out(release, board).rename(board.releases / release.name)
    with pytest.raises(BoardError, match="has not proven itself"):
        board.change_to(release.name)
    with pytest.raises(BoardError, match="no release to go back to"):
        board.change_back()
    laid_out(release, board)
    with pytest.raises(BoardError, match="did not arrive"):
        install(board, release.name)


def test_the_release_key_is_private(tmp_path: Path) -> None:
    signer = Signer.of(tmp_path)
    path = tmp_path / "release.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.of(tmp_path).line == signer.line
    assert "PRIVATE" not in repr(signer)
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        Signer.of(tmp_path)
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="is no private key"):
        Signer.of(tmp_path)


@pytest.mark.parametrize(
    ("address", "encrypted", "found"),
    [
        (
            "tcp://192.0.2.1:5555",
            True,
            ["--bind=tcp://0.0.0.0:5555", "--key={release}/keys/agent.key"],
        ),
        ("tcp://[2001:db8::1]:5555", True, ["--bind=tcp://[::]:5555"]),
        ("tcp://board.local:7", False, ["--bind=tcp://0.0.0.0:7", "--insecure"]),
        ("tcp://127.0.0.1:5555", False, ["--bind=tcp://127.0.0.1:5555"]),
        ("ipc:///run/x", False, ["--bind=ipc:///run/x"]),
    ],
)
def test_an_agent_listens_where_it_is_reached(address, encrypted, found) -> None:
    entry = AgentEntry(name="one", address=address, radio="usb:")
    arguments = agent_arguments(entry, selection="0:0", packing="numpy", encrypted=encrypted)
    assert set(found) <= set(arguments)
    assert "--radio=usb:" in arguments
    assert ("--insecure" in arguments) == ("--insecure" in found)


def test_the_boards_program_needs_python_alone_and_is_the_same_each_time(tmp_path: Path) -> None:
    assert board_program() == board_program()
    (tmp_path / "board.pyz").write_bytes(board_program())
    # -I -S: no site-packages, no environment, no folder of this repository.
    command = [
        sys.executable,
        "-I",
        "-S",
        str(tmp_path / "board.pyz"),
        "--root",
        str(tmp_path / "r"),
    ]
    done = subprocess.run([*command, "preflight"], capture_output=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert facts["writable"] is True
    refused = subprocess.run([*command, "rollback"], capture_output=True, check=False)
    assert refused.returncode == 1
    assert "no release to go back to" in json.loads(refused.stdout)["error"]


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "current").mkdir(parents=True)
    texts = unit_texts(
        root, user="root", groups=["video"], python=sys.executable, start_s=180.0, watchdog_s=20.0
    )
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in texts]
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None
    done = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # It says nothing of a wrong value unless asked; a unit with one shows that this test can fail.
    wrong = tmp_path / "wrong.service"
    wrong.write_text(texts["siftmoe-agent.service"].replace("Type=notify", "Typo=notify"))
    done = subprocess.run(
        [analyze, "verify", str(wrong)], capture_output=True, text=True, check=False
    )
    assert "Typo" in done.stdout + done.stderr


def test_the_udev_rule_names_both_products() -> None:
    lines = UDEV_TEXT.strip().splitlines()
    assert [line.split('"')[5] for line in lines] == ["b673", "b674"]
    assert all('ENV{ID_MM_DEVICE_IGNORE}="1"' in line for line in lines)


def test_wheels_are_for_the_boards_c_library(tmp_path: Path) -> None:
    options = TARGET.options()
    assert "--python-version=3.10" in options
    assert "--platform=manylinux_2_35_aarch64" in options
    assert "--platform=manylinux_2_36_aarch64" not in options
    assert TARGET.tag == "cp310-aarch64"
    with pytest.raises(ReleaseError, match=r"Python 3\.8; an agent needs 3\.10"):
        Target("3.8", "aarch64", "glibc-2.31").options()
    with pytest.raises(ReleaseError, match="wheels are for glibc"):
        Target("3.11", "x86_64", "musl-1.2").options()
    for name in ("b_c-2.0-py3-none-any.whl", "a-1-cp310-cp310-linux_aarch64.whl"):
        (tmp_path / name).write_bytes(name.encode())
    text = requirements(list(tmp_path.glob("*.whl")))
    assert [line.split(" --hash=sha256:")[0] for line in text.splitlines()] == ["a==1", "b-c==2.0"]
