# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Filling the blanks
#
# **The promise.** You build the half of the model that paints what is missing, and prove that the step which looks most necessary in it,
# putting the tokens back in order, need not be done at all.
#
# Minutes: 45. Needs: chapters 01 to 04.
#
# When you are through, you can
#
# - say what a mask token is, how many there are, and how many numbers are learned for them;
# - follow one token from the shuffle to its place in the picture, and back;
# - explain why the positions are added a second time, and what happens if they are not;
# - prove that attention needs no order, and use it to leave a step out;
# - say when a small decoder is cheap, and when it costs more than the encoder.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
import time

import minimae_book as book
import torch
from einops import repeat
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn

import minimae
from minimae import Block, Mask, Size, data, flops, make_mask, patchify, resize_positions, sincos_2d, size, take, weights
from minimae.data.augment import normalise
from minimae.model.checks import checked_mask
from minimae.model.patches import Pair
from minimae.model.sizes import block_flops, resolve
from minimae.model.vit import initialise
from minimae.tasks.reconstruct import reconstruction_triplets

# %% [markdown]
# ## Where we stand
#
# The encoder of chapter 04 looked at 12 patches of 49 and left 13 tokens: one for the class token, one for each visible patch. For the 37
# masked patches there is *nothing*. Not a bad guess, not a zero: no row in the tensor.
#
# The decoder has to say what those 37 look like. It needs somewhere to write the answers. So it lays out blank cards, one for each masked
# patch, writes on each card only *where* it belongs, and lets the blanks look around.

# %%
trained = weights.load("fashion-nano")
encoder, model_size = trained.model.encoder, trained.model.size
clothes = data.load("fashion", "test").balanced_subset(10, seed=1)
images = normalise(clothes.pixels, trained.statistics)
mask = make_mask(clothes.ids, model_size.grid, ratio=0.75, seed=0)
with torch.no_grad():
    latent = encoder(images, mask)

# %% tags=["nbval-check-output"]
print("latent  b t d :", tuple(latent.shape))
print("keep    b k   :", tuple(mask.keep.shape), "  masked  b m :", tuple(mask.masked.shape))

# %% [markdown]
# ## Six patches, by hand
#
# Take a picture of two rows and three columns, so six patches, numbered 0 to 5. The shuffle (chapter 02) drew the order 4, 1, 0, 5, 2, 3,
# and the first two are kept.
#
# - The encoder hands over two tokens: of patch 4, of patch 1. In *that* order.
# - We append four blanks. They stand for patches 0, 5, 2, 3. In that order.
# - To restore the picture we ask of each patch: where in the row of six does it sit? Patch 0 sits at place 2. Patch 1 at place 1. Patch 2
#   at place 4.
#
# That list of places is `restore`. It is the shuffle, inverted.

# %%
small = Mask(keep=torch.tensor([[4, 1]]), masked=torch.tensor([[0, 5, 2, 3]]))
row = ["token of 4", "token of 1", "blank", "blank", "blank", "blank"]
restored = [row[place] for place in small.restore[0].tolist()]

# %% tags=["nbval-check-output"]
print("restore:", small.restore[0].tolist())
print(restored)

# %% mystnb={"image": {"alt": "Three rows of boxes. First row: two visible tokens, numbered 4 and 1. Second row: the same two, followed by four blanks numbered 0, 5, 2 and 3. Third row: all six in order from 0 to 5, the visible ones at places 1 and 4. Lines follow each token from row to row and cross."}}
plots.token_strip([4, 1], [0, 5, 2, 3])

# %% [markdown]
# *Figure 5.1: the example. The number below a token is the patch it stands for. Blue: the encoder saw it. Grey, with a question mark: a
# blank.*
#
# Now the same with a photograph, cut into 16 patches of 7 × 7 pixels. This is the picture to keep from this chapter.

# %%
shirt = clothes.pixels[6:7].float() / 255
pieces = patchify(shirt, 7)[0].unflatten(-1, (7, 7)).numpy()
few = make_mask(torch.tensor([6]), (4, 4), ratio=0.75, seed=5)

