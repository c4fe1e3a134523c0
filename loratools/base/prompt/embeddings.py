"""Textual-inversion embeddings: files of vectors that a prompt names by the file's name.

Read are ``.pt`` and ``.bin`` (as weights only, never as code) and ``.safetensors``: the WebUI's own
(``string_to_param``), diffusers' (one tensor under its token), and SDXL's (``clip_l`` and ``clip_g``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.prompt_chunks import FindEmbedding
from loratools.errors import FileError, FormatError, PromptError
from loratools.files import sha256

_ENDINGS = (".pt", ".bin", ".safetensors")


@dataclass(frozen=True, eq=False)
class Embedding:
    """One file: its name in prompts, the sha256 of its bytes, and vectors (n, c) for each text encoder that it is for.

    ``kind`` is the family of models that it is made for, by its widths.
    """

    name: str
    digest: str
    vectors: tuple[Tensor, ...]

    @property
    def kind(self) -> str:
        """Such as ``SD 1 (768)``."""
        widths = "+".join(str(own.shape[1]) for own in self.vectors)
        family = {"768": "SD 1", "1024": "SD 2", "768+1280": "SDXL"}.get(widths)
        return f"{family} ({widths})" if family else f"a text encoder of width {widths}"


class Embeddings:
    """The embeddings that a base's prompts may name, found by their names' tokens as the WebUI finds them: anywhere in
    a prompt, in any case, the longest name first."""

    def __init__(self, base: Base, embeddings: Iterable[Embedding]) -> None:
        self._tokenizer = base.tokenizer
        self._name = base.name
        self._widths = tuple(int(encoder.config.hidden_size) for encoder in base.text_encoders)
        self._most = base.tokenizer.model_max_length - 2
        self._known: dict[int, list[tuple[list[int], Embedding]]] = {}
        self._names: dict[str, Embedding] = {}
        for one in embeddings:
            if one.name.lower() in self._names:
                raise PromptError(f"two embeddings are called '{one.name}'; rename one of the files")
            self._names[one.name.lower()] = one
            ids = self._ids(one.name)
            if ids:
                self._known.setdefault(ids[0], []).append((ids, one))
        for known in self._known.values():
            known.sort(key=lambda item: len(item[0]), reverse=True)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Embedding]:
        return iter(self._names.values())

    def named(self, text: str) -> list[Embedding]:
        """The embeddings that one piece of text names, in order.

        Raises:
            PromptError: if one does not fit the base.
        """
        ids, embeddings, position = self._ids(text), [], 0
        while position < len(ids):
            match = self.at(ids, position)
            if match is not None:
                embeddings.append(match[0])
            position += match[1] if match is not None else 1
        return embeddings

    def at(self, ids: Sequence[int], position: int) -> tuple[Embedding, int] | None:
        """The embedding whose name begins at ``position`` of a text's tokens, and how many tokens the name takes.

        Raises:
            PromptError: if it does not fit the base.
        """
        for name, one in self._known.get(ids[position], ()):
            if list(ids[position : position + len(name)]) == name:
                self._check(one)
                return one, len(name)
        return None

    def finder(self, which: int) -> FindEmbedding:
        """:meth:`at` for one text encoder, with its vectors."""

        def find(ids: Sequence[int], position: int) -> tuple[Tensor, int] | None:
            match = self.at(ids, position)
            return None if match is None else (match[0].vectors[which], match[1])

        return find

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, truncation=False, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _check(self, one: Embedding) -> None:
        if tuple(own.shape[1] for own in one.vectors) != self._widths:
            own = "+".join(map(str, self._widths))
            raise PromptError(
                f"the embedding '{one.name}' is for {one.kind}, and '{self._name}' has a text encoder of width {own}; "
                "take its name out of the prompt, or its file out of the folder"
            )
        if len(one.vectors[0]) > self._most:
            raise PromptError(
                f"the embedding '{one.name}' has {len(one.vectors[0])} vectors, and {self._most} are the "
                "most that a chunk of a prompt holds; take its name out of the prompt"
            )


def read_embeddings(folder: Path, base: Base) -> Embeddings:
    """All embeddings in ``folder`` and the folders below it, by their files' names.

    One that is made for another kind of base is an error only when a prompt names it.

    Raises:
        FileError: if there is no such folder, or no embedding in it.
        FormatError: naming the file that is no embedding.
        PromptError: if two have the same name.
    """
    return Embeddings(base, [read_embedding(path) for path in _files(folder)])


def folder_digest(folder: Path) -> str:
    """sha256 over the names and the content of a folder's embeddings; FileError as for :func:`read`."""
    lines = "\n".join(f"{path.stem} {sha256(path)}" for path in _files(folder))
    return hashlib.sha256(lines.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileError(f"there is no folder of embeddings '{folder}'; name one that holds .pt or .safetensors files")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not files:
        raise FileError(f"'{folder}' holds no embedding; put .pt, .bin or .safetensors files into it")
    return files


def read_embedding(path: Path) -> Embedding:
    """One embedding; its vectors in float32.

    Raises:
        FormatError: if the file is none.
    """
    data = _content(path)
    vectors = tuple(_matrix(own, path) for own in _tensors(data, path))
    if len({len(own) for own in vectors}) != 1:
        raise FormatError(
            f"{path} has {' and '.join(str(len(own)) for own in vectors)} vectors for its two text "
            "encoders, and they must be as many; the file is damaged"
        )
    return Embedding(path.stem, sha256(path), vectors)


def _content(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            loaded: Mapping[str, Any] = load_file(path)
            return loaded
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError, UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise FormatError(
            f"{path} cannot be read as an embedding ({reason}); "
            "take it out of the folder, or convert it to .safetensors"
        ) from error
    if not isinstance(data, Mapping):
        raise FormatError(f"{path} is no embedding: it holds no tensors by name; take it out of the folder")
    return data


def _tensors(data: Mapping[str, Any], path: Path) -> list[Any]:
    """In the order of the text encoders."""
    own = data.get("string_to_param")
    if isinstance(own, Mapping):
        data = own
    if {"clip_l", "clip_g"} <= data.keys():
        return [data["clip_l"], data["clip_g"]]
    tensors = [value for value in data.values() if isinstance(value, Tensor)]
    if len(tensors) != 1:
        raise FormatError(
            f"{path} is no embedding: it holds {len(tensors)} tensors, not one (or clip_l and clip_g); "
            "take it out of the folder"
        )
    return tensors


def _matrix(value: Any, path: Path) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or not value.numel() or not value.is_floating_point():
        raise FormatError(f"{path} is no embedding: its tensor should be (vectors, width); take it out of the folder")
    made = value.detach().float().reshape(-1, value.shape[-1])
    if not made.isfinite().all():
        raise FormatError(f"{path} holds NaN or infinity; take it out of the folder")
    return made
