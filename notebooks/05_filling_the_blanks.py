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
# **The promise.** You write the decoder, the part of the model that reconstructs what is hidden. You also prove that one step which looks
# essential can be left out: putting the tokens back in order.
#
# Minutes: 25. Needs: chapters 01 to 04.
#
# After this chapter you can
#
# - say what a mask token is, how many there are, and how many numbers are learned for them;
# - follow one token through the shuffle and back to its index in the image;
# - explain why positions are added a second time, and what happens without them;
# - prove that attention ignores order, and use this to leave out a step;
# - say when a small decoder is cheap, and when it costs more than the encoder.

# %% jupyter={"source_hidden": true} tags=["install", "remove-cell"]
import os
from importlib import invalidate_caches
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")
    invalidate_caches()
    if find_spec("minimae") is None:
        raise ImportError("minimae was not installed; pip's message above says why. It needs Python 3.10 or newer, and a network")

# %% tags=["setup"]
import minimae_book as book
import torch
from einops import repeat
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn

import minimae
from minimae import Block, Mask, Size, data, flops, make_mask, patchify, resize_positions, sincos_2d, size, take, weights
from minimae.data.augment import normalise
from minimae.model import decoder as package
from minimae.model.checks import checked_mask
from minimae.model.patches import Pair
from minimae.model.sizes import block_flops, resolve
from minimae.model.vit import initialise
from minimae.tasks.reconstruct import reconstruction_triplets

# %% [markdown]
# ## Where we are
#
# The encoder of chapter 04 saw 12 of 49 patches and returned 13 tokens: the class token and one for each visible patch. For the 37 masked
# patches there is *nothing* yet, not even a row in the encoder's output.
#
# The decoder must predict these 37 patches. For each of them it adds a **blank**, a token that carries no information about the image yet,
# and it lets the blanks attend to the visible tokens.

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
# Take an image with two rows and three columns of patches, numbered 0 to 5. The shuffle (chapter 02) gave the order 4, 1, 0, 5, 2, 3, and
# the first two patches in this order are kept.
#
# - After the class token, the encoder returns two tokens, for patches 4 and 1, in *that* order.
# - The decoder appends four blanks, for patches 0, 5, 2 and 3, in that order.
# - To restore the order of the image, look up the index of each patch in this sequence of six tokens. Patch 0 is at index 2, patch 1 at
#   index 1, patch 2 at index 4, and so on.
#
# The list of these indices, for patches 0 to 5, is called `restore`. It is the inverse of the shuffle.

# %%
small = Mask(keep=torch.tensor([[4, 1]]), masked=torch.tensor([[0, 5, 2, 3]]))
row = ["token of 4", "token of 1", "blank", "blank", "blank", "blank"]
restored = [row[index] for index in small.restore[0].tolist()]

# %% tags=["nbval-check-output"]
print("restore:", small.restore[0].tolist())
print(restored)

# %% mystnb={"image": {"alt": "Three rows of boxes. First row: two visible tokens, numbered 4 and 1. Second row: the same two, followed by four blanks numbered 0, 5, 2 and 3. Third row: all six in order from 0 to 5, the visible ones at indices 1 and 4. Lines connect each token from row to row and cross."}}
plots.token_strip([4, 1], [0, 5, 2, 3])

# %% [markdown]
# *Figure 5.1: the tokens of the six patches. The number below a token is the number of its patch. Tokens with a blue frame belong to
# visible patches. Grey tokens with a question mark are blanks (labelled mask tokens in the figure; see step 2).*

# %%
shirt = clothes.pixels[6:7].float() / 255
pieces = patchify(shirt, 7)[0].unflatten(-1, (7, 7)).numpy()
few = make_mask(torch.tensor([6]), (4, 4), ratio=0.75, seed=5)

# %% mystnb={"image": {"alt": "The same three rows for a photograph of a garment in 16 patches. First row: four small pieces of the photograph. Second row: these four, then twelve blanks. Third row: sixteen tokens in image order, with the four pieces at their own indices among the blanks. Crossing lines connect the second row and the third."}}
plots.token_strip(few.keep[0].tolist(), few.masked[0].tolist(), pieces)

