"""Changing ranks, and LoRAs out of tuned models, held against dense float64."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from loratools.adapter.algebra.rank import Energy, Error, Exact, Fixed, Size
from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.errors import BaseModelError, FileError, FormatError, NonFiniteError, RankError, ShapeError
from loratools.ops.extract import extract_files
from loratools.ops.merging.merge import merge_files
from loratools.ops.randomized_svd import leading
from loratools.ops.resize import resize_file
from tests.base.compvis import write_single_file
from tests.ops.conftest import CONV, KINDS, LINEAR, POINT, TEXT, Made, dense, distance, terms
from tests.tiny import TINY, save_tiny_base


@given(
    st.builds(Made, st.sampled_from(KINDS), st.integers(1, 4), st.sampled_from([None, 0.7]), st.integers(0, 9)),
    st.sampled_from([Exact(), Fixed(2), Error(0.3), Energy(0.8)]),
)
@settings(max_examples=30, deadline=None)
def test_resize_is_the_best_approximation(
    tmp_path_factory: pytest.TempPathFactory, made: Made, rule: Exact | Fixed | Error | Energy
) -> None:
    folder = tmp_path_factory.mktemp("r")
    path = made.save(folder / "a.safetensors")
    asked = dense(path)
    best2 = 0.0
    report = resize_file(read(path), folder / "o.safetensors", rule=rule, dtype=torch.float32)
    for name, matrix in asked.items():
        s2 = torch.linalg.svdvals(matrix) ** 2
        lost = s2[report.stored.ranks[name] :].sum()
        best2 += float(lost)
        if isinstance(rule, Error):
            assert lost <= rule.relative**2 * s2.sum() * (1 + 1e-9)
        assert report.stored.ranks[name] <= int((s2 > 1e-24 * s2[0]).sum())
    whole = sum(float(matrix.norm()) ** 2 for matrix in asked.values())
    assert distance(report.stored.path, asked) == pytest.approx((best2 / whole) ** 0.5, rel=1e-4, abs=1e-6)
    half = resize_file(read(path), folder / "h.safetensors", rule=rule)
    assert half.stored.total.storage <= 5e-4 and half.stored.error == pytest.approx(
        distance(half.stored.path, asked), rel=1e-3, abs=1e-6
    )


def test_resize_finds_what_is_really_there(tmp_path: Path) -> None:
    files = {"A": Made(seed=1, zero=(TEXT,)).save(tmp_path / "a.safetensors")}
    twice = merge_files(terms("A:1,A:0.5", **files), tmp_path / "t.safetensors", dtype=torch.float32).path
    assert set(read(twice).ranks.values()) == {6}
    report = resize_file(read(twice), tmp_path / "o.safetensors", dtype=torch.float32)
    assert set(report.stored.ranks.values()) == {3} and report.zeros == 1 and TEXT not in read(report.stored.path)
    assert report.stored.error < 1e-6
    content = json.loads(json.dumps(report.json()))
    assert content["blocks"]["M00"]["rank_before"] == 6 and content["blocks"]["M00"]["rank_after"] == [3, 3]
    assert content["zero_modules"] == 1 and "left out" in report.text() and "old rank" in report.text()
    small = resize_file(read(twice), tmp_path / "s.safetensors", rule=Size(3000))
    assert small.stored.size <= 3000


def test_resize_refuses_by_name(tmp_path: Path) -> None:
    path = Made(seed=1, zero=(TEXT, LINEAR, POINT, CONV)).save(tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="every module's difference is zero"):
        resize_file(read(path), tmp_path / "o.safetensors")
    with pytest.raises(RankError, match="above what any module"):
        resize_file(read(path), tmp_path / "o.safetensors", rule=Fixed(999))
    with pytest.raises(FileError, match="--force"):
        resize_file(read(path), path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base as a folder and a single file, and it with rank-3 changes (a 3x3 convolution among them) in fp32."""
    folder = tmp_path_factory.mktemp("models")
    base = save_tiny_base(folder / "base")
    single = write_single_file(base, folder / "base.safetensors")
    place = open_checkpoint(single).locations
    tensors = load_file(single)
    torch.manual_seed(3)
    for name in (LINEAR, POINT, CONV, TEXT):
        weight = tensors[place[f"{name}.weight"].key]
        change = torch.randn(weight.shape[0], 3) @ torch.randn(3, weight[0].numel())
        tensors[place[f"{name}.weight"].key] = weight + change.reshape(weight.shape)
    save_file(tensors, folder / "tuned.safetensors")
    return {"folder": base, "base": single, "tuned": folder / "tuned.safetensors"}


