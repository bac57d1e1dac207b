"""Checks of chapter 05: filling the blanks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minimae.model.decoder import Decoder
from minimae.model.masking import make_mask, take
from minimae.model.sizes import size
from minimae.model.vit import Block

from ..verdict import Verdict, failed, passed
from .comparing import expect, loaded, named_mistake, near, random, trains


def ch05_unshuffle(f: Callable[..., Any]) -> Verdict:
    """Two images with different shuffles, each token marked with its image and its patch."""
    mask = make_mask(torch.arange(2), (3, 4), ratio=0.75, seed=1)
    order = torch.cat([mask.keep, mask.masked], dim=1)
    image = torch.arange(2)[:, None].expand(2, 12)
    shuffled = torch.stack([image, order, -order], dim=-1).float()  # a token says which patch it stands for
    wanted = torch.stack([image, torch.arange(12).expand(2, 12), -torch.arange(12).expand(2, 12)], dim=-1).float()
    got = f(shuffled.clone(), mask.restore)
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 2, 12, 3):
        return failed("tokens[:, restore] takes every image's order for every image: use torch.gather, or take, along axis 1")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 12, 1):
        return failed("gather took one channel only: expand restore to b n d, so that the whole token moves")
    expect(got, (2, 12, 3))
    if torch.equal(got, wanted):
        return passed("every token is at the index of its patch")
    if torch.equal(got, shuffled):
        return failed("the tokens are still in shuffled order")
    inverse = mask.restore.argsort(dim=1)
    if torch.equal(got, torch.gather(shuffled, 1, inverse[:, :, None].expand(-1, -1, 3))):
        return failed(
            "shuffled a second time: row i of the result is row restore[i] of the tokens, not the other way round (gather, not scatter)"
        )
    if torch.equal(got[0], wanted[0]):
        return failed("the first image is right, the second is not: each image has its own restore, so do not use restore[0] for all")
    return failed(f"the first image should hold patches {list(range(12))}, yours holds {got[0, :, 1].int().tolist()}")


def ch05_places_of(f: Callable[..., Any]) -> Verdict:
    """Rows of the position table for a small mask."""
    keep, masked = torch.tensor([[4, 1], [0, 2]]), torch.tensor([[0, 5, 2, 3], [5, 4, 3, 1]])
    wanted = torch.tensor([[0, 5, 2, 1, 6, 3, 4], [0, 1, 3, 6, 5, 4, 2]])
    got = f(keep.clone(), masked.clone())
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 6):
        return failed("six rows for seven tokens: the class token comes first, and has row 0")
    expect(got, (2, 7))
    if got.is_floating_point():
        return failed("rows of a table are whole numbers: use zeros_like(keep[:, :1]) for the class token, so that the type stays int64")
    if torch.equal(got, wanted):
        return passed("take(positions, rows) gives each token its own position")
    if torch.equal(got, torch.cat([torch.zeros_like(keep[:, :1]), keep, masked], dim=1)):
        return failed("one row off: row 0 of the table belongs to the class token, so patch i has row i + 1")
    if torch.equal(got, torch.cat([torch.zeros_like(keep[:, :1]), masked + 1, keep + 1], dim=1)):
        return failed("the visible tokens come before the masked ones")
    if torch.equal(got, torch.arange(7).expand(2, 7)):
        return failed("that is the table in image order, but the tokens are in the order of the shuffle: this is the bug of the section “Break it” below")
    if torch.equal(got.sort(dim=1).values, wanted.sort(dim=1).values):
        return failed("the right rows in another order: [class | visible | masked], each list as the mask holds it")
    i = 0 if not torch.equal(got[0], wanted[0]) else 1
    return failed(f"for keep {keep[i].tolist()} and masked {masked[i].tolist()}, the rows are {wanted[i].tolist()}, not {got[i].tolist()}")


def ch05_decoder(cls: type[nn.Module]) -> Verdict:
    """Two blocks with random weights, on a grid that is not square, against the package's decoder."""
    shape = size("nano", image=(12, 16), patch=4, depth=1, width=24, heads=3, decoder_width=16, decoder_heads=2, decoder_depth=2)
    package = Decoder(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, parameter in package.named_parameters():
            if name != "positions":
                nn.init.normal_(parameter, std=0.3)
    mask = make_mask(torch.arange(2), shape.grid, ratio=0.75, seed=1)
    k, m = mask.keep.shape[1], mask.masked.shape[1]
    latent, rows = random(2, 1 + k, 24), torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep + 1, mask.masked + 1], dim=1)
    decoder = loaded(cls(shape), package)
    got, wanted = decoder(latent.clone(), mask), package(latent, mask)
    if near(got, wanted):
        trains(decoder.named_parameters(), got)
        return passed("it predicts what the package's decoder predicts, and nothing was unshuffled")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 1 + k + m, shape.values):
        return failed("these are predictions for all tokens: only those of the masked patches are wanted, the last m rows")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 1 + k, shape.values):
        return failed("there are no tokens for the masked patches: append self.mask_token, expanded to b m d")
    expect(got, (2, m, shape.values), f"for {m} masked patches of {shape.values} values")

    def decoded(positions: Tensor, *, norm: bool = True, part: slice = slice(-m, None), depth: int = 2) -> Tensor:
        x = torch.cat([package.embed(latent), package.mask_token.expand(2, m, -1)], dim=1) + positions  # type: ignore[union-attr]
        for block in package.blocks[:depth]:
            x = block(x)
        return package.predict(package.norm(x) if norm else x)[:, part]  # type: ignore[no-any-return]

    table = package.positions
    right = take(table, rows)
    named_mistake(got, (
        (decoded(0 * right), "no positions are added: all mask tokens are equal, and get equal predictions"),
        (decoded(table.expand(2, -1, -1)), "the positions are in image order, but the tokens are in shuffled order: take(self.positions, rows)"),
        (decoded(take(table, rows.clamp(min=1) - 1)), "one row off: row 0 of the table belongs to the class token, so patch i has row i + 1"),
        (decoded(torch.cat([0 * right[:, : 1 + k], right[:, 1 + k :]], dim=1)), "the visible tokens need positions too, not only the mask tokens"),
        (decoded(right, norm=False), "the norm before the last layer is missing: self.predict(self.norm(x))"),
        *((decoded(right, part=slice(i, i + m)), "these are the predictions of other tokens: return those of the last m tokens") for i in range(1 + k)),
        (decoded(right, depth=1), "only one block was used: loop over self.blocks"),
        (wanted.gather(1, mask.masked.argsort(dim=1)[:, :, None].expand(-1, -1, shape.values)), "the values are right, but sorted into image order: keep the order of mask.masked"),
    ))  # fmt: skip
    return failed("the shape is right, but the numbers differ from the package's decoder. Compare the tokens before the first block, then those that you return")


