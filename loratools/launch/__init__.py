"""Several processes: which of them this one is, how they are started, and the jobs that they run.

Started by a launcher that exists: torch's elastic launch on this machine, or a command such as ``accelerate launch``.
"""

from loratools.launch.rank import Rank

__all__ = ["Rank"]
