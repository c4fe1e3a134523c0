"""Declared transformers against Diffusers' own classes, built on the meta device at their published sizes."""

import pytest

from loratools.adapter.architectures.block_transformer import stored_shape
from loratools.adapter.architectures.names import module_tree, other_tree
from tests.families import DECLARED, network, weights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", DECLARED)
def test_the_declaration_is_the_live_model(family: str) -> None:
    """Every matrix and norm of Diffusers' own class, at its published size, is declared, with its shape."""
    live, declared = live_shapes(family), declared_shapes(family)
    own = {name: shape for name, shape in declared.items() if name.startswith("transformer.")}
    assert own == live
    assert set(declared) == {
        m.name for m in (*module_tree(family), *other_tree(family)) if not m.name.startswith("text_encoder")
    }


def live_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Canonical module -> its weight's shape, of Diffusers' own class."""
    import diffusers
    from accelerate import init_empty_weights

    place = network(family).diffusers
    assert place is not None
    with init_empty_weights():
        model = getattr(diffusers, place.model)(**place.config)
    alone = ("pad_token", "scale_shift_table", "pos_emb_", "register_tokens", "pos_embed.pos_embed")  # of no layer
    return {
        f"transformer.{name.removesuffix('.weight')}": tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if not name.endswith("bias") and not any(word in name for word in alone)
    }


def declared_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Canonical module -> its weight's shape, at the first of the declared sizes."""
    declared: dict[str, tuple[int, ...]] = {}
    for weight in weights(family):
        shape = stored_shape(weight.weight, network(family).sizes[0])
        shares = weight.weight.shares or (1,) * len(weight.fused.names)
        for part, share in zip(weight.fused.names, shares, strict=True):
            own = (shape[0] * share // sum(shares), *shape[1:])
            assert declared.setdefault(part, own) == own, part
    return declared