# %% mystnb={"image": {"alt": "The same three rows for a photograph of a garment in 16 patches. First row: four small pieces of the photograph. Second row: these four, then twelve blanks. Third row: sixteen tokens in image order, with the four pieces at their own places among the blanks. Crossing lines lead from the second row to the third."}}
plots.token_strip(few.keep[0].tolist(), few.masked[0].tolist(), pieces)

# %% [markdown]
# *Figure 5.2: visible, with blanks, restored: one test photograph of Fashion-MNIST, 75 % of 16 patches masked (mask seed 5). The pieces
# stand for tokens; what really travels is a vector. The class token is not drawn. It stays in front.*

# %% [markdown]
# ## Step 1: to the decoder's width
#
# The decoder is its own small transformer. Here its tokens are 64 wide, the encoder's are 96. One linear layer changes the width.

# %%
torch.manual_seed(0)
d = model_size.decoder_width
embed = nn.Linear(model_size.width, d)
visible = embed(latent)
assert visible.shape == (10, 13, 64)

# %% [markdown]
# ## Step 2: one learned vector, 37 times
#
# What is written on a blank card? A vector that is learned, the **mask token**. There is just one of it. It is repeated for every masked
# patch of every image. `expand` repeats without copying: all 370 rows are the same 64 numbers in memory.

# %%
mask_token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
blanks = mask_token.expand(len(latent), mask.masked.shape[1], -1)
shuffled = torch.cat([visible, blanks], dim=1)

# %% tags=["nbval-check-output"]
print("blanks :", tuple(blanks.shape), "  steps in memory:", blanks.stride())
print("tokens :", tuple(shuffled.shape), " = 1 class + 12 visible + 37 masked")

# %% [markdown]
# The strides say it: to get from one image to the next, or from one blank to the next, memory is not left (0 steps). Learning it costs 64
# numbers, for all blanks together.

# %% [markdown]
# ## Step 3: positions, again
#
# All blanks are equal. Attention treats equal tokens equally. So what comes out for them would be ... Guess first.
#
# **How many *different* predictions would the 37 masked patches of one image get, if no positions were added in the decoder?** (The
# encoder has added positions to the visible patches; they are still inside the latent.)

# %%
book.predict(
    "different-predictions", 37, ask="Different predictions for the 37 masked patches of one image, without positions in the decoder?"
)


# %% [markdown]
# To find out we need a decoder. The trained one will do: we run its parts by hand, with its own weights, and leave the positions in or out.


# %%
@torch.no_grad()
def by_hand(with_positions: bool) -> Tensor:
    """The trained decoder in loose parts: what is predicted for the masked patches, `b m values`."""
    decoder = trained.model.decoder
    x = torch.cat([decoder.embed(latent), decoder.mask_token.expand(10, 37, -1)], dim=1)
    if with_positions:
        x = x + decoder.positions[torch.cat([torch.zeros(10, 1, dtype=torch.int64), mask.keep + 1, mask.masked + 1], dim=1)]
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, -37:]


without, with_them = by_hand(False), by_hand(True)
different = len(torch.unique(without[0].round(decimals=3), dim=0))
assert (without - without[:, :1]).abs().max() < 1e-4
assert len(torch.unique(with_them[0].round(decimals=3), dim=0)) == 37

# %% mystnb={"image": {"alt": "The reader's guess, 37 different predictions, and the truth: 1."}}
book.reveal("different-predictions", different, unit="different predictions")


# %% [markdown]
# *Figure 5.3: your guess, and what the trained decoder did (counted after rounding to three decimals).*
#
# One. Thirty-seven equal cards, asked the same question, give the same answer. In pictures:


# %%
def paint(predicted: Tensor, images: Tensor = images, mask: Mask = mask) -> list:
    """Predictions `b m values` for the masked patches → pictures, with the visible patches pasted in."""
    patches = patchify(images, 4)
    pixels = trained.model.target.picture(predicted, take(patches, mask.masked))
    painted = patches.scatter(1, mask.masked[:, :, None].expand(-1, -1, 16), pixels)
    return [plots.as_picture(x, trained.statistics) for x in minimae.unpatchify(painted, 4, model_size.grid)]


first_two = [list(pictures[:2]) for pictures in reconstruction_triplets(trained, clothes.pixels, mask)]
rows = [[*two, a, b] for two, a, b in zip(first_two, paint(without), paint(with_them))]

