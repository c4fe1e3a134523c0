"""What measures without a judge are worth, against the judge: ``python -m benchmarks.measures DATA -o measures.md``.

DATA holds what ``benchmarks.measure_data`` made. Nothing is drawn here, and a minute of one core is enough. Marks are
simulated by the judge: twenty pictures with the defect and twenty without it, of the prompts of a search; everything is
judged on other prompts and seeds. The last table lets the judge choose between two vectors; see
:mod:`benchmarks.measuring.voting`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measuring.measured_loras import (
    ALL,
    BROKEN,
    IN_STYLE,
    MARKS,
    NEAR,
    OUT_OF_STYLE,
    SHOTS,
    SOUND,
    UP,
    Lora,
    by_vector,
    rank_correlation,
    table,
    within_shots,
)
from benchmarks.measuring.pairs import pairs_report
from benchmarks.measuring.voting import votes_report
from loratools.files import write_text
from loratools.measures.probe.auc import auc
from loratools.measures.probe.marks import ProbeMeasure, Unfamiliar, usual_distance
from loratools.measures.probe.ridge import Probe, Scaling, fit_probe
from loratools.measures.probe.style import StyleMeasure, style_in

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
SEEDS = 8  # how often marks are chosen
SETS = {"middle and up, step 200": UP, "all blocks, step 200": ALL, "first and last blocks, step 60": NEAR}


def main() -> None:
    """Read what is stored, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    loras = [Lora(file.stem, dict(np.load(file))) for file in sorted(args.data.glob("*.npz"))]
    if not loras:
        parser.error(f"{args.data} holds nothing that benchmarks.measure_data made")
    parts = [_head(loras), _marks(loras), _guard(loras), _styles(loras), _obedience(loras), _distance(loras)]
    parts.append(pairs_report(loras))
    parts.append(votes_report([(lora.name, lora.stored) for lora in loras]))
    write_text(args.out, "\n\n".join(part.strip() for part in parts) + "\n")


def _head(loras: Sequence[Lora]) -> str:
    names = ", ".join(lora.name for lora in loras)
    return f"""# What measures are worth

`python -m benchmarks.measure_data {" ".join(lora.name for lora in loras)} --work WORK --out DATA --jobs 5`
draws, on a GPU, {len(loras)} LoRAs that are overfit to one defect ({names})
under 42 random vectors, and stores the pictures with the judge's readings and what the base's UNet sees in them;
`python -m benchmarks.measures DATA -o benchmarks/results/measures.md` makes this page of it in a few minutes on one
core. Everything is measured on four prompts and two seeds that nothing was learnt from. AUCs
compare pictures of one prompt and seed, which is what a search
does: the chance that the right one of two is higher. "r over vectors" is the rank correlation of the means over a
vector's eight pictures with the judge's. Each figure is the mean over {SEEDS} choices of marks where marks are chosen.
These vectors are random, so that style and defect fall together (r = 0.8 to 0.95 here): figures within the style tell
whether a measure sees one and not the other."""


def _marked_probe(lora: Lora, names: Sequence[str], seed: int, in_style: bool, known: bool) -> list[float] | None:
    """What a probe is worth: AUC of left-out marks, of test pictures, of these within the style, r over vectors."""
    chosen = lora.marks(seed, in_style)
    if chosen is None:
        return None
    places, bad = chosen
    searched, tested = lora.features("search", names), lora.features("test", names)
    prompts = [str(own) for own in np.asarray(lora.stored["search.prompts"])[places]]
    probe = fit_probe(searched[places], bad, groups=prompts, known=searched[:SHOTS] if known else None)
    figures = ProbeMeasure("marks", "lower", lambda _: tested, probe)(())
    grade, style = lora.truth("test", "defect"), lora.truth("test", "style")
    own, kept = np.arange(len(grade)) >= SHOTS, style > IN_STYLE
    broken, sound = own & (grade > BROKEN), own & (grade < SOUND)
    r = rank_correlation(by_vector(figures), by_vector(grade))
    inside = within_shots(broken & kept, sound & kept, figures)
    return [probe.auc.value, within_shots(broken, sound, figures), inside, r]


