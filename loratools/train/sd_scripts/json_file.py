"""Reading JSON with a place for every key, as ``toml_file.py`` reads TOML."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

from loratools.errors import RecipeError
from loratools.yamlio import Document, load_yaml


def read_json(path: Path) -> Document:
    """The file's data, with the span of each key and value.

    Raises:
        RecipeError: if it cannot be read, or is not JSON.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(text)
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: not JSON: {error}") from error
    document = Document(data, str(path), text, {}, {})
    with contextlib.suppress(RecipeError):  # nearly all JSON is YAML, whose reader knows where everything stands
        places = load_yaml(text.replace("\t", " "), str(path))
        document = replace(document, spans=places.spans, keys=places.keys)
    return document