@pytest.mark.parametrize("rule", [Fixed(3), Error(1e-4), Energy(0.999999), Size(60_000)])
@pytest.mark.parametrize("before", ["base", "folder"])
def test_extract_finds_the_change(
    models: dict[str, Path], tmp_path: Path, rule: Fixed | Error | Energy | Size, before: str
) -> None:
    out = tmp_path / "o.safetensors"
    report = extract_files(models[before], models["tuned"], out, rule=rule, conv=True, dtype=torch.float32)
    one, other = open_checkpoint(models["base"]), open_checkpoint(models["tuned"])
    asked = {
        name: (other[f"{name}.weight"].double() - one[f"{name}.weight"].double()).flatten(1)
        for name in (LINEAR, POINT, CONV, TEXT)
    }
    assert set(read(out)) == set(asked)  # what is the same in both is left out
    assert distance(out, asked) <= max(1e-6, getattr(rule, "relative", 0), 1e-3 * isinstance(rule, Energy))
    assert report.error == pytest.approx(distance(out, asked), rel=1e-2, abs=2e-6)
    without = extract_files(models[before], models["tuned"], out, rule=Fixed(3), force=True)
    assert without.modules == 3 and without.error < 5e-4


def test_extract_from_full_differences(tmp_path: Path) -> None:
    path = Made("diff", seed=4).save(tmp_path / "d.safetensors")
    report = extract_files(None, path, tmp_path / "o.safetensors", rule=Fixed(3), dtype=torch.float32)
    best2 = sum(float((torch.linalg.svdvals(matrix)[3:] ** 2).sum()) for matrix in dense(path).values())
    norm2 = sum(float(matrix.norm()) ** 2 for matrix in dense(path).values())
    assert report.error == pytest.approx((best2 / norm2) ** 0.5, rel=1e-5)
    plain = Made(seed=4).save(tmp_path / "p.safetensors")
    with pytest.raises(FormatError, match="give --base"):
        extract_files(None, plain, tmp_path / "x.safetensors", rule=Fixed(3))


def test_extract_refuses_by_name(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    with pytest.raises(FormatError, match="every module's difference is zero"):
        extract_files(models["base"], models["folder"], out, rule=Fixed(3))
    lora = Made().save(tmp_path / "l.safetensors")
    with pytest.raises(BaseModelError, match="is a LoRA"):
        extract_files(models["base"], lora, out, rule=Fixed(3))
    wide = save_tiny_base(tmp_path / "wide", widths=replace(TINY, text=32))
    with pytest.raises(ShapeError, match="not one model before and after"):
        extract_files(models["folder"], wide, out, rule=Fixed(3))
    save_file({"x.weight": torch.ones(2, 2)}, tmp_path / "own.safetensors")
    with pytest.raises(BaseModelError, match="unknown family"):
        extract_files(models["base"], tmp_path / "own.safetensors", out, rule=Fixed(3))
    tensors = load_file(models["tuned"])
    tensors[open_checkpoint(models["tuned"]).locations[f"{LINEAR}.weight"].key][0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(NonFiniteError, match=r"attn1\.to_q"):
        extract_files(models["base"], tmp_path / "nan.safetensors", out, rule=Fixed(3))
    assert not out.exists()


def test_the_same_seed_gives_the_same_bytes(models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        extract_files(models["base"], models["tuned"], tmp_path / name / "o.safetensors", rule=Fixed(2))
    assert (tmp_path / "a/o.safetensors").read_bytes() == (tmp_path / "b/o.safetensors").read_bytes()


@pytest.mark.parametrize("decay", [0.0, 0.02, 0.3])
def test_the_sketch_is_near_the_best(decay: float) -> None:
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(300, 200)).Q, torch.linalg.qr(torch.randn(400, 200)).Q
    values = torch.exp(-decay * torch.arange(200.0))
    matrix = (u * values) @ v.T
    part = leading(matrix, 16, (300, 400), seed=1)
    error = float((matrix.double() - (part.u[:, :16] * part.s[:16]) @ part.v[:16]).norm())
    best = float((values[16:] ** 2).sum().sqrt())
    assert error <= 1.02 * best + 1e-6 * float(matrix.norm())


def test_a_sketch_that_missed_something_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.ops import randomized_svd

    torch.manual_seed(0)
    matrix = torch.randn(200, 3) @ torch.randn(3, 200)
    monkeypatch.setattr(
        randomized_svd, "_range", lambda matrix, random: torch.linalg.qr(torch.randn(200, 10).double()).Q
    )
    whole = leading(matrix, 2, (200, 200), seed=1)
    assert len(whole.s) == 200  # the thin SVD's
    assert torch.allclose(whole.s[:3], torch.linalg.svdvals(matrix.double())[:3])
