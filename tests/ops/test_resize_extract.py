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

from loratools.adapter.algebra.rank import Energy, Error, Exact, Fixed, RankRule, Size
from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.errors import BaseModelError, FileError, FormatError, NonFiniteError, RankError, ShapeError
from loratools.ops.extract import extract_files
from loratools.ops.extract_parts import Take
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
    with pytest.raises(FileError, match="force=True"):
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
    report = extract_files(models[before], models["tuned"], out, rule=rule, take=Take(conv=True), dtype=torch.float32)
    one, other = open_checkpoint(models["base"]), open_checkpoint(models["tuned"])
    asked = {
        name: (other[f"{name}.weight"].double() - one[f"{name}.weight"].double()).flatten(1)
        for name in (LINEAR, POINT, CONV, TEXT)
    }
    assert set(read(out)) == set(asked)  # what is the same in both is left out
    assert distance(out, asked) <= max(1e-6, getattr(rule, "relative", 0), 1e-3 * isinstance(rule, Energy))
    assert report.error == pytest.approx(distance(out, asked), rel=1e-2, abs=2e-6)
    without = extract_files(models[before], models["tuned"], out, rule=Fixed(3), force=True)
    assert without.modules == 3 and without.total.error < 5e-4
    assert [(part.option, part.names) for part in without.left_out] == [("--conv", (CONV,))]
    assert without.error == pytest.approx(distance(out, asked), rel=1e-3)


def test_extract_from_full_differences(tmp_path: Path) -> None:
    path = Made("diff", seed=4).save(tmp_path / "d.safetensors")
    report = extract_files(None, path, tmp_path / "o.safetensors", rule=Fixed(3), dtype=torch.float32)
    best2 = sum(float((torch.linalg.svdvals(matrix)[3:] ** 2).sum()) for matrix in dense(path).values())
    norm2 = sum(float(matrix.norm()) ** 2 for matrix in dense(path).values())
    assert report.error == pytest.approx((best2 / norm2) ** 0.5, rel=1e-5)
    plain = Made(seed=4).save(tmp_path / "p.safetensors")
    with pytest.raises(FormatError, match="the one before tuning as `base=`"):
        extract_files(None, plain, tmp_path / "x.safetensors", rule=Fixed(3))


NORM = "unet.mid_block.attentions.0.norm"
OUT_BIAS = "unet.mid_block.attentions.0.proj_in.bias"
CONV_IN, TIME = "unet.conv_in", "unet.time_embedding.linear_1"
TOKENS = "text_encoder.text_model.embeddings.token_embedding"


def tuned_in(models: dict[str, Path], path: Path, *parameters: str) -> Path:
    """The base with these parameters changed, as a single file."""
    tensors, place = load_file(models["base"]), open_checkpoint(models["base"]).locations
    torch.manual_seed(5)
    for name in parameters:
        tensors[place[name].key] = tensors[place[name].key] + torch.randn(tensors[place[name].key].shape)
    save_file(tensors, path)
    return path


EVERY = (f"{LINEAR}.weight", f"{CONV}.weight", f"{CONV_IN}.weight", f"{TIME}.weight", f"{NORM}.weight", f"{NORM}.bias",
         OUT_BIAS, f"{TOKENS}.weight")  # fmt: skip


