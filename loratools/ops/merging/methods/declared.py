"""The registry of merge methods: name, parameters with their ranges, paper, what is computed, and when to take it.

Data alone: no tensor is touched here, so that help texts and recipes can read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from loratools.errors import MergeStringError, OptionError, did_you_mean

MethodName = Literal["exact", "ties", "dare", "breadcrumbs", "slerp", "karcher", "knots", "iso-c", "tsv-m"]


@dataclass(frozen=True)
class Parameter:
    """A number that a method takes.

    Args:
        range: in words, as a message says it.
        low, high: the range's ends; ``high`` belongs to it, ``low`` only with ``from_low``, and so for ``below_high``.
        whole: whether it is a whole number.
    """

    name: str
    default: float
    meaning: str
    range: str
    low: float
    high: float
    from_low: bool = False
    below_high: bool = False
    whole: bool = False

    def checked(self, value: float) -> float:
        """``value``, if it is in the range.

        Raises:
            OptionError: naming the range.
        """
        above = value >= self.low if self.from_low else value > self.low
        below = value < self.high if self.below_high else value <= self.high
        if not (math.isfinite(value) and above and below and (not self.whole or value == int(value))):
            raise OptionError(f"{self.name} {value:g} is out of range; it is {self.range}, such as {self.default:g}")
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Method:
    """One way to make a LoRA of several.

    Args:
        title: as people write it.
        what: what is computed, with ``d_i`` for weight x vector x difference of the i-th LoRA.
        when: in which case a person would take it, and what it costs.
        error: what can be said of its distance from the plain sum, or of the result.
        paper: arXiv number, or the source.
        least, most: how many LoRAs it takes.
    """

    name: MethodName
    title: str
    what: str
    when: str
    error: str
    paper: str
    least: int = 1
    most: int | None = None
    parameters: tuple[Parameter, ...] = ()

    def settings(self, given: Mapping[str, float | None]) -> dict[str, float]:
        """Every parameter of the method by name: the given numbers, and defaults for None and what is absent.

        Raises:
            OptionError: for a parameter of another method, or a number out of range.
        """
        own = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if value is not None and name not in own:
                takes = f"takes {' and '.join(own)}" if own else "takes no number"
                goes = " and ".join(method.name for method in METHODS.values() if method.takes(name))
                raise OptionError(
                    f"{name} is no parameter of the merge method {self.name}, which {takes}"
                    + (f"; {name} goes with {goes}" if goes else "")
                )
        numbers = {name: parameter.checked(_given(given.get(name), parameter)) for name, parameter in own.items()}
        if self.name == "breadcrumbs" and numbers["density"] + numbers["gamma"] > 1:
            raise OptionError(
                f"density {numbers['density']:g} and gamma {numbers['gamma']:g} are parts of the same entries and add "
                "up to at most 1; lower one of them"
            )
        return numbers

    def takes(self, parameter: str) -> bool:
        """Whether it has a parameter of that name."""
        return any(one.name == parameter for one in self.parameters)

    def check_count(self, count: int) -> None:
        """Raise MergeStringError unless the method can be made of ``count`` LoRAs."""
        if 0 < count < self.least:
            number = "two LoRAs" if self.most == self.least else "two LoRAs or more"
            raise MergeStringError(
                f"the merge method {self.name} is made of {number}, and the merge has {count}; add one, or use exact"
            )
        if self.most is not None and count > self.most:
            raise MergeStringError(
                f"the merge method {self.name} is between two LoRAs, and the merge has {count}; use karcher"
            )


def _given(value: float | None, parameter: Parameter) -> float:
    return parameter.default if value is None else value


def _density(default: float, meaning: str = "the part of the entries that is kept") -> Parameter:
    return Parameter("density", default, meaning, "a fraction above 0 and at most 1", 0.0, 1.0)


_ALL = (
    Method(
        "exact",
        "weighted sum",
        what="sum of d_i",
        when="always first: what a UI does that loads the LoRAs together, and what can be taken apart again",
        error="rounding of the storage type alone",
        paper="2212.04089",
    ),
    Method(
        "ties",
        "TIES",
        what="core matrices trimmed to their largest entries, a sign elected for each place, the mean of what agrees",
        when="several LoRAs of one kind (styles, characters) that wash one another out in the sum",
        error="none in general; one LoRA at density 1 stays as it is",
        paper="2306.01708, in the core space of 2509.17786",
        least=2,
        parameters=(_density(0.5),),
    ),
    Method(
        "dare",
        "DARE",
        what="a random part of each core matrix kept, divided by density, then summed",
        when="many LoRAs at full weight, thinned at random so that they disturb one another less; try several seeds",
        error="over all seeds the mean is the sum, that of |result - sum|^2 (1 - density) / density x sum |d_i|^2",
        paper="2311.03099, in the core space of 2509.17786",
        parameters=(
            _density(0.9, "the part of the entries that is kept (1 - p of the paper)"),
            Parameter("seed", 0, "of the random draw", "a whole number from 0", 0, 2**53, from_low=True, whole=True),
        ),
    ),
    Method(
        "breadcrumbs",
        "Model Breadcrumbs",
        what="of each core matrix the largest entries (gamma) and the smallest ones dropped, then summed",
        when="a LoRA whose few loudest directions burn pictures, or that carries noise in faint ones; also on one file",
        error="|result - sum| is at most the sum over LoRAs of the norm of what was dropped",
        paper="2312.06795, in the core space of 2509.17786",
        parameters=(
            _density(0.9),
            Parameter(
                "gamma",
                0.001,
                "the part that is dropped as the largest",
                "a fraction from 0 and below 1",
                0.0,
                1.0,
                from_low=True,
                below_high=True,
            ),
        ),
    ),
    Method(
        "slerp",
        "SLERP",
        what="the direction on the shortest arc, each weight's share of the way; its norm the sum of |weight| x norm",
        when="a mean of two LoRAs that keeps its strength: the plain mean of unlike LoRAs is weaker than both",
        error="a sum of the same differences with other weights, stored with the rounding of the storage type alone",
        paper="Shoemake 1985",
        least=2,
        most=2,
    ),
    Method(
        "karcher",
        "Karcher mean",
        what="the direction with the least weighted sum of squared angles to all; its norm the sum of |weight| x norm",
        when="slerp for three LoRAs and more, such as epochs or seeds of one style",
        error="a sum of the same differences with other weights, stored with the rounding of the storage type alone",
        paper="Karcher 1977",
        least=2,
    ),
    Method(
        "knots",
        "KnOTS-TIES",
        what="one SVD of all differences side by side, U (S V_1 ... S V_n), then TIES over the S V_i",
        when="as ties, where the LoRAs work on the same outputs by different inputs",
        error="none in general",
        paper="2410.19735",
        least=2,
        parameters=(_density(0.5),),
    ),
    Method(
        "iso-c",
        "Iso-C",
        what="the sum with all its singular values set to their mean",
        when="LoRAs of one kind whose loudest direction drowns the rest; faint ones are lifted too, noise among them",
        error="|result - sum|^2 is the variance of the singular values x their number, so that it is seldom small",
        paper="2502.04959",
        parameters=(
            Parameter(
                "floor",
                0.001,
                "singular values under this part of the largest are left out as rounding",
                "a fraction from 0 and below 1",
                0.0,
                1.0,
                from_low=True,
                below_high=True,
            ),
        ),
    ),
    Method(
        "tsv-m",
        "TSV-M",
        what="singular vectors of all LoRAs made orthonormal (the nearest such set), with their own singular values",
        when="two subjects or styles that bleed into one another, which takes away what they share",
        error="the sum itself where the LoRAs use orthogonal directions and keep is 1",
        paper="2412.00081",
        least=2,
        parameters=(
            Parameter(
                "keep",
                1.0,
                "the part of each LoRA's singular directions that takes part, largest first",
                "a fraction above 0 and at most 1",
                0.0,
                1.0,
            ),
        ),
    ),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
PARAMETERS: tuple[str, ...] = tuple(dict.fromkeys(one.name for method in _ALL for one in method.parameters))


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        OptionError: if there is none.
    """
    if name not in METHODS:
        known = get_args(MethodName)
        raise OptionError(f"there is no merge method '{name}'{did_you_mean(name, known)}; there are {', '.join(known)}")
    return METHODS[name]


def method_table() -> str:
    """Markdown: every method with its parameters, when to take it, what is said of its error, and its source."""
    rows = ["| `--method` | computes | when | error | source |", "|---|---|---|---|---|"]
    for method in _ALL:
        numbers = [f"`--{one.name}` {one.default:g}: {one.meaning}" for one in method.parameters]
        what = "; ".join([method.what, *numbers]).replace("|", "&#124;")
        error = method.error.replace("|", "&#124;")
        rows.append(f"| `{method.name}` | {what} | {method.when} | {error} | {method.paper} |")
    return "\n".join(rows)
