"""An analysis as a picture."""

from __future__ import annotations

import os
from pathlib import Path

from loratools.imaging.figure import new_figure, save_figure
from loratools.ops.analysis.analyze import Analysis


def plot(analysis: Analysis, path: str | os.PathLike[str]) -> Path:
    """Draw norm and effective rank by block (and the cosine of two files) as a picture, whole or not at all.

    Raises:
        FileError: if it cannot be written.
    """
    count = 2 if analysis.total is None else 3
    figure = new_figure(9, 2.6 * count)
    axes = figure.subplots(count, 1)
    blocks = list(dict.fromkeys(name for own in analysis.blocks for name in own))
    width = 0.8 / len(analysis.paths)
    for index, (lora, own) in enumerate(zip(analysis.paths, analysis.blocks, strict=True)):
        centres = [position + index * width for position in range(len(blocks))]
        norms = [own[b].norm if b in own else 0 for b in blocks]
        axes[0].bar(centres, norms, width, label=lora.stem)
        axes[1].bar(centres, [own[b].effective_rank if b in own else 0 for b in blocks], width)
    axes[0].legend(fontsize=8)
    titles = ["norm", "effective rank", "cosine"]
    if analysis.total is not None:
        cosines = [analysis.likeness[b].cosine if b in analysis.likeness else 0 for b in blocks]
        axes[2].bar(range(len(blocks)), cosines)
    for axis, title in zip(axes, titles, strict=False):
        axis.set_ylabel(title)
        axis.set_xticks(range(len(blocks)), blocks, fontsize=7)
    return save_figure(figure, path)
