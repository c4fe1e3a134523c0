"""An engine without a model: pictures whose colours are a function of the wish, some milliseconds after it.

For tests of the page and of the way between hand and picture: ``loratools studio --fake-engine``.
"""

from __future__ import annotations

import hashlib
import io
import queue
import threading
from collections.abc import Mapping

from loratools.errors import StudioError
from loratools.studio.api.words import Failure, quoted_failure
from loratools.studio.live.engine import Engine
from loratools.studio.live.frame import Frame
from loratools.studio.live.schedule import Job
from loratools.studio.live.wish import PictureWish

SECONDS = 0.005
_QUICK_STEPS, _STEPS = 5, 20
_SIZE = (128, 128)
_BROKEN = "fail"  # a prompt that holds this word cannot be drawn


class FakeEngine(Engine):
    """Answers every wish after ``seconds``; a whole picture takes four times as long.

    Args:
        seconds: of a quick picture.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._stopped: set[int] = set()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Stop drawing, and end the thread."""
        super().close()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _begin(self, job: Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="fake engine", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _stop(self, job: Job) -> None:
        self._stopped.add(job.number)

    def _release(self) -> None:
        if self._schedule.running is not None:
            self._stopped.add(self._schedule.running.number)

    def _work(self) -> None:
        wait = threading.Event()
        while (job := self._jobs.get()) is not None:
            steps = _QUICK_STEPS if job.quick else _STEPS
            result: Frame | Failure | None = None
            for step in range(1, steps + 1):
                wait.wait(self._seconds / _QUICK_STEPS)
                if job.number in self._stopped:
                    break
                self._progress(step, steps)
            else:
                result = _made(job)
            self._stopped.discard(job.number)
            self._ended(result)


def _made(job: Job) -> Frame | Failure:
    if _BROKEN in job.wish.sampling.prompt.split():
        return quoted_failure(StudioError("this prompt is one that fails", remedy="use another"))
    return picture(job.wish)


def colours(wish: PictureWish) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The picture's two colours, of its upper and its lower half.

    Above, red is the mean strength (0 is 128, 1 is 192), green and blue are the weights of the first and the last block
    that are named; below, a digest of prompt and seed.
    """
    weights = [term.weight for term in wish.terms]
    named = [weight for term in wish.terms if isinstance(term.vector, Mapping) for weight in term.vector.values()]
    strength = sum(weights) / len(weights) if weights else 0.0
    ends = (named[0], named[-1]) if named else (1.0, 1.0)
    upper = (_level(strength), _level(ends[0]), _level(ends[1]))
    below = hashlib.sha256(f"{wish.sampling.prompt}\0{wish.sampling.seed}".encode()).digest()
    return upper, (below[0], below[1], below[2])


def picture(wish: PictureWish) -> Frame:
    """The wish's picture: JPEG while dragging, PNG when resting, as the real engine's."""
    from PIL import Image

    height, width = wish.sampling.size or _SIZE
    upper, lower = colours(wish)
    image = Image.new("RGB", (width, height), lower)
    image.paste(upper, (0, 0, width, height // 2))
    data, quick = io.BytesIO(), wish.quality == "drag"
    if quick:
        image.save(data, "JPEG", quality=90, subsampling=0)
    else:
        image.save(data, "PNG", compress_level=1)
    return Frame("jpeg" if quick else "png", width, height, data.getvalue(), preview=quick)


def _level(weight: float) -> int:
    return max(0, min(255, round(128 + 64 * weight)))
