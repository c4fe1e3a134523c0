"""Pictures that a person marked as good or bad: folders of them, or stars of the grid page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.errors import FileError, MeasureError
from loratools.measures.measure import Shown
from loratools.measures.pictures import open_shown, read_shown
from loratools.measures.request import MeasureRequest

GOOD_STARS, BAD_STARS = 4, 2  # from so many on a picture is good, up to so many it is bad
FEWEST = 6  # of either side; fewer cannot clear chance (the interval alone would say so, less plainly)
_ADVICE = "fifteen of each are a good number"


@dataclass(frozen=True)
class Marked:
    """Pictures marked good, and marked bad."""

    good: tuple[Shown, ...]
    bad: tuple[Shown, ...]

    @property
    def pictures(self) -> tuple[Shown, ...]:
        """The bad ones, then the good ones."""
        return (*self.bad, *self.good)


def read_marked(requests: Iterable[MeasureRequest]) -> Marked:
    """The marks of all ``like``, ``unlike`` and ``marks`` requests together.

    Raises:
        FileError, DatasetError, FormatError: for a folder, a picture or a votes file that cannot be read.
        MeasureError: if a side has fewer than six pictures, or one picture is on both.
    """
    good: list[Shown] = []
    bad: list[Shown] = []
    for request in requests:
        if request.kind == "like":
            good += read_shown(Path(request.source))
        elif request.kind == "unlike":
            bad += read_shown(Path(request.source))
        elif request.kind == "marks":
            liked, disliked = _starred(Path(request.source))
            good += liked
            bad += disliked
    check_marks(good, bad)
    return Marked(tuple(good), tuple(bad))


def check_marks(good: Sequence[Shown], bad: Sequence[Shown]) -> None:
    """Raise unless both sides have enough pictures, and none in common.

    Raises:
        MeasureError: saying which.
    """
    for own, word in ((good, "good"), (bad, "bad")):
        if len(own) < FEWEST:
            raise MeasureError(
                f"{len(own)} {word} {'picture is' if len(own) == 1 else 'pictures are'} too few to learn from; mark "
                f"{FEWEST} at least ({_ADVICE})"
            )
    liked = {picture.pixels.tobytes() for picture in good}
    both = sum(picture.pixels.tobytes() in liked for picture in bad)
    if both:
        raise MeasureError(f"{both} {'picture is' if both == 1 else 'pictures are'} marked good and bad; take a side")


def _starred(path: Path) -> tuple[list[Shown], list[Shown]]:
    """Pictures of four and five stars, and those of one and two; they lie beside the votes file, in the grid."""
    from loratools.measures.votes.votes_file import read_votes

    votes = read_votes(path)
    good = [key for key, stars in votes.stars.items() if stars >= GOOD_STARS]
    bad = [key for key, stars in votes.stars.items() if stars <= BAD_STARS]
    if not good and not bad:
        raise MeasureError(
            f"{path} has no stars to learn from; give {GOOD_STARS} or 5 to good pictures and 1 or {BAD_STARS} to bad "
            "ones in grid.html"
        )
    opened: dict[str, Shown] = {}
    for number, key in enumerate([*good, *bad]):
        file = path.parent / votes.files.get(key, "")
        if not file.is_file():
            raise FileError(
                f"the picture {file.name or key} of {path} is not beside it; keep the votes in the grid's folder"
            )
        opened[key] = open_shown(file, number)
    return [opened[key] for key in good], [opened[key] for key in bad]
