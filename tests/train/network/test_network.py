"""Everything about the network beside plain LoRA, against the formulas written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from loratools.adapter.files.file import open_adapter, read
from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.errors import BlockError, NeedsBaseError, RecipeError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.config.network import NetworkConfig
from loratools.train.network.base_adapters import BaseAdapters
from loratools.train.network.dora import DoraConv, DoraLinear
from loratools.train.network.layers import LoraDropoutConv, LoraDropoutLinear, ModuleDropout, RankDropout
from loratools.train.network.network import LoraConv, Network
from loratools.train.optim.param_groups import parameter_groups
from loratools.train.output.state import load_state
from loratools.train.trainer import dry_run, train
from tests.train.network.test_layers import _sd15_on_meta

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]

QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.down_blocks.1.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.mlp.fc1"


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu")


def _network(base: Base, rank: int = 4, alpha: float | None = 2, **options: Any) -> Network:
    return Network(base, rank, alpha, 0, options=NetworkConfig(**options))


def _moved(network: Network, seed: int = 5) -> Network:
    """The network with every factor away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.layers.values():
            for factor in layer.factors().values():
                factor.add_(0.1 * torch.randn(factor.shape, generator=generator))
    return network


def _saved(network: Network, path: Path, **settings: Any) -> Path:
    write(
        network.deltas(),
        path,
        family="sd1",
        alpha=network.alphas,
        carried=network.extras(torch.float32),
        dtype=torch.float32,
        **settings,
    )
    return path


# which modules, at which rank


def test_locon_trains_the_350_modules_that_sd_scripts_does() -> None:
    network = Network(_sd15_on_meta(), 8, 4, 0, options=NetworkConfig(conv_dim=2, conv_alpha=1))
    wide = {name for name, layer in network.layers.items() if len(layer.shape) == 4 and layer.shape[2] == 3}
    assert (len(network.layers), len(wide)) == (350, 50)
    assert {(layer.rank, layer.alpha) for name, layer in network.layers.items() if name in wide} == {(2, 1)}
    rest = [layer for name, layer in network.layers.items() if name not in wide]
    assert {(layer.rank, layer.alpha) for layer in rest} == {(8, 4)}
    assert sum("time_emb_proj" in name for name in network.layers) == 22


def test_sdxl_trains_794_modules_and_66_more_with_convolutions() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            cross_attention_dim=2048,
            block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2, 10),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    meta = torch.device("meta")
    base = Base(unet, None, (), (), {}, "sdxl", "", "sdxl", (1024, 1024), meta, torch.float32)
    assert len(Network(base, 1, 1, 0).layers) == 722
    assert len(Network(base, 1, 1, 0, options=NetworkConfig(conv_dim=1)).layers) == 722 + 66


def test_ranks_and_alphas_by_block(base: Base) -> None:
    network = _network(
        base,
        4,
        None,
        conv_dim=3,
        block_dims={"IN": 8, "MID": 0, "IN01/attn1": 2, "BASE": 5},
        block_alphas="IN01=1,OUT03=6",
        conv_block_dims={"IN04": 7},
    )
    sizes = {name: (layer.rank, layer.alpha) for name, layer in network.layers.items()}
    assert sizes[QUERY] == (2, 1) and sizes[QUERY.replace("attn1", "attn2")] == (8, 1)
    assert sizes[QUERY.replace("down_blocks.0", "down_blocks.1")] == (8, 8)  # alpha as the rank
    assert not any(name.startswith("unet.mid_block.attentions") for name in sizes)
    assert sizes["unet.mid_block.resnets.0.conv1"] == (3, 3) and sizes[CONV] == (7, 7)
    assert sizes["unet.up_blocks.1.attentions.0.proj_in"] == (4, 6) and sizes[TEXT] == (5, 5)


