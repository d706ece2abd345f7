"""Replace the self-attention of a model by GSPN-2, in one line, and take it back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn

from gspn2bench.nn.attention import GSPN2Attention
from gspn2bench.nn.check import check_size
from gspn2bench.nn.layout import Grid, check_grid
from gspn2bench.nn.models.contract import InPlaceOfAttention, Kept, Options, Site
from gspn2bench.nn.models.plane import Plane
from gspn2bench.nn.models.search import find_attentions
from gspn2bench.nn.models.tokens import PrefixedScan
from gspn2bench.nn.models.torch_encoder import forbid_nested_tensors

Selection = str | Sequence[str] | Callable[[str, nn.Module], bool]
"""Which attentions: patterns of names (``blocks.1?.attn``), or a function of name and module."""


@dataclass(frozen=True)
class Swapped:
    """An attention that was replaced.

    Args:
        name: in the model.
        before: the attention.
        after: the module in its place.
    """

    name: str
    before: nn.Module
    after: InPlaceOfAttention


class Replacement:
    """What was replaced in a model. Printed as a table.

    It keeps the replaced modules, and so their memory.

    Args:
        swapped: what was replaced.
        kept: attentions that stay, with the reason.
        undo: functions that undo everything else that was changed.
    """

    def __init__(
        self, swapped: list[Swapped], kept: list[Kept], undo: list[Callable[[], None]]
    ) -> None:
        self.swapped = tuple(swapped)
        self.kept = tuple(kept)
        self._undo = undo

    def revert(self) -> None:
        """Put the attentions back, on the device and in the mode of what took their place.

        A second call does nothing.
        """
        while self._undo:
            self._undo.pop()()

    def __str__(self) -> str:
        rows = [(swap.name, type(swap.before).__name__, _describe(swap)) for swap in self.swapped]
        rows += [(kept.name, kept.kind, f"stays: {kept.reason}") for kept in self.kept]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [
            f"{name:{widths[0]}}  {kind:{widths[1]}}  {text}".rstrip() for name, kind, text in rows
        ]
        return "\n".join([f"{len(self.swapped)} replaced, {len(self.kept)} stay", *lines])

    __repr__ = __str__


def replace_attention(
    model: nn.Module,
    *,
    proxy: int | Callable[[int], int] | None = None,
    only: Selection | None = None,
    grid: Grid | None = None,
    prefix: int | None = None,
    chunk: int | None = None,
    rung: str = "auto",
    mixer: Callable[[int], nn.Module] | None = None,
) -> Replacement:
    """Replace self-attention over images by GSPN-2, in place.

    The new modules have new parameters: train or distil them. They are on the device, of the type
    and in the mode of what they replace. Dropout of the output is kept; dropout of attention
    weights has no counterpart. Nothing outside of ``model`` is changed.

    Args:
        model: of timm, torchvision, torch.nn, transformers or diffusers, or one that contains such
            models (docs/models.md has the list).
        proxy: C_proxy, or a function of the channels, ``lambda channels: channels // 8``; None: 2.
        only: names of attentions (``"blocks.1?.attn"``), or a function of name and module that
            returns whether to replace it; None: all.
        grid: H and W of the patches, or "square", for a model that does not tell them.
        prefix: number of class and register tokens in front of the patches, for a model that does
            not tell it; None: none there.
        chunk: as for ``GSPN2Attention``.
        rung: as for ``GSPN2Attention``.
        mixer: builds what takes the place of GSPN-2, for a number of channels: a module that is
            called with tokens, (N, H * W, C), and (H, W).

    Returns:
        What was replaced, what stays and why, and ``revert()``.

    Raises:
        ValueError: an argument is invalid or contradicts the model, or there is nothing to replace;
            the model is then unchanged.
        TypeError: proxy is not a whole number or a function.
    """
    if mixer is not None and proxy is not None:
        raise ValueError("mixer and proxy: pass one of them")
    check_grid(grid)
    chosen: list[tuple[Site, Options]] = []
    kept: list[Kept] = []
    for found in find_attentions(model):
        if isinstance(found, Kept):
            kept.append(found)
        elif not _is_selected(only, found):
            kept.append(Kept(found.name, type(found.attention).__name__, "not selected by `only`"))
        else:
            width = None if mixer else _proxy_of(proxy, found)
            front = _known("prefix", found.name, found.prefix, prefix) or 0
            options = Options(width, chunk, rung, front, _grid_of(found, grid))
            chosen.append((found, options))
    if not chosen:
        reasons = "".join(f"\n  {stay.name}: {stay.reason}" for stay in kept)
        raise ValueError(
            f"model: {type(model).__name__} has no attention to replace{':' if reasons else ''}"
            f"{reasons}"
        )
    return swap(model, chosen, kept, mixer)


def swap(
    model: nn.Module,
    chosen: list[tuple[Site, Options]],
    kept: list[Kept],
    mixer: Callable[[int], nn.Module] | None = None,
) -> Replacement:
    """Replace attentions as their options say. The model is unchanged if one cannot be built."""
    swapped = [Swapped(site.name, site.attention, _build(site, o, mixer)) for site, o in chosen]
    _put(model, [(change.before, change.after) for change in swapped])
    undo: list[Callable[[], None]] = [partial(_take_back, model, swapped)]
    installed: set[int] = set()
    for site, _ in chosen:
        if site.install is not None and id(site.install) not in installed:
            installed.add(id(site.install))
            undo.append(site.install())
    undo += forbid_nested_tensors(model)
    return Replacement(swapped, kept, undo)


def _build(
    site: Site, options: Options, mixer: Callable[[int], nn.Module] | None
) -> InPlaceOfAttention:
    """The module in the place of an attention."""
    tensor = _example(site.attention)
    factory: dict[str, Any] = {"device": tensor.device, "dtype": tensor.dtype}
    if options.proxy is None:
        assert mixer is not None
        scan = mixer(site.dim).to(**factory)
    else:
        scan = GSPN2Attention(
            site.dim, options.proxy, chunk=options.chunk, rung=options.rung, **factory
        )
    tokens = PrefixedScan(scan, site.dim, options.prefix, **factory)
    plane = Plane(options.grid) if site.plane is None else site.plane
    built = site.build(tokens, plane, site.dropout, None if mixer else options)
    return built.train(site.attention.training)


def _example(attention: nn.Module) -> torch.Tensor:
    """A parameter of floating type: the type and device of what takes the attention's place."""
    for parameter in attention.parameters():
        if parameter.is_floating_point():
            return parameter
    return torch.empty(0)


