"""The merge string's grammar: what is read and refused, that writing and reading agree, and where pieces stand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratools.adapter.files.epoch_files import parse_reference
from loratools.blocks.tokens import split_items
from loratools.errors import MergeStringError
from loratools.ops.merging.merge_string import ParsedTerm, Span, TermSpec, locate_terms, parse_merge_string, quoted
from tests.oracle import GP1

INLINE = ",".join(map(str, GP1))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Test0:1:GP1,BASE:-1:GP2", [TermSpec("Test0", 1, "GP1"), TermSpec("BASE", -1, "GP2")]),
        (" Test0 : 1 : GP1 , BASE : -1 ", [TermSpec("Test0", 1, "GP1"), TermSpec("BASE", -1)]),
        ("A", [TermSpec("A")]),
        ("A,B", [TermSpec("A"), TermSpec("B")]),
        ("A:0.5:te=0.3:unet=2", [TermSpec("A", 0.5, None, 0.3, 2)]),
        ("A:te=0", [TermSpec("A", 1, None, 0)]),
        ("A:1:GP1:UNET=0.5,B:1", [TermSpec("A", 1, "GP1", 1, 0.5), TermSpec("B")]),
        (
            f"A:0.8:{INLINE},B:-1:{INLINE}:te=0,C",
            [TermSpec("A", 0.8, INLINE), TermSpec("B", -1, INLINE, 0), TermSpec("C")],
        ),
        ("A:1:OUT03=0.8,MID=0.5,B:1", [TermSpec("A", 1, "OUT03=0.8,MID=0.5"), TermSpec("B")]),
        ("A:1:GP1,OUT03=0.8,B:1", [TermSpec("A", 1, "GP1,OUT03=0.8"), TermSpec("B")]),
        (
            r"C:\loras\a b.safetensors:1:GP1,D:/x.safetensors:-1",
            [TermSpec(r"C:\loras\a b.safetensors", 1, "GP1"), TermSpec("D:/x.safetensors", -1)],
        ),
        ("C:1", [TermSpec("C", 1)]),
        ('"a,b:c d.safetensors":1:GP1,"q""q":-1', [TermSpec("a,b:c d.safetensors", 1, "GP1"), TermSpec('q"q', -1)]),
        (r'"C:\x,y\a.safetensors":2', [TermSpec(r"C:\x,y\a.safetensors", 2)]),
        (
            "style@8:1,style@6-8:0.5,run@best",
            [TermSpec("style", 1, epoch="8"), TermSpec("style", 0.5, epoch="6-8"), TermSpec("run", epoch="best")],
        ),
        ("../a/b.safetensors:1e-1", [TermSpec("../a/b.safetensors", 0.1)]),
        ('"0.5":1', [TermSpec("0.5", 1)]),
        (
            '"mix(a.safetensors":1,"b).safetensors":1',
            [TermSpec("mix(a.safetensors", 1), TermSpec("b).safetensors", 1)],
        ),
        ('"inspire-17(":1:GP1,b', [TermSpec("inspire-17(", 1, "GP1"), TermSpec("b")]),
        ('A:1:mix(GP1, ALL, 0.5),"mix(b":2', [TermSpec("A", 1, "mix(GP1, ALL, 0.5)"), TermSpec("mix(b", 2)]),
        ('mix(a:1,"b).safetensors":2', [TermSpec("mix(a", 1), TermSpec("b).safetensors", 2)]),
        ('"a)":1,"mix(b)":2,"(c":3', [TermSpec("a)", 1), TermSpec("mix(b)", 2), TermSpec("(c", 3)]),
        ('"scale(a, b":1:GP1:te=0', [TermSpec("scale(a, b", 1, "GP1", 0)]),
        (r'"D:\a (1), b\mix(x:y":1', [TermSpec(r"D:\a (1), b\mix(x:y", 1)]),
        ('"a:b@8":1,"c,d@best":2', [TermSpec("a:b", 1, epoch="8"), TermSpec("c,d", 2, epoch="best")]),
        ('"mail@home":1,"at@8.safetensors":1', [TermSpec("mail@home", 1), TermSpec("at@8.safetensors", 1)]),
        ('"""a"",""b""":1', [TermSpec('"a","b"', 1)]),
        ('A:1:0.5,"1":1,"X"', [TermSpec("A", 1, "0.5"), TermSpec("1", 1), TermSpec("X")]),
        ('A:1:GP1,"OUT03=0.5":1', [TermSpec("A", 1, "GP1"), TermSpec("OUT03=0.5", 1)]),
        ('" a ":1', [TermSpec(" a ", 1)]),
        ("A:1/4:GP1", [TermSpec("A", 0.25, "GP1")]),
        # prompts' tags
        ("<lora:u:0.5:lbw=OUTALL>", [TermSpec("u", 0.5, "OUTALL")]),
        ("<lora:u>", [TermSpec("u")]),
        ("<LYCO:my style (v2):-0.5>,B:-1:GP2", [TermSpec("my style (v2)", -0.5), TermSpec("B", -1, "GP2")]),
        ("<lora:u:0.5:0.7:GP1>", [TermSpec("u", 1, "GP1", 0.5, 0.7)]),
        ("<lora:u:te=0.2:unet=0.7:lbw=GP1>", [TermSpec("u", 1, "GP1", 0.2, 0.7)]),
        ("<lora:u:0.5:unet=0>", [TermSpec("u", 1, None, 0.5, 0)]),
        ("<lora:u@8:1:lbw=1,0.5,X:x=0.7:lbwe=A>", [TermSpec("u", 1, "1,0.5,X,lbwe=A,x=0.7", epoch="8")]),
        ("<lora:a,b:1> <lora:c:2>\n<lora:d>", [TermSpec("a,b"), TermSpec("c", 2), TermSpec("d")]),
        ("<lora:a:1><lora:b:2>,c", [TermSpec("a"), TermSpec("b", 2), TermSpec("c")]),
        ('"<lora:a:1>":2', [TermSpec("<lora:a:1>", 2)]),
    ],
)
def test_merge_strings(text: str, terms: list[TermSpec]) -> None:
    assert parse_merge_string(text) == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty term"),
        ("A:1,,B:1", "empty term"),
        ("A:1,", "empty term"),
        (":1", "empty term"),
        ("A:GP1", r"'GP1' stands where the weight of A should be.*write A:1:GP1"),
        ("A:", "stands where the weight"),
        ("A:1:", "empty block vector"),
        ("A:nan", "finite number"),
        ("A:inf", "finite number"),
        ("A:1:GP1:GP2", "one field too many"),
        ("A:1:te=x", "te= of A"),
        ("A:1:te=1:te=2", "one field too many"),
        ("A:1,0.5", "is a number, not a LoRA"),
        ("A:0,7,B:0,3", "if 0,7 is one number, write 0.7"),
        ("A:0,7:GP1", "'GP1' stands where .*; if 0,7 is one number, write 0.7"),
        ("A:1,0.5,0", "file of that name needs quotes$"),
        ("A:1:GP1;B:-1:GP2", "parted by a comma, not by ';'"),
        ("A\uff1a1\uff1aGP1\uff0cB\uff1a-1\uff1aGP2", "has a full-width colon; write ':' and ','"),
        ("<lora:A:0,8:lbw=OUTALL>", "has a decimal comma; write 0.8"),
        ('"A:1', "not closed"),
        ('x"A":1', "enclose a whole name"),
        ("<lora:u:0.5:lbw=GP1", "a prompt's tag .* is not closed"),
        ("<lora:u:0.5>:0.8", "'0.8' follows a prompt's tag .* inside it"),
        ("<lora:u:1:lbw=1,0.5>,0.5", "is a number, not a LoRA"),
        ("<lora:u:1:start=3>", "'start=' .* window of sampler steps"),
        ("A:1,<lora:u:1:stop=3>", "'stop=' .* window of sampler steps"),
        ("<lora:u:1:step=3-9>", "'step=' .* window of sampler steps"),
        ("<lora:u:1:dyn=8>", "truncates the rank"),
        ("<lora:>", "names no LoRA"),
        ("<lora:u:te=x>", "te= .* is 'x'"),
    ],
)
def test_merge_strings_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(MergeStringError, match=message):
        parse_merge_string(text)


NAME = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
# pieces that mean something to the grammar, in any order, and any other text
AWKWARD = st.lists(
    st.sampled_from(
        ["mix(", "scale (", "inspire-17(", "te=1", "lbwe=", "1", "0.5", "OUT03=1", "C:\\", *'()[],:@";= RXa/']
    )
    | st.just("\u00a0"),
    min_size=1,
    max_size=8,
).map("".join)
REFS = st.one_of(st.text(NAME, min_size=1), AWKWARD).filter(lambda ref: parse_reference(ref).selector is None)
VECTORS = st.one_of(
    st.none(),
    st.sampled_from(["GP1", "ALL0.5", "OUT03=0.8,MID=0.5", "GP1,OUT03=0.8", "mix(GP1, ALL, 0.5)", "GP1,lbwe=ATTNOFF"]),
    st.sampled_from(["mix(GP1; 1,0.5,X; 0.5),TE=0", "inspire-12(1,1,1,1,1,1,1,1,1,1,1,1)", "R,U,1,X+0.5"]),
    st.lists(st.floats(-3, 3), min_size=1, max_size=30).map(lambda values: ",".join(map(repr, values))),
)
NUMBERS = st.floats(-100, 100)
EPOCHS = st.sampled_from([None, "8", "6-8", "best"])
SPECS = st.builds(TermSpec, REFS, NUMBERS, VECTORS, NUMBERS, NUMBERS, EPOCHS)


@given(st.lists(SPECS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_terms_are_read_back_from_their_text(specs: list[TermSpec]) -> None:
    assert parse_merge_string(",".join(spec.text() for spec in specs)) == specs


@given(REFS, REFS, NUMBERS)
@settings(max_examples=200, deadline=None)
def test_any_quoted_name_is_read_as_it_is(first: str, second: str, weight: float) -> None:
    text = f"{quoted(first)}:{weight!r}:GP1 , {quoted(second)}"
    assert parse_merge_string(text) == [TermSpec(first, weight, "GP1"), TermSpec(second)]


def changed(text: str, span: Span, new: str) -> list[TermSpec]:
    return parse_merge_string(text[: span.start] + new + text[span.end :])


@given(st.lists(SPECS, min_size=1, max_size=4), st.data())
@settings(max_examples=200, deadline=None)
def test_every_piece_stands_where_its_span_says(specs: list[TermSpec], data: st.DataObject) -> None:
    space = data.draw(st.sampled_from(["", " ", "\n  "]))
    text = space + f"{space},{space}".join(spec.text() for spec in specs) + space
    terms = locate_terms(text)
    assert [term.spec for term in terms] == specs
    for index, (spec, spans) in enumerate((term.spec, term.spans) for term in terms):
        whole = text[spans.term.start : spans.term.end]
        assert whole == whole.strip() == spec.text()
        assert spans.ref.start == spans.term.start and spans.weight is not None
        assert changed(text, spans.weight, "0.125")[index] == replace(spec, weight=0.125)
        items = [text[span.start : span.end] for span in spans.items]
        assert items == ([] if spec.vector_text is None else split_items(spec.vector_text))
        assert {key: float(text[span.start : span.end]) for key, span in spans.options.items()} == {
            key: value for key, value in (("te", spec.te), ("unet", spec.unet)) if value != 1
        }


def test_spans_leave_out_spaces_and_know_fractions_and_options() -> None:
    text = ' "a, (b" : 1/3 : 1 , 0.5,X : te = 0.2 :lbwe= OFF, C:/x :2 '
    first, second = locate_terms(text)

    def pieces(term: ParsedTerm) -> dict[str, object]:
        spans = term.spans

        def at(span: Span) -> str:
            return text[span.start : span.end]

        return {
            "term": at(spans.term),
            "ref": at(spans.ref),
            "weight": at(spans.weight) if spans.weight else None,
            "items": [at(span) for span in spans.items],
            "options": {key: at(span) for key, span in spans.options.items()},
        }

    assert first.spec == TermSpec("a, (b", 1 / 3, "1,0.5,X,lbwe=OFF", 0.2)
    assert pieces(first) == {
        "term": '"a, (b" : 1/3 : 1 , 0.5,X : te = 0.2 :lbwe= OFF',
        "ref": '"a, (b"',
        "weight": "1/3",
        "items": ["1", "0.5", "X", "lbwe= OFF"],
        "options": {"te": "0.2"},
    }
    assert pieces(second) == {"term": "C:/x :2", "ref": "C:/x", "weight": "2", "items": [], "options": {}}


def test_spans_of_a_tag_are_those_inside_it() -> None:
    text = " <lora: u : 0.5:lbw= 1, 0.5 :lbwe=A>  <lora:v:te=2:unet=3>"
    first, second = (term.spans for term in locate_terms(text))

    def at(span: Span | None) -> str | None:
        return None if span is None else text[span.start : span.end]

    assert (at(first.term), at(first.ref), at(first.weight)) == (text[1:37].strip(), "u", "0.5")
    assert [at(span) for span in first.items] == ["1", "0.5", "lbwe=A"] and not first.options
    assert (at(second.ref), at(second.weight)) == ("v", None)
    assert {key: at(span) for key, span in second.options.items()} == {"te": "2", "unet": "3"}
    assert first.weight is not None and changed(text, first.weight, "2")[0].weight == 2


@given(st.lists(st.sampled_from(["<lora:", "<lyco:", ">", *'ab1,:"= ', "lbw=", "te="]), max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_with_tags_gives_terms_or_a_named_error(text: str) -> None:
    try:
        for term in locate_terms(text):
            assert parse_merge_string(term.spec.text()) == [term.spec]
    except MergeStringError as error:
        assert "\n" not in str(error)


@given(st.text(st.sampled_from('ab1,:"=.-@\\/ GP()mix'), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_terms_or_a_named_error(text: str) -> None:
    try:
        assert parse_merge_string(text)
    except MergeStringError as error:
        assert "\n" not in str(error)