# %% mystnb={"image": {"alt": "Four garments. For each: the original, the visible patches, the painting without positions, in which every masked patch repeats one and the same little pattern, and the painting with positions, which looks like the garment."}}
plots.reconstructions([rows[i] for i in (6, 1, 4, 2)], ("original", "what it saw", "no positions", "positions"))

# %% [markdown]
# *Figure 5.4: test photographs, 75 % masked (mask seed 0), model fashion-nano. Without positions in the decoder every masked patch of an
# image gets the same pattern. In both paintings the visible patches are the original's, and so are brightness and contrast of each masked
# patch; chapter 06 explains that gift.*
#
# So a blank must know its place, and in the decoder it has no other way to learn it. This is also a good test for any implementation. A
# well-known public version lost the decoder's positions on the way: an initialiser ran over them and left zeros. There was no error.
# Every masked patch simply got the same prediction.

# %% [markdown]
# ## The paper's way: put everything back in order
#
# The positions are a table with one row per patch, *in image order*. Our tokens are in shuffled order. The paper solves this the plain
# way: gather the tokens with `restore` into image order, then add the table. The class token stays aside meanwhile.


# %%
def unshuffle_then_decode(decoder: nn.Module, latent: Tensor, mask: Mask, grid: Pair) -> Tensor:
    """As the paper says it. Predictions for every patch, in image order: `b n values`."""
    class_token, visible = decoder.embed(latent[:, :1]), decoder.embed(latent[:, 1:])
    b, k, d = visible.shape
    shuffled = torch.cat([visible, decoder.mask_token.expand(b, mask.n - k, d)], dim=1)
    in_order = torch.gather(shuffled, 1, repeat(mask.restore, "b n -> b n d", d=d))
    x = torch.cat([class_token, in_order], dim=1) + resize_positions(decoder.positions, decoder.size.grid, grid)
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, 1:]


with torch.no_grad():
    papers_way = unshuffle_then_decode(trained.model.decoder, latent, mask, model_size.grid)
assert papers_way.shape == (10, 49, 16)

# %% [markdown]
# It predicts all 49 patches, the visible ones too, and throws 12 of them away later.
#
# ## Does the order matter?
#
# Think of a table where people talk. Everybody hears everybody. If two of them swap chairs, and keep their name tags, the talk is the
# same. The name tag is the position vector.
#
# In symbols: let $P$ shuffle the tokens of $X$. Queries, keys and values are made token by token, so they are shuffled alike: $PQ$, $PK$,
# $PV$. Then
#
# $$\mathrm{softmax}\big(PQ\,(PK)^\top\big)\,PV \;=\; P\,\mathrm{softmax}(QK^\top)\,P^\top P\,V \;=\; P\,\mathrm{softmax}(QK^\top)\,V,$$
#
# because softmax works along each row and does not mind the order within it, and $P^\top P = 1$. (The scale $1/\sqrt{e}$ changes
# nothing.) Norms and MLPs treat each token alone. So a whole block, and any stack of blocks, has this property: *shuffle the input, and
# you get the same output, shuffled*. Mathematicians call it **equivariant** to permutations.
#
# It holds for real numbers. Floating-point sums depend a little on their order, so we measure in float64.

# %%
torch.manual_seed(1)
block = Block(64, 2).double()
x, order = torch.randn(1, 50, 64, dtype=torch.float64), torch.randperm(50)
gaps = {
    "block(x[order])  and  block(x)[order]": (block(x[:, order]) - block(x)[:, order]).abs().amax(-1)[0],
    "block(x[order])  and  block(x)": (block(x[:, order]) - block(x)).abs().amax(-1)[0],
}
gaps = {name: gap.detach().numpy() for name, gap in gaps.items()}
assert max(gaps["block(x[order])  and  block(x)[order]"]) < 1e-12

# %% mystnb={"image": {"alt": "Two rows of dots on a logarithmic scale. The differences between the shuffled block of x and the block of shuffled x lie near 1e-15. The differences when the outputs are not shuffled along lie near 1."}}
plots.before_and_after(gaps, unit="largest difference of each of the 50 tokens (float64)")

