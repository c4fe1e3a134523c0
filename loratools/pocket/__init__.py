"""The pocket base: a miniature Stable Diffusion 1.x, the drawings it was trained on, and a judge that reads them.

Here is what needs no other base: ``draw/`` makes the drawings, ``weights/`` holds the trained models.
"""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """The Diffusers folder of the pocket base, inside the package; its model card is ``README.md`` there."""
    return Path(__file__).parent / "weights"
