"""A UNet with compiled blocks: compiled once a kind, kept, read again, and given up where it fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loratools.base.compiled import blocks
from loratools.base.compiled.blocks import CompiledUNet
from loratools.base.compiled.store import CompiledStore
from loratools.base.compiled.trace import Arguments, BlockFunction
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.summands import RowAdapters
from loratools.base.sampling.sample import plain_unet
from tests.base.patching.test_batched_lora import adapter, branched, inputs, patched, summed


class Fake:
    """Stands for torch's compiler, which takes a minute: the graph itself, which can be counted and kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.kept: dict[str, Any] = {}
        monkeypatch.setattr(CompiledUNet, "_compiled", self.compiled)
        monkeypatch.setattr(CompiledStore, "get", lambda store, key: self.kept.get(key))
        monkeypatch.setattr(CompiledStore, "put", lambda store, key, made: self.kept.update({key: made}))

    def compiled(self, own: BlockFunction, arguments: Arguments) -> Any:
        self.made.append(own.key(arguments))
        return own.trace(arguments)


def unet(base: Base, tmp_path: Path, said: list[str]) -> CompiledUNet:
    return CompiledUNet(base, CompiledStore(tmp_path), said.append)


@torch.no_grad()
def test_blocks_are_compiled_once_a_kind_and_kept(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, said, given = Fake(monkeypatch), list[str](), inputs(base, 2)
    own, plain = unet(base, tmp_path, said), plain_unet(base)(*given)
    torch.testing.assert_close(own(*given), plain, rtol=1e-4, atol=1e-5)
    kinds = len(fake.made)
    assert 0 < kinds < len(own._blocks) and len(set(fake.made)) == kinds
    assert said[0].startswith("compiling the UNet's blocks") and said[1].startswith(f"compiled {kinds} kinds of blocks")
    own(*given)
    unet(base, tmp_path, said)(*given)
    assert len(fake.made) == kinds and len(said) == 2
    own(*inputs(base, 3))
    assert len(fake.made) == 2 * kinds
    assert not [module for module in base.unet.modules() if "forward" in vars(module)]


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_branches_are_inputs(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """Other stacks, more rows than a batch has, branches that go and come: nothing is compiled again."""
    fake, said = Fake(monkeypatch), list[str]()
    own = unet(base, tmp_path, said)
    stacks = [summed((str(n), adapter(base, n, rank=3 + n), 1.0)) for n in range(3)]
    lora = BatchedLora(base, shared=shared)
    lora.register([stacks[:2], stacks[1:]])
    lora.reserve(4)
    counts = []
    for first in (0, 1):
        pictures = [RowAdapters(stacks[first]), RowAdapters(stacks[first + 1], -0.5)]
        lora.fill(pictures, [0, 1])
        with lora.attached():
            made = own(*inputs(base, 2))
        torch.testing.assert_close(made, patched(base, pictures), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(made, branched(base, lora, pictures), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(own(*inputs(base, 2)), plain_unet(base)(*inputs(base, 2)), rtol=1e-4, atol=1e-5)
        counts.append(len(fake.made))
    assert counts[0] == counts[1]


@torch.no_grad()
@pytest.mark.parametrize("failure", ["raises", "wrong"])
def test_a_compiler_that_fails_is_done_without(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    Fake(monkeypatch)

    def compiled(own: BlockFunction, arguments: Arguments) -> Any:
        if failure == "raises":
            raise RuntimeError("no compiler\nand a long trace")
        graph = own.trace(arguments)
        return lambda *tensors: (graph(*tensors)[0] * 1.1,)

    monkeypatch.setattr(CompiledUNet, "_compiled", staticmethod(compiled))
    said, given = list[str](), inputs(base, 2)
    own = unet(base, tmp_path, said)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(own(*given), plain_unet(base)(*given))
    reason = "no compiler" if failure == "raises" else "output is 0.1 off"
    assert [text for text in said if "failed" in text] == [f"compiling failed ({said[-1].split('(')[1]}"]
    assert reason in said[-1] and "going on without it" in said[-1] and "trace" not in said[-1]
    assert len([record for record in caplog.records if record.name == blocks.__name__]) == 1


@torch.no_grad()
def test_a_lack_of_memory_is_no_failure_of_the_compiler(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fake(monkeypatch)

    def compiled(*_: object) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(CompiledUNet, "_compiled", staticmethod(compiled))
    own = unet(base, tmp_path, [])
    with pytest.raises(torch.OutOfMemoryError):
        own(*inputs(base, 2))
    assert not own.failed


def test_what_cannot_be_read_or_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CompiledStore(tmp_path / "kept")
    assert store.empty and store.get("a") is None and not caplog.records
    store.put("a", object())
    assert store.get("a") is None and store.empty and "not kept" in caplog.text
    (tmp_path / "kept" / "b.bin").write_bytes(b"damaged")
    assert store.get("b") is None and "cannot be read" in caplog.text


def test_the_oldest_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    class Artifact:
        def save(self, *, path: str, format: str) -> None:
            Path(path).write_bytes(b"x" * 100)

    monkeypatch.setattr("loratools.base.compiled.store._MOST", 250)
    store = CompiledStore(tmp_path)
    for n, key in enumerate("abc"):
        store.put(key, Artifact())
        if store.has(key):
            os.utime(tmp_path / f"{key}.bin", (n + 1, n + 1))
    assert sorted(path.stem for path in tmp_path.glob("*.bin")) == ["b", "c"]


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path))
    assert CompiledStore().folder == tmp_path / "compiled"


@pytest.mark.slow
@torch.no_grad()
def test_torchs_own_compiler(base: Base, tmp_path: Path) -> None:
    """Compiled, kept, and read by another UNet, which compiles nothing."""
    said, given = list[str](), inputs(base, 2)
    expected: Tensor = plain_unet(base)(*given)
    torch.testing.assert_close(unet(base, tmp_path, said)(*given), expected, rtol=1e-4, atol=1e-5)
    assert len(said) == 2 and list(tmp_path.glob("*.bin"))
    torch.testing.assert_close(unet(base, tmp_path, said)(*given), expected, rtol=1e-4, atol=1e-5)
    assert len(said) == 2
