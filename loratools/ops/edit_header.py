"""What a LoRA file says of itself, changed: title, trigger words, tags, a picture; its tensors stay byte for byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import ERROR, KEY
from loratools.adapter.files.rewrite_header import HASHES, rewrite_header, true_hashes
from loratools.adapter.header import Header, encode_header, legacy_hash, read_header
from loratools.digests import file_digest
from loratools.errors import FileError, LoratoolsError, OptionError, did_you_mean
from loratools.imaging.thumbnail import THUMBNAIL, thumbnail_url
from loratools.ops.text_table import table

# what may not be set by hand: it is computed, or says what the tensors are and how they were made
_COMPUTED = (*HASHES, KEY, ERROR, "ss_network_dim", "ss_network_alpha", "ss_network_module")
_SPEC = (  # the names that the ModelSpec has, of which a near miss is a mistake
    "sai_model_spec",
    "architecture",
    "implementation",
    "title",
    "resolution",
    "description",
    "author",
    "date",
    "implementation_version",
    "license",
    "usage_hint",
    "thumbnail",
    "tags",
    "merged_from",
    "trigger_phrase",
    "prediction_type",
    "timestep_range",
    "encoder_layer",
    "preprocessor",
    "is_negative_embedding",
)
_SPEC_VERSION = "modelspec.sai_model_spec", "1.0.1"
_NAMED = ("title", "trigger", "tags", "description", "author", "license", "usage_hint")
_NOTHING = "there is nothing to change; give a title, trigger words, tags or a preview"
_SHOWN = 48  # characters of a text that the table shows


@dataclass(frozen=True)
class HeaderEdit:
    """What is changed in a header; None leaves an entry as it is, and an empty text takes it away.

    Args:
        title, trigger, tags, description, author, license, usage_hint: the ``modelspec`` entries of these names
            (``trigger`` is ``trigger_phrase``).
        preview: a picture that becomes ``modelspec.thumbnail``.
        entries: any other ``modelspec.*`` and ``ss_*`` entries, by their whole names.
        remove: entries that are taken away.
    Raises:
        OptionError: for an entry that is computed, or that no program reads.
    """

    title: str | None = None
    trigger: str | None = None
    tags: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    usage_hint: str | None = None
    preview: Path | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.title is not None and len(self.title.splitlines()) > 1:
            raise OptionError("the title has several lines; it is one, and more goes into the description")
        for key in (*self.entries, *self.remove):
            _check_key(key)

    def texts(self) -> dict[str, str]:
        """Every entry that is set or (empty) taken away.

        Raises:
            FileError: if the preview cannot be read.
        """
        names = {name: "trigger_phrase" if name == "trigger" else name for name in _NAMED}
        texts = {f"modelspec.{names[name]}": value for name in _NAMED if (value := getattr(self, name)) is not None}
        texts |= dict.fromkeys(self.remove, "") | dict(self.entries)
        return texts if self.preview is None else {**texts, THUMBNAIL: thumbnail_url(self.preview)}


@dataclass(frozen=True)
class EditedHeader:
    """A file whose header was edited.

    Attributes:
        digest: sha256 after the header, which stays.
        changed: entry -> (before, after); None where it is absent.
        written: whether a file was written; False where there was nothing to change.
    """

    path: Path
    digest: str
    changed: Mapping[str, tuple[str | None, str | None]]
    written: bool
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """``{"path","digest","written","changed": {KEY: {"from","to"}}}``."""
        changed = {key: {"from": before, "to": after} for key, (before, after) in self.changed.items()}
        return {"path": str(self.path), "digest": self.digest, "written": self.written, "changed": changed}

    def text(self) -> str:
        """The file, and a table of what changed."""
        if not self.changed:
            return f"{self.path}  nothing to change: its header says so already"
        rows = [[key, _clipped(before), _clipped(after)] for key, (before, after) in self.changed.items()]
        return f"{self.path}  tensors as they were\n{table([['entry', 'before', 'now'], *rows], left=(0, 1, 2))}"


def edit_header(
    source: str | os.PathLike[str],
    edit: HeaderEdit,
    out: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
) -> EditedHeader:
    """Write ``source`` with an edited header to ``out``, or in its own place, whole or not at all.

    All three hashes in the header are true afterwards. How the file was made stays in it as it is.

    Args:
        force: overwrite a file ``out`` that holds other tensors.
    Raises:
        FileError: if a file cannot be read or written, or ``out`` holds other tensors.
        FormatError: if ``source`` is no safetensors file.
        OptionError: if nothing is to be changed.
    """
    lora, target = Path(source), Path(source if out is None else out)
    texts = edit.texts()
    if not texts:
        raise OptionError(_NOTHING)
    header = read_header(lora)
    digest = file_digest(lora, skip=header.data_start)
    changed, removed = _edited(header, texts, lora, digest)
    if target.exists() and not _same_file(lora, target):
        _guard(target, digest, force)
    elif not changed:
        return EditedHeader(target, digest, {}, written=False)
    entries = {key: after for key, (_, after) in changed.items() if after is not None}
    written = rewrite_header(lora, target, entries, remove=removed, force=True)
    if written != digest:
        raise FileError(f"{lora} changed while it was being read; run the command again")
    return EditedHeader(target, digest, changed, written=True)


def check_edit(
    source: str | os.PathLike[str], edit: HeaderEdit, out: str | os.PathLike[str] | None = None, *, force: bool = False
) -> None:
    """Raise what :func:`edit_header` would raise before it writes."""
    lora, target, header = Path(source), Path(source if out is None else out), read_header(source)
    if not edit.texts():
        raise OptionError(_NOTHING)
    if target.exists() and not _same_file(lora, target):
        _guard(target, file_digest(lora, skip=header.data_start), force)


def _edited(
    header: Header, texts: Mapping[str, str], lora: Path, digest: str
) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    """What differs afterwards, hashes included, and the entries that go."""
    before = dict(header.metadata)
    removed = [key for key, text in texts.items() if not text]
    after = {key: text for key, text in {**before, **texts}.items() if key not in removed}
    if any(key.startswith("modelspec.") for key in after):
        after.setdefault(*_SPEC_VERSION)
    facts = {key: text for key, text in after.items() if key.startswith("ss_")}
    head = encode_header(dict(sorted(facts.items())), header.tensors)
    after |= true_hashes(digest, legacy_hash(lora, head=head, skip=header.data_start))
    keys = sorted({*before, *after})
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}, removed


def _guard(target: Path, digest: str, force: bool) -> None:
    """Raise FileError if the file ``target`` would be lost: it holds other tensors."""
    if target.is_dir():
        raise FileError(f"{target} is a folder; give a file name ending in .safetensors")
    try:
        same = file_digest(target, skip=read_header(target).data_start) == digest
    except LoratoolsError:
        same = False
    if not same and not force:
        raise FileError(f"{target} exists and holds other tensors; choose another name, or use `force=True`")


def _check_key(key: str) -> None:
    if key in _COMPUTED or key.startswith("sshs_"):
        raise OptionError(f"{key} is computed from the file and cannot be set or removed")
    if not key.startswith(("modelspec.", "ss_")) or key in ("modelspec.", "ss_"):
        raise OptionError(f"'{key}' is no entry that programs read; an entry begins with modelspec. or ss_")
    name = key.removeprefix("modelspec.")
    if name != key and name not in _SPEC and (hint := did_you_mean(name, _SPEC)):
        raise OptionError(f"there is no modelspec entry '{name}'{hint}")


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _clipped(text: str | None) -> str:
    if text is None:
        return "-"
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