@pytest.mark.parametrize(
    ("take", "options"),
    [
        (Take(), ["--conv", "--norms", "--biases", ""]),
        (Take(conv=True), ["--norms", "--biases", ""]),
        (Take(norms=True), ["--conv", "--biases", ""]),
        (Take(True, True, True), [""]),
    ],
)
@pytest.mark.parametrize("rule", [Fixed(12), Exact(), Size(10**6), Error(1e-6)])
def test_what_extract_leaves_out_counts_and_is_named(
    models: dict[str, Path], tmp_path: Path, take: Take, options: list[str], rule: RankRule
) -> None:
    tuned = tuned_in(models, tmp_path / "t.safetensors", *EVERY)
    report = extract_files(models["base"], tuned, tmp_path / "o.safetensors", rule=rule, take=take, dtype=torch.float32)
    one, other = open_checkpoint(models["base"]), open_checkpoint(tuned)
    stored, lost2, whole2 = read(report.path), 0.0, 0.0
    for key in EVERY:
        asked = other[key].double() - one[key].double()
        name = key if key in stored else key.removesuffix(".weight")
        got = stored.delta(name, torch.float64).dense().reshape(asked.shape) if name in stored else 0
        lost2, whole2 = lost2 + float((asked - got).square().sum()), whole2 + float(asked.square().sum())
    assert report.error == pytest.approx((lost2 / whole2) ** 0.5, rel=1e-3)
    assert [part.option for part in report.left_out] == options
    value = json.loads(json.dumps(report.json()))
    assert value["error"] == report.error and value["error_of_kept"] == report.total.error
    assert [part["option"] for part in value["left_out"]] == [option or None for option in options]
    assert float(stored.metadata["loratools_error"]) == pytest.approx(report.error, rel=1e-2)
    assert (
        "left out: " in report.text() and "1 embedding or other parameter (no LoRA file holds them) =" in report.text()
    )
    if take.norms:
        assert {f"{NORM}.weight", f"{NORM}.bias"} <= set(stored)
        assert {"lora_unet_mid_block_attentions_0_norm.w_norm", "lora_unet_mid_block_attentions_0_norm.b_norm"} <= set(
            load_file(report.path)
        )
    assert (CONV_IN in stored and TIME in stored) == take.conv and (OUT_BIAS in stored) == take.biases
    assert not take.biases or "lora_unet_mid_block_attentions_0_proj_in.diff_b" in load_file(report.path)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((f"{TOKENS}.weight",), "what did change is 1 embedding or other parameter .no LoRA file holds them"),
        ((f"{NORM}.weight", f"{NORM}.bias"), r"what did change is 2 norm parameters \(--norms\)"),
        ((OUT_BIAS, f"{CONV}.weight"), r"1 convolution or other layer \(--conv\), 1 bias \(--biases\)"),
    ],
)
def test_extract_of_nothing_says_what_did_change(
    models: dict[str, Path], tmp_path: Path, parameters: tuple[str, ...], message: str
) -> None:
    tuned = tuned_in(models, tmp_path / "t.safetensors", *parameters)
    with pytest.raises(FormatError, match=f"of what it may hold nothing changed; .*{message}"):
        extract_files(models["base"], tuned, tmp_path / "o.safetensors", rule=Fixed(3))


def test_what_only_one_model_has_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    tuned = tuned_in(models, tmp_path / "t.safetensors", f"{LINEAR}.weight")
    key = open_checkpoint(tuned).locations[f"{NORM}.weight"].key
    save_file({name: tensor for name, tensor in load_file(tuned).items() if name != key}, tuned)
    report = extract_files(models["base"], tuned, tmp_path / "o.safetensors", rule=Fixed(3))
    (warning,) = report.warnings
    assert warning.startswith("1 parameter is in only one of the models") and f"{NORM}.weight" in warning


def test_norms_and_biases_of_an_adapter_count_too(tmp_path: Path) -> None:
    stem = "lora_unet_mid_block_attentions_0"
    tensors = {f"{stem}_proj_in.diff": torch.randn(6, 10), f"{stem}_proj_in.diff_b": torch.randn(6),
               f"{stem}_norm.w_norm": torch.randn(6), f"{stem}_norm.b_norm": torch.randn(6)}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    few = extract_files(None, tmp_path / "a.safetensors", tmp_path / "o.safetensors", rule=Fixed(6))
    assert [(part.option, len(part.names)) for part in few.left_out] == [("--norms", 2), ("--biases", 1)]
    norms = sum(float(value.square().sum()) for value in tensors.values())
    left = norms - float(tensors[f"{stem}_proj_in.diff"].square().sum())
    assert few.error == pytest.approx((left / norms) ** 0.5, rel=1e-3)
    take = Take(norms=True, biases=True)
    every = extract_files(None, tmp_path / "a.safetensors", tmp_path / "e.safetensors", rule=Fixed(6), take=take)
    assert not every.left_out and set(load_file(every.path)) >= set(tensors) - {f"{stem}_proj_in.diff"}


def test_extract_refuses_by_name(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    with pytest.raises(FormatError, match=r"are the same in both models \(VAEs are not compared\)"):
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
    learnt = tmp_path / "learnt.safetensors"
    save_file({"lora_unet_mid_block_attentions_0_proj_in.diff": torch.randn(32, 32)}, learnt)
    with pytest.raises(BaseModelError, match="holds differences to a base, not a tuned model; give it alone"):
        extract_files(models["base"], learnt, out, rule=Fixed(3))
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
