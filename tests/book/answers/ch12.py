"""Classic wrong answers to the exercises of chapter 12. The solutions are taken from the notebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from minimae.tasks.pyramid import Norm2d, Pyramid, doublings
from minimae.tasks.segmenter import MaskTransformer


def _head(**flags):
    """A mask transformer with a mistake in its forward pass."""

    class Head(MaskTransformer):
        def forward(self, maps):
            b, _, h, w = maps.shape
            x = rearrange(maps, "b d h w -> b (w h) d" if "columns first" in flags else "b d h w -> b (h w) d")
            x = x if "no enter" in flags else self.enter(x)
            tokens = repeat(self.class_tokens, "1 classes d -> b classes d", b=b)
            tokens = self.enter(tokens) if "enters all" in flags else tokens
            late = "late" in flags
            x = x if late else torch.cat([x, tokens], dim=1)
            for block in () if "no blocks" in flags else self.blocks:
                x = block(x)
            x = torch.cat([x, tokens], dim=1) if late else x
            x = x if "no norm" in flags else self.norm(x)
            patches, classes = x[:, : h * w], x[:, h * w :]
            first, second = flags.get("sides", ("patch_side", "class_side"))
            patches, classes = getattr(self, first, nn.Identity())(patches), getattr(self, second, nn.Identity())(classes)
            if "no cosine" not in flags:
                patches = patches if "long patches" in flags else F.normalize(patches, dim=-1)
                classes = classes if "long classes" in flags else F.normalize(classes, dim=-1)
            masks = patches @ classes.transpose(1, 2)
            masks = masks if "no mask norm" in flags else self.mask_norm(masks)
            if "rows" in flags:
                return masks
            if "reshaped" in flags:
                return masks.reshape(b, -1, h, w)
            if "columns last" in flags:
                return rearrange(masks, "b (w h) classes -> b classes h w", h=h)
            return rearrange(masks, "b (w h) classes -> b classes w h" if "turned" in flags else "b (h w) classes -> b classes h w", h=h)

    return Head


class _InPlace(MaskTransformer):
    """Right numbers, but one step overwrites the input of the norm before it."""

    def forward(self, maps):
        b, _, h, w = maps.shape
        x = torch.cat([self.enter(rearrange(maps, "b d h w -> b (h w) d")), self.class_tokens.expand(b, -1, -1)], dim=1)
        for block in self.blocks:
            x += block.attention(block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        x = self.norm(x)
        patches, classes = F.normalize(self.patch_side(x[:, : h * w]), dim=-1), F.normalize(self.class_side(x[:, h * w :]), dim=-1)
        return rearrange(self.mask_norm(patches @ classes.transpose(1, 2)), "b (h w) classes -> b classes h w", h=h)


class _Exchanged(MaskTransformer):
    def forward(self, maps):
        h, w = maps.shape[-2:]
        x = torch.cat([self.class_tokens.expand(len(maps), -1, -1), self.enter(rearrange(maps, "b d h w -> b (h w) d"))], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        patches, classes = F.normalize(self.patch_side(x[:, : h * w]), dim=-1), F.normalize(self.class_side(x[:, h * w :]), dim=-1)
        return rearrange(self.mask_norm(patches @ classes.transpose(1, 2)), "b (h w) classes -> b classes h w", h=h)


def _pyramid(**flags):
    """A pyramid with a mistake in its levels."""

    class Levels(nn.Module):
        def __init__(self, d, patch, *, strides, channels):
            super().__init__()
            levels = {}
            for stride in strides:
                times = doublings(stride, patch) if "mixed" in flags else doublings(patch, stride)
                pool = nn.AvgPool2d if "average" in flags else nn.MaxPool2d
                wide, steps = d, [pool(2**-times)] if times < 0 else []
                for i in range(0 if "flat" in flags else times):
                    between = i and not {"linear", "after each"} & flags.keys()
                    steps += [*([] if "no norm" in flags else [Norm2d(wide)]), nn.GELU()] if between else []
                    if "repeats" in flags:
                        steps.append(nn.Upsample(scale_factor=2))
                        continue
                    steps.append(nn.ConvTranspose2d(wide, wide // 2, kernel_size=2, stride=2, bias="no bias" not in flags))
                    wide //= 2
                    steps += [Norm2d(wide), nn.GELU()] if "after each" in flags else []
                steps = [] if "flat" in flags else steps
                bias = "bias" in flags
                steps += [nn.Conv2d(wide, channels, 1, bias=bias), Norm2d(channels)]
                steps += [nn.Conv2d(channels, channels, 3, padding=0 if "shrinks" in flags else 1, bias=bias), Norm2d(channels)]
                levels[str(stride)] = nn.Sequential(*steps)
            self.levels = levels if "plain" in flags else nn.ModuleDict(levels)

        def forward(self, x):
            return {stride: level(x) for stride, level in self.levels.items()}

    return Levels


class _Chained(Pyramid):
    def forward(self, x):
        maps = super().forward(x)
        return {**maps, "16": maps["16"] * 2}


def _overlap(a, b, *, clamp=True, extra=0.0, twice=False):
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2]) + extra
    inside = (sides.clamp(min=0) if clamp else sides).prod(-1)
    first, second = ((boxes[:, 2:] - boxes[:, :2] + extra).prod(-1) for boxes in (a, b))
    total = first[:, None] + second[None]
    return inside / (total if twice else total - inside)


def _windows(grid, side, *, by=None, row=True, column=True, inside=False):
    h, w = grid
    number = torch.arange(h * w)
    rows, columns = number // (by or w), number % (by or w)
    rows, columns = (rows % side, columns % side) if inside else (rows // side, columns // side)
    same = torch.ones(h * w, h * w, dtype=torch.bool)
    same = same & (rows[:, None] == rows) if row else same
    return same & (columns[:, None] == columns) if column else same


def _near(grid, side):
    h, w = grid
    rows, columns = torch.arange(h * w) // w, torch.arange(h * w) % w
    return ((rows[:, None] - rows).abs() < side) & ((columns[:, None] - columns).abs() < side)


def _in_a_row(grid, side):
    number = torch.arange(grid[0] * grid[1]) // side**2
    return number[:, None] == number


ANSWERS = {
    "ch12_mask_transformer": {
        "wrong": {
            "does not enter": (_head(**{"no enter": True}), "`enter`"),
            "no blocks": (_head(**{"no blocks": True}), "never meet"),
            "joins late": (_head(late=True), "after the blocks"),
            "exchanged": (_Exchanged, "exchanged"),
            "no norm": (_head(**{"no norm": True}), "`norm` is missing"),
            "no cosine": (_head(**{"no cosine": True}), "cosine"),
            "no mask norm": (_head(**{"no mask norm": True}), "`mask_norm`"),
            "rows, no map": (_head(rows=True), "a map is expected"),
            "turned": (_head(turned=True), "height and width"),
            "enters all": (_head(**{"enters all": True}), "for the patches only"),
            "patch_side for both": (_head(sides=("patch_side", "patch_side")), "the class tokens have `class_side`"),
            "class_side for both": (_head(sides=("class_side", "class_side")), "the patches have `patch_side`"),
            "sides exchanged": (_head(sides=("class_side", "patch_side")), "are exchanged"),
            "no sides": (_head(sides=("", "")), "`class_side` are missing"),
            "long patches": (_head(**{"long patches": True}), "patches are not scaled to length 1"),
            "long class tokens": (_head(**{"long classes": True}), "class tokens are not scaled to length 1"),
            "columns at the end": (_head(**{"columns last": True}), r"\(w h\) at the end"),
            "columns at the start": (_head(**{"columns first": True}), r"\(w h\) at the start"),
            "reshaped": (_head(reshaped=True), "reshape alone"),
            "something else": (_head(**{"no norm": True, "no cosine": True}), "patch_side, class_side → length 1"),
            "in place": (_InPlace, r"training would stop: `x \+= …`"),
            "no gradient": (type("Head", (MaskTransformer,), {"forward": torch.no_grad()(MaskTransformer.forward)}), "no gradient"),
        }
    },
    "ch12_pyramid": {
        "wrong": {
            "strides mixed up": (_pyramid(mixed=True), "mixed up"),
            "average": (_pyramid(average=True), "averages"),
            "repeats pixels": (_pyramid(repeats=True), "Upsample"),
            "one linear step": (_pyramid(linear=True), "GELU"),
            "biases": (_pyramid(bias=True), "no bias"),
            "no padding": (_pyramid(shrinks=True), "places, not"),
            "one size": (_pyramid(flat=True), "size of x"),
            "a plain dict": (_pyramid(plain=True), "ModuleDict"),
            "other numbers": (_Chained, "same map x"),
            "norm after each": (_pyramid(**{"after each": True}), "only between two doublings"),
            "no norm between": (_pyramid(**{"no norm": True}), "stride 2 are ConvTranspose2d, GELU, .* should be ConvTranspose2d, Norm2d"),
            "no bias": (_pyramid(**{"no bias": True}), "have a bias"),
        }
    },
    "ch12_box_overlap": {
        "wrong": {
            "not clamped": (lambda a, b: _overlap(a, b, clamp=False), "clamp"),
            "counts twice": (lambda a, b: _overlap(a, b, twice=True), "twice"),
            "one pixel more": (lambda a, b: _overlap(a, b, extra=1.0), r"\+ 1"),
            "transposed": (lambda a, b: _overlap(b, a), "transposed"),
            "percent": (lambda a, b: 100 * _overlap(a, b), "in percent"),
            "equal boxes only": (
                lambda a, b: (a[:, None] == b[None]).all(-1).float(), r"\] and \[2.0, 0.0, 6.0, 2.0\] is 0.3333, and yours is 0.000000"
            ),
        }
    },
    "ch12_same_window": {
        "wrong": {
            "neighbourhoods": (_near, "neighbourhoods"),
            "side² in a row": (_in_a_row, "no square"),
            "divides by the rows": (lambda g, s: _windows(g, s, by=g[0]), "number of columns"),
            "rows only": (lambda g, s: _windows(g, s, column=False), "one axis"),
            "columns only": (lambda g, s: _windows(g, s, row=False), "one axis"),
            "numbers": (lambda g, s: _windows(g, s).float(), "float32, not bool"),
            "windows from the right": (
                lambda g, s: _windows(g, s) if g[1] % s == 0 else _windows(g, s).flip(0, 1),
                "of 5 × 7, patches 0 and 1 are in the same window of side 3.*False",
            ),
            "inside a window": (lambda g, s: _windows(g, s, inside=True), "gives the window"),
        }
    },
}  # fmt: skip
