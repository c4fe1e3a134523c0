from __future__ import annotations

import random

import pytest

from loratools.base.prompt.prompt import Conjunct, Piece, parse, sections


def texts(prompt: str, steps: int = 10) -> list[tuple[int, str]]:
    return list(Conjunct(prompt).stages(steps))


def pieces(text: str) -> list[tuple[str, float]]:
    (section,) = sections(text)
    return [(piece.text, piece.weight) for piece in section]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a plain, text", [("a plain, text", 1.0)]),
        ("", []),
        ("one (two) three", [("one ", 1.0), ("two", 1.1), (" three", 1.0)]),
        ("(a:1.5) [b]", [("a", 1.5), (" ", 1.0), ("b", 1 / 1.1)]),
        ("((a)) (a:-0.5)(b: .5 )", [("a", 1.1 * 1.1), (" ", 1.0), ("a", -0.5), ("b", 0.5)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        ("(red)(hair)", [("redhair", 1.1)]),  # one weight is one text
        (r"\(a\) \[b\] \\ \c", [("(a) [b] \\ c", 1.0)]),
        (r"miku_\(vocaloid\)", [("miku_(vocaloid)", 1.0)]),
        ("(open", [("open", 1.1)]),
        ("[[open", [("open", 1 / 1.1 / 1.1)]),
        ("shut) it]", [("shut) it]", 1.0)]),
        ("a:1.5) b", [("a:1.5) b", 1.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3)", 1.1)]),  # no number, and so no end either
        ("(a:" + "9" * 400 + ")", [("a:" + "9" * 400 + ")", 1.1)]),
    ],
)
def test_emphasis_by_hand(text: str, wanted: list[tuple[str, float]]) -> None:
    got = pieces(text)
    assert [piece[0] for piece in got] == [piece[0] for piece in wanted]
    assert [piece[1] for piece in got] == pytest.approx([piece[1] for piece in wanted], abs=1e-12)


def test_break_parts_sections_in_brackets_too() -> None:
    assert sections("a BREAK b") == ((Piece("a"),), (Piece("b"),))
    assert sections("a BREAK\nBREAK b") == ((Piece("a"),), (), (Piece("b"),))
    assert sections("(a BREAK b:1.5) c") == ((Piece("a", 1.5),), (Piece("b", 1.5), Piece(" c")))
    assert sections("BREAKFAST, unBREAK") == ((Piece("BREAKFAST, unBREAK"),),)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("plain", [(11, "plain")]),
        ("a [b:c:0.5] d", [(6, "a b d"), (11, "a c d")]),
        ("a [b:c:4] d", [(5, "a b d"), (11, "a c d")]),
        ("a [b:3]", [(4, "a "), (11, "a b")]),
        ("a [b: 3 ]", [(4, "a "), (11, "a b")]),
        ("[a::3]b", [(4, "ab"), (11, "b")]),
        ("[:a:.2]b", [(3, "b"), (11, "ab")]),
        ("[a:b:0]", [(11, "b")]),
        ("[a:b:-3]", [(11, "b")]),
        ("[a:b:99]", [(11, "a")]),
        ("[a:b:1.0]", [(11, "a")]),  # a point makes it a part of the steps
        ("[a:b:1]", [(2, "a"), (11, "b")]),
        ("[(a:1.2):b:2]", [(3, "(a:1.2)"), (11, "b")]),
        ("x[a:[b:c:4]:2]y", [(3, "xay"), (5, "xby"), (11, "xcy")]),
        ("[[[a]]:2]", [(3, ""), (11, "[[a]]")]),
        ("((a][:b:c [d:3]", [(4, "((a][:b:c "), (11, "((a][:b:c d")]),
        ("(a [b:c:2]:1.2)", [(3, "(a b:1.2)"), (11, "(a c:1.2)")]),
        (r"\[a:b:3]", [(11, r"\[a:b:3]")]),
        (r"[a\]:b:3]", [(4, r"a\]"), (11, "b")]),
        ("[a:b]", [(11, "[a:b]")]),
        ("[a:b:c]", [(11, "[a:b:c]")]),
        ("[a:b:c:3]", [(11, "[a:b:c:3]")]),
        ("a [open [b:3]", [(4, "a [open "), (11, "a [open b")]),
        ("a | [b:3]", [(11, "a | [b:3]")]),  # a bar outside of brackets makes all of it literal
        ("[b:3]\\", [(11, "[b:3]\\")]),
        ("[a|b:3]", [(11, "[a|b:3]")]),
        ("[a:b:1e99]", [(11, "a")]),
    ],
)
def test_schedules_by_hand(prompt: str, wanted: list[tuple[int, str]]) -> None:
    assert texts(prompt) == wanted


def test_alternation_goes_round() -> None:
    assert texts("[a|b] c", 4) == [(2, "a c"), (3, "b c"), (4, "a c"), (5, "b c")]
    assert [text for _, text in texts("[fe|||]male", 5)] == ["female", "male", "female"]  # equal neighbours are one
    assert [text for _, text in texts("[a|[b|c]]", 4)] == ["a", "c", "a", "c"]
    assert texts("[a|b:1]x", 3) == [(4, "[a|b:1]x")]


def test_and_parts_with_weights() -> None:
    prompt = parse("a cat :1.2 AND a dog AND a (hat:2) : -.5\n")
    assert prompt.conjuncts == (Conjunct("a cat", 1.2), Conjunct(" a dog "), Conjunct(" a (hat:2)", -0.5))
    assert not prompt.simple and prompt.whole.text == prompt.text
    assert parse("SANDY, a and b").simple
    assert not parse("a:0.5").simple  # as there: a weight without AND scales the guidance
    assert parse("a :" + "9" * 400).conjuncts[0].weight == 1


def test_no_text_is_an_error() -> None:
    draw = random.Random(1)
    alphabet = [*"a \n[]():|\\.-3é½²", "0.5", "AND", "BREAK", "1e9"]
    for _ in range(3000):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 24)))
        for part in parse(text).conjuncts:
            stages = part.stages(draw.randint(1, 12))
            assert [until for until, _ in stages] == sorted({until for until, _ in stages})
            for _, stage in stages:
                parts = sections(stage)
                assert len(parts) >= 1 and all(piece.text for section in parts for piece in section)


@pytest.mark.parametrize("text", ["[" * 4000, "(" * 4000, "[a:" * 3000 + ":1]" * 3000, "[a|" * 3000 + "]" * 3000])
def test_deep_brackets_are_no_error(text: str) -> None:
    stages = Conjunct(text).stages(2)
    assert stages[-1][0] == 3
    assert all(piece.text for _, stage in stages for section in sections(stage) for piece in section)
