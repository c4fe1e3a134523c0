"""What the base's own UNet sees of pictures that carry gradients: the same figures as of drawn ones, and slopes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
import numpy as np
import pytest
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.errors import MeasureError
from loratools.measures.build import MeasureContext, build_measures
from loratools.measures.measure import Measure, Shown
from loratools.measures.probe.auc import auc
from loratools.measures.probe.encoded import PictureEncoder, fit, fit_pixels
from loratools.measures.probe.marks import ProbeMeasure, Unfamiliar
from loratools.measures.probe.obedience import Obedience
from loratools.measures.probe.pairs import PairChoice, PairProbe
from loratools.measures.probe.ridge import Probe, Scaling
from loratools.measures.probe.style import MarkedStyle, StyleMeasure
from loratools.measures.probe.unet_features import UNetFeatures
from loratools.measures.request import GRADIENT, Kind, parse_measures
from loratools.measures.smooth import SmoothBatch, SmoothMeasure
from tests.measures.probe.conftest import look, patterns

PICTURES = [look(1, prompt="girl, blue eyes"), look(2, stripes=0.5, prompt=" "), look(3, grain=0.5, prompt="red hat")]
NAMES = ("marks", "unfamiliar", "style", "marked style", "votes", "obedience")


def measures_of(base: Base) -> dict[str, SmoothMeasure]:
    """Each kind, with numbers by chance that no clamp cuts off for most pictures."""
    encode = PictureEncoder(base)
    describe = UNetFeatures(base, encode=encode)
    features = describe(PICTURES)
    rng, width = np.random.default_rng(3), features.shape[1]
    scaling = Scaling(features.mean(0), np.where(np.arange(width) % 50, features.std(0) + 0.1, np.inf))
    known, weights = scaling(features)[:1] + 0.1, rng.normal(0, 1, width) / width
    way = rng.normal(0, 1, width) / width
    probe = Probe(scaling, weights, 0.1, 1.0, np.zeros(3), auc([1, 2], [0, 1]), False)
    return {
        "marks": ProbeMeasure("marks", "lower", describe, probe),
        "unfamiliar": Unfamiliar(describe, scaling, known, 0.05),
        "style": StyleMeasure(describe, scaling, known[0], way, 0.2),
        "marked style": MarkedStyle(describe, probe),
        "votes": PairProbe(describe, scaling, weights, 0.2, 0.5, -5.0),
        "obedience": Obedience(base, encode),
    }


def tensor_of(pictures: list[Shown]) -> Tensor:
    return torch.from_numpy(np.stack([own.pixels for own in pictures])).permute(0, 3, 1, 2).float() / 255


def drawn(images: Tensor) -> SmoothBatch:
    return SmoothBatch(images, [own.prompt for own in PICTURES])


@pytest.fixture
def precise(tiny: Base) -> Iterator[Base]:
    """The tiny base in float64."""
    tiny.unet.double(), tiny.vae.double()
    yield replace(tiny, dtype=torch.float64)
    tiny.unet.float(), tiny.vae.float()


def test_the_figures_are_those_of_drawn_pictures_and_without_rounding_nearly_so(tiny: Base) -> None:
    images = tensor_of(PICTURES)
    unrounded = (images + (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) - 0.5) / 255).clamp(
        0, 1
    )
    for name, measure in measures_of(tiny).items():
        plain = measure(PICTURES)
        assert measure.exact and isinstance(measure, SmoothMeasure)
        same, near = (measure.smooth(drawn(own)).detach().double().numpy() for own in (images, unrounded))
        assert np.isnan(plain).tolist() == [False, name == "obedience", False]
        assert same == pytest.approx(plain, abs=2e-5, nan_ok=True), name
        assert near == pytest.approx(plain, abs=0.01, nan_ok=True), f"{name}: saving in 8 bits changes little"


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_slopes(precise: Base, name: str) -> None:
    measure = measures_of(precise)[name]
    images = tensor_of(PICTURES).double().clamp(0.01, 0.99).requires_grad_(True)
    direction = torch.from_numpy(np.random.default_rng(2).standard_normal(images.shape))
    figures = measure.smooth(drawn(images))
    known = ~figures.isnan()
    (gradient,) = torch.autograd.grad(figures[known].sum(), [images])
    assert gradient.isfinite().all() and (name != "obedience" or not gradient[1].any())
    with torch.no_grad():
        up, down = (measure.smooth(drawn(images + sign * 1e-6 * direction))[known].sum() for sign in (1, -1))
    slope = float((up - down) / 2e-6)
    assert slope != 0 and float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4)
    assert all(not module._forward_hooks for module in precise.unet.modules())


def test_a_picture_that_is_known_has_a_slope_of_nought(tiny: Base) -> None:
    measure = measures_of(tiny)["unfamiliar"]
    assert isinstance(measure, Unfamiliar)
    features = torch.from_numpy(UNetFeatures(tiny)(PICTURES)).requires_grad_(True)
    same = replace(measure, known=measure.scaling(features.detach().numpy()))
    (gradient,) = torch.autograd.grad(same.figures(features).sum(), [features])
    assert not gradient.any(), "the root of nothing has no slope"


def test_pictures_are_resized_as_pillow_does(tiny: Base) -> None:
    for width, height in ((200, 72), (70, 130), (256, 256), (64, 64)):
        rng = np.random.default_rng(width)
        shown = Shown(
            rng.integers(80, 176, (height, width, 3), dtype=np.uint8), "", 0
        )  # Pillow cuts off between its passes
        wanted = tensor_of([Shown(np.asarray(fit(shown.image, tiny)), "", 0)])
        got = fit_pixels(tensor_of([shown]), tiny)
        assert got.shape == wanted.shape and float((got - wanted).abs().max()) < 1.6 / 255


def test_pictures_are_encoded_and_described_once_for_all_measures(tiny: Base) -> None:
    calls: list[int] = []
    forward = tiny.unet.forward

    def counted(*args: object, **words: object) -> object:
        calls.append(1)
        return forward(*args, **words)

    tiny.unet.forward = counted
    try:
        own = drawn(tensor_of(PICTURES))
        for name, measure in measures_of(tiny).items():
            calls.clear() if name == "marks" else None
            measure.smooth(own)
    finally:
        tiny.unet.forward = forward
    assert len(calls) == 1 + 4, "one description, and obedience at two steps with and without the prompt"


@pytest.mark.usefixtures("seeing")
def test_what_has_a_gradient_is_what_the_requests_say(tiny: Base, tmp_path: Path) -> None:
    """:data:`GRADIENT`, which messages, help and ``auto`` go by, is what the measures themselves can do."""
    base, whole = [look(n) for n in range(8)], [look(n, stripes=1.0, grain=0.5) for n in range(8)]
    for folder, grain in (("good", 0.0), ("bad", 0.5)):
        (tmp_path / folder).mkdir()
        for n in range(12):
            look(50 + n + round(100 * grain), 1.0, grain).image.save(tmp_path / folder / f"{n}.png")
    like, unlike = f"like={tmp_path / 'good'}", f"unlike={tmp_path / 'bad'}"
    pairs = [PairChoice((look(n, 1.0, grain=0.9),), (look(n, 1.0),), 0.0, (f"bad{n}", f"good{n}")) for n in range(20)]
    asked: dict[str, tuple[tuple[str, ...], Base, list[PairChoice] | None]] = {
        "marks": ((like, unlike), tiny, None),
        "votes": (("votes",), tiny, pairs),
        "python": (("python=math:fsum",), tiny, None),
        "command": (("command=cat",), tiny, None),
        "judge": (("judge=ink",), replace(tiny, name="pocket"), None),
    }
    assert {"like", "unlike", "marks"} <= GRADIENT, "one measure together"
    for kind, (texts, own, choices) in asked.items():
        context = MeasureContext(own, ("hands",), base, whole, choices=choices)
        built = build_measures(parse_measures(texts), context)
        every: list[Measure] = [*built.targets, *built.kept]
        assert built.targets
        assert all(isinstance(each, SmoothMeasure) for each in every) == (kind in GRADIENT), kind


def test_help_and_docs_name_what_has_a_gradient() -> None:
    from loratools.cli.blocks.tune import tune

    text = next(own.help for own in tune.params if own.name == "method" and isinstance(own, click.Option))
    page = (Path(__file__).parents[3] / "docs/blocks.md").read_text(encoding="utf-8")
    said = page.partition("**What has a gradient**")[2].partition("(`python`, `command`) has none")[0]
    for kind in get_args(Kind):
        assert text is not None and (kind in text.partition("of every number")[0]) == (kind in GRADIENT), kind
        assert (f"`{kind}`" in said) == (kind in GRADIENT), kind


def test_features_without_a_gradient_are_told(tiny: Base) -> None:
    measure = replace(measures_of(tiny)["marks"], describe=patterns)  # type: ignore[type-var]
    with pytest.raises(MeasureError, match="'marks' has no gradient; use `method=pictures`"):
        measure.smooth(drawn(tensor_of(PICTURES)))
