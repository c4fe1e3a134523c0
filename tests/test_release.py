"""The release's checklist: trees that are not ready, licences, and what a plain installation brings."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tools.release import installed, sbom, tree

ROOT = Path(__file__).parents[1]
_TORCHS_OWN = re.compile(r"nvidia-|cuda-|triton|setuptools|sympy|mpmath|networkx|jinja2|markupsafe")  # by build


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A tree that may go out as 0.2.0."""
    files = {
        "loratools/version.py": '"""Its version."""\n\n__version__ = "0.2.0"\n',
        "pyproject.toml": '[project]\nname = "x"\ndynamic = ["version"]\n',
        "CITATION.cff": 'version: 0.2.0\ndate-released: "2026-12-24"\n',
        "CHANGELOG.md": "# Changes\n\n## Unreleased\n\n## 0.2.0 - 2026-12-24\n\n### Added\n\n- Much.\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    own = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *own, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")


def replace(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert old in text
    (root / name).write_text(text.replace(old, new), encoding="utf-8")


CHECKS = (tree.uncommitted, tree.unlike_versions, tree.unwritten_changes, tree.taken_tag)


def problems(root: Path) -> list[str]:
    return [problem for check in CHECKS for problem in check(root)]


def test_a_tree_that_is_ready_has_no_problems(ready: Path) -> None:
    assert problems(ready) == [] and tree.tag(ready) == "v0.2.0"
    git(ready, "tag", "v0.2.0")  # on this commit: the release was begun here
    assert problems(ready) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("loratools/version.py", "0.2.0", "0.2", "'0.2' in loratools/version.py is no semantic version"),
        ("CITATION.cff", "0.2.0", "0.1.0", "CITATION.cff cites 0.1.0; write `version: 0.2.0`"),
        ("CITATION.cff", "12-24", "12-01", 'write `date-released: "2026-12-24"`'),
        ("pyproject.toml", 'dynamic = ["version"]', 'version = "0.2.0"', "has a version of its own"),
        ("CHANGELOG.md", "0.2.0 - 2026-12-24", "0.1.0 - 2026-11-30", "has no chapter `## 0.2.0 - YEAR-MONTH-DAY`"),
        ("CHANGELOG.md", "- Much.", "", "says nothing under 0.2.0"),
        ("CHANGELOG.md", "### Added", "### News", "has a heading 'News'"),
        ("CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- More.\n", "changes under Unreleased; move them"),
    ],
)
def test_what_is_not_ready_is_named(ready: Path, name: str, old: str, new: str, problem: str) -> None:
    replace(ready, name, old, new)
    commit(ready)
    assert any(problem in own for own in problems(ready)), problems(ready)


def test_work_that_is_not_committed_and_a_tag_that_is_taken(ready: Path) -> None:
    git(ready, "tag", "v0.2.0")
    commit(ready)
    assert "the tag v0.2.0 is on" in problems(ready)[0] and "raise the version" in problems(ready)[0]
    (ready / "more.txt").write_text("x", encoding="utf-8")
    assert "1 files are not committed (?? more.txt ...)" in problems(ready)[0]


def test_this_trees_version_stands_in_one_place() -> None:
    assert list(tree.unlike_versions(ROOT)) == []
    assert "Unreleased" in tree.changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    lacking = [problem for problem in tree.unwritten_changes(ROOT) if "under Unreleased" not in problem]
    assert lacking == [], "the version's chapter in CHANGELOG.md, and the day that CITATION.cff has"


def component(*licences: dict[str, object], name: str = "x") -> dict[str, object]:
    return {"name": name, "version": "1.0", "licenses": list(licences)}


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        (component({"license": {"id": "MIT"}}), None),
        (component({"license": {"name": "License :: OSI Approved :: BSD License"}}), None),
        (component({"expression": "Apache-2.0 OR GPL-2.0-only"}), None),
        (component({"expression": "BSD-3-Clause AND (MIT OR GPL-3.0-only) AND Zlib"}), None),
        (component({"expression": "LicenseRef-NVIDIA-Proprietary"}, name="nvidia-cublas"), None),
        (component(name="transformers"), None),
        (component({"expression": "MIT AND GPL-3.0-only"}), "has the licence 'GPL-3.0-only', which is not on the list"),
        (component({"license": {"name": "My own terms"}}), "has the licence 'My own terms'"),
        (component(), "x 1.0 says nothing of its licence"),
    ],
)
def test_licences(tmp_path: Path, own: dict[str, object], problem: str | None) -> None:
    path = tmp_path / "x.cdx.json"
    path.write_text(json.dumps({"components": [own]}), encoding="utf-8")
    made = list(sbom.unfit_licences(path))
    assert (made == []) if problem is None else (len(made) == 1 and problem in made[0])


def test_the_commands_of_a_page() -> None:
    page = "`loratools no`\n```console\nloratools merge x && loratools demo\n```\n| `resize`, `edit-header` | both |\n"
    assert installed.commands(page) == ["demo", "edit-header", "merge", "resize"]
    readme = installed.commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"demo", "train", "studio", "soup", "edit-header", "doctor"} <= set(readme)


def closure(names: list[str]) -> set[str]:
    """The distributions that an installation of these brings, by the metadata of those that are here."""
    from packaging.requirements import Requirement

    known: set[str] = set()
    waiting = [(Requirement(text), "") for text in names]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        if name in known or _TORCHS_OWN.match(name):
            continue
        known.add(name)
        needed = [Requirement(text) for text in metadata.requires(requirement.name) or []]
        waiting += [(own, each) for own in needed for each in (requirement.extras or {""})]
    return known


def test_a_plain_installation_brings_what_the_page_says_and_no_more() -> None:
    """A dependency that comes in by the back door is seen here, with the versions of constraints.txt."""
    pinned = dict(
        line.strip().split("==") for line in (ROOT / "constraints.txt").open(encoding="utf-8") if "==" in line
    )
    if metadata.version("huggingface_hub") != pinned["huggingface_hub"]:
        pytest.skip("what huggingface_hub asks for changes with its versions")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    listed = re.search(r"brings these distributions[^`]*((?:`[a-z0-9-]+`[, and\n]*)+)", page)
    assert listed is not None
    assert closure(project["dependencies"]) == set(re.findall(r"`([a-z0-9-]+)`", listed[1]))


def test_the_page_of_versions_is_that_of_the_records() -> None:
    from tools.compatibility import page, record

    text = page.PAGE.read_text(encoding="utf-8")
    made = text.partition(page.BEGIN)[2].partition(page.END)[0].strip()
    assert made == page.table(record.read()), "python -m tools.compatibility table"


def test_the_lower_bounds_are_versions_that_were_run() -> None:
    """A bound is lowered only with a run: python -m tools.compatibility run --resolution lowest."""
    from packaging.requirements import Requirement

    from tools.compatibility import environment, record

    lowest = [own.versions for own in record.read().values() if own.resolution == "lowest"]
    assert lowest
    for text in environment.requirements():
        requirement = Requirement(text)
        ran = {versions.get(environment.plain(requirement.name)) for versions in lowest} - {None}
        if ran:
            bound = str(requirement.specifier).removeprefix(">=")
            assert any(str(version).startswith(bound) for version in ran), (text, ran)
