"""Taking a style out, held against dense float64 formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from loratools.adapter.algebra.rank import Fixed
from loratools.blocks.parse import parse_vector
from loratools.errors import FileError, FormatError, OptionError, ShapeError
from loratools.ops.merging.merge import merge_files
from loratools.ops.style_removal import SubtractMethod
from loratools.ops.subtract import subtract_files
from tests.loras import TINY_XL, Sizes, lora_tensors, save
from tests.ops.conftest import CONV, KINDS, LINEAR, POINT, PRESETS, TEXT, Made, dense, distance, terms


def vectors(matrix: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    kept = (s**2).cumsum(0) / (s**2).sum().clamp(min=1e-300)
    k = int((kept < energy).sum()) + 1 if float(s[0]) > 0 else 0
    return u[:, :k], v[:k]


def oracle(s: Tensor, r: Tensor, method: SubtractMethod) -> Tensor:
    match method.mode:
        case "direct":
            return s - r
        case "matched":
            multiple = float((s * r).sum() / (r * r).sum()) if float(r.norm()) else 0.0
            return s - min(max(multiple, 0.0), method.most) * r
    u, v = vectors(r, method.energy)
    if method.mode == "soft" and method.side == "output":
        return torch.linalg.solve(torch.eye(len(s)).double() + method.mu * u @ u.T, s)
    c = method.mu / (1 + method.mu) if method.mode == "soft" else 1.0
    left = u @ (u.T @ s) if method.side != "input" else s
    return s - c * (left @ v.T @ v if method.side != "output" else left)


MADE = st.builds(
    Made,
    st.sampled_from(KINDS),
    st.integers(1, 4),
    st.sampled_from([None, 0.7, 4.0]),
    st.integers(0, 9),
    st.sampled_from([(), (TEXT,), (LINEAR, CONV)]),
)
METHODS = st.builds(
    SubtractMethod,
    st.sampled_from(["matched", "project", "soft"]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from(["output", "input", "both"]),
    st.sampled_from([0.5, 3.0]),
    st.sampled_from([float("inf"), 0.2]),
)


@given(MADE, MADE, METHODS)
@settings(max_examples=60, deadline=None)
def test_every_mode_is_its_formula(
    tmp_path_factory: pytest.TempPathFactory, one: Made, other: Made, method: SubtractMethod
) -> None:
    folder = tmp_path_factory.mktemp("s")
    files = {"S": one.save(folder / "s.safetensors"), "R": other.save(folder / "r.safetensors")}
    s, r = dense(files["S"]), dense(files["R"])
    asked = {name: oracle(s[name], r[name], method) for name in s}
    scale = sum(float(matrix.norm()) ** 2 for matrix in s.values()) ** 0.5
    asked = {name: matrix * (float(matrix.norm()) > 1e-12 * scale) for name, matrix in asked.items()}
    for dtype, bound in ((torch.float32, 1e-6), (torch.float16, 5e-4)):
        out = folder / "o.safetensors"
        report = subtract_files(terms("S:1", **files), terms("R:1", **files), out, method=method, dtype=dtype)
        norm = sum(float(matrix.norm()) ** 2 for matrix in asked.values()) ** 0.5
        taken = sum(float((s[name] - asked[name]).norm()) ** 2 for name in s)
        result = dense(out)
        error = sum(float((result[name] - asked[name]).norm()) ** 2 for name in asked) ** 0.5
        parts = (scale**2 + taken) ** 0.5 if method.mode == "matched" else norm  # a matched difference stores both
        assert error <= 2**0.5 * bound * parts + 1e-9 * scale, (error, parts)
        assert report.total.kept == pytest.approx(norm / scale, rel=1e-5, abs=1e-6)
        assert report.total.removed == pytest.approx(taken / scale**2, rel=1e-4, abs=1e-9)
        assert report.stored is not None
        stated = report.stored.error * (parts if norm < parts / 2 else norm)  # relative to the parts where they cancel
        assert stated == pytest.approx(error, rel=0.02, abs=1e-6 * scale)
        out.unlink()


def test_direct_with_blocks_is_the_merge(tmp_path: Path) -> None:
    names = (LINEAR, POINT, TEXT)
    files = {
        "A": Made(seed=1, names=names).save(tmp_path / "A.safetensors"),
        "B": Made(rank=2, seed=2, names=names).save(tmp_path / "B.safetensors"),
    }
    vector = parse_vector("GP2", PRESETS, "sd1")
    report = subtract_files(
        terms("A:1", **files), terms("B:1", **files), tmp_path / "s.safetensors", method=SubtractMethod(), vector=vector
    )
    merged = merge_files(terms("A:1,B:-1:GP2", **files), tmp_path / "m.safetensors")
    assert report.stored is not None and report.stored.digest == merged.digest
    one, other = load_file(tmp_path / "s.safetensors"), load_file(tmp_path / "m.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in other)
    assert set(report.blocks) == {"BASE", "IN01", "M00"}
    content = json.loads(json.dumps(report.json()))
    assert content["mode"] == "direct" and {"cosine", "removed", "kept", "error"} <= set(content["blocks"]["M00"])
    assert "energy removed" in report.text() and "error" in report.text()
    composed = subtract_files(
        terms("A:1", **files), terms("B:0.5:GP1", **files), None, method=SubtractMethod(), vector=vector
    )
    b, total = dense(files["B"]), composed.blocks["IN01"]
    assert total.base2 == pytest.approx((0.5 * 0.6 * 0.1 * float(b[LINEAR].norm())) ** 2) and composed.stored is None


def test_block_weights_scale_what_is_removed(tmp_path: Path) -> None:
    names = (LINEAR, POINT)
    files = {
        "A": Made(seed=1, names=names).save(tmp_path / "A.safetensors"),
        "B": Made(seed=2, names=names).save(tmp_path / "B.safetensors"),
    }
    vector = parse_vector("IN01=0.5,M00=0", PRESETS, "sd1")
    s, r = dense(files["A"]), dense(files["B"])
    for method in (
        SubtractMethod("matched"),
        SubtractMethod("project", 0.9),
        SubtractMethod("project", 0.9, "both"),
        SubtractMethod("soft", mu=2),
    ):
        out = tmp_path / "o.safetensors"
        subtract_files(
            terms("A:1", **files),
            terms("B:1", **files),
            out,
            method=method,
            vector=vector,
            dtype=torch.float32,
            force=True,
        )
        whole = oracle(s[LINEAR], r[LINEAR], method)
        assert distance(out, {LINEAR: 0.5 * (s[LINEAR] + whole), POINT: s[POINT]}) < 1e-6, method


def test_a_lora_minus_itself_and_zeros(tmp_path: Path) -> None:
    files = {"A": Made(seed=1, zero=(TEXT,)).save(tmp_path / "A.safetensors")}
    for method in (
        SubtractMethod(),
        SubtractMethod("matched"),
        SubtractMethod("project", 1.0),
        SubtractMethod("project", 1.0, "both"),
    ):
        out = tmp_path / f"{method.mode}{method.side}.safetensors"
        report = subtract_files(terms("A:1", **files), terms("A:1", **files), out, method=method)
        assert report.total.cosine == pytest.approx(1) and report.total.removed == pytest.approx(1)
        assert report.total.kept < 1e-6
        assert report.blocks["BASE"].json() == {"cosine": 0.0, "removed": 0.0, "kept": 1.0}


def test_a_rank_rule_goes_with_every_mode(tmp_path: Path) -> None:
    files = {"A": Made(seed=1).save(tmp_path / "A.safetensors"), "B": Made(seed=2).save(tmp_path / "B.safetensors")}
    for mode in ("direct", "matched", "project", "soft"):
        out = tmp_path / f"{mode}.safetensors"
        method = SubtractMethod(mode)  # type: ignore[arg-type]
        report = subtract_files(terms("A:1", **files), terms("B:1", **files), out, method=method, rule=Fixed(2))
        assert report.stored is not None and report.stored.rank == 2 and report.stored.total.truncation > 0


def test_what_cannot_be_subtracted_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    files = {
        "A": Made(names=(POINT,)).save(tmp_path / "A.safetensors"),
        "W": save(tmp_path / "W.safetensors", lora_tensors(names=[POINT], sizes=Sizes((8, 12, 20, 20)))),
        "X": save(tmp_path / "X.safetensors", lora_tensors("sdxl", rank=1, sizes=TINY_XL)),
    }
    out = tmp_path / "o.safetensors"
    for other, kind in (("W", ShapeError), ("X", FormatError)):
        with pytest.raises(kind):
            subtract_files(terms("A:1", **files), terms(f"{other}:1", **files), out, method=SubtractMethod("matched"))
    for bad in ({"energy": 0.0}, {"mu": 0.0}, {"most": -1.0}, {"energy": 2.0}):
        with pytest.raises(OptionError, match="out of range"):
            SubtractMethod("soft", **bad)  # type: ignore[arg-type]
    with pytest.raises(FileError, match="force=True"):
        subtract_files(terms("A:1", **files), terms("A:1", **files), files["W"], method=SubtractMethod("project"))
    assert not out.exists()
