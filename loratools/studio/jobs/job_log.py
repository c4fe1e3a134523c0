"""A job's log by the numbers of its lines, read from where they stand without reading what is before."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from loratools.studio.api.jobs import JobLog, LogLine

_EACH = 500  # lines between two places that are kept
_MOST = 2_000  # lines of one answer
_LONGEST = 4_000  # letters of a line
_PIECE = 1 << 20


@dataclass
class LogReader:
    """Counts the lines of one log as it grows."""

    path: Path
    count: int = 0
    _read: int = 0
    _places: list[int] = field(default_factory=lambda: [0])  # where lines 0, 500, 1000 ... begin
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> bool:
        """Count what was appended; whether there was a whole line."""
        with self._guard:
            before = self.count
            try:
                with open(self.path, "rb") as stream:
                    stream.seek(self._read)
                    while piece := stream.read(_PIECE):
                        end = piece.rfind(b"\n") + 1
                        if not end:
                            break
                        self._count(piece[:end])
                        stream.seek(self._read)
            except OSError:
                return False
            return self.count > before

    def _count(self, whole: bytes) -> None:
        place = -1
        while (place := whole.find(b"\n", place + 1)) >= 0:
            self.count += 1
            if self.count % _EACH == 0:
                self._places.append(self._read + place + 1)
        self._read += len(whole)

    def after(self, number: int) -> JobLog:
        """The lines after the one of this number, counted from 1; 0 for all."""
        self.refresh()
        number = max(0, number)
        with self._guard:
            if number >= self.count:
                return JobLog(lines=[], more=False)
            known = number // _EACH
            place = self._places[known]
        lines: list[LogLine] = []
        with open(self.path, "rb") as stream:
            stream.seek(place)
            for current in range(known * _EACH + 1, self.count + 1):
                text = stream.readline()
                if current > number:
                    shown = text.decode("utf-8", "replace").rstrip("\r\n")[:_LONGEST]
                    lines.append(LogLine(number=current, text=shown))
                if len(lines) == _MOST:
                    break
        return JobLog(lines=lines, more=bool(lines) and lines[-1].number < self.count)
