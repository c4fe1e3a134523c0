"""The engine: what it patches, encodes and batches, and what it does when memory or a stack fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.names import is_text
from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.base.patching.patch import PatchChange
from loratools.base.prompt.conditioning import Conditioning, condition
from loratools.base.prompt.guidance import (
    ComposedGuidance,
    PromptConditioning,
    ScheduledConditioning,
    Stage,
    StaticGuidance,
    guidance,
)
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.base.sampling.sample import AddedConditions, Sampling, UNet, denoise, plain_unet
from loratools.base.sampling.samplers import find_sampler
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.errors import BaseModelError, GridError
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import GridJob, PictureFile, Stack, content_keys_of
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render import device_memory
from loratools.preview.render.batches import even, plan_stack_batches
from loratools.preview.render.drawer import render_jobs
from loratools.preview.render.engine import Engine
from loratools.preview.render.memory import Need, Offloader, Savings, choose_savings, need
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.rows import GridRow
from tests.base.patching.test_patch import changed, random_deltas, weights
from tests.base.plain import noise, plain_conditionings

PROMPTS = ("1girl, red hair", "full body")


def stack(base: Base, seed: int, weight: float = 1.0, *, text: bool = True) -> Stack:
    deltas = {name: delta for name, delta in random_deltas(base, seed=seed).items() if text or not is_text(name)}
    return Stack(deltas, weight, f"stack-{seed}-{text}")


def jobs(
    out: Path, stacks: Sequence[Stack], prompts: Sequence[str] = PROMPTS, seeds: Sequence[int] = (1,), **changes: Any
) -> list[GridJob]:
    made = []
    for n, own in enumerate(stacks):
        for prompt in prompts:
            for seed in seeds:
                key = f"{n}-{prompt}-{seed}"
                file = PictureFile(out / "cells" / f"{key}.png", key, "", {"key": key})
                settings = replace(SamplingSettings(2, 4.0, "DDIM", (64, 64)), **changes)
                made.append(GridJob(own, prompt, seed, settings, file))
    return made


def pixels(file: PictureFile) -> np.ndarray:
    with Image.open(file.path) as image:
        return np.asarray(image).astype(int)


class Told:
    """PromptCache that were encoded, and modules that were written, by an engine that is watched."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[list[str]] = []
        self.moves: list[PatchChange] = []
        encode, move = engine._prompts._encode, engine.patcher.patch

        def encoding(base: Base, texts: Sequence[str], steps: int, skip: int) -> Sequence[PromptConditioning]:
            self.texts.append(list(texts))
            return encode(base, texts, steps, skip)

        def moving(*arguments: Any) -> PatchChange:
            self.moves.append(move(*arguments))
            return self.moves[-1]

        monkeypatch.setattr(engine._prompts, "_encode", encoding)
        monkeypatch.setattr(engine.patcher, "patch", moving)


def test_batches_are_even_and_stacks_ordered_by_what_they_rewrite(base: Base, tmp_path: Path) -> None:
    assert [len(part) for part in even(range(10), 8)] == [5, 5]  # type: ignore[arg-type]
    one, two = stack(base, 1), stack(base, 2)
    stacks = [one, two, replace(one, weight=0.5), Stack(), replace(two, weight=0.5)]
    groups = plan_stack_batches(jobs(tmp_path, stacks, seeds=(1, 2, 3)), 4)
    assert [group.stack.key for group in groups] == [
        ("", 0.0),
        ("stack-1-True", 1.0),
        ("stack-1-True", 0.5),
        ("stack-2-True", 1.0),
        ("stack-2-True", 0.5),
    ]
    assert all([len(batch) for batch in group.batches] == [3, 3] for group in groups)


