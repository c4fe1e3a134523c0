"""Files that commands of the documentation work on, made small: each is asked for by name in a page's remark.

What a page's own commands make is not here. Bases of any name are the pocket base, as a Diffusers folder; runs and
LoRAs are trained on it for one step an epoch.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from loratools.cli import cli
from loratools.pocket import weights_folder
from loratools.pocket.draw import draw, random_figure
from tests.base.compvis import write_single_file
from tests.dataset.onnx_graphs import constant_yolo
from tests.dataset.tagging.graphs import wd_tagger
from tests.loras import TINY_XL, lora_tensors, save
from tests.tiny import save_tiny_base

SCENES: dict[str, Callable[[Path, str], None]] = {}


def scene(function: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
    """Register a maker of files: it gets the page's folder and the name behind the scene's colon."""
    SCENES[function.__name__] = function
    return function


def make(name: str, folder: Path) -> None:
    """Make the scene ``KIND:NAME`` in a page's folder.

    Raises:
        KeyError: if there is no such kind.
    """
    kind, _, rest = name.partition(":")
    SCENES[kind](folder, rest)


def command(*words: str | Path) -> None:
    """Run a command of loratools in the current folder."""
    cli.main([str(word) for word in words], standalone_mode=False)


@scene
def base(folder: Path, name: str) -> None:
    """The pocket base as a Diffusers folder of any name, also one that ends like a file."""
    shutil.copytree(weights_folder(), folder / name, ignore=shutil.ignore_patterns("judge", "*.md"))


@scene
def pictures(folder: Path, name: str) -> None:
    """Two captioned drawings in ``NAME/1_main`` and one in ``NAME/1_face``."""
    recipe = folder / "scene.yaml"
    steps = [f"  {kind}: {{draw: {{style: ink, count: {count}}}, out: {name}/1_{kind}}}" for kind, count in _KINDS]
    recipe.write_text("\n".join(["base: pocket", "seed: 1", "steps:", *steps]) + "\n", encoding="utf-8")
    command("run", recipe, "-o", folder)
    for made in ("scene.yaml", "report.html", "run.json"):
        (folder / made).unlink(missing_ok=True)


_KINDS = (("main", 2), ("face", 1))


@scene
def run(folder: Path, name: str) -> None:
    """A run ``FOLDER/NAME=EPOCHS``, of one step an epoch: eight if no number is given."""
    place, _, epochs = name.partition("=")
    out = folder / place
    if not (folder / "scene-pictures").exists():
        pictures(folder, "scene-pictures")
    images = folder / "scene-pictures/1_face"
    command(
        *("train", "--base", "pocket", "--images", images, "-o", out, "--name", out.name, "--epochs", epochs or "8"),
        *("--dim", "2", "--alpha", "2", "--unet-lr", "1e-3", "--seed", "1", "--repeats", "1"),
    )


@scene
def lora(folder: Path, name: str) -> None:
    """A LoRA of the pocket base, of one epoch, as the file ``NAME``; another name is another seed."""
    work = folder / "scene-loras" / Path(name).stem
    run(folder, f"{work.relative_to(folder).as_posix()}=1")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(work / f"{work.name}-000001.safetensors", folder / name)


@scene
def sdxl(folder: Path, name: str) -> None:
    """A random LoRA of SDXL's module tree."""
    save(folder / name, lora_tensors("sdxl", sizes=TINY_XL, seed=len(name)))


@scene
def config(folder: Path, name: str) -> None:
    """A training's config, ``NAME.yaml``, into ``runs/NAME``; its pictures are ``small/ink``, a scene too."""
    own = Path(name).stem
    lines = ["base: pocket", "images: small/ink", f"out: runs/{own}", f"name: {own}", "epochs: 1", "dim: 2"]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@scene
def recipe(folder: Path, name: str) -> None:
    """A recipe of one training of two steps and a merge, with the variable ``weight``."""
    if not (folder / "scene-pictures").exists():
        pictures(folder, "scene-pictures")
    (folder / name).write_text(_RECIPE, encoding="utf-8")


_RECIPE = """\
base: pocket
seed: 1
vars: {weight: 0.8}
steps:
  style: {train: {images: scene-pictures, epochs: 2, dim: 2}}
  final: {merge: "style@2:${weight}:GP1"}
  half: {merge: "style@1:${weight}"}
"""


@scene
def checkpoint(folder: Path, name: str) -> None:
    """A tiny random single file with the original keys, ``NAME=SEED``: to be merged into and extracted from."""
    place, _, seed = name.partition("=")
    tiny = save_tiny_base(folder / f"scene-tiny-{seed}", seed=int(seed))
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    write_single_file(tiny, folder / place)


@scene
def tagger(folder: Path, name: str) -> None:
    """A tagger of three tags, which looks at the mean colour."""
    wd_tagger(folder / name)


@scene
def detector(folder: Path, name: str) -> None:
    """A YOLO file that finds one head in every picture."""
    constant_yolo(folder / name, [[32.0], [20.0], [16.0], [16.0], [0.9]])


@scene
def downloads(folder: Path, name: str) -> None:
    """Drawings as a downloader leaves them: gallery-dl's JSON, a copy, a banner; and boxes.json by hand."""
    root = folder / name
    root.mkdir()
    for number, framing in enumerate(["cowboy_shot"] * 5 + ["face_focus"] * 2 + ["full_body"] * 2):
        figure = random_figure(random.Random(number), framing=framing)
        draw(figure, number, 128).image.save(root / f"{number}.png")
        tags = {"tags_general": list(figure.tags()), "tags_meta": ["highres"]}
        sidecar = json.dumps({"category": "danbooru", "id": number, **tags})
        if number % 3:  # the others have no tags yet
            (root / f"{number}.png.json").write_text(sidecar, encoding="utf-8")
    Image.open(root / "0.png").resize((96, 96)).save(root / "again.jpg")
    Image.new("RGB", (500, 100)).save(root / "banner.png")
    (folder / "boxes.json").write_text(json.dumps({"8.png": {"head": [[40, 15, 80, 55]]}}), encoding="utf-8")


@scene
def parameters(folder: Path, name: str) -> None:
    """A picture with the WebUI's parameters."""
    said = PngInfo()
    said.add_text(
        "parameters",
        "1girl, smile, <lora:ink:0.8:lbw=GP1>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
        "Seed: 1, Size: 512x512, Model: anything-v5",
    )
    Image.new("RGB", (64, 64)).save(folder / name, pnginfo=said)


@scene
def toml(folder: Path, name: str) -> None:
    """Options of sd-scripts."""
    lines = ['pretrained_model_name_or_path = "model.safetensors"', 'train_data_dir = "images"', 'output_name = "ink"']
    (folder / name).write_text("\n".join([*lines, "network_dim = 16", "max_train_epochs = 4"]) + "\n", encoding="utf-8")
