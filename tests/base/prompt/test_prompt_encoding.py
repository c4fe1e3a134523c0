from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning, condition
from loratools.base.prompt.guidance import (
    ComposedGuidance,
    PromptConditioning,
    ScheduledConditioning,
    Stage,
    concat,
    guidance,
    pad_to_longest,
)
from loratools.base.prompt.prompt import sections
from loratools.base.prompt.prompt_chunks import split_chunks, token_row
from loratools.base.prompt.prompt_encoding import PromptEncoder, encode_prompts
from loratools.errors import PromptError
from tests.base.tiny_xl import save_tiny_xl

TAG = "red hair, "  # three tokens


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(save_tiny_xl(tmp_path_factory.mktemp("bases") / "xl"), device="cpu")


def hidden(base: Base, text: str, **settings: int) -> Tensor:
    """Of a text that is the same at all steps."""
    (guide,) = encode_prompts(base, [text], settings.pop("steps", 4), **settings)
    (stage,) = guide.conjuncts[0].stages
    return stage.cond.hidden


def ids(base: Base, text: str) -> list[int]:
    ids: list[int] = base.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def by_hand(base: Base, tokens: list[int]) -> Tensor:
    """The last states of up to 75 tokens."""
    tokenizer = base.tokenizer
    row = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    row += [tokenizer.pad_token_id] * (77 - len(row))
    with torch.no_grad():
        states: Tensor = base.text_encoder(torch.tensor([row])).last_hidden_state
    return states


def lengths(base: Base, text: str) -> list[int]:
    return [len(chunk) for chunk in split_chunks(base.tokenizer, sections(text), lambda ids, position: None)]


def test_plain_prompts_are_what_they_were_bit_for_bit(base: Base, xl: Base) -> None:
    prompts = ["1girl, red hair", "", "blue eyes; ink style, hat!", TAG * 25]
    for model, skip in ((base, 1), (base, 2), (xl, 1), (xl, 3)):
        wanted = condition(model, prompts, skip)
        for n, guide in enumerate(encode_prompts(model, prompts, 20, skip)):
            assert guide.constant and (guide.whole is None or (model is xl and prompts[n] == ""))
            cond = guide.conjuncts[0].at(0)
            assert torch.equal(cond.hidden, wanted.hidden[n : n + 1])
            assert wanted.pooled is None or (cond.pooled is not None and torch.equal(cond.pooled[0], wanted.pooled[n]))


def test_long_prompts_are_chunks_one_after_the_other(base: Base) -> None:
    text = TAG * 40
    tokens = ids(base, text)
    assert len(tokens) == 120 and lengths(base, text) == [75, 45]
    wanted = torch.cat([by_hand(base, tokens[:75]), by_hand(base, tokens[75:])], 1)
    torch.testing.assert_close(hidden(base, text), wanted, rtol=1e-5, atol=1e-5)


def test_what_follows_a_near_comma_is_not_torn_from_it(base: Base) -> None:
    assert lengths(base, TAG * 24 + "red hair" + " red" * 5) == [72, 7]
    assert lengths(base, TAG * 24 + "red " * 2 + TAG) == [72, 5]
    assert lengths(base, TAG * 19 + "red " * 30) == [57, 30]  # the last comma is 19 before the end
    assert lengths(base, TAG * 18 + "red " * 30) == [75, 9]
    assert lengths(base, "red, " + "hair " * 90) == [75, 17]  # a far one is left behind
    assert lengths(base, "hair " * 75) == [75] and lengths(base, "hair " * 76) == [75, 1]
    assert lengths(base, "hair " * 74 + ", red") == [75, 1]


def test_break_begins_a_chunk(base: Base) -> None:
    assert lengths(base, "red hair BREAK hat") == [2, 1]
    assert lengths(base, "BREAK hat BREAK") == [0, 1]
    assert lengths(base, "") == [0] and lengths(base, "a BREAK BREAK a") == [1, 0, 1]
    wanted = torch.cat([by_hand(base, ids(base, "red hair")), by_hand(base, ids(base, "hat"))], 1)
    torch.testing.assert_close(hidden(base, "red hair BREAK hat"), wanted, rtol=1e-5, atol=1e-5)