def _put(model: nn.Module, pairs: Sequence[tuple[nn.Module, nn.Module]]) -> None:
    """Replace the first module of each pair by the second, wherever the model has it."""
    after = {id(old): new for old, new in pairs}
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if id(child) in after:
                module._modules[key] = after[id(child)]


def _take_back(model: nn.Module, swapped: Sequence[Swapped]) -> None:
    """Put the attentions back, on the device and in the mode of what took their place."""
    for change in swapped:
        device = _example(change.after).device
        if device != _example(change.before).device:
            change.before.to(device)
        change.before.train(change.after.training)
    _put(model, [(change.after, change.before) for change in swapped])


def _is_selected(only: Selection | None, site: Site) -> bool:
    """Whether the caller wants an attention replaced."""
    if only is None:
        return True
    if callable(only):
        return bool(only(site.name, site.attention))
    patterns = (only,) if isinstance(only, str) else only
    return any(fnmatchcase(site.name, pattern) for pattern in patterns)


def _proxy_of(proxy: int | Callable[[int], int] | None, site: Site) -> int:
    """C_proxy of an attention."""
    if proxy is None:
        return 2
    width = proxy(site.dim) if callable(proxy) else proxy
    if isinstance(width, bool) or not isinstance(width, int):
        raise TypeError(f"proxy: {width!r} for {site.dim} channels, expected a whole number")
    check_size(f"proxy of {site.name}", width)
    return width


def _grid_of(site: Site, grid: Grid | None) -> Grid | None:
    """The grid of an attention: of the model, or of the caller."""
    if site.plane is None:
        if grid is None:
            raise ValueError(
                f"grid: missing, but the model does not tell H and W of the tokens of {site.name}; "
                "pass grid=(H, W), or grid='square' if they always form a square"
            )
        return check_grid(grid)
    if site.plane.grid is None and grid is not None:
        raise ValueError(f"grid: {grid}, but {site.name} takes H and W from the model's input")
    shared: Grid | None = _known("grid", site.name, site.plane.grid, check_grid(grid))
    return shared


def _known(argument: str, name: str, of_model: Any, of_caller: Any) -> Any:
    """A value that the model tells, or the caller."""
    if of_model is None:
        return of_caller
    if of_caller is not None and of_caller != of_model:
        raise ValueError(f"{argument}: {of_caller}, but {of_model} in the model, at {name}")
    return of_model


def _describe(change: Swapped) -> str:
    """What took the place of an attention, in a few words."""
    scan: Any = change.after.mixer.scan
    grid = change.after.plane.grid
    words = [type(scan).__name__]
    if isinstance(scan, GSPN2Attention):
        words[0] += f"({scan.dim}, proxy={scan.proxy})"
    if grid is None:
        words.append("H and W of the input")
    else:
        words.append(grid if isinstance(grid, str) else f"{grid[0]} x {grid[1]}")
    if change.after.mixer.prefix:
        words.append(f"{change.after.mixer.prefix} in front")
    return ", ".join(words)
