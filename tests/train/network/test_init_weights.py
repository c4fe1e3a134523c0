"""Networks that start from a file, and bases with adapters merged into them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import loratools as lt
from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.errors import TrainingError
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.train.config.config import TrainConfig
from loratools.train.network.base_adapters import BaseAdapters
from loratools.train.trainer import dry_run, train
from tests.train.network.networks import CONV, QUERY, TEXT, make_network, move_factors, save_network

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_a_network_starts_at_a_file(base: Base, tmp_path: Path) -> None:
    path = save_network(move_factors(make_network(base, 4, 2)), tmp_path / "start.safetensors")
    adapter = read(path)
    for network in (
        make_network(base, 4, 2, network_weights=path),
        make_network(base, 6, 1, network_weights=path),
        make_network(base, 9, 9, network_weights=path, dim_from_weights=True),
    ):
        for name, delta in network.deltas().items():
            torch.testing.assert_close(delta.dense(), adapter[name].dense(), rtol=1e-5, atol=1e-8)
    assert network.layers[QUERY].rank == 4 and network.layers[QUERY].alpha == 2
    larger = make_network(base, 6, 1, network_weights=path).layers[QUERY]
    assert larger.down[4:].any() and not larger.up[:, 4:].any()  # the ranks that it gains can learn
    with pytest.raises(TrainingError, match="raise dim"):
        make_network(base, 3, 3, network_weights=path)


def test_a_dora_starts_at_a_file(base: Base, tmp_path: Path) -> None:
    """At W + delta and not at W's own norms in its direction; a DoRA without a file still starts at W."""
    path = save_network(move_factors(make_network(base, 4, 2, conv_dim=2)), tmp_path / "start.safetensors")
    adapter, network = read(path), make_network(base, 6, 3, conv_dim=2, dora=True, network_weights=path)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in (QUERY, CONV, TEXT):
            layer = network.layers[name]
            frozen = copy.deepcopy(layer.frozen).double()
            frozen.weight += adapter[name].dense().double().reshape(layer.shape)
            x = torch.randn((2, layer.shape[1], 5, 5)[: len(layer.shape)], generator=generator)
            torch.testing.assert_close(layer(x), frozen(x.double()).float(), rtol=1e-4, atol=1e-5)


def test_what_a_start_has_beyond_the_network_is_kept_as_it_is(
    base: Base, config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    path = save_network(move_factors(make_network(base, 4, 2, conv_dim=2)), tmp_path / "start.safetensors")
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


def test_the_header_and_the_story_say_how_the_start_was_made(
    base: Base, config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    own = save_network(move_factors(make_network(base, 4, 2)), tmp_path / "own.safetensors")
    start = tmp_path / "start.safetensors"
    merge_files([Term(read(own), 0.5, label="own")], start)
    settings = config(pictures(count=2), epochs=1, network_weights=str(start), dim_from_weights=True)
    trained = read(train(settings, progress=False).epochs[0])
    made = Provenance.from_metadata(trained.metadata)
    assert made is not None and made.ancestors[read(start).digest]["step"]["merge"][0]["weight"] == 0.5
    text = lt.explain(trained.path)
    assert "from the weights of `start.safetensors`" in text and "`own.safetensors` x 0.5" in text


def test_a_start_of_another_kind_is_refused(base: Base, tmp_path: Path) -> None:
    dora = save_network(move_factors(make_network(base, dora=True)), tmp_path / "dora.safetensors")
    with pytest.raises(TrainingError, match="'dora'"):
        make_network(base, network_weights=dora)
    deltas = {
        name.replace("down_blocks.0", "down_blocks.1"): delta
        for name, delta in make_network(base).deltas().items()
        if name == QUERY
    }
    write(deltas, tmp_path / "xl.safetensors", family="sdxl")
    with pytest.raises(TrainingError, match="is for Stable Diffusion XL and the base is Stable Diffusion 1"):
        make_network(base, network_weights=tmp_path / "xl.safetensors")


def test_base_adapters_are_in_the_base_and_not_in_the_file(
    tiny: Path, config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    plain = load_base(str(tiny), device="cpu")
    path = save_network(move_factors(make_network(plain, conv_dim=2)), tmp_path / "style.safetensors")
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
    save_network(move_factors(make_network(plain), seed=6), path, force=True)
    with pytest.raises(TrainingError, match="cannot resume: the base changed"):
        train(settings.model_copy(update={"resume": True}), progress=False)


def test_the_digest_of_a_base_with_adapters_is_of_their_vectors_too(base: Base, tmp_path: Path) -> None:
    path = save_network(move_factors(make_network(base)), tmp_path / "style.safetensors")
    terms = [f"{path}:0.5{vector}" for vector in ("", ":IN=1,MID=0,OUT=1,TE=1", ":IN=1,MID=1,OUT=1,TE=0")]
    digests = {BaseAdapters([term], base).base_digest for term in terms}
    assert len(digests | {base.digest}) == 4


def _inputs_of(adapter: Any) -> Any:
    from loratools.adapter.files.metadata import Provenance

    made = Provenance.from_metadata(adapter.metadata)
    assert made is not None
    return made.inputs
