"""What lies in an opened folder is data: nothing of it runs, whatever it is called and wherever it points."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from loratools.errors import StudioError
from loratools.studio.child_environment import child_environment
from loratools.studio.jobs.commands import Command
from loratools.studio.measuring.client import Measurer
from tests.loras import lora_tensors, save
from tests.studio.served import served

TRAP = "import pathlib; pathlib.Path({!r}).write_text('ran')\n"
NAMES = ("json.py", "click.py", "loratools.py", "sitecustomize.py", "torch.py")


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with modules that would leave a mark."""
    root = tmp_path / "root"
    root.mkdir()
    for name in NAMES:
        (root / name).write_text(TRAP.format(str(tmp_path / "mark")))
    save(root / "ink.safetensors", lora_tensors(rank=2))
    return root


def test_without_the_studios_environment_the_trap_would_run(trapped: Path) -> None:
    subprocess.run([sys.executable, "-m", "click"], cwd=trapped, check=False, capture_output=True)
    assert (trapped.parent / "mark").exists()


def test_a_job_imports_nothing_from_the_folder_that_it_runs_in(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(["", str(Path(__file__).parents[2]), ""]))  # empty: the current folder
    here = served(trapped)
    record = here.studio.queue.add(Command("merge", "t", ("--version",), trapped, False))
    here.studio.queue.start()
    deadline = time.monotonic() + 60
    while here.studio.queue.job(record.id).state not in ("done", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    state = here.studio.queue.job(record.id).state
    here.studio.queue.close()
    assert state == "done" and not (trapped.parent / "mark").exists()


@pytest.mark.slow
def test_measuring_imports_nothing_from_the_current_folder(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(trapped)
    measurer = Measurer()
    assert measurer.ask(str(trapped / "ink.safetensors") + ":1")["norm"] > 0
    measurer.close()
    assert not (trapped.parent / "mark").exists()


def test_folders_of_pythonpath_stay_those_of_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":src:")
    paths = child_environment(MORE="1")["PYTHONPATH"].split(":")
    assert paths == [str(Path(__file__).parents[2]), str(tmp_path / "src")]


@pytest.mark.parametrize("optimizer", ["evil.Optimizer", "os.system", "torch.optim.AdamW"])
def test_the_page_names_no_class_to_be_imported(tmp_path: Path, optimizer: str) -> None:
    (tmp_path / "pictures").mkdir()
    here = served(tmp_path).sign_in()
    images = here.studio.roots.id_of(tmp_path / "pictures")
    body = {"kind": "train", "base": "pocket", "images": images, "root": here.studio.roots.roots[0].id, "name": "x"}
    answer = here.client.post("/api/jobs", json={**body, "more": {"optimizer": optimizer}})
    assert answer.status_code == 400 and answer.json()["key"] == "setting.unknown"


def test_a_folder_that_is_a_symlink_outside_is_written_to_by_no_job(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "mine").symlink_to(outside, target_is_directory=True)
    roots = served(root).studio.roots
    with pytest.raises(StudioError, match="outside the opened folders"):
        roots.new_folder(roots.roots[0].id, "mine")
    assert roots.new_folder(roots.roots[0].id, "other") == root.resolve() / "other"
