"""The base's own style as a LoRA: the base draws face_focus, cowboy_shot and full_body pictures and is trained on them.

Guide 004 subtracts such a LoRA from a style's, which takes away what the style's LoRA learnt of the base itself.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from tqdm import tqdm

from loratools import files
from loratools.adapter.files.metadata import guard_overwrite
from loratools.base.load import base_digest, load_base
from loratools.errors import FileError, LoratoolsError, RecipeError, did_you_mean
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.output.run_folder import RunFolder
from loratools.train.seeds import derived
from loratools.train.trainer import OnEpoch, RunResult, train
from loratools.validation import mistakes
from loratools.yamlio import read_yaml

PROMPTS = Path(__file__).with_name("basestyle_prompts.yaml")
FRAMINGS = ("face_focus", "cowboy_shot", "full_body")
_RECORD_VERSION = 1

Sharing = Callable[[bool], AbstractContextManager[object]]  # told whether the training goes on from an earlier state


def _sampler(name: str) -> str:
    from loratools.base.sampling.samplers import find_sampler

    try:
        find_sampler(name)
    except LoratoolsError as error:
        raise ValueError(str(error)) from error
    return name


@dataclass(frozen=True)
class Generation:
    """How the base's pictures are made; None takes the base's own default. ``size`` is (height, width) in pixels."""

    images_per_framing: Annotated[
        int, Field(ge=1, description="pictures of each of face_focus, cowboy_shot and full_body")
    ] = 8
    picture_seed: Annotated[int, Field(ge=0, lt=2**63, description="of the pictures; `seed` is the training's")] = 1
    steps: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="sampler steps; the base's own if left out")
    ] = None
    cfg: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(description="guidance scale; the base's own if left out"),
    ] = None
    sampler: Annotated[
        Annotated[str, AfterValidator(_sampler)] | None,
        Field(description="a WebUI name such as `DPM++ 2M Karras`; the base's own if left out"),
    ] = None
    size: Annotated[
        tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | None,
        Field(description="[height, width] in pixels, in a recipe 512 or 512x768 too; the base's own if left out"),
    ] = None
    negative: Annotated[str, Field(description="the negative prompt")] = ""
    pictures_at_once: Annotated[int, Field(ge=1, description="pictures of a batch, which changes none of them")] = 8


@dataclass(frozen=True)
class _Picture:
    """One picture to make: its file's stem, prompt (which is its caption too) and seed."""

    stem: str
    prompt: str
    seed: int


def basestyle(
    base: str,
    out: Path,
    *,
    name: str | None = None,
    images_per_framing: int = 8,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    force: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    share: Sharing = lambda resumes: nullcontext(),
) -> RunResult:
    """Generate the base's pictures into ``OUT/images`` and train ``OUT/NAME-000001.safetensors`` ... on them.

    A second call with the same base (by digest) and settings returns the finished run; an unfinished one goes on where
    it stopped; anything else generates or trains anew.

    Args:
        base: whatever :func:`loratools.base.load.load_base` takes.
        out: folder of the run; ``name`` is ``<base>_BASE`` unless given.
        images_per_framing: pictures of each of face_focus, cowboy_shot and full_body.
        epochs: of the training; the preset's if None.
        settings: any other fields of :class:`Generation` and of a training config, in one mapping; the preset is
            style-004, or pocket-style for the pocket base, so that style and base style are trained alike.
        share: entered around the training, in which further processes may take part by :func:`assist`.
    Raises:
        RecipeError: for an unknown setting.
        FileError: if ``out`` holds pictures or files of someone else.
        LoratoolsError: whatever training raises.
    """
    name = name or re.sub(r"[^\w.-]+", "_", Path(base).stem) + "_BASE"
    given = {"images_per_framing": images_per_framing, "epochs": epochs, **(settings or {})}
    generation, config = _prepared(base, out, name, given, device, force)
    folder = RunFolder(Path(out), name)
    images = _images(folder.out)
    pictures = list(_pictures(base, generation))
    picture_key = _key([_RECORD_VERSION, base_digest(base), asdict(generation), [asdict(p) for p in pictures]])
    key = _key([picture_key, {**config.settings(), "base": None, "images": None}])
    record = folder.out / f"{name}.basestyle.json"
    known = _read(record)
    if known.get("key") == key and (finished := _finished(folder, known)) is not None:
        return finished
    _draw(base, images, pictures, picture_key, generation, device=device, force=force, progress=progress)
    files.write_text(record, json.dumps({"owner": folder.owner, "key": key}))
    resumes = known.get("key") == key
    with share(resumes):
        result = train(config.model_copy(update={"resume": resumes}), progress=progress, on_epoch=on_epoch)
    files.write_text(record, json.dumps(_record(folder, key, result), indent=1))
    return result


def assist(
    base: str, out: Path, *, name: str, settings: Mapping[str, Any], device: str = "auto", resumes: bool = False
) -> None:
    """Take part, as a further process, in the training of a :func:`basestyle` whose pictures have been made.

    Raises:
        LoratoolsError: whatever training raises.
    """
    config = _prepared(base, out, name, settings, device, False)[1]
    train(config.model_copy(update={"resume": resumes}), progress=False)


def _prepared(
    base: str, out: Path, name: str, given: Mapping[str, Any], device: str, force: bool
) -> tuple[Generation, TrainConfig]:
    """How the pictures are made, and how the training on them goes."""
    generation, training = _split({key: value for key, value in given.items() if value is not None})
    preset = "pocket-style" if base == "pocket" else "style-004"
    config = make_config(
        {
            "preset": preset,
            **training,
            "base": base,
            "images": str(_images(out)),
            "out": str(out),
            "name": name,
            "device": device,
            "force": force,
        },
        "basestyle",
    )
    return generation, config


