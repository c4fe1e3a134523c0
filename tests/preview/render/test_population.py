"""Populations in memory: the pictures of a merge and a plain engine, in order or not, by one process or two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.prompt.guidance import PromptConditioning
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.errors import BaseModelError, GridError, LaunchError
from loratools.launch import Rank
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import DrawnPicture, PictureJob, PopulationRenderer, arrived, plan_rounds
from loratools.preview.request.options import EngineOptions
from loratools.train.distributed import join, leave
from tests.base.patching.test_patch import changed, random_deltas, weights

ON_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
ROOT = Path(__file__).parents[3]
SETTINGS = SamplingSettings(2, 4.0, "DDIM", (64, 64))
JOBS = [PictureJob(prompt, seed, SETTINGS) for prompt in ("1girl, red hair", "") for seed in (1, 2)]
VECTORS = [{}, {"OUT05": 0.0, "OUT06": 0.3}, {"BASE": 0.0, "IN01": -1.0}]


@pytest.fixture(scope="module")
def lora(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    write(random_deltas(base, seed=1), path, family="sd1", dtype=torch.float32)
    return path


@pytest.fixture
def stacks(lora: Path) -> list[Stack]:
    return vector_stacks([Term(read(lora), 0.8)], VECTORS)


def by_place(pictures: Sequence[DrawnPicture]) -> dict[tuple[int, int], np.ndarray]:
    return {(one.stack, one.job): one.pixels.astype(int) for one in pictures}


def test_a_vectors_picture_is_its_merged_files(base: Base, lora: Path, stacks: list[Stack], tmp_path: Path) -> None:
    merged = []
    for n, stack in enumerate(stacks):
        merge_files(stack.deltas.terms, tmp_path / f"{n}.safetensors", dtype=torch.float32)  # type: ignore[attr-defined]
        merged.append(Stack(read(tmp_path / f"{n}.safetensors"), 1.0, f"{n}"))
    with PopulationRenderer(base) as renderer:
        live, files = by_place([*renderer.draw(stacks, JOBS)]), by_place([*renderer.draw(merged, JOBS)])
    assert set(live) == {(stack, job) for stack in range(3) for job in range(4)}
    assert all(np.array_equal(live[place], files[place]) for place in live)
    shots = [*live.values()]
    assert min(np.abs(a - b).mean() for n, a in enumerate(shots) for b in shots[:n]) > 0.5


def test_a_population_is_its_pictures_alone_and_leaves_the_base_as_it_was(base: Base, stacks: list[Stack]) -> None:
    before = weights(base)
    with PopulationRenderer(base) as renderer:
        together = by_place([*renderer.draw(stacks, JOBS)])
        assert not changed(before, base)
        ordered = [(one.stack, one.job) for one in renderer.draw(stacks, JOBS[::-1])]
        assert ordered == sorted(ordered) and len(ordered) == 12
        unordered = by_place([*renderer.draw(stacks, JOBS, ordered=False)])
    with PopulationRenderer(base, EngineOptions(batch=1)) as renderer:
        for (n, m), pixels in together.items():
            (alone,) = renderer.draw([stacks[n]], [JOBS[m]])
            assert np.abs(alone.pixels.astype(int) - pixels).max() <= 1
    assert all(np.array_equal(unordered[place], together[place]) for place in together)


def test_leaving_a_loop_early_restores_the_base(base: Base, stacks: list[Stack]) -> None:
    before = weights(base)
    with PopulationRenderer(base) as renderer:
        iterator = renderer.draw(stacks[1:], JOBS)
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]
        assert not changed(before, base)


def test_a_new_call_and_the_end_of_the_block_close_what_is_open(base: Base, stacks: list[Stack]) -> None:
    before = weights(base)
    with PopulationRenderer(base) as renderer:
        for picture in renderer.draw(stacks, JOBS):
            if picture.stack == 1:
                break
        left = renderer.draw(stacks[2:], JOBS)
        assert len([*renderer.draw([Stack()], JOBS)]) == 4  # the one before never began, and is closed
        assert [*left] == []
        still_open = renderer.draw(stacks, JOBS)
        next(still_open)
    assert not changed(before, base)
    assert [*still_open] == []


def test_too_little_memory_makes_smaller_batches_and_is_said_once(
    base: Base, stacks: list[Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with PopulationRenderer(base) as renderer:
        usual = by_place([*renderer.draw(stacks, JOBS)])
    with PopulationRenderer(base, say=said.append) as renderer:
        run = renderer._drawer._unet._plain

        def limited(latents: Tensor, *others: Any) -> Tensor:
            if len(latents) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return run(latents, *others)

        monkeypatch.setattr(renderer._drawer._unet, "_plain", limited)
        small = by_place([*renderer.draw(stacks, JOBS)])
    assert said == ["out of memory with 4 pictures at once; going on with 2"]
    assert all(np.abs(small[place] - usual[place]).max() <= 1 for place in usual)


def test_what_memory_is_needed_is_said_once_a_search(
    base: Base, stacks: list[Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loratools.preview.render.device_memory.available", lambda _: 8 << 30)
    said: list[str] = []
    with PopulationRenderer(base, say=said.append) as renderer:
        for _generation in range(3):
            assert len([*renderer.draw(stacks[:1], JOBS)]) == 4
    assert len(said) == 1 and said[0].startswith("needs about")


def test_prompts_are_encoded_once_for_each_weight_of_the_text_encoder(base: Base, lora: Path) -> None:
    texts: list[list[str]] = []

    def encode(base: Base, prompts: Sequence[str], steps: int, skip: int) -> Sequence[PromptConditioning]:
        texts.append(list(prompts))
        return encode_prompts(base, prompts, steps, skip)

    vectors = [{"OUT05": n / 4, "BASE": base_weight} for base_weight in (1.0, 0.5) for n in range(3)]
    with PopulationRenderer(base, encode=encode) as renderer:
        for _generation in range(2):
            assert len([*renderer.draw(vector_stacks([Term(read(lora))], vectors), JOBS)]) == 24
    assert texts == [["1girl, red hair", ""]] * 2


def test_stacks_share_batches_where_that_is_asked_for(base: Base, stacks: list[Stack]) -> None:
    """One picture a stack: three in one batch, each under its own vector."""
    with PopulationRenderer(base, EngineOptions(mixed=True)) as renderer:
        mixed = by_place([*renderer.draw(stacks, JOBS[:1])])
        assert renderer._drawer._mixed.active
    with PopulationRenderer(base) as renderer:
        patched = by_place([*renderer.draw(stacks, JOBS[:1])])
        assert not renderer._drawer._mixed.active  # a branch rounds otherwise than a patched weight
    assert all(np.abs(mixed[place] - patched[place]).max() <= 1 for place in patched)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_CUDA)])
@pytest.mark.parametrize("mixed", [False, True, None])
def test_generations_on_every_device_are_the_pictures_alone(
    folder: Path, lora: Path, device: str, mixed: bool | None
) -> None:
    """Graphs, buffers and copies that one generation leaves serve the next, whose vectors and number of jobs differ."""
    base = load_base(folder, device=device, dtype="fp32")
    before = weights(base)
    steps = 8 if device == "cuda" else 2  # with fewer no graph is captured
    jobs = [replace(job, settings=replace(SETTINGS, steps=steps)) for job in JOBS]
    generations = [(vector_stacks([Term(read(lora), 0.8)], VECTORS[n:]), jobs[n:]) for n in (0, 1)]
    with PopulationRenderer(base, EngineOptions(batch=4, mixed=mixed)) as renderer:
        made = [by_place([*renderer.draw(*each)]) for each in generations]
        assert not changed(before, base)
    with PopulationRenderer(base, EngineOptions(batch=1, mixed=False, graphs=False)) as renderer:
        alone = [by_place([*renderer.draw(*each)]) for each in generations]
    for own, other in zip(made, alone, strict=True):
        assert own.keys() == other.keys()
        assert max(np.abs(own[place] - other[place]).mean() for place in own) < 0.5


class Late:
    """A batch whose pixels come when they are asked for."""

    def __init__(self, number: int, log: list[str], ready: bool = False) -> None:
        self.jobs, self.pixels, self.ready = (SimpleNamespace(key=(number, 0)),), self, ready
        self._number, self._log = number, log

    def wait(self) -> list[int]:
        self._log.append(f"read {self._number}")
        return [self._number]


def test_pictures_are_read_while_later_batches_are_under_way() -> None:
    log: list[str] = []

    def batches() -> Iterator[Any]:
        for n in range(5):
            log.append(f"begun {n}")
            yield Late(n, log, ready=n == 4)
        yield None

    places = []
    for place, _ in arrived(batches()):
        places.append(place)
    assert places == [(n, 0) for n in range(5)]
    assert log[:6] == ["begun 0", "begun 1", "begun 2", "read 0", "begun 3", "read 1"]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_picture_is_one_processes_and_shares_are_even(world: int) -> None:
    rounds = plan_rounds(31, 12, world)
    assert [place for each in rounds for place in each.places] == [(n, m) for n in range(31) for m in range(12)]
    sizes = [sum(len(each.shares[rank]) for each in rounds) for rank in range(world)]
    assert max(sizes) - min(sizes) <= len(rounds)


def test_what_cannot_be_drawn_is_said_before_drawing(base: Base, stacks: list[Stack]) -> None:
    bad = Stack({"unet.nowhere": random_deltas(base)["unet.mid_block.attentions.0.proj_in"]}, 1.0, "bad")
    odd = PictureJob("1girl", 1, SamplingSettings(2, 4.0, "DDIM", (63, 64)))
    with PopulationRenderer(base, rank=Rank(0, 2)) as renderer:
        for wrong, error, text in (
            (([], JOBS), GridError, "no stack to draw"),
            ((stacks, []), GridError, "no picture to draw"),
            ((stacks, [odd]), GridError, "64x63 does not fit"),
            (([*stacks, bad], JOBS), BaseModelError, r"unet\.nowhere"),
            ((stacks, JOBS), LaunchError, r"2 processes draw one population.*join"),
        ):
            with pytest.raises(error, match=text):
                renderer.draw(*wrong)
        assert len([*renderer.draw(stacks, JOBS, mine=True)]) == 6


def test_two_processes_draw_what_one_does(folder: Path, base: Base, lora: Path, tmp_path: Path) -> None:
    stacks = vector_stacks([Term(read(lora), 0.8)], VECTORS)
    with PopulationRenderer(base) as renderer:
        one = {f"{p.stack} {p.job}": int(p.pixels.astype(np.int64).sum()) for p in renderer.draw(stacks, JOBS)}
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    shared["MASTER_PORT"] = str(free_port())
    own = [sys.executable, "-m", "tests.preview.render.test_population", str(folder), str(lora)]
    running = [
        subprocess.Popen(
            [*own, str(tmp_path / f"{n}.json")], cwd=ROOT, env={**shared, "RANK": str(n), "LOCAL_RANK": str(n)}
        )
        for n in range(2)
    ]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    every = [json.loads((tmp_path / f"{n}.json").read_text()) for n in range(2)]
    for rank in every:
        assert list(rank["all"]) == list(one)  # in order
        assert all(abs(rank["all"][place] - one[place]) <= 64 * 64 for place in one)
    assert every[0]["all"] == every[1]["all"]
    assert sorted([*every[0]["mine"], *every[1]["mine"]]) == sorted(one)
    assert all(every[0]["all"][place] == total for rank in every for place, total in rank["mine"].items())


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def draw_as_one_of_two(folder: str, lora: str, out: str) -> None:
    """What each of the two processes runs."""
    torch.set_num_threads(1)
    ranks, device = join("cpu")
    stacks = vector_stacks([Term(read(Path(lora)), 0.8)], VECTORS)

    def totals(pictures: Callable[[], Sequence[DrawnPicture]]) -> dict[str, int]:
        return {f"{p.stack} {p.job}": int(p.pixels.astype(np.int64).sum()) for p in pictures()}

    with PopulationRenderer(load_base(Path(folder), device=device)) as renderer:
        made = {
            "all": totals(lambda: [*renderer.draw(stacks, JOBS)]),
            "mine": totals(lambda: [*renderer.draw(stacks, JOBS, mine=True)]),
        }
    leave(ranks)
    Path(out).write_text(json.dumps(made))


if __name__ == "__main__":
    draw_as_one_of_two(*sys.argv[1:])
