"""Every error that a user can cause, as one tree.

::

    LoratoolsError              one sentence for a person: what, where, and the remedy
    ├── FileError               a path is missing, unreadable, or would be overwritten
    │   ├── HeldError           another process is writing there at this moment
    │   ├── LoraNotFoundError   no LoRA of a name in the folders that were looked in
    │   └── SeveralRunsError    a folder of several training runs where one LoRA is needed
    ├── FormatError             bytes that are not what their place asks for
    │   ├── UnknownKeysError    a LoRA file with keys that no table knows
    │   ├── NeedsBaseError      a DoRA, whose difference depends on the base's weights
    │   └── NonFiniteError      NaN or infinity in a tensor
    ├── ShapeError              two adapters, or an adapter and a base, disagree over a module
    ├── RankError               a rank rule that cannot be met
    ├── BlockError              an unknown block, preset, scheme, or a vector of a wrong length
    ├── MergeStringError        text such as ``A:1:GP1,B:-1:GP2`` that cannot be read
    ├── BaseModelError          a base that is not a base, or lacks a part
    ├── PromptError             a prompt or prompt file that cannot be used
    ├── GridError               weights, rows or sizes that make no grid
    │   └── MemoryShortError    not even one picture fits the device's memory
    ├── MeasureError            a measure of pictures that cannot tell, or that failed
    │   └── UnsureError         a person's answers say nothing yet that holds for other pictures; more of them may
    ├── DatasetError            images or captions that cannot be trained on
    ├── TrainingError           settings that cannot train, or a loss that is not a number
    ├── TuneError               a search for a block vector that cannot begin, or has nothing to go by
    ├── AnswersWantedError      pictures wait for a person's marks or choices; then the same call goes on
    ├── BatchError              some files of a batch failed; the others are done
    ├── OptionError             an option's value that is none of those it may have
    ├── UnavailableError        a device or a package that this machine lacks, and another may have
    ├── LaunchError             of several processes one is missing, gone or was started wrongly
    │   └── PeerError           another process of the same launch stopped, and says itself why
    ├── RecipeError             a recipe or config that cannot be read or resolved
    ├── StudioError             a request of the studio's page that cannot be met
    └── PocketError             the pocket base, its drawings or its judge used wrongly

The command line prints the message as ``error: ...`` and exits with 1; a library user catches the class. An option
that is a remedy is written in a message as a program gives it, `` `force=True` `` or `` `device=cpu` ``; the command
line spells it as its flag.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path


class LoratoolsError(Exception):
    """Base of everything that loratools raises on purpose; ``str(error)`` is written for the user."""


class FileError(LoratoolsError):
    """A path is missing, unreadable, or exists and is not ours to overwrite."""


class LoraNotFoundError(FileError):
    """No LoRA goes by a name in the folders that were looked in."""


class SeveralRunsError(FileError):
    """A folder holds several training runs.

    Attributes:
        names: of the runs; ``FOLDER/NAME`` is one of them.
    """

    def __init__(self, message: str, names: Iterable[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


class HeldError(FileError):
    """Another process holds what would be written; it is free again when that process has ended."""


class FormatError(LoratoolsError):
    """The bytes of a file are not what its place asks for (truncated, not safetensors, not a LoRA)."""


class UnknownKeysError(FormatError):
    """A LoRA file holds tensor names that no table knows; nothing is dropped in silence.

    ``allowable`` tells whether the file can be read once the keys are allowed or dropped: those of a kind that is no
    sum (OFT and its like) cannot.
    """

    def __init__(self, message: str, *, allowable: bool = False) -> None:
        super().__init__(message)
        self.allowable = allowable


class NeedsBaseError(FormatError):
    """A LoRA file's difference depends on the base's weights (DoRA), and no base was given."""


class NonFiniteError(FormatError):
    """A tensor holds NaN or infinity."""


class ShapeError(LoratoolsError):
    """Two adapters, or an adapter and its base, disagree over the shape of a module."""


class RankError(LoratoolsError):
    """A rank rule asks for something that does not exist."""


class BlockError(LoratoolsError):
    """An unknown block, preset or scheme, or a block vector of a wrong length."""


class UnlistedBlocksError(BlockError):
    """A short vector leaves modules open, and nothing says what they get."""


class MergeStringError(LoratoolsError):
    """A merge string such as ``A:1:GP1,B:-1:GP2`` cannot be read."""


class BaseModelError(LoratoolsError):
    """A base model that is none, lacks a part, or cannot be loaded."""


class PromptError(LoratoolsError):
    """A prompt, or a file of prompts, that cannot be used."""


class GridError(LoratoolsError):
    """Rows, axes, weights or sizes that make no grid.

    ``axis`` is where the axis stands that is meant (``x``, ``y``, ``z``), ``option`` the setting that is meant; both
    are empty where no single one is.
    """

    def __init__(self, message: str, *, axis: str = "", option: str = "") -> None:
        super().__init__(message)
        self.axis = axis
        self.option = option


class MemoryShortError(GridError):
    """Not even one picture of the size that is asked for fits the device's memory."""


