"""The pocket's judge as measures, on drawings whose style, tags and defects are known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from loratools.base.load import load_base
from loratools.errors import DatasetError, FileError, MeasureError
from loratools.measures.build import MeasureContext, build_measures
from loratools.measures.judged import judge_measures, style_seen
from loratools.measures.measure import Shown, take
from loratools.measures.pictures import read_shown
from loratools.measures.request import MeasureRequest, parse_measures
from loratools.pocket.draw import draw, random_figure


def drawn(style: str, count: int, **faults: int) -> list[Shown]:
    pictures = []
    for seed in range(count):
        figure = random_figure(random.Random(seed), style=style, faults=faults, framing="full_body")
        pictures.append(Shown(np.asarray(draw(figure, seed).image), ", ".join(figure.tags()), seed))
    return pictures


def test_the_judge_tells_defect_style_and_tags() -> None:
    measures = judge_measures("ink").by_name
    good, bad, plain = drawn("ink", 6), drawn("ink", 6, face=3), drawn("house", 6)
    face = {name: take(measures["face"], own).estimate.mean for name, own in (("good", good), ("bad", bad))}
    assert face["good"] < 0.5 < 2 < face["bad"]
    assert take(measures["style"], good).estimate.mean > 0.9 > 0.1 > take(measures["style"], plain).estimate.mean
    assert take(measures["tags"], good).estimate.mean > 0.9
    wrong = [Shown(each.pixels, "1girl, face_focus, arms_up, green_hair", 0) for each in good]
    assert take(measures["tags"], wrong).estimate.mean < 0.7
    assert {name: measure.better for name, measure in measures.items()} == {
        **dict.fromkeys(("hands", "limbs", "face", "clothes", "chaos", "defects"), "lower"),
        **dict.fromkeys(("tags", "style"), "higher"),
    }


def test_what_is_repaired_may_not_pay_with_other_defects() -> None:
    judge = judge_measures("ink")
    others = judge.defects_but(["face"])
    assert others is not None and others.name == "other defects" and others.better == "lower"
    bad = drawn("ink", 3, face=3)
    values = {name: take(judge.by_name[name], bad).values for name in ("hands", "limbs", "clothes", "chaos", "face")}
    face = values.pop("face")
    assert np.allclose(take(others, bad).values, np.mean(list(values.values()), axis=0)) and face.mean() > 2
    assert judge.defects_but(["style"]) is judge.by_name["defects"], "of no defect: all of them count"
    assert judge.defects_but(judge.faults) is None


def test_the_style_is_the_one_that_rises_over_the_bases() -> None:
    assert style_seen(drawn("ink", 4), drawn("house", 4)) == "ink"
    assert style_seen(drawn("ink", 4), []) == "ink"
    assert style_seen(drawn("house", 4), drawn("house", 4)) is None
    assert style_seen(drawn("house", 4), drawn("ink", 4)) is None


def test_a_style_that_the_judge_does_not_know_is_one_sentence() -> None:
    with pytest.raises(MeasureError, match=r"no style 'inc' \(did you mean 'ink'\?\)"):
        judge_measures("inc")


def test_targets_and_what_is_kept_follow_from_the_symptoms() -> None:
    base = load_base("pocket", device="cpu")
    context = MeasureContext(base, ("hands",), drawn("house", 3), drawn("ink", 3))
    measures = build_measures(parse_measures(["judge"]), context)
    assert [measure.name for measure in measures.targets] == ["hands"]
    assert [measure.name for measure in measures.kept] == ["style", "tags", "other defects"]
    style = build_measures(parse_measures(["judge=ink", "votes"]), MeasureContext(base, ("style",), [], []))
    assert [measure.name for measure in style.targets] == ["style"] and style.by_votes
    assert [measure.name for measure in style.kept] == ["tags", "defects"]
    plain = MeasureContext(base, ("face", "hands"), drawn("house", 3), drawn("house", 3))
    nothing = build_measures([MeasureRequest("judge")], plain)
    assert [measure.name for measure in nothing.targets] == ["face", "hands"] and "no style" in nothing.notes[0]
    with pytest.raises(MeasureError, match="the judge sees none; name it"):
        build_measures([MeasureRequest("judge")], MeasureContext(base, ("style",), plain.whole, plain.whole))
    with pytest.raises(MeasureError, match=r"no symptom 'hand' \(did you mean 'hands'\?\)"):
        build_measures([MeasureRequest("judge")], MeasureContext(base, ("hand",), [], []))


def test_two_measures_of_one_name_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "names_for_tests.py").write_text("def style(images, prompts, seeds):\n    return seeds\n")
    monkeypatch.chdir(tmp_path)
    context = MeasureContext(load_base("pocket", device="cpu"), ("hands",), drawn("house", 3), drawn("ink", 3))
    with pytest.raises(MeasureError, match="two measures are called 'style'; rename"):
        build_measures(parse_measures(["judge", "python=names_for_tests:style"]), context)


def test_the_judge_reads_the_pocket_base_alone() -> None:
    base = load_base("pocket", device="cpu")
    base.name = "my-model"
    with pytest.raises(MeasureError, match="of the pocket base alone, not of my-model"):
        build_measures([MeasureRequest("judge")], MeasureContext(base, ("hands",), [], []))


def test_a_folder_of_pictures_comes_with_its_captions(tmp_path: Path) -> None:
    for number, each in enumerate(drawn("ink", 2)):
        each.image.save(tmp_path / f"{number}.png")
    (tmp_path / "0.txt").write_text("1girl, waving\n")
    assert [(each.prompt, each.seed) for each in read_shown(tmp_path)] == [("1girl, waving", 0), ("", 1)]
    with pytest.raises(FileError, match="there is no folder"):
        read_shown(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="there are no images in"):
        read_shown(tmp_path / "empty")


def test_marks_beside_the_judge_see_what_it_sees(tmp_path: Path) -> None:
    """On the pocket base itself, with its own UNet's features: drawings with a bad face, and without."""
    requests = [MeasureRequest("judge", "ink")]
    for kind, folder, pictures in (("like", "good", drawn("ink", 8)), ("unlike", "bad", drawn("ink", 8, face=3))):
        (tmp_path / folder).mkdir()
        for picture in pictures:
            picture.image.save(tmp_path / folder / f"{picture.seed}.png")
            (tmp_path / folder / f"{picture.seed}.txt").write_text(picture.prompt)
        requests += parse_measures([f"like={tmp_path / 'good'}", f"unlike={tmp_path / 'bad'}"])[kind == "unlike" :][:1]
    whole = [*drawn("ink", 14, face=3)][8:]
    base = load_base("pocket", device="cpu")
    measures = build_measures(requests, MeasureContext(base, ("face",), drawn("house", 4), whole))
    assert [own.name for own in measures.targets] == ["face", "marks"]
    assert [own.name for own in measures.kept] == ["style", "tags", "other defects", "unfamiliar"]
    sound, broken = drawn("ink", 14)[8:], whole
    figures = [take(measures.targets[1], own).values for own in (sound, broken)]
    assert figures[0].mean() < figures[1].mean() - 0.4
