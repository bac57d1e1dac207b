"""Checks of chapter 12: boxes and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minimae.tasks.pyramid import Pyramid
from minimae.tasks.segmenter import MaskTransformer

from ..verdict import Verdict, failed, passed
from .comparing import Mistake, expect, near, random, trains


def ch12_mask_transformer(f: Callable[..., Any]) -> Verdict:
    """Compare the reader's head, with the package's weights, to the package's head."""
    maps = random(2, 8, 2, 3, seed=7)
    with torch.random.fork_rng(devices=[]):  # the reader's random state is not changed
        theirs = MaskTransformer(8, 3, heads=2)
        for seed, weight in enumerate(theirs.parameters()):
            weight.data.copy_(random(*weight.shape, seed=seed) * 0.5)
        mine = filled(f(8, 3, heads=2), theirs)
    got, want = mine(maps.clone()), theirs(maps)
    if got is None:
        raise Mistake("forward returned nothing: does it end with `return`?")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 6, 3):
        return failed("one row for each patch is right, but a map is expected: (h w) back to h and w, and the classes in front of them")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 3, 3, 2):
        return failed("height and width are exchanged: the grid has 2 rows and 3 columns")
    expect(got, (2, 3, 2, 3), "the masks are b classes h w")
    if near(got, want):
        trains(mine.named_parameters(), got)
        return passed("class tokens and patches meet in two blocks, and each mask is a dot product")
    for words, wrong in mistaken(theirs, maps).items():
        if near(got, wrong):
            return failed(words)
    return failed(
        "the shape is right, the numbers are not: patches through enter → join the class tokens → blocks → norm → split → "
        "patch_side, class_side → length 1 → dot products → mask_norm"
    )


def mistaken(head: MaskTransformer, maps: Tensor) -> dict[str, Tensor]:
    """What the classic mistakes would return."""
    h, w = maps.shape[-2:]
    n, tokens = h * w, repeat(head.class_tokens, "1 classes d -> b classes d", b=len(maps))
    raw = rearrange(maps, "b d h w -> b (h w) d")

    def masks(
        x: Tensor, *, norm: bool = True, sides: tuple[nn.Module, nn.Module] = (head.patch_side, head.class_side),
        unit: tuple[bool, bool] = (True, True), scale: bool = True,
    ) -> Tensor:  # fmt: skip
        x = head.norm(x) if norm else x
        parts = [side(part) for side, part in zip(sides, (x[:, :n], x[:, n:]))]
        patches, classes = (F.normalize(part, dim=-1) if short else part for short, part in zip(unit, parts))
        found = patches @ classes.transpose(1, 2)
        return rearrange(head.mask_norm(found) if scale else found, "b (h w) classes -> b classes h w", h=h)

    def through(x: Tensor) -> Tensor:
        for block in head.blocks:
            x = block(x)
        return x

    entered = head.enter(raw)
    joined = through(torch.cat([entered, tokens], dim=1))
    right = masks(joined)
    rows, none = rearrange(right, "b classes h w -> b (h w) classes"), nn.Identity()
    return {
        "`enter` was not used: it brings the patches to the head before the class tokens join": masks(through(torch.cat([raw, tokens], 1))),
        "the blocks were not used: class tokens that never meet the patches are the same for every image": masks(
            torch.cat([entered, tokens], 1)
        ),
        "the class tokens joined after the blocks: they must be in the sequence while the blocks run": masks(
            torch.cat([through(entered), tokens], 1)
        ),
        "patches and classes are exchanged: the first h·w tokens are the patches, in the order in which you joined them": masks(
            torch.cat([joined[:, n:], joined[:, :n]], 1)
        ),
        "`norm` is missing after the blocks": masks(joined, norm=False),
        "`enter` is for the patches only: the class tokens join after it": masks(
            through(torch.cat([entered, head.enter(tokens)], 1))
        ),
        "patches and class tokens both go through `patch_side`: the class tokens have `class_side`": masks(joined, sides=(head.patch_side,) * 2),
        "patches and class tokens both go through `class_side`: the patches have `patch_side`": masks(joined, sides=(head.class_side,) * 2),
        "`patch_side` and `class_side` are exchanged": masks(joined, sides=(head.class_side, head.patch_side)),
        "`patch_side` and `class_side` are missing: after the split, the patches go through one, the class tokens through the other": masks(
            joined, sides=(none, none)
        ),
        "the dot product is not a cosine: bring both sides to length 1 with F.normalize(…, dim=-1)": masks(joined, unit=(False, False)),
        "the patches are not scaled to length 1: F.normalize(…, dim=-1), after patch_side": masks(joined, unit=(False, True)),
        "the class tokens are not scaled to length 1: F.normalize(…, dim=-1), after class_side": masks(joined, unit=(True, False)),
        "the patches were (h w) at the start and are (w h) at the end": rearrange(rows, "b (w h) classes -> b classes h w", h=h),
        "the patches were (w h) at the start and are (h w) at the end": rearrange(right, "b c h w -> b c (w h)").reshape(right.shape),
        "reshape alone does not move an axis: rearrange b (h w) classes to b classes h w": rows.reshape(right.shape),
        "`mask_norm` is missing: cosines lie between −1 and 1, too flat for a softmax": masks(joined, scale=False),
    }


