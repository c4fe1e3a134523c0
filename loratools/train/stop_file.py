"""A file that asks a run to stop, on every system and whoever started it.

``NAME-state/stop`` with the word ``step`` or ``epoch`` in it ends a run after its step or its epoch, with its state
saved. The run deletes the file.
"""

from __future__ import annotations

from pathlib import Path

from loratools.files import write_text

STEP, EPOCH = "step", "epoch"


def ask_to_stop(file: Path, after: str) -> None:
    """Ask the run whose file this is to stop.

    Args:
        file: see :attr:`.output.run_folder.RunFolder.stop`.
        after: :data:`STEP` or :data:`EPOCH`.
    """
    write_text(file, after)
