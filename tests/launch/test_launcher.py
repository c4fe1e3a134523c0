"""What a launcher makes of what a person asks for: commands, environments, and mistakes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import pytest
import torch

from loratools.errors import LaunchError
from loratools.launch import launcher as module
from loratools.launch.launcher import Launcher, make_launcher

WORKER = ["loratools.launch.worker", "folder"]


def gpus(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(module, "_gpus", lambda environment: names)


def test_nothing_asked_for_is_one_process() -> None:
    assert not make_launcher(None, None).several and not make_launcher(1, None).several
    assert make_launcher(None, None, environment={"RANK": "0", "WORLD_SIZE": "2"}) == Launcher()


@pytest.mark.parametrize(
    ("asked", "device", "there", "expected"),
    [
        ("auto", "auto", (), Launcher(1)),
        ("auto", "auto", ("0", "1"), Launcher(2, ("0", "1"))),
        ("auto", "cpu", ("0", "1"), Launcher(1)),
        (2, "auto", (), Launcher(2)),
        ("2", "cuda", ("4", "7"), Launcher(2, ("4", "7"))),
        ("3", "cpu", ("0",), Launcher(3)),
    ],
)
def test_processes(
    asked: str | int, device: str, there: tuple[str, ...], expected: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, *there)
    assert make_launcher(asked, None, device, {}) == expected


@pytest.mark.parametrize(
    ("processes", "launch", "device", "environment", "message"),
    [
        ("2", "torchrun", "auto", {}, "exclude each other"),
        ("0", None, "auto", {}, "processes 0: write auto, or a whole number from 1"),
        ("two", None, "auto", {}, "processes two: write auto"),
        ("3", None, "auto", {}, "processes 3 is more than the 2 GPUs of this machine"),
        ("2", None, "cuda:1", {}, "the device cuda:1 is one, for several processes"),
        ("2", None, "auto", {"RANK": "1", "WORLD_SIZE": "2"}, "this is process 2 of 2 that a launcher started"),
        (None, " ", "auto", {}, "launch is empty"),
        (None, "no-such-launcher -n 2", "auto", {}, "there is no program 'no-such-launcher' here"),
        (None, 'torchrun "two', "auto", {}, "no closing quotation"),
    ],
)
def test_what_cannot_be_launched_is_one_sentence(
    processes: str | None,
    launch: str | None,
    device: str,
    environment: Mapping[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus(monkeypatch, "0", "1")
    with pytest.raises(LaunchError, match=message):
        make_launcher(processes, launch, device, environment)


def test_one_place_is_a_plain_process_and_several_are_torch_elastic_ones() -> None:
    two = Launcher(2)
    assert two.slots == (0, 1)
    assert two.words(WORKER, [1]) == [sys.executable, "-m", *WORKER]
    assert two.words(WORKER, [0, 1]) == [sys.executable, "-m", "loratools.launch.elastic", "2", *WORKER]


def test_a_command_starts_the_module_whatever_the_places_are() -> None:
    launcher = make_launcher(
        None, f'"{sys.executable}" --config "a b"' if os.name != "nt" else "python", environment={}
    )
    assert launcher.several and launcher.slots == (0,)
    assert launcher.words(WORKER, [0]) == [*launcher.command, "-m", *WORKER]
    if os.name != "nt":
        assert launcher.command == (sys.executable, "--config", "a b")
    assert launcher.words(WORKER, [0], alone=True) == [sys.executable, "-m", *WORKER]
    assert launcher.environment([0], {"A": "b"}) == {"A": "b"}  # it sees to that itself


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            r'"C:\Program Files\py.exe" launch --config_file="D:\my files\two.yaml"',
            ["launch", r"--config_file=D:\my files\two.yaml"],
        ),
        (r"C:\tools\torchrun.exe --x 'a b' # y", ["--x", "a b", "#", "y"]),
    ],
)
def test_paths_of_windows_keep_their_backslashes_there(
    text: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "name", "nt")
    program, *others = module._words(text)
    assert program.endswith(".exe") and program.count("\\") == 2 and others == words


def test_a_program_beside_python_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep)
    assert make_launcher(None, os.path.basename(sys.executable), environment={}).command  # noqa: PTH119


def test_each_place_has_its_gpu_and_its_part_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cores", lambda: 9)
    launcher = Launcher(4, ("2", "3", "5", "GPU-x"))
    assert launcher.environment([3], {})["CUDA_VISIBLE_DEVICES"] == "GPU-x"
    assert launcher.environment([0, 2], {})["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert launcher.environment([1], {})["OMP_NUM_THREADS"] == "2"
    assert launcher.environment([1], {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
    assert "CUDA_VISIBLE_DEVICES" not in Launcher(2).environment([1], {})
    assert "HIP_VISIBLE_DEVICES" not in launcher.environment([3], {})


def test_on_rocm_each_place_has_its_gpu_where_the_person_named_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"HIP_VISIBLE_DEVICES": "4,6", "CUDA_VISIBLE_DEVICES": "0,1"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert module._gpus(named) == ("0", "1")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    launcher = make_launcher("auto", None, "auto", named)
    assert launcher == Launcher(2, ("4", "6"))
    environment = launcher.environment([1], named)
    assert environment["HIP_VISIBLE_DEVICES"] == environment["CUDA_VISIBLE_DEVICES"] == "6"
    assert module._gpus({"CUDA_VISIBLE_DEVICES": "3,5"}) == ("3", "5")