def _marks(loras: Sequence[Lora]) -> str:
    rows: list[list[str | float]] = []
    for title, names in SETS.items():
        for known in (False, True):
            cells: list[float] = []
            for in_style in (False, True):
                each = [
                    np.mean(own, axis=0)
                    for lora in loras
                    if (own := [r for s in range(SEEDS) if (r := _marked_probe(lora, names, s, in_style, known))])
                ]
                cells += np.nanmean(each, axis=0).tolist()
            rows.append([title, "yes" if known else "no", *cells])
    columns = ("left out", "AUC", "AUC in style", "r over vectors")
    heads = ["features", "base known", *columns, *(f"{own}, good in style" for own in columns)]
    single: list[list[str | float]] = []
    for lora in loras:
        for in_style in (False, True):
            own = [r for s in range(SEEDS) if (r := _marked_probe(lora, ALL, s, in_style, True))]
            if own:
                lows = float(np.min([one[1] for one in own]))
                single.append([lora.name, "in style" if in_style else "any", *np.mean(own, axis=0), lows])
    return f"""## Marks (`like=`, `unlike=`, `marks=`)

{MARKS} good and {MARKS} bad pictures, a ridge probe. "Base known": the base's own pictures of the search's prompts
count as good ones. "Left out" is the AUC that is told to the user, of marks that the probe had not learnt from (whole
prompts where three have both kinds, else tenths). The last four columns are of good marks that all show the style.

{table(heads, rows)}

Chosen: all blocks at step 200 with the base's pictures. Marks whose good pictures all show the style are the harder
ones, and only the base's pictures make them safe. What is told to the user is 0.01 to 0.2 above what holds on new
prompts; it is furthest off for hands with good marks in style, whose prompts have one kind each (told with a note).
By LoRA ("lowest" is the worst of {SEEDS} choices of marks):

{table(["LoRA", "good marks", *columns, "lowest AUC"], single)}"""


def _strangeness(probe: Probe, known: Values, usual: float, features: Values) -> Values:
    """(n,) of pictures with these features."""
    return Unfamiliar(lambda _: features, probe.scaling, known, usual)(())


def _guard(loras: Sequence[Lora]) -> str:
    rows: list[list[str | float]] = []
    for lora in loras:
        chosen = lora.marks(0, False)
        if chosen is None:
            continue
        places, bad = chosen
        searched = lora.features("search")
        probe = fit_probe(searched[places], bad, known=searched[:SHOTS])
        known = probe.scaling(np.concatenate([searched[places], searched[:SHOTS]]))
        prompts = np.asarray(lora.stored["search.prompts"])
        usual = usual_distance(known, [str(own) for own in (*prompts[places], *prompts[:SHOTS])])

        here = _strangeness(probe, known, usual, lora.features("test"))
        others = [
            float(_strangeness(probe, known, usual, other.features("test")[SHOTS : 2 * SHOTS]).mean())
            for other in loras
            if other is not lora
        ]
        rows.append([lora.name, float(by_vector(here).max()), *others, float(np.mean(others))])
    heads = ["LoRA", "own vectors, highest", *(f"other {n + 1}" for n in range(len(loras) - 1)), "mean of others"]
    return f"""## The guard against fooling (`unfamiliar`)

How much further than usual a picture is from all that was marked: vectors of the LoRA itself, on new prompts, against
the whole of each other LoRA here (other styles, other defects), of which the probe knows nothing.

{table(heads, rows)}

Own vectors stay below 0.1, so that the guard does not stand in a search's way; another look is told where it is far in
these features, and not always (to the marks of neon, ink is no stranger). What bounds fooling first is that figures end
at -1, as good as the pictures marked good, so that a search gains nothing by going further."""


def _style_of(lora: Lora, seed: int, in_style: bool | None, names: Sequence[str] = ALL) -> StyleMeasure | None:
    """The product's measure; ``in_style`` None is without marks."""
    searched = lora.features("search", names)
    good = searched[:0]
    if in_style is not None:
        chosen = lora.marks(seed, in_style)
        if chosen is None:
            return None
        places, bad = chosen
        good = searched[places[~bad]]
    taught = lora.features("training", names)
    seen = style_in(taught, searched[:SHOTS], searched[SHOTS : 2 * SHOTS], good, lambda _: searched).measure
    return seen if isinstance(seen, StyleMeasure) else None


def _style_figures(lora: Lora, figures: Values) -> list[float]:
    """AUC; mean shares of the whole's rise: in style and sound, in style and broken, lost; r over vectors."""
    style, grade = lora.truth("test", "style"), lora.truth("test", "defect")
    own = np.arange(len(style)) >= SHOTS
    base, whole = figures[:SHOTS].mean(), figures[SHOTS : 2 * SHOTS].mean()
    share = (figures - base) / (whole - base)
    kept, lost = own & (style > IN_STYLE), own & (style < OUT_OF_STYLE)
    groups = (kept & (grade < SOUND), kept & (grade > BROKEN), lost)
    r = float("nan") if lora.style_known else rank_correlation(by_vector(figures), by_vector(style))
    means = [float(share[each].mean()) if each.sum() > 2 else float("nan") for each in groups]
    return [within_shots(kept, lost, figures), *means, r]


