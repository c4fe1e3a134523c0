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
LOST_STARS = 3  # sound, but without the style; only of pictures that a tune showed for marking
FEWEST = 6  # of either side; fewer cannot clear chance (the interval alone would say so, less plainly)
_ADVICE = "fifteen of each are a good number"


@dataclass(frozen=True)
class Marked:
    """Pictures marked good, marked bad, and marked as sound but without the style."""

    good: tuple[Shown, ...] = ()
    bad: tuple[Shown, ...] = ()
    lost: tuple[Shown, ...] = ()

    @property
    def pictures(self) -> tuple[Shown, ...]:
        """The bad ones, then the good ones, then those without the style, which are sound too."""
        return (*self.bad, *self.good, *self.lost)

    def joined(self, other: Marked) -> Marked:
        """Both together."""
        return Marked((*self.good, *other.good), (*self.bad, *other.bad), (*self.lost, *other.lost))


def read_marked(requests: Iterable[MeasureRequest], asked: Marked | None = None) -> Marked:
    """The marks of all ``like``, ``unlike`` and ``marks`` requests together.

    Args:
        asked: marks that a person gave when a tune asked for them.
    Raises:
        FileError, DatasetError, FormatError: for a folder, a picture or a votes file that cannot be read.
        MeasureError: if a side has fewer than six pictures, one picture is on both, or ``marks`` has no file and
            nothing was asked.
    """
    marked = asked or Marked()
    for request in requests:
        marked = marked.joined(_marks_of(request, asked))
    check_marks((*marked.good, *marked.lost), marked.bad)
    return marked


def _marks_of(request: MeasureRequest, asked: Marked | None) -> Marked:
    if request.kind == "like":
        return Marked(good=tuple(read_shown(Path(request.source))))
    if request.kind == "unlike":
        return Marked(bad=tuple(read_shown(Path(request.source))))
    if request.kind == "marks" and request.source:
        return _starred(Path(request.source))
    if request.kind == "marks" and asked is None:
        raise MeasureError("'marks' alone is for a tune, which asks for them; give marks=VOTES.json")
    return Marked()


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


def _starred(path: Path) -> Marked:
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
    return Marked(tuple(opened[key] for key in good), tuple(opened[key] for key in bad))
