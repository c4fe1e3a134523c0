"""The look at a folder of pictures; nothing in the folder is changed."""

from __future__ import annotations

from pathlib import Path

from loratools.dataset.detect.detectors import Detectors
from loratools.dataset.encodings import AUTO
from loratools.dataset.look.advice import advice
from loratools.dataset.look.report import LookReport
from loratools.dataset.look.seen import see
from loratools.dataset.tags.store import DatasetFolder
from loratools.progress import OnProgress


def look(
    folder: str | Path,
    detectors: Detectors | None = None,
    *,
    resolution: int = 512,
    encoding: str = AUTO,
    on_progress: OnProgress | None = None,
) -> LookReport:
    """Read all that lies in a folder, and say what the guides would.

    Args:
        detectors: what finds faces, bodies and text; without any, classes go by tags and ratio, and text by tags.
        resolution: at which will be trained, in pixels.
        encoding: of captions and sidecars that are not Unicode.
    Raises:
        DatasetError: if the folder or its record cannot be read.
    """
    seen = see(DatasetFolder.open(folder, encoding), detectors or Detectors(), on_progress)
    return LookReport(seen, tuple(advice(seen, resolution)))