def _ways(lora: Lora) -> dict[str, Values]:
    """Figures (n,) of test pictures by what was tried for style, higher for more of it."""
    searched, tested, taught = lora.features("search"), lora.features("test"), lora.features("training")
    base, whole = searched[:SHOTS], searched[SHOTS : 2 * SHOTS]
    scaling = Scaling.of(np.concatenate([base, taught, whole]))
    z, own, before = scaling(tested), scaling(taught).mean(0), scaling(base)
    probe = fit_probe(np.concatenate([taught, base]), np.arange(len(taught) + len(base)) < len(taught), scaling)
    ways = {
        "closeness to the training pictures' mean": -((z - own) ** 2).mean(1),
        "ridge probe, training pictures against the base's": probe(tested),
        "the way from the base to the training pictures": (z - before.mean(0)) @ (own - before.mean(0)),
    }
    chosen = lora.marks(0, False)
    if chosen is not None:
        places, bad = chosen
        marks = fit_probe(searched[places], bad, scaling)
        inner = marks.weights / np.linalg.norm(marks.weights)
        left = probe.weights - inner * float(inner @ probe.weights)
        ways["the ridge probe without the direction of the marks' probe"] = z @ left
        slope = np.polyfit(marks.left_out, probe(searched[places]), 1)[0]
        ways["the ridge probe less what the marks' probe predicts"] = probe(tested) - slope * marks(tested)
        good = searched[places[~bad]]
        first = np.arange(len(good) + len(base)) < len(good)
        ways["ridge probe, pictures marked good against the base's"] = fit_probe(
            np.concatenate([good, base]), first, scaling
        )(tested)
    everything = np.concatenate([base, lora.features("captioned")])
    wide = Scaling.of(np.concatenate([everything, taught]))
    ways["the way, with the base's pictures of the captions too"] = (wide(tested) - wide(everything).mean(0)) @ (
        wide(taught).mean(0) - wide(everything).mean(0)
    )
    return ways


def _styles(loras: Sequence[Lora]) -> str:
    tried: dict[str, list[list[float]]] = {}
    for lora in loras:
        ways = _ways(lora)
        for marks, in_style in (("", None), (", good marks", False), (", good marks in style", True)):
            measure = _style_of(lora, 0, in_style)
            if measure is not None:
                ways[f"**the share of the way{marks}**"] = measure.of(lora.features("test"))
        for way, figures in ways.items():
            tried.setdefault(way, []).append([*_style_figures(lora, figures), float(lora.style_known)])
    rows: list[list[str | float]] = []
    for way, rated in tried.items():
        new = np.nanmean([own[:-1] for own in rated if not own[-1]], axis=0)
        known = [own[1] for own in rated if own[-1]]
        rows.append([way, *new, float(np.mean(known)) if known else float("nan")])
    heads = ["measure", "AUC", "in style, sound", "in style, broken", "lost", "r over vectors", "pastel, sound"]
    return f"""## Style

Over the LoRAs whose style the base does not know. "AUC": pictures in the style (judge above {IN_STYLE}) against others
(below {OUT_OF_STYLE}). The next three are shares of the whole LoRA's rise over the base: what is sound and in style
should have all of it, as what is broken and in style, and what has lost the style none; `--keep 0.95` asks for 0.95 in
the mean. "pastel" is a style that the base knows, where all of the rise is the defect's: there sound pictures should
have all of it too, or no style is measured at all (-).

{table(heads, rows)}

Chosen: the share of the way, by which pictures in style and sound have nearly all that the whole LoRA has, so that a
repair is not taken for a loss of style. What is regressed out takes style along, since a LoRA learns both together."""