# %% [markdown]
# *Figure 5.2: the steps of Figure 5.1 for a test photograph of Fashion-MNIST, with 75 % of 16 patches masked (mask seed 5). Each piece of
# the photograph stands for a token, which is really a vector. The class token is not shown; it stays in front.*
#
# **1 ★ Put them back.** The tokens (`b n d`) are in shuffled order. Use `restore` (`b n`) to put them in image order: row `i` of the result
# is row `restore[i]` of the tokens, for each image of the batch.
#
# <details><summary>Hint</summary>
#
# `torch.gather(tokens, 1, index)` needs an index with as many axes as `tokens`: repeat `restore` along `d`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch05-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def unshuffle(tokens: Tensor, restore: Tensor) -> Tensor:
    """Tokens `b n d` in shuffled order → `b n d` in image order."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_unshuffle(unshuffle)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_unshuffle(tokens: Tensor, restore: Tensor) -> Tensor:
    """Tokens `b n d` in shuffled order → `b n d` in image order."""
    return torch.gather(tokens, 1, restore[:, :, None].expand(-1, -1, tokens.shape[-1]))


check.ch05_unshuffle(solution_unshuffle)

# %% [markdown]
# ## Step 1: to the decoder's width
#
# The decoder is itself a small transformer. In our model, the decoder's tokens are 64 wide, and the encoder's tokens are 96 wide. A linear
# layer changes the width.

# %%
torch.manual_seed(0)
d = model_size.decoder_width
embed = nn.Linear(model_size.width, d)
visible = embed(latent)

# %% [markdown]
# ## Step 2: one learned vector, 37 times
#
# A blank is a learned vector, the **mask token**. There is only one such vector for all masked patches of all images. `expand` repeats it
# without copying: all 370 rows (10 images × 37 blanks) are the same 64 numbers in memory.

# %%
mask_token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
blanks = mask_token.expand(len(latent), mask.masked.shape[1], -1)
shuffled = torch.cat([visible, blanks], dim=1)

# %% tags=["nbval-check-output"]
print("blanks :", tuple(blanks.shape), "  strides:", blanks.stride())
print("tokens :", tuple(shuffled.shape), " = 1 class + 12 visible + 37 masked")

# %% [markdown]
# The strides confirm that `expand` copies nothing: from one image to the next, and from one blank to the next, the step in memory is 0.

# %% [markdown]
# ## Step 3: positions, again
#
# The decoder adds a position to every token.
#
# **How many *different* predictions would the 37 masked patches of one image get if the decoder added no positions?** (The encoder has
# added positions to the visible patches, and these positions still influence the latent.)

# %%
book.predict(
    "different-predictions", 37, ask="Different predictions for the 37 masked patches of one image, without positions in the decoder?"
)


# %% [markdown]
# To find out, run the trained decoder step by step, with and without the decoder's positions.


# %%
@torch.no_grad()
def by_hand(with_positions: bool) -> Tensor:
    """The trained decoder step by step: predictions for the masked patches, `b m values`."""
    decoder = trained.model.decoder
    x = torch.cat([decoder.embed(latent), decoder.mask_token.expand(10, 37, -1)], dim=1)
    if with_positions:
        x = x + decoder.positions[torch.cat([torch.zeros(10, 1, dtype=torch.int64), mask.keep + 1, mask.masked + 1], dim=1)]
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, -37:]


without, with_them = by_hand(False), by_hand(True)
different = len(torch.unique(without[0].round(decimals=3), dim=0))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert visible.shape == (10, 13, 64) and (without - without[:, :1]).abs().max() < 1e-4
assert len(torch.unique(with_them[0].round(decimals=3), dim=0)) == 37

# %% mystnb={"image": {"alt": "The reader's guess, 37 different predictions, and the truth: 1."}}
book.reveal("different-predictions", different, unit="prediction for all 37 patches")


# %% [markdown]
# *Figure 5.3: your guess, and the number of different predictions that the trained decoder makes for one image without positions (counted
# after rounding to three decimals).*
#
# There is only one prediction: 37 equal tokens give 37 equal predictions. The pictures show the effect:


# %%
def reconstruction(predicted: Tensor, images: Tensor = images, mask: Mask = mask) -> list:
    """Predictions `b m values` for the masked patches → pictures, with the visible patches pasted in."""
    patches = patchify(images, 4)
    pixels = trained.model.target.picture(predicted, take(patches, mask.masked))
    pasted = patches.scatter(1, mask.masked[:, :, None].expand(-1, -1, 16), pixels)
    return [plots.as_picture(x, trained.statistics) for x in minimae.unpatchify(pasted, 4, model_size.grid)]


first_two = [list(pictures[:2]) for pictures in reconstruction_triplets(trained, clothes.pixels, mask)]
rows = [[*two, a, b] for two, a, b in zip(first_two, reconstruction(without), reconstruction(with_them))]

# %% mystnb={"image": {"alt": "Four garments. For each: the original, the visible patches, the reconstruction without positions, in which every masked patch repeats the same little pattern, and the reconstruction with positions, which looks like the garment."}}
plots.reconstructions([rows[i] for i in (6, 1, 4, 2)], ("original", "masked", "no positions", "positions"))

# %% [markdown]
# *Figure 5.4: test photographs, 75 % masked (mask seed 0), model fashion-nano. This model was trained to predict patches normalised to mean
# 0 and standard deviation 1, so the original mean and standard deviation of each masked patch are restored in both reconstructions (chapter
# 06).*
#
# So each blank needs the position of its patch, and the decoder has to add this position. Counting the different predictions is a good test
# of any decoder. For example, it reveals a bug in Hugging Face transformers 4.51 and later. There, a ViTMAE that is built from a config
# loses the decoder's positions: after they are set, an initialiser overwrites them with zeros. No error is raised, but all masked patches
# of an image get the same prediction.

# %% [markdown]
# ## The paper's way: put everything back in order
#
# The positions are a table: row 0 for the class token, then one row for each patch, *in image order*. Our tokens are in shuffled order. The
# paper first gathers the tokens into image order with `restore`, and then adds the table.


# %%
def unshuffle_then_decode(decoder: nn.Module, latent: Tensor, mask: Mask, grid: Pair) -> Tensor:
    """As in the paper. Predictions for every patch, in image order: `b n values`."""
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

# %% tags=["nbval-check-output"]
print("predictions  b n values :", tuple(papers_way.shape))

# %% [markdown]
# This decoder predicts all 49 patches. The loss (chapter 06) ignores the predictions for the 12 visible ones.
#
# ## Does the order matter?
#
# Chapter 03 showed with an example that attention is permutation equivariant. Here is the proof. Let $P$ be the matrix that permutes the
# tokens. Queries $Q$, keys $K$ and values $V$ are computed token by token, so they become $PQ$, $PK$ and $PV$. The output of attention
# becomes
#
# $$\mathrm{softmax}\big(PQ\,(PK)^\top\big)\,PV \;=\; P\,\mathrm{softmax}(QK^\top)\,P^\top P\,V \;=\; P\,\mathrm{softmax}(QK^\top)\,V.$$
#
# The first step holds because softmax treats each row separately, and permuting the entries of a row permutes the row's softmax in the same
# way. The second step holds because $P^\top P$ is the identity matrix. (We left out the factor $1/\sqrt{e}$, where $e$ is the width of a
# head; it does not affect the proof.) Norms and MLPs treat each token separately. So a block, and any stack of blocks, returns *the same
# output tokens in the permuted order*.
#
# So there are two ways to give each token its own position. The paper brings the *tokens* into the order of the table. We can instead bring
# the *rows of the table* into the order of the tokens: `take` the positions with the indices of the mask. Then we need no unshuffle.
#
# **2 ★★ Rows of the table.** From `keep` (`b k`) and `masked` (`b m`), compute the row numbers in the position table for the tokens in the
# order [class | visible | masked]. The result is an integer tensor `b (1 + k + m)`. Row 0 of the table belongs to the class token.
#
# <details><summary>Hint</summary>
#
# Patch 0 has row 1. `torch.zeros_like(keep[:, :1])` is a column of integer zeros, one for each image.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch05-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def places_of(keep: Tensor, masked: Tensor) -> Tensor:
    """Rows of the position table, for [class | visible | masked]."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_places_of(places_of)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_places_of(keep: Tensor, masked: Tensor) -> Tensor:
    """Rows of the position table, for [class | visible | masked]."""
    return torch.cat([torch.zeros_like(keep[:, :1]), keep + 1, masked + 1], dim=1)