def test_numbers_in_a_schemes_order_name_every_block(base: Base) -> None:
    network = _network(base, block_dims=list(range(1, 18)))
    assert network.layers[TEXT].rank == 1 and network.layers[QUERY].rank == 2
    assert network.layers["unet.up_blocks.3.attentions.2.proj_out"].rank == 17
    only_rules = _network(base, block_dims={"IN01/attn1": 9})
    assert only_rules.layers[QUERY].rank == 9 and only_rules.layers[TEXT].rank == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"block_dims": {"IN99": 4}}, BlockError, "IN99"),
        ({"block_dims": [4, 4]}, BlockError, "2 numbers"),
        ({"block_dims": {"IN": 1.5}}, TrainingError, "1.5, which is no rank"),
        ({"block_lr": {"IN": -1}}, TrainingError, "cannot be negative"),
        ({"block_dims": {"*": 0}}, TrainingError, "no module that this LoRA"),
    ],
)
def test_blocks_that_make_no_network(base: Base, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _network(base, **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv_alpha": 1}, "conv_alpha is given without conv_dim"),
        ({"dora": True, "module_dropout": 0.1}, "module_dropout cannot be used with dora"),
        ({"dim_from_weights": True}, "needs network_weights"),
        ({"network_weights": "x", "dim_from_weights": True, "conv_dim": 4}, "leave one out"),
        ({"network_dropout": 1.0}, "network_dropout: it must be below 1"),
        ({"max_token_length": 100}, "75, 150 or 225"),
        ({"graph": "on", "rank_dropout": 0.1, "gradient_checkpointing": True}, "a graph cannot draw again"),
    ],
)
def test_settings_that_contradict_each_other(settings: Any, message: str, config: Config, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        config(tmp_path, **settings)


# what a layer computes


def test_a_plain_lora_has_plain_modules(base: Base) -> None:
    kinds = {type(layer).__name__ for layer in _network(base).layers.values()}
    assert kinds == {"LoraLinear", "LoraConv"}
    assert type(_network(base, conv_dim=2).layers[CONV]) is LoraConv


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("bias", [True, False])
def test_dora_is_the_papers_formula_and_gradient(kind: str, bias: bool) -> None:
    """y = m (W + s B A) / |W + s B A| x + b, with the norm held constant for the gradients (section 4.3)."""
    torch.manual_seed(0)
    frozen, x = (
        (torch.nn.Linear(6, 5, bias=bias), torch.randn(3, 7, 6))
        if kind == "linear"
        else (torch.nn.Conv2d(6, 5, 3, padding=1, bias=bias), torch.randn(3, 6, 4, 4))
    )
    frozen, x = frozen.double().requires_grad_(False), x.double()
    made = (DoraLinear if kind == "linear" else DoraConv)(frozen, 3, 1.5, torch.Generator().manual_seed(1)).double()
    run: Any = functional.linear if kind == "linear" else lambda x, w, b: functional.conv2d(x, w, b, padding=1)
    torch.testing.assert_close(made(x), frozen(x), rtol=1e-5, atol=1e-6)  # it starts at the base
    for factor in made.factors().values():
        torch.nn.init.normal_(factor)
    up, down, magnitude = (
        made.factors()[side].detach().clone().requires_grad_() for side in ("up", "down", "magnitude")
    )
    moved = frozen.weight.flatten(1) + 0.5 * up @ down
    weight = (magnitude / moved.detach().norm(dim=1))[:, None] * moved
    wanted = run(x, weight.reshape(frozen.weight.shape), frozen.bias)
    torch.testing.assert_close(made(x), wanted)
    made(x).square().sum().backward()
    wanted.square().sum().backward()
    for mine, theirs in ((made.up, up), (made.down, down), (made.magnitude, magnitude)):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_dora_file_is_read_back_as_what_was_trained(base: Base, tmp_path: Path) -> None:
    network = _moved(_network(base, dora=True, conv_dim=2))
    path = _saved(network, tmp_path / "dora.safetensors")
    with pytest.raises(NeedsBaseError):
        read(path)
    live = live_modules(base)
    weights = {f"{name}.weight": live[name].weight.detach() for name in network.layers}  # type: ignore[union-attr]
    adapter = read(path, weights)
    assert set(adapter.kinds.values()) == {"dora"} and len(adapter) == len(network.layers)
    for name in (QUERY, CONV, TEXT):
        layer, frozen = network.layers[name], weights[f"{name}.weight"].double()
        moved = frozen.flatten(1) + layer.scale * (layer.up.double() @ layer.down.double())
        wanted = layer.factors()["magnitude"].double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
        weight = adapter[name].dense().double().flatten(1) + frozen.flatten(1)
        torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=1e-6)


