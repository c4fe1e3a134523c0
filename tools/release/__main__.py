"""The checklist of a release: ``python -m tools.release``, from a checkout.

It checks that the tree is committed, that one semantic version stands everywhere, that CHANGELOG.md has its chapter
and that its tag is free; builds source distribution and wheel and compares them with the tree; installs the wheel into
an empty environment, in which README's commands exist; and writes the list of its dependencies with their licences
(CycloneDX, by the extra ``[release]``). Then it says what is left for a person: the tag and the upload. It exits with 1
where something does not hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.release import installed, sbom, tree, wheel
from tools.release.finding import ROOT, Check


def main() -> None:
    """Go through the list."""
    parser = argparse.ArgumentParser(
        prog="release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="keep nothing: dist/ stays as it is")
    parser.add_argument("--demo", action="store_true", help="run `loratools demo --quick` there as well: minutes")
    parser.add_argument("--tree-only", action="store_true", help="what needs no network: nothing is installed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loratools-release-") as work:
        failed = sum(not _holds(check) for check in _checks(Path(work), options))
        if not failed and not options.dry_run and not options.tree_only:
            _keep(Path(work), ROOT / "dist")
    if failed:
        sys.exit(1)
    name = tree.tag(ROOT)
    print(f"\nnow: git tag -a {name} -m 'loratools {tree.version(ROOT)}' && git push origin {name}")
    print("     python -m twine upload dist/*.whl dist/*.tar.gz")


def _checks(work: Path, options: argparse.Namespace) -> Iterator[Check]:
    yield Check("everything is committed", lambda: tree.uncommitted(ROOT))
    yield Check("one semantic version", lambda: tree.unlike_versions(ROOT))
    yield Check("the changes are written down", lambda: tree.unwritten_changes(ROOT))
    yield Check("the tag is free", lambda: tree.taken_tag(ROOT))
    built = wheel.build(ROOT, work / "built")
    yield Check("wheel and source distribution carry what they should", lambda: wheel.unlike_the_tree(ROOT, built))
    if options.tree_only:
        return
    python = installed.environment(built.wheel, work / "empty")
    yield Check(
        "README's commands exist in an empty environment", lambda: installed.missing_commands(python, ROOT, work)
    )
    if options.demo:
        yield Check("the demo runs there", lambda: installed.failing_demo(python, work / "elsewhere"))
    listed = work / "built" / f"loratools-{tree.version(ROOT)}.cdx.json"
    sbom.write(python, ROOT / "pyproject.toml", listed)
    yield Check("every dependency's licence is on the list", lambda: sbom.unfit_licences(listed))


def _holds(check: Check) -> bool:
    problems = list(check.problems())
    print(f"{'FAILED' if problems else 'ok':<7}{check.title}", flush=True)
    for problem in problems:
        print(f"       - {problem}")
    return not problems


def _keep(work: Path, dist: Path) -> None:
    dist.mkdir(exist_ok=True)
    for pattern in ("*.whl", "*.tar.gz", "*.cdx.json"):
        for path in (work / "built").glob(pattern):
            shutil.copy(path, dist / path.name)
            print(dist / path.name)


if __name__ == "__main__":
    main()
