"""Pictures that a base draws of itself: how they are asked for, those of its own style, and their folder."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from loratools import files
from loratools.base.base_path import POCKET, base_digest
from loratools.base.model import Base
from loratools.errors import FileError, LoratoolsError
from loratools.progress import tqdm_bar
from loratools.train.config.config import TrainConfig
from loratools.train.distributed import Ranks
from loratools.train.seeds import derived
from loratools.train.step.objective import trained_scheduler
from loratools.validation import mistakes
from loratools.yamlio import read_yaml

if TYPE_CHECKING:
    import numpy as np

PROMPTS = Path(__file__).with_name("basestyle_prompts.yaml")
FRAMINGS = ("face_focus", "cowboy_shot", "full_body")


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
class StylePicture:
    """One picture to make: its file's stem, its prompt (which is its caption too) and its seed."""

    stem: str
    prompt: str
    seed: int


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


def style_pictures(base: str, generation: Generation) -> Iterator[StylePicture]:
    """Every picture of each framing, in order.

    Args:
        base: the base's name: the pocket base is asked for its own tags.
    """
    for framing in FRAMINGS:
        for number, prompt in enumerate(_prompts(base, framing, generation)):
            seed = derived(generation.picture_seed, "basestyle", framing, number) % 2**32
            yield StylePicture(f"{framing}_{number:03d}", prompt, seed)


def _prompts(base: str, framing: str, generation: Generation) -> list[str]:
    """As many prompts as pictures: random tags of the pocket's, or the shipped prompts, repeated as needed."""
    count = generation.images_per_framing
    if base == POCKET:
        from loratools.pocket.draw import random_figure

        rng = random.Random(f"basestyle/{generation.picture_seed}/{framing}")
        return [", ".join(random_figure(rng, framing=framing).tags()) for _ in range(count)]
    listed = read_yaml(PROMPTS).data[framing]
    return [listed[number % len(listed)] for number in range(count)]


@dataclass(frozen=True)
class PictureFolder:
    """A folder of such pictures, each beside its caption; ``key`` identifies what they are made by.

    A caption is written after its picture, so that it says that the picture is complete.

    Attributes:
        owner: what makes them, in messages and in the folder's record.
        stems: what the pictures' names begin with, before a number.
    """

    path: Path
    key: str
    owner: str = "basestyle"
    stems: tuple[str, ...] = FRAMINGS

    @property
    def _marker(self) -> Path:
        return self.path / f"{self.owner}.json"

    @property
    def claimed(self) -> bool:
        """Whether the folder is this key's."""
        return read_record(self._marker).get("key") == self.key

    def claim(self, generation: Generation, *, force: bool) -> None:
        """Make the folder this key's, without our pictures of another key.

        Raises:
            FileError: if it holds files that are not ours, without ``force``.
        """
        known = read_record(self._marker)
        if known.get("key") == self.key:
            return
        if self.path.exists():
            if known.get("owner") != self.owner and any(self.path.iterdir()) and not force:
                raise FileError(
                    f"{self.path} holds files that {self.owner} did not make; choose another folder, or use "
                    "`force=True`"
                )
            for stem in self.stems:
                for path in [*self.path.glob(f"{stem}_*.png"), *self.path.glob(f"{stem}_*.txt")]:
                    path.unlink()
        record = {"owner": self.owner, "key": self.key, "settings": asdict(generation)}
        files.write_text(self._marker, json.dumps(record))

    def missing(self, pictures: Sequence[StylePicture]) -> list[StylePicture]:
        """Those of ``pictures`` that are not complete."""
        return [picture for picture in pictures if not (self.path / f"{picture.stem}.txt").is_file()]

    def save(self, picture: StylePicture, pixels: np.ndarray) -> None:
        """Write one picture, uint8 (height, width, 3), and its caption."""
        from PIL import Image

        with files.replacing(self.path / f"{picture.stem}.png") as path:
            Image.fromarray(pixels).save(path, format="PNG")
        files.write_text(self.path / f"{picture.stem}.txt", picture.prompt + "\n")


def drawn_by(config: TrainConfig) -> list[str]:
    """What determines how a run's base draws, beside what it is asked for: its digest, and what stands in for its own.

    Raises:
        BaseModelError: if the base, or the VAE, is not there.
    """
    from loratools.base.vae_path import find_vae, vae_digest

    own = [base_digest(config.base, offline=config.offline)]
    own += [config.prediction] if config.prediction is not None else []
    return own if config.vae is None else [*own, vae_digest(find_vae(config.vae, offline=config.offline))]


def load_drawer(config: TrainConfig, device: str) -> Base:
    """A run's base to draw with: with the run's own VAE, and predicting what the run says that it predicts."""
    from loratools.base.load import load_base
    from loratools.base.vae import use_vae

    base = load_base(config.base, device=device, dtype=None, offline=config.offline)
    if config.vae is not None:
        use_vae(base, config.vae, offline=config.offline)
    itself = config.model_copy(update={"zero_terminal_snr": False})  # which is how it is trained, not how it draws yet
    base.scheduler_config = trained_scheduler(base.scheduler_config, itself)
    return base


def draw_missing(
    config: TrainConfig,
    folder: PictureFolder,
    pictures: Sequence[StylePicture],
    generation: Generation,
    device: str,
    ranks: Ranks,
    *,
    bar: bool,
) -> None:
    """Make those of ``pictures`` that ``folder`` lacks; the run's base is loaded only if there are any.

    Args:
        ranks: of several processes each makes its share of the batches, which are the same ones that one would make.
        bar: show a progress bar on stderr, if that is a terminal.
    """
    missing, size = folder.missing(pictures), generation.pictures_at_once
    ranks.wait()  # until every process has seen the same ones missing
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    first, last = ranks.rows(len(batches))
    if first == last:
        return
    with tqdm_bar(shown=bar, total=sum(map(len, batches[first:last])), desc="pictures", unit="image") as shown:
        loaded = load_drawer(config, device)
        for batch in batches[first:last]:
            for picture, pixels in zip(batch, draw_batch(loaded, batch, generation), strict=True):
                folder.save(picture, pixels)
            shown.update(len(batch))


def draw_batch(base: Base, pictures: Sequence[StylePicture], generation: Generation) -> np.ndarray:
    """uint8 (b, height, width, 3), with prompts read in the WebUI's syntax and at any length."""
    from loratools.base.generate import PictureRequest, generate

    defaults = base.defaults
    return generate(
        base,
        [
            PictureRequest(
                prompt=picture.prompt,
                negative=generation.negative,
                size=generation.size or base.resolution,
                seed=picture.seed,
                steps=generation.steps or defaults.steps,
                cfg=defaults.cfg if generation.cfg is None else generation.cfg,
                sampler=generation.sampler or defaults.sampler,
            )
            for picture in pictures
        ],
    )


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object of ours; an empty one where there is none, or a file of another program."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