def test_dropped_activations_are_those_that_the_generator_draws(base: Base) -> None:
    """Rank drop-out by hand: ranks of each sample whose number is below p are gone, the rest counts 1 / (1 - p)."""
    network = _moved(_network(base, rank_dropout=0.4, conv_dim=2))
    linear, conv = network.layers[QUERY], network.layers[CONV]
    assert isinstance(linear, LoraDropoutLinear) and isinstance(conv, LoraDropoutConv)
    for layer, x, axes in (
        (linear, torch.randn(3, 5, linear.shape[1]), (1,)),
        (conv, torch.randn(3, conv.shape[1], 4, 4), (-1, -1)),
    ):
        torch.manual_seed(1)
        y = layer(x)
        torch.manual_seed(1)
        mask = (torch.rand(3, layer.rank) >= 0.4) / 0.6
        for row in range(3):
            weight = ((layer.up * mask[row] * layer.scale) @ layer.down).reshape(layer.shape)
            wanted: Any = layer.frozen(x[row : row + 1])
            part: Any = (
                functional.linear(x[row : row + 1], weight)
                if len(axes) == 1
                else functional.conv2d(x[row : row + 1], weight, None, layer.frozen.stride, 1)
            )
            torch.testing.assert_close(y[row : row + 1], wanted + part, rtol=1e-4, atol=1e-5)
    assert 0 < int((mask == 0).sum()) < mask.numel()


def test_drops_leave_out_their_share_and_nothing_at_rest(base: Base) -> None:
    torch.manual_seed(0)
    ones = torch.ones(4000, 2, 8)
    ranks, kept = RankDropout(0.25, -1)(ones), torch.stack([ModuleDropout(0.25)(torch.ones(1)) for _ in range(2000)])
    assert abs(float((ranks == 0).float().mean()) - 0.25) < 0.02 and ranks.unique().tolist() == [0, float(ranks.max())]
    assert torch.equal(ranks[:, 0], ranks[:, 1])  # a rank is dropped for all of a sample
    assert abs(float(kept.mean()) - 0.75) < 0.04
    network = _moved(_network(base, network_dropout=0.5, rank_dropout=0.5, module_dropout=0.5))
    layer, x = network.layers[QUERY], torch.randn(2, 5, 16)
    assert not torch.equal(layer(x), layer(x))
    with network.without_dropout():
        plain = functional.linear(x, layer.scale * layer.up @ layer.down) + layer.frozen(x)
        torch.testing.assert_close(layer(x), plain)
    assert layer.training


def test_checkpointing_draws_the_same_again(config: Config, pictures: Pictures) -> None:
    images, files = pictures(count=2), []
    for name, checkpointing in (("plain", False), ("again", True)):
        settings = config(
            images,
            name=name,
            epochs=1,
            dtype="fp32",
            rank_dropout=0.5,
            network_dropout=0.3,
            gradient_checkpointing=checkpointing,
        )
        files.append(read(train(settings, progress=False).epochs[0]))
    for name in files[0]:
        torch.testing.assert_close(files[0][name].dense(), files[1][name].dense(), rtol=1e-4, atol=1e-8)


# how fast it learns


def test_rates_by_block_and_loraplus(base: Base, config: Config, tmp_path: Path) -> None:
    settings = config(
        tmp_path,
        unet_lr=1e-4,
        te_lr=1e-5,
        block_lr={"IN01": 0.5, "MID": 0},
        loraplus_lr_ratio=16,
        loraplus_text_encoder_lr_ratio=4,
    )
    network = Network(base, 4, 2, 0, options=settings)
    groups = parameter_groups(network, settings)
    rates = {id(factor): group["lr"] for group in groups for factor in group["params"]}
    inner, other, text = (network.layers[name] for name in (QUERY, "unet.up_blocks.1.attentions.0.proj_in", TEXT))
    used = [rates[id(factor)] for layer in (inner, other, text) for factor in (layer.down, layer.up)]
    assert used == pytest.approx([5e-5, 8e-4, 1e-4, 1.6e-3, 1e-5, 4e-5])
    assert not any(name.startswith("unet.mid_block") for name in network.layers)
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names) and {"unet", "text_encoder"} < set(names)
    assert len(rates) == sum(len(layer.factors()) for layer in network.layers.values())
    assert [group["name"] for group in parameter_groups(_network(base), config(tmp_path))] == ["text_encoder", "unet"]


def test_rank_stabilised_scale_is_folded_into_the_file(base: Base, tmp_path: Path) -> None:
    network = _moved(_network(base, 16, 2, rslora=True))
    adapter = read(_saved(network, tmp_path / "rs.safetensors"))
    layer = network.layers[QUERY]
    assert layer.scale == 2 / math.sqrt(16) and adapter.alphas[QUERY] == 2
    torch.testing.assert_close(adapter[QUERY].dense().float(), (0.5 * layer.up @ layer.down).detach())


