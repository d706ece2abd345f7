"""Between the walk over a model and the adapters of its libraries."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.functional import dropout

from gspn2bench.nn.layout import Grid, check_grid
from gspn2bench.nn.models.plane import Plane
from gspn2bench.nn.models.tokens import PrefixedScan


@dataclass(frozen=True)
class Options:
    """How one attention was replaced: all that it takes to build the same module again.

    Args:
        proxy: C_proxy; None: the module was built by a function of the caller.
        chunk: as for ``GSPN2Attention``.
        rung: as for ``GSPN2Attention``.
        prefix: number of tokens in front of the patches.
        grid: H and W of the patches, or "square"; None: the model's input tells them.
    """

    proxy: int | None
    chunk: int | None
    rung: str
    prefix: int
    grid: Grid | None

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From values of JSON.

        Raises:
            TypeError: names are missing or unknown.
            ValueError: the grid is invalid.
        """
        return cls(**{**values, "grid": check_grid(values.get("grid"))})


class InPlaceOfAttention(nn.Module):
    """Base of the modules that replace attention; a subclass has the call of what it replaces.

    Args:
        mixer: mixes the tokens.
        plane: H and W of the patches.
        dropout: share of the output that is dropped in training.
        options: recorded for saving; None: it cannot be saved.
    """

    def __init__(
        self,
        mixer: PrefixedScan,
        plane: Plane,
        dropout: float = 0.0,
        options: Options | None = None,
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.plane = plane
        self.dropout = dropout
        self.options = options

    def mix(self, tokens: Tensor) -> Tensor:
        """Tokens to tokens, (N, prefix + H * W, C)."""
        size = self.plane.size(tokens.shape[1] - self.mixer.prefix)
        mixed: Tensor = self.mixer(tokens, size)
        return dropout(mixed, self.dropout, self.training) if self.dropout else mixed


Build = Callable[[PrefixedScan, Plane, float, Options | None], InPlaceOfAttention]


@dataclass(frozen=True)
class Site:
    """A self-attention over an image that can be replaced.

    Args:
        name: of the attention in the model.
        attention: the module.
        dim: channels, C.
        build: builds the module that takes its place.
        prefix: number of tokens in front of the patches; None: the model does not tell.
        plane: H and W of the patches; None: the model does not tell.
        dropout: of the attention's output.
        install: adds the hooks that the plane needs, if they were not added, and returns what
            removes them.
    """

    name: str
    attention: nn.Module
    dim: int
    build: Build
    prefix: int | None = None
    plane: Plane | None = None
    dropout: float = 0.0
    install: "Callable[[], Callable[[], None]] | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class Kept:
    """An attention that stays, and the reason."""

    name: str
    kind: str
    reason: str


Adapter = Callable[[nn.Module, str], Iterator[Site | Kept]]
"""Finds attentions in a module of a known class and name."""


def join(parent: str, child: str) -> str:
    """The name of a module's child."""
    return f"{parent}.{child}" if parent else child


def is_a(module: nn.Module, package: str, name: str) -> bool:
    """Whether a module is of a class, or of a subclass of it, without importing the package."""
    return any(
        cls.__name__ == name and cls.__module__.partition(".")[0] == package
        for cls in type(module).__mro__
    )


def refuse(**arguments: object) -> None:
    """Refuse arguments of an attention unless they are None or False.

    Raises:
        TypeError: one has a value; the message names it.
    """
    named = [name for name, value in arguments.items() if value is not None and value is not False]
    if named:
        raise TypeError(
            f"{', '.join(named)}: not supported by line scans in the place of attention. Every "
            "position reaches every other, without masks, positional embeddings, attention "
            "weights or tokens of a different sequence"
        )