# %% [markdown]
# *Figure 5.5: a freshly initialised block, 50 tokens of random numbers (seed 1). Shuffling before or after the block gives the same, up
# to the last bits of float64. (The single dot at the left of the lower row is a token that the shuffle happened to leave in its place.)*
#
# So there are two ways to give each token its own position. Bring the *tokens* into the order of the table: the paper's way. Or bring the
# *rows of the table* into the order of the tokens: `take` the positions with the indices that the mask holds anyway. No unshuffle, and no
# second shuffle to get the masked ones out again: they are the last `m` rows.

# %%
class_place = torch.zeros_like(mask.keep[:, :1])
places = torch.cat([class_place, mask.keep + 1, mask.masked + 1], dim=1)
positions = sincos_2d(d, model_size.grid)
tokens = shuffled + take(positions, places)

# %% tags=["nbval-check-output"]
print("places   :", tuple(places.shape))
print("the table:", tuple(positions.shape), " row 0 is the class token's, and zero; so patch i has row i + 1")
print("tokens   :", tuple(tokens.shape))

# %% [markdown]
# ## Only the masked tokens ask
#
# One more thing can go. Nobody looks at what the decoder predicts for visible patches: their loss is not counted (chapter 06), and in
# pictures the originals are pasted. In the last block we therefore need the outputs of the masked tokens only. All tokens still *answer*
# (keys and values), but only the masked ones *ask* (queries). Chapter 03 built that into the block, as `queries=`.

# %% mystnb={"image": {"alt": "Two attention tables, rows ask and columns are looked at. Left: all 50 rows are computed. Right: the 13 rows of class and visible tokens are hatched, not computed; the 37 rows of masked tokens are."}}
plots.who_asks(12, 37)

# %% [markdown]
# *Figure 5.6: the attention table in the last block of the decoder, 12 visible and 37 masked patches. Left: everybody asks. Right: only
# the masked ask, and nothing that is used is lost.*
#
# In every block *before* the last this would be wrong: there the visible tokens must be updated, because the next block's masked tokens
# look at them.

# %% [markdown]
# ## The decoder
#
# All of it together. `every=True` is for pictures and for the ablation in which the loss is taken on all patches: then all patch tokens
# ask (`n` of them, the class token never does), and the predictions are put in image order at the very end, once.


# %% tags=["package:minimae.model.decoder"]
class Decoder(nn.Module):
    """Latent tokens `b t d` and a mask → what is predicted for the masked patches: `b m values`."""

    def __init__(self, size: Size | str, *, values: int | None = None, mask_token: bool = True) -> None:
        super().__init__()
        self.size = size = resolve(size)
        d = size.decoder_width
        self.embed = nn.Linear(size.width, d)
        self.mask_token = nn.Parameter(torch.empty(1, 1, d)) if mask_token else None
        self.blocks = nn.ModuleList(Block(d, size.decoder_heads, eps=size.eps) for _ in range(size.decoder_depth))
        self.norm = nn.LayerNorm(d, eps=size.eps)
        self.predict = nn.Linear(d, size.values if values is None else values)
        initialise(self)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def tokens(self, latent: Tensor, mask: Mask, grid: Pair) -> Tensor:
        """The full set of tokens `b (1 + k + m) d`: [class | visible | masked], positions added."""
        x = self.embed(latent)
        if self.mask_token is not None:
            x = torch.cat([x, self.mask_token.to(x.dtype).expand(len(x), mask.masked.shape[1], -1)], dim=1)
        class_index = torch.zeros_like(mask.keep[:, :1])
        index = torch.cat([class_index, mask.keep + 1, mask.masked + 1], dim=1)
        return x + take(resize_positions(self.positions, self.size.grid, grid), index)

    def forward(self, latent: Tensor, mask: Mask, *, grid: Pair | None = None, every: bool = False) -> Tensor:
        """→ `b m values` in the order of `mask.masked`; with `every=True` → `b n values` in image order."""
        x = self.tokens(latent, checked_mask(mask, {}), self.size.grid if grid is None else grid)
        queries = mask.n if every else mask.masked.shape[1]
        for block in self.blocks[:-1]:
            x = block(x)
        predicted = self.predict(self.norm(self.blocks[-1](x, queries=queries)))
        return take(predicted, mask.restore) if every else predicted


