"""A finished run, epoch by epoch: losses from its log, norms and drift from its files, and the shortlist.

Light to import, since a recipe's plan refers to it; torch is imported when files are measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.adapter.files.epoch_files import epochs
from loratools.train.output.read_log import logged_losses
from loratools.train.output.recorded_verdict import recommended

if TYPE_CHECKING:
    from loratools.adapter.files.lora_file import KeyRules

FOLK_BAND = (0.07, 0.09)  # the training loss that beginners' guides call best for SD 1.5
_MOST = 4
_NEAR = {"validation": 0.01, "training": 0.03}  # how far above the lowest loss, relatively, an epoch may lie
_SETTLED = 0.5  # of the greatest drift
_WIDTH = 24


@dataclass(frozen=True)
class EpochFacts:
    """One epoch of a run.

    Attributes:
        loss: mean training loss; ``validation`` the loss at fixed noise and timesteps; None where no log has them.
        norm: Frobenius norm of all differences together.
        drift: ``|d - d_before| / |d|``, how far the epoch moved from the one before; None for the first.
    """

    number: int
    path: Path
    loss: float | None
    validation: float | None
    norm: float
    drift: float | None


@dataclass(frozen=True)
class Pick:
    """An epoch of the shortlist, and why it is there."""

    number: int
    why: str


@dataclass(frozen=True)
class RunReport:
    """A run's epochs in order, and the shortlist: the one to four of them that are worth rendering, the best first.

    Attributes:
        untrained: the validation loss before the first step, where the log has one.
        held_out: whether the validation loss is of images that no epoch showed.
    """

    run: Path
    epochs: tuple[EpochFacts, ...]
    shortlist: tuple[Pick, ...]
    untrained: float | None = None
    held_out: bool = True

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "run": str(self.run),
            "epochs": [
                {
                    "epoch": own.number,
                    "file": str(own.path),
                    "loss": own.loss,
                    "validation": own.validation,
                    "norm": own.norm,
                    "drift": own.drift,
                }
                for own in self.epochs
            ],
            "shortlist": [{"epoch": pick.number, "why": pick.why} for pick in self.shortlist],
            "untrained_validation": self.untrained,
            "held_out": self.held_out,
        }

    def text(self) -> str:
        """A table, the shortlist with its reasons, and which epochs lie in the guides' band."""
        losses = [own.loss for own in self.epochs if own.loss is not None]
        lines = [f"{'epoch':>5}  {'loss':>7}  {'valid.':>7}  {'norm':>8}  {'drift':>6}"]
        chosen = {pick.number for pick in self.shortlist}
        if self.untrained is not None:
            lines.append(f"{0:>5}  {_number(None, 7, 4)}  {_number(self.untrained, 7, 4)}  {0:>8.3g}  {_percent(None)}")
        for own in self.epochs:
            mark = "*" if own.number in chosen else " "
            lines.append(
                f"{own.number:>5}{mark} {_number(own.loss, 7, 4)}  {_number(own.validation, 7, 4)}  "
                f"{own.norm:>8.3g}  {_percent(own.drift)}  {_bar(own.loss, losses)}".rstrip()
            )
        lines += ["", "shortlist (*), the first one first:"]
        lines += [f"  {pick.number}: {pick.why}" for pick in self.shortlist]
        if not self.held_out:
            lines += [
                "",
                "the validation loss is of images that are trained on: it cannot show what is learnt by heart",
            ]
        if losses:
            within = [own.number for own in self.epochs if own.loss is not None and _in_band(own.loss)]
            lies = f"epochs {_ranges(within)} lie in it" if len(within) > 1 else f"epoch {_ranges(within)} lies in it"
            verdict = lies if within else "no epoch lies in it"
            lines += [
                "",
                f"folk evidence: guides for SD 1.5 call a training loss of {FOLK_BAND[0]} to {FOLK_BAND[1]} "
                f"best; {verdict}. Look at a grid before you believe it.",
            ]
        return "\n".join(lines)