class MeasureError(LoratoolsError):
    """A measure of pictures that cannot be made, failed, or cannot tell pictures apart."""


class UnsureError(MeasureError):
    """What a person said of pictures does not tell others apart better than by chance; more answers may help."""


class NothingToAskError(MeasureError):
    """Everything that was drawn has been shown to a person already."""


class DatasetError(LoratoolsError):
    """Images or captions that cannot be trained on."""


class TrainingError(LoratoolsError):
    """Settings that cannot train, or a loss that stopped being a number."""


class TuneError(LoratoolsError):
    """A search for a block vector that is asked for in a way that makes no sense."""


class AnswersWantedError(LoratoolsError):
    """Pictures lie ready for a person to mark or to choose from; with the answers the same call goes on.

    Attributes:
        page: the HTML page that shows them.
        answers: where the page's ``votes.json`` is looked for.
    """

    def __init__(self, message: str, page: Path, answers: Path) -> None:
        super().__init__(message)
        self.page = page
        self.answers = answers


class BatchError(LoratoolsError):
    """Some files of a batch failed, which the message tells one by one; what was written of the others stays."""


class OptionError(LoratoolsError):
    """An option of an operation has a value that is none of those that it may have."""


class UnavailableError(LoratoolsError):
    """What was asked for needs a device or a package that this machine lacks; a plan can be made without it."""


class LaunchError(LoratoolsError):
    """Of several processes that a launcher started, one is missing, is gone, or was started wrongly."""


class PeerError(LaunchError):
    """Another process of this launch stopped, so this one cannot go on; that one's own error says why."""


class RecipeError(LoratoolsError):
    """A recipe or training config that cannot be read, resolved or run.

    Attributes:
        excerpt: the line that is meant, with carets under the word, where the mistake has a place in a file.
        place: the keys and list positions from the root of the file, or of the settings, to the value that is wrong;
            None where the mistake is not about one value.
        reason: the message without the file and the place.
    """

    def __init__(
        self, message: str, excerpt: str = "", *, place: tuple[str | int, ...] | None = None, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.excerpt = excerpt
        self.place = place
        self.reason = reason or message


class StudioError(LoratoolsError):
    """A request of the studio's page that cannot be met.

    Attributes:
        status: of HTTP, 400 where the request is wrong.
        remedy: what to do about it, as a sentence's end; None where the message says it.
        key: by which the page finds the same words in another language; empty where it has none.
        values: what stands in the message's places.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        remedy: str | None = None,
        key: str = "",
        values: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(message if remedy is None else f"{message}; {remedy}")
        self.short, self.status, self.remedy = message, status, remedy
        self.key, self.values = key, dict(values or {})


class PocketError(LoratoolsError):
    """The pocket base, its drawings or its judge used in a way that makes no sense."""


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`` (did you mean 'X'?)`` for the nearest of ``valid`` names, ignoring case, or an empty string."""
    by_lower = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[near[0]]}'?)" if near else ""
