"""What each kind of job runs on the command line."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from loratools.recipe.schema.recipe import read_recipe
from loratools.studio.api.jobs import EpochsJob, GridJob, RecipeJob, ResumeJob, TrainJob
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.discover.snapshot import FoundRun
from loratools.studio.handlers.recipes import find_recipe
from loratools.studio.handlers.runs import find_run
from loratools.studio.jobs.commands import HERE, Command, step_text
from loratools.studio.stacks import base_of
from loratools.train.output.run_folder import RunFolder

_LIGHT_STEPS = ("merge", "resize", "convert", "subtract", "soup", "extract", "fix", "select")
_SETTING = re.compile(r"[a-z][a-z0-9_]*")
_OWN = ("base", "images", "out", "name", "device", "resume", "force")  # settings that the request says itself
_WORDS = (  # settings whose text names no file
    "preset",
    "optimizer",
    "lr_scheduler",
    "lr_warmup",
    "resolution",
    "mixed_precision",
    "dtype",
    "network_type",
    "prediction",
    "loss_type",
    "comment",
    "caption_prefix",
    "caption_suffix",
    "caption_separator",
    "block_dims",
    "block_alphas",
    "block_lr",
    "sample_sampler",
)
_STEP = re.compile(r"[^\w-]+")


def train(studio: Studio, body: TrainJob) -> Command:
    """``loratools train``; the settings are checked now.

    Raises:
        LoratoolsError: for settings that cannot train, or pictures that cannot be read.
    """
    images, root = studio.roots.path(body.images), studio.roots.root(body.root)
    out = studio.roots.new_folder(body.root, body.name)
    name = out.name
    for key in body.more:
        value = body.more[key]
        word = isinstance(value, str)
        if word and key not in _WORDS and _is_number(key):
            raise problem("setting.number", setting=key, text=str(value))
        if not _SETTING.fullmatch(key) or key in _OWN or (word and (key not in _WORDS or _is_class(key, str(value)))):
            raise problem("setting.unknown", setting=key)
    base = base_of(body.base, studio.roots)
    settings: dict[str, Any] = {"base": base, "images": [str(images)], "out": str(out), "name": name}
    _check_settings({**settings, **body.more})
    if RunFolder(out, name).log.exists():
        raise problem("run.exists", status=409, name=name)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise problem("folder.taken", status=409, name=name)
    argv = ["train", "--base", base, "--images", str(images), "-o", str(out), "--name", name, *device(studio)]
    for key, value in body.more.items():
        argv += ["--set", f"{key}={_yaml(value)}"]
    step = step_text(_word(name), "train", {"images": studio.roots.shown(images), **body.more})
    return _training(RunFolder(out, name), f"train {name}", argv, root.path, step)


def resume(studio: Studio, body: ResumeJob) -> Command:
    """``loratools train --resume`` with the settings that the run's log holds, frozen as a file.

    Raises:
        StudioError: for a run that is going on, or of another trainer.
    """
    found = find_run(studio, body.run)
    if found.log is None or not found.log.settings:
        raise problem("run.nolog", name=found.place.name)
    if found.running:
        raise problem("run.running", status=409, name=found.place.name)
    settings = {key: value for key, value in found.log.settings.items() if value is not None}
    cwd = _where(studio, found, settings)
    content = _dump({**settings, "out": str(found.place.parent), "name": found.place.name})
    argv = ["train", f"{HERE}/settings.yaml", "--resume", *device(studio)]
    if body.epochs is not None:
        argv += ["--epochs", str(body.epochs)]
    folder = RunFolder(found.place.parent, found.place.name)
    return _training(folder, f"go on with {found.place.name}", argv, cwd, "", {"settings.yaml": content.encode()})


def grid(studio: Studio, body: GridJob) -> Command:
    """``loratools grid``."""
    root = studio.roots.root(body.root)
    out = studio.roots.new_folder(body.root, body.name)
    rows = [str(_row(studio, own)) for own in body.rows]
    argv = ["grid", *rows, "--base", base_of(body.base, studio.roots), "--weights", body.weights]
    for prompt in body.prompts:
        argv += ["--prompt", plain_prompt(prompt, root.path)]
    argv += ["--negative", body.negative] if body.negative else []
    argv += ["--seed", ",".join(map(str, body.seeds))] if body.seeds else []
    argv += ["--steps", str(body.steps)] if body.steps is not None else []
    argv += ["--cfg", f"{body.cfg:g}"] if body.cfg is not None else []
    argv += ["-o", str(out), *device(studio)]
    options = {"rows": [studio.roots.shown(Path(row)) for row in rows], "weights": body.weights}
    step = step_text(_word(out.name), "grid", {**options, "prompts": body.prompts, "seeds": list(body.seeds)})
    return Command("grid", f"grid {out.name}", tuple(argv), root.path, True, step, results=(out,))


def epochs(studio: Studio, body: EpochsJob) -> Command:
    """``loratools epochs RUN --base B``: draws and measures the epochs, and writes the verdict."""
    found = find_run(studio, body.run)
    argv = ["epochs", str(found.place), "--base", base_of(body.base, studio.roots)]
    files: dict[str, bytes] = {}
    if body.prompts:
        files["prompts.txt"] = ("\n".join(" ".join(own.split()) for own in body.prompts) + "\n").encode()
        argv += ["--prompts", f"{HERE}/prompts.txt"]
    argv += ["--seeds", ",".join(map(str, body.seeds))] if body.seeds else []
    argv += device(studio)
    title = f"judge the epochs of {found.place.name}"
    verdict = found.place.with_name(f"{found.place.name}.verdict.json")
    cwd = _root(studio, found.place)
    return Command("epochs", title, tuple(argv), cwd, True, results=(verdict,), run=found.place, files=files)


def recipe(studio: Studio, body: RecipeJob) -> Command:
    """``loratools run``, of the recipe as it is now.

    Raises:
        RecipeError: for a recipe that cannot be read, or has no such step.
    """
    path = find_recipe(studio, body.recipe)
    read, _ = read_recipe(path)
    if body.only is not None and body.only not in read.steps:
        raise problem("recipe.step", name=path.name, step=body.only, steps=", ".join(read.steps))
    root = _root(studio, path)
    out = root / "runs" / path.stem
    argv = ["run", str(path), *(["--only", body.only] if body.only else []), "-o", str(out), *device(studio)]
    heavy = any(step.kind not in _LIGHT_STEPS for step in read.steps.values())
    title = f"run {path.stem}" + (f", {body.only}" if body.only else "")
    return Command("recipe", title, tuple(argv), root, heavy, results=(out,), recipe=path)


def device(studio: Studio) -> list[str]:
    """``--device``, where another one than the command's own choice is asked for."""
    return [] if studio.options.device == "auto" else ["--device", studio.options.device]


