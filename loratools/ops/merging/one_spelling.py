"""Whether files of models that no table knows are for one model, and their modules under one spelling.

Trainers spell one module as ``lora_unet_layers_0_attention_to_q`` or ``diffusion_model.layers.0.attention.to_q``: such
names are brought together. Names that only look alike are refused: models that share a few names by accident, and one
model's attention that is stored as ``qkv`` in one file and as ``to_q``, ``to_k``, ``to_v`` in another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from loratools.adapter.architectures.names import UNKNOWN
from loratools.adapter.files.file import Adapter
from loratools.errors import FormatError
from loratools.module_path import NETWORK, ModulePath, split_path

_SHARED = 0.5  # of the smaller file's modules, which two files for one model have in common at least

# What a projection is called, by the part of an attention or gated layer that it is; several parts where it is fused.
_PARTS = {
    "qkv": re.compile(r"(?:to_)?(?:added_|add_)?qkv(?:_mlp)?(?:_proj|_linear)?|in_proj|query_key_value|w?qkv"),
    "kv": re.compile(r"(?:to_)?(?:added_|add_)?kv(?:_proj|_linear)?"),
    "q": re.compile(r"(?:to_)?(?:added_|add_)?(?:q|query)(?:_proj|_linear)?|wq"),
    "k": re.compile(r"(?:to_)?(?:added_|add_)?(?:k|key)(?:_proj|_linear)?|wk"),
    "v": re.compile(r"(?:to_)?(?:added_|add_)?(?:v|value)(?:_proj|_linear)?|wv"),
    "out": re.compile(r"(?:to_)?(?:added_|add_)?out(?:_0|_proj|_layer)?|o|o_proj|wo|proj|output_proj"),
    "gate up": re.compile(r"gate_up(?:_proj)?|w13"),
    "gate": re.compile(r"(?:to_)?gate(?:_proj|_layer)?"),
    "up": re.compile(r"up(?:_proj)?"),
}
_FUSED = {"qkv": ("q", "k", "v"), "kv": ("k", "v"), "gate up": ("gate", "up")}
_LONGEST_LEAF = 5  # words of a projection's own name


def one_spelling(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Files of one family under the first one's module names; only those of unknown models are renamed.

    Raises:
        FormatError: if two files of unknown models are for different ones, or spell one's modules differently.
    """
    if adapters[0].family != UNKNOWN.name or len({adapter.path for adapter in adapters}) == 1:
        return list(adapters)
    names: dict[str, str] = {}
    result: list[Adapter] = []
    for index, adapter in enumerate(adapters):
        earlier = next((i for i in range(index) if adapters[i] is adapter), None)
        if earlier is not None:
            result.append(result[earlier])
            continue
        for other in adapters[:index]:
            _check_projections(other, adapter)
        if index:
            _check_shared(adapters[0], names, adapter)
        own = _respelled(adapter, adapters[0], names)
        result.append(adapter if all(old == new for old, new in own.items()) else adapter.renamed(own))
        for module in result[-1].modules:
            names.setdefault(split_path(module).normal, module)
    return result


def check_spelling(first: Adapter, adapter: Adapter, named: Adapter) -> None:
    """Raise FormatError if modules of ``adapter`` kept underscores beside the dots of the first file.

    Args:
        named: ``adapter`` under the first file's names, as :func:`one_spelling` gives it.
    """
    if first.family != UNKNOWN.name or named is first:
        return
    dotted = {path.component for module in first.modules if not (path := split_path(module)).flat}
    lost = [module for module in named.modules if (path := split_path(module)).flat and path.component in dotted]
    if lost:
        raise FormatError(
            f"{first.path} spells its modules with dots and {adapter.path} has others with underscores, such as "
            f"{lost[0]}, whose dots no table knows; name {adapter.path.name} first, so that its spelling is written"
        )


def spelling_note(adapters: Sequence[Adapter]) -> str | None:
    """What a sum of files of one unknown model says about their spellings; None where they are alike."""
    first, *others = adapters
    if first.family != UNKNOWN.name:
        return None
    own = {split_path(module).normal: module for module in first.modules}
    pairs = [
        (adapter.path.name, module, own[normal])
        for adapter in others
        for module in adapter.modules
        if own.get(normal := split_path(module).normal, module) != module
    ]
    if not pairs:
        return None
    names = ", ".join(dict.fromkeys(name for name, _, _ in pairs))
    _, theirs, ours = pairs[0]
    return (
        f"{names} and {first.path.name} spell their modules differently, such as {theirs} and {ours}; they count as "
        f"the same modules, and a file of the result spells them as {first.path.name}"
    )


def no_common_module(one: object, other: object) -> FormatError:
    """The error for two LoRAs that change different modules where they are to be compared."""
    return FormatError(
        f"{one} and {other} have no module in common, so there is nothing to compare; give two LoRAs of one model that "
        "change the same modules"
    )


