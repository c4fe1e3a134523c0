"""The process that measures: ``python -m loratools.studio.measuring.process``, a question a line, an answer a line.

It ends when whoever asks is gone, since its stdin ends then.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from loratools.errors import LoratoolsError


def main() -> None:
    """Answer until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers goes there
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question; a mistake of the user's is its ``error``."""
    from loratools.studio.measuring.shares import heat, stack_shares

    try:
        shares, _ = stack_shares(question["stack"])
        other = question.get("other")
        return {**shares.json(), "heat": heat(question["stack"], other) if other else None}
    except LoratoolsError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"a file cannot be read: {error.strerror or error}"}
    except MemoryError:
        return {"error": "out of memory; close other programs"}


if __name__ == "__main__":
    main()
