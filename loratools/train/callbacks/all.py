"""Who looks at a run: what every run has, and what its config asks for."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.train.callbacks.callback import Seen, Watcher
from loratools.train.callbacks.logging import Teller
from loratools.train.callbacks.loss_by_image import Tally
from loratools.train.callbacks.progress import Progress
from loratools.train.callbacks.sample_prompts import Wanted
from loratools.train.callbacks.samples import Sampler
from loratools.train.callbacks.tensorboard import Board, Curves, NoBoard
from loratools.train.callbacks.validation import Validator, validates


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
