"""What ``--measure`` may ask for: text -> what is meant; no picture is decoded and nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from loratools.errors import MeasureError, did_you_mean
from loratools.measures.measure import Better

Kind = Literal["judge", "votes", "like", "unlike", "marks", "python", "command"]
MARKED: frozenset[Kind] = frozenset({"like", "unlike", "marks"})  # pictures that a person marked, one measure together
GRADIENT: frozenset[Kind] = frozenset({"judge", "votes", *MARKED})  # whose measures can be differentiated
DEFECTS = ("hands", "limbs", "face", "clothes", "chaos")
SYMPTOMS = (*DEFECTS, "style")
FORMS = "judge, votes, marks, marks=VOTES.json, like=FOLDER, unlike=FOLDER, python=MODULE:FUNCTION or command=COMMAND"
_WAYS: tuple[Better, ...] = get_args(Better)


@dataclass(frozen=True)
class MeasureRequest:
    """One ``--measure``.

    Attributes:
        source: what stands after ``=``: a folder, a file, ``MODULE:FUNCTION``, a command line; of ``judge`` the style,
            empty where the pictures are to say which; of ``marks`` the votes file, empty where the tune is to ask.
        better: of ``python`` and ``command``; the values are taken for how bad a picture is unless ``higher:`` stands
            before the source, as in ``python=higher:my_scores:beauty``.
    """

    kind: Kind
    source: str = ""
    better: Better = "lower"

    @property
    def text(self) -> str:
        """As it is written after ``--measure``."""
        way = "higher:" if self.better == "higher" else ""
        return f"{self.kind}={way}{self.source}" if self.source else self.kind


def parse_measure(text: str) -> MeasureRequest:
    """What one ``--measure`` asks for.

    Raises:
        MeasureError: for a kind that there is not, or one without what it needs after ``=``.
    """
    kind, equals, source = (part.strip() for part in text.partition("="))
    kinds: tuple[Kind, ...] = get_args(Kind)
    known = next((own for own in kinds if own == kind), None)
    if known is None:
        raise MeasureError(f"there is no measure '{kind}'{did_you_mean(kind, kinds)}; give {FORMS}")
    if known == "votes":
        if equals:
            raise MeasureError(f"the measure '{text}' should be 'votes' alone; votes of a file are 'marks={source}'")
        return MeasureRequest("votes")
    if known not in ("judge", "marks") and not source:
        raise MeasureError(f"the measure '{kind}' needs something after '='; give {FORMS}")
    better: Better = "lower"
    if known in ("python", "command"):
        way = next((way for way in _WAYS if source.startswith(f"{way}:")), None)
        better, source = (way, source[len(way) + 1 :].strip()) if way else (better, source)
    if known == "python" and not all(part.strip() for part in source.rpartition(":")[::2]):
        raise MeasureError(
            f"'{text}' names no function; give python=MODULE:FUNCTION or python=FILE.py:FUNCTION, such as "
            "python=my_scores:hands"
        )
    return MeasureRequest(known, source, better)


def parse_measures(texts: Sequence[str]) -> tuple[MeasureRequest, ...]:
    """Every ``--measure`` of a command line; ``like`` and ``unlike`` may come several times and belong together.

    Raises:
        MeasureError: as :func:`parse_measure`; for one that is given twice; for marks of one side alone.
    """
    requests = tuple(parse_measure(text) for text in texts)
    for request in requests:
        if requests.count(request) > 1:
            raise MeasureError(f"the measure '{request.text}' is given twice")
    given = {request.kind for request in requests}
    if "votes" in given and given & MARKED:
        raise MeasureError("'votes' and marks are two ways to ask the same; give one of them")
    for one, other in (("like", "unlike"), ("unlike", "like")):
        if one in given and not given & {other, "marks"}:
            if joined := next((text for text in texts if f",{other}=" in text.replace(" ", "")), None):
                raise MeasureError(f"'{joined}' is two measures; give each by itself")
            raise MeasureError(f"'{one}' alone cannot tell good from bad; give '{other}=FOLDER' as well")
    return requests


def asks_for_marks(requests: Sequence[MeasureRequest]) -> bool:
    """Whether a search is to show pictures of its own for marking: ``marks`` without a file."""
    return any(request.kind == "marks" and not request.source for request in requests)


def asks_for_votes(requests: Sequence[MeasureRequest]) -> bool:
    """Whether a search is to ask a person which of two vectors' pictures are better."""
    return any(request.kind == "votes" for request in requests)


def check_symptom(symptom: str) -> None:
    """Raise unless it is a symptom that measures know.

    Raises:
        MeasureError: with the nearest one.
    """
    if symptom not in SYMPTOMS:
        raise MeasureError(
            f"there is no symptom '{symptom}'{did_you_mean(symptom, SYMPTOMS)}; there are {', '.join(SYMPTOMS)}"
        )