def filled(mine: Any, theirs: nn.Module) -> nn.Module:
    """The reader's module with the package's weights. Raises Mistake when the names or shapes of its parameters differ."""
    if not isinstance(mine, nn.Module):
        raise Mistake(f"a torch module was expected, not {type(mine).__name__}")
    wanted, have = theirs.state_dict(), mine.state_dict()
    if missing := [name for name in wanted if name not in have]:
        raise Mistake(f"it has no parameter {missing[0]}; these are there: {', '.join(list(have)[:8]) or 'none'}")
    if extra := [name for name in have if name not in wanted]:
        raise Mistake(f"it has a parameter too many, {extra[0]}")
    for name, value in wanted.items():
        if have[name].shape != value.shape:
            raise Mistake(f"{name} should have shape {tuple(value.shape)}, not {tuple(have[name].shape)}")
    mine.load_state_dict(wanted)
    return mine.eval()


def ch12_pyramid(f: Callable[..., Any]) -> Verdict:
    """Four maps from one of stride 8, with the package's weights."""
    strides, x = (2, 4, 8, 16), random(1, 8, 8, 12, seed=3)
    with torch.random.fork_rng(devices=[]):
        theirs = Pyramid(8, 8, strides=strides, channels=5).eval()
        mine = f(8, 8, strides=strides, channels=5)
    if not isinstance(mine, nn.Module):
        raise Mistake(f"a torch module was expected, not {type(mine).__name__}")
    levels: Any = getattr(mine, "levels", None)
    if not isinstance(levels, nn.ModuleDict):
        return failed("keep the levels in self.levels, an nn.ModuleDict: in a plain dict or list, torch does not find their weights")
    if list(levels) != [str(stride) for stride in strides]:
        return failed(f"the keys of self.levels are {[str(s) for s in strides]}, the strides as text, not {list(levels)}")
    with torch.no_grad():
        maps: Any = mine(x)
        if not isinstance(maps, Mapping):
            return failed("forward returns a dictionary: the map of each stride")
        if fault := sizes(maps, x, strides):
            return failed(fault)
        if kinds := [name for name, level in levels.items() if any(isinstance(part, nn.AvgPool2d) for part in level.modules())]:
            return failed(f"stride {kinds[0]} averages: the pyramid takes the largest value of four, with MaxPool2d")
        if any(isinstance(part, nn.Upsample) for part in mine.modules()):
            return failed("an Upsample only repeats what is there: a ConvTranspose2d can learn what to put into the finer map")
        if any(conv.bias is not None for conv in mine.modules() if isinstance(conv, nn.Conv2d)):
            return failed("the 1×1 and 3×3 convolutions need no bias: the norm after each has one")
        if any(conv.bias is None for conv in mine.modules() if isinstance(conv, nn.ConvTranspose2d)):
            return failed("the transposed convolutions have a bias: only the 1×1 and 3×3 convolutions have none")
        if sum(isinstance(part, nn.GELU) for part in mine.modules()) < 1:
            return failed("between two doublings come a norm and a GELU: without them, two transposed convolutions are one linear step")
        for name, level in levels.items():
            kinds, right = ([type(part).__name__ for part in parts.children()] for parts in (level, theirs.levels[name]))
            if kinds != right and kinds.count("GELU") >= kinds.count("ConvTranspose2d") > 0:
                return failed("norm and GELU come only between two doublings: not before the first, and not after the last")
            if kinds != right:
                return failed(f"the layers of stride {name} are {', '.join(kinds)}, and should be {', '.join(right)}")
        got, want = filled(mine, theirs)(x), theirs(x)
    wrong = [stride for stride in want if not near(got[stride], want[stride])]
    if wrong:
        return failed(f"the shapes are right, the numbers of stride {wrong[0]} are not: does forward give every level the same map x?")
    return passed("one map becomes a map of each stride, with the weights of the package and its numbers")


