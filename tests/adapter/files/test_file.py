import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank
from loratools.adapter.architectures.names import lora_targets
from loratools.adapter.files import save as saving
from loratools.adapter.files.file import read, write
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.header import read_header
from loratools.errors import FileError, FormatError, NeedsBaseError, NonFiniteError, UnknownKeysError
from tests.loras import TINY_XL, lora_tensors, save
from tests.oracle import Stored, dense

PROJ = "unet.mid_block.attentions.0.proj_in"
STEM = "lora_unet_mid_block_attentions_0_proj_in"
Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("family", "conv", "count"),
    [("sd1", False, 264), ("sd1", True, 350), ("sd2", False, 330), ("sdxl", False, 986), ("sdxl", True, 1052)],
)
def test_whole_trees_read_as_the_oracle_says(tmp_path: Path, family: str, conv: bool, count: int) -> None:
    metadata = {"ss_base_model_version": "sd_v2"} if family == "sd2" else {}
    sizes = {"sizes": TINY_XL} if family == "sdxl" else {}
    path = save(tmp_path / "a.safetensors", lora_tensors(family, rank=2, alpha=1.5, conv=conv, **sizes), metadata)
    adapter, tensors = read(path), load_file(path)
    assert len(adapter) == count and adapter.family == family and set(adapter) == set(lora_targets(family, conv=conv))
    for name in list(adapter)[::17]:
        stem = adapter.stem(name)
        asked = dense({key.partition(".")[2]: t.double() for key, t in tensors.items() if key.startswith(f"{stem}.")})
        assert torch.allclose(adapter[name].dense().flatten(1), asked, rtol=1e-6, atol=1e-12)
        assert adapter.ranks[name] == 2 and adapter[name].shape == adapter.shapes[name]


