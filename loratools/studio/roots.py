"""The folders that were opened, and opaque ids for what lies in them: no path comes from the page, and none goes to it
but as text to be shown.

An id is a keyed hash of a real path, made when something was found below a root. Whoever asks for an id gets the path
only while that still lies below a root: a symlink that came to point outside is refused. A picture's id changes with
its file, so that what an id shows never changes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.errors import FileError, HeldError
from loratools.file_names import bad_signs, is_reserved
from loratools.files import is_locked, locked, write_text
from loratools.studio.api.words import problem
from loratools.studio.token import Secrets

STATE = ".loratools-studio"  # a hidden folder in each root: the lock, and in the first one the queue and its logs
NOT_FOUND = 404
_DEEPEST_BELOW, _MOST_BELOW = 3, 2_000  # folders below a root in which another server's are looked for


@dataclass(frozen=True)
class Root:
    """An opened folder; ``path`` is real, without symlinks."""

    id: str
    name: str
    path: Path


class Roots:
    """The opened folders, and what is known below them by id.

    Raises:
        FileError: if one of ``folders`` is no folder.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]], secrets: Secrets) -> None:
        self._secrets = secrets
        self._guard = threading.Lock()
        self._paths: dict[str, Path] = {}  # id -> path
        self._pictures: dict[Path, str] = {}  # path -> the id of the file as it was seen last
        self.roots = tuple(self._root(path) for path in _distinct(folders))
        self._by_id = {root.id: root for root in self.roots}

    def _root(self, path: Path) -> Root:
        return Root(self._secrets.id_of(f"root:{path}"), path.name or str(path), path)

    def root(self, root_id: str) -> Root:
        """The root of an id.

        Raises:
            StudioError: if there is none.
        """
        root = self._by_id.get(root_id)
        if root is None:
            raise problem("root.unknown", status=NOT_FOUND)
        return root

    def root_of(self, path: Path) -> Root | None:
        """The innermost root that the real path of ``path`` lies in; None for a place outside."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError):  # a circle of symlinks
            return None
        inside = [root for root in self.roots if real.is_relative_to(root.path)]
        return max(inside, key=lambda root: len(root.path.parts)) if inside else None

    def shown(self, path: Path) -> str:
        """``path`` as text from its root, with ``/``; its name alone where it lies outside."""
        root = self.root_of(path)
        return path.resolve().relative_to(root.path).as_posix() if root else path.name

    def id_of(self, path: Path, kind: str = "path") -> str:
        """The id of a file or folder below a root; of one path different ids for different ``kind``s of things.

        Raises:
            StudioError: if it lies outside, or is a symlink to somewhere outside.
        """
        return self._known(path, kind)

    def picture_id(self, path: Path) -> str:
        """The id of a picture as its file is now: another one once the file has changed.

        Raises:
            StudioError: if it lies outside.
            OSError: if there is no such file.
        """
        facts = path.stat()
        made = self._known(path, f"picture:{facts.st_mtime_ns}:{facts.st_size}")
        with self._guard:
            old = self._pictures.get(path)
            if old is not None and old != made:
                self._paths.pop(old, None)
            self._pictures[path] = made
        return made

    def path(self, path_id: str) -> Path:
        """The path of an id, checked again to lie below a root.

        Raises:
            StudioError: for an id that this server did not make, or whose file is gone or points outside by now.
        """
        with self._guard:
            path = self._paths.get(path_id)
        if path is None:
            raise problem("id.unknown", status=NOT_FOUND)
        if self.root_of(path) is None:
            raise problem("file.outside", status=NOT_FOUND, name=path.name)
        if not path.exists():
            raise problem("file.gone", status=NOT_FOUND, name=path.name)
        return path

    def picture(self, picture_id: str) -> Path:
        """The path of a picture's id.

        Raises:
            StudioError: as :meth:`path` does, and where the file has changed since.
        """
        path = self.path(picture_id)
        if self.picture_id(path) != picture_id:
            raise problem("file.changed", status=NOT_FOUND, name=path.name)
        return path

    def new_file(self, root_id: str, name: str, suffix: str) -> Path:
        """Where a file that a person named goes: directly in a root, with a name that every system can hold.

        Raises:
            StudioError: for a root that is not open, or a name that is none.
        """
        return self.root(root_id).path / plain_name(name, suffix)

    def new_folder(self, root_id: str, name: str) -> Path:
        """Where a folder that a person named goes: directly in a root.

        Raises:
            StudioError: as :meth:`new_file` does, and for a symlink that leads outside.
        """
        folder = self.new_file(root_id, name, "")
        if self.root_of(folder) is None:
            raise problem("file.outside", status=NOT_FOUND, name=folder.name)
        return folder

    def _known(self, path: Path, kind: str) -> str:
        if self.root_of(path) is None:
            raise problem("file.outside", status=NOT_FOUND, name=path.name)
        made = self._secrets.id_of(f"{kind}:{path.resolve()}")
        with self._guard:
            self._paths[made] = path
        return made


_LONGEST_NAME = 120


def plain_name(name: str, suffix: str = "") -> str:
    """``name`` with ``suffix``, if it is a file's name that Windows, macOS and Linux can all hold.

    Raises:
        StudioError: naming what is wrong with it.
    """
    stem = name.strip()
    if suffix and stem.lower().endswith(suffix):
        stem = stem[: -len(suffix)]
    if bad := bad_signs(stem):
        signs = " ".join(sign if ord(sign) >= 32 else repr(sign) for sign in bad)
        raise problem("name.signs", signs=signs)
    if not stem or stem.startswith(".") or stem.endswith((".", " ")):
        raise problem("name.none", name=name)
    if is_reserved(stem):
        raise problem("name.windows", name=stem)
    if len(stem.encode()) > _LONGEST_NAME:
        raise problem("name.long", most=_LONGEST_NAME)
    return stem + suffix


def _distinct(folders: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The real paths, each once."""
    paths: dict[Path, None] = {}
    for folder in folders:
        path = Path(folder).expanduser()
        if not path.is_dir():
            why = "is a file, not a folder" if path.exists() else "does not exist"
            raise FileError(f"{folder} {why}; give folders: loratools studio FOLDER ...")
        paths[path.resolve()] = None
    return list(paths)