check.ch05_places_of(solution_places_of)

# %% [markdown]
# ## Your decoder
#
# **3 ★★★ The decoder.** Write `forward`. Change the width, append a mask token for each masked patch, add to every token (class, visible
# and mask) its own position, run the blocks and the norm, and predict the values of the masked patches, in the order of `mask.masked`. No
# unshuffle is needed.
#
# <details><summary>Hint 1</summary>
#
# All parts are in `__init__`. The mask token has the shape `1 1 d`, so repeat it with `self.mask_token.expand(b, m, -1)`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# The positions are `take(self.positions, rows)`, with the rows of exercise 2. The masked tokens are the last `m` of the sequence.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch05-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyDecoder(nn.Module):
    """Latent tokens `b t d` and a mask → predictions for the masked patches, `b m values`."""

    def __init__(self, size):
        super().__init__()
        self.size, d = size, size.decoder_width
        self.embed = nn.Linear(size.width, d)
        self.mask_token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.blocks = nn.ModuleList(Block(d, size.decoder_heads) for _ in range(size.decoder_depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.predict = nn.Linear(d, size.values)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def forward(self, latent, mask):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_decoder(MyDecoder)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyDecoder(MyDecoder):
    def forward(self, latent, mask):
        m = mask.masked.shape[1]
        x = torch.cat([self.embed(latent), self.mask_token.expand(len(latent), m, -1)], dim=1)
        rows = torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep + 1, mask.masked + 1], dim=1)
        x = x + take(self.positions, rows)
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x))[:, -m:]


