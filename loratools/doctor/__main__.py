"""``python -m loratools.doctor`` prints the name of torch's index for this machine, such as ``cu130``.

It prints nothing where PyPI's own build is the right one. The scripts that start the studio ask it before anything is
installed, so it needs the standard library alone.
"""

from __future__ import annotations

from loratools.doctor.gather import graphics
from loratools.doctor.torch_wheels import wheels_for

if __name__ == "__main__":
    print(wheels_for(graphics()) or "")
