"""Generation parameters with an X/Y/Z plot, as the WebUI, Forge, ComfyUI's nodes and others write them: axes of a grid,
and nothing lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from loratools.errors import FormatError, RecipeError
from loratools.recipe.importers.detect import Imported, import_recipe
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.schema.recipe import Recipe, parse_recipe
from loratools.recipe.steps.pictures.grid_options import Grid
from tests.recipe.conftest import save_lora

LAST = "Steps: 4, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 64x64"
PLOT = "Script: X/Y/Z plot"


def imported(text: str) -> Imported:
    return import_recipe(text, is_text=True)


def recipe(text: str) -> Recipe:
    return parse_recipe(imported(text).text)[0]


def picture(text: str) -> Grid:
    return recipe(text).steps["picture"].options(Grid)


def test_a_plot_over_tags_keeps_them_in_the_prompt() -> None:
    text = (
        f"1girl, <lora:ink-1:1>\nNegative prompt: bad\n{LAST}, Model hash: 7c0b356e0b, Model: some-model, {PLOT}, "
        'X Type: Prompt S/R, X Values: "ink-1:1, ink-2:0.5", Y Type: CFG Scale, Y Values: "4-8 (+2)", '
        'Z Type: Nothing, Lora hashes: "ink-1: 000000000000", TI hashes: "bad: c74b4e810b03", Version: v1.6.0'
    )
    read, grid = recipe(text), picture(text)
    assert list(read.steps) == ["picture"] and read.base == "some-model"
    assert (grid.prompts, grid.negative, grid.rows) == (("1girl, <lora:ink-1:1>",), "bad", ())
    assert (grid.x, grid.y, grid.z) == ("s/r: ink-1:1; ink-2:0.5", "cfg: 4-8 (+2)", None)
    assert (grid.seeds, grid.cfg, grid.embeddings, grid.weights) == ("1", None, "embeddings", None)
    notes = " ".join(imported(text).notes)
    assert "X Type" not in notes and "some-model (hash 7c0b356e0b)" in notes
    assert "put bad into the folder `embeddings`" in notes and "ink-1 000000000000" in notes


def test_a_plot_over_words_leaves_the_merge() -> None:
    values = '"red hair, \\"long, blue hair\\""'
    text = f"red hair, <lora:ink:0.8>\n{LAST}, {PLOT}, X Type: Prompt S/R, X Values: {values}"
    read, grid = recipe(text), picture(text)
    assert list(read.steps) == ["final", "picture"] and grid.rows == ("final",)
    assert grid.x == 's/r: red hair; "long, blue hair"' and grid.prompts == ("red hair",)


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        ('X Type: Seed, X Values: "-1,-1", Fixed X Values: "11, 12"', "seed: 11, 12"),
        ("X Type: Steps, X Values: 20", "steps: 20"),
        ('X Type: Clip skip, X Values: "1,2"', "clip skip: 1,2"),
        ('X Type: Size, X Values: "512x768,768x512"', "size: 512x768; 768x512"),
        ('X Type: Sampler, X Values: "Euler a,DPM++ 2M Karras"', "sampler: Euler a; DPM++ 2M Karras"),
        (
            'X Type: Checkpoint name, X Values: "a/b c.safetensors [7c0b356e0b],d.ckpt"',
            "base: a/b c.safetensors; d.ckpt",
        ),
    ],
)
def test_every_type_that_a_grid_has(axis: str, wanted: str) -> None:
    text = f"1girl\n{LAST}, {PLOT}, {axis}"
    assert picture(text).x == wanted
    assert all("is left out" not in note for note in imported(text).notes)


def test_schedule_types_are_of_the_pictures_sampler() -> None:
    last = LAST.replace("DPM++ 2M Karras", "DPM++ 2M, Schedule type: Karras")
    grid = picture(f'1girl\n{last}, {PLOT}, X Type: Schedule type, X Values: "Karras,Exponential"')
    assert (grid.x, grid.sampler) == ("sampler: DPM++ 2M Karras; DPM++ 2M Exponential", None)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ('X Type: VAE, X Values: "a.pt,b.pt"', "the plot's axis X, 'VAE: a.pt,b.pt', is left out"),
        ("X Type: Hires upscaler, X Values: Latent", "'Hires upscaler: Latent', is left out"),
        ('X Type: Seed, X Values: "-1,-1"', "'Seed: -1,-1', is left out: axis x"),
        ('X Type: Sampler, X Values: "Euler,Turbo"', "the plot's 'Turbo' is left out"),
        ("X Type: Sampler, X Values: Turbo", "'Sampler: Turbo', is left out"),
        (
            "X Type: Sampler, X Values: Euler, Y Type: Schedule type, Y Values: Karras",
            "another axis varies the sampler",
        ),
        ("Script: Prompt matrix", "'Script: Prompt matrix' has no place in a recipe"),
        ("Hires upscale: 2", "'Hires upscale: 2' has no place"),
        ("VAE: kl.pt", "decoded with the VAE kl.pt; name its file at `vae:`"),
    ],
)
def test_what_is_dropped_is_told_by_name(axis: str, words: str) -> None:
    text = f"1girl <lora:a:1>\n{LAST}, {axis}"
    assert words in " ".join(imported(text).notes)
    assert words[:25] in imported(text).text


@pytest.mark.parametrize(
    ("pairs", "base"),
    [
        ("Model: some-model, Model hash: 7c0b356e0b", "some-model"),
        ("Model hash: 7c0b356e0b", "model-7c0b356e0b"),
        ("Version: v1.6.0", "name-the-base-here"),
        ("Model: pocket", "pocket"),
    ],
)
def test_the_base_is_never_silently_the_pocket(here: Path, pairs: str, base: str) -> None:
    text = f"1girl <lora:a:1>\n{LAST}, {pairs}"
    assert recipe(text).base == base
    assert "name that base's file at `base:`" in imported(text).notes[0]
    assert import_recipe(text, base="mine").text.count("base: mine") == 1
    if base == "pocket":
        return
    save_lora(here / "a.safetensors", 1)
    Path("r.yaml").write_text(imported(text).text, encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"base: there is no base model '{base}'.*; give a Diffusers folder"):
        make_planner("r.yaml", Path("work")).plan()


def test_a_merge_string_tells_that_it_names_no_base() -> None:
    assert "`base: pocket` only stands for yours" in import_recipe("a:1,b:-1").notes[-1]
    assert "only stands" not in " ".join(import_recipe("a:1,b:-1", base="x").notes)


def test_the_guides_grid_is_imported_with_its_marking_words_and_runs(here: Path, tiny_base: Path) -> None:
    for epoch in (1, 2):
        save_lora(here / f"ink-{epoch:06d}.safetensors", epoch)
    text = (
        "1girl, <lora:ink-NUM:STRENGTH:lbw=XYZ:stop=9>\nSteps: 1, Sampler: Euler, CFG scale: 3, Seed: 1, Size: 64x64, "
        f'RNG: CPU, {PLOT}, X Type: Prompt S/R, X Values: "NUM,000001,000002", Y Type: Prompt S/R, '
        'Y Values: "STRENGTH,0.5,1", Z Type: Prompt S/R, Z Values: "XYZ,MINE,OUTALL"'
    )
    Path("r.yaml").write_text(import_recipe(text, base=str(tiny_base)).text, encoding="utf-8")
    assert "MINE: ALL" in Path("r.yaml").read_text() and "XYZ: ALL" not in Path("r.yaml").read_text()
    run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    record = json.loads(Path("work/picture/grid.json").read_text(encoding="utf-8"))
    labels = [axis["labels"] for axis in record["axes"][:3]]
    assert labels == [["base", "000001", "000002"], ["0.5", "1"], ["MINE", "OUTALL"]]


ONE_LINE = f"1girl, <lora:a:1> Negative prompt: bad, (worse:1.2) {LAST}, Model: m"


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"1girl,\n(a, b:1.2)\n\nsmile <lora:a:1>\n{LAST}", "1girl, (a, b:1.2) smile", ""),
        (f"1girl <lora:a:1>\nNegative prompt: bad,\nworse\n{LAST}", "1girl", "bad, worse"),
        (f"1girl <lora:a:1>\r\nNegative prompt: bad\r\n{LAST}\r\n", "1girl", "bad"),
        (ONE_LINE, "1girl", "bad, (worse:1.2)"),
        (f"1girl <lora:a:1>\n{LAST}\nTemplate: {{a|b}}", "1girl", ""),
        ("1girl <lora:a:1>", "1girl", ""),
        (f"<lora:a:1>\n{LAST}", "1girl", ""),
    ],
)
def test_prompts_of_many_lines_and_of_one(text: str, prompt: str, negative: str) -> None:
    grid = picture(text)
    assert (grid.prompts, grid.negative) == ((prompt,), negative)


@pytest.mark.parametrize(
    ("last", "sampler", "left_out"),
    [
        # Forge, Flux; a ComfyUI node that saves as the WebUI does; SD.Next; Civitai
        (
            "Steps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, "
            "Size: 64x64, Module 1: ae, Version: f2.0.1v1.10.1",
            "Euler Simple",
            ["Distilled CFG", "Module 1: ae"],
        ),
        (
            "Steps: 4, Sampler: dpmpp_2m_karras, CFG scale: 7.0, Seed: 1, Size: 64x64, Version: ComfyUI",
            "DPM++ 2M Karras",
            [],
        ),
        (
            "Steps: 4, Size: 64x64, Sampler: Euler a, Seed: 1, CFG scale: 7, App: SD.Next, Backend: Diffusers",
            "Euler a",
            ["App: SD.Next", "Backend: Diffusers"],
        ),
        (
            'Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Civitai resources: [{"type":"lora",'
            '"modelName":"A: b, c"}], Civitai metadata: {"a": 1}, Clip skip: 2',
            "Euler",
            ["resources", "metadata"],
        ),
    ],
)
def test_other_programs_parameters(last: str, sampler: str, left_out: list[str]) -> None:
    text = f"1girl <lora:a:1>\n{last}"
    grid = picture(text)
    assert (grid.sampler, grid.steps, grid.seeds, grid.size) == (sampler, 4, "1", "64x64")
    said = [note for note in imported(text).notes if "left out" in note]
    assert len(said) == len(left_out) and all(key in note for key, note in zip(left_out, said, strict=True))
    assert grid.clip_skip == (2 if "Clip skip" in last else None)


TEXT = f"1girl, <lora:a:1>\nNegative prompt: 悪い\n{LAST}, Model: m"


def exif(comment: bytes) -> Image.Exif:
    made = Image.Exif()
    made.get_ifd(0x8769)[0x9286] = comment
    return made


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.jfif"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"ASCII\0\0\0" + TEXT.encode(),
        bytes(8) + TEXT.encode(),
        TEXT.encode(),
    ],
)
def test_pictures_hold_the_text_in_their_exif(here: Path, name: str, comment: bytes) -> None:
    kind = "WEBP" if name.endswith("webp") else "JPEG"
    Image.new("RGB", (8, 8)).save(name, format=kind, exif=exif(comment))
    assert import_recipe(name) == imported(TEXT)


def test_a_pngs_text_may_stand_behind_its_pixels(here: Path) -> None:
    info = PngInfo()
    info.add_itxt("parameters", TEXT)
    Image.new("RGB", (8, 8)).save("a.png", pnginfo=info)
    data = Path("a.png").read_bytes()
    start = data.index(b"iTXt") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    end = data.index(b"IEND") - 4
    Path("b.png").write_bytes(data[:start] + data[start + len(chunk) : end] + chunk + data[end:])
    assert import_recipe("b.png") == import_recipe("a.png") == imported(TEXT)


@pytest.mark.parametrize(
    ("chunk", "text", "words"),
    [
        ("prompt", '{"3": {}}', "the settings of ComfyUI, which are not read"),
        ("invokeai_metadata", "{}", "the settings of InvokeAI"),
        ("parameters", '{"prompt": "1girl"}', "settings in JSON, of Fooocus"),
        ("Software", "paint", "holds no generation parameters"),
    ],
)
def test_pictures_of_other_programs_are_called_that(here: Path, chunk: str, text: str, words: str) -> None:
    info = PngInfo()
    info.add_text(chunk, text)
    Image.new("RGB", (8, 8)).save("a.png", pnginfo=info)
    with pytest.raises(FormatError, match=words):
        import_recipe("a.png")


def test_a_hypernetworks_tag_is_no_part_of_the_prompt() -> None:
    """It would be drawn as words, and a grid refuses it."""
    text = f"ink, <hypernet:old style:0.7>, <lora:a:1>\nNegative prompt: bad\n{LAST}"
    assert picture(text).prompts == ("ink",)
    assert "<hypernet:old style:0.7> is a hypernetwork, which a recipe has no place for" in " ".join(
        imported(text).notes
    )