check.ch05_decoder(solution_MyDecoder)

# %% [markdown]
# The package's version is folded below. By default it makes the same predictions as your decoder, and it has three main additions. It can
# decode images of a different size (`grid=`). It can predict every patch (`every=True`). And by default it saves work in the last block.
# After this block only the outputs of the masked tokens are used, so only these tokens are queries (`queries=`, an argument of the
# package's `Block`). All tokens are still keys and values. In *earlier* blocks all tokens must be queries, because the next block attends
# to all outputs.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.decoder", "hide-input"]
class Decoder(nn.Module):
    """Latent tokens ``b t d`` and a mask → predictions for the masked patches, ``b m values``.

    t is 1 + k, or 1 + n when the encoder already added mask tokens. values: width of the target, by default p1·p2·c.
    """

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
        """The full set of tokens ``b (1 + k + m) d'``: [class | visible | masked], positions added."""
        x = self.embed(latent)
        if self.mask_token is not None:
            x = torch.cat([x, self.mask_token.to(x.dtype).expand(len(x), mask.masked.shape[1], -1)], dim=1)
        class_index = mask.keep.new_zeros(len(mask.keep), self.size.class_tokens)
        index = torch.cat([class_index, mask.keep + 1, mask.masked + 1], dim=1)
        return x + take(resize_positions(self.positions, self.size.grid, grid), index)

    def forward(self, latent: Tensor, mask: Mask, *, grid: Pair | None = None, every: bool = False) -> Tensor:
        """→ ``b m values`` in the order of ``mask.masked``; with ``every=True`` → ``b n values`` in image order.

        In the last block all tokens are keys and values, but only those to predict are queries: exact, and cheaper.
        """
        x = self.tokens(latent, checked_mask(mask, {}), self.size.grid if grid is None else grid)
        queries = mask.n if every else mask.masked.shape[1]
        for block in self.blocks[:-1]:
            x = block(x)
        predicted = self.predict(self.norm(self.blocks[-1](x, queries=queries)))
        return take(predicted, mask.restore) if every else predicted


