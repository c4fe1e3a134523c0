"""Marked pictures as a measure: what they teach, what they refuse, and what guards them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from loratools.base.model import Base
from loratools.errors import DatasetError, FileError, FormatError, MeasureError
from loratools.measures.build import MeasureContext, MeasureSet, build_measures
from loratools.measures.measure import Shown, take
from loratools.measures.probe.marked import Marked
from loratools.measures.probe.marks import marks_measures
from loratools.measures.probe.pairs import PairChoice
from loratools.measures.probe.ridge import fit_probe
from loratools.measures.request import parse_measures
from loratools.measures.sources import digest_of_sources
from tests.measures.probe.conftest import look, patterns

pytestmark = pytest.mark.usefixtures("seeing")
PROMPTS = ("girl, red hair", "hat, smile", "blue eyes", "full body")


def many(start: int, count: int = 12, stripes: float = 0.0, grain: float = 0.0) -> list[Shown]:
    return [look(start + n, stripes, grain, PROMPTS[n % len(PROMPTS)]) for n in range(count)]


def save(folder: Path, pictures: Sequence[Shown], captions: bool = True) -> Path:
    folder.mkdir(parents=True)
    for n, picture in enumerate(pictures):
        picture.image.save(folder / f"{n:03d}.png")
        if captions:
            (folder / f"{n:03d}.txt").write_text(picture.prompt)
    return folder


def built(tiny: Base, *texts: str, symptoms: tuple[str, ...] = ("hands",), **more: object) -> MeasureSet:
    """Measures for a LoRA whose style is stripes and whose defect is grain."""
    base, whole = many(0, 8), many(0, 8, stripes=1.0, grain=0.5)
    context = MeasureContext(tiny, symptoms, base, whole, **more)  # type: ignore[arg-type]
    return build_measures(parse_measures(texts), context)


def test_folders_lead_a_search_and_the_base_says_what_is_kept(tiny: Base, tmp_path: Path) -> None:
    like = save(tmp_path / "good", many(100, stripes=1.0))
    unlike = save(tmp_path / "bad", many(200, stripes=1.0, grain=0.5))
    training = save(tmp_path / "training", many(300, stripes=1.1))
    measures = built(tiny, f"like={like}", f"unlike={unlike}", training=training)
    assert [own.name for own in measures.targets] == ["marks"]
    assert [(own.name, own.better) for own in measures.kept] == [
        ("unfamiliar", "lower"),
        ("style", "higher"),
        ("obedience", "higher"),
    ]
    assert not measures.by_votes and any("AUC" in note and "12 bad and 12 good" in note for note in measures.notes)
    marks, style = measures.targets[0], measures.kept[1]
    sound, broken = many(400, stripes=1.0), many(400, stripes=1.0, grain=0.5)
    assert take(marks, broken).estimate.mean - take(marks, sound).estimate.mean > 1
    assert take(style, sound).estimate.mean > 0.8 > 0.3 > take(style, many(400)).estimate.mean


def test_stars_of_a_grid_are_marks_too(tiny: Base, tmp_path: Path) -> None:
    grid = save(tmp_path / "grid", [*many(100, stripes=1.0), *many(200, stripes=1.0, grain=0.5)])
    names = sorted(path.name for path in grid.glob("*.png"))
    stars = {name: (5 if n < 6 else 4 if n < 12 else 1 if n < 18 else 2) for n, name in enumerate(names)}
    cells = {name: {"at": {"adapter": "x"}, "file": name} for name in names}
    votes = {"format": "loratools votes 1", "cells": cells, "stars": stars, "pairs": []}
    (grid / "votes.json").write_text(json.dumps(votes))
    measures = built(tiny, f"marks={grid / 'votes.json'}")
    assert [own.name for own in measures.targets] == ["marks"]
    assert any("12 bad and 12 good" in note for note in measures.notes)


def test_marks_that_tell_nothing_are_refused(tiny: Base, tmp_path: Path) -> None:
    like, unlike = save(tmp_path / "good", many(100)), save(tmp_path / "bad", many(200))
    with pytest.raises(MeasureError, match=r"cannot be told apart yet: AUC 0\.\d\d .*guessing is 0\.5"):
        built(tiny, f"like={like}", f"unlike={unlike}")


def test_marks_that_are_missing_or_contradict_are_one_sentence(tiny: Base, tmp_path: Path) -> None:
    good = save(tmp_path / "good", many(100, 6))
    two = save(tmp_path / "two", many(200, 2, grain=0.5))
    with pytest.raises(MeasureError, match="2 bad pictures are too few to learn from; mark 6 at least"):
        built(tiny, f"like={good}", f"unlike={two}")
    with pytest.raises(MeasureError, match="6 pictures are marked good and bad"):
        built(tiny, f"like={good}", f"unlike={save(tmp_path / 'same', many(100, 6))}")
    with pytest.raises(FileError, match="there is no folder"):
        built(tiny, f"like={good}", f"unlike={tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="there are no images"):
        built(tiny, f"like={good}", f"unlike={tmp_path / 'empty'}")
    (tmp_path / "votes.json").write_text("{}")
    with pytest.raises(FormatError, match=r"is not a votes\.json"):
        built(tiny, f"marks={tmp_path / 'votes.json'}")


def test_pictures_of_the_base_count_as_good_without_a_mark() -> None:
    """Good marks all show the style here; only the base's pictures say that the style is not what is bad."""
    marked = Marked(tuple(many(100, stripes=1.0)), tuple(many(200, stripes=0.5, grain=0.5)))
    base = many(0, 8)
    plain, helped = (marks_measures(marked, patterns, own).measure for own in ((), base))
    fresh = many(500, 8)
    assert take(helped, fresh).estimate.mean < take(plain, fresh).estimate.mean
    assert take(helped, fresh).estimate.mean < -0.6


