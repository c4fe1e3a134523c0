"""Apple's GPUs and AMD's, by mocks: what is chosen, measured, given back; and what is CUDA's alone is fenced."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from loratools.base.fused.group_norm import triton_works
from loratools.base.load import pick_device, pick_dtype
from loratools.base.to_device import as_float64, release_cache, upload, wait_for
from loratools.errors import UnavailableError
from loratools.preview.render.memory import available
from loratools.train.callbacks.progress import memory
from loratools.train.config.config import TrainConfig
from loratools.train.dry_run.full_cost import _memory_of
from loratools.train.step.precision import pick_precision

PACKAGE = Path(__file__).parents[2] / "loratools"
MPS = torch.device("mps")


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with Apple's GPU; returns what torch.mps is asked for."""
    asked: list[str] = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("empty_cache", "synchronize"):
        monkeypatch.setattr(torch.mps, name, lambda name=name: asked.append(name))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 7 << 30)
    return asked


def test_what_is_chosen_on_apples_gpus(apple: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    monkeypatch.setattr(accelerate, "PartialState", lambda: SimpleNamespace(device=MPS))
    assert pick_device("mps") == pick_device("auto") == MPS
    assert pick_dtype(None, MPS) == torch.float16 and pick_dtype(None, MPS, half="bf16") == torch.bfloat16
    for asked, chosen in (("", "no"), ("fp16", "fp16"), ("bf16", "bf16")):
        config = TrainConfig(base="pocket", images="x", mixed_precision=asked or None)
        assert pick_precision(config, MPS).name == chosen
    with pytest.raises(UnavailableError, match=r"no device 'cuda'.*`device=cpu` or auto"):
        pick_device("cuda")


def test_without_apples_gpu_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match=r"no device 'mps' that torch can use; use `device=cpu` or auto"):
        pick_device("mps")


def test_memory_and_time_on_apples_gpus(apple: list[str]) -> None:
    assert memory(MPS) == 7 << 30 and available(MPS) is None and _memory_of(MPS) is None
    release_cache(MPS)
    wait_for(MPS)
    assert apple == ["empty_cache", "synchronize"]
    release_cache(torch.device("cpu"))
    wait_for(torch.device("cpu"))
    assert len(apple) == 2 and not triton_works(MPS)


def test_float64_is_made_on_the_cpu_where_the_gpu_has_none() -> None:
    class OnApple:
        device = MPS

        def cpu(self) -> torch.Tensor:
            return torch.ones(2)

    assert as_float64(OnApple()).dtype == torch.float64  # type: ignore[arg-type]
    here = torch.ones(2)
    assert as_float64(here).dtype == torch.float64 and upload(here, torch.device("cpu")) is here


def test_compiled_code_is_kept_by_the_version_of_rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch calls AMD's GPUs cuda; its version of CUDA is None there."""
    from loratools.base.compiled.trace import _machine

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "AMD Radeon RX 7900 XTX")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (11, 0))
    monkeypatch.setattr(torch.version, "cuda", None)
    seen = []
    for version in ("6.2", "6.4"):
        monkeypatch.setattr(torch.version, "hip", version)
        seen.append(_machine.__wrapped__(torch.device("cuda", 0)))
    assert seen[0] != seen[1] and "None" not in str(seen)


def test_triton_that_fails_on_amds_gpus_leaves_torchs_operations(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # a build without it
    monkeypatch.delitem(sys.modules, "loratools.base.fused.triton_kernels", raising=False)
    assert not triton_works.__wrapped__(torch.device("cuda", 0)) and "fused kernels are not used" in caplog.text


def test_the_studio_knows_amds_gpus_without_loading_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from loratools.studio import device

    card = tmp_path / "card1/device"
    card.mkdir(parents=True)
    (card / "mem_info_vram_total").write_text(f"{16 << 30}\n", encoding="ascii")
    (tmp_path / "card1-DP-1").mkdir()
    monkeypatch.setattr(device, "version", lambda name: "2.10.0+rocm7.0")
    assert device._amds_gpus(tmp_path) == [("AMD GPU 0", 16 << 30)]
    monkeypatch.setattr(device, "version", lambda name: "2.10.0+cpu")
    assert device._amds_gpus(tmp_path) == []


# torch.cuda's that answer on any machine
ASKED = {"is_available", "is_initialized", "device_count", "OutOfMemoryError"}
FENCES = ('"cuda"', "'cuda'", "is_cuda", "is_initialized", "torch.cuda.is_available", "device_count")
# functions that only what is fenced calls
BEHIND_A_FENCE = {
    "base/sampling/cuda_graph.py:_capture",
    "base/sampling/cuda_graph.py:capture_graph",
    "preview/render/gather.py:exchange",
    "train/step/executor.py:_capture",
    "train/step/executor.py:_capturing",
    "train/step/executor.py:_finish_once",
    "train/step/executor.py:step",
}


def unfenced(path: Path) -> Iterator[str]:
    """Functions that call torch.cuda, and neither ask for the device's kind nor stand behind what does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        calls = {
            inner.func.attr
            for inner in ast.walk(node)
            if isinstance(inner, ast.Call)
            and isinstance(inner.func, ast.Attribute)
            and ast.unparse(inner.func.value) == "torch.cuda"
        }
        if calls - ASKED and not any(fence in ast.unparse(node) for fence in FENCES):
            yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}"


def test_what_is_cudas_alone_is_fenced() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if "page" not in path.parts and b"torch.cuda" in path.read_bytes()]
    found = {name for path in paths for name in unfenced(path)}
    assert found <= BEHIND_A_FENCE, found - BEHIND_A_FENCE
    assert found >= BEHIND_A_FENCE, BEHIND_A_FENCE - found  # the list only becomes shorter