@pytest.mark.parametrize("alpha", [None, 1.0, 3.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_alpha_is_folded_once_and_absent_means_rank(tmp_path: Path, alpha: float | None, dtype: torch.dtype) -> None:
    tensors = lora_tensors(names=[PROJ], rank=4, alpha=alpha, dtype=dtype)
    delta = read(save(tmp_path / "a.safetensors", tensors))[PROJ]
    up, down = (tensors[f"{STEM}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
    assert torch.allclose(delta.dense().flatten(1), (1.0 if alpha is None else alpha / 4) * up @ down, rtol=1e-6)


def test_integer_alphas_are_read(tmp_path: Path) -> None:
    tensors = lora_tensors(names=[PROJ], rank=4) | {f"{STEM}.alpha": torch.tensor(8, dtype=torch.int64)}
    assert read(save(tmp_path / "a.safetensors", tensors)).alphas[PROJ] == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_written_reads_back_with_one_alpha_and_true_facts(tmp_path: Path, dtype: torch.dtype) -> None:
    mixed = {**lora_tensors(names=[PROJ], rank=6, alpha=1.0), **lora_tensors(names=[Q], rank=3, alpha=2.0)}
    source = read(save(tmp_path / "in.safetensors", mixed))
    written = write(source, tmp_path / "out.safetensors", family="sd1", dtype=dtype, owner="me")
    again, stored = read(written.path), load_file(written.path)
    assert {float(t) for key, t in stored.items() if key.endswith(".alpha")} == {6.0} == {written.alpha}
    assert {t.dtype for t in stored.values()} == {dtype}
    assert stored[f"{STEM}.lora_down.weight"].shape == (6, 16, 1, 1)
    error = max(float((again[n].dense() - source[n].dense()).norm()) / source[n].norm() for n in source)
    assert error < {torch.float16: 5e-4, torch.bfloat16: 4e-3, torch.float32: 1e-6}[dtype]
    oracle = [Stored(path) for path in (written.path, tmp_path / "in.safetensors")]
    lost2 = sum(float(((oracle[0].dense(s) - oracle[1].dense(s)) ** 2).sum()) for s in oracle[0].stems)
    all2 = sum(float((oracle[1].dense(s) ** 2).sum()) for s in oracle[0].stems)
    assert written.error == pytest.approx((lost2 / all2) ** 0.5, rel=1e-3, abs=1e-7)
    assert again.metadata["ss_network_dim"] == "6" and again.metadata["ss_network_alpha"] == "6.0"
    assert again.metadata["ss_output_name"] == "out" and again.metadata["ss_network_module"] == "networks.lora"


def test_convolutions_tell_their_rank_in_the_network_arguments(tmp_path: Path) -> None:
    source = read(save(tmp_path / "in.safetensors", lora_tensors(rank=2, conv=True)))
    facts = read(write(source, tmp_path / "out.safetensors", family="sd1").path).metadata
    assert json.loads(facts["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "2.0"}


def test_alpha_can_be_a_training_runs_own(tmp_path: Path) -> None:
    tensors = lora_tensors(names=[PROJ], rank=4, alpha=1.0, dtype=torch.float32)
    up, down = (tensors[f"{STEM}.lora_{side}.weight"] for side in ("up", "down"))
    delta = LowRank(up.flatten(1) * 0.25, down.flatten(1), (16, 16, 1, 1))
    path = write({PROJ: delta}, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32, alpha=1.0).path
    stored = load_file(path)
    assert torch.equal(stored[f"{STEM}.lora_up.weight"], up) and torch.equal(stored[f"{STEM}.lora_down.weight"], down)
    assert float(stored[f"{STEM}.alpha"]) == 1.0


def test_hashes_are_those_of_the_written_bytes(tmp_path: Path) -> None:
    source = read(save(tmp_path / "in.safetensors", lora_tensors(rank=32)))
    facts = {"ss_training_comment": "é", "note": "not an ss_ key", "sshs_model_hash": "stale"}
    written = write(source, tmp_path / "out.safetensors", family="sd1", metadata=facts, dtype=torch.float32)
    data = written.path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    body, head = data[8 + length :], json.loads(data[8 : 8 + length])
    assert written.digest == hashlib.sha256(body).hexdigest() == read(written.path).digest
    assert head["__metadata__"]["sshs_model_hash"] == written.digest
    head["__metadata__"] = {key: value for key, value in head["__metadata__"].items() if key.startswith("ss_")}
    raw = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    whole = struct.pack("<Q", len(raw)) + raw + body
    assert len(whole) > 0x100000
    with safe_open(written.path, "pt") as file:
        legacy = hashlib.sha256(whole[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
        assert file.metadata()["sshs_legacy_hash"] == legacy and file.metadata()["note"] == "not an ss_ key"


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    source = read(save(tmp_path / "in.safetensors", lora_tensors(rank=3)))
    made = Provenance({"merge": "x"}, "step")
    for folder in ("a", "b"):
        write(source, tmp_path / folder / "out.safetensors", family="sd1", provenance=made)
    assert (tmp_path / "a/out.safetensors").read_bytes() == (tmp_path / "b/out.safetensors").read_bytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.safetensors"
    source = read(save(tmp_path / "in.safetensors", lora_tensors(rank=2)))
    write(source, out, family="sd1", owner="me")
    before, calls = out.read_bytes(), iter(range(40))

    def fail(tensor: torch.Tensor) -> memoryview:
        if next(calls, None) is None:
            raise OSError("disk full")
        return memoryview(bytes(tensor.numel() * tensor.element_size()))

    monkeypatch.setattr(saving, "_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write(source, out, family="sd1", owner="me")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.safetensors", "out.safetensors"]


def test_an_adapter_may_be_written_over_its_own_source(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", lora_tensors(rank=2))
    before = read(path)[PROJ].dense()
    write(read(path), path, family="sd1", force=True)
    assert torch.allclose(read(path)[PROJ].dense(), before, rtol=1e-3)


def test_only_the_owner_overwrites(tmp_path: Path) -> None:
    out, deltas = tmp_path / "out.safetensors", {PROJ: LowRank(torch.ones(4, 1), torch.ones(1, 4), (4, 4))}
    write(deltas, out, family="sd1", provenance=Provenance({}, "recipe.yaml final"))
    write(deltas, out, family="sd1", provenance=Provenance({}, "recipe.yaml final"))
    with pytest.raises(FileError, match=r"written by 'recipe.yaml final'.*force=True"):
        write(deltas, out, family="sd1", provenance=Provenance({}, "other"))
    write(deltas, out, family="sd1", provenance=Provenance({}, "other"), force=True)
    out.write_bytes(b"precious")
    with pytest.raises(FileError, match="was not written by this step"):
        write(deltas, out, family="sd1", provenance=Provenance({}, "other"))
    assert out.read_bytes() == b"precious"
    with pytest.raises(FileError, match="is a folder"):
        write(deltas, tmp_path, family="sd1")


def test_numbers_that_fit_no_half_are_named(tmp_path: Path) -> None:
    huge: dict[str, Delta] = {PROJ: LowRank(torch.full((4, 1), 1e20), torch.ones(1, 4), (4, 4))}
    with pytest.raises(NonFiniteError, match=r"proj_in does not fit into F16"):
        write(huge, tmp_path / "a.safetensors", family="sd1")
    assert list(tmp_path.iterdir()) == []
    write(huge, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32)
    with pytest.raises(FormatError, match="no modules"):
        write({}, tmp_path / "b.safetensors", family="sd1")


def test_full_differences_are_written_and_read(tmp_path: Path) -> None:
    value = torch.randn(4, 4)
    path = write({PROJ: Dense(value)}, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32).path
    assert read(path).kinds == {PROJ: "diff"} and torch.equal(read(path)[PROJ].dense(torch.float32), value)


def broken(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors = lora_tensors(names=[PROJ, Q], rank=4)
    for key, value in changes.items():
        del tensors[f"{STEM}.{key.replace('__', '.')}"]
        if value is not None:
            tensors[f"{STEM}.{key.replace('__', '.')}"] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (broken(alpha=torch.tensor(float("nan"))), NonFiniteError, "alpha' holds NaN"),
        (broken(alpha=torch.ones(3)), FormatError, "one number"),
        (broken(lora_up__weight=torch.zeros(16, 3, 1, 1)), FormatError, "has rank 3 but lora_down .* has rank 4"),
        (broken(lora_up__weight=torch.zeros(16)), FormatError, "no matrices"),
        (broken(lora_up__weight=torch.zeros(16, 4, 3, 3)), FormatError, "1x1"),
        (broken(lora_up__weight=None), FormatError, "other factors are missing"),
        (
            broken(lora_up__weight=torch.zeros(16, 0, 1, 1), lora_down__weight=torch.zeros(0, 16, 1, 1)),
            FormatError,
            "are empty",
        ),
        (
            lora_tensors(names=[PROJ, Q, f"{Q[:-4]}to_k"])
            | {
                "lora_unet_nonsense.lora_up.weight": torch.zeros(2, 2),
                "lora_unet_nonsense.lora_down.weight": torch.zeros(2, 2),
            },
            UnknownKeysError,
            "lora_unet_nonsense.lora_down.weight",
        ),
        (lora_tensors(names=[PROJ]) | {"surprise.weight": torch.zeros(2)}, UnknownKeysError, "surprise.weight"),
        (
            lora_tensors(names=[PROJ]) | {f"{STEM}.dora_scale": torch.zeros(2)},
            NeedsBaseError,
            "is a DoRA .*give the base",
        ),
        (lora_tensors(names=[PROJ]) | {f"{STEM}.diff": torch.zeros(2, 2)}, FormatError, "beside what makes it a lora"),
        ({f"{STEM}.oft_blocks": torch.zeros(2)}, UnknownKeysError, "OFT"),
        ({f"{STEM}.on_input": torch.zeros(2), f"{STEM}.weight": torch.zeros(2)}, UnknownKeysError, "IA3"),
        (
            {
                "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.zeros(2, 2),
                "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(2, 2),
            },
            FormatError,
            "qkv' is broken: 2 rows cannot be cut into 3",
        ),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2)}, FormatError, "base model's checkpoint"),
        ({"conv_in.weight": torch.zeros(2)}, FormatError, "base model's checkpoint"),
        ({"emb_params": torch.zeros(2, 768)}, FormatError, "is not a LoRA"),
    ],
)
def test_files_that_are_no_sound_lora_are_named(
    tmp_path: Path, tensors: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    path = save(tmp_path / "bad.safetensors", tensors)
    with pytest.raises(error, match=message) as caught:
        read(path)
    assert "bad.safetensors" in str(caught.value)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poisoned_factors_name_file_and_key(tmp_path: Path, poison: float) -> None:
    tensors = lora_tensors(names=[PROJ])
    tensors[f"{STEM}.lora_down.weight"][0, 0] = poison
    adapter = read(save(tmp_path / "bad.safetensors", tensors))
    with pytest.raises(NonFiniteError, match=r"bad\.safetensors: 'lora_unet.*lora_down\.weight' holds NaN"):
        adapter[PROJ]
    with pytest.raises(NonFiniteError):
        write(adapter, tmp_path / "out.safetensors", family="sd1")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_without_tensors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.safetensors"
    path.write_bytes(struct.pack("<Q", 8) + b"{}      ")
    with pytest.raises(FormatError, match="holds no tensors"):
        read(path)


def test_a_module_in_two_spellings_is_refused(tmp_path: Path) -> None:
    tensors = lora_tensors("sdxl", names=["unet.down_blocks.1.attentions.0.proj_in"], sizes=TINY_XL)
    twice = tensors | {
        k.replace("input_blocks_4_1", "down_blocks_1_attentions_0"): v.clone() for k, v in tensors.items()
    }
    with pytest.raises(FormatError, match=r"gives unet\.down_blocks\.1\.attentions\.0\.proj_in twice"):
        read(save(tmp_path / "bad.safetensors", twice))


@pytest.mark.parametrize("spelling", [("lora_A.weight", "lora_B.weight"), ("lora.down.weight", "lora.up.weight")])
def test_dotted_diffusers_names_are_read(tmp_path: Path, spelling: tuple[str, str]) -> None:
    down, up = torch.randn(2, 8), torch.randn(8, 2)
    text = "text_encoder.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"{stem}.{part}": tensor.clone()
        for stem in (Q, text)
        for part, tensor in zip(spelling, (down, up), strict=True)
    }
    adapter = read(save(tmp_path / "a.safetensors", tensors))
    assert list(adapter) == ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj", Q]
    assert torch.allclose(adapter[Q].dense(), up.double() @ down.double(), rtol=1e-6)


def test_the_alpha_that_diffusers_writes_into_the_header_counts(tmp_path: Path) -> None:
    down, up = torch.randn(4, 8), torch.randn(8, 4)
    tensors = {f"{stem}.lora_{side}.weight": t.clone() for stem in (Q, PROJ) for side, t in (("A", down), ("B", up))}
    settings = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2}}
    adapter = read(save(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)}))
    whole = up.double() @ down.double()
    assert torch.allclose(adapter[PROJ].dense(), 2 * whole) and torch.allclose(adapter[Q].dense(), whole / 2)
    with pytest.raises(FormatError, match="alpha is unknown"):
        read(save(tmp_path / "b.safetensors", tensors, {"lora_adapter_metadata": "{"}))


def test_the_family_is_told_by_metadata_or_width(tmp_path: Path) -> None:
    names = ["unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]
    for width, family in ((768, "sd1"), (128, "sd1"), (1024, "sd2"), (2048, "sdxl")):
        tensors = {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.randn(2, width),
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.randn(16, 2),
        }
        assert read(save(tmp_path / f"{width}.safetensors", tensors)).family == family
    tiny = save(tmp_path / "v2.safetensors", lora_tensors("sd2", names=names), {"ss_base_model_version": "sd_v2_v"})
    assert read(tiny).family == "sd2"


def test_reading_is_lazy_and_the_header_tells_layout(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", lora_tensors(rank=2))
    adapter = read(path)
    path.write_bytes(path.read_bytes()[: read_header(path).data_start])
    assert len(adapter.shapes) == 264
    with pytest.raises(FileError, match="changed while it was being read"):
        adapter[PROJ]