def test_known_pictures_are_never_left_out_nor_counted() -> None:
    rng = np.random.default_rng(3)
    first = np.arange(20) < 10
    x, known = rng.normal(np.where(first, 0.4, -0.4)[:, None], 1, (20, 30)), rng.normal(-0.4, 1, (15, 30))
    probe = fit_probe(x, first, known=known)
    assert probe.left_out.shape == (20,) and not np.isnan(probe.left_out).any()
    assert (probe.auc.bad, probe.auc.good) == (10, 10)
    assert fit_probe(x, first).weights != pytest.approx(probe.weights)


def test_no_figure_is_better_than_the_good_ones() -> None:
    """Else a search would go on to what fools the probe."""
    marked = Marked(tuple(many(100)), tuple(many(200, grain=0.5)))
    measure = marks_measures(marked, patterns).measure
    figures = take(measure, [*many(300), *many(300, grain=-1.5), *many(300, stripes=-3.0)]).values
    assert figures.min() >= -1.0


def test_what_is_unlike_all_that_was_marked_is_unfamiliar() -> None:
    marked = Marked(tuple(many(100, stripes=1.0)), tuple(many(200, stripes=1.0, grain=0.5)))
    guard = marks_measures(marked, patterns, many(0, 8)).guard
    assert take(guard, many(600, 8, stripes=0.9)).estimate.mean < 0.2
    strange = [Shown(255 - 2 * (own.pixels // 128) * 127, own.prompt, own.seed) for own in many(600, 8, grain=3.0)]
    assert take(guard, strange).estimate.mean > 0.5


def test_unknown_prompts_make_the_trust_smaller(tiny: Base, tmp_path: Path) -> None:
    like = save(tmp_path / "good", many(100), captions=False)
    unlike = save(tmp_path / "bad", many(200, grain=0.5), captions=False)
    notes = built(tiny, f"like={like}", f"unlike={unlike}").notes
    assert any("may be too good" in note for note in notes)


def test_a_function_of_the_users_own_keeps_style_and_obedience_too(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_marks_for_tests.py").write_text("def ugly(images, prompts, seeds):\n    return seeds\n")
    monkeypatch.chdir(tmp_path)
    measures = built(tiny, "python=my_marks_for_tests:ugly")
    assert [own.name for own in measures.targets] == ["ugly"]
    assert [own.name for own in measures.kept] == ["style", "obedience"]
    bare = built(tiny, "python=my_marks_for_tests:ugly", keeps=False)
    assert [own.name for own in bare.targets] == ["ugly"] and not bare.kept


def test_style_as_the_symptom_is_the_target(tiny: Base) -> None:
    measures = built(tiny, symptoms=("style",), training=many(300, stripes=1.1))
    assert [own.name for own in measures.targets] == ["style"]
    assert [own.name for own in measures.kept] == ["obedience"]
    context = MeasureContext(tiny, ("style",), many(0, 8), many(0, 8), many(20, 8))
    with pytest.raises(MeasureError, match="the symptom is 'style', and none is seen"):
        build_measures([], context)


def test_empty_prompts_have_nothing_to_obey(tiny: Base) -> None:
    base, whole = ([look(n, w, prompt="") for n in range(8)] for w in (0.0, 1.0))
    measures = build_measures((), MeasureContext(tiny, (), base, whole))
    assert [own.name for own in measures.kept] == ["style"]
    assert any("nothing to obey" in note for note in measures.notes)
    assert any("the training pictures are not known" in note for note in measures.notes)


def test_what_measures_learn_from_has_a_digest(tmp_path: Path) -> None:
    """A search that goes on after pictures were marked anew would mix figures of two measures."""
    good, bad = save(tmp_path / "good", many(100, 2)), save(tmp_path / "bad", many(200, 2))
    requests = parse_measures([f"like={good}", f"unlike={bad}"])
    before = digest_of_sources(requests)
    assert len(before) == 64 and before == digest_of_sources(requests) != digest_of_sources(requests, tmp_path)
    (good / "000.png").rename(bad / "900.png")
    after = digest_of_sources(requests)
    assert after != before
    look(1).image.save(bad / "900.png")
    assert digest_of_sources(requests) != after
    assert digest_of_sources(parse_measures(["judge", "python=a:b"])) == ""
    assert digest_of_sources(parse_measures([f"marks={tmp_path / 'nowhere.json'}"]))


def asked(tiny: Base, marked: Marked | None, **more: object) -> MeasureSet:
    """Measures of marks that a tune asked for, where the training pictures show no style that the base lacks."""
    base, whole = many(0, 8), many(0, 8, stripes=1.0, grain=0.5)
    context = MeasureContext(tiny, ("hands",), base, whole, many(20, 8), marked, **more)  # type: ignore[arg-type]
    return build_measures(parse_measures(["marks"]), context)


def test_a_style_that_cannot_be_seen_is_asked_for_and_kept_by_marks(tiny: Base) -> None:
    good, bad = tuple(many(100, stripes=1.0)), tuple(many(200, stripes=1.0, grain=0.5))
    measures = asked(tiny, Marked(good, bad))
    assert "style" not in [own.name for own in measures.kept]
    assert any("give 3 stars to 6 or more sound pictures that have lost it" in note for note in measures.notes)
    measures = asked(tiny, Marked(good, bad, tuple(many(300, 8))))
    style = next(own for own in measures.kept if own.name == "style")
    assert any("by 12 marks with it and 8 without, AUC" in note for note in measures.notes)
    assert take(style, many(400, 8, stripes=1.0)).estimate.mean > 0.8 > 0.3 > take(style, many(400, 8)).estimate.mean
    noise = asked(tiny, Marked(good, bad, tuple(many(500, 12, stripes=1.0))))
    assert "style" not in [own.name for own in noise.kept]
    assert any("tell no more than guessing" in note for note in noise.notes)


def test_a_second_probe_checks_and_leads_nothing(tiny: Base) -> None:
    measures = asked(tiny, Marked(tuple(many(100, stripes=1.0)), tuple(many(200, stripes=1.0, grain=0.5))))
    assert [own.name for own in measures.checks] == ["second_probe"] and [own.name for own in measures.targets] == [
        "marks"
    ]
    assert any("a gain that it does not see is refused" in note for note in measures.notes)


def test_marks_that_nobody_asks_for_need_a_file(tiny: Base) -> None:
    with pytest.raises(MeasureError, match=r"'marks' alone is for a tune, which asks for them; give marks=VOTES\.json"):
        asked(tiny, None)


def test_choices_lead_like_marks_with_a_guard_and_a_check(tiny: Base) -> None:
    sides = [many(900 + 40 * n, 3, stripes=1.0, grain=0.05 * n) for n in range(12)]
    pairs = [(n, m) for n in range(12) for m in (n + 3, n + 6) if m < 12]
    choices = [PairChoice(tuple(sides[n]), tuple(sides[m]), 1.0, (str(n), str(m))) for n, m in pairs]
    base, whole = many(0, 8), many(0, 8, stripes=1.0, grain=0.5)
    context = MeasureContext(tiny, ("hands",), base, whole, many(20, 8), choices=choices)
    measures = build_measures(parse_measures(["votes"]), context)
    assert [own.name for own in measures.targets] == ["votes"] and measures.by_votes
    assert [own.name for own in measures.kept] == ["unfamiliar", "obedience"]
    assert [own.name for own in measures.checks] == ["second_probe"]
    assert any("nothing but your choices keeps it" in note for note in measures.notes)
    broken, sound = many(400, stripes=1.0, grain=0.5), many(400, stripes=1.0)
    votes = measures.targets[0]
    assert take(votes, broken).estimate.mean > take(votes, sound).estimate.mean + 1
