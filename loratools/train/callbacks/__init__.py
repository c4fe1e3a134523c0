"""What watches a training run: losses on record, progress bars, validation, samples, TensorBoard.

A new callback is a file with a subclass of ``Callback``, and a line in :func:`make_callbacks`.
"""

from __future__ import annotations

from collections.abc import Sequence

from loratools.train.callbacks.callback import Callback, RunView
from loratools.train.callbacks.logging import LogCallback
from loratools.train.callbacks.loss_by_image import LossByImage
from loratools.train.callbacks.progress import Progress
from loratools.train.callbacks.sample_prompts import SampleRequest
from loratools.train.callbacks.samples import SampleCallback
from loratools.train.callbacks.tensorboard import NoTensorBoard, TensorBoard, TensorBoardCallback
from loratools.train.callbacks.validation import ValidationCallback, validates


def make_callbacks(
    run: RunView, bar: Progress, board: TensorBoard | NoTensorBoard, samples: Sequence[SampleRequest], steps: int
) -> list[Callback]:
    """What every run has, and what its config asks for, in the order in which the loop calls them.

    Args:
        samples: pictures to draw.
        steps: optimiser steps of the whole run.
    """
    callbacks: list[Callback] = [
        LogCallback(run.log, bar, run.config.epochs),
        TensorBoardCallback(board),
        LossByImage(run, board),
    ]
    if validates(run.config, run.dataset):
        callbacks.append(ValidationCallback(run, board, bar, steps))
    if samples:
        callbacks.append(SampleCallback(run, samples, board, bar))
    return callbacks