# %% tags=["nbval-check-output"]
Decoder = book.use(check.ch05_decoder, MyDecoder, Decoder)

# %% tags=["nbval-check-output"]
fresh = Decoder(model_size)
print("predicted        b m values :", tuple(fresh(latent, mask).shape))
learned = sum(p.numel() for p in fresh.parameters() if p.requires_grad)
print(f"learned for all blanks      : {fresh.mask_token.numel()} of {learned:,} numbers")

# %% mystnb={"image": {"alt": "Two attention tables, rows are queries and columns are keys. Left: all 50 rows are computed. Right: only the 37 rows of the masked tokens are computed; the 13 rows of the class token and the visible tokens are hatched."}}
plots.who_asks(12, 37)

# %% [markdown]
# *Figure 5.5: attention in the last block of the decoder, for 12 visible and 37 masked patches. Left: all tokens are queries, as in your
# decoder. Right: only the masked tokens are queries, as in the package.*

# %% [markdown]
# ## Where this lives
#
# `minimae.Decoder` is in `minimae/model/decoder.py`. Does this decoder give the same results as the paper's decoder, which unshuffles the
# tokens and predicts every patch? We compare the predictions and gradients of both, with three blocks and random weights, in float64.


# %%
def largest_gap(sampling: str, grid: Pair) -> tuple[float, float]:
    """The largest difference between both ways: of the predictions, and of the gradients of all parameters."""
    torch.manual_seed(2)
    decoder = package.Decoder(size("nano", decoder_depth=3, image=(4 * grid[0], 4 * grid[1]))).double()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    mask = make_mask(torch.arange(4), grid, ratio=0.6, sampling=sampling)
    latent = torch.randn(4, 1 + mask.keep.shape[1], 96, dtype=torch.float64)
    shuffled_order, image_order = decoder(latent, mask), unshuffle_then_decode(decoder, latent, mask, grid)
    masked_of_it = take(image_order, mask.masked)
    trainable = [p for p in decoder.parameters() if p.requires_grad]
    a, b = (torch.autograd.grad(y.square().mean(), trainable) for y in (shuffled_order, masked_of_it))
    return (shuffled_order - masked_of_it).abs().max().item(), max((x - y).abs().max().item() for x, y in zip(a, b))


gaps = {(s, g): largest_gap(s, g) for s in ("random", "block") for g in ((7, 7), (3, 5))}

# %% tags=["nbval-check-output"]
for (sampling, (h, w)), (predictions, gradients) in gaps.items():
    print(f"{sampling:6} masks, {h} × {w} patches: predictions equal {predictions < 1e-12}, gradients equal {gradients < 1e-12}")

# %% [markdown]
# Predictions and gradients are equal up to rounding (1e-12), so the package need not unshuffle the tokens. Its decoder uses `mask.restore`
# only with `every=True`, to return the predictions in image order.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ours = package.Decoder(model_size)
ours.load_state_dict(trained.model.decoder.state_dict())
with torch.no_grad():
    assert torch.equal(ours(latent, mask), trained.model.decoder(latent, mask))
    assert torch.allclose(ours(latent, mask, every=True), papers_way, atol=1e-4)
assert isinstance(trained.model.decoder, minimae.Decoder)