def ch05_minds_no_order(f: Callable[..., Any]) -> Verdict:
    """Layers that depend on the order, and layers that do not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 8, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        block, norm = Block(8, 2).double(), nn.LayerNorm(8).double()
        places = torch.randn(9, 8, dtype=torch.float64)
        along, around = nn.Conv1d(8, 8, 3, padding=1).double(), nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular").double()
        layers: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
            "a transformer block": (block, True),
            "a LayerNorm": (norm, True),
            "the mean of all tokens, added to each": (lambda y: y + y.mean(1, keepdim=True), True),
            "adding positions": (lambda y: y + places, False),
            "a running sum over the tokens": (lambda y: y.cumsum(1), False),
            "a convolution along the tokens": (lambda y: along(y.transpose(1, 2)).transpose(1, 2), False),
            "reversing the order of the tokens": (lambda y: y.flip(1), False),
            "a circular convolution along the tokens": (lambda y: around(y.transpose(1, 2)).transpose(1, 2), False),
            "adding positions that neighbours share in pairs": (lambda y: y + places[torch.arange(9) // 2], False),
            "adding small positions": (lambda y: y + 0.001 * places, False),
        }
        answers = {name: f(layer, x.clone()) for name, (layer, _) in layers.items()}
    said = {name: bool(answer) for name, answer in answers.items()}
    if all(said.values()):
        return failed("it returns True for everything, for adding positions too: does your shuffle really move the tokens (axis 1)?")
    if not said["a LayerNorm"] and not said["a transformer block"]:
        return failed(
            "it returns False for a LayerNorm, which treats each token alone: shuffle the *output* of layer(x) too, before you compare. "
            "Equal outputs without that would be invariant, not equivariant"
        )
    if not said["a transformer block"]:
        return failed("it returns False for a transformer block. Permute the tokens (axis 1), and compare with torch.allclose: sums in another order differ in the last bits")
    if said["reversing the order of the tokens"]:
        return failed(
            "reversing the tokens depends on the order, but your shuffle misses it: do not use flip, or a swap like it, as the shuffle"
        )
    hints = {
        "a circular convolution along the tokens": ". Your permutation moves all tokens by the same number of steps: try torch.randperm",
        "adding positions that neighbours share in pairs": ". Your permutation only swaps such neighbours: try torch.randperm",
        "adding small positions": ". The positions are about 0.001, and your tolerance is larger: use the default of torch.allclose",
    }
    for name, (_, right) in layers.items():
        if said[name] != right:
            return failed(f"for {name}, the answer is {right}, and yours is {said[name]}{hints.get(name, '')}")
    return passed("you can now test any layer for it")
