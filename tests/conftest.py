"""The suite runs on several processes; each computes on one thread, as do the processes that tests start."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.at_once import rename_strictly

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported; more threads than cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# how long an example takes says nothing on a machine that does other work too
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the package keeps for the next start is kept in a folder of the tests' own."""
    os.environ["LORATOOLS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


_TESTS = itertools.count(1)
_SWEEP = 200  # tests between two looks at everything


@pytest.fixture(autouse=True)
def _frozen_heap() -> None:
    """A million objects of imported libraries and earlier tests are no garbage, and need not be looked through each
    time that a grid's session collects: that took a third of a small grid's time. What cycles keep alive in the
    meantime is swept now and then."""
    if next(_TESTS) % _SWEEP == 0:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Path]:
    """An empty cache of the Hugging Face hub, which is out of reach; ``hub(name, folder)`` puts a model into it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(name: str, folder: Path) -> Path:
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs/main").write_text("0123abcd", encoding="utf-8")
        return Path(shutil.copytree(folder, place / "snapshots/0123abcd"))

    return put


@pytest.fixture(params=["posix", "windows"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming as this system does it, and as Windows does: onto nothing that exists, not even an empty folder."""
    if request.param == "windows":
        rename_strictly(monkeypatch)