# %% [markdown]
# Three details.
#
# - The positions are set *after* `initialise`, and they are a parameter without gradient: fixed, and saved with the weights.
# - The mask token is cast to the type of `x`. Under autocast (chapter 07) the linear layer gives half precision, and the parameter is
#   float32.
# - `mask_token=False` is for the ablation of Table 1c, where the *encoder* got mask tokens. Then every place has a token already.

# %% tags=["nbval-check-output"]
fresh = Decoder(model_size)
print("predicted        b m values :", tuple(fresh(latent, mask).shape))
print("every=True       b n values :", tuple(fresh(latent, mask, every=True).shape))
print(
    "learned for all blanks      :", fresh.mask_token.numel(), "numbers of", sum(p.numel() for p in fresh.parameters() if p.requires_grad)
)

# %% [markdown]
# ## Where this lives
#
# It is `minimae.Decoder`, in `minimae/model/decoder.py`, statement for statement. With the trained weights both paint the same.

# %%
ours = Decoder(model_size)
ours.load_state_dict(trained.model.decoder.state_dict())
with torch.no_grad():
    assert torch.equal(ours(latent, mask), trained.model.decoder(latent, mask))
    assert torch.equal(ours(latent, mask, every=True), trained.model.decoder(latent, mask, every=True))
assert isinstance(trained.model.decoder, minimae.Decoder)


# %% [markdown]
# ## The proof, in numbers
#
# Now the claim of this chapter: *our decoder in shuffled order, with fewer queries, computes what the paper's unshuffling decoder
# computes.* We take three blocks, random weights in every parameter (so that nothing is hidden by a zero), a grid that is not square,
# block masks as well as random ones, and float64. And we compare gradients too: a step of training must not differ either.


# %%
def largest_gap(sampling: str, grid: Pair) -> tuple[float, float]:
    """The largest difference between both ways: of the predictions, and of the gradients of all parameters."""
    torch.manual_seed(2)
    decoder = Decoder(size("nano", decoder_depth=3, image=(4 * grid[0], 4 * grid[1]))).double()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    mask = make_mask(torch.arange(4), grid, ratio=0.6, sampling=sampling)
    latent = torch.randn(4, 1 + mask.keep.shape[1], 96, dtype=torch.float64)
    shuffled_order, image_order = decoder(latent, mask), unshuffle_then_decode(decoder, latent, mask, grid)
    masked_of_it = take(image_order, mask.masked)
    trainable = [p for p in decoder.parameters() if p.requires_grad]
    a, b = (torch.autograd.grad(y.square().mean(), trainable) for y in (shuffled_order, masked_of_it))
    return (shuffled_order - masked_of_it).abs().max().item(), max((x - y).abs().max().item() for x, y in zip(a, b))


measured = {f"{s}, {g[0]} × {g[1]}": largest_gap(s, g) for s in ("random", "block") for g in ((7, 7), (3, 5))}
assert max(max(pair) for pair in measured.values()) < 1e-12

# %% mystnb={"image": {"alt": "Four rows of two dots on a logarithmic scale, for random and block masks on a 7 by 7 and a 3 by 5 grid. All differences, of predictions and of gradients, lie near 1e-15, far left of a dashed line at 1e-12."}}
plots.before_and_after(measured, unit="largest difference (float64)", dots=("predictions", "gradients"))

# %% [markdown]
# *Figure 5.7: the paper's unshuffle against the package's shuffled order (three blocks, random weights, seed 2). What remains is the
# rounding of sums taken in another order.*
#
# They are equal. The package keeps the shorter way. `mask.restore` is still needed in one place: when a human wants to look at a picture.

# %% [markdown]
# ## How small is a light decoder?
#
# The decoder is thrown away after pre-training. So it should be cheap. The paper's default is 8 blocks, 512 wide, for every encoder, and
# it says that this needs less than 10 % of the computation *per token* that ViT-L needs. Chapter 04 counted the operations of a block:
# $24\,t\,d^2 + 4\,t^2 d$.
#
# Per token. But how many tokens does each of them see? **On ViT-B at 75 % masking, how much does one pass through the decoder cost,
# compared with one through the encoder?** 100 means: the same.

