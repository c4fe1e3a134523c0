from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.infotext import LoraUse, read_png
from loratools.base.model import Base
from loratools.base.sampling.sample import Sampling, decode_pixels
from loratools.errors import BaseModelError, FileError, GridError, LoratoolsError, PromptError
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.folder import read_grid
from loratools.preview.redraw import redraw
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.rows import GridRow
from loratools.preview.run import GridResult, render_grid
from tests.base.patching.test_patch import changed, random_deltas, weights
from tests.base.plain import plain_latents
from tests.preview.flat import flat

PROMPTS = ["1girl, red hair", "full body"]


@pytest.fixture(scope="module")
def rows(base: Base) -> list[GridRow]:
    made = [random_deltas(base, seed=seed) for seed in (1, 2)]
    return [
        GridRow(f"ink-00000{n}", deltas, loras=(LoraUse(f"ink-00000{n}", f"{n}" * 64),))
        for n, deltas in enumerate(made, start=1)
    ]


def render(base: Base, rows: list[GridRow], out: Path, **changes: object) -> GridResult:
    settings: dict[str, object] = {"seeds": (1, 2), "steps": 2, "sampler": "DDIM", "batch_size": 3}
    return render_grid(base, rows, (0.5, 1.0), PROMPTS, out=out, **flat(**{**settings, **changes}))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*.png")
        if path.name != "grid.png"
    }


@pytest.fixture(scope="module")
def done(base: Base, rows: list[GridRow], tmp_path_factory: pytest.TempPathFactory) -> GridResult:
    return render(base, rows, tmp_path_factory.mktemp("grid"))


def test_the_base_column_is_what_the_base_alone_gives(base: Base, done: GridResult) -> None:
    settings = SamplingSettings(2, 7.0, "DDIM", (64, 64))
    jobs = [PictureJob(prompt, seed, settings) for prompt in PROMPTS for seed in (1, 2)]
    with PopulationRenderer(base, EngineOptions(batch=3)) as renderer:
        alone = [drawn.pixels for drawn in renderer.draw([Stack()], jobs)]
    prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
    plain = decode_pixels(base, plain_latents(base, prompts, seeds, Sampling(2, 7.0, "DDIM"))).numpy()
    cells = [pixels(path) for path in done.paths("ink-000001", 0.0)]
    for cell, image, by_torch in zip(cells, alone, plain, strict=True):
        assert np.array_equal(cell, image)
        assert np.abs(cell.astype(int) - by_torch).max() <= 1  # torch's own kernels round differently on a CPU
    assert done.paths("ink-000001", 0.0) == done.paths("ink-000002", 0.0)


def test_every_cell_is_there_and_differs(done: GridResult) -> None:
    assert (done.rendered, done.reused) == (4 + 2 * 2 * 4, 0)
    assert done.grid.weights == (0.0, 0.5, 1.0)
    assert done.png.is_file() and done.html.is_file() and done.json.is_file()
    shots = {pixels(done.folder / picture.file).tobytes() for picture in done.grid.pictures}
    assert len(shots) == 20
    assert done.paths("ink-000002", 0.5)[0] == done.folder / "cells/ink-000002/0.5/prompt1_1.png"
    with pytest.raises(GridError, match=r"no cell 'ink-000002' at 0\.7"):
        done.paths("ink-000002", 0.7)


def test_a_cell_is_the_same_alone_and_after_others(
    base: Base, rows: list[GridRow], done: GridResult, tmp_path: Path
) -> None:
    only = render(base, rows[1:], tmp_path / "only")
    for weight in (0.0, 0.5, 1.0):
        for one, two in zip(only.paths("ink-000002", weight), done.paths("ink-000002", weight), strict=True):
            assert np.array_equal(pixels(one), pixels(two))