def _obedience(loras: Sequence[Lora]) -> str:
    def share(lora: Lora, part: str, other: str, times: slice) -> Values:
        own, without = lora.losses(part, "own")[:, times], lora.losses(part, other)[:, times]
        gains: Values = (1 - own / without).mean(1)
        return gains

    ways: dict[str, Callable[[Lora, str], Values]] = {
        "own prompt against none, four steps": lambda lora, part: share(lora, part, "none", slice(None)),
        "**own prompt against none, steps 650 and 850**": lambda lora, part: share(lora, part, "none", slice(2, None)),
        "own prompt against none, step 850": lambda lora, part: share(lora, part, "none", slice(3, None)),
        "own prompt against none, step 250": lambda lora, part: share(lora, part, "none", slice(1)),
        "own prompt against another picture's, four steps": lambda lora, part: share(lora, part, "other", slice(None)),
        "loss with the own prompt alone": lambda lora, part: -lora.losses(part, "own").mean(1),
    }
    rows: list[list[str | float]] = []
    for way, figure in ways.items():
        each = []
        for lora in loras:
            both = [_obeyed(lora, part, figure(lora, part)) for part in ("search", "test")]
            figures, tags, style, clean, torn = (np.concatenate(own) for own in zip(*both, strict=True))
            told = auc(figures[clean.astype(bool)], figures[torn.astype(bool)])
            each.append([told.value, float(np.corrcoef(figures, tags)[0, 1]), _partial(figures, tags, style)])
        rows.append([way, *np.mean(each, axis=0), float(np.min(each, axis=0)[0])])
    return f"""## Obedience

What the picture's own prompt does to the base's denoising loss, against the judge's share of tags obeyed; differences
from the mean of the same prompt and seed. AUC: pictures that obey more than 0.95 against less than 0.85.

{table(["measure", "AUC", "r", "r beside style", "lowest AUC"], rows)}

Chosen: two far steps, four UNet passes a picture. It is a weak measure, and half of what it sees is distance from the
base's look: good enough to hold vectors of one LoRA to what they obeyed before, not to compare LoRAs or epochs."""


def _obeyed(lora: Lora, part: str, figures: Values) -> tuple[Values, Values, Values, Flags, Flags]:
    """Figures, tags and style less the mean of their shot, and who obeys and who does not; without the base."""
    tags, style = lora.truth(part, "tags"), lora.truth(part, "style")
    own = slice(SHOTS, None)
    return _centred(figures)[own], _centred(tags)[own], _centred(style)[own], tags[own] > 0.95, tags[own] < 0.85


def _centred(values: Values) -> Values:
    rows = values.reshape(-1, SHOTS)
    centred: Values = (rows - rows.mean(0)).ravel()
    return centred


def _partial(one: Values, two: Values, given: Values) -> float:
    """Pearson's correlation of what ``given`` does not predict."""
    design = np.column_stack([np.ones(len(given)), given])
    left = [own - design @ np.linalg.lstsq(design, own, rcond=None)[0] for own in (one, two)]
    return float(np.corrcoef(*left)[0, 1])


def _distance(loras: Sequence[Lora]) -> str:
    rows: list[list[str | float]] = []
    for lora in loras:
        tested = lora.features("test")
        shots = np.arange(len(tested)) % SHOTS
        z = Scaling.of(tested[:SHOTS])
        away = np.sqrt(((z(tested) - z(tested)[shots]) ** 2).clip(0, 100).mean(1))
        size = np.linalg.norm(np.asarray(lora.stored["test.vectors"], dtype=np.float64), axis=1)[1:]
        truths = [by_vector(lora.truth("test", what)) for what in ("style", "defect", "tags")]
        spread = np.array([_spread(own) for own in z(tested).clip(-10, 10).reshape(-1, SHOTS, tested.shape[1])])
        known = [float("nan") if lora.style_known else rank_correlation(by_vector(away), truths[0])]
        known += [rank_correlation(by_vector(away), own) for own in (size, *truths[1:])]
        rows.append([lora.name, *known, float(spread[1] / spread[0]), rank_correlation(spread[1:], size)])
    heads = [
        "LoRA",
        "distance: r with style",
        "strength",
        "defect",
        "tags",
        "diversity: whole / base",
        "r with strength",
    ]
    return f"""## Distance from the base, and diversity

The distance of a picture from the base's own of the same prompt and seed, and how much the two seeds of a prompt
differ, in the same features, over vectors.

{table(heads, rows)}

Distance says how strong a vector is, and by that style, defect and obedience all at once: it cannot tell which, so no
search is led or held by it. Diversity falls with strength and has no other truth here; `loratools epochs` shows it."""


def _spread(features: Values) -> float:
    """How far the two seeds of each prompt are apart (root mean square), for (8, d)."""
    return float(np.sqrt(((features[::2] - features[1::2]) ** 2).mean()))


if __name__ == "__main__":
    main()