# %%
book.predict("decoder-cost", 30, ask="ViT-B, 224 px, 75 % masked: the decoder's operations in % of the encoder's?")

# %%
names = {"ViT-B": "base", "ViT-L": "large", "ViT-H": "huge"}
per_image, per_token = {}, {}
for label, name in names.items():
    s, counted = size(name), flops(size(name), 0.75, paper=True)
    n = s.grid[0] * s.grid[1]
    k = minimae.keep_count(n, 0.75)
    per_image[label] = counted.encoder / 1e9, counted.decoder / 1e9
    per_token[label] = counted.encoder / (1 + k) / 1e6, counted.decoder / (1 + n) / 1e6
assert round(per_image["ViT-B"][0], 2) == 8.59 and round(per_image["ViT-B"][1], 2) == 10.55
assert 0.08 < per_token["ViT-L"][1] / per_token["ViT-L"][0] < 0.10

# %% tags=["nbval-check-output"]
for label in names:
    share = per_token[label][1] / per_token[label][0], per_image[label][1] / per_image[label][0]
    print(f"{label}: the decoder costs {100 * share[0]:.0f} % of the encoder per token, {100 * share[1]:.0f} % per image")

# %% mystnb={"image": {"alt": "The reader's guess, 30 percent, and the truth, 123 percent."}}
book.reveal("decoder-cost", round(100 * per_image["ViT-B"][1] / per_image["ViT-B"][0]), unit="% of the encoder")

# %% [markdown]
# *Figure 5.8: your guess, and the count.*

# %% mystnb={"image": {"alt": "Pairs of bars for ViT-B, ViT-L and ViT-H. Left, per token: the decoder costs 31, 9 and 4 percent of the encoder. Right, per image: 123, 35 and 17 percent, because the decoder sees all tokens and the encoder a quarter."}}
plots.encoder_and_decoder({"one token (million operations)": per_token, "one image (billion operations)": per_image})

# %% [markdown]
# *Figure 5.9: blocks of encoder and decoder, forward, 224 pixels, 75 % masked, as the paper lays them out; percentages are decoder by
# encoder. Computed, not timed.*
#
# Both are true. The decoder is light *per token*: 9 % of ViT-L. But it sees all 197 tokens, and the encoder sees 50. On ViT-L a third is
# added. On ViT-B the light decoder costs *more* than the encoder: 10.55 against 8.59 billion operations. Who trains a small model and
# wants it fast should look at the decoder first.
#
# The paper has the numbers for that. One block does almost as well, if the model is fine-tuned afterwards (Table 1a, ViT-L, 800 epochs):
#
# | decoder blocks | 1 | 2 | 4 | 8 | 12 |
# |---|---|---|---|---|---|
# | fine-tuned, % | 84.8 | 84.9 | 84.9 | 84.9 | 84.4 |
# | linear probe, % | 65.5 | 70.0 | 71.9 | 73.5 | 73.3 |
#
# The lower row is the more telling one. With a deep decoder the last layers that specialise in painting are the decoder's. With a shallow
# one they are the encoder's, and there a linear probe has to read from them. Fine-tuning can turn such layers round again. The probe
# cannot.

# %% [markdown]
# And what do our two savings bring? Little, on the large models; more, where the decoder has few blocks. That is arithmetic again; then
# we time the tiny one.

# %%
shallow = {blocks: size("base", decoder_depth=blocks) for blocks in (8, 2, 1)}
saved = {blocks: 1 - flops(s).decoder / flops(s, paper=True).decoder for blocks, s in shallow.items()}
last = 1 - block_flops(197, 512, queries=147) / block_flops(197, 512)
assert abs(saved[1] - last) < 1e-12 and abs(saved[8] - last / 8) < 1e-12

# %% tags=["nbval-check-output"]
print(f"operations saved in the last block: {100 * last:.1f} %")
print("of the decoder with", ", ".join(f"{blocks} blocks: {100 * share:.1f} %" for blocks, share in saved.items()))


