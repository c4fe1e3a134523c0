"""Print the JSON schema of the whole contract, of which ``npm run types`` makes the page's types.

::

    python -m loratools.studio.api.schema > api.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from loratools.studio.api import jobs, messages, models, stacks, words
from loratools.studio.api.base import Wire


def schema() -> dict[str, Any]:
    """One schema, whose ``$defs`` are all models by their names; what is answered has all of its fields."""
    classes = [
        value
        for module in (words, models, stacks, jobs, messages)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Wire) and value.__module__ == module.__name__
    ]
    _, content = models_json_schema([(cls, "validation") for cls in classes], title="loratools studio")
    content["$defs"]["JobRequest"] = _union(jobs.JobRequest)
    content["$defs"]["ClientMessage"] = _union(messages.ClientMessage)
    content["$defs"]["ServerMessage"] = _union(messages.ServerMessage)
    return dict(content)


def _union(of: Any) -> dict[str, Any]:
    """A union's members as references."""
    made = TypeAdapter(of).json_schema(ref_template="#/$defs/{model}")
    return {key: made[key] for key in ("oneOf", "anyOf") if key in made}


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=1, ensure_ascii=False, sort_keys=True)
    sys.stdout.write("\n")