def test_a_weight_multiplies_states_and_the_mean_is_kept(base: Base) -> None:
    encoder = copy.deepcopy(base.text_encoder)
    for name, parameter in encoder.named_parameters():
        if name.endswith("final_layer_norm.bias"):
            torch.nn.init.constant_(parameter, 0.3)  # as a trained one: states without a bias have the mean 0
    base = replace(base, text_encoders=(encoder,))
    plain = condition(base, ["1girl, red hair"]).hidden
    tokens = ids(base, "1girl, red hair")
    first = len(ids(base, "1girl,")) + 1
    weights = torch.ones(77)
    weights[first : len(tokens) + 1] = 1.5
    wanted = plain * weights[:, None]
    wanted = wanted * (plain.mean() / wanted.mean())
    got = hidden(base, "1girl,( red hair:1.5)")
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert (got - plain).abs().max() > 0.05
    assert torch.equal(hidden(base, "[(1girl:1.0)], red hair"), hidden(base, "[1girl], red hair"))
    alone, beside = (
        encode_prompts(base, texts, 4)[0].conjuncts[0].at(0).hidden for texts in (["(hat)"], ["(hat)", "(a:9)"])
    )
    torch.testing.assert_close(alone, beside, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(hidden(base, "(hat:0)")).all()


def test_padding_is_the_tokenizers(base: Base) -> None:
    """SD 2's tokenizer pads with token 0."""
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    other = replace(base, tokenizers=(tokenizer,))
    (chunk,) = split_chunks(tokenizer, sections("hat"), lambda ids, position: None)
    assert token_row(tokenizer, chunk)[3:] == [0] * 74
    assert torch.equal(hidden(other, "hat"), condition(other, ["hat"]).hidden)
    assert not torch.equal(hidden(other, "hat"), hidden(base, "hat"))


def test_sdxl_weighs_each_encoder_and_pools_the_first_chunk(xl: Base) -> None:
    (guide,) = encode_prompts(xl, ["red hair BREAK (hat:1.3)"], 4)
    cond, first, second = guide.conjuncts[0].at(0), condition(xl, ["red hair"]), condition(xl, ["hat"]).hidden
    assert cond.hidden.shape == (1, 154, 32) and cond.pooled is not None and first.pooled is not None
    torch.testing.assert_close(cond.pooled, first.pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cond.hidden[:, :77], first.hidden, rtol=1e-5, atol=1e-5)
    weights = torch.ones(77, 1)
    weights[1] = 1.3
    sides = [side * weights * (side.mean() / (side * weights).mean()) for side in second.chunk(2, dim=-1)]
    torch.testing.assert_close(cond.hidden[:, 77:], torch.cat(sides, -1), rtol=1e-5, atol=1e-5)


def test_sdxls_empty_negative_prompt_is_zeros(xl: Base, base: Base) -> None:
    """As in diffusers' pipeline without a negative prompt, and in the WebUI."""
    positive, negative = encode_prompts(xl, ["", ""], 4)
    cond = negative.negative.at(0)
    assert cond.pooled is not None and not cond.hidden.any() and not cond.pooled.any()
    assert torch.equal(positive.conjuncts[0].at(0).hidden, condition(xl, [""]).hidden)
    assert encode_prompts(base, [""], 4)[0].negative.at(0).hidden.any()


def test_stages_hold_their_texts_in_chunks_of_the_longest(base: Base) -> None:
    (guide,) = encode_prompts(base, ["[red:hair BREAK hat:0.5] a"], 10)
    (part,) = guide.conjuncts
    assert [stage.until for stage in part.stages] == [6, 11]
    torch.testing.assert_close(part.at(0).hidden[:, :77], hidden(base, "red a"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(part.at(5).hidden[:, 77:], hidden(base, ""), rtol=1e-5, atol=1e-5)
    assert part.at(5) is part.at(0) and part.at(6) is part.at(9)
    torch.testing.assert_close(part.at(6).hidden, hidden(base, "hair BREAK hat a"), rtol=1e-5, atol=1e-5)
    (alternating,) = encode_prompts(base, ["[red|hat]"], 4)
    (part,) = alternating.conjuncts
    assert part.at(2) is not part.at(1) and part.at(3) is part.at(1)


def test_and_is_parts_of_a_prompt_and_a_word_of_a_negative_one(base: Base) -> None:
    positive, negative = encode_prompts(base, ["red AND hat :0.5"] * 2, 4)
    assert [part.weight for part in positive.conjuncts] == [1, 0.5]
    assert torch.equal(positive.conjuncts[1].at(0).hidden, positive.conjuncts[1].at(3).hidden)
    torch.testing.assert_close(positive.conjuncts[1].at(0).hidden, hidden(base, "hat"), rtol=1e-5, atol=1e-5)
    assert negative.negative.weight == 1
    wanted = condition(base, ["red AND hat :0.5"]).hidden
    torch.testing.assert_close(negative.negative.at(0).hidden, wanted, rtol=1e-5, atol=1e-5)
    composed = guidance([positive], [negative], True)
    assert isinstance(composed, ComposedGuidance) and composed.row_owners(1) == [0, 0, 0]
    torch.testing.assert_close(composed.at(0).hidden[:1], wanted, rtol=1e-5, atol=1e-5)


def test_unequal_lengths_attend_as_if_they_were_alone() -> None:
    """Copies of all states change no weighted mean; a last state repeated would."""
    torch.manual_seed(0)
    short, long = (Conditioning(torch.randn(1, tokens, 8)) for tokens in (77, 154))
    both = concat([short, long])
    query = torch.randn(1, 5, 8)

    def attended(states: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, states, states)

    assert both.hidden.shape == (2, 154, 8)
    torch.testing.assert_close(attended(both.hidden[:1]), attended(short.hidden), rtol=1e-5, atol=1e-6)
    assert concat([short, Conditioning(torch.randn(1, 231, 8)), long]).hidden.shape == (3, 462, 8)
    sides = pad_to_longest([short, long])
    assert torch.equal(sides[0].hidden[:, 77:], short.hidden[:, -1:].expand(-1, 77, -1)) and sides[1] is long
    fixed = guidance([PromptConditioning.plain(long)], [PromptConditioning.plain(short)], True)
    assert torch.equal(fixed.at(0).hidden[0, 77:], short.hidden[0])
    mixed = guidance(
        [PromptConditioning((ScheduledConditioning((Stage(0, short),)), ScheduledConditioning((Stage(0, long),))))],
        [PromptConditioning.plain(short)],
        True,
    )
    assert torch.equal(mixed.at(0).hidden[1, 153], short.hidden[0, -1])


def test_mistakes_are_told(base: Base) -> None:
    with pytest.raises(PromptError, match="no prompt"):
        encode_prompts(base, [], 4)
    with pytest.raises(PromptError, match="clip skip 9 is outside"):
        PromptEncoder()(base, ["a"], 4, 9)
