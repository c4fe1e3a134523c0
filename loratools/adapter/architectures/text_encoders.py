"""The modules of CLIP, T5 and Llama-like text encoders, generated, by their path below the component."""

from __future__ import annotations

from collections.abc import Iterator

from loratools.adapter.architectures.family import Module, TextEncoder

_CLIP = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
_LLAMA = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
_LANGUAGE_MODEL = "model."  # transformers' language models with a head keep their layers below this
_OLD_CLIP = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}


def modules(encoder: TextEncoder, layers: int) -> Iterator[Module]:
    """Every linear layer that LoRA training changes."""
    for layer in range(layers):
        if encoder.kind == "clip":
            block = f"text_model.encoder.layers.{layer}"
            yield from (Module(f"{block}.{part}", "linear", 1, True) for part in _CLIP)
        elif encoder.kind == "llama":
            yield from (Module(f"layers.{layer}.{part}", "linear", 1, True) for part in _LLAMA)
        else:
            block = f"encoder.block.{layer}.layer"
            attention = (f"{block}.0.SelfAttention.{part}" for part in "qkvo")
            forward = (f"{block}.1.DenseReluDense.{part}" for part in ("wi_0", "wi_1", "wo"))
            yield from (Module(name, "linear", 1, True) for name in (*attention, *forward))


def others(encoder: TextEncoder, layers: int) -> Iterator[Module]:
    """Norms, embeddings and the projection: what only full differences change."""
    if encoder.kind == "t5":
        yield Module("shared", "embedding", 1, False)
        yield Module("encoder.final_layer_norm", "norm", 1, False)
        names = (f"encoder.block.{layer}.layer.{i}.layer_norm" for layer in range(layers) for i in (0, 1))
        yield from (Module(name, "norm", 1, False) for name in names)
        return
    if encoder.kind == "llama":
        yield Module("embed_tokens", "embedding", 1, False)
        yield Module("norm", "norm", 1, False)
        for layer in range(layers):
            parts = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
            yield from (Module(f"layers.{layer}.{part}", "norm", 1, False) for part in parts)
        return
    for name in ("token_embedding", "position_embedding"):
        yield Module(f"text_model.embeddings.{name}", "embedding", 1, False)
    yield Module("text_model.final_layer_norm", "norm", 1, False)
    for layer in range(layers):
        block = f"text_model.encoder.layers.{layer}"
        yield from (Module(f"{block}.layer_norm{i}", "norm", 1, False) for i in (1, 2))
    if encoder.projection:
        yield Module("text_projection", "linear", 1, False)


def bundled_path(encoder: TextEncoder, path: str) -> str:
    """A module's path in a checkpoint that carries its text encoders: a language model's is below ``model``."""
    return f"{_LANGUAGE_MODEL}{path}" if encoder.kind == "llama" else path


def other_paths(encoder: TextEncoder, path: str) -> Iterator[str]:
    """Other spellings of a path: CLIP's without ``text_model``, which new transformers drop, and early Diffusers'; a
    language model's below ``model``."""
    if encoder.kind == "llama":
        yield path
        yield f"{_LANGUAGE_MODEL}{path}"
        return
    spellings = [path]
    parent, _, last = path.rpartition(".")
    if last in _OLD_CLIP:
        spellings.append(f"{parent}.{_OLD_CLIP[last]}")
    for spelling in spellings:
        yield spelling
        yield spelling.removeprefix("text_model.")