def test_the_base_is_untouched_afterwards(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    before = weights(base)
    render(base, rows, tmp_path)
    assert not changed(before, base)


def test_pictures_say_how_they_were_made(base: Base, done: GridResult) -> None:
    text, made = read_png(done.paths("ink-000002", 0.5)[1])
    assert text.splitlines()[0] == "1girl, red hair, <lora:ink-000002:0.5>"
    assert "Steps: 2, Sampler: DDIM, CFG scale: 7, Seed: 2, Size: 64x64" in text
    assert f"Model hash: {base.digest[:10]}, Model: tiny" in text and 'Lora hashes: "ink-000002: 222222222222"' in text
    assert made["row"] == "ink-000002" and made["weight"] == 0.5 and made["base"] == base.digest
    text, made = read_png(done.paths("ink-000002", 0.0)[1])
    assert "lora:" not in text and "Lora hashes" not in text and made["row"] == ""


def test_the_record_can_be_read_back(done: GridResult) -> None:
    assert read_grid(done.folder) == done.grid
    record = json.loads(done.json.read_text())
    assert record["size"] == [64, 64] and record["prompts"] == PROMPTS and len(record["cells"]) == 24


def test_a_second_run_renders_nothing_and_a_change_renders_only_that(
    base: Base, rows: list[GridRow], tmp_path: Path
) -> None:
    render(base, rows, tmp_path)
    before = files(tmp_path)
    again = render(base, rows, tmp_path)
    assert (again.rendered, again.reused) == (0, 20) and files(tmp_path) == before
    words = flat(out=tmp_path, seeds=(1, 2), steps=2, sampler="DDIM", batch_size=3)
    more = render_grid(base, rows, (0.5, 0.75, 1.0), PROMPTS, **words)
    assert (more.rendered, more.reused) == (8, 20)
    edited = [rows[0], GridRow("ink-000002", random_deltas(base, seed=3))]
    assert render(base, edited, tmp_path).rendered == 8
    assert render(base, edited, tmp_path, cfg=5).rendered == 20


def test_a_broken_run_goes_on(base: Base, rows: list[GridRow], done: GridResult, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(finished: int, total: int) -> None:
        assert total == 20
        if finished >= 7:
            raise Killed

    with pytest.raises(Killed):
        render(base, rows, tmp_path, on_picture=kill)
    there = len(files(tmp_path))
    assert not (tmp_path / "grid.json").exists() and 7 <= there < 20
    damaged = tmp_path / "cells/base/0/prompt1_2.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    rest = render(base, rows, tmp_path)
    assert rest.reused == there - 1 and rest.rendered == 20 - rest.reused
    for one, two in zip(rest.grid.pictures, done.grid.pictures, strict=True):
        assert np.array_equal(pixels(tmp_path / one.file), pixels(done.folder / two.file))


def test_new_labels_move_pictures_without_rendering(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    render(base, rows, tmp_path)
    first = pixels(tmp_path / "cells/ink-000001/1/prompt1_1.png")
    swapped = [GridRow("ink-000002", rows[0].deltas), GridRow("ink-000001", rows[1].deltas)]
    again = render(base, swapped, tmp_path)
    assert again.rendered == 0
    path = again.paths("ink-000002", 1.0)[0]
    assert path == tmp_path / "cells/ink-000002/1/prompt1_1.png"
    assert np.array_equal(pixels(path), first)
    assert read_png(path)[1]["row"] == "ink-000002"


def test_rows_of_the_same_content_are_rendered_once(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    twin = GridRow("twin", rows[0].deltas)
    result = render(base, [rows[0], twin], tmp_path)
    assert result.rendered == 4 + 2 * 4
    assert result.paths("twin", 1.0) == result.paths("ink-000001", 1.0)


def test_repeated_prompts_and_seeds_count_once(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    result = render_grid(base, rows[:1], (1.0, 1.0), ["a", "a"], **flat(out=tmp_path, seeds=(1, 1), steps=1))
    assert result.rendered == 2 and result.grid.weights == (0.0, 1.0)


def test_a_live_stack_is_the_merged_file(base: Base, tmp_path: Path) -> None:
    for name, seed in (("style", 5), ("plain", 6)):
        write(random_deltas(base, seed=seed), tmp_path / f"{name}.safetensors", family="sd1", dtype=torch.float32)
    terms = [
        Term(read(tmp_path / "style.safetensors"), 0.8, label="style"),
        Term(read(tmp_path / "plain.safetensors"), -1.0, te=0.5, label="plain"),
    ]
    merge_files(terms, tmp_path / "merged.safetensors", dtype=torch.float32)
    live = GridRow.of_terms(terms, "live")
    merged = GridRow.of_file(read(tmp_path / "merged.safetensors"))
    assert live.digest() == merged.digest()
    one = render(base, [live], tmp_path / "live", seeds=(1,), size=(64, 64))
    two = render(base, [merged], tmp_path / "merged", seeds=(1,))
    for weight in (0.5, 1.0):
        for a, b in zip(one.paths("live", weight), two.paths("merged", weight), strict=True):
            assert np.array_equal(pixels(a), pixels(b))
    assert "<lora:style:0.4>, <lora:plain:te=-0.25:unet=-0.5>" in read_png(one.paths("live", 0.5)[0])[0]
    digest = read(tmp_path / "merged.safetensors").digest[:12]
    assert f'"merged: {digest}"' in read_png(two.paths("merged", 0.5)[0])[0]
    merge_files(terms, tmp_path / "half.safetensors", dtype=torch.float16)
    half = render(base, [GridRow.of_file(read(tmp_path / "half.safetensors"))], tmp_path / "half", seeds=(1,))
    for a, b in zip(one.paths("live", 1.0), half.paths("half", 1.0), strict=True):
        assert np.abs(pixels(a).astype(int) - pixels(b)).mean() < 1
        assert np.abs(pixels(a).astype(int) - pixels(half.paths("half", 0.0)[0])).mean() > 1


def test_another_owners_grid_is_not_overwritten(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    small = {"seeds": (1,), "steps": 1, "owner": "recipe/sheet"}
    render(base, rows[:1], tmp_path, **small)
    render(base, rows[:1], tmp_path, **small)
    with pytest.raises(FileError, match=r"was written by 'recipe/sheet'.*force=True"):
        render(base, rows[:1], tmp_path, **{**small, "owner": "other"})
    render(base, rows[:1], tmp_path, **{**small, "owner": "other", "force": True})
    (tmp_path / "grid.json").unlink()
    with pytest.raises(FileError, match="was not written by this step"):
        render(base, rows[:1], tmp_path, **small)
    with pytest.raises(FileError, match="is a file; give a folder"):
        render(base, rows[:1], tmp_path / "cells/base/0/prompt1_1.png", **small)


def test_notes_and_badges_are_added_without_rendering(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    result = render(base, rows, tmp_path, seeds=(1,), steps=1)
    plain, before = pixels(result.png), files(tmp_path)
    grid = redraw(
        tmp_path, notes={"ink-000001": "style 0.93"}, badges={("ink-000002", 0.5): "<b>0.5</b>"}, title="T & U"
    )
    assert files(tmp_path) == before and grid.rows[0].note == "style 0.93"
    assert pixels(result.png).shape != plain.shape
    page = result.html.read_text()
    assert "style 0.93" in page and "\\u003cb>0.5" in page and "T &amp; U" in page and "<b>0.5" not in page
    assert redraw(tmp_path).badges == {(1, 0.5): "<b>0.5</b>"}
    with pytest.raises(LoratoolsError, match=r"'nobody'.*ink-000001"):
        redraw(tmp_path, notes={"nobody": "x"})
    with pytest.raises(FileError, match="render the grid first"):
        redraw(tmp_path / "cells")


def test_bad_requests_are_told_before_anything_is_written(base: Base, rows: list[GridRow], tmp_path: Path) -> None:
    out = tmp_path / "grid"
    stranger = GridRow("x", {**rows[0].deltas, "unet.nowhere": rows[0].deltas["unet.mid_block.attentions.0.proj_in"]})
    for error, changes in (
        (GridError, {"rows": []}),
        (GridError, {"rows": [rows[0], rows[0]]}),
        (GridError, {"sampler": "nope"}),
        (GridError, {"size": (60, 64)}),
        (GridError, {"steps": 0}),
        (GridError, {"batch_size": 0}),
        (GridError, {"seeds": ()}),
        (PromptError, {"prompts": []}),
        (BaseModelError, {"rows": [rows[0], stranger]}),
    ):
        given: dict[str, Any] = {"rows": rows, "prompts": PROMPTS, "steps": 1, **changes}
        with pytest.raises(error):
            render_grid(base, given.pop("rows"), (1.0,), given.pop("prompts"), out=out, **flat(**given))
        assert not out.exists()
