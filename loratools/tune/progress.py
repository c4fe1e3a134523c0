"""How far a tune is, how long it will take, and when it has to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class Stopped(KeyboardInterrupt):
    """The search was asked to stop while a generation was being drawn; what is whole is kept.

    It is no error: where there is no vector yet that could be reported, it ends the tune as Ctrl-C does.
    """


@dataclass(frozen=True)
class TuneProgress:
    """Where a tune stands.

    Attributes:
        stage: ``base``, ``ladder``, ``screening``, ``search``, ``check``, ``descent``, ``fresh`` or ``report``; after
            it the names of ways that follow, and ``training``.
        done, total: search pictures; one of the report counts for as many as it takes steps more.
        seconds_left: by the pictures so far; None before the first.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None


OnProgress = Callable[[TuneProgress], None]


def part_of(on_progress: OnProgress, before: int, after: int) -> OnProgress:
    """What hears a part of a longer work, which tells ``on_progress`` of the whole.

    Args:
        before, after: pictures of what came before this part, and of what comes after it.
    """

    def hear(own: TuneProgress) -> None:
        left = own.total - own.done
        longer = None if own.seconds_left is None or not left else own.seconds_left * (left + after) / left
        on_progress(TuneProgress(own.stage, before + own.done, before + own.total + after, longer))

    return hear


@dataclass
class Clock:
    """Counts pictures and time.

    Attributes:
        total: pictures of the whole tune, in search pictures.
        budget: seconds for all of it, or None.
        report: the report's part of ``total``, and ``answer`` what choosing the answer takes at least.
        on_progress: is called after every picture.
        wants_stop: whether the search should stop; then the next picture raises :class:`Stopped`.
        now: seconds on a clock that only goes forward.
    """

    total: int
    report: int
    budget: float | None
    on_progress: OnProgress
    wants_stop: Callable[[], bool]
    now: Callable[[], float]
    answer: int = 0
    done: int = 0
    stage: str = "base"
    _drawn: int = 0
    _begun: float = field(init=False)
    _drawing: float | None = None

    def __post_init__(self) -> None:
        self._begun = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds since the tune began."""
        return self.now() - self._begun

    @property
    def seconds_a_picture(self) -> float | None:
        """Of those that were drawn now; None before the first."""
        if not self._drawn or self._drawing is None:
            return None
        return (self.now() - self._drawing) / self._drawn

    def begin(self, stage: str) -> None:
        """Enter a stage; in the report what the search left out is no longer to be drawn."""
        self.stage = stage
        if stage == "report":
            self.total = min(self.total, self.done + self.report)
        self._drawing = self._drawing if self._drawing is not None else self.now()
        self._tell()

    def skip(self, pictures: int) -> None:
        """Pictures that an earlier run drew."""
        self.done += pictures
        self._tell()

    def picture(self, weight: int = 1) -> None:
        """One more picture is drawn, of ``weight`` search pictures.

        Raises:
            Stopped: if a stop is wanted, but not in the report.
        """
        self.done += weight
        self._drawn += weight
        self._tell()
        if self.stage != "report" and self.wants_stop():
            raise Stopped

    def has_time_for(self, pictures: int, *, answering: bool = False) -> bool:
        """Whether so many search pictures, the report and, before it is begun, the answer still fit into the budget."""
        each = self.seconds_a_picture
        if self.budget is None or each is None:
            return True
        later = self.report + (0 if answering else self.answer)
        return self.elapsed + (pictures + later) * each <= self.budget

    def finish(self) -> None:
        """All is done, whatever was left out."""
        self.total = self.done
        self._tell()

    def _tell(self) -> None:
        each = self.seconds_a_picture
        left = None if each is None else max(0, self.total - self.done) * each
        if left is not None and self.budget is not None and self.stage != "report":  # which is drawn all the same
            left = min(left, max(0.0, self.budget - self.elapsed))
        self.on_progress(TuneProgress(self.stage, min(self.done, self.total), self.total, left))