def test_norms_are_limited_and_smaller_ones_left_alone(base: Base) -> None:
    network = _moved(_network(base))
    before = network.deltas()
    norms = {name: delta.norm() for name, delta in before.items()}
    most = sorted(norms.values())[len(norms) // 2]
    network.limit_norms(most)
    for name, delta in network.deltas().items():
        share = min(1.0, most / norms[name])
        torch.testing.assert_close(delta.dense(), share * before[name].dense(), rtol=1e-4, atol=1e-7)
        if norms[name] < most:
            assert torch.equal(delta.up, before[name].up)


def test_a_run_keeps_its_norms_small(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=2), epochs=1, repeats=3, learning_rate=1e-2, scale_weight_norms=0.01, dtype="fp32")
    norms = [delta.norm() for delta in read(train(settings, progress=False).epochs[0]).values()]
    assert max(norms) <= 0.01 * (1 + 1e-5) and sum(norm > 0.0099 for norm in norms) > 5


class Pushing(torch.optim.SGD):
    """Moves whatever has a gradient, at any rate, as averaging optimisers do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for factor in (factor for group in self.param_groups for factor in group["params"]):
            if factor.grad is not None:
                factor.add_(1e-3)


@pytest.mark.parametrize(
    ("stop", "accumulation", "optimizer"),
    [
        (0.5, 1, "AdamW"),
        (2, 2, "AdamW"),
        (2, 2, f"{__name__}.Pushing"),
    ],
)
def test_the_text_encoder_stops(
    stop: float, accumulation: int, optimizer: str, config: Config, pictures: Pictures
) -> None:
    """After half of the run its factors are what they were, and the UNet's go on."""
    images = pictures(count=4)
    common = {"batch_size": 2 // accumulation, "gradient_accumulation": accumulation, "lr_scheduler": "constant"}
    settings = config(images, epochs=2, name="s", stop_text_encoder_training=stop, optimizer=optimizer, **common)
    saved: list[dict[str, torch.Tensor]] = []

    def keep(_: object) -> None:
        state = load_state(settings.out / "s-state" / "state.pt")
        assert state is not None
        saved.append(state.network)

    result = train(settings, progress=False, on_epoch=keep)
    assert result.steps == 4
    first, second = saved
    assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("text"))
    assert sum(not torch.equal(first[name], second[name]) for name in first if name.startswith("unet")) > 300
    assert any(first[name].any() for name in first if name.startswith("text") and name.endswith("up"))


# what it starts from, and what it starts on


def test_a_network_starts_at_a_file(base: Base, tmp_path: Path) -> None:
    path = _saved(_moved(_network(base, 4, 2)), tmp_path / "start.safetensors")
    adapter = read(path)
    for network in (
        _network(base, 4, 2, network_weights=path),
        _network(base, 6, 1, network_weights=path),
        _network(base, 9, 9, network_weights=path, dim_from_weights=True),
    ):
        for name, delta in network.deltas().items():
            torch.testing.assert_close(delta.dense(), adapter[name].dense(), rtol=1e-5, atol=1e-8)
    assert network.layers[QUERY].rank == 4 and network.layers[QUERY].alpha == 2
    larger = _network(base, 6, 1, network_weights=path).layers[QUERY]
    assert larger.down[4:].any() and not larger.up[:, 4:].any()  # the ranks that it gains can learn
    with pytest.raises(TrainingError, match="raise dim"):
        _network(base, 3, 3, network_weights=path)


