import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from loratools.adapter.algebra.lowrank import Dense, LowRank
from loratools.adapter.algebra.rank import Energy, Error, Exact, Fixed, RankRule, Size
from loratools.adapter.files.file import read, write
from loratools.adapter.files.metadata import Provenance
from loratools.blocks.presets import load_presets
from loratools.errors import FileError, FormatError, MergeStringError, NonFiniteError, RankError, ShapeError
from loratools.ops.merging.merge import combine, merge_files, plan, verify
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from tests.loras import SD15, TINY_XL, Sizes, lora_tensors, save, trained
from tests.oracle import GP1, GP2, Stored, relative_error

PRESETS = load_presets()
PROJ = "unet.mid_block.attentions.0.proj_in"
Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def terms(text: str, **files: Path) -> list[Term]:
    return resolve_terms(parse_merge_string(text), lambda ref: files[ref], presets=PRESETS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small LoRAs of different rank, alpha and dtype; six modules of the second are zero, as clip skip leaves."""
    folder = tmp_path_factory.mktemp("pair")
    second = lora_tensors(rank=2, alpha=1.0, seed=2, dtype=torch.float32)
    for key, tensor in second.items():
        if "layers_11_" in key and key.endswith("lora_up.weight"):
            tensor.zero_()
    return {
        "A": save(folder / "A.safetensors", lora_tensors(rank=4, alpha=2.0, seed=1)),
        "B": save(folder / "B.safetensors", second),
    }


def check_style_merge(files: dict[str, Path], out: Path) -> None:
    report = merge_files(terms("A:1:GP1,B:-1:GP2", **files), out)
    error = relative_error(report.path, [(files["A"], 1, GP1), (files["B"], -1, GP2)])
    assert error <= 5e-4 and report.error == pytest.approx(error, rel=1e-3)
    again = verify(report.path, terms("A:1:GP1,B:-1:GP2", **files))
    assert again.error == pytest.approx(error, rel=1e-6)
    assert list(again.blocks) == list(report.blocks) and len(again.blocks) == 17
    assert again.blocks == pytest.approx({name: block.error for name, block in report.blocks.items()}, rel=1e-2)


def test_the_style_merge_is_exact_to_half_precision(pair: dict[str, Path], tmp_path: Path) -> None:
    check_style_merge(pair, tmp_path / "m.safetensors")


def test_the_style_merge_of_files_that_sd_scripts_trained_is_exact_to_half_precision(tmp_path: Path) -> None:
    check_style_merge({"A": trained("style-r8a4"), "B": trained("base-r4a1")}, tmp_path / "m.safetensors")


def test_sd15s_own_shapes_merge_exactly(tmp_path: Path) -> None:
    files = {
        name: save(tmp_path / f"{name}.safetensors", lora_tensors(sizes=SD15, rank=rank, alpha=alpha, seed=rank))
        for name, rank, alpha in (("A", 2, 1.0), ("B", 1, 1.0))
    }
    report = merge_files(terms("A:1:GP1,B:-1:GP2", **files), tmp_path / "m.safetensors")
    stored, parts = Stored(report.path), [(Stored(files["A"]), GP1), (Stored(files["B"]), GP2)]
    stem = "lora_unet_up_blocks_3_attentions_1_proj_in"
    asked = 1.1 * parts[0][0].dense(stem) - 0.2 * parts[1][0].dense(stem)
    assert float((stored.dense(stem) - asked).norm() / asked.norm()) < 5e-4 and report.error < 5e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("vector", ["", ":GP1"])
def test_minus_one_gives_the_same_bytes_but_for_the_sign_of_up(
    pair: dict[str, Path], tmp_path: Path, dtype: torch.dtype, vector: str
) -> None:
    for name in ("A", "B"):
        for weight in ("1", "-1"):
            path = tmp_path / weight / "m.safetensors"
            merge_files(terms(f"{name}:{weight}{vector}", **pair), path, dtype=dtype, force=True)
        plus, minus = load_file(tmp_path / "1/m.safetensors"), load_file(tmp_path / "-1/m.safetensors")
        assert list(plus) == list(minus)
        bits = torch.int32 if dtype is torch.float32 else torch.int16
        for key, tensor in plus.items():
            changed = tensor.view(bits) ^ minus[key].view(bits)
            sign = torch.iinfo(bits).min if key.endswith("lora_up.weight") else 0
            assert bool((changed == sign).all()), key


def test_one_lora_at_one_keeps_its_deltas_and_its_own_facts(pair: dict[str, Path], tmp_path: Path) -> None:
    report = merge_files(terms("A:1", **pair), tmp_path / "m.safetensors")
    assert report.error < 1e-6 and report.rank == 4


WEIGHTS = st.integers(-200, 200).map(lambda n: n / 100)
RESTS = st.sampled_from(["", ":GP1", ":OUTD", ":te=0", ":unet=-1"])


@given(st.lists(st.tuples(st.sampled_from("AB"), WEIGHTS, RESTS), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None)
def test_any_sum_is_exact_before_the_cast(pair: dict[str, Path], parts: list[tuple[str, float, str]]) -> None:
    combined = combine(terms(",".join(f"{name}:{weight!r}{rest}" for name, weight, rest in parts), **pair))
    for name in list(combined)[::37]:
        alone = [(t.strength(name), t.adapter.delta(name, torch.float64).dense()) for t in combined.terms]
        asked = sum((strength * dense for strength, dense in alone), torch.zeros(()))
        root = math.sqrt(sum(float((strength * dense).norm()) ** 2 for strength, dense in alone))
        assert float((combined[name].dense() - asked).norm()) <= 1e-6 * root
        assert combined[name].rank == combined.ranks[name] and combined[name].shape == combined.shapes[name]


@pytest.mark.parametrize("rule", [Fixed(2), Error(0.05), Energy(0.99), Size(170_000)])
def test_rank_rules_hold_and_state_their_error(pair: dict[str, Path], tmp_path: Path, rule: RankRule) -> None:
    text = "A:1:GP1,B:-1:GP2"
    report = merge_files(terms(text, **pair), tmp_path / "m.safetensors", rule=rule)
    true = relative_error(report.path, [(pair["A"], 1, GP1), (pair["B"], -1, GP2)])
    assert report.error == pytest.approx(true, rel=1e-4) and report.total.truncation > 10 * report.total.storage
    assert verify(report.path, terms(text, **pair)).error == pytest.approx(true, rel=1e-6)
    facts = read(report.path)
    match rule:
        case Fixed(rank):
            assert set(facts.ranks.values()) == {rank}
        case Error(relative):
            assert all(block.truncation <= relative for block in report.blocks.values())
        case Energy(keep):
            assert 1 - report.total.truncation**2 >= keep
        case Size(size):
            assert 0.97 * size < report.size <= size and len(set(facts.ranks.values())) > 1
    assert {p.name for p in tmp_path.iterdir()} == {"m.safetensors"}


def test_rules_that_cannot_be_met_are_named_and_write_nothing(pair: dict[str, Path], tmp_path: Path) -> None:
    for rule, message in ((Fixed(10_000), "above what any module"), (Size(1000), "too small")):
        with pytest.raises(RankError, match=message):
            merge_files(terms("A:1", **pair), tmp_path / "m.safetensors", rule=rule)
    assert not list(tmp_path.iterdir())


def test_a_rank_above_small_modules_is_capped(tmp_path: Path) -> None:
    sizes = Sizes((4, 6, 8, 8), 4, 4)
    path = save(tmp_path / "a.safetensors", lora_tensors(rank=9, alpha=1.0, sizes=sizes))
    report = merge_files(terms("A:1", A=path), tmp_path / "m.safetensors", rule=Fixed(7))
    assert report.rank == 7 and min(read(report.path).ranks.values()) == 4


def test_terms_that_nearly_cancel_are_rebalanced(pair: dict[str, Path], tmp_path: Path) -> None:
    for dtype, bound in ((torch.float16, 5e-4), (torch.float32, 1e-6)):
        asked = terms("A:1,A:-0.999", **pair)
        report = merge_files(asked, tmp_path / "m.safetensors", dtype=dtype, force=True)
        assert len(report.cancelled) == 264 and report.rank == 8
        assert report.error < bound * 1e-2 and relative_error(report.path, [(pair["A"], 0.001, None)]) < max(
            bound, 1e-4
        )
        assert verify(report.path, asked).error == pytest.approx(report.error, rel=0.05, abs=1e-7)
        for name in list(read(report.path))[::40]:
            delta = read(report.path)[name]
            assert isinstance(delta, LowRank) and float(delta.up.norm()) == pytest.approx(
                float(delta.down.norm()), rel=1e-2
            )


def test_a_zero_request_has_error_zero(pair: dict[str, Path], tmp_path: Path) -> None:
    for text in ("A:1,A:-1", "A:0", "A:1:NONE"):
        report = merge_files(terms(text, **pair), tmp_path / "m.safetensors", force=True)
        assert report.error == 0 and all(block.error == 0 for block in report.blocks.values())
        assert verify(report.path, terms(text, **pair)).error < 1e-12
        assert len(read(report.path)) == 264
    assert verify(pair["A"], terms("A:0", **pair)).error == math.inf


def test_kinds_ranks_shapes_and_absent_modules_mix(tmp_path: Path) -> None:
    linear = lora_tensors(names=[PROJ], rank=3, alpha=1.0, seed=3)
    linear = {key: t.flatten(1) if t.dim() == 4 else t for key, t in linear.items()}
    value = torch.randn(16, 16)
    full = write({Q: Dense(value)}, tmp_path / "full.safetensors", family="sd1", dtype=torch.float32).path
    files = {
        "A": save(tmp_path / "a.safetensors", lora_tensors(names=[PROJ, Q], rank=2)),
        "B": save(tmp_path / "b.safetensors", linear),
        "C": full,
    }
    asked = terms("A:1,B:-0.5,C:2", **files)
    for rule in (Exact(), Fixed(4)):
        report = merge_files(asked, tmp_path / "m.safetensors", dtype=torch.float32, rule=rule, force=True)
        assert verify(report.path, asked).error == pytest.approx(report.error, rel=1e-3, abs=1e-6)
    merged = read(merge_files(asked, tmp_path / "m.safetensors", dtype=torch.float32, force=True).path)
    assert merged.kinds == {PROJ: "lora", Q: "diff"} and merged.ranks[PROJ] == 5
    a = read(files["A"])[Q].dense()
    assert torch.allclose(merged[Q].dense(), a + 2 * value, atol=1e-5)


def test_shapes_that_differ_name_the_module_and_both_files(pair: dict[str, Path], tmp_path: Path) -> None:
    other = save(tmp_path / "other.safetensors", lora_tensors(sizes=Sizes((8, 12, 20, 20)), rank=2))
    out = tmp_path / "m.safetensors"
    with pytest.raises(
        ShapeError, match=r"module unet\.\S+ is \(.*\) in .*A\.safetensors and \(.*\) in .*other\.safetensors"
    ):
        merge_files(terms("A:1,B:1", A=pair["A"], B=other), out)
    with pytest.raises(ShapeError, match="module"):
        verify(other, terms("A:1", **pair))
    assert not out.exists()


def test_families_do_not_mix(pair: dict[str, Path], tmp_path: Path) -> None:
    xl = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1, sizes=TINY_XL))
    with pytest.raises(FormatError, match=r"Stable Diffusion 1 and .* for Stable Diffusion XL"):
        combine(terms("A:1,X:1", X=xl, **pair))
    with pytest.raises(FormatError, match="cannot be compared"):
        verify(xl, terms("A:1", **pair))
    with pytest.raises(MergeStringError, match="at least one"):
        combine([])


def test_sdxl_merges_with_its_own_vectors(tmp_path: Path) -> None:
    path = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1, alpha=None, sizes=TINY_XL))
    asked = terms("X:1:1,0,0,0,0,0,0,0,0,0,0,0.5,X:0.25:te=2:unet=0", X=path)
    report = merge_files(asked, tmp_path / "m.safetensors")
    stored, source = Stored(report.path), Stored(path)
    strengths = {
        "lora_te2_text_model_encoder_layers_31_mlp_fc2": 1.5,
        "lora_unet_input_blocks_4_1_proj_in": 0,
        "lora_unet_output_blocks_5_1_proj_in": 0.5,
    }
    for stem, strength in strengths.items():
        assert torch.allclose(stored.dense(stem), strength * source.dense(stem), rtol=2e-3, atol=1e-7)
    assert list(report.blocks) == ["BASE", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT0{i}" for i in range(6))]


def test_the_plan_lists_blocks_weights_and_shares(pair: dict[str, Path]) -> None:
    resolved = plan(terms("A:2:GP1,B:-1:te=0.5", **pair))
    assert len(resolved.rows) == 34 and [row.weight for row in resolved.rows[:17]] == [2 * value for value in GP1]
    assert resolved.rows[17].block == "BASE" and resolved.rows[17].weight == -0.5 and resolved.rows[17].modules == 72
    assert sum(row.share for row in resolved.rows) == pytest.approx(1)
    stored = Stored(pair["A"])
    squares = {
        block: sum(float(stored.dense(stem).norm() ** 2) for stem in stored.stems if stem.startswith(prefix))
        for block, prefix in (("IN01", "lora_unet_down_blocks_0_attentions_0"), ("M00", "lora_unet_mid_block"))
    }
    shares = {row.block: row.share for row in resolved.rows if row.file == "A"}
    asked = (0.6**2 * squares["IN01"]) / (0.4**2 * squares["M00"])
    assert shares["IN01"] / shares["M00"] == pytest.approx(asked)
    lines = resolved.text().splitlines()
    assert lines[0].split() == ["file", "block", "weight", "modules", "share"] and len(lines) == 35
    assert json.loads(json.dumps(resolved.json()))["rows"][0]["block"] == "BASE" and resolved.unblocked == ()


def test_modules_in_no_block_take_the_strength_and_are_listed(tmp_path: Path) -> None:
    names = [PROJ, "unet.conv_out", "unet.time_embedding.linear_1"]
    path = save(tmp_path / "a.safetensors", lora_tensors(names=names, rank=1))
    resolved = plan(terms("A:-0.5:NONE", A=path))
    assert resolved.unblocked == ("unet.conv_out", "unet.time_embedding.linear_1")
    assert [(row.block, row.weight, row.modules) for row in resolved.rows] == [("M00", 0, 1), ("(none)", -0.5, 2)]
    assert "in no block" in resolved.text() and "unet.conv_out" in resolved.text()
    report = merge_files(terms("A:-0.5:NONE", A=path), tmp_path / "m.safetensors")
    assert list(report.blocks) == ["M00", "(none)"] and "total" in report.text()


def test_the_result_says_how_it_was_made(pair: dict[str, Path], tmp_path: Path) -> None:
    first = merge_files(terms("A:1:GP1,B:-1", **pair), tmp_path / "first.safetensors", owner="r.yaml first")
    second = merge_files(
        terms("F:0.5,A:1", F=first.path, **pair), tmp_path / "second.safetensors", owner="r.yaml second"
    )
    facts = read(second.path).metadata
    made = Provenance.from_metadata(facts)
    assert made is not None and made.owner == "r.yaml second" and first.digest in made.ancestors
    assert [entry["digest"] for entry in made.inputs] == [first.digest, read(pair["A"]).digest]
    assert made.step["merge"][0]["weight"] == 0.5 and made.step["rank"] == "exact" and made.step["dtype"] == "fp16"
    assert facts["ss_output_name"] == "second" and facts["sshs_model_hash"] == second.digest
    assert facts["ss_network_dim"] == "10" == str(second.rank) and facts["ss_network_alpha"] == "10.0"
    assert json.loads(json.dumps(second.json()))["digest"] == second.digest


def test_the_same_request_gives_the_same_bytes(pair: dict[str, Path], tmp_path: Path) -> None:
    for rule in (Exact(), Fixed(3), Energy(0.99)):
        for folder in ("a", "b"):
            merge_files(terms("A:1:GP1,B:-1:GP2", **pair), tmp_path / folder / "m.safetensors", rule=rule, force=True)
        assert (tmp_path / "a/m.safetensors").read_bytes() == (tmp_path / "b/m.safetensors").read_bytes()


def test_failures_leave_the_output_untouched(pair: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    merge_files(terms("A:1", **pair), out, owner="mine")
    before = out.read_bytes()
    poisoned = lora_tensors(rank=1)
    next(iter(poisoned.values()))[0, 0] = float("nan")
    bad = save(tmp_path / "bad.safetensors", poisoned)
    with pytest.raises(NonFiniteError, match=r"bad\.safetensors"):
        merge_files(terms("A:1", A=bad), out, owner="mine")
    with pytest.raises(FileError, match="written by 'mine'"):
        merge_files(terms("A:1", **pair), out, owner="theirs")
    for weight, message in (("1e30", "write another type, such as fp32"), ("1e60", "use smaller weights")):
        with pytest.raises(NonFiniteError, match=message):
            merge_files(terms(f"A:{weight}", **pair), out, owner="mine")
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "bad.safetensors"}


def test_a_result_may_replace_one_of_its_parts(pair: dict[str, Path], tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", load_file(pair["A"]))
    merge_files(terms("A:2,B:0", A=path, B=pair["B"]), path, force=True)
    assert relative_error(path, [(pair["A"], 2, None)]) < 1e-6


def test_verify_counts_modules_that_only_one_side_has(tmp_path: Path) -> None:
    both = save(tmp_path / "both.safetensors", lora_tensors(names=[PROJ, Q], rank=2))
    one = save(tmp_path / "one.safetensors", lora_tensors(names=[PROJ], rank=2))
    assert verify(both, terms("A:1", A=both)).error < 1e-15
    source = read(both)
    missing = source[Q].norm() / math.hypot(source[PROJ].norm(), source[Q].norm())
    assert verify(one, terms("A:1", A=both)).error == pytest.approx(missing)
    assert verify(both, terms("A:1", A=one)).error == pytest.approx(source[Q].norm() / source[PROJ].norm())
    assert verify(both, terms("A:0.9", A=both)).error == pytest.approx(1 / 9)
    assert "total" in verify(both, terms("A:1", A=both)).text()