@contextlib.contextmanager
def held(roots: Roots) -> Iterator[None]:
    """Hold the lock of every root, so that two servers never run one queue or write into one folder.

    A folder inside one that another server has open is refused too, and one around it, as far as that lies near.

    Raises:
        HeldError: if another server has a folder open.
        FileError: if a folder cannot be written.
    """
    with contextlib.ExitStack() as locks:
        own = {root.path for root in roots.roots}
        for root in roots.roots:
            for other in (*root.path.parents, *_opened_below(root.path)):
                if (other / STATE).is_dir() and other not in own:
                    _refuse_held(root.path, other)
            try:
                _hide(root.path / STATE)
                locks.enter_context(locked(root.path / STATE / "server"))
            except HeldError as error:
                raise HeldError(_held_text(root.path, root.path)) from error
        yield


def _hide(state: Path) -> None:
    """Make the hidden folder, which version control leaves alone.

    Raises:
        FileError: if it cannot be written.
    """
    if not (state / ".gitignore").exists():
        write_text(state / ".gitignore", "*\n")


def _opened_below(root: Path) -> Iterator[Path]:
    """The folders in ``root`` that a server has or had open, the nearest ones: of a huge tree not all are looked at."""
    folders, looked_at = [(root, 0)], 0
    for folder, depth in folders:
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        if folder != root and STATE in names:
            yield folder
        looked_at += len(names)
        if looked_at > _MOST_BELOW:
            return
        if depth < _DEEPEST_BELOW:
            folders += [(folder / name, depth + 1) for name in sorted(names) if not name.startswith(".")]


def _refuse_held(path: Path, other: Path) -> None:
    if is_locked(other / STATE / "server"):
        raise HeldError(_held_text(path, other))


def _held_text(path: Path, holder: Path) -> str:
    below = path != holder and holder.is_relative_to(path)
    opened, inside = (holder, f" (it lies in {path})") if below else (path, f" (it lies in {holder})")
    return (
        f"another loratools studio has {opened} open{inside if path != holder else ''}; use its page, or end it first "
        "(Ctrl+C where it was started)"
    )
