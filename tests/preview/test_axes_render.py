"""Grids along every kind of axis, rendered on a tiny base: each place shows what it says."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.infotext import parameters, read_png
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.errors import FormatError, GridError, PromptError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from loratools.preview.record.folder import read_grid
from loratools.preview.redraw import redraw
from loratools.preview.request.arrange import arrange
from loratools.preview.request.axes import Axis, parse_axis
from loratools.preview.request.read_axes import build_arrangement
from loratools.preview.request.read_rows import NameLookup
from loratools.preview.request.request import GridRequest, ModelRequest, SamplingRequest
from loratools.preview.request.row_text import RowText
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting
from loratools.preview.run import GridOutput, GridResult, render_axes, render_grid, render_request
from tests.base.patching.test_patch import random_deltas
from tests.preview.flat import flat

PRESETS = load_presets(None)


@pytest.fixture(scope="module")
def loras(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for name, seed in (("ink", 1), ("plain", 2)):
        write(random_deltas(base, seed=seed), folder / f"{name}.safetensors", family="sd1", dtype=torch.float32)
    return folder


def render(
    base: Base, loras: Path, out: Path, *texts: str, rows: tuple[GridRow, ...] = (), **options: Any
) -> GridResult:
    start = CellSetting("", 0, steps=1, sampler="DDIM")
    prompts = options.pop("prompts", ["1girl"])
    asked = [parse_axis(text, slot) for text, slot in zip(texts, "xyz", strict=False)]
    arrangement = arrange(
        asked,
        replace(start, prompt=prompts[0]),
        rows=rows,
        prompts=prompts,
        seeds=[1],
        base=options.pop("with_base", True),
    )

    def resolve(text: str) -> list[Term]:
        return resolve_terms(parse_merge_string(text), lora_dirs=[loras], presets=PRESETS)

    load = options.pop("load", lambda name: base)
    return render_axes(arrangement, load, GridOutput(out), presets=PRESETS, resolve=resolve, **options)


def ink(loras: Path) -> GridRow:
    return GridRow.of_file(read(loras / "ink.safetensors"))


def at(result: GridResult, *place: int) -> np.ndarray:
    (picture,) = [picture for picture in result.grid.pictures if result.grid.place(picture)[: len(place)] == place]
    with Image.open(result.folder / picture.file) as image:
        return np.asarray(image)


def row_alone(base: Base, row: GridRow, out: Path, weight: float = 1.0, **settings: Any) -> np.ndarray:
    made = render_grid(base, [row], [weight], ["1girl"], out=out, **flat(**{"steps": 1, "sampler": "DDIM", **settings}))
    with Image.open(made.paths(row.label, weight)[0]) as image:
        return np.asarray(image)


def test_blocks_and_strengths_are_those_of_a_merge(base: Base, loras: Path, tmp_path: Path) -> None:
    adapter = read(loras / "ink.safetensors")
    result = render(base, loras, tmp_path / "a", "block M00: 0, 1", "te: 0,1", rows=(ink(loras),))
    assert [axis.labels for axis in result.grid.shown[:2]] == [("base", "0", "1"), ("0", "1")]
    vector = parse_vector("ALL,MID=0", PRESETS, "sd1")
    wanted = row_alone(base, GridRow.of_terms([Term(adapter, vector=vector, te=0.0)], "w"), tmp_path / "b")
    assert np.array_equal(at(result, 1, 0), wanted)
    assert np.array_equal(at(result, 2, 1), row_alone(base, ink(loras), tmp_path / "c"))
    assert np.array_equal(at(result, 0, 0), at(result, 0, 1)) and not np.array_equal(at(result, 0, 0), wanted)
    assert result.rendered == 5  # the base once
    text = read_png(result.folder / next(p.file for p in result.grid.pictures if p.at[:2] == (1, 0)))[0]
    assert "<lora:ink:te=0:unet=1:lbw=" in text


def test_one_lora_of_a_stack_is_weighed(base: Base, loras: Path, tmp_path: Path) -> None:
    terms = [Term(read(loras / f"{name}.safetensors"), label=name) for name in ("ink", "plain")]
    stack = GridRow.of_terms(terms, "stack")
    result = render(base, loras, tmp_path / "a", "weight of plain: -1,0", rows=(stack,), with_base=False)
    assert np.array_equal(at(result, 1), row_alone(base, ink(loras), tmp_path / "b"))
    wanted = GridRow.of_terms([terms[0], replace(terms[1], weight=-1.0)], "w")
    assert np.array_equal(at(result, 0), row_alone(base, wanted, tmp_path / "c"))
    with pytest.raises(GridError, match=r"'stack' has no LoRA called 'plane' \(did you mean 'plain'\?\); it has ink"):
        render(base, loras, tmp_path / "d", "weight of plane: 0,1", rows=(stack,))


def test_settings_differ_along_axes(base: Base, loras: Path, tmp_path: Path) -> None:
    result = render(base, loras, tmp_path / "a", "cfg: 1,7", "steps: 1,2", "size: 64, 64x72", rows=(ink(loras),))
    axes = result.grid.shown
    assert [axis.name for axis in axes] == ["CFG", "steps", "size", "adapter", "prompt", "seed"]
    assert np.array_equal(at(result, 1, 1, 0, 1), row_alone(base, ink(loras), tmp_path / "b", cfg=7, steps=2))
    assert at(result, 0, 0, 1, 0).shape == (72, 64, 3)
    picture = next(p for p in result.grid.pictures if p.at[:4] == (1, 1, 1, 1))
    assert picture.base == (1, 1, 1, 0, 0, 0) and picture.file.endswith("_cfg7_steps2_size64x72.png")
    assert "Steps: 2, Sampler: DDIM, CFG scale: 7" in read_png(result.folder / picture.file)[0]
    assert "cfg" not in result.grid.title.lower() and "DDIM" in result.grid.title
    assert read_grid(result.folder) == result.grid
    assert (
        render(base, loras, tmp_path / "a", "cfg: 1,7,9", "steps: 1,2", "size: 64, 64x72", rows=(ink(loras),)).rendered
        == 8
    )
    before = (tmp_path / "a/grid.png").read_bytes()
    assert redraw(tmp_path / "a", title="other").axes and (tmp_path / "a/grid.png").read_bytes() != before


def test_tags_in_prompts_are_adapters(base: Base, loras: Path, tmp_path: Path) -> None:
    prompt = "1girl<lora:ink:0.5:lbw=ALL,M00=0.5>"
    result = render(base, loras, tmp_path / "a", "s/r: ink:0.5, ink:1", "s/r: M00, OUT05", prompts=[prompt])
    assert [axis.labels for axis in result.grid.shown[:2]] == [("base", "ink:0.5", "ink:1"), ("M00", "OUT05")]
    row = GridRow.of_terms(
        [Term(read(loras / "ink.safetensors"), vector=parse_vector("ALL,OUT05=0.5", PRESETS, "sd1"))], "w"
    )
    assert np.array_equal(at(result, 2, 1), row_alone(base, row, tmp_path / "b"))
    text = read_png(result.folder / next(p.file for p in result.grid.pictures if p.at[:2] == (2, 0)))[0]
    assert text.startswith("1girl, <lora:ink:1:lbw=1,1,1,1,1,1,1,0.5,1,")
    assert result.rendered == 5 and np.array_equal(at(result, 0, 0), at(result, 0, 1))


def test_tags_stand_beside_rows(base: Base, loras: Path, tmp_path: Path) -> None:
    result = render(base, loras, tmp_path / "a", "weight: 0.5,1", rows=(ink(loras),), prompts=["1girl<lora:plain:1>"])
    terms = [Term(read(loras / "ink.safetensors"), 0.5), Term(read(loras / "plain.safetensors"))]
    assert np.array_equal(at(result, 1), row_alone(base, GridRow.of_terms(terms, "w"), tmp_path / "b"))
    plain = GridRow.of_file(read(loras / "plain.safetensors"))
    assert np.array_equal(at(result, 0), row_alone(base, plain, tmp_path / "c"))  # what the row is compared with
    with pytest.raises(PromptError, match=r"<lora:nobody:1>.*nobody"):
        render(base, loras, tmp_path / "d", "cfg: 1,2", prompts=["1girl<lora:nobody:1>"])
    with pytest.raises(PromptError, match="the negative prompt names a LoRA"):
        render(base, loras, tmp_path / "d", "negative: a; <lora:ink:1>", rows=(ink(loras),))


def test_tags_stand_beside_several_rows(base: Base, loras: Path, tmp_path: Path) -> None:
    other = GridRow.of_terms([Term(read(loras / "ink.safetensors"), -1.0)], "less")
    result = render(base, loras, tmp_path, "weight: 0.5", rows=(ink(loras), other), prompts=["1girl<lora:plain:1>"])
    assert result.rendered == 3 and np.array_equal(at(result, 0, 0), at(result, 0, 1))
    assert not np.array_equal(at(result, 1, 0), at(result, 1, 1))
    assert result.grid.rows[0].label == "<lora:plain:1>" and len(result.grid.rows) == 3
    assert set(weights_named(result)) == {"ink + <lora:plain:1>", "less + <lora:plain:1>"}


def test_base_models_take_turns(base: Base, loras: Path, tmp_path: Path) -> None:
    other = replace(base, digest="f" * 64, name="other")
    asked: list[str] = []

    def load(name: str) -> Base:
        asked.append(name)
        return {"tiny": base, "other": other}[name]

    result = render(base, loras, tmp_path, "base: tiny, other", rows=(ink(loras),), load=load)
    assert asked == ["tiny", "other"] and result.rendered == 4
    assert [p.model for p in result.grid.pictures if p.at[1] == 1] == [("tiny", base.digest), ("other", "f" * 64)]
    texts = [read_png(result.folder / picture.file)[0] for picture in result.grid.pictures]
    assert sum("Model: other" in text for text in texts) == 2


def test_a_request_loads_one_base_at_a_time(
    folder: Path, loras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []

    def load(name: str, **options: Any) -> Base:
        assert [ref() for ref in held] == [None] * len(held), f"{name} is loaded while another is held"
        loaded = load_base(name, **options)
        held.append(weakref.ref(loaded.unet))
        return loaded

    for name in "abc":
        shutil.copytree(folder, tmp_path / name)
    monkeypatch.setattr("loratools.preview.session.load_any_base", load)
    names = NameLookup(Path, lambda _: None, PRESETS)
    request = GridRequest(
        rows=[RowText.parse(str(loras / "ink.safetensors"))],
        axes=[parse_axis("base: " + "; ".join(str(tmp_path / name) for name in "abc"), "x")],
        weights="1",
        prompts=["1girl"],
        sampling=SamplingRequest(steps=1),
        model=ModelRequest(device="cpu"),
    )
    result = render_request(request, build_arrangement(request, names), names, GridOutput(tmp_path / "out"))
    assert len(held) == 3 and len(result.grid.pictures) == 6


def test_a_weight_axis_gets_the_verdicts_of_a_plain_grid(base: Base, loras: Path, tmp_path: Path) -> None:
    plain = render_grid(base, [ink(loras)], [0.5, 1.0], ["1girl"], **flat(out=tmp_path / "a", steps=1, sampler="DDIM"))
    result = render(base, loras, tmp_path / "b", "seed: 1,2", "weight: 0.5,1", rows=(ink(loras),))
    (row,) = [row for row in result.grid.rows if row.label == "ink"]
    assert row.verdict is not None and plain.grid.rows[0].verdict is not None
    assert row.verdict[1][:9] == plain.grid.rows[0].verdict[1][:9]
    assert Axis("weight", (0.0,)).label(0) == "base"


def weights_named(result: GridResult) -> dict[str, str]:
    """What a verdict is about -> the weight that its text names, as one word."""
    texts = {row.tested: row.verdict[1] for row in result.grid.rows if row.verdict}
    return {
        name: re.sub(r".*?(?:up to(?: a weight of)?|breaks at) ([\d.]+).*", r"\1", text) for name, text in texts.items()
    }


def test_tags_are_judged_by_their_own_weights_and_never_against_themselves(
    base: Base, loras: Path, tmp_path: Path
) -> None:
    apart = render(base, loras, tmp_path / "a", "s/r: ink, plain", "s/r: 0.2>, 0.3>", prompts=["1girl<lora:ink:0.2>"])
    assert set(weights_named(apart)) == {"<lora:ink>", "<lora:plain>"} and set(weights_named(apart).values()) <= {
        "0.2",
        "0.3",
    }
    assert all(row.verdict for row in apart.grid.rows if row.label != "base")
    beside = render(base, loras, tmp_path / "b", "weight: 0.2,0.3", rows=(ink(loras),), prompts=["1girl<lora:plain:1>"])
    assert set(weights_named(beside)) == {"ink + <lora:plain:1>"} and set(weights_named(beside).values()) <= {
        "0.2",
        "0.3",
    }
    several = render(base, loras, tmp_path / "c", "cfg: 1,2", prompts=["1girl<lora:plain:0.2><lora:ink:0.2>"])
    assert weights_named(several) == {}


def test_edits_of_strength_are_told_by_it(base: Base, loras: Path, tmp_path: Path) -> None:
    both = render(base, loras, tmp_path / "a", "te: 0,0.3", "unet: 0,0.3", rows=(ink(loras),))
    assert set(weights_named(both)) == {"ink"} and weights_named(both)["ink"] == "0.3"
    assert {row.label for row in both.grid.rows if not row.verdict} == {"ink te=0 unet=0.3", "ink te=0.3 unet=0"}
    blocks = render(base, loras, tmp_path / "b", "vector: ALL; GP1", "weight of ink: 0.3", rows=(ink(loras),))
    assert set(weights_named(blocks)) == {"ink ALL", "ink GP1"} and set(weights_named(blocks).values()) == {"0.3"}


def older(folder: Path) -> None:
    """``grid.json`` as it was before rows said what they are of, and how strong."""
    record = json.loads((folder / "grid.json").read_text(encoding="utf-8"))
    del record["format"]
    record["rows"] = [{key: row[key] for key in row if key not in ("of", "times")} for row in record["rows"]]
    (folder / "grid.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("axis", "prompt"), [("s/r: 0.2>, 0.3>", "1girl<lora:ink:0.2>"), ("te: 0,0.3", "1girl"), ("weight of ink: 1", "x")]
)
def test_an_older_record_of_parts_at_other_strengths_asks_to_be_rendered_again(
    base: Base, loras: Path, tmp_path: Path, axis: str, prompt: str
) -> None:
    rows = () if "lora" in prompt else (ink(loras),)
    first = render(base, loras, tmp_path, axis, rows=rows, prompts=[prompt])
    older(tmp_path)
    with pytest.raises(FormatError, match="render the grid again, its pictures are used again"):
        redraw(tmp_path)
    again = render(base, loras, tmp_path, axis, rows=rows, prompts=[prompt])
    assert again.rendered == 0 and again.grid == first.grid == redraw(tmp_path)


def test_an_older_record_of_plain_rows_is_judged_as_ever(base: Base, loras: Path, tmp_path: Path) -> None:
    first = render(base, loras, tmp_path, "weight: 0.5,1", "block M00: 0,1", rows=(ink(loras),))
    older(tmp_path)
    assert redraw(tmp_path) == first.grid


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_are_read_as_the_webui_reads_them(base: Base, loras: Path, tmp_path: Path) -> None:
    prompts = ["1girl, hat", "1girl, (hat:1.0)", "1girl, (hat:1.6)", "1girl AND hat", "[1girl|hat]", "red, " * 90]
    got = render(base, loras, tmp_path / "a", "prompt: " + "; ".join(prompts), with_base=False, prompts=["x"])
    same, equal, *others = (at(got, n) for n in range(len(prompts)))
    assert np.array_equal(same, equal)
    assert not any(np.array_equal(same, other) for other in others)


def test_embeddings_are_in_the_picture_its_key_and_its_text(base: Base, loras: Path, tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    folder.mkdir()

    def made(seed: int, prompt: str) -> GridResult:
        torch.save({"x": torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))}, folder / "badink.pt")
        return render(base, loras, tmp_path / "a", "seed: 1", with_base=False, prompts=[prompt], embeddings=folder)

    first = made(1, "1girl, badink")
    shown, (picture,) = at(first, 0), first.grid.pictures
    assert made(1, "1girl, badink").reused == 1
    digest = sha256((folder / "badink.pt").read_bytes()).hexdigest()
    text = read_png(first.folder / picture.file)[0]
    assert parameters(text).hashes("TI hashes") == {"badink": digest[:12]}
    assert picture.embeddings == (("badink", digest),) and read_grid(first.folder).pictures == first.grid.pictures
    assert f"badink: {digest[:12]}" in (first.folder / "grid.html").read_text(encoding="utf-8")
    assert made(2, "1girl, badink").rendered == 1 and not np.array_equal(at(first, 0), shown)
    assert made(2, "1girl").rendered == 1 and made(1, "1girl").reused == 1  # a key has the named ones alone


def test_the_webuis_noise_is_another_picture_of_the_same_seed(base: Base, loras: Path, tmp_path: Path) -> None:
    row = ink(loras)
    own, card = (
        render_grid(base, [row], [1.0], ["1girl"], **flat(out=tmp_path / kind, steps=2, sampler="Euler a", noise=kind))
        for kind in ("own", "webui-gpu")
    )
    assert read_grid(card.folder).settings.noise == "webui-gpu"
    one, two = (result.paths(row.label, 1.0)[0] for result in (own, card))
    assert (parameters(read_png(one)[0]).pairs["RNG"], parameters(read_png(two)[0]).pairs["RNG"]) == ("CPU", "NV")
    with Image.open(one) as left, Image.open(two) as right:
        assert np.abs(np.asarray(left).astype(int) - np.asarray(right)).max() > 1
    with pytest.raises(GridError, match="no noise 'webui'"):
        render_grid(base, [row], [1.0], ["1girl"], **flat(out=tmp_path / "x", noise="webui"))