def sizes(maps: Mapping[str, Any], x: Tensor, strides: tuple[int, ...]) -> str | None:
    """The mistake in the shapes of the pyramid's maps over a map of stride 8, or None."""
    want = {str(s): (1, 5, x.shape[2] * 8 // s, x.shape[3] * 8 // s) for s in strides}
    got = {name: tuple(m.shape) for name, m in maps.items() if isinstance(m, Tensor)}
    if got == want:
        return None
    heights = [shape[2] for shape in got.values() if len(shape) == 4]
    if len(heights) > 1 and heights[0] < heights[-1]:
        return "the strides are mixed up: stride 2 must be the finest map, and yours is coarser than the others (doublings takes patch, then stride)"
    if got and {shape[2:] for shape in got.values()} == {tuple(x.shape[2:])}:
        return "all maps have the size of x: the doubling and the pooling are missing"
    for name, shape in want.items():
        if name not in got:
            return f"there is no map of stride {name}"
        if got[name][2:] != shape[2:]:
            return f"the map of stride {name} should have {shape[2]} × {shape[3]} places, not {got[name][2]} × {got[name][3]}"
        if got[name][:2] != shape[:2]:
            return f"every map has the same channels, 5 here, and that of stride {name} has {got[name][1]}"
    return "the shapes should be " + ", ".join(f"{name}: {shape}" for name, shape in want.items())


def ch12_box_overlap(f: Callable[..., Any]) -> Verdict:
    """Intersection over union of every pair of boxes."""
    a = torch.tensor([[0.0, 0.0, 4.0, 2.0], [10.0, 10.0, 12.0, 16.0]])
    b = torch.tensor([[2.0, 0.0, 6.0, 2.0], [0.0, 0.0, 4.0, 2.0], [20.0, 20.0, 22.0, 22.0]])
    got = f(a.clone(), b.clone())
    if isinstance(got, Tensor) and tuple(got.shape) == (3, 2):
        return failed("transposed: a row for each box of a, a column for each box of b")
    expect(got, (2, 3), "every box of a meets every box of b: k m")

    def overlap(*, extra: float = 0.0, clamp: bool = True, twice: bool = False) -> Tensor:
        corner, far = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
        sides = far - corner + extra
        inside = (sides.clamp(min=0) if clamp else sides).prod(-1)
        areas = [(boxes[:, 2:] - boxes[:, :2] + extra).prod(-1) for boxes in (a, b)]
        total = areas[0][:, None] + areas[1][None]
        return inside / (total if twice else total - inside)

    for words, wrong in {
        "two boxes that do not touch overlap: a negative width times a negative height is positive, so clamp both at 0": overlap(
            clamp=False
        ),
        "the union counts the intersection twice: subtract it once": overlap(twice=True),
        "no + 1: right and bottom lie just beyond the last pixel, so the width is right − left": overlap(extra=1.0),
        "that is in percent: an IoU lies between 0 and 1": 100 * overlap(),
    }.items():
        if near(got, wrong):
            return failed(words)
    if near(got, overlap()):
        return passed("1 for equal boxes, 0 for boxes that do not touch, 1/3 for half of each")
    i, j = (~((got - overlap()).abs() <= 1e-5)).nonzero()[0].tolist()
    return failed(f"the IoU of {a[i].tolist()} and {b[j].tolist()} is {float(overlap()[i, j]):.4f}, and yours is {float(got[i, j]):.6f}")


def ch12_same_window(f: Callable[..., Any]) -> Verdict:
    """Which patches of a grid share a window."""
    for (h, w), side in (((4, 6), 2), ((5, 7), 3)):  # windows divide the first grid, and not the second
        got = f((h, w), side)
        expect(got, (h * w, h * w), f"a row and a column for each patch, n n, of a grid of {h} × {w}")
        row, column = torch.arange(h * w) // w, torch.arange(h * w) % w
        right = _same((row // side) * w + column // side)
        kind, got = str(got.dtype).removeprefix("torch."), got.bool()
        if torch.equal(got, right) and kind != "bool":
            return failed(f"the table is right, but its values are {kind}, not bool")
        if torch.equal(got, right):
            continue
        if torch.equal(got, ((row[:, None] - row).abs() < side) & ((column[:, None] - column).abs() < side)):
            return failed("those are neighbourhoods around each patch; windows are fixed, and two neighbours may be in different ones")
        if torch.equal(got, _same(torch.arange(h * w) // side**2)):
            return failed("patches are numbered along rows, so side² numbers in a row are no square: find row and column of each first")
        wrong_row, wrong_column = torch.arange(h * w) // h, torch.arange(h * w) % h
        if torch.equal(got, _same((wrong_row // side) * w + wrong_column // side)):
            return failed("divide by the number of columns, w, to get the row: h was used")
        if torch.equal(got, _same(row // side)) or torch.equal(got, _same(column // side)):
            return failed("that compares one axis only: row *and* column must be in the same window")
        if torch.equal(got, _same(row % side) & _same(column % side)):
            return failed("% gives the index inside a window; // gives the window")
        i, j = (got != right).nonzero()[0].tolist()
        where = "the same window" if right[i, j] else "different windows"
        return failed(f"in a grid of {h} × {w}, patches {i} and {j} are in {where} of side {side}, and your table says {bool(got[i, j])}")
    return passed("windows cut the grid, and a patch sees its own window only")


def _same(x: Tensor) -> Tensor:
    return x[:, None] == x[None]