def _images(out: Path) -> Path:
    return Path(out) / "images"


def read_generation(values: Mapping[str, Any]) -> tuple[Generation, tuple[str, str] | None]:
    """How pictures are made, and the first mistake among ``values``: (key, what is wrong with it)."""
    for key, value in values.items():
        if isinstance(value, bool):  # which would pass for 1 or 0
            return Generation(), (key, f"{str(value).lower()} cannot be used here")
    try:
        return TypeAdapter(Generation).validate_python(dict(values)), None
    except ValidationError as error:
        first = mistakes(error, values)[0]
        return Generation(), (str(first.place[0]), first.message)


def _split(values: Mapping[str, Any]) -> tuple[Generation, dict[str, Any]]:
    own = {field.name for field in fields(Generation)}
    valid = {*own, *TrainConfig.model_fields} - {"base", "images", "out", "name", "device", "force", "resume"}
    for key in values:
        if key not in valid:
            raise RecipeError(f"basestyle: there is no setting '{key}'{did_you_mean(key, sorted(valid))}")
    generation, mistake = read_generation({key: value for key, value in values.items() if key in own})
    if mistake is not None:
        raise RecipeError(f"basestyle: {mistake[0]}: {mistake[1]}")
    return generation, {key: value for key, value in values.items() if key not in own}


def _pictures(base: str, generation: Generation) -> Iterator[_Picture]:
    for framing in FRAMINGS:
        for number, prompt in enumerate(_prompts(base, framing, generation)):
            seed = derived(generation.picture_seed, "basestyle", framing, number) % 2**32
            yield _Picture(f"{framing}_{number:03d}", prompt, seed)


def _prompts(base: str, framing: str, generation: Generation) -> list[str]:
    """As many prompts as pictures: the pocket's own random tags, or the shipped ones over and over."""
    count = generation.images_per_framing
    if base == "pocket":
        from loratools.pocket.draw import random_figure

        rng = random.Random(f"basestyle/{generation.picture_seed}/{framing}")
        return [", ".join(random_figure(rng, framing=framing).tags()) for _ in range(count)]
    listed = read_yaml(PROMPTS).data[framing]
    return [listed[number % len(listed)] for number in range(count)]


def _draw(
    base: str,
    images: Path,
    pictures: list[_Picture],
    key: str,
    generation: Generation,
    *,
    device: str,
    force: bool,
    progress: bool,
) -> None:
    """Make the pictures that are not there yet, each with its prompt as its caption."""
    marker = images / "basestyle.json"
    if _read(marker).get("key") != key:
        _empty(images, marker, force)
        files.write_text(marker, json.dumps({"owner": "basestyle", "key": key, "settings": asdict(generation)}))
    missing = [p for p in pictures if not (images / f"{p.stem}.txt").is_file()]
    if not missing:
        return
    with tqdm(
        total=len(missing), desc="pictures", unit="image", file=sys.stderr, disable=None if progress else True
    ) as bar:
        loaded = load_base(base, device=device, dtype=None)
        for start in range(0, len(missing), generation.pictures_at_once):
            part = missing[start : start + generation.pictures_at_once]
            for picture, image in zip(part, _sampled(loaded, part, generation), strict=True):
                with files.replacing(images / f"{picture.stem}.png") as path:
                    image.save(path, format="PNG")
                files.write_text(images / f"{picture.stem}.txt", picture.prompt + "\n")  # last: it says "complete"
            bar.update(len(part))


def _sampled(base: Any, pictures: list[_Picture], generation: Generation) -> list[Any]:
    import torch
    from PIL import Image

    from loratools.base.prompt.conditioning import condition
    from loratools.base.sampling.sample import check_size, noise, sample

    size = generation.size or base.resolution
    check_size(base, size)
    defaults = base.defaults
    arrays = sample(
        base,
        condition(base, [picture.prompt for picture in pictures]),
        condition(base, [generation.negative] * len(pictures)),
        torch.cat([noise(picture.seed, size) for picture in pictures]),
        generation.steps or defaults.steps,
        defaults.cfg if generation.cfg is None else generation.cfg,
        generation.sampler or defaults.sampler,
        seeds=[picture.seed for picture in pictures],
    )
    return [Image.fromarray(array) for array in arrays]


def _empty(images: Path, marker: Path, force: bool) -> None:
    """Take our earlier pictures away; refuse where the folder holds someone else's."""
    if not images.exists():
        return
    if _read(marker).get("owner") != "basestyle" and any(images.iterdir()) and not force:
        raise FileError(f"{images} holds files that basestyle did not make; choose another --out, or --force")
    for framing in FRAMINGS:
        for path in [*images.glob(f"{framing}_*.png"), *images.glob(f"{framing}_*.txt")]:
            path.unlink()


def _finished(folder: RunFolder, known: Mapping[str, Any]) -> RunResult | None:
    """The recorded run, if every file of it is still what it was."""
    from loratools.adapter.files.file import read

    paths = [folder.out / name for name in known.get("files", {})]
    if not paths or not all(path.is_file() for path in paths):
        return None
    for path in paths:
        guard_overwrite(path, folder.owner, False)
        if read(path).digest != known["files"][path.name]:
            return None
    return RunResult(
        folder.name, paths, folder.log, folder.state, list(known["losses"]), int(known["steps"]), 0.0, None, True
    )


def _record(folder: RunFolder, key: str, result: RunResult) -> dict[str, Any]:
    from loratools.adapter.files.file import read

    digests = {path.name: read(path).digest for path in result.epochs}
    return {"owner": folder.owner, "key": key, "files": digests, "losses": result.losses, "steps": result.steps}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no record, or one of another program: nothing is known about what lies there
    return found if isinstance(found, dict) else {}


def _key(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
