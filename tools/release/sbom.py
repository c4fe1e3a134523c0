"""What an environment consists of, as CycloneDX has it, and whether every licence in it may go along.

cyclonedx-py (extra ``[release]``) reads the environment. Which licences may go along is decided here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# all permissive, but for MPL-2.0, which asks for nothing where its files are left as they are
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "HPND",
    "ISC",
    "MIT",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
# NVIDIA's libraries come with torch's builds for CUDA, by their own terms; nothing of ours links or carries them
_BY_TORCH = re.compile(r"(nvidia|cuda)-")
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_KNOWN = {  # read from the packages' own LICENSE files, where their metadata say nothing that can be compared
    "transformers": "Apache-2.0",
}


def write(python: Path, pyproject: Path, target: Path) -> None:
    """Write the environment's list of components to ``target``.

    Raises:
        subprocess.CalledProcessError: if cyclonedx-py is missing or fails; it has said why.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(pyproject)]
    command += ["--output-reproducible", "--of", "JSON", "-o", str(target), str(python)]
    subprocess.run(command, check=True)


def unfit_licences(sbom: Path) -> Iterator[str]:
    """Components whose licence is unknown, or not of :data:`ALLOWED`."""
    for component in json.loads(sbom.read_text(encoding="utf-8"))["components"]:
        name = component["name"]
        if _BY_TORCH.match(name) or name == "loratools":
            continue
        licences = set(licences_of(component))
        own = f"{name} {component['version']}"
        if not licences:
            yield f"{own} says nothing of its licence; read it, and add it to tools/release/sbom.py"
        for licence in sorted(licences - ALLOWED):
            yield f"{own} has the licence '{licence}', which is not on the list in tools/release/sbom.py"


def licences_of(component: Mapping[str, Any]) -> Iterator[str]:
    """SPDX names of a component's licences: one of several where it offers a choice, each where all hold."""
    said = [_said(own) for own in component.get("licenses", ())] or [_KNOWN.get(component["name"], "")]
    for text in filter(None, said):
        for part in re.split(r"\s+AND\s+|;", re.sub("[()]", "", text)):
            choices = [choice.strip() for choice in part.split(" OR ")]
            yield next((choice for choice in choices if choice in ALLOWED), choices[0])


def _said(licence: Mapping[str, Any]) -> str:
    """An expression, an id, or a classifier's last part."""
    own = licence.get("license", {})
    text = str(licence.get("expression") or own.get("id") or own.get("name") or "").strip()
    return _CLASSIFIERS.get(text.rpartition(" :: ")[2], text)
