"""Matched norms, other tools' results, merging into a model, and analysis."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import KEY, Provenance
from loratools.adapter.header import read_header
from loratools.blocks.scheme import NO_BLOCK
from loratools.errors import (
    BaseModelError,
    FileError,
    FormatError,
    MergeStringError,
    NonFiniteError,
    ShapeError,
)
from loratools.files import sha256
from loratools.ops.analysis.analyze import analyze
from loratools.ops.analysis.plot import plot
from loratools.ops.merging.combine import combine
from loratools.ops.merging.compat import Tool, compatible
from loratools.ops.merging.merge import into_provenance, merge_files, plan
from loratools.ops.merging.merge_into import merge_into
from loratools.ops.merging.method import MergeMethod
from loratools.ops.merging.norms import match_norms
from loratools.ops.merging.terms import Term
from tests.base.compvis import write_single_file
from tests.loras import lora_tensors, save
from tests.ops.conftest import CONV, LINEAR, POINT, SHAPES, TEXT, Made, dense, terms
from tests.oracle import GP1, GP2, sd1_weight
from tests.tiny import save_tiny_base


def pair(folder: Path, **settings: object) -> dict[str, Path]:
    return {
        name: Made(seed=seed, **settings).save(folder / f"{name}.safetensors")  # type: ignore[arg-type]
        for seed, name in enumerate("AB")
    }


def test_matched_norms_are_equal_in_every_block(tmp_path: Path) -> None:
    files = {
        "A": Made(seed=1, alpha=9.0, zero=(TEXT,)).save(tmp_path / "A.safetensors"),
        "B": Made(seed=2).save(tmp_path / "B.safetensors"),
    }
    matched = match_norms(terms("A:2,B:-1", **files))
    a, b = dense(files["A"]), dense(files["B"])
    for name in (LINEAR, POINT, CONV):
        inside = [n for n in SHAPES if (n in (LINEAR, CONV)) == (name in (LINEAR, CONV)) and n != TEXT]
        norms = [math.sqrt(sum(float(f[n].norm()) ** 2 for n in inside)) for f in (a, b)]
        mean = math.sqrt(norms[0] * norms[1])
        assert [t.strength(name) for t in matched] == pytest.approx([2 * mean / norms[0], -mean / norms[1]])
    assert matched[0].strength(TEXT) == 2 and matched[1].strength(TEXT) == pytest.approx(-1)
    rows = {(row.file, row.block): row.weight for row in plan(matched).rows}
    assert rows["A", "M00"] == pytest.approx(matched[0].strength(POINT))
    report = merge_files(matched, tmp_path / "o.safetensors")
    made = Provenance.from_metadata(read(report.path).metadata)
    assert made is not None and "M00" in made.step["merge"][0]["scales"] and NO_BLOCK not in made.step["merge"][0]


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sixteen")
    return {
        name: save(folder / f"{name}.safetensors", lora_tensors(rank=2, alpha=2.0, seed=seed, dtype=torch.float32))
        for seed, name in enumerate("AB")
    }


def factors(path: Path) -> Mapping[str, tuple[Tensor, Tensor]]:
    tensors = load_file(path)
    stems = {key.partition(".")[0] for key in tensors}
    return {
        stem: (
            tensors[f"{stem}.lora_up.weight"].flatten(1).double(),
            tensors[f"{stem}.lora_down.weight"].flatten(1).double(),
        )
        for stem in stems
    }


@pytest.mark.parametrize(
    ("text", "tool", "measured"),
    [
        ("A:0.5", "supermerger", 0.5),
        ("A:-1", "supermerger", 2.0),
        ("A:1,B:-1", "supermerger", 1.73),
        ("A:1:GP1,B:-1:GP2", "supermerger", 0.45),
        ("A:0.5", "supermerger-strength", 0.0),
        ("A:-1", "supermerger-strength", 0.0),
        ("A:1,B:-1", "supermerger-strength", 1.0),
        ("A:1:GP1,B:-1:GP2", "supermerger-strength", 0.63),
        ("A:1:GP1,B:-1:GP2", "lbw", 0.0),
    ],
)
def test_other_tools_errors_are_reproduced(
    sixteen: dict[str, Path], tmp_path: Path, text: str, tool: Tool, measured: float
) -> None:
    asked = terms(text, **sixteen)
    report = merge_files(asked, tmp_path / "o.safetensors", method=MergeMethod(compat=tool), dtype=torch.float32)
    assert report.distance is not None
    assert report.distance.error == pytest.approx(measured, rel=0.12, abs=1e-6)  # 0.12: random factors are small here
    if tool == "supermerger" and ":GP1" in text:
        a, b, merged = factors(sixteen["A"]), factors(sixteen["B"]), factors(report.path)
        for stem in list(a)[::50]:
            v, w = sd1_weight(stem, GP1), -sd1_weight(stem, GP2)
            wanted = (v * a[stem][0] + w * b[stem][0]) @ (v * a[stem][1] + w * b[stem][1])
            up, down = merged[stem]
            assert torch.allclose(up @ down, wanted, rtol=1e-4, atol=1e-6)


def test_other_tools_read_vectors_in_their_own_way(tmp_path: Path) -> None:
    files = {"A": Made(seed=1, names=(LINEAR, CONV, POINT)).save(tmp_path / "A.safetensors")}
    a = dense(files["A"])
    inline = terms("A:0.5:" + ",".join(["0.5"] * 17), 1.0, **files)
    assert inline[0].inline
    result = compatible(inline, "supermerger")
    assert torch.allclose(result[POINT].dense().flatten(1), 0.25 * a[POINT], atol=1e-5)  # the ratio is ignored
    conv = Made(seed=1, names=("unet.down_blocks.0.downsamplers.0.conv", POINT))
    SHAPES["unet.down_blocks.0.downsamplers.0.conv"] = (6, 4, 3, 3)
    try:
        files = {"A": conv.save(tmp_path / "C.safetensors")}
    finally:
        del SHAPES["unet.down_blocks.0.downsamplers.0.conv"]
    gone = terms("A:1:GP1", 1.0, **files)
    report = merge_files(gone, tmp_path / "o.safetensors", method=MergeMethod(compat="lbw"))
    c = dense(files["A"])
    lost = float(c["unet.down_blocks.0.downsamplers.0.conv"].norm())
    assert report.distance is not None
    assert report.distance.error == pytest.approx(lost / math.hypot(lost, 0.4 * float(c[POINT].norm())), rel=1e-3)


def test_what_other_tools_cannot_do_is_said(tmp_path: Path) -> None:
    files = {
        "A": Made().save(tmp_path / "A.safetensors"),
        "B": Made(rank=2).save(tmp_path / "B.safetensors"),
        "H": Made("loha").save(tmp_path / "H.safetensors"),
    }
    for text in ("A:1,B:1", "H:1"):
        with pytest.raises(FormatError, match="plain LoRAs of one rank"):
            compatible(terms(text, **files), "supermerger")
    with pytest.raises(MergeStringError, match="te= or unet="):
        compatible(terms("A:1:te=0.5", **files), "lbw")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    single = write_single_file(save_tiny_base(folder / "tiny"), folder / "plain.safetensors")
    save_file({**load_file(single), "extra": torch.arange(3)}, folder / "base.safetensors", {"title": "x", "n": "é"})
    return folder / "base.safetensors"


def fitting(folder: Path, base: Path) -> Path:
    checkpoint = open_checkpoint(base)
    shapes = {name: checkpoint.shapes[f"{name}.weight"] for name in (LINEAR, POINT, CONV, TEXT)}
    saved = dict(SHAPES)
    SHAPES.update(shapes)
    try:
        return Made(seed=5).save(folder / "A.safetensors")
    finally:
        SHAPES.update(saved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_merging_into_a_model_changes_only_its_modules(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    if dtype != torch.float32:
        tensors = {key: t.to(dtype) if t.is_floating_point() else t for key, t in load_file(base).items()}
        base = tmp_path / "half.safetensors"
        save_file(tensors, base, {"title": "x"})
    files = {"A": fitting(tmp_path, base)}
    asked = terms("A:0.5", **files)
    made = into_provenance(asked, base, "me")
    report = merge_into(combine(asked), base, tmp_path / "model.safetensors", provenance=made)
    before, after, change = load_file(base), load_file(report.path), dense(files["A"])
    assert list(safe_open(base, "pt").keys()) == list(safe_open(report.path, "pt").keys())
    places = {open_checkpoint(base).locations[f"{name}.weight"].key: name for name in change}
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        if key not in places:
            assert torch.equal(after[key], tensor), key
            continue
        wanted = tensor.double().flatten(1) + 0.5 * change[places[key]]
        assert torch.equal(after[key].flatten(1), wanted.to(dtype)) or float(
            (after[key].double().flatten(1) - wanted).norm() / wanted.norm()
        ) < (1e-6 if dtype == torch.float32 else 5e-4)
    metadata = safe_open(report.path, "pt").metadata()
    assert {key: metadata[key] for key in safe_open(base, "pt").metadata()} == safe_open(base, "pt").metadata()
    assert json.loads(metadata[KEY])["step"]["into"]["name"] == base.name
    assert report.modules == 4 and report.total.relative < 1e-2 and "total" in report.text()
    assert set(report.json()["blocks"]) == {"BASE", "IN01", "M00"}
    again = merge_into(combine(asked), base, tmp_path / "model.safetensors", provenance=made)
    assert again.total.relative == report.total.relative
    with pytest.raises(FileError, match="force=True"):
        merge_into(combine(asked), base, report.path, provenance=into_provenance(asked, base, "them"))


def test_a_hash_in_the_models_header_is_that_of_the_merged_tensors(base: Path, tmp_path: Path) -> None:
    model = tmp_path / "hashed.safetensors"
    save_file(load_file(base), model, {"modelspec.hash_sha256": "0xdead", "sshs_model_hash": "dead", "note": "kept"})
    asked = terms("A:0.5", A=fitting(tmp_path, base))
    path = merge_into(combine(asked), model, tmp_path / "o.safetensors", provenance=Provenance({}, "me")).path
    header = read_header(path)
    true = sha256(path, skip=header.data_start)
    assert header.metadata["modelspec.hash_sha256"] == f"0x{true}" and header.metadata["sshs_model_hash"] == true
    assert header.metadata["note"] == "kept" and list(load_file(path)) == list(load_file(model))


def test_fused_rows_are_written_where_they_were_read(tmp_path: Path) -> None:
    key = "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight"
    torch.manual_seed(0)
    save_file(
        {key: torch.randn(24, 8), "model.diffusion_model.input_blocks.4.1.proj_in.weight": torch.randn(4, 4)},
        tmp_path / "xl.safetensors",
    )
    stem = "lora_te2_text_model_encoder_layers_3_self_attn_v_proj"
    up, down = torch.randn(8, 2), torch.randn(2, 8)
    path = save(
        tmp_path / "A.safetensors",
        {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down},
        {"ss_base_model_version": "sdxl_base_v1-0"},
    )
    asked = [Term(read(path), 1.0, label="A")]
    made = into_provenance(asked, tmp_path / "xl.safetensors", "me")
    report = merge_into(combine(asked), tmp_path / "xl.safetensors", tmp_path / "o.safetensors", provenance=made)
    before, after = load_file(tmp_path / "xl.safetensors")[key], load_file(report.path)[key]
    assert torch.equal(after[:16], before[:16])
    assert torch.allclose(after[16:], before[16:] + up @ down, atol=1e-6)


def test_a_model_that_does_not_fit_is_named_and_nothing_is_written(base: Path, tmp_path: Path) -> None:
    files = {"W": Made().save(tmp_path / "W.safetensors"), "A": fitting(tmp_path, base)}
    out = tmp_path / "o.safetensors"

    def into(text: str, model: Path) -> None:
        asked = terms(text, **files)
        merge_into(combine(asked), model, out, provenance=Provenance({}, "me"))

    with pytest.raises(ShapeError, match="different base model"):
        into("W:1", base)
    with pytest.raises(BaseModelError, match="is no Diffusers folder"):
        into("A:1", tmp_path)
    with pytest.raises(BaseModelError, match="is a LoRA"):
        into("A:1", files["W"])
    half = {key: t.half() for key, t in load_file(base).items()}
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(NonFiniteError, match="smaller weights"):
        into("A:1e9", tmp_path / "half.safetensors")
    part = {key: t for key, t in load_file(base).items() if not key.startswith("cond_stage_model")}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(BaseModelError, match="lacks 1 modules"):
        into("A:1", tmp_path / "part.safetensors")
    merge_into(combine(terms("A:1:te=0", **files)), tmp_path / "part.safetensors", out, provenance=Provenance({}, "me"))
    out.unlink()
    for method in ("ties", "slerp"):  # where a text encoder is switched off, no method asks for it
        other = MergeMethod(method).result(terms("A:1:te=0,A:0.5:te=0", **files))  # type: ignore[arg-type]
        assert other is not None
        merge_into(other, tmp_path / "part.safetensors", out, provenance=Provenance({}, "me"))
        out.unlink()
    assert not out.exists() and not list(tmp_path.glob("*.part"))


def test_analysis_of_one_file(tmp_path: Path) -> None:
    path = Made(seed=1, zero=(TEXT,)).save(tmp_path / "a.safetensors")
    analysis = analyze(path)
    matrix = dense(path)[POINT]
    s2 = torch.linalg.svdvals(matrix) ** 2
    p = s2[s2 > 1e-20] / s2.sum()
    block = analysis.blocks[0]["M00"]
    assert block.effective_rank == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-6)
    assert block.stable_rank == pytest.approx(float(s2.sum() / s2[0])) and block.norm == pytest.approx(matrix.norm())
    assert sum(one.share for one in analysis.blocks[0].values()) == pytest.approx(1)
    assert analysis.blocks[0]["BASE"].effective_rank == 0 and analysis.total is None
    assert json.loads(json.dumps(analysis.json()))["blocks"]["M00"]["modules"] == 1
    assert "effective rank" in analysis.text()


def test_analysis_of_two_files(tmp_path: Path) -> None:
    one = Made(seed=1, zero=(TEXT,)).save(tmp_path / "a.safetensors")
    same = analyze(one, one)
    assert same.total is not None and same.total.cosine == pytest.approx(1) and same.total.overlap == pytest.approx(1)
    assert same.total.down == pytest.approx(1) and same.shared_start and same.total.angle < 1e-2
    assert "started from the same random A" in same.text() and "BASE" not in same.likeness
    other = Made(seed=2, rank=2).save(tmp_path / "b.safetensors")
    analysis = analyze(one, other)
    a, b = dense(one), dense(other)
    names = [name for name in a if name != TEXT]
    dot = sum(float((a[name] * b[name]).sum()) for name in names)
    norms = [math.sqrt(sum(float(f[name].norm()) ** 2 for name in names)) for f in (a, b)]
    assert analysis.total is not None and analysis.total.cosine == pytest.approx(dot / norms[0] / norms[1])
    assert analysis.total.down is None and not analysis.shared_start
    assert set(analysis.json()) >= {"files", "blocks", "cosine", "overlap", "shared_start"}
    assert plot(analysis, tmp_path / "p/x.png") == tmp_path / "p/x.png"
    assert (tmp_path / "p/x.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FormatError, match="one family"):
        analyze(one, save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1)))
