"""What other programs print is read; what cannot be asked is left out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from loratools.cli import cli
from loratools.doctor import gather
from loratools.doctor.facts import Lack
from tests.doctor.test_checks import CARD, GIB

SMI = """NVIDIA GeForce RTX 4070, 581.29, 12288, 512, 8.9
NVIDIA GeForce GTX 650, 472.12, 1024, 100, [N/A]
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.
"""


def test_nvidias_table_is_read() -> None:
    first, second = gather.nvidia_cards(SMI)
    assert first == CARD
    assert (second.capability, second.memory) == (None, GIB)
    assert gather.nvidia_cards("") == ()


@pytest.mark.parametrize(
    ("text", "made"), [("2.13.0+cu130", (2, 13, 0)), ("580.65.06", (580, 65, 6)), ("nightly", ()), ("", ())]
)
def test_a_versions_numbers(text: str, made: tuple[int, ...]) -> None:
    assert gather.version(text) == made


def test_vendors_of_linux_and_windows() -> None:
    assert list(gather.vendors("0x1002\n")) == ["amd"]
    windows = "PCI\\VEN_10DE&DEV_2786&SUBSYS\r\nPCI\\VEN_8086&DEV_4680\r\nROOT\\BASICDISPLAY\r\nPCI\\VEN_1AF4"
    assert list(gather.vendors(windows)) == ["nvidia", "intel"]


def test_what_is_missing_is_told_by_extra() -> None:
    made = gather.lacks(
        [
            "torch>=1",
            "no-such-package>=3",
            "numpy>=1000",
            'pillow>=1; extra == "studio"',
            'nothing-here; extra == "tag"',
            'only-there; sys_platform == "nowhere" and extra == "tag"',
        ]
    )
    assert set(made) == {"", "studio", "tag"} and made["studio"] == ()
    assert [own.needed for own in made[""]] == ["no-such-package>=3", "numpy>=1000"]
    assert made[""][0].installed is None and made[""][1].installed
    assert made["tag"] == (Lack("nothing-here", None),)


@pytest.mark.parametrize(
    ("environment", "hub", "modules", "lacking"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:7890"}, "2.4.0", set(), "socksio"),
        ({"https_proxy": "socks5h://127.0.0.1:7890"}, "0.36.0", set(), "PySocks"),
        ({"ALL_PROXY": "socks5://127.0.0.1:7890"}, "2.4.0", {"socksio"}, None),
        ({"ALL_PROXY": "http://127.0.0.1:7890"}, "2.4.0", set(), None),
        ({}, None, set(), None),
    ],
)
def test_what_a_proxy_needs(
    environment: dict[str, str], hub: str | None, modules: set[str], lacking: str | None
) -> None:
    """huggingface_hub fetches by httpx from 1.0 on and by requests before; each has a package of its own for SOCKS."""
    assert gather.proxy_lacks(environment, hub, lambda name: name if name in modules else None) == lacking


def test_a_hub_that_is_not_asked() -> None:
    assert gather.hub_offline({"HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE"
    assert gather.hub_offline({"TRANSFORMERS_OFFLINE": "true", "HF_HUB_OFFLINE": "0"}) == "TRANSFORMERS_OFFLINE"
    assert gather.hub_offline({}) is None


def test_a_torch_that_cannot_hand_tensors_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(_: object) -> None:
        raise RuntimeError("Numpy is not available\nmore")

    assert gather._numpy_error() is None
    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    assert gather._torch().numpy_error == "RuntimeError: Numpy is not available"


def test_a_program_that_is_missing_fails_or_hangs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gather._output(["no-such-program-anywhere"]) == ""

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("x", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert gather._output(["nvidia-smi"]) == ""


def test_a_folder_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path / "not there yet"))
    assert all(folder.error is None and folder.free > 0 for folder in gather._folders())
    monkeypatch.setattr(gather.tempfile, "TemporaryFile", refuse)
    assert [folder.error for folder in gather._folders()] == ["Permission denied"] * 4


def test_the_command_looks_at_this_machine() -> None:
    """And exits with 1 where something is wrong, as its findings say."""
    shown = CliRunner().invoke(cli, ["doctor", "--json"])
    made = json.loads(shown.output)
    assert made["machine"]["torch"]["version"] and made["machine"]["system"]
    assert shown.exit_code == any(own["level"] == "wrong" for own in made["findings"])
    assert CliRunner().invoke(cli, ["doctor"]).output.startswith("loratools ")