def test_what_a_start_has_beyond_the_network_is_kept_as_it_is(
    base: Base, config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    path = _saved(_moved(_network(base, 4, 2, conv_dim=2)), tmp_path / "start.safetensors")
    before = read(path)
    settings = config(pictures(count=2), epochs=1, te_lr=0, network_weights=str(path), dtype="fp32")
    after = read(train(settings, progress=False).epochs[0])
    assert set(after) == set(before)
    for name in before:
        trained = name.startswith("unet.") and name != CONV and "attentions" in name and "mid_block" not in name
        same = torch.allclose(after[name].dense(), before[name].dense(), rtol=1e-6, atol=1e-9)
        assert same != trained or "mid_block" in name, name
    kinds = {given["kind"] for given in _inputs_of(after)}
    assert "start" in kinds


def test_a_start_of_another_kind_is_refused(base: Base, tmp_path: Path) -> None:
    dora = _saved(_moved(_network(base, dora=True)), tmp_path / "dora.safetensors")
    with pytest.raises(TrainingError, match="'dora'"):
        _network(base, network_weights=dora)
    deltas = {
        name.replace("down_blocks.0", "down_blocks.1"): delta
        for name, delta in _network(base).deltas().items()
        if name == QUERY
    }
    write(deltas, tmp_path / "xl.safetensors", family="sdxl")
    with pytest.raises(TrainingError, match="is for Stable Diffusion XL and the base is Stable Diffusion 1"):
        _network(base, network_weights=tmp_path / "xl.safetensors")


def test_base_adapters_are_in_the_base_and_not_in_the_file(
    tiny: Path, config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    plain = load_base(str(tiny), device="cpu")
    path = _saved(_moved(_network(plain, conv_dim=2)), tmp_path / "style.safetensors")
    terms = [f"{path}:0.5:IN=1,MID=0,OUT=1,TE=1", f"{path}:-0.25"]
    changed = load_base(str(tiny), device="cpu")
    BaseAdapters(terms, changed).merge()
    adapter, live, now = read(path), live_modules(plain), live_modules(changed)
    for name, weight in ((QUERY, 0.25), (CONV, 0.25), ("unet.mid_block.attentions.0.proj_in", -0.25), (TEXT, 0.25)):
        wanted = live[name].weight + weight * adapter[name].dense().float().reshape(live[name].weight.shape)  # type: ignore[operator]
        torch.testing.assert_close(now[name].weight, wanted, rtol=1e-6, atol=1e-7)
    images = pictures(count=2)
    without = dry_run(config(images, epochs=1))
    settings = config(images, epochs=1, base_adapters=terms)
    assert dry_run(settings).modules == without.modules == 204  # though the style has convolutions too
    result = read(train(settings, progress=False).epochs[0])
    assert len(result) == 204 and result[QUERY].norm() < 0.5 * adapter[QUERY].norm()
    assert [given["digest"] for given in _inputs_of(result) if given["kind"] == "base adapter"] == [adapter.digest]
    _saved(_moved(_network(plain), seed=6), path, force=True)
    with pytest.raises(TrainingError, match="cannot resume: the base changed"):
        train(settings.model_copy(update={"resume": True}), progress=False)


def _inputs_of(adapter: Any) -> Any:
    from loratools.adapter.files.metadata import Provenance

    made = Provenance.from_metadata(adapter.metadata)
    assert made is not None
    return made.inputs


# all of it at once, killed and resumed


def test_a_run_of_every_option_resumes_to_the_same_bytes(
    config: Config, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    images = pictures(count=2)
    common = {
        "epochs": 2,
        "conv_dim": 2,
        "conv_alpha": 1,
        "dora": True,
        "rslora": True,
        "rank_dropout": 0.2,
        "network_dropout": 0.1,
        "loraplus_lr_ratio": 4,
        "scale_weight_norms": 5,
        "block_dims": {"IN": 3},
        "stop_text_encoder_training": 0.5,
        "block_lr": {"OUT": 0.5},
    }
    whole = train(config(images, out=str(tmp_path / "a"), **common), progress=False)
    settings = config(images, out=str(tmp_path / "b"), **common)

    class Killed(Exception):
        pass

    def kill(_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(settings, progress=False, on_epoch=kill)
    resumed = train(settings.model_copy(update={"resume": True}), progress=False)
    assert [path.read_bytes() for path in resumed.epochs] == [path.read_bytes() for path in whole.epochs]
    facts = open_adapter(whole.epochs[0]).metadata
    assert facts["ss_network_dropout"] == "0.1" and facts["ss_scale_weight_norms"] == "5.0"
    assert '"conv_dim": "2"' in facts["ss_network_args"] and '"dora": "True"' in facts["ss_network_args"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "options",
    [
        {"rank_dropout": 0.3, "network_dropout": 0.1, "module_dropout": 0.2, "conv_dim": 2},
        {"dora": True, "conv_dim": 2, "scale_weight_norms": 0.05, "loraplus_lr_ratio": 4},
        {"stop_text_encoder_training": 0.5, "max_token_length": 150, "weighted_captions": True},
    ],
)
def test_graphs_hold_every_option(options: Any, config: Config, pictures: Pictures) -> None:
    images, files = pictures(count=4), []
    for mode in ("off", "on"):
        settings = config(
            images,
            name=mode,
            epochs=1,
            repeats=8,
            graph=mode,
            device="cuda",
            dtype="fp32",
            mixed_precision="no",
            learning_rate=1e-3,
            **options,
        )
        train(settings, progress=False)
        state = load_state(settings.out / f"{mode}-state" / "state.pt")
        assert state is not None
        files.append(state.network)
    eager, graph = files
    apart = sum(float((eager[name] - graph[name]).norm()) ** 2 for name in eager)
    start = Network(
        load_base(settings.base, device="cpu"), settings.dim, settings.alpha, settings.seed, options=settings
    )
    moved = sum(float((eager[name] - value).norm()) ** 2 for name, value in start.state().items())
    assert moved > 0 and apart <= (1e-2) ** 2 * moved