def test_a_vectors_values_lie_next_to_each_other(base: Base, tmp_path: Path) -> None:
    """Four values of one block and two of another: neighbours differ in one block."""
    deltas = stack(base, 1, text=False).deltas
    blocks = {name: name.split(".")[1] for name in deltas}
    stacks = [
        Stack(
            deltas,
            1.0,
            f"{a}-{b}",
            {name: a if block == "mid_block" else b if block == "up_blocks" else 1 for name, block in blocks.items()},
        )
        for a, b in [(1, 1), (2, 2), (1, 2), (2, 1), (3, 1)]
    ]
    order = [group.stack.digest for group in plan_stack_batches(jobs(tmp_path, stacks, PROMPTS[:1]), 8)]
    assert order == ["1-1", "2-1", "3-1", "2-2", "1-2"]


def test_equal_stacks_are_patched_once_and_texts_encoded_once_a_state(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = stack(base, 1, text=False)
    whole = stack(base, 2)
    stacks = [Stack(), deltas, Stack(deltas.deltas, 1.0, deltas.digest), replace(deltas, weight=0.5), whole]
    before = weights(base)
    with Engine(base) as engine:
        log = Told(engine, monkeypatch)
        assert render_jobs(engine, jobs(tmp_path, stacks), PictureStore(tmp_path)) == 10
    assert log.texts == [[PROMPTS[0], "", PROMPTS[1]]] * 2  # the base's serve all that leaves the text encoder alone
    assert [move.modules for move in log.moves] == [0, len(deltas.deltas), len(deltas.deltas), len(whole.deltas)]
    assert not changed(before, base)


def test_a_batch_of_prompts_and_seeds_gives_each_its_own_picture(base: Base, tmp_path: Path) -> None:
    own = [stack(base, 1)]
    together, alone = jobs(tmp_path / "a", own, seeds=(1, 2)), jobs(tmp_path / "b", own, seeds=(1, 2))
    with Engine(base, EngineOptions(batch=4)) as engine:
        render_jobs(engine, together, PictureStore(tmp_path / "a"))
    with Engine(base, EngineOptions(batch=1)) as engine:
        render_jobs(engine, alone, PictureStore(tmp_path / "b"))
    shots = [pixels(job.file) for job in together]
    for one, two in zip(shots, alone, strict=True):
        assert np.abs(one - pixels(two.file)).max() <= 1
    assert min(np.abs(a - b).mean() for n, a in enumerate(shots) for b in shots[:n]) > 1


@pytest.mark.parametrize("seed", range(4))
def test_a_random_live_stack_is_the_merged_file(base: Base, tmp_path: Path, seed: int) -> None:
    """Several adapters, LoCon or not, negative weights, vectors, te and unet factors.

    Bit for bit where the sum's modules have one rank. With several ranks the file's one alpha scales factors by other
    than powers of two, which rounds them by one unit of float32; then pictures agree to the last level.
    """
    locon = seed < 2
    rng, presets, terms = random.Random(seed), load_presets(), []
    for n in range(rng.randint(2, 4)):
        path = tmp_path / f"{n}.safetensors"
        deltas = random_deltas(base, conv=locon or n % 2 == 1, seed=10 * seed + n, rank=rng.randint(1, 4))
        write(deltas, path, family="sd1", dtype=rng.choice([torch.float16, torch.float32]))
        width = rng.choice([17, 26])
        vector = parse_vector(",".join(f"{rng.uniform(-1, 1):.2f}" for _ in range(width)), presets, "sd1")
        terms.append(
            Term(
                read(path),
                rng.uniform(-1, 1),
                vector,
                te=rng.choice([1.0, 0.5] if locon else [1.0, 0.0]),
                unet=rng.choice([1.0, -0.7]),
                label=str(n),
                missing=1.0,
            )
        )
    merge_files(terms, tmp_path / "merged.safetensors", dtype=torch.float32)
    rows = [GridRow.of_terms(terms, "live"), GridRow.of_file(read(tmp_path / "merged.safetensors"))]
    made = []
    for row in rows:
        stacks = [Stack(row.deltas, weight, row.label, content_keys_of(row.deltas)) for weight in (1.0, -0.5)]
        own = jobs(tmp_path / row.label, stacks)
        with Engine(base) as engine:
            render_jobs(engine, own, PictureStore(tmp_path / row.label))
        made.append([pixels(job.file) for job in own])
    assert (len(set(rows[0].deltas.ranks.values())) == 1) == locon  # type: ignore[attr-defined]
    assert max(np.abs(one - two).max() for one, two in zip(*made, strict=True)) <= (0 if locon else 1)
    bare = jobs(tmp_path / "base", [Stack()])
    with Engine(base) as engine:
        render_jobs(engine, bare, PictureStore(tmp_path / "base"))
    assert all(np.abs(pixels(job.file) - shot).mean() > 1 for job, shot in zip(bare, made[0], strict=False))


def greedy_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int, kind: type[Exception]) -> None:
    """A UNet that has memory for ``most`` rows."""
    run = engine._unet._plain

    def limited(latents: Tensor, *others: Any) -> Tensor:
        if len(latents) > most:
            raise kind("out of memory")
        return run(latents, *others)

    monkeypatch.setattr(engine._unet, "_plain", limited)


