"""Pictures shown to a tagger: in batches, read ahead, each batch's probabilities kept as soon as they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from loratools.dataset.images import open_image
from loratools.dataset.tagging.probabilities import KeptProbabilities, Scores
from loratools.dataset.tagging.tagger import Tagger, TaggerFiles
from loratools.errors import DatasetError
from loratools.progress import OnProgress

_BATCH_CPU: Final = 4
_BATCH_GPU: Final = 32
_READERS: Final = 4  # threads that decode pictures while others are being looked at


@dataclass(frozen=True)
class LookedAt:
    """What a tagger says of pictures.

    Attributes:
        scores: by path; a picture that cannot be read has none, and a sentence in ``notes``.
        shown: how many it was shown now.
    """

    scores: Mapping[Path, Scores]
    shown: int
    notes: tuple[str, ...]


def look_at(
    paths: Sequence[Path],
    kept: KeptProbabilities,
    files: TaggerFiles | None,
    device: str = "auto",
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> LookedAt:
    """The tagger's probabilities for pictures: those that are kept, and the others by showing them to it.

    Args:
        files: the tagger, which is loaded only if some picture is new to it; None: new ones get a note instead.
    Raises:
        FormatError, UnavailableError: if the tagger cannot be loaded or run.
        FileError: if its probabilities cannot be kept.
    """
    scores, new, notes = dict[Path, Scores](), list[Path](), list[str]()
    for path in paths:
        try:
            known = kept.of(path)
        except DatasetError as error:
            notes.append(str(error))
            continue
        if known is None:
            new.append(path)
        else:
            scores[path] = known
    if new and files is None:
        several = f"{len(new)} pictures are" if len(new) > 1 else "1 picture is"
        notes.append(
            f"{several} new to {kept.facts.name} ({new[0].name} ...), and stay as they are: name it by `tagger=`"
        )
        return LookedAt(scores, 0, tuple(notes))
    shown = 0
    if files is not None and kept.path.exists():
        with contextlib.suppress(OSError):  # of a folder that is only read
            kept.path.touch()  # it is the last one used
    if new and files is not None:
        tagger = Tagger(files, device)
        size = tagger.batch or batch_size or (_BATCH_GPU if tagger.on_gpu else _BATCH_CPU)
        for batch in _batches(tagger, new, size, notes, on_progress):
            rows = tagger.probabilities([pixels for _, pixels in batch])
            said = [(path, Scores.of(row, tagger.labels)) for (path, _), row in zip(batch, rows, strict=True)]
            kept.add(said)
            scores.update(said)
            shown += len(said)
    return LookedAt(scores, shown, tuple(notes))


_Prepared = tuple[Path, npt.NDArray[np.float32]]


def _batches(
    tagger: Tagger, paths: Sequence[Path], size: int, notes: list[str], on_progress: OnProgress | None
) -> Iterator[list[_Prepared]]:
    """Batches of pictures as the tagger wants them; what cannot be read gets a note and is left out."""

    def prepared(path: Path) -> npt.NDArray[np.float32] | DatasetError:
        try:
            return tagger.prepared(open_image(path))
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(_READERS) as readers:
        waiting = [readers.submit(prepared, path) for path in paths[: 2 * size]]
        batch: list[_Prepared] = []
        for number, path in enumerate(paths):
            pixels = waiting.pop(0).result()
            if number + 2 * size < len(paths):
                waiting.append(readers.submit(prepared, paths[number + 2 * size]))
            if isinstance(pixels, DatasetError):
                notes.append(str(pixels))
            else:
                batch.append((path, pixels))
            if batch and (len(batch) == size or number == len(paths) - 1):
                yield batch
                batch = []
            if on_progress is not None:
                on_progress(number + 1, len(paths))