def report(run: Path | str, keys: KeyRules | None = None) -> RunReport:
    """Read a run's files and, if it is one of ours, its log.

    Args:
        run: the folder, or ``FOLDER/NAME`` where a folder holds several runs.
        keys: what becomes of keys that no table knows; None refuses them.
    Raises:
        FileError: if there is no such run.
        FormatError: if an epoch file cannot be read.
    """
    from loratools.adapter.files.lora_file import STRICT
    from loratools.train.output.epoch_norms import measure

    files = epochs(run)
    losses = logged_losses(files[0].path)
    facts = tuple(
        EpochFacts(
            number=epoch.number,
            path=epoch.path,
            loss=losses.training.get(epoch.number),
            validation=losses.validation.get(epoch.number),
            norm=norm,
            drift=drift,
        )
        for epoch, (norm, drift) in zip(files, measure(files, keys or STRICT), strict=True)
    )
    chosen = shortlist(facts, held_out=losses.held_out)
    return RunReport(Path(run), facts, chosen, losses.untrained, losses.held_out)


def best_epoch(run: Path) -> int:
    """What ``RUN@best`` is: the epoch that a verdict over the run's pictures recommends, while it is of these files
    (:mod:`.recorded_verdict`), else the first of the run's shortlist.

    Raises:
        FileError: if there is no such run.
        FormatError: if an epoch file, or a verdict beside it, cannot be read.
    """
    verdict = recommended(run)
    return report(run).shortlist[0].number if verdict is None else verdict[0]


def shortlist(facts: Sequence[EpochFacts], *, held_out: bool = True) -> tuple[Pick, ...]:
    """One to four epochs, chosen by validation loss, else by training loss, else by drift alone.

    Of training losses, and of a validation loss that is of images that are trained on, only the later half counts:
    before that a low one says more about which images came last, and later on it falls for as long as a run goes on.
    """
    if all(own.validation is not None for own in facts):
        judged = facts if held_out else facts[len(facts) // 2 :]
        where = "" if held_out else " of the later half, on images that are trained on"
        return _lowest("validation", {own.number: own.validation or 0.0 for own in judged}, where)
    later = {own.number: own.loss for own in facts[len(facts) // 2 :] if own.loss is not None}
    if later:
        return _lowest("training", later, " of the later half")
    return _settled(facts)


def _lowest(kind: str, values: Mapping[int, float], where: str) -> tuple[Pick, ...]:
    ranked = sorted(values, key=lambda number: (values[number], -number))
    least = values[ranked[0]]
    picks = [Pick(ranked[0], f"lowest {kind} loss{where} ({least:.4f})")]
    for number in ranked[1:_MOST]:
        over = values[number] / least - 1 if least else math.inf
        if over <= _NEAR[kind]:
            picks.append(Pick(number, f"{kind} loss {values[number]:.4f}, within {over:.1%} of the lowest"))
    return tuple(picks)


def _settled(facts: Sequence[EpochFacts]) -> tuple[Pick, ...]:
    drifts = {own.number: own.drift for own in facts if own.drift is not None}
    if not drifts:
        return (Pick(facts[0].number, "the only epoch"),)
    limit = _SETTLED * max(drifts.values())
    settled = [
        number
        for number, drift in drifts.items()
        if all(later <= limit for other, later in drifts.items() if other >= number)
    ]
    if not settled:
        return (Pick(facts[-1].number, "the last; it still drifts as fast as ever, so the run may be too short"),)
    last = settled[-1]
    spread = sorted({settled[round(n * (len(settled) - 1) / (_MOST - 1))] for n in range(_MOST)})
    whys = {
        settled[0]: f"from here on each epoch moves at most {limit:.0%}, half of the fastest one",
        last: "the last of those that have settled",
    }
    return tuple(Pick(number, whys.get(number, "between them; there is no log to tell more")) for number in spread)


def _in_band(loss: float) -> bool:
    return FOLK_BAND[0] <= loss <= FOLK_BAND[1]


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{value:>6.1%}"


def _bar(value: float | None, values: Sequence[float]) -> str:
    """A bar from the lowest loss (short) to the highest."""
    if value is None:
        return ""
    low, high = min(values), max(values)
    return "#" * max(1, round(_WIDTH * (value - low) / (high - low))) if high > low else "#"


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
