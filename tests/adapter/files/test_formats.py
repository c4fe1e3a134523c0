"""Every spelling and kind in circulation reads as the dense formulas say, and what is written reads back the same."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from loratools.adapter.algebra.lowrank import LowRank, Vector
from loratools.adapter.files.file import Adapter, open_adapter, read, write
from loratools.adapter.files.key_layout import Style
from loratools.errors import FileError, FormatError, LoratoolsError, NeedsBaseError, UnknownKeysError
from loratools.ops.convert import convert
from tests.loras import TINY_XL, lora_tensors, save
from tests.oracle import dense

Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
NORM = "lora_unet_mid_block_resnets_0_norm1"
F = 6  # width of a made-up Flux


def t(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def factors(
    stem: str,
    out: int,
    columns: int,
    *,
    rank: int = 2,
    down: str = "lora_down.weight",
    up: str = "lora_up.weight",
    seed: int = 0,
) -> dict[str, Tensor]:
    return {f"{stem}.{down}": t(rank, columns, seed=seed), f"{stem}.{up}": t(out, rank, seed=seed + 1)}


def product(tensors: Mapping[str, Tensor]) -> Tensor:
    down, up = (next(v for k, v in tensors.items() if end in k) for end in ("own", "up"))
    return up.double() @ down.double()


def far(adapter: Adapter, name: str, asked: Tensor) -> float:
    given = adapter[name].dense()
    return float((given - asked.reshape(given.shape)).norm() / asked.norm())


def alike(one: Adapter, other: Adapter) -> float:
    """The greatest relative difference over the modules of both, which must be the same."""
    assert set(one) == set(other)
    return max(
        float((one[n].dense() - other[n].dense().reshape(one.shapes[n])).norm()) / (one[n].norm() or 1) for n in one
    )


# --- fused weights ---------------------------------------------------------------------------------------------------

BLOCK = "transformer.transformer_blocks.0"
SINGLE = "transformer.single_transformer_blocks.0"


@pytest.mark.parametrize(
    ("stem", "down", "up"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "lora_down.weight", "lora_up.weight"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", "lora_A.weight", "lora_B.weight"),
        ("double_blocks.0.img_attn.qkv", "lora_A.weight", "lora_B.weight"),
        ("double_blocks.0.processor.qkv_lora1", "down.weight", "up.weight"),
        ("base_model.model.double_blocks.0.img_attn.qkv", "lora_A.default.weight", "lora_B.default.weight"),
    ],
)
def test_a_fused_qkv_is_cut_by_rows(tmp_path: Path, stem: str, down: str, up: str) -> None:
    tensors = factors(stem, 3 * F, F, down=down, up=up)
    adapter = read(save(tmp_path / "a.safetensors", tensors))
    whole = tensors[f"{stem}.{up}"].double() @ tensors[f"{stem}.{down}"].double()
    assert adapter.family == "flux" and list(adapter) == [f"{BLOCK}.attn.to_{x}" for x in "kqv"]
    for index, part in enumerate("qkv"):
        assert far(adapter, f"{BLOCK}.attn.to_{part}", whole[index * F : (index + 1) * F]) < 1e-6


def flux_tensors(rank: int = 2) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    shapes = {
        "double_blocks_0_img_attn_qkv": (3 * F, F),
        "double_blocks_0_txt_attn_qkv": (3 * F, F),
        "double_blocks_0_img_attn_proj": (F, F),
        "double_blocks_0_img_mlp_0": (4 * F, F),
        "double_blocks_0_txt_mod_lin": (6 * F, F),
        "single_blocks_0_linear1": (7 * F, F),
        "single_blocks_0_linear2": (F, 5 * F),
        "single_blocks_0_modulation_lin": (3 * F, F),
        "final_layer_adaLN_modulation_1": (2 * F, F),
        "final_layer_linear": (8, F),
    }
    for seed, (stem, shape) in enumerate(shapes.items()):
        tensors |= factors(f"lora_unet_{stem}", *shape, rank=rank, seed=10 * seed)
        tensors[f"lora_unet_{stem}.alpha"] = torch.tensor(1.0 + seed)
    return tensors


def test_flux_cut_and_joined_is_the_file_itself(tmp_path: Path) -> None:
    source = read(save(tmp_path / "a.safetensors", flux_tensors()))
    assert source.shapes[f"{SINGLE}.proj_mlp"] == (4 * F, F)
    given, path = load_file(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    written = load_file(write(source, path, family="flux", dtype=torch.float32).path)
    assert set(written) == set(given)
    for stem in {key.partition(".")[0] for key in given}:
        one, two = (
            dense({k.partition(".")[2]: v.double() for k, v in file.items() if k.startswith(f"{stem}.")})
            for file in (given, written)
        )
        assert float((one - two).norm() / one.norm()) < 1e-6, stem
        assert written[f"{stem}.lora_down.weight"].shape[0] == 2  # a shared down stays shared


def test_the_last_layers_halves_change_places(tmp_path: Path) -> None:
    tensors = factors("lora_unet_final_layer_adaLN_modulation_1", 2 * F, F) | factors(
        "lora_unet_single_blocks_0_linear2", F, 5 * F
    )
    adapter = read(save(tmp_path / "a.safetensors", tensors))
    whole = product({k: v for k, v in tensors.items() if "final" in k})
    assert far(adapter, "transformer.norm_out.linear", torch.cat([whole[F:], whole[:F]])) < 1e-6


def test_differing_downs_are_joined_block_by_block(tmp_path: Path) -> None:
    deltas = {
        f"{BLOCK}.attn.to_{x}": LowRank(t(F, r, seed=r), t(r, F, seed=9 + r), (F, F))
        for x, r in zip("qkv", (1, 2, 3), strict=True)
    }
    deltas[f"{SINGLE}.attn.to_v"] = LowRank(t(F, 2), t(2, F), (F, F))  # alone: the other rows are zeros
    path = write(deltas, tmp_path / "a.safetensors", family="flux", dtype=torch.float32).path
    stored, again = load_file(path), read(path)
    assert stored["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"].shape == (6, F)
    assert stored["lora_unet_single_blocks_0_linear1.lora_up.weight"].shape == (7 * F, 2)
    for name, delta in deltas.items():
        assert far(again, name, delta.dense()) < 1e-6
    assert not again[f"{SINGLE}.proj_mlp"].dense().any()


def test_sd3_is_cut_and_joined(tmp_path: Path) -> None:
    tensors = factors("lora_unet_joint_blocks_0_x_block_attn_qkv", 3 * F, F)
    tensors |= factors("lora_unet_joint_blocks_1_context_block_adaLN_modulation_1", 2 * F, F, seed=5)
    tensors |= factors("lora_unet_joint_blocks_0_context_block_adaLN_modulation_1", 6 * F, F, seed=7)
    source = read(save(tmp_path / "a.safetensors", tensors))
    assert source.family == "sd3"
    last = product({k: v for k, v in tensors.items() if "blocks_1" in k})
    first = product({k: v for k, v in tensors.items() if "blocks_0_context" in k})
    assert far(source, "transformer.transformer_blocks.1.norm1_context.linear", torch.cat([last[F:], last[:F]])) < 1e-6
    assert far(source, "transformer.transformer_blocks.0.norm1_context.linear", first) < 1e-6
    write(source, tmp_path / "b.safetensors", family="sd3", dtype=torch.float32)
    assert alike(source, read(tmp_path / "b.safetensors")) < 1e-6


# --- spellings -------------------------------------------------------------------------------------------------------

PATH = Q.removeprefix("unet.")


@pytest.mark.parametrize(
    ("stem", "down", "up"),
    [
        (f"unet.{PATH}", "lora.down.weight", "lora.up.weight"),
        (f"unet.{PATH}", "lora_A.weight", "lora_B.weight"),
        (f"unet.{PATH}", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
        (f"unet.{PATH.removesuffix('to_q')}processor.to_q_lora", "down.weight", "up.weight"),
        (f"{PATH.removesuffix('to_q')}processor.to_q_lora", "down.weight", "up.weight"),
        (f"base_model.model.{PATH}", "lora_A.default.weight", "lora_B.default.weight"),
        ("diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q", "lora_down.weight", "lora_up.weight"),
        (f"lycoris_{PATH.replace('.', '_')}", "lora_down.weight", "lora_up.weight"),
        (STEM, "lora_down.weight", "lora_up.weight"),
    ],
)
def test_one_module_in_every_spelling(tmp_path: Path, stem: str, down: str, up: str) -> None:
    tensors = factors(stem, 8, 8, down=down, up=up)
    adapter = read(save(tmp_path / "a.safetensors", tensors, {"ss_base_model_version": "sd_v1"}))
    assert list(adapter) == [Q] and adapter.family == "sd1"
    assert far(adapter, Q, tensors[f"{stem}.{up}"].double() @ tensors[f"{stem}.{down}"].double()) < 1e-6


def test_embeddings_in_the_bundle_are_named_and_carried(tmp_path: Path) -> None:
    extra = {"bundle_emb.cat.clip_l": t(1, 8).to(torch.bfloat16), "strange.key": torch.arange(3)}
    path = save(tmp_path / "a.safetensors", lora_tensors(names=[Q]) | extra)
    with pytest.raises(
        UnknownKeysError, match=r"1 of them bundled.*'bundle_emb\.cat\.clip_l'; nothing is dropped in silence"
    ):
        read(path)
    adapter = read(path, allow_unknown=True)
    assert set(adapter.carried) == set(extra) and list(adapter) == [Q]
    out = write(adapter, tmp_path / "b.safetensors", family="sd1", carried=adapter.carried).path
    stored = load_file(out)
    assert all(torch.equal(stored[key], value) and stored[key].dtype == value.dtype for key, value in extra.items())
    with pytest.raises(FormatError, match="has one of that name itself"):
        clash = {f"{STEM}.alpha": adapter.carried["strange.key"]}
        write(adapter, tmp_path / "c.safetensors", family="sd1", carried=clash)


# --- kinds -----------------------------------------------------------------------------------------------------------


def test_norms_and_biases_are_vectors_under_their_parameters(tmp_path: Path) -> None:
    tensors = lora_tensors(names=[Q]) | {
        f"{NORM}.w_norm": t(4),
        f"{NORM}.b_norm": t(4, seed=1),
        f"{STEM}.diff_b": t(16),
    }
    adapter = read(save(tmp_path / "a.safetensors", tensors))
    resnet = "unet.mid_block.resnets.0.norm1"
    assert set(adapter) == {Q, f"{Q}.bias", f"{resnet}.weight", f"{resnet}.bias"}
    assert isinstance(adapter[f"{Q}.bias"], Vector) and torch.equal(
        adapter[f"{resnet}.weight"].dense(torch.float32), t(4)
    )
    again = write(adapter, tmp_path / "b.safetensors", family="sd1", dtype=torch.float32).path
    assert set(load_file(again)) == set(tensors) and alike(adapter, read(again)) < 1e-6
    with pytest.raises(FormatError, match="Diffusers' LoRA files have no word"):
        write(adapter, tmp_path / "c.safetensors", family="sd1", style="diffusers")


def test_a_bias_of_lora_b_is_scaled_like_its_product(tmp_path: Path) -> None:
    tensors = factors(f"{BLOCK}.attn.to_q", F, F, down="lora_A.weight", up="lora_B.weight")
    tensors[f"{BLOCK}.attn.to_q.lora_B.bias"] = t(F)
    settings = {"transformer.lora_alpha": 4, "transformer.r": 2}
    adapter = read(save(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)}))
    assert torch.allclose(adapter[f"{BLOCK}.attn.to_q.bias"].dense(torch.float32), 2 * t(F))


def dora(weight: Tensor, direction: Tensor, magnitude: Tensor, axis: int) -> Tensor:
    moved = weight.double() + direction.double()
    dims = tuple(d for d in range(moved.dim()) if d != axis)
    norm = (moved**2).sum(dims, keepdim=True).sqrt()
    return magnitude.double() * moved / norm - weight.double()


@pytest.mark.parametrize(
    ("shape", "magnitude", "axis"),
    [
        ((8, 6), (8, 1), 0),
        ((8, 6), (1, 6), 1),
        ((6, 6), (1, 6), 1),
        ((8, 6, 3, 3), (8, 1, 1, 1), 0),
        ((8, 6, 3, 3), (1, 6, 1, 1), 1),
    ],
)
def test_dora_is_exact_with_the_base_at_hand(
    tmp_path: Path, shape: tuple[int, ...], magnitude: tuple[int, ...], axis: int
) -> None:
    name = "unet.mid_block.resnets.0.conv1" if len(shape) == 4 else Q
    stem = "lora_unet_mid_block_resnets_0_conv1" if len(shape) == 4 else STEM
    ones = (1,) * (len(shape) - 2)
    tensors = {
        f"{stem}.lora_down.weight": t(2, *shape[1:]),
        f"{stem}.lora_up.weight": t(shape[0], 2, *ones),
        f"{stem}.alpha": torch.tensor(1.0),
        f"{stem}.dora_scale": t(*magnitude).abs(),
    }
    path, weight = save(tmp_path / "a.safetensors", tensors), t(*shape, seed=3)
    direction = dense({k.partition(".")[2]: v.double() for k, v in tensors.items() if "dora" not in k}).reshape(shape)
    adapter = read(path, base={f"{name}.weight": weight})
    assert far(adapter, name, dora(weight, direction, t(*magnitude).abs(), axis)) < 1e-6
    assert adapter.kinds == {name: "dora"} and adapter.dense == {name} and adapter.shapes[name] == shape
    with pytest.raises(NeedsBaseError, match=r"a\.safetensors is a DoRA \(1 modules.*give the base"):
        read(path)
    with pytest.raises(NeedsBaseError, match="which the given base lacks"):
        read(path, base={})[name]
    with pytest.raises(LoratoolsError, match="the DoRA was trained on another one"):
        read(path, base={f"{name}.weight": t(4, 4)})[name]
    assert open_adapter(path).needs_base == {name}


@pytest.mark.parametrize("key", ["lora_magnitude_vector.weight", "lora_magnitude_vector", "magnitude"])
def test_peft_and_ai_toolkit_magnitudes_are_of_output_rows(tmp_path: Path, key: str) -> None:
    name = f"{BLOCK}.attn.to_q"
    tensors = factors(name, F, F, down="lora_A.weight", up="lora_B.weight") | {f"{name}.{key}": t(F).abs()}
    weight = t(F, F, seed=4)
    adapter = read(save(tmp_path / "a.safetensors", tensors), base={f"{name}.weight": weight})
    direction = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    assert far(adapter, name, dora(weight, direction, t(F).abs()[:, None], 0)) < 1e-6


def test_dora_of_a_fused_weight_is_normed_as_a_whole(tmp_path: Path) -> None:
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = factors(stem, 3 * F, F) | {f"{stem}.dora_scale": t(1, F).abs()}
    parts = [t(F, F, seed=i) for i in range(3)]
    base = {f"{BLOCK}.attn.to_{x}.weight": part for x, part in zip("qkv", parts, strict=True)}
    adapter = read(save(tmp_path / "a.safetensors", tensors), base=base)
    direction = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]
    asked = dora(torch.cat(parts), direction, t(1, F).abs(), 1)
    assert far(adapter, f"{BLOCK}.attn.to_k", asked[F : 2 * F]) < 1e-6


@pytest.mark.parametrize(
    ("key", "kind"), [("oft_blocks", "OFT"), ("boft_R", "BOFT"), ("on_input", "IA3"), ("a1.weight", "GLoRA")]
)
def test_kinds_that_are_no_sum_are_refused_by_name(tmp_path: Path, key: str, kind: str) -> None:
    path = save(tmp_path / "a.safetensors", {f"{STEM}.{key}": t(2, 2)})
    for allow in (False, True):
        with pytest.raises(UnknownKeysError, match=f"of the kind {kind}, which is refused: it multiplies the base"):
            read(path, allow_unknown=allow)


KINDS = st.sampled_from(["lora", "tucker", "loha", "loha_t", "lokr", "lokr_low", "lokr_t", "diff"])


@given(
    KINDS,
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([None, 0.5, 3.0]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_random_kinds_ranks_alphas_and_shapes(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    a: int,
    b: int,
    rank: int,
    conv: bool,
    alpha: float | None,
    dtype: torch.dtype,
    seed: int,
) -> None:
    conv = conv or kind in ("tucker", "loha_t", "lokr_t")
    out, columns, k = 2 * a, 2 * b, 3 if conv else 1
    kernel = (3, 3) if conv else ()
    ones = (1, 1) if conv else ()

    def side(tag: str, rows: int, width: int, tucker: bool) -> dict[str, Tensor]:
        core = tag.replace("w", "t")
        if tucker:
            return {
                core: t(rank, rank, 3, 3, seed=seed),
                f"{tag}_a": t(rank, rows),
                f"{tag}_b": t(rank, width, seed=seed),
            }
        return {f"{tag}_a": t(rows, rank, seed=seed), f"{tag}_b": t(rank, width * k * k, seed=seed + 1)}

    match kind:
        case "lora":
            parts = {"lora_down.weight": t(rank, columns, *kernel, seed=seed), "lora_up.weight": t(out, rank, *ones)}
        case "tucker":
            parts = {
                "lora_down.weight": t(rank, columns, 1, 1),
                "lora_up.weight": t(out, rank, 1, 1, seed=seed),
                "lora_mid.weight": t(rank, rank, 3, 3),
            }
        case "loha" | "loha_t":
            parts = side("hada_w1", out, columns, kind == "loha_t") | side("hada_w2", out, columns, kind == "loha_t")
        case "lokr":
            parts = {"lokr_w1": t(2, 2, seed=seed), "lokr_w2": t(a, b, *kernel)}
        case "lokr_low" | "lokr_t":
            parts = {"lokr_w1_a": t(2, 1, seed=seed), "lokr_w1_b": t(1, 2), **side("lokr_w2", a, b, kind == "lokr_t")}
        case _:
            parts = {"diff": t(out, columns, *kernel, seed=seed)}
    stem = "lora_unet_mid_block_resnets_0_conv1" if conv else STEM
    stored = {key: value.to(dtype) for key, value in parts.items()}
    if alpha is not None and kind != "diff":
        stored["alpha"] = torch.tensor(alpha)
    folder = tmp_path_factory.mktemp("kinds")
    adapter = read(save(folder / "a.safetensors", {f"{stem}.{key}": value for key, value in stored.items()}))
    (name,) = adapter
    asked = dense({key: value.double() for key, value in stored.items()})
    assert far(adapter, name, asked) < 1e-6
    styles: list[Style] = ["kohya", "diffusers"]
    for style in styles:
        out_path = folder / f"{style}.safetensors"
        write(adapter, out_path, family="sd1", dtype=torch.float32, style=style)
        assert far(read(out_path), name, asked) < 2e-6


# --- PEFT folders ----------------------------------------------------------------------------------------------------


def peft_folder(place: Path, config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Path:
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save(place / "adapter_model.safetensors", tensors)
    return place


def test_a_peft_folder_reads_with_its_patterns(tmp_path: Path) -> None:
    k = Q.replace("to_q", "to_k")
    tensors: dict[str, Tensor] = {}
    for name in (Q, k):
        tensors |= factors(
            f"base_model.model.{name.removeprefix('unet.')}", 8, 8, down="lora_A.weight", up="lora_B.weight"
        )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "alpha_pattern": {r".*attn1\.to_k": 1}, "use_rslora": False}
    adapter = read(peft_folder(tmp_path / "unet", config, tensors))
    whole = product({k: v for k, v in tensors.items() if "to_q" in k} | {"up": t(8, 2, seed=1), "own": t(2, 8)})
    assert set(adapter) == {Q, k} and far(adapter, Q, 4 * whole) < 1e-6 and far(adapter, k, whole / 2) < 1e-6
    stabilised = read(peft_folder(tmp_path / "rs", {**config, "use_rslora": True, "alpha_pattern": {}}, tensors))
    assert far(stabilised, Q, 8 / 2**0.5 * whole) < 1e-6


def test_a_folder_named_after_a_component_tells_it(tmp_path: Path) -> None:
    stem = "base_model.model.text_model.encoder.layers.0.mlp.fc1"
    tensors = factors(stem, 8, 8, down="lora_A.weight", up="lora_B.weight")
    adapter = read(peft_folder(tmp_path / "text_encoder_2", {"r": 2, "lora_alpha": 2}, tensors))
    assert list(adapter) == ["text_encoder_2.text_model.encoder.layers.0.mlp.fc1"] and adapter.family == "sdxl"


@pytest.mark.parametrize(
    ("config", "weights", "error", "message"),
    [
        ({"r": 2, "lora_alpha": 2}, None, FileError, "PEFT folder without adapter_model.safetensors"),
        ({"r": 2, "lora_alpha": 2}, "bin", FileError, "adapter_model.bin is a pickle"),
        ({"r": 2}, "good", FormatError, "gives no lora_alpha"),
        (
            {"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa"},
            "good",
            FormatError,
            "with PiSSA .*convert it",
        ),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa_niter_16"}, "good", FormatError, "PiSSA"),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "olora"}, "good", FormatError, "OLoRA"),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "corda"}, "good", FormatError, "CorDA"),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "lora_ga"}, "good", FormatError, "LoRA-GA"),
        ({"r": 2, "lora_alpha": 2, "init_lora_weights": "loftq"}, "good", FormatError, "LoftQ .*quantised"),
        ({"r": 2, "lora_alpha": "x"}, "good", FormatError, "alpha of 'x'"),
        ({"peft_type": "OFT"}, "good", FormatError, "kind OFT"),
        ({"lora_alpha": 2, "alpha_pattern": {"(a+)+b": 1}}, "good", FormatError, "too intricate"),
        ({"lora_alpha": 2, "alpha_pattern": [1]}, "good", FormatError, "no table"),
        ([], "good", FormatError, "no JSON object"),
    ],
)
def test_peft_folders_that_are_wrong_are_named(
    tmp_path: Path, config: object, weights: str | None, error: type[Exception], message: str
) -> None:
    place = tmp_path / "peft"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    if weights == "bin":
        (place / "adapter_model.bin").write_bytes(b"\x80\x02")
    if weights == "good":
        stem = f"base_model.model.{PATH}"
        save(place / "adapter_model.safetensors", factors(stem, 8, 8, down="lora_A.weight", up="lora_B.weight"))
    with pytest.raises(error, match=message) as caught:
        read(place)
    assert "peft" in str(caught.value)


# --- unknown families ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    ["lora_unet_stages_{}_mixer_q", "diffusion_model.stages.{}.mixer.q", "transformer.stages.{}.mixer.q"],
)
def test_an_unknown_model_keeps_its_own_names(tmp_path: Path, prefix: str) -> None:
    tensors: dict[str, Tensor] = {}
    for i in range(3):
        tensors |= factors(prefix.format(i), 8, 8, seed=i) | {f"{prefix.format(i)}.alpha": torch.tensor(1.0)}
    source = read(save(tmp_path / "a.safetensors", tensors))
    assert source.family == "unknown" and list(source) == [prefix.format(i) for i in range(3)]
    own = "kohya" if prefix.startswith("lora_") else "diffusers" if prefix.startswith("transformer.") else "comfy"
    styles: list[Style] = ["kohya", "diffusers", "comfy", "original"]
    for style in styles:
        out = tmp_path / f"{style}.safetensors"
        if style != own:
            with pytest.raises(FormatError, match=f"so how {style} spells its modules, .* cannot be told"):
                convert(source.path, out, style=style)
            assert not out.exists()
            continue
        again = read(convert(source.path, out, style=style, dtype="fp32").path)
        assert again.family == "unknown" and alike(source, again) < 1e-6 and list(again) == list(source)


@pytest.mark.parametrize(
    "form", ["lora_A lora_B", "lora_A.weight lora_B.weight", "lora_A.default.weight lora_B.default.weight"]
)
@pytest.mark.parametrize(
    ("stem", "family"),
    [
        ("diffusion_model.blocks.0.attn.q", "unknown"),
        ("blocks.0.attn.q", "unknown"),
        (Q, "sd1"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "flux"),
    ],
)
def test_factors_without_weight_are_factors(tmp_path: Path, stem: str, family: str, form: str) -> None:
    down, up = form.split()
    tensors = factors(stem, 8, 8, down=down, up=up)
    header = {"ss_base_model_version": "flux1"} if family == "flux" else {}
    adapter = read(save(tmp_path / "a.safetensors", tensors, header))
    assert adapter.family == family and far(adapter, *adapter, t(8, 2, seed=1) @ t(2, 8)) < 1e-6
    with pytest.raises(FormatError, match="gives the same factor twice"):
        read(save(tmp_path / "b.safetensors", factors(stem, 8, 8, down="lora_A", up="lora_B") | factors(stem, 8, 8)))


@pytest.mark.parametrize(
    "other", ["diffusion_model.layers.0.q", "layers.0.q", "transformer.base_model.model.layers.0.q"]
)
def test_a_module_in_two_spellings_is_named_twice(tmp_path: Path, other: str) -> None:
    tensors = factors("lora_unet_layers_0_q", 8, 8) | factors(other, 8, 8, down="lora_A.weight", up="lora_B.weight")
    with pytest.raises(FormatError, match=r"gives one module twice, as '.*' and as '.*'; export it again"):
        read(save(tmp_path / "a.safetensors", tensors))
    both = factors("lora_unet_layers_0_q", 8, 8) | {"lora_unet_layers_0_q.diff_b": t(8)}
    assert len(read(save(tmp_path / "b.safetensors", both))) == 2  # a weight and its bias are one module's


# --- wrappers --------------------------------------------------------------------------------------------------------

WRAPPED = (
    "{0}.base_model.model.",
    "base_model.model.{0}.",
    "module.{0}.",
    "{0}.module.",
    "module.",
    "_orig_mod.{0}.",
    "{0}.{0}.",
    "base_model.model.{0}.{0}.",
    "module.base_model.model.{0}.",
)


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize(
    ("component", "path", "family"),
    [
        ("unet", Q.removeprefix("unet."), "sd1"),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj", "sd1"),
        ("text_encoder_2", "text_model.encoder.layers.31.self_attn.q_proj", "sdxl"),
        ("transformer", "single_transformer_blocks.0.attn.to_q", "flux"),
        ("transformer", "transformer_blocks.0.attn2.to_q", "sd3"),
    ],
)
def test_wrappers_and_doubled_components_are_looked_through(
    tmp_path: Path, wrapper: str, component: str, path: str, family: str
) -> None:
    if "{0}" not in wrapper and component.startswith("text"):
        pytest.skip("without its component, which text encoder it is cannot be told")
    tensors = factors(wrapper.format(component) + path, 8, 8, down="lora_A.weight", up="lora_B.weight")
    header = {"ss_base_model_version": "flux1"} if family == "flux" else {}  # these names are other models' too
    adapter = read(save(tmp_path / "a.safetensors", tensors, header))
    assert adapter.family == family and list(adapter) == [f"{component}.{path}"]


@pytest.mark.parametrize("wrapper", ["", "{0}.", *(wrapper for wrapper in WRAPPED if "{0}" in wrapper)])
def test_a_stated_alpha_counts_under_a_wrapper(tmp_path: Path, wrapper: str) -> None:
    settings = json.dumps({"unet.lora_alpha": 6, "unet.r": 2, "unet.alpha_pattern": {"attn1.to_k": 1}})
    stem = wrapper.format("unet") + Q.removeprefix("unet.")
    tensors = factors(stem, 8, 8, down="lora_A.weight", up="lora_B.weight")
    adapter = read(save(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": settings}))
    assert adapter.alphas == ({Q: 6.0} if wrapper else {})  # bare paths belong to no component of the settings


def test_a_model_with_some_of_fluxs_names_is_not_flux(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for stem in (
        "transformer.transformer_blocks.0.attn.to_q",
        "transformer.transformer_blocks.50.attn.to_q",
        "transformer.transformer_blocks.0.img_mlp.net.2",
    ):
        tensors |= factors(stem, 8, 8, down="lora_A.weight", up="lora_B.weight")
    assert read(save(tmp_path / "a.safetensors", tensors)).family == "unknown"


def test_flux_2_is_not_taken_for_flux(tmp_path: Path) -> None:
    adapter = read(save(tmp_path / "a.safetensors", factors("single_blocks.0.linear1", 9 * F, F)))
    assert adapter.family == "flux2"
    assert list(adapter) == ["transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"]


# --- conversion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd1", "sdxl", "flux"])
@pytest.mark.parametrize("style", ["diffusers", "comfy", "original"])
def test_kohya_to_another_style_and_back_is_the_same(tmp_path: Path, family: str, style: Style) -> None:
    if family == "flux":
        tensors = flux_tensors()
    else:
        tensors = lora_tensors(
            family,
            rank=3,
            alpha=1.5,
            conv=True,
            dtype=torch.float32,
            **({"sizes": TINY_XL} if family == "sdxl" else {}),
        )
    source = read(save(tmp_path / "a.safetensors", tensors))
    there = convert(source.path, tmp_path / "b.safetensors", style=style)
    back = convert(there.path, tmp_path / "c.safetensors", style="kohya")
    assert there.dtype == back.dtype == "fp32" and there.error < (1e-12 if style == "diffusers" else 1e-6)
    assert not any(key.endswith("alpha") for key in load_file(there.path))
    assert set(load_file(back.path)) == set(tensors)
    assert alike(source, read(there.path)) < 1e-6 and alike(source, read(back.path)) < 1e-6
