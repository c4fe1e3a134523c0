"""From the pictures of a run's epochs to figures: what each measure says of every epoch and of the base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from loratools.errors import MeasureError
from loratools.measures.build import MeasureContext, build_measures, unet_base
from loratools.measures.closeness import style_closeness
from loratools.measures.copy_risk import is_copy, usual_nearest
from loratools.measures.features import Features, Pixels
from loratools.measures.measure import Better, Measure, Shown, take
from loratools.measures.request import MeasureRequest
from loratools.tune.epochs.decide import Copies
from loratools.tune.epochs.evaluation_set import CaptionedPicture, EvaluationSet
from loratools.tune.epochs.figures import Figure
from loratools.tune.epochs.pictures import DrawnEpochs

if TYPE_CHECKING:
    from loratools.base.model import LoadedBase

_APART = 1.0  # deviations: nearer, two kinds of pictures overlap
_CLOSENESS, _OBEDIENCE = ("style", "closeness"), ("tags", "obedience", "prompt")


@dataclass(frozen=True)
class Copied:
    """A picture that copies a training picture: its file in the folder of pictures, and that picture's name."""

    file: str
    image: str
    likeness: float


@dataclass(frozen=True, eq=False)
class MeasuredEpochs:
    """All figures of a run's pictures, by what the rule does with them.

    Attributes:
        copied: for each epoch, the pictures that copy training pictures.
        nearest: likeness to the nearest training picture.
        missing: sentences: which figures there are not, and why; and how far the others can be trusted.
    """

    closeness: Figure | None
    obedience: Figure | None
    defects: tuple[Figure, ...]
    diversity: Figure | None
    nearest: Figure | None
    copied: tuple[tuple[Copied, ...], ...]
    missing: tuple[str, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Those that there are, in the order in which they are shown."""
        own = (self.closeness, self.obedience, *self.defects, self.diversity, self.nearest)
        return tuple(figure for figure in own if figure is not None)

    def copies(self) -> tuple[Copies, ...]:
        """How many pictures of each epoch copy, and what they copy most often; empty where that was not measured."""
        if self.nearest is None:
            return ()
        count = self.nearest.values.shape[1]
        return tuple(Copies(len(own), count, _most_often(own)) for own in self.copied)


def measure_epochs(
    base: LoadedBase,
    drawn: DrawnEpochs,
    material: EvaluationSet,
    requests: Sequence[MeasureRequest] | None = None,
    features: Features | None = None,
) -> MeasuredEpochs:
    """Measure the pictures of every epoch and of the base.

    Args:
        requests: what ``--measure`` asks for, beside what needs no model but the base itself; None is the judge on the
            pocket base, and nothing elsewhere.
        features: of a CLIP or DINO, by which copies are looked for; a CLIP also says how well prompts are obeyed where
            no judge does. None looks for copies by pixels.
    Raises:
        MeasureError, DatasetError, FileError: for a measure or pictures that cannot be used.
    """
    return _Measuring(base, drawn, material, features).all(requests)


class _Measuring:
    def __init__(
        self, base: LoadedBase, drawn: DrawnEpochs, material: EvaluationSet, features: Features | None
    ) -> None:
        self.base, self.drawn, self.material, self.features = base, drawn, material, features
        self.missing = list(material.notes)
        self.training, self.held_out = (_shown(own) for own in (material.training, material.held_out))

    def all(self, requests: Sequence[MeasureRequest] | None) -> MeasuredEpochs:
        usual = [MeasureRequest("judge")] if self.base.name == "pocket" else []
        asked = usual if requests is None else requests
        built = self._built(asked)
        by_name = {measure.name: measure for measure in built}
        closeness = next((by_name.pop(name) for name in _CLOSENESS if name in by_name), None) or self._closeness()
        obedience = next((by_name.pop(name) for name in _OBEDIENCE if name in by_name), None) or self._obedience()
        nearest, copied = self._copies()
        return MeasuredEpochs(
            closeness=None if closeness is None else self._figure(closeness),
            obedience=None if obedience is None else self._figure(obedience),
            defects=tuple(self._figure(measure) for measure in by_name.values()),
            diversity=self._diversity(),
            nearest=nearest,
            copied=copied,
            missing=tuple(self.missing),
        )

    def _built(self, requests: Sequence[MeasureRequest]) -> list[Measure]:
        if not requests:
            return []
        taught = self.held_out or self.training or None
        context = MeasureContext(self.base, (), self.drawn.base, self.drawn.epochs[-1], taught, keeps=False)
        built = build_measures(requests, context)
        self.missing += built.notes
        return [*built.targets, *built.kept]

    def _figure(self, measure: Measure) -> Figure:
        """The base and every epoch by one measure, all pictures in one call.

        Raises:
            MeasureError: as :func:`.measure.take`, and for a measure that can tell of no picture of an epoch.
        """
        pictures = [*self.drawn.base, *(picture for own in self.drawn.epochs for picture in own)]
        values = take(measure, pictures).values.reshape(1 + len(self.drawn.epochs), len(self.drawn.base))
        blind = np.flatnonzero(np.isnan(values).all(1))
        if len(blind):
            which = "the base" if not blind[0] else f"epoch {self.drawn.numbers[blind[0] - 1]}"
            raise MeasureError(
                f"the measure '{measure.name}' could tell of no picture of {which} (NaN for each), so epochs cannot be "
                "compared by it; mend it, or leave it out"
            )
        if np.nanmax(values) == np.nanmin(values):
            self.missing.append(
                f"{measure.name}: {np.nanmax(values):g} for every picture of every epoch and of the base, so that it "
                "tells nothing here"
            )
        return Figure(measure.name, measure.better, values[1:], values[0], *self._labels())

    def _labels(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        base = self.drawn.base
        return tuple(own.prompt for own in base), tuple(own.seed for own in base)

    def _closeness(self) -> Measure | None:
        """In what the base's UNet sees: to the held-out pictures, or where there are none to the training pictures."""
        from loratools.measures.probe.unet_features import UNetFeatures

        reference = self.held_out if len(self.held_out) > 1 else self.training
        if not reference:
            self.missing.append("closeness: there is no picture to be close to; give `held_out=DIR`")
            return None
        seeing = unet_base(self.base)
        if seeing is None:
            self.missing.append(f"closeness: {self.base.name} has no UNet that sees it")
            return None
        try:
            measure = style_closeness(UNetFeatures(seeing), self.drawn.base, reference)
        except MeasureError as error:
            self.missing.append(f"closeness: {error}")
            return None
        if reference is self.training:
            self.missing.append(
                "closeness is to pictures that were trained on, which what is learnt by heart is closest to"
            )
        if measure.apart < _APART:
            self.missing.append(
                f"closeness: in what the base sees, its own pictures and the others are only {measure.apart:.1f} "
                "deviations apart, so that it tells little"
            )
        return measure

    def _obedience(self) -> Measure | None:
        """By a CLIP. What the base's own UNet says of prompts falls with the style, and so cannot tell epochs apart."""
        if self.features is None or self.features.texts([""]) is None:
            self.missing.append("obedience: nothing here reads pictures and prompts; give a CLIP by `score_model=DIR`")
            return None
        return PromptCosine(self.features)

    def _diversity(self) -> Figure | None:
        """How much a picture differs from those of the same prompt and other seeds."""
        prompts, seeds = self._labels()
        if len(set(seeds)) < 2:
            self.missing.append("diversity: one seed shows none; give `seeds=1,2` or more")
            return None
        rows = np.stack([_spread(own) for own in (self.drawn.base, *self.drawn.epochs)])
        return Figure("diversity", "higher", rows[1:], rows[0], prompts, seeds)

    def _copies(self) -> tuple[Figure | None, tuple[tuple[Copied, ...], ...]]:
        """Likeness to the nearest training picture, and the pictures that copy one.

        A prompt that is a training picture's own caption may well give that picture: it is not looked for there.
        """
        if not self.training:
            self.missing.append("copy risk: the training pictures are not known; give `training_images=DIR`")
            return None, ()
        features = self.features or Pixels()
        trained = features.images([own.image for own in self.training])
        usual = usual_nearest(trained)
        if usual is None:
            self.missing.append("copy risk: of fewer than three training pictures nobody can say how alike they are")
            return None, ()
        asked = np.array([[own.prompt == picture.prompt for picture in self.drawn.base] for own in self.training])
        rows = [
            np.where(asked, -1.0, (trained @ features.images([own.image for own in row]).T).numpy().astype(np.float64))
            for row in (self.drawn.base, *self.drawn.epochs)
        ]
        near, at = np.stack([own.max(0) for own in rows]), [own.argmax(0) for own in rows]
        copied = tuple(
            tuple(
                Copied(file, self.material.training[at[n][k]].path.name, float(near[n][k]))
                for k, file in enumerate(files)
                if is_copy(float(near[n][k]), float(near[0][k]), usual)
            )
            for n, files in enumerate(self.drawn.files, start=1)
        )
        return Figure("nearest", "lower", near[1:], near[0], *self._labels()), copied


@dataclass(frozen=True)
class PromptCosine:
    """The cosine of a CLIP between a picture and its prompt; low in absolute terms, so that differences count."""

    features: Features
    name: str = "prompt"
    better: Better = "higher"

    def __call__(self, pictures: Sequence[Shown]) -> np.ndarray:
        texts = self.features.texts([own.prompt for own in pictures])
        if texts is None:
            raise MeasureError(f"{self.features.name} reads no prompts; give a CLIP")
        cosines: np.ndarray = (self.features.images([own.image for own in pictures]) * texts).sum(1).double().numpy()
        return cosines


def _spread(pictures: Sequence[Shown]) -> np.ndarray:
    """(n,): the mean difference, of 1, from the other pictures of the same prompt."""
    vectors = Pixels().images([own.image for own in pictures])
    apart = 1 - (vectors @ vectors.T).numpy().astype(np.float64)
    prompts = np.array([own.prompt for own in pictures])
    same = (prompts[:, None] == prompts) & ~np.eye(len(pictures), dtype=bool)
    spread: np.ndarray = (apart * same).sum(1) / same.sum(1)
    return spread


def _most_often(copied: Sequence[Copied]) -> str:
    return Counter(own.image for own in copied).most_common(1)[0][0] if copied else ""


def _shown(pictures: Sequence[CaptionedPicture]) -> tuple[Shown, ...]:
    from loratools.dataset.images import open_image

    return tuple(
        Shown(np.asarray(open_image(own.path).convert("RGB"), dtype=np.uint8), own.prompt, number)
        for number, own in enumerate(pictures)
    )