def _training(
    folder: RunFolder, title: str, argv: list[str], cwd: Path, step: str, files: dict[str, bytes] | None = None
) -> Command:
    return Command(
        "train",
        title,
        tuple(argv),
        cwd,
        True,
        step,
        go_on=("--resume",),
        results=(),
        run=folder.out / folder.name,
        stop_file=folder.stop,
        files=files or {},
    )


def _row(studio: Studio, own: str) -> Path:
    """A row of a grid: a run, whose epochs are its rows, or a file."""
    for found in studio.index.now.runs:
        if studio.roots.id_of(found.place, "run") == own:
            return found.place
    return studio.roots.path(own)


def _where(studio: Studio, found: FoundRun, settings: dict[str, Any]) -> Path:
    """The folder from which the run's pictures are found, as its settings name them.

    Raises:
        StudioError: if they are nowhere.
    """
    folders = [str(own.get("folder", "")) for own in settings.get("images") or [] if isinstance(own, dict)]
    root = _root(studio, found.place)
    candidates = [root, *(own for own in found.place.parents if own.is_relative_to(root)), Path.cwd()]
    for candidate in candidates:
        if all((candidate / folder).is_dir() for folder in folders):
            return candidate
    raise problem("run.pictures", name=found.place.name, folders=", ".join(folders))


def _root(studio: Studio, path: Path) -> Path:
    root = studio.roots.root_of(path)
    return root.path if root is not None else path.parent


def _is_class(key: str, value: str) -> bool:
    """Whether it names a class by its module, which would be imported."""
    return key == "optimizer" and "." in value


def _is_number(key: str) -> bool:
    """Whether a setting is a number."""
    from loratools.train.config.config import TrainConfig

    known = TrainConfig.model_fields.get(key)
    return known is not None and re.search(r"\b(?:int|float)\b", str(known.annotation)) is not None


def _check_settings(settings: dict[str, Any]) -> None:
    from loratools.train.config.read import read_config

    read_config(None, settings, must_exist=True)


def plain_prompt(text: str, cwd: Path) -> str:
    """A prompt in one line that is no name of a file, which the command would read.

    Args:
        cwd: the folder that the command runs in.

    Raises:
        StudioError: for a file's name.
    """
    prompt = " ".join(text.split())
    with contextlib.suppress(OSError, ValueError):  # longer than a name may be, or with a zero byte
        if prompt.lower().endswith(".txt") or (cwd / Path(prompt).expanduser()).exists():
            raise problem("prompt.file")
    return prompt


def _yaml(value: Any) -> str:
    text = _dump(value).strip()
    return text.removesuffix("\n...").strip()


def _dump(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000_000, default_flow_style=None)


def _word(name: str) -> str:
    """A name of a step."""
    return _STEP.sub("_", name).strip("_-") or "step"