def _respelled(adapter: Adapter, first: Adapter, names: Mapping[str, str]) -> dict[str, str]:
    """module -> its name among ``names`` (by normal path), or one in the spelling of the first file."""
    if not names:
        return {module: module for module in adapter.modules}
    spelling = _Spelling(first)
    paths = {module: split_path(module) for module in adapter.modules}
    return {module: names.get(path.normal) or spelling.of(path) or module for module, path in paths.items()}


class _Spelling:
    """How a file spells modules: for each component its commonest namespace, and paths of the same words."""

    def __init__(self, adapter: Adapter) -> None:
        paths = [split_path(module) for module in adapter.modules]
        counts = Counter((path.component, path.namespace, path.flat) for path in paths)
        self._namespaces = {kind[0]: kind[1:] for kind, _ in reversed(counts.most_common())}
        self._examples = {_template(path): path.path for path in paths if not path.flat}

    def of(self, path: ModulePath) -> str | None:
        """The module in this spelling; None where an underscore might be a dot, or the file has no such component."""
        if path.component not in self._namespaces:
            return None
        namespace, flat = self._namespaces[path.component]
        if flat:
            return f"{namespace}{path.path.replace('.', '_')}"
        if not path.flat:
            return f"{namespace}{path.path}"
        example = self._examples.get(_template(path))
        if example is None:
            return None
        numbers = iter(re.findall(r"\d+", path.path))
        return namespace + re.sub(r"\d+", lambda _: next(numbers), example)


def _template(path: ModulePath) -> str:
    return re.sub(r"\d+", "#", path.normal)


def _check_shared(first: Adapter, names: Mapping[str, str], adapter: Adapter) -> None:
    ours, theirs = set(names), {split_path(module).normal for module in adapter.modules}
    network = [{path for path in paths if path.startswith(f"{NETWORK}:")} for paths in (ours, theirs)]
    if all(network):  # text encoders are shared by models that have nothing else in common
        ours, theirs = network
    shared, smaller = len(ours & theirs), min(len(ours), len(theirs))
    if shared >= _SHARED * smaller and shared:
        return
    common = "no module" if not shared else f"only {shared} of {smaller} modules"
    raise FormatError(
        f"{first.path} and {adapter.path} are for models that no table knows, and have {common} in common: they are "
        "for different models, or spell one model's modules differently; only LoRAs that name the same modules add up"
    )


def _check_projections(one: Adapter, other: Adapter) -> None:
    """Raise FormatError if a layer's projections are fused in one file and split, or named otherwise, in the other."""
    first, second = _projections(one), _projections(other)
    for layer in sorted(set(first) & set(second)):
        ours, theirs = first[layer], second[layer]
        pair = _fused_and_split(ours, theirs) or _fused_and_split(theirs, ours) or _renamed_part(ours, theirs)
        if pair is not None:
            raise FormatError(
                f"{one.path} and {other.path} spell one model's modules differently: {pair[0]} in one and {pair[1]} in "
                "the other hold the same weights; convert one of them with the tool that made it"
            )


_Layer = Mapping[str, Mapping[str, str]]  # part -> normal path -> module


def _fused_and_split(ours: _Layer, theirs: _Layer) -> tuple[str, str] | None:
    """A fused module of ``ours``, and a part of it that ``theirs`` has of its own; None where there is no such pair."""
    for fused, parts in _FUSED.items():
        split = [part for part in parts if part in theirs and part not in ours]
        if fused in ours and fused not in theirs and split:
            return _first(ours[fused]), _first(theirs[split[0]])
    return None


def _renamed_part(ours: _Layer, theirs: _Layer) -> tuple[str, str] | None:
    """Two modules that are the same part of one attention by different names; None where there is no such pair."""
    if not (ours.keys() | theirs.keys()) & {"q", "k", "v", *_FUSED}:
        return None  # no attention: there "out" and "proj" may be two layers
    for part in sorted(ours.keys() & theirs.keys()):
        if not ours[part].keys() & theirs[part].keys():
            return _first(ours[part]), _first(theirs[part])
    return None


def _first(modules: Mapping[str, str]) -> str:
    return next(iter(modules.values()))


def _projections(adapter: Adapter) -> dict[str, dict[str, dict[str, str]]]:
    """layer (by normal path; a second stream's projections, which are "added", apart) -> part -> its modules."""
    layers: dict[str, dict[str, dict[str, str]]] = {}
    for module in adapter.modules:
        normal = split_path(module).normal
        words = normal.split("_")
        for count in range(min(_LONGEST_LEAF, len(words) - 1), 0, -1):
            leaf = "_".join(words[-count:])
            part = next((part for part, pattern in _PARTS.items() if pattern.fullmatch(leaf)), None)
            if part is not None:
                layer = "_".join(words[:-count]) + (" added" if "add" in leaf else "")
                layers.setdefault(layer, {}).setdefault(part, {})[normal] = module
                break
    return layers