# %%
@torch.no_grad()
def fastest(step, repeats: int = 15) -> float:
    """The shortest of some runs, in milliseconds: the one that was disturbed least."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


torch.manual_seed(0)
timed = Decoder(size("base", decoder_depth=1)).eval()
wide_mask = make_mask(torch.arange(8), (14, 14), ratio=0.75)
wide_latent = torch.randn(8, 50, 768)
ours_ms = fastest(lambda: timed(wide_latent, wide_mask))
papers_ms = fastest(lambda: unshuffle_then_decode(timed, wide_latent, wide_mask, (14, 14)))
print(f"8 images through a decoder of one block: {papers_ms:.0f} ms the paper's way, {ours_ms:.0f} ms in shuffled order, on this machine")

# %% [markdown]
# > **Paper.** Section 3, "MAE decoder" and "Simple implementation", and Figure 1. The paper appends mask tokens, unshuffles the list,
# > adds positions, decodes all and predicts all patches. Tables 1a and 1b vary depth and width.
# > **Our deviation.** Tokens stay in shuffled order; only masked patches are predicted; only they ask in the last block. Predictions,
# > loss and gradients are the same (above, and `tests/model/test_decoder.py`, to 1e-12 in float64). The FLOPs that this book quotes for the
# > paper's models are counted the paper's way, unless it says otherwise.

# %% [markdown]
# ## Break it: somebody saved a line
#
# A colleague read that "the unshuffle is not needed" and wrote a shorter decoder. It runs. The shapes are right. There is no error. Here
# is what it paints, with the trained weights.


# %%
@torch.no_grad()
def shorter(decoder: nn.Module, latent: Tensor, mask: Mask) -> Tensor:
    """A shorter decoder, with a bug: predictions for the masked patches, `b m values`."""
    blanks = decoder.mask_token.expand(len(latent), mask.masked.shape[1], -1)
    x = torch.cat([decoder.embed(latent), blanks], dim=1) + decoder.positions
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, -mask.masked.shape[1] :]


wrong = shorter(ours, latent, mask)
rows = [[*two, a, b] for two, a, b in zip(first_two, paint(wrong), paint(with_them))]
assert wrong.shape == with_them.shape

# %% mystnb={"image": {"alt": "Four garments, each with the original, the visible patches, the painting of the shorter decoder, in which edges and textures appear at wrong places like a badly laid mosaic, and the right painting."}}
plots.reconstructions([rows[i] for i in (6, 1, 4, 2)], ("original", "what it saw", "shorter", "right"))

# %% [markdown]
# *Figure 5.10: paintings of the shorter decoder and of the right one (test photographs, mask seed 0, model fashion-nano; brightness and
# contrast of masked patches are the original's in both).*
#
# The brightness of each patch is right, but that is the gift. Look at the *edges inside* the patches. **What is wrong? Which line is it,
# and why did no shape complain?**
#
# <details><summary>Diagnosis</summary>
#
# `+ decoder.positions` adds the table in image order to tokens in shuffled order. The first blank stands for patch `masked[0]`, but it is
# told that it sits at place 13 of the grid, and it paints what belongs *there*. So each masked patch shows what belongs to another place.
# The visible tokens get wrong places too.
#
# No shape complains, because both are 50 × 64. Skipping the unshuffle is fine; skipping it *and* adding the positions as if it had been
# done is not. The mend is one call: `take(decoder.positions, places)`.
#
# A model that is *trained* with this bug has no chance either: a blank gets a place that has nothing to do with the patch that it is
# scored on. All it can learn is what patches look like on average.
# </details>
#
# The loss sees it as well. (It is the loss of chapter 06. Predicting zero everywhere is what a model does that knows nothing.)

# %%
target = take(trained.model.target(patchify(images, 4)), mask.masked)
scores = {name: (x - target).square().mean().item() for name, x in {"right": with_them, "shorter": wrong, "zero": 0 * wrong}.items()}
print({name: round(value, 2) for name, value in scores.items()})
assert scores["right"] < scores["zero"] < scores["shorter"]

# %% [markdown]
# Worse than knowing nothing: it is sure of itself, at the wrong places.

# %% [markdown]
# ## Exercises
#
# **1 ★ Put them back.** Tokens `b n d` come in the order of the shuffle. Put them in image order, with `restore` `b n`: row `i` of the
# result is row `restore[i]` of the tokens, in each image of the batch.


# %% nbgrader={"grade": false, "grade_id": "ch05-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def unshuffle(tokens: Tensor, restore: Tensor) -> Tensor:
    """Tokens `b n d` in shuffled order → `b n d` in image order."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_unshuffle(unshuffle)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_unshuffle(tokens: Tensor, restore: Tensor) -> Tensor:
    """Tokens `b n d` in shuffled order → `b n d` in image order."""
    return torch.gather(tokens, 1, restore[:, :, None].expand(-1, -1, tokens.shape[-1]))


