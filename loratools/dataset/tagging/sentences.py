"""Sentences for pictures, kept as they come, so that an interruption costs one at most."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from loratools.dataset.tagging.captioner import TIMEOUT, Captioner
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.digests import file_digest
from loratools.errors import DatasetError, FileError
from loratools.files import json_lines
from loratools.line_program import command_files
from loratools.progress import OnProgress, counted


@dataclass(frozen=True)
class SentenceRequest:
    """A captioner.

    Attributes:
        command: the program; see :mod:`.captioner`.
        place: ``after`` the tags, or ``instead`` of them (the tags are set aside).
        timeout: seconds that one answer may take.
    """

    command: str
    place: Literal["after", "instead"] = "after"
    timeout: float = TIMEOUT


def add_sentences(
    folder: DatasetFolder,
    pictures: Sequence[Picture],
    request: SentenceRequest,
    existing: str,
    on_progress: OnProgress | None = None,
) -> tuple[list[Picture], int, list[str]]:
    """Pictures with their sentences, how many these are, and a note for each picture that has none.

    A picture that has one keeps it, unless ``existing`` is ``replace``. What the same command, of the same files, said
    of the same bytes before is taken again.

    Raises:
        DatasetError, OptionError: if the program cannot be started or does not answer; what it said so far is kept.
    """
    kept = _KeptSentences(folder.record_folder, request.command)
    result, notes, count = list[Picture](), list[str](), 0
    wanted = {picture.file for picture in pictures if existing == "replace" or not picture.sentence}
    program: Captioner | None = None
    try:
        for picture in counted(pictures, len(pictures), on_progress):
            if picture.file not in wanted:
                result.append(picture)
                continue
            path = folder.path_of(picture)
            text = kept.of(path)
            if not text:
                program = program or Captioner(request.command, timeout=request.timeout)
                said = program.ask(path, [tag.name for tag in picture.tags])
                if said.error:
                    notes.append(f"no sentence for {picture.file}: {said.error}")
                text = said.text
                kept.add(path, text)
            count += bool(text)
            result.append(_with_sentence(picture, text, request) if text else picture)
    finally:
        if program is not None:
            program.close()
    return result, count, notes


def _with_sentence(picture: Picture, text: str, request: SentenceRequest) -> Picture:
    if request.place == "instead":
        return replace(picture, tags=(), set_aside=(*picture.set_aside, *picture.tags), sentence=text)
    return replace(picture, sentence=text)


class _KeptSentences:
    """What one command said, by the bytes of pictures: ``.dataset/sentences/HASH.jsonl``. Another one begins when the
    command changes, or a file that it names, such as its script."""

    def __init__(self, record_folder: Path, command: str) -> None:
        made_of = "".join(f"\n{file_digest(file)}" for file in command_files(command))
        name = hashlib.sha256(f"{command}{made_of}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self._path = record_folder / "sentences" / f"{name}.jsonl"
        self._texts = dict[str, str]()
        if self._path.exists():
            for line in json_lines(self._path.read_text(encoding="utf-8", errors="replace")):
                try:
                    value = json.loads(line)
                    self._texts[value["picture"]] = str(value["text"])
                except (ValueError, KeyError, TypeError):  # cut short: it is asked for again
                    continue

    def of(self, path: Path) -> str:
        """What was said of a picture; empty if nothing."""
        try:
            return self._texts.get(file_digest(path), "")
        except OSError as error:
            raise DatasetError(f"the image {path} cannot be read ({error.strerror or error})") from error

    def add(self, path: Path, text: str) -> None:
        """Keep a sentence, on disk at once."""
        if not text:
            return
        digest = file_digest(path)
        self._texts[digest] = text
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(f"\n{json.dumps({'picture': digest, 'text': text}, ensure_ascii=False)}")
        except OSError as error:
            raise FileError(
                f"sentences cannot be kept in {self._path} ({error.strerror or error}); what is there stays, and the "
                "same command goes on from it once there is room"
            ) from error
