"""What the renderer draws: the resting picture is the written file's, bit for bit; a quick one is quick and alike."""

from __future__ import annotations

import gc
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.errors import LoratoolsError, MemoryShortError, StudioError
from loratools.library.merging import merge
from loratools.ops.merging.merge import merge_files
from loratools.preview.render.engine import Engine
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid
from loratools.studio.live import painter as painter_module
from loratools.studio.live.frame import Frame
from loratools.studio.live.painter import Painter, Stopped
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.stack import OpenFiles, term_of
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish, TermWish
from tests.base.patching.test_patch import changed, weights
from tests.studio.live.conftest import Wishes

VECTOR = {"BASE": 0.5, "IN04": -0.25, "OUT05": 1.5, "OUT05/attn1": -0.5, "IN05-OUT05/ff": 1.2, "M00/proj_": 0.0}


class Watched:
    """A painter, what it said, and the steps of its pictures."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.painter = Painter(PainterOptions("cpu"), lambda words: self.said.append(words.text))
        self.steps: list[tuple[int, int]] = []

    def draw(self, wish: PictureWish) -> Frame:
        self.steps.clear()
        return self.painter.draw(wish, lambda done, steps: self.steps.append((done, steps)))


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.painter.close()


def pixels(frame: Frame) -> np.ndarray:
    with Image.open(io.BytesIO(frame.data)) as image:
        assert image.size == (frame.width, frame.height) and image.format == frame.encoding.upper()
        return np.asarray(image.convert("RGB")).astype(int)


def grid_pixels(base: str, lora: Path, wish: PictureWish, out: Path) -> np.ndarray:
    """The written file's picture, by the way that every grid takes."""
    own = wish.sampling
    sampling = SamplingRequest(own.negative, own.steps, own.cfg, own.sampler, own.size)
    row = GridRow.of_file(read(lora), "merged")
    loaded = load_base(base, device="cpu")
    result = render_grid(loaded, [row], [1.0], [own.prompt], out=out, sampling=sampling, seeds=(own.seed,))
    with Image.open(result.paths("merged", 1.0)[0]) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_the_resting_picture_is_the_written_files_bit_for_bit(
    watched: Watched, wishes: Wishes, tmp_path: Path, dtype: str
) -> None:
    wish = wishes("rest", VECTOR, dtype=dtype, negative="ink", cfg=5.0, seed=3)
    for vector in ({"OUT05": 0.1}, VECTOR):  # the second after another one, so that most modules stay as they are
        frame = watched.draw(wishes("rest", vector, dtype=dtype, negative="ink", cfg=5.0, seed=3))
    watched.draw(wishes("drag", {"MID": 2.0}))
    frame = watched.draw(wish)
    files = OpenFiles()
    merge_files(
        [term_of(files.adapter(own.lora), own) for own in wish.terms],
        tmp_path / "m.safetensors",
        dtype={"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype],
    )
    written = grid_pixels(wish.base, tmp_path / "m.safetensors", wish, tmp_path / "grid")
    assert frame.encoding == "png" and not frame.preview and np.array_equal(pixels(frame), written)
    assert watched.steps[-1] == (8, 8)


def test_it_is_the_file_that_the_merge_command_writes(watched: Watched, wishes: Wishes, tmp_path: Path) -> None:
    """The stack of the page, its strengths, parts and vector, as a merge string."""
    second = {"OUT05": 0.5, "IN01": 0.0, "M00/attn1": 2.0}
    a, b = wishes.loras
    terms = (TermWish(a, 0.75, "GP1,OUT05/attn1=0.1", te=0.5), TermWish(b, -0.25, second, unet=1.25))
    wish = PictureWish(terms, wishes.base, SamplingWish("1girl, ink style", steps=3), "rest")
    text = f'"{a}":0.75:GP1,OUT05/attn1=0.1:te=0.5,"{b}":-0.25:OUT05=0.5,IN01=0,M00/attn1=2:unet=1.25'
    merge(text, tmp_path / "m.safetensors", missing=1.0)
    written = grid_pixels(wish.base, tmp_path / "m.safetensors", wish, tmp_path / "grid")
    assert np.array_equal(pixels(watched.draw(wish)), written)


def test_rounding_shows_where_the_file_would_round(watched: Watched, wishes: Wishes) -> None:
    fine, coarse = (pixels(watched.draw(wishes("rest", VECTOR, dtype=dtype))) for dtype in ("fp32", "bf16"))
    assert not np.array_equal(fine, coarse) and np.abs(fine - coarse).mean() < 8


def test_the_base_alone_is_a_stack_without_terms(watched: Watched, folder: Path) -> None:
    wish = PictureWish((), str(folder), SamplingWish("1girl", steps=3), "rest")
    first = pixels(watched.draw(wish))
    moved = PictureWish((), str(folder), SamplingWish("1girl", steps=3, seed=2), "rest")
    assert not np.array_equal(first, pixels(watched.draw(moved)))
    assert np.array_equal(first, pixels(watched.draw(wish)))


def test_a_quick_picture_is_a_jpeg_of_few_steps_near_the_whole_one(watched: Watched, wishes: Wishes) -> None:
    whole, frame = pixels(watched.draw(wishes("rest", VECTOR))), watched.draw(wishes("drag", VECTOR))
    assert frame.encoding == "jpeg" and frame.preview and watched.steps[-1] == (6, 6)
    far = np.abs(pixels(watched.draw(wishes("drag", VECTOR, seed=9))) - whole).mean()
    assert np.abs(pixels(frame) - whole).mean() < far


def test_a_moved_block_writes_its_own_modules_alone_and_closing_brings_the_base_back(
    watched: Watched, wishes: Wishes
) -> None:
    watched.draw(wishes("drag", {"OUT05": 1.0, "MID": 1.0}))
    engine: Engine = watched.painter._loaded[1].engine  # type: ignore[index]
    before, patch, counts = weights(engine.base), engine.patcher.patch, []

    def counted(*given: object) -> object:
        counts.append(patch(*given))  # type: ignore[arg-type]
        return counts[-1]

    engine.patcher.patch = counted  # type: ignore[assignment, method-assign]
    watched.draw(wishes("drag", {"OUT05": 0.5, "MID": 1.0}))
    moved = changed(before, engine.base)
    assert moved and all(".up_blocks.1.attentions.2." in name for name in moved) and counts[0].modules == len(moved)
    watched.draw(wishes("drag", {"OUT05": 0.5, "MID": 1.0}, seed=5))
    assert counts[1].modules == 0
    plain = weights(load_base(wishes.base, device="cpu"))
    assert changed(plain, engine.base)
    watched.painter.close()
    assert not changed(plain, engine.base)


def test_a_picture_stops_between_two_steps_and_the_next_one_is_whole(watched: Watched, wishes: Wishes) -> None:
    expected = pixels(watched.draw(wishes("rest", VECTOR)))
    steps = []

    def stop(done: int, _: int) -> None:
        steps.append(done)
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        watched.painter.draw(wishes("rest", {"OUT05": -1.0}), stop)
    assert steps == [1, 2]
    assert np.array_equal(expected, pixels(watched.draw(wishes("rest", VECTOR))))


@pytest.mark.parametrize("quality", ["drag", "rest"])
def test_short_memory_makes_a_smaller_picture_and_says_so(
    watched: Watched, wishes: Wishes, monkeypatch: pytest.MonkeyPatch, quality: Quality
) -> None:
    drawn, sizes = Painter._drawn, []

    def short(engine: Engine, job: painter_module.PreviewJob, on_step: object) -> object:
        sizes.append(job.size)
        if job.size[0] > 64:
            raise MemoryShortError("one picture does not fit the memory")
        return drawn(engine, job, on_step)  # type: ignore[arg-type]

    monkeypatch.setattr(Painter, "_drawn", staticmethod(short))
    frame = watched.draw(wishes(quality, VECTOR, size=(128, 128)))
    assert sizes == [(128, 128), (64, 64)] and frame.preview and frame.width == 64
    assert watched.said[1:] == ["memory ran out at 128x128, so pictures are drawn at 64x64"]
    monkeypatch.setattr(painter_module, "_FEWEST_PIXELS", 128)
    with pytest.raises(StudioError, match=r"not even a small picture fits.*; end other programs"):
        watched.draw(wishes(quality, VECTOR, size=(128, 128)))


def test_a_smaller_picture_begins_from_the_larger_ones_noise() -> None:
    from loratools.base.sampling.noise import initial_latents, pooled_noise

    noise = initial_latents("own", 1, (512, 512))
    small = pooled_noise(noise, (256, 256))
    assert small.shape == (1, 4, 32, 32) and float(small.std()) == pytest.approx(1, abs=1e-5)
    coarse = torch.nn.functional.interpolate(small, scale_factor=2)
    assert float((coarse * noise).mean()) == pytest.approx(0.5, abs=0.03)  # half of each number is its area's mean
    assert pooled_noise(noise, (384, 320)).shape == (1, 4, 48, 40)


def test_a_file_that_changes_is_read_anew(watched: Watched, wishes: Wishes, tmp_path: Path) -> None:
    lora = Path(shutil.copy(wishes.loras[0], tmp_path / "own.safetensors"))
    wish = PictureWish((TermWish(lora, 1.0),), wishes.base, SamplingWish("1girl", steps=3), "drag")
    key, before = wish.key(), pixels(watched.draw(wish))
    shutil.copy(wishes.loras[1], lora)
    assert wish.key() != key and not np.array_equal(before, pixels(watched.draw(wish)))


def test_between_pictures_a_loaded_base_is_put_out_of_the_collectors_way(watched: Watched, wishes: Wishes) -> None:
    gc.unfreeze()
    watched.painter.between()
    assert gc.get_freeze_count() == 0  # nothing is loaded yet
    watched.draw(wishes("drag"))
    watched.painter.between()
    assert gc.get_freeze_count() > 10_000
    before = gc.get_freeze_count()
    watched.draw(wishes("drag", {"MID": 0.3}))
    watched.painter.between()
    assert gc.get_freeze_count() <= before  # what a picture leaves is collected as ever
    watched.painter._renewed()
    assert gc.get_freeze_count() == 0  # an engine that ran out of memory is garbage
    watched.painter.between()
    watched.painter.close()
    assert gc.get_freeze_count() == 0


def test_mistakes_are_one_sentence_with_a_remedy_and_the_base_stays(
    watched: Watched, wishes: Wishes, tmp_path: Path
) -> None:
    expected, loaded = pixels(watched.draw(wishes("drag", VECTOR))), watched.painter._loaded
    lora = wishes.loras[0]
    gone = PictureWish((TermWish(tmp_path / "gone.safetensors"),), wishes.base, SamplingWish(), "drag")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a lora")
    cases: dict[str, PictureWish] = {
        "gone.safetensors is gone from the disk; put it back": gone,
        "broken.safetensors": PictureWish((TermWish(broken),), wishes.base, SamplingWish(), "drag"),
        "multiples of 8": wishes("drag", size=(60, 64)),
        "not a sampler|no sampler|unknown sampler|sampler": wishes("drag", sampler="Eulr"),
        "OUT99": wishes("drag", {"OUT99": 1.0}),
        "GP9": PictureWish((TermWish(lora, 1.0, "GP9"),), wishes.base, SamplingWish(), "drag"),
        "put it into the stack": wishes("drag", prompt="1girl <lora:x:1>"),
    }
    for text, wish in cases.items():
        with pytest.raises(LoratoolsError, match=text):
            watched.draw(wish)
    assert watched.painter._loaded is loaded and np.array_equal(expected, pixels(watched.draw(wishes("drag", VECTOR))))


def test_a_base_that_is_gone_is_said_and_one_that_changed_is_loaded_again(
    watched: Watched, wishes: Wishes, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(wishes.base, tmp_path / "base"))
    wish = PictureWish((), str(base), SamplingWish("1girl", steps=2), "rest")
    before = pixels(watched.draw(wish))
    weights_file = next((base / "unet").glob("*.safetensors"))
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights_file)
    save_file({name: tensor * 0.9 for name, tensor in tensors.items()}, weights_file)
    assert not np.array_equal(before, pixels(watched.draw(wish)))
    assert watched.said == ["loading the base model base", "the base model changed on the disk and is loaded again"]
    shutil.rmtree(base)
    with pytest.raises(StudioError, match="choose another base model"):
        watched.draw(wish)
