from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.errors import FileError, RecipeError
from loratools.train.basestyle.basestyle import basestyle
from loratools.train.drawing import generate
from loratools.train.drawing.generate import FRAMINGS, PROMPTS, Generation, StylePicture, draw_batch, style_pictures
from loratools.train.trainer import RunResult
from loratools.yamlio import read_yaml

QUICK = {"steps": 1, "dim": 2, "batch_size": 4}


def _run(tiny: Path, out: Path, **more: object) -> RunResult:
    settings = {"images_per_framing": 1, "epochs": 1, **QUICK, **more}
    return basestyle(str(tiny), out, settings=settings, device="cpu", progress=False)


def test_pictures_captions_training_and_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bs"
    first = _run(tiny, out)
    assert not first.cached and [path.name for path in first.epochs] == ["tiny_BASE-000001.safetensors"]
    for framing in FRAMINGS:
        assert Image.open(out / f"images/{framing}_000.png").size == (64, 64)
        assert (out / f"images/{framing}_000.txt").read_text().startswith(framing)
    digest = read(first.epochs[0]).digest
    made = (out / "images/full_body_000.png").stat().st_mtime_ns
    again = _run(tiny, out)
    assert again.cached and again.epochs == first.epochs and again.losses == first.losses
    changed = _run(tiny, out, learning_rate=3e-3, unet_lr=3e-3)
    assert not changed.cached and read(changed.epochs[0]).digest != digest
    assert (out / "images/full_body_000.png").stat().st_mtime_ns == made  # the pictures' own settings are the same
    changed.epochs[0].unlink()
    assert not _run(tiny, out, learning_rate=3e-3, unet_lr=3e-3).cached
    _run(tiny, out, picture_seed=2)
    assert (out / "images/full_body_000.png").stat().st_mtime_ns != made


def test_a_killed_generation_goes_on_where_it_stopped(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = generate.draw_batch, []

    def counted(base, pictures, generation):  # type: ignore[no-untyped-def]
        calls.append([picture.stem for picture in pictures])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(base, pictures, generation)

    monkeypatch.setattr(generate, "draw_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        _run(tiny, tmp_path, pictures_at_once=1)
    _run(tiny, tmp_path, pictures_at_once=1)
    assert [stem for call in calls for stem in call] == [
        "face_focus_000",
        "cowboy_shot_000",
        "cowboy_shot_000",
        "full_body_000",
    ]


@pytest.mark.parametrize(
    "prompt",
    [
        "1girl, (smile:1.4), hat",
        "1girl, smile, [hat:blue eyes:1]",
        "1girl, smile, hat AND blue eyes",
        "1girl, smile, hat, " + "red hair, " * 40 + "ink style",
    ],
    ids=["a weight", "a schedule", "AND", "beyond 77 tokens"],
)
def test_prompts_are_read_in_the_webuis_syntax_and_to_their_end(tiny: Path, prompt: str) -> None:
    """The WebUI's characters count for what they mean, and the last word of a long prompt counts too."""
    loaded, how = load_base(str(tiny), device="cpu"), Generation(steps=3)
    escaped = prompt.translate({ord(mark): f"\\{mark}" for mark in "()[]"}).replace("AND", "and")
    plain = escaped if escaped != prompt else prompt.removesuffix("ink style")
    read_as, literally = (draw_batch(loaded, [StylePicture("x", text, 7)], how) for text in (prompt, plain))
    assert read_as.shape == (1, 64, 64, 3) and not np.array_equal(read_as, literally)


def test_someone_elses_pictures_are_left_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.png").write_bytes(b"x")
    with pytest.raises(FileError, match=r"did not make.*force=True"):
        _run(tiny, tmp_path)


def test_an_unknown_setting_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'epoch' \(did you mean 'epochs'\?\)"):
        basestyle(str(tiny), tmp_path, settings={"epoch": 3})


def test_shipped_prompts_begin_with_their_framing() -> None:
    listed = read_yaml(PROMPTS).data
    assert tuple(listed) == FRAMINGS
    for framing, prompts in listed.items():
        assert len(set(prompts)) >= 8 and all(prompt.startswith(framing) for prompt in prompts)


def test_the_pocket_is_asked_for_in_its_own_tags() -> None:
    from loratools.pocket.draw import ATTRIBUTES

    known = {tag for tags in ATTRIBUTES.values() for tag in tags} | {"1girl"}
    pictures = list(style_pictures("pocket", Generation(images_per_framing=6)))
    assert len({picture.prompt for picture in pictures}) == 18
    assert all(set(picture.prompt.split(", ")) <= known for picture in pictures)