# %% [markdown]
# ## How small is a light decoder?
#
# The decoder is thrown away after pre-training, so it should be cheap. The paper's default decoder has 8 blocks and is 512 wide for every
# size of encoder. According to the paper, this decoder needs less than 10 % of ViT-L's computation *per token*. Chapter 04 counted the
# operations of a block on $t$ tokens of width $d$: $24\,t\,d^2 + 4\,t^2 d$.
#
# But the decoder sees more tokens than the encoder. **For ViT-B with 75 % masked, what does one pass through the decoder cost, compared
# with one through the encoder?** Answer in percent: 100 means that both cost the same.

# %%
book.predict("decoder-cost", 30,
             ask="ViT-B, 224 px, 75 % masked: the decoder's operations in % of the encoder's?")

# %%
names = {"ViT-B": "base", "ViT-L": "large", "ViT-H": "huge"}
per_image, per_token = {}, {}
for label, name in names.items():
    s, counted = size(name), flops(size(name), 0.75, paper=True)
    n = s.grid[0] * s.grid[1]
    k = minimae.keep_count(n, 0.75)
    per_image[label] = counted.encoder / 1e9, counted.decoder / 1e9
    per_token[label] = counted.encoder / (1 + k) / 1e6, counted.decoder / (1 + n) / 1e6

# %% tags=["nbval-check-output"]
for label in names:
    share = per_token[label][1] / per_token[label][0], per_image[label][1] / per_image[label][0]
    print(f"{label}: the decoder costs {100 * share[0]:.0f} % of the encoder per token, {100 * share[1]:.0f} % per image")

# %% mystnb={"image": {"alt": "The reader's guess, 30 percent, and the truth, 123 percent."}}
book.reveal("decoder-cost", round(100 * per_image["ViT-B"][1] / per_image["ViT-B"][0]), unit="% of the encoder")

# %% [markdown]
# *Figure 5.6: your guess and the computed cost of the decoder, in % of the encoder's (ViT-B, 75 % masked).*

# %% mystnb={"image": {"alt": "Pairs of bars for ViT-B, ViT-L and ViT-H. Above, per token: the decoder costs 31, 9 and 4 percent of the encoder. Below, per image: 123, 35 and 17 percent, because the decoder sees all tokens and the encoder a quarter."}}
plots.encoder_and_decoder({"one token (million operations)": per_token, "one image (billion operations)": per_image})

# %% [markdown]
# *Figure 5.7: operations in the blocks of the encoder and of the decoder, for a forward pass at 224 pixels with 75 % masked, and with all
# tokens decoded, as in the paper. Each percentage is the decoder's operations divided by the encoder's.*
#
# The paper's statement is true: *per token*, the decoder costs 9 % as much as the ViT-L encoder. But the decoder sees all 197 tokens, and
# the encoder sees only 50. Per image, the decoder adds about a third to the cost of the ViT-L encoder. With ViT-B, the decoder costs *more*
# than the encoder: 10.55 against 8.59 billion operations. To train a small model fast, first make the decoder smaller.
#
# The paper measured how deep the decoder must be (Table 1a, ViT-L, 800 epochs). After **fine-tuning** (further training of the whole
# encoder with labels, chapter 10), an encoder that was pre-trained with a one-block decoder is almost as accurate as one that was
# pre-trained with an eight-block decoder. A **linear probe** (a linear classifier on the output of the unchanged encoder, chapter 09) is
# far better after pre-training with eight decoder blocks than with one. The table gives the accuracy on ImageNet:
#
# | decoder blocks | 1 | 2 | 4 | 8 | 12 |
# |---|---|---|---|---|---|
# | fine-tuned, % | 84.8 | 84.9 | 84.9 | 84.9 | 84.4 |
# | linear probe, % | 65.5 | 70.0 | 71.9 | 73.5 | 73.3 |
#
# The paper offers an explanation: the last layers before the prediction specialise in reconstruction. With a deep decoder, these layers
# belong to the decoder. With a shallow decoder, they include the last layers of the encoder, whose output the probe uses. Fine-tuning can
# change these layers, but a linear probe cannot.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert round(per_image["ViT-B"][0], 2) == 8.59 and round(per_image["ViT-B"][1], 2) == 10.55
assert 0.08 < per_token["ViT-L"][1] / per_token["ViT-L"][0] < 0.10

