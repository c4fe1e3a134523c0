"""What has to hold of the tree: committed, one semantic version, its changes written down, a free tag."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?"
)  # semver.org, without build metadata
_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")  # keepachangelog.com


def version(root: Path) -> str:
    """The version in ``loratools/version.py``, the one place where it is written for programs."""
    found = re.search(r'^__version__ = "([^"]+)"$', _read(root, "loratools/version.py"), re.MULTILINE)
    return found[1] if found else ""


def tag(root: Path) -> str:
    """The name of the version's tag."""
    return f"v{version(root)}"


def uncommitted(root: Path) -> Iterator[str]:
    """Files that are changed, added or unknown to git."""
    lines = _git(root, "status", "--porcelain").splitlines()
    if lines:
        yield f"{len(lines)} files are not committed ({lines[0].strip()} ...): git commit, or git stash -u"


def unlike_versions(root: Path) -> Iterator[str]:
    """Places that say another version than ``loratools/version.py``."""
    own = version(root)
    if not VERSION.fullmatch(own):
        yield f"'{own}' in loratools/version.py is no semantic version such as 0.2.0"
    if 'dynamic = ["version"]' not in _read(root, "pyproject.toml"):
        yield "pyproject.toml has a version of its own; leave it to loratools/version.py"
    cited = re.search(r"^version: (\S+)$", _read(root, "CITATION.cff"), re.MULTILINE)
    if cited is None or cited[1] != own:
        yield f"CITATION.cff cites {cited[1] if cited else 'no version'}; write `version: {own}` and the day there"


def unwritten_changes(root: Path) -> Iterator[str]:
    """What CHANGELOG.md lacks of this version."""
    own = version(root)
    chapters = changelog(_read(root, "CHANGELOG.md"))
    title = next((title for title in chapters if re.fullmatch(rf"{re.escape(own)} - \d{{4}}-\d\d-\d\d", title)), None)
    if title is None:
        yield f"CHANGELOG.md has no chapter `## {own} - YEAR-MONTH-DAY`; move what stands under Unreleased into it"
        return
    if not re.search(r"^- ", chapters[title], re.MULTILINE):
        yield f"CHANGELOG.md says nothing under {title}"
    for kind in re.findall(r"^### (.+)$", chapters[title], re.MULTILINE):
        if kind not in _KINDS:
            yield f"CHANGELOG.md has a heading '{kind}' under {title}; use one of {', '.join(_KINDS)}"
    if re.search(r"^- ", chapters.get("Unreleased", ""), re.MULTILINE):
        yield f"CHANGELOG.md has changes under Unreleased; move them into {title}"
    day = title.rpartition(" - ")[2]
    if f'date-released: "{day}"' not in _read(root, "CITATION.cff"):
        yield f'CITATION.cff has another day; write `date-released: "{day}"`'


def changelog(text: str) -> dict[str, str]:
    """Its chapters by their titles: ``0.2.0 - 2026-12-24``."""
    pieces = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {title.strip(): body for title, body in zip(pieces[::2], pieces[1::2], strict=True)}


def taken_tag(root: Path) -> Iterator[str]:
    """Whether the tag is there already, on another commit."""
    name = tag(root)
    if name in _git(root, "tag", "--list").split():
        at, here = _git(root, "rev-list", "-n1", name).strip(), _git(root, "rev-parse", "HEAD").strip()
        if at != here:
            yield f"the tag {name} is on {at[:8]}; raise the version in loratools/version.py"


def _read(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
