"""What is run in an environment: every module is imported, and the tests that stand closest to other packages."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tools.compatibility.environment import ROOT

TESTS = (Path(__file__).parent / "tests.txt").read_text(encoding="utf-8").split()
_IMPORT = """\
import importlib, pkgutil, loratools
count = 0
for module in pkgutil.walk_packages(loratools.__path__, "loratools."):
    if not module.name.endswith("__main__"):
        count += 1
        try:
            importlib.import_module(module.name)
        except Exception as error:
            print(f"FAILED {module.name}: {type(error).__name__}: {error}")
print(count)
"""


@dataclass(frozen=True)
class Outcome:
    """What the tests said: how many passed and were skipped, names of those that failed, seconds."""

    passed: int
    skipped: int
    failed: tuple[str, ...]
    seconds: float


def import_all(python: Path) -> tuple[int, tuple[str, ...]]:
    """How many of the package's modules were imported, and those that could not be, each with its error."""
    command = [str(python), "-c", _IMPORT]
    done = subprocess.run(command, cwd=ROOT, env=_surroundings(), stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode != 0:
        return 0, (f"importing ended with {done.returncode}",)
    *wrong, count = done.stdout.strip().splitlines()
    return int(count), tuple(line.removeprefix("FAILED ") for line in wrong if line.startswith("FAILED "))


def run_tests(python: Path, tests: Sequence[str] = TESTS) -> Outcome:
    """Run tests of the tree in this environment, in one process."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(python), "-m", "pytest", "-n0", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
        code = subprocess.run(command, cwd=ROOT, env=_surroundings(), check=False).returncode
        if not report.is_file():
            return Outcome(0, 0, (f"pytest ended with {code} and no report",), time.monotonic() - began)
        passed, skipped, failed = read_report(report.read_text(encoding="utf-8"))
    return Outcome(passed, skipped, failed, round(time.monotonic() - began, 1))


def read_report(text: str) -> tuple[int, int, tuple[str, ...]]:
    """Passed, skipped and failed of a report in JUnit's XML."""
    cases = list(ElementTree.fromstring(text).iter("testcase"))
    failed = tuple(_failures(cases))
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - skipped - len(failed), skipped, failed


def _failures(cases: list[ElementTree.Element]) -> Iterator[str]:
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            yield f"{case.get('classname', '')}::{case.get('name', '')}"


def _surroundings() -> dict[str, str]:
    """The tree's own package, one thread, and nothing of another environment."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
