"""A tagger's probabilities, kept: so that another threshold costs no second look at the pictures.

``.dataset/probabilities/NAME-DIGEST.jsonl`` has a line for the tagger and then one a picture, which is known again by
its bytes. Every batch is added as it is done: an interruption loses one at most.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from loratools.dataset.tagging.labels import Family, Labels
from loratools.dataset.tags.names import stable_name
from loratools.digests import file_digest
from loratools.errors import DatasetError, FileError, FormatError
from loratools.files import json_lines, write_text

FOLDER: Final = "probabilities"
FLOOR: Final = 0.05  # what is less probable is not kept, but for the highest of each category
_DIGITS = 4
_KEPT = ("family", "digest", "labels")  # of a tagger's facts, beside its name


@dataclass(frozen=True)
class Scores:
    """What a tagger says of one picture.

    Attributes:
        tags: probability by tag, by category, in the tagger's own order; all ratings.
        below: the highest probability of each category that was not kept, which MCut needs.
    """

    tags: Mapping[str, Mapping[str, float]]
    below: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, probabilities: npt.NDArray[Any], labels: Labels) -> Scores:
        """Those of one row of a tagger's output.

        Raises:
            FormatError: if a value is no probability.
        """
        values = np.asarray(probabilities, dtype=np.float64)
        if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise FormatError(
                f"the tagger of {labels.path.name} gave values from {values.min():g} to {values.max():g}, which are no "
                "probabilities; it is damaged, or of another family than its tags say"
            )
        tags: dict[str, dict[str, float]] = {}
        below: dict[str, float] = {}
        for name, category, value in zip(labels.names, labels.categories, values.tolist(), strict=True):
            if value > FLOOR or category == "rating":
                tags.setdefault(category, {})[name] = round(min(max(value, 0.0), 1.0), _DIGITS)
            elif value > below.get(category, 0.0):
                below[category] = round(value, _DIGITS)
        return cls(tags, below)


@dataclass(frozen=True)
class TaggerFacts:
    """Which tagger probabilities are of: its name, its family, and the digests of its file and of its list of tags
    (empty in what was kept before that was written down)."""

    name: str
    family: Family
    digest: str
    labels: str = ""

    @property
    def file_name(self) -> str:
        """Of the file that keeps its probabilities."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.name)[:60]}-{self.digest[:12]}.jsonl"


class KeptProbabilities:
    """The kept probabilities of one tagger in one dataset folder."""

    def __init__(self, path: Path, facts: TaggerFacts) -> None:
        self.path = path
        self.facts = facts
        self._scores = dict[str, Scores]()
        self._root = path.parents[2]  # ROOT/.dataset/probabilities/NAME.jsonl
        self._files = dict[tuple[str, int, int, int], str]()  # (stable name, size, times) -> digest
        if path.exists():
            self._read()

    @classmethod
    def open(cls, record_folder: Path, facts: TaggerFacts) -> KeptProbabilities:
        """Those of a tagger, read if there are some; by another list of tags it is another tagger."""
        path = record_folder / FOLDER / facts.file_name
        with contextlib.suppress(DatasetError):  # there is none yet
            if _facts(path).labels not in ("", facts.labels):
                path = path.with_name(f"{path.stem}-{facts.labels[:8]}.jsonl")
        return cls(path, facts)

    @classmethod
    def last(cls, record_folder: Path) -> KeptProbabilities:
        """Those that were added to last, of whatever tagger.

        Raises:
            DatasetError: if there are none.
        """
        files = sorted((record_folder / FOLDER).glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        if not files:
            raise DatasetError(
                f"no tagger has looked at {record_folder.parent} yet; name one by `tagger=`: a file, or a hub id such "
                "as SmilingWolf/wd-swinv2-tagger-v3"
            )
        return cls(files[-1], _facts(files[-1]))

    def of(self, path: Path) -> Scores | None:
        """What is kept of a picture; None where the tagger has not seen these bytes.

        Raises:
            DatasetError: if the picture cannot be read.
        """
        return self._scores.get(self._digest(path))

    def add(self, scores: Iterable[tuple[Path, Scores]]) -> None:
        """Keep what a tagger says of some pictures, on disk at once.

        Raises:
            FileError: if that cannot be written; what was kept before is whole.
        """
        lines = []
        for path, each in scores:
            digest = self._digest(path)
            stat = path.stat()
            self._scores[digest] = each
            entry = {"picture": digest, "name": self._name(path), "size": stat.st_size, "time": stat.st_mtime_ns}
            entry["changed"] = stat.st_ctime_ns
            lines.append(json.dumps({**entry, "tags": each.tags, "below": each.below}, ensure_ascii=False))
        try:
            if not self.path.exists():
                facts = {"tagger": self.facts.name, **{key: getattr(self.facts, key) for key in _KEPT}}
                write_text(self.path, f"{json.dumps(facts, ensure_ascii=False)}\n")
            with self.path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise FileError(
                f"probabilities cannot be kept in {self.path} ({error.strerror or error}); what is there stays, and "
                "the same command goes on from it once there is room"
            ) from error

    def _name(self, path: Path) -> str:
        return stable_name(path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path))

    def _digest(self, path: Path) -> str:
        try:
            stat = path.stat()
            key = self._name(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            if key not in self._files:
                self._files[key] = file_digest(path)
        except OSError as error:
            raise DatasetError(f"the image {path} cannot be read ({error.strerror or error})") from error
        return self._files[key]

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        whole, _, torn = text.rpartition("\n")  # the last line of a write that was cut short has no end
        if torn:
            write_text(self.path, f"{whole}\n" if whole else "")
        for line in json_lines(whole)[1:]:
            try:
                value = json.loads(line)
                scores = Scores(value["tags"], value["below"])
                self._scores[value["picture"]] = scores
                self._files[value["name"], value["size"], value["time"], value.get("changed", 0)] = value["picture"]
            except (ValueError, KeyError, TypeError):  # a damaged line costs one more look at its picture
                continue


def _facts(path: Path) -> TaggerFacts:
    try:
        with path.open(encoding="utf-8") as stream:
            value = json.loads(stream.readline())
        facts = TaggerFacts(str(value["tagger"]), value["family"], str(value["digest"]), str(value.get("labels", "")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); delete it, and name the tagger again") from error
    if facts.family not in get_args(Family):
        raise DatasetError(f"{path} is of an unknown kind of tagger; delete it, and name the tagger again")
    return facts
