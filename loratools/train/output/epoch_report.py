"""A finished run, epoch by epoch: losses from its log, norms and drift from its files, and which ones to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools import files
from loratools.adapter.algebra.lowrank import inner, same_matrix
from loratools.adapter.files.epoch_files import Epoch, epochs
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.parallel import in_order
from loratools.train.output.read_log import logged

FOLK_BAND = (0.07, 0.09)  # the training loss that beginners' guides call best for SD 1.5
_MOST = 4
_NEAR = {"validation": 0.01, "training": 0.03}  # how far above the lowest loss, relatively, an epoch may lie
_SETTLED = 0.5  # of the greatest drift
_WIDTH = 24


@dataclass(frozen=True)
class EpochFacts:
    """One epoch of a run.

    Attributes:
        loss: mean training loss; ``validation`` the loss at fixed noise and timesteps; None where no log tells.
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
    """A run's epochs in order, and the one to four of them that are worth rendering, the first one first.

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
        """A table, the shortlist with its reasons, and what the guides' band is worth."""
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
            told = f"epochs {_ranges(within)} lie in it" if within else "no epoch lies in it"
            lines += [
                "",
                f"folk evidence: guides for SD 1.5 call a training loss of {FOLK_BAND[0]} to {FOLK_BAND[1]} "
                f"best; {told}. Look at a grid before you believe it.",
            ]
        return "\n".join(lines)


def report(run: Path | str) -> RunReport:
    """Read a run's files and, if it is one of ours, its log.

    Args:
        run: the folder, or ``FOLDER/NAME`` where a folder holds several runs.
    Raises:
        FileError: if there is no such run.
        FormatError: if an epoch file cannot be read.
    """
    found = epochs(run)
    told = logged(found[0].path)
    norms = _norms(found)
    facts = tuple(
        EpochFacts(
            epoch.number, epoch.path, told.losses.get(epoch.number), told.validations.get(epoch.number), norm, drift
        )
        for epoch, (norm, drift) in zip(found, norms, strict=True)
    )
    chosen = shortlist(facts, held_out=told.held_out)
    return RunReport(Path(run), facts, chosen, told.untrained, told.held_out)


def best_epoch(run: Path | str) -> int:
    """The number of the first epoch of ``run``'s shortlist.

    Raises:
        FileError: if there is no such run.
    """
    return report(run).shortlist[0].number


def shortlist(facts: Sequence[EpochFacts], *, held_out: bool = True) -> tuple[Pick, ...]:
    """One to four epochs, by the best evidence that there is: validation, else training loss, else drift alone.

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


def plot(found: RunReport, path: Path | str) -> None:
    """Draw losses above, norm and drift below, the shortlist marked; the format is the suffix's.

    Raises:
        FileError: if the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = [own.number for own in found.epochs]
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for name, colour, values in (
        ("training loss", "#35618f", [own.loss for own in found.epochs]),
        ("validation loss", "#b5533c", [own.validation for own in found.epochs]),
    ):
        if any(value is not None for value in values):
            upper.plot(numbers, [math.nan if v is None else v for v in values], "o-", color=colour, label=name)
    if upper.lines:
        upper.axhspan(*FOLK_BAND, color="#999", alpha=0.15, label="guides' band (folk evidence)")
        low, high = upper.dataLim.intervaly
        upper.set_ylim(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1))
        upper.legend(frameon=False, fontsize=9)
    upper.set_ylabel("loss")
    lower.plot(numbers, [own.norm for own in found.epochs], "o-", color="#4d7a4a", label="norm")
    lower.set_ylabel("norm")
    lower.set_ylim(bottom=0)
    right = lower.twinx()
    drifts = [math.nan if own.drift is None else 100 * own.drift for own in found.epochs]
    right.plot(numbers, drifts, "s--", color="#8a6bb0", label="drift")
    right.set_ylabel("drift from the epoch before, %")
    right.set_ylim(bottom=0)
    lower.legend(handles=[*lower.lines, *right.lines], frameon=False, fontsize=9)
    lower.set_xlabel("epoch")
    lower.xaxis.get_major_locator().set_params(integer=True)
    for axes in (upper, lower):
        for pick in found.shortlist:
            axes.axvline(pick.number, color="#d9a520", lw=6, alpha=0.25, zorder=0)
    figure.suptitle(f"{found.run}: shortlist {', '.join(str(pick.number) for pick in found.shortlist)}", fontsize=11)
    with files.replacing(Path(path)) as part:
        figure.savefig(part, dpi=110, format=Path(path).suffix.lstrip(".") or "png")


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


def _norms(found: Sequence[Epoch]) -> list[tuple[float, float | None]]:
    """Every epoch's norm, and its drift; two files are open at a time."""
    measured: list[tuple[float, float | None]] = []
    before: tuple[Adapter, float] | None = None
    for epoch in found:
        adapter = read(epoch.path)
        own = _square(adapter)
        drift = None
        if before is not None:
            drift = _apart(before[0], adapter, before[1], own)
        before = adapter, own
        measured.append((math.sqrt(own), drift))
    return measured


def _square(adapter: Adapter) -> float:
    def of(name: str) -> float:
        delta = adapter[name]
        return inner(delta, delta)

    return sum(in_order(of, adapter))


def _apart(one: Adapter, two: Adapter, square: float, other: float) -> float | None:
    """|two - one| / |two| from Gram matrices: |a - b|^2 = |a|^2 - 2 <a, b> + |b|^2."""
    shared = [name for name in two if name in one and same_matrix(one.shapes[name], two.shapes[name])]
    both = sum(in_order(lambda name: inner(one[name], two[name]), shared))
    return math.sqrt(max(square - 2 * both + other, 0.0) / other) if other else None


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