check.ch05_unshuffle(solution_unshuffle)

# %% [markdown]
# **2 ★★ Who sits where?** From `keep` `b k` and `masked` `b m` make the rows of the position table for the tokens [class | visible |
# masked]: an integer tensor `b (1 + k + m)`. Row 0 of the table belongs to the class token.


# %% nbgrader={"grade": false, "grade_id": "ch05-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def places_of(keep: Tensor, masked: Tensor) -> Tensor:
    """Rows of the position table, for [class | visible | masked]."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_places_of(places_of)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_places_of(keep: Tensor, masked: Tensor) -> Tensor:
    """Rows of the position table, for [class | visible | masked]."""
    return torch.cat([torch.zeros_like(keep[:, :1]), keep + 1, masked + 1], dim=1)


check.ch05_places_of(solution_places_of)

# %% [markdown]
# **3 ★★★ Does it mind the order?** Write a test for layers. `layer` takes tokens `b t d` and gives tokens `b t d`. Return True if
# shuffling its input merely shuffles its output, and False otherwise. Use `x` as the tokens, and a shuffle of your own.


# %% nbgrader={"grade": false, "grade_id": "ch05-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def minds_no_order(layer, x: Tensor) -> bool:
    """Does `layer` give the same tokens, shuffled, when its tokens are shuffled?"""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_minds_no_order(minds_no_order)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_minds_no_order(layer, x: Tensor) -> bool:
    """Does `layer` give the same tokens, shuffled, when its tokens are shuffled?"""
    order = torch.arange(x.shape[1]).roll(1)
    return torch.allclose(layer(x[:, order]), layer(x)[:, order], rtol=0, atol=1e-8)


check.ch05_minds_no_order(solution_minds_no_order)

# %% [markdown]
# If it works, try it on things that you know: `nn.LayerNorm`, a convolution along the tokens, `Block(...)`, `lambda x: x + positions`.

# %% [markdown]
# ## Summary
#
# The decoder lays out one blank for each masked patch: one learned vector, repeated, made different by positions alone. A few transformer
# blocks let the blanks look at what was visible, and a linear layer turns each into the values of a patch. The paper puts the tokens in
# image order first; because attention has no order it is enough to take each token's position along, and the result is the same to the
# last bits. In the last block only those that are predicted need to ask. Such a decoder is light per token, but it sees all of them: on
# ViT-B it costs more than the encoder.
#
# ## Five questions
#
# 1. How many numbers are learned for all the mask tokens of all images together?
# <details><summary>Answer</summary>As many as the decoder is wide: 64 here, 512 in the paper. One vector, repeated.</details>
#
# 2. The encoder has already added positions. Why does the decoder do it again?
# <details><summary>Answer</summary>The mask tokens were not there. Without positions they are all equal, and equal tokens get equal
# answers.</details>
#
# 3. Why may the tokens stay in shuffled order?
# <details><summary>Answer</summary>Attention, norms and MLPs treat tokens without regard to their order: shuffled in, the same shuffled
# out. Only the positions must be those of the right patches.</details>
#
# 4. Why do only masked tokens ask in the last block, but not in those before?
# <details><summary>Answer</summary>The outputs of other tokens in the last block are used by nobody. Before it, the next block's masked
# tokens look at the visible ones, so they must be updated.</details>
#
# 5. A decoder is 9 % of the encoder per token. Why is it 35 % per image?
# <details><summary>Answer</summary>It sees all 197 tokens; the encoder sees 50. 9 % × 197 / 50 is about 35 %.</details>
#
# Next: [06 · What to predict](06_what_to_predict.ipynb), where it turns out that the values of a patch are not the best thing to ask for.