def test_too_little_memory_halves_the_batch_and_goes_on(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [stack(base, 1), stack(base, 2)]
    said: list[str] = []
    small, usual = jobs(tmp_path / "a", own, seeds=(1, 2, 3)), jobs(tmp_path / "b", own, seeds=(1, 2, 3))
    with Engine(base, say=said.append) as engine:
        greedy_memory(engine, monkeypatch, 4, torch.OutOfMemoryError)
        assert render_jobs(engine, small, PictureStore(tmp_path / "a")) == 12
    assert said == [
        "out of memory with 6 pictures at once; going on with 3",
        "out of memory with 3 pictures at once; going on with 2",
    ]
    with Engine(base) as engine:
        render_jobs(engine, usual, PictureStore(tmp_path / "b"))
    assert all(np.abs(pixels(a.file) - pixels(b.file)).max() <= 1 for a, b in zip(small, usual, strict=True))


def test_no_memory_for_one_picture_is_told_with_the_remedy(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(base)
    with Engine(base) as engine, monkeypatch.context() as patch:
        greedy_memory(engine, patch, 1, torch.OutOfMemoryError)
        with pytest.raises(GridError, match=r"one picture does not fit.*offload=True.*tiled=True"):
            render_jobs(engine, jobs(tmp_path, [stack(base, 1)]), PictureStore(tmp_path))
    with Engine(base) as engine, monkeypatch.context() as patch:
        greedy_memory(engine, patch, 1, ZeroDivisionError)  # other errors are not swallowed, and leave no patch behind
        with pytest.raises(ZeroDivisionError):
            render_jobs(engine, jobs(tmp_path, [stack(base, 1)]), PictureStore(tmp_path))
    assert not changed(before, base)


def test_decoding_that_lacks_memory_takes_fewer_pictures(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, sizes = base.vae.decode, []

    def limited(latents: Tensor, **others: Any) -> Any:
        sizes.append(len(latents))
        if len(latents) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return decoder(latents, **others)

    monkeypatch.setattr(base.vae, "decode", limited)
    said: list[str] = []
    with Engine(base, say=said.append) as engine:
        assert render_jobs(engine, jobs(tmp_path, [Stack()], seeds=(1, 2)), PictureStore(tmp_path)) == 4
    assert sizes == [4, 2, 2] and said == ["out of memory decoding 4 pictures at once; going on with fewer"]


def test_options_change_how_not_what(base: Base, tmp_path: Path) -> None:
    own = [stack(base, 1)]
    made = []
    for name, options in {
        "plain": EngineOptions(),
        "sliced": EngineOptions(sliced=True),
        "tiled": EngineOptions(tiled=True),
        "offload": EngineOptions(offload=True),
    }.items():
        mine = jobs(tmp_path / name, own)
        with Engine(base, options) as engine:
            render_jobs(engine, mine, PictureStore(tmp_path / name))
        made.append([pixels(job.file) for job in mine])
    assert not base.vae.use_tiling
    for other in made[1:]:
        assert all(np.abs(one - two).max() <= 1 for one, two in zip(made[0], other, strict=True))
    with pytest.raises(GridError, match="a batch of 0 pictures"):
        Engine(base, EngineOptions(batch=0))


def test_what_is_needed_is_said_in_parts(base: Base) -> None:
    small, large = (need(base, batch, (64, 64), batch, 1000) for batch in (1, 8))
    assert large.total > small.total and large.sampling == 8 * small.sampling and large.weights == small.weights
    assert need(base, 1, (64, 64), 1, 1000, Savings(offload=True)).weights < small.weights
    assert "GiB of memory on the device" in small.text()


def test_the_quickest_saving_that_suffices_is_chosen() -> None:
    def need_of(batch: int, savings: Savings) -> Need:
        """Weights 10, or 5 where models move; a picture 1 in the UNet; decoding 8, by one 4, in tiles 2."""
        return Need(5 if savings.offload else 10, batch, {0: 8, 1: 4, 2: 2}[savings.sliced + savings.tiled])

    chosen = {free: choose_savings(need_of, Savings(), 1, free) for free in (19, 18, 15, 14, 10, 9, 8, 1)}
    assert chosen[19] == Savings()
    assert chosen[18] == chosen[15] == Savings(sliced=True)
    assert chosen[14] == Savings(sliced=True, tiled=True)
    assert chosen[10] == Savings(sliced=True, offload=True)
    assert chosen[9] == chosen[8] == chosen[1] == Savings(True, True, True)
    assert choose_savings(need_of, Savings(tiled=True), 1, 15) == Savings(tiled=True)  # what was asked for stays
    wide = {free: choose_savings(need_of, Savings(), 8, free) for free in (26, 25, 22, 21, 15, 14)}
    assert wide[26] == Savings()
    assert wide[25] == wide[22] == Savings(sliced=True)  # eight at once, decoded one by one, before four at once
    assert wide[21] == wide[15] == Savings(sliced=True)
    assert wide[14] == Savings(sliced=True, tiled=True)


@pytest.mark.parametrize("free", [1 << 40, 1], ids=["it fits", "it fits sliced"])
def test_a_base_in_main_memory_comes_to_the_device_however_it_fits(
    base: Base, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    moved, said = list[Base](), list[str]()
    monkeypatch.setattr(device_memory, "available", lambda _: free)
    monkeypatch.setattr(device_memory, "to_device", moved.append)
    memory = device_memory.DeviceMemory(base, EngineOptions(), lambda: None, said.append)
    memory.save(lambda batch, savings: Need(0, 0, 1 if savings.sliced else 2), 8)
    assert moved == [base] and memory.savings.sliced == (free == 1) == bool(said)


def test_short_memory_is_saved_and_said(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {name: jobs(tmp_path / name, [stack(base, 1)], PROMPTS, seeds=range(1, 4)) for name in ("plain", "short")}
    sampling = (base.vae.tile_sample_min_size, base.vae.tile_latent_min_size)
    for name, own in made.items():
        said = list[str]()
        with Engine(base, say=said.append) as engine:
            if name == "short":
                monkeypatch.setattr("loratools.preview.render.device_memory.available", lambda _: -(1 << 30))
            render_jobs(engine, own, PictureStore(tmp_path / name))
            assert base.vae.use_tiling == (name == "short")
    assert said[0].startswith("memory is short: only the model that works is kept on the device, pictures are decoded")
    assert not base.vae.use_tiling and sampling == (base.vae.tile_sample_min_size, base.vae.tile_latent_min_size)
    assert all(np.abs(pixels(a.file) - pixels(b.file)).max() <= 1 for a, b in zip(*made.values(), strict=True))


def test_a_stack_that_does_not_fit_is_refused_before_anything(base: Base, tmp_path: Path) -> None:
    bad = Stack({"unet.nowhere": random_deltas(base)["unet.mid_block.attentions.0.proj_in"]}, 1.0, "bad")
    with Engine(base) as engine:
        with pytest.raises(BaseModelError, match=r"unet\.nowhere"):
            engine.check([bad])
        with pytest.raises(BaseModelError):
            render_jobs(engine, jobs(tmp_path, [bad]), PictureStore(tmp_path))


def test_only_what_lacks_is_written_but_its_whole_batch_rendered(base: Base, tmp_path: Path) -> None:
    own = jobs(tmp_path, [stack(base, 1)], seeds=(1, 2))
    done: list[int] = []
    with Engine(base) as engine:
        render_jobs(engine, own, PictureStore(tmp_path), on_done=done.append)
        assert sum(done) == 4
        first, times = pixels(own[2].file), [job.file.path.stat().st_mtime_ns for job in own]
        own[2].file.path.unlink()
        assert render_jobs(engine, own, PictureStore(tmp_path)) == 1
    assert np.array_equal(pixels(own[2].file), first)
    assert [job.file.path.stat().st_mtime_ns == then for job, then in zip(own, times, strict=True)] == [
        True,
        True,
        False,
        True,
    ]


def test_an_error_of_a_writer_is_not_lost(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PictureStore(tmp_path)
    monkeypatch.setattr(store, "put", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with Engine(base) as engine, pytest.raises(OSError, match="disk full"):
        render_jobs(engine, jobs(tmp_path, [Stack()]), store)


# ---- guidance --------------------------------------------------------------------------------------------------------


def test_plain_guides_in_parts_are_plain_guidance(base: Base) -> None:
    guides = plain_conditionings(base, [*PROMPTS, ""])
    assert isinstance(guidance(guides[:2], [guides[2]] * 2, True), StaticGuidance)
    latents = torch.cat([noise(seed, base.resolution) for seed in (1, 2)])
    fixed = guidance(guides[:2], [guides[2]] * 2, True)
    mixed = ComposedGuidance(guides[:2], [guides[2]] * 2)
    one, two = (denoise(base, how, latents, [1, 2], Sampling(3, 4.0, "DPM++ 2M")) for how in (fixed, mixed))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_a_scale_below_1_is_the_same_beside_any_other_prompt(base: Base) -> None:
    """Between the negative prompt and the prompt, as the WebUI has it; a picture's key knows nothing of its batch."""
    guides = plain_conditionings(base, [*PROMPTS, ""])
    latents, made = noise(1, base.resolution), {}
    for cfg in (0.0, 0.5, 1.0):
        guided = find_sampler("DPM++ 2M").guided(cfg)
        fixed, mixed = guidance(guides[:1], guides[2:], guided), ComposedGuidance(guides[:1], guides[2:])
        one, two = (denoise(base, how, latents, [1], Sampling(3, cfg, "DPM++ 2M")) for how in (fixed, mixed))
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        made[cfg] = one
    alone = denoise(base, guidance(guides[2:], guides[2:], False), latents, [1], Sampling(3, 1.0, "DPM++ 2M"))
    torch.testing.assert_close(made[0.0], alone, rtol=1e-4, atol=1e-4)  # 0 is the negative prompt alone
    assert not torch.allclose(made[0.5], made[1.0], rtol=1e-3, atol=1e-3)


def test_parts_are_summed_with_their_weights() -> None:
    """By hand: negative 1, parts 3 (weight 1) and 5 (weight -0.5), CFG 2: 1 + 2 * (2 - 0.5 * 4) = 1."""
    cond = Conditioning(torch.zeros(1, 77, 4))
    one, two = ScheduledConditioning((Stage(0, cond),)), ScheduledConditioning((Stage(0, cond),), -0.5)
    how = guidance(
        [PromptConditioning((one, two)), PromptConditioning((one,))], [PromptConditioning.plain(cond)] * 2, True
    )
    latents = torch.arange(2.0).reshape(2, 1, 1, 1)
    assert how.expand(latents).flatten().tolist() == [0, 1, 0, 0, 1]  # two negatives, then two parts and one
    predicted = torch.tensor([1.0, 10.0, 3.0, 5.0, 11.0]).reshape(5, 1, 1, 1)
    assert how.combine(predicted, 2.0).flatten().tolist() == [1 + 2 * (2 - 0.5 * 4), 10 + 2 * 1]


def test_stages_follow_each_other_and_shorter_prompts_are_lengthened() -> None:
    early, late = (Conditioning(torch.full((1, tokens, 2), value)) for tokens, value in ((77, 1.0), (154, 2.0)))
    guide = PromptConditioning((ScheduledConditioning((Stage(2, early), Stage(0, late))),))
    how = guidance([guide], [PromptConditioning.plain(early)], True)
    assert how.at(0) is how.at(1) and how.at(1) is not how.at(2)
    assert how.at(1).hidden.shape == (2, 77, 2) and how.at(2).hidden.shape == (2, 154, 2)
    assert how.at(2).hidden[0].unique().tolist() == [1.0] and how.at(2).hidden[1].unique().tolist() == [2.0]


def test_two_call_samplers_count_a_step_once(base: Base) -> None:
    asked: list[int] = []

    class Watched(StaticGuidance):
        def at(self, step: int) -> Conditioning:
            asked.append(step)
            return super().at(step)

    how = Watched(condition(base, ["a"]), condition(base, [""]))
    denoise(base, how, noise(1, (64, 64)), [1], Sampling(4, 3.0, "Heun"))
    assert asked == sorted(asked) and set(asked) == {0, 1, 2, 3}


def test_pictures_of_several_stacks_share_batches(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches in one batch give what patching gives; text encoders are patched stack by stack, W0 stays."""
    one, two = stack(base, 1), stack(base, 2, text=False)
    stacks = [Stack(), one, replace(one, weight=-0.5), two, replace(two, weight=2.0)]
    patched, mixed = (jobs(tmp_path / name, stacks, seeds=(1, 2)) for name in ("patched", "mixed"))
    with Engine(base, EngineOptions(batch=3, mixed=False)) as engine:
        render_jobs(engine, patched, PictureStore(tmp_path / "patched"))
    before, rows = weights(base), []
    with Engine(base, EngineOptions(batch=3, mixed=True)) as engine:
        plain = engine._unet._plain
        monkeypatch.setattr(engine._unet, "_plain", lambda *inputs: rows.append(len(inputs[0])) or plain(*inputs))
        assert render_jobs(engine, mixed, PictureStore(tmp_path / "mixed")) == 20
        assert render_jobs(engine, mixed, PictureStore(tmp_path / "mixed")) == 0
        for job in mixed[3:5]:
            job.file.path.unlink()
        rows.clear()
        assert render_jobs(engine, mixed, PictureStore(tmp_path / "mixed")) == 2
        assert set(rows) == {2}  # only what lacks, one picture a batch, under CFG
    assert not changed(before, base)
    for a, b in zip(patched, mixed, strict=True):
        assert np.abs(pixels(a.file) - pixels(b.file)).max() <= 1
    own = {name: pixels(job.file) for name, job in zip(["base", "one"], (mixed[0], mixed[4]), strict=True)}
    assert np.abs(own["base"] - own["one"]).mean() > 1  # the control: a stack changes its picture


def drawn(engine: Engine, asked: Sequence[GridJob], *, hold: bool = False) -> dict[Any, np.ndarray]:
    """The pictures of ``asked`` by their keys."""
    batches = [batch for batch in engine.pictures(asked, hold=hold) if batch is not None]
    return {job.key: own for batch in batches for job, own in zip(batch.jobs, batch.pixels.wait(), strict=True)}


def test_what_every_picture_needs_is_kept_while_prompts_come_and_go(base: Base, tmp_path: Path) -> None:
    """The negative prompt was encoded first and is used last: others go, and their number stays within bounds."""
    with Engine(base, EngineOptions(batch=1, mixed=False, prompts=3)) as engine:
        for n in range(6):
            drawn(engine, jobs(tmp_path, [Stack()], [f"girl, {n}"], steps=1), hold=True)
        assert len(engine._prompts._guides) == 3


def test_every_stack_of_a_mixed_batch_finds_its_prompts(base: Base, tmp_path: Path) -> None:
    """However few are kept: four states of the text encoders, and two texts for each."""
    asked = jobs(tmp_path, [stack(base, n) for n in range(1, 5)], PROMPTS[:1], steps=1)
    with Engine(base, EngineOptions(batch=4, mixed=True, prompts=1)) as engine:
        assert len(drawn(engine, asked)) == 4


def test_a_stack_that_was_held_is_not_under_a_mixed_batch(base: Base, tmp_path: Path) -> None:
    asked = jobs(tmp_path, [stack(base, 1, text=False), stack(base, 2, text=False)], PROMPTS[:1])
    with Engine(base, EngineOptions(batch=2, mixed=True)) as engine:
        expected = drawn(engine, asked)
        drawn(engine, asked[:1], hold=True)
        again = drawn(engine, asked, hold=True)  # all prompts are known, so that no text encoder is patched
    assert all((again[key] == own).all() for key, own in expected.items())


def replace_graphs(engine: Engine, graphs: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``graphs`` stand where CUDA graphs would."""
    monkeypatch.setattr(engine._unet, "graphs", graphs)
    monkeypatch.setattr(engine._mixed, "_graphs", graphs)


def test_mixed_batches_of_a_graph_have_one_width(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the first picture, which comes alone. Another width would be another graph to capture and keep; what
    fills a batch up shows nowhere."""
    made = {name: jobs(tmp_path / name, [stack(base, 1), stack(base, 2)], seeds=(1, 2)) for name in ("graph", "plain")}
    monkeypatch.setattr("loratools.preview.render.unet_choice._WORTH_A_GRAPH", 1)
    with Engine(base, EngineOptions(batch=4, mixed=True)) as engine:
        render_jobs(engine, made["plain"], PictureStore(tmp_path / "plain"))
    with Engine(base, EngineOptions(batch=4, mixed=True)) as engine:
        graphs = Watched(plain_unet(base))
        replace_graphs(engine, graphs, monkeypatch)
        assert render_jobs(engine, made["graph"], PictureStore(tmp_path / "graph")) == 8  # one, four and three
        assert graphs.rows == {2, 8}
        made["graph"][1].file.path.unlink()
        graphs.rows.clear()
        assert render_jobs(engine, made["graph"], PictureStore(tmp_path / "graph")) == 1
        assert graphs.rows == {2}  # nothing is filled up to what does not lack
    for a, b in zip(made["graph"], made["plain"], strict=True):
        assert np.abs(pixels(a.file) - pixels(b.file)).max() <= 1


def test_the_first_mixed_picture_comes_alone_where_that_costs_little(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers are wide enough from the first batch on, so that no graph is captured twice."""
    own = jobs(tmp_path, [stack(base, 1), stack(base, 2)], seeds=(1, 2))
    monkeypatch.setattr("loratools.preview.render.unet_choice._WORTH_A_GRAPH", 1)
    with Engine(base, EngineOptions(batch=4, mixed=True, compiled=False)) as engine:
        assert [len(group.jobs) for group in engine._plan(own)] == [4, 4]  # a CPU has no graphs
        dropped = list[int]()
        graphs = Watched(plain_unet(base))
        graphs.drop = lambda: dropped.append(len(graphs.rows))  # type: ignore[method-assign]
        replace_graphs(engine, graphs, monkeypatch)
        assert [len(group.jobs) for group in engine._plan(own)] == [1, 4, 3]
        assert [len(group.jobs) for group in engine._plan(own[:4])] == [4]  # one batch stays one
        engine._unet.compiles = True
        assert [len(group.jobs) for group in engine._plan(own)] == [4, 4]  # every width would be compiled
        engine._unet.compiles = False
        render_jobs(engine, own, PictureStore(tmp_path))
        assert graphs.rows == {2, 8} and 1 not in dropped  # none after the first picture and before the others


def test_the_next_mixed_batch_is_prepared_between_the_steps_of_one(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is then never without work; what one step is too short for is done when its turn comes."""
    made = jobs(tmp_path, [stack(base, n) for n in range(1, 7)], PROMPTS[:1])
    monkeypatch.setattr("loratools.preview.render.unet_choice._WORTH_A_GRAPH", 1)
    with Engine(base, EngineOptions(batch=2, mixed=True)) as engine:
        log: list[str] = []
        replace_graphs(engine, Watched(lambda *inputs: log.append("step") or plain_unet(base)(*inputs)), monkeypatch)
        encode = engine._prompts._encode
        monkeypatch.setattr(engine._prompts, "_encode", lambda *given: log.append("text") or encode(*given))
        assert render_jobs(engine, made, PictureStore(tmp_path)) == 6
    steps = made[0].steps
    assert log.count("text") == 6 and log.count("step") == 4 * steps  # one, two, two and one
    first = [n for n, what in enumerate(log) if what == "step"][:steps]
    assert "text" in log[first[0] : first[-1] + 2]  # the second batch's, while the first one was made


class Watched(UNetGraphs):
    """Stands for graphs on a machine without CUDA: runs the UNet, and knows how many rows it was given."""

    def __init__(self, unet: UNet) -> None:
        super().__init__(unet)
        self.rows: set[int] = set()

    def __call__(self, latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
        self.rows.add(len(latents))
        return self._unet(latents, time, hidden, added)


def test_what_has_no_branch_is_patched(base: Base, tmp_path: Path) -> None:
    conv = "unet.conv_in"
    width = base.unet.conv_in.weight.shape[0]
    full = Stack({conv: LowRank(torch.ones(width, 1), torch.full((1, 36), 1e-3), (width, 4, 3, 3))}, 1.0, "conv")
    made = jobs(tmp_path, [full, stack(base, 1)], PROMPTS[:1])
    with Engine(base, EngineOptions(mixed=True)) as engine:
        assert [group.stack is not None for group in engine._plan(made)] == [True, True]
        linear = jobs(tmp_path, [stack(base, 1), stack(base, 2)], PROMPTS[:1])
        assert [group.stack for group in engine._plan(linear)] == [None]


def move_watched(moved: list[str], model: Any, to: Callable[..., Any], *where: Any) -> Any:
    moved.append(type(model).__name__)
    return to(*where)


def test_offload_moves_models_and_leaves_them_where_they_were(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two homes stand for a device and main memory: models work on one and rest on the other."""
    made = {name: jobs(tmp_path / name, [stack(base, 1)], PROMPTS) for name in ("plain", "parked")}
    with Engine(base) as engine:
        render_jobs(engine, made["plain"], PictureStore(tmp_path / "plain"))
    with Engine(base) as engine:
        engine._memory._offloader = Offloader(base)
        moved: list[str] = []
        for model in (base.unet, base.vae, *base.text_encoders):
            monkeypatch.setattr(model, "to", partial(move_watched, moved, model, model.to))
        render_jobs(engine, made["parked"], PictureStore(tmp_path / "parked"))
    assert {"UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel"} <= set(moved)
    assert all((pixels(a.file) == pixels(b.file)).all() for a, b in zip(*made.values(), strict=True))


def test_a_state_that_does_not_fit_is_tried_again_with_less_kept(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = jobs(tmp_path, [stack(base, 1)], PROMPTS[:1]), []
    with Engine(base) as engine:
        move = engine.patcher.patch

        def moving(*given: Any) -> PatchChange:
            calls.append(len(calls))
            if len(calls) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return move(*given)

        monkeypatch.setattr(engine.patcher, "patch", moving)
        assert render_jobs(engine, made, PictureStore(tmp_path)) == 1
    assert calls == [0, 1]


def test_fewer_pictures_at_once_where_it_is_known_that_they_do_not_fit(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = jobs(tmp_path, [stack(base, 1)], PROMPTS[:1], seeds=range(1, 9)), []
    with Engine(base, say=said.append) as engine:
        touched = engine.patcher.saved_bytes(made[0].stack.deltas)
        two = need(base, 2, (64, 64), 8, touched, Savings(sliced=True))
        monkeypatch.setattr("loratools.preview.render.device_memory.available", lambda _: two.more + 1)
        render_jobs(engine, made, PictureStore(tmp_path))
    assert said[0] == "memory is short: pictures are decoded one by one"
    assert "so 2 pictures are made at once in place of 8" in said[1] and "GiB are free" in said[1]
