"""YAML as YAML 1.2's core schema reads it, and where everything stands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.yamlio import load_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0:1:0.1", "0:1:0.1"),
        ("1:30", "1:30"),  # a number in base 60 to YAML 1.1
        ("1e-4", 0.0001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),  # octal to YAML 1.1
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("-.inf", -math.inf),
        ("=", "="),
        ("1.0.0", "1.0.0"),
        ("e5", "e5"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    parsed = load_yaml(f"key: {text}").data["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(load_yaml("key: .NaN").data["key"])


def test_keys_are_always_text() -> None:
    assert load_yaml("8: a\nyes: b\nnull: c\n1e3: d").data == {"8": "a", "yes": "b", "null": "c", "1e3": "d"}


def test_merge_keys_are_plain_keys() -> None:
    assert load_yaml("a: &x {b: 1}\nc: {<<: *x}").data["c"] == {"<<": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' is already given in line 1"),
        ("a:\n  b: 1\n  b: 1", 3, "'b' is already given in line 2"),
        ("x: 1\ny: [1", 2, "not YAML"),
        ("a: 1\n\tb: 1", 2, "not YAML"),
        ("a: !!python/object:os.system x", 1, "not supported"),
        ("a: !mine x", 1, "not supported"),
        ("a: !!int x", 1, "not of the type"),
        ("a: !!set {x}", 1, "not supported"),
        ("a: &x [*x]", 1, "holds itself"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: 1\n{[1]: 2}", 2, "not YAML"),
        ("? [1]\n: 2", 1, "a key must be text"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError, match=f"^r.yaml, line {line}.*: ") as error:
        load_yaml(text, "r.yaml")
    assert words in str(error.value)


def test_too_deep_and_too_many() -> None:
    with pytest.raises(RecipeError, match="too deeply"):
        load_yaml("[" * 5000)
    laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]" for n in range(8)
    )
    with pytest.raises(RecipeError, match="too many"):
        load_yaml(laughs)


def test_places_of_keys_and_values() -> None:
    document = load_yaml("a: 1\nb:\n  c: [10, 20]\n", "r.yaml")
    assert document.span(("b", "c")).line == 3
    assert document.spans[("b", "c", 1)].column == 11
    span = document.spans[("b", "c", 1)]
    assert document.text[span.start : span.end] == "20"
    assert document.where(("b", "c", 1)) == "r.yaml, line 3: b.c.1"
    assert document.where(("b", "nothing", "there")).startswith("r.yaml, line 2: ")
    assert document.within(("b",)).where(("c",)) == "r.yaml, line 3: c"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: \xc3\xa9\n")
    assert read_yaml(path).data == {"name": "é"}
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_yaml(path)
    with pytest.raises(RecipeError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")
    path.write_bytes(b"name: \x00\n")
    with pytest.raises(RecipeError, match="cannot stand in YAML"):
        read_yaml(path)


def test_json_with_emoji_is_read_as_json_reads_it() -> None:
    """JSON writes an emoji as two escapes; half of one stays as it is."""
    value = {"картинки 😀": ["基 😀😀.safetensors", "half \ud83d"]}
    assert load_yaml(json.dumps(value)).data == value
