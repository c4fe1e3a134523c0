"""Who looks at a run: what every run has, and what its config asks for."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.train.progress import Progress
from loratools.train.sample_prompts import Wanted
from loratools.train.samples import Sampler
from loratools.train.tally import Tally
from loratools.train.teller import Teller
from loratools.train.tensorboard import Board, Curves, NoBoard
from loratools.train.validation import Validator, validates
from loratools.train.watcher import Seen, Watcher


def watchers(seen: Seen, bar: Progress, board: Board | NoBoard, samples: Sequence[Wanted], steps: int) -> list[Watcher]:
    """In the order in which they are told of the run.

    Args:
        samples: pictures to draw.
        steps: optimiser steps of the whole run.
    """
    found: list[Watcher] = [Teller(seen.log, bar, seen.config.epochs), Curves(board), Tally(seen, board)]
    if validates(seen.config, seen.dataset):
        found.append(Validator(seen, board, bar, steps))
    if samples:
        found.append(Sampler(seen, samples, board, bar))
    return found
