"""What a measure may give, what it may not, and what ``--measure`` may ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Better, Shown, check_it_varies, take
from loratools.measures.request import MeasureRequest, parse_measure, parse_measures


def shown(count: int, prompt: str = "1girl") -> list[Shown]:
    rng = np.random.default_rng(count)
    return [Shown(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), prompt, seed) for seed in range(count)]


class Given:
    """A measure that gives what it was told to."""

    name = "given"
    better: Better = "lower"

    def __init__(self, give: Callable[[Sequence[Shown]], Any]) -> None:
        self.give = give

    def __call__(self, pictures: Sequence[Shown]) -> Any:
        return self.give(pictures)


def raising(_: Sequence[Shown]) -> Any:
    raise ZeroDivisionError("division by zero\nsecond line")


def leaving(_: Sequence[Shown]) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "give, sentence",
    [
        (leaving, r"the measure 'given' failed \(SystemExit: 3\)"),
        (raising, r"the measure 'given' failed \(ZeroDivisionError: division by zero\)"),
        (lambda pictures: [1.0] * 3, "gave 3 values for 4 pictures"),
        (lambda pictures: np.ones((4, 2)), r"gave an array of shape \(4, 2\) for 4 pictures"),
        (lambda pictures: 1.0, r"gave an array of shape \(\) for 4 pictures"),
        (lambda pictures: ["a"] * 4, "values that are no numbers"),
        (lambda pictures: [math.nan] * 4, "could tell of none of 4 pictures"),
        (lambda pictures: [1.0, 2.0, math.inf, 0.0], "an infinite value"),
    ],
)
def test_what_is_no_value_for_each_picture_is_one_sentence(give: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(MeasureError, match=sentence):
        take(Given(give), shown(4))


def test_values_come_with_the_prompts_and_seeds_that_they_are_of() -> None:
    measured = take(Given(lambda pictures: [1, None, 3, 4]), shown(4))
    assert measured.seeds == (0, 1, 2, 3) and measured.prompts == ("1girl",) * 4
    assert np.isnan(measured.values[1]) and measured.estimate.n == 3
    assert len(take(Given(lambda pictures: []), []).values) == 0


def test_a_measure_that_says_the_same_of_all_is_refused() -> None:
    with pytest.raises(MeasureError, match="gave 2 for each of 8 different pictures"):
        check_it_varies(take(Given(lambda pictures: [2.0] * len(pictures)), shown(8)))
    check_it_varies(take(Given(lambda pictures: [2.0] * len(pictures)), shown(3)))
    check_it_varies(take(Given(lambda pictures: [picture.seed for picture in pictures]), shown(8)))


def test_the_same_pictures_are_looked_at_once() -> None:
    calls = []
    read = LastBatch(lambda pictures: calls.append(len(pictures)) or len(calls))
    pictures = shown(3)
    assert read(pictures) == read(list(pictures)) == 1
    assert read(pictures[:2]) == 2 and read(shown(2)) == 3
    assert calls == [3, 2, 2]


@pytest.mark.parametrize(
    "text, request_",
    [
        ("judge", MeasureRequest("judge")),
        ("judge=ink", MeasureRequest("judge", "ink")),
        ("votes", MeasureRequest("votes")),
        ("like=good pictures", MeasureRequest("like", "good pictures")),
        ("unlike=C:\\bad=ones", MeasureRequest("unlike", "C:\\bad=ones")),
        ("marks=grid/votes.json", MeasureRequest("marks", "grid/votes.json")),
        ("python=my_scores:hands", MeasureRequest("python", "my_scores:hands")),
        ("python=higher:my_scores:beauty", MeasureRequest("python", "my_scores:beauty", "higher")),
        ("python=lower:my.scores:hands", MeasureRequest("python", "my.scores:hands")),
        ("command=python score.py --a=b", MeasureRequest("command", "python score.py --a=b")),
        ("command=higher:./score", MeasureRequest("command", "./score", "higher")),
    ],
)
def test_what_is_asked_for_can_be_written_and_read_again(text: str, request_: MeasureRequest) -> None:
    assert parse_measure(text) == request_
    assert parse_measure(request_.text) == request_


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("judgement", r"no measure 'judgement' \(did you mean 'judge'\?\); give judge, votes"),
        ("", "no measure ''"),
        ("like", "'like' needs something after '='"),
        ("command= ", "'command' needs something after '='"),
        ("python=my_scores", "names no function; give python=MODULE:FUNCTION"),
        ("python=:hands", "names no function"),
        ("python=higher:hands", "names no function"),
        ("votes=votes.json", "'marks=votes.json'"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(MeasureError, match=sentence):
        parse_measure(text)


def test_marks_need_both_sides_and_nothing_is_given_twice() -> None:
    assert len(parse_measures(["like=a", "like=b", "unlike=c", "judge"])) == 4
    assert len(parse_measures(["like=a", "marks=votes.json"])) == 2
    with pytest.raises(MeasureError, match="'like=good, unlike=bad' is two measures; give each by itself"):
        parse_measures(["like=good, unlike=bad"])
    with pytest.raises(MeasureError, match="'like' alone cannot tell good from bad; give 'unlike=FOLDER'"):
        parse_measures(["like=a"])
    with pytest.raises(MeasureError, match="'unlike' alone"):
        parse_measures(["unlike=a", "judge"])
    with pytest.raises(MeasureError, match="'judge' is given twice"):
        parse_measures(["judge", "judge"])