# %% [markdown]
# What share of the operations does `queries=` save in the last block, and in whole decoders with 8, 2 and 1 blocks (512 wide, 197 tokens)?

# %% tags=["nbval-check-output"]
last = 1 - block_flops(197, 512, queries=147) / block_flops(197, 512)
print(f"operations saved in the last block: {100 * last:.1f} %")
print("of the decoder with", ", ".join(f"{blocks} block{'s' * (blocks > 1)}: {100 * last / blocks:.1f} %" for blocks in (8, 2, 1)))

# %% [markdown]
# > **Paper.** In Section 3 ("MAE decoder", "Simple implementation"; see also Figure 1), the paper appends mask tokens, unshuffles the list, adds
# > positions, decodes all tokens and predicts all patches. Tables 1a and 1b vary the decoder's depth and width.
# > **Our deviation.** Tokens stay in
# > shuffled order, only masked patches are predicted, and only their tokens are queries in the last block. The predictions for the masked
# > patches, the loss and the gradients are the same (up to rounding: see above and `tests/model/test_decoder.py`). Where this book counts
# > the operations of the paper's models, it assumes that all tokens are decoded, unless stated otherwise.

# %% [markdown]
# ## Break it: one line less
#
# A colleague read that "the unshuffle is not needed" and wrote a shorter decoder. It runs without an error, and the shapes are right. Here
# are its reconstructions, with the trained weights.


# %%
@torch.no_grad()
def shorter(decoder: nn.Module, latent: Tensor, mask: Mask) -> Tensor:
    """A shorter decoder, with a bug: predictions for the masked patches, `b m values`."""
    blanks = decoder.mask_token.expand(len(latent), mask.masked.shape[1], -1)
    x = torch.cat([decoder.embed(latent), blanks], dim=1) + decoder.positions
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, -mask.masked.shape[1] :]


wrong = shorter(trained.model.decoder, latent, mask)
rows = [[*two, a, b] for two, a, b in zip(first_two, reconstruction(wrong), reconstruction(with_them))]

# %% mystnb={"image": {"alt": "Four garments, each with the original, the visible patches, the reconstruction by the shorter decoder, in which edges and textures appear in the wrong patches like a badly laid mosaic, and the right reconstruction."}}
plots.reconstructions([rows[i] for i in (6, 1, 4, 2)], ("original", "masked", "shorter", "right"))

# %% [markdown]
# *Figure 5.8: reconstructions by the shorter decoder and by the right one (test photographs, mask seed 0, model fashion-nano; patch means
# and standard deviations from the original, as in Figure 5.4).*
#
# The brightness of each patch is right, because it comes from the original. Look at the *edges inside* the patches. **What is wrong? Which
# line causes the fault, and why is there no error?**
#
# <details><summary>Diagnosis</summary>
#
# `+ decoder.positions` adds the table in image order to tokens in shuffled order. The first blank is at index 13 of the sequence, so it
# gets row 13 of the table: the position of patch 12. But its prediction is used for the first patch in `mask.masked`. So almost every
# masked patch shows what belongs in a different patch. The visible tokens get wrong positions too.
#
# There is no error, because the table is 50 × 64, and so are the tokens of each image. It is fine to skip the unshuffle, but then the
# positions must be in the order of the tokens. The fix is one call, with the rows of exercise 2: `take(decoder.positions, rows)`.
#
# *Training* with this bug does not help. The position of a blank has nothing to do with the patch that its prediction is compared with. All
# that the model can learn is what the hidden patches of an image look like on average.
# </details>
#
# The loss (the mean squared error of the predictions; chapter 06) shows the bug as well. Compare the loss of the shorter decoder with that
# of predicting zero everywhere, which needs no training.

# %%
target = take(trained.model.target(patchify(images, 4)), mask.masked)
scores = {name: (x - target).square().mean().item() for name, x in {"right": with_them, "shorter": wrong, "zero": 0 * wrong}.items()}
print({name: round(value, 2) for name, value in scores.items()})

# %% [markdown]
# The loss of the shorter decoder is higher than the loss of predicting zero everywhere, because the details that the shorter decoder
# predicts are in the wrong patches.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert scores["right"] < scores["zero"] < scores["shorter"] and wrong.shape == with_them.shape

# %% [markdown]
# ## One more exercise
#
# **4 ★★★ Is it equivariant?** Write a test for layers. `layer` maps tokens `b t d` to tokens `b t d`. Return True if permuting the input
# tokens permutes the output tokens in the same way and changes nothing else, and False otherwise. Use `x` as the tokens, and choose a
# permutation yourself.


# %% nbgrader={"grade": false, "grade_id": "ch05-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def minds_no_order(layer, x: Tensor) -> bool:
    """Does `layer` return the same tokens, permuted, when its tokens are permuted?"""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch05_minds_no_order(minds_no_order)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_minds_no_order(layer, x: Tensor) -> bool:
    """Does `layer` return the same tokens, permuted, when its tokens are permuted?"""
    order = torch.randperm(x.shape[1])
    return torch.allclose(layer(x[:, order]), layer(x)[:, order], rtol=0, atol=1e-8)


check.ch05_minds_no_order(solution_minds_no_order)

# %% [markdown]
# If your test works, try it on layers that you know:
#
# ```python
# x, positions = torch.randn(2, 9, 8).double(), torch.randn(9, 8).double()
# convolution = nn.Conv1d(8, 8, 3, padding=1).double()  # along the tokens; its input is b d t
# print(minds_no_order(nn.LayerNorm(8).double(), x), minds_no_order(Block(8, 2).double(), x))
# print(minds_no_order(lambda y: convolution(y.mT).mT, x), minds_no_order(lambda y: y + positions, x))
# ```
#
# `.double()` makes the numbers float64: in float32, rounding errors can exceed the default tolerance of `torch.allclose`, which is 1e-8 for
# values near 0.

# %% [markdown]
# ## Summary
#
# The decoder appends one blank for each masked patch. All blanks are the same learned vector, and only their positions make them different.
# A few transformer blocks let the blanks attend to the visible tokens, and a linear layer turns each blank into the values of its patch.
# The paper puts the tokens into image order before it adds the positions. But attention ignores order. So it is enough to add to each token
# the position of its own patch, and the predictions are the same up to rounding. The paper's decoder is light per token, but it sees all
# tokens: with ViT-B it costs more than the encoder.
#
# ## Five questions
#
# 1. How many numbers are learned for all the mask tokens of all images together?
# <details><summary>Answer</summary>As many as the decoder is wide: 64 here, 512 in the paper. All mask tokens are one vector, repeated.</details>
#
# 2. The encoder has already added positions. Why does the decoder add them again?
# <details><summary>Answer</summary>The mask tokens were not in the encoder. Without positions they are all equal, and equal tokens get equal
# predictions.</details>
#
# 3. Why may the tokens stay in shuffled order?
# <details><summary>Answer</summary>Attention, norms and MLPs are permutation equivariant: shuffled tokens give the same outputs in the shuffled order.
# The one condition is that each token gets the position of its own patch.</details>
#
# 4. Why are only masked tokens queries in the last block, while all tokens are queries in the blocks before it?
# <details><summary>Answer</summary>The other outputs of the last block are not used. After each earlier block, the next block attends to all
# tokens, so all must be updated.</details>
#
# 5. With ViT-L, the decoder costs 9 % as much as the encoder per token. Why does it cost 35 % as much per image?
# <details><summary>Answer</summary>The decoder sees all 197 tokens, but the encoder sees only 50, so the cost per image
# is 9 % × 197 / 50, or about 35 %.</details>
#
# Next: [06 · What to predict](06_what_to_predict.ipynb), where you choose what the decoder predicts, and how to score the predictions.
