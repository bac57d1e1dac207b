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
# # 12 · Boxes and masks
#
# **The promise.** You put two kinds of head on a pre-trained encoder: one kind gives every pixel a class, and the other gives every object
# a box and a mask. You write an essential part of each, train every head in seconds, and measure how much pre-training helps segmentation.
#
# Minutes: 30. Needs: chapters 03, 09 and 10.
#
# After this chapter you can
#
# - turn the tokens of an encoder into a map, and classify each patch;
# - write a mask transformer, which has a token for each class;
# - write a simple feature pyramid, and connect a plain ViT to Mask R-CNN;
# - say which patches attend to each other under windowed attention, and compute how many operations the windows save;
# - find a bug in the labels by looking at one figure.

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
import math
from dataclasses import replace
from statistics import mean, stdev
from unittest.mock import patch

import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.evidence import picture, recorded
from minimae_book.figures.labels import segmentations
from minimae_book.figures.objects import objects_figure
from minimae_book.wardrobe import wardrobe
from torch import Tensor, nn

from minimae import MAE, data, size, weights
from minimae.data.augment import normalise
from minimae.data.instances import DrawnInstances
from minimae.model.sizes import block_flops
from minimae.model.vit import Block, initialise
from minimae.model.windows import cut
from minimae.tasks import pyramid, segmenter
from minimae.tasks.detect import Detect, objects_in, train_detector
from minimae.tasks.maps import spatial_maps

# %% [markdown]
# ## Three questions about a scene
#
# A classifier gives one answer for a whole image. **Semantic segmentation** gives a class to every pixel. **Object detection** gives a box
# and a class to every object. **Instance segmentation** gives a mask to every object, so that two boots side by side get two masks. The
# paper tests its encoders on all three tasks.
#
# The function `wardrobe` makes *scenes*: in each, one to four photographs from Fashion-MNIST lie on a grey background. Each photograph is
# black around the garment, so the mask of the garment is the set of all brighter pixels. The encoder, `fashion-nano`, was trained on single
# garments of 28 × 28 pixels and has never seen a scene. The scenes have 64 × 64 pixels, so patches of 4 × 4 pixels make a grid of 16 × 16
# patches.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(0)
untrained = MAE(trained.model.size).eval()
kinds = ("trousers", "bag", "ankle boot", "T-shirt")
names = ("background", *kinds)
scenes = wardrobe(data.load("fashion", "train"), 300, kinds)
tests = wardrobe(data.load("fashion", "test"), 100, kinds, seed=1)


def grey(scenes, i):
    """A scene as a picture for the figures."""
    return (scenes.pixels[i, 0].numpy()[..., None] / 255).repeat(3, -1)


# %% mystnb={"image": {"alt": "Four grey scenes of clothes. The masks of the garments are coloured by kind, with a box around each garment; a legend names the kinds. Where two garments overlap, the mask of the covered one ends at the edge of the other."}}
shown = [(tests.pixels[i], [tests.detection_target(i)]) for i in (1, 2, 4, 8)]
objects_figure(shown, ("",), kinds, pairs=4)

# %% [markdown]
# *Figure 12.1: four test scenes with their true boxes and masks. The training scenes use only photographs from the training set of
# Fashion-MNIST.*
#
# ## From tokens to a map
#
# In chapter 10 we took the mean of the encoder's patch tokens and so lost their positions. Now we keep every patch token. Without the class
# token, the sequence of tokens is the grid of patches, read row by row, so one `rearrange` turns the sequence into a *map*, with one vector
# for each patch. The package's `spatial_maps` does this for images of any size that the patch size divides.
#
# In all training runs that you start in this chapter, the encoder is **frozen**: no gradient reaches its weights. So we compute all maps
# once, and the two segmentation heads of this chapter train on the stored maps.


# %%
@torch.no_grad()
def maps_of(encoder, scenes):
    """The encoder's maps of all scenes: `b d h w`."""
    parts = normalise(scenes.pixels, trained.statistics).split(25)
    return torch.cat([spatial_maps(encoder, part)[0] for part in parts])


with torch.no_grad():
    tokens = trained.model.encoder(normalise(tests.pixels[:2], trained.statistics))
by_hand = rearrange(tokens[:, 1:], "b (h w) d -> b d h w", h=16)
maps = {name: [maps_of(mae.encoder, s) for s in (scenes, tests)] for name, mae in (("MAE", trained.model), ("untrained", untrained))}
assert torch.allclose(maps["MAE"][1][:2], by_hand, atol=1e-5)

# %% tags=["nbval-check-output"]
print("tokens b t d   :", tuple(tokens.shape))
print("maps   b d h w :", tuple(maps["MAE"][0].shape))

# %% [markdown]
# ## One linear layer
#
# The simplest head classifies each patch with one linear layer. Its map of logits is then resized to the size of the image with bilinear
# interpolation. The loss is the mean cross-entropy over all pixels that have a class. Pixels without a class have the label 255.


# %% tags=["package:minimae.tasks.segmenter"]
class LinearHead(nn.Module):
    """One linear layer classifies every patch: maps ``b d h w`` → logits ``b classes h w``."""

    def __init__(self, d: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(d, classes)
        nn.init.trunc_normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classify(rearrange(maps, "b d h w -> b h w d"))
        return rearrange(logits, "b h w classes -> b classes h w")


def pixel_loss(logits: Tensor, labels: Tensor, ignore: int = 255) -> Tensor:
    """Mean cross-entropy of the pixels whose label counts: logits ``b classes height width``, labels ``b height width``.

    0 where none counts: a random crop may show only ignored pixels.
    """
    total = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignore, reduction="sum")
    return total / (labels != ignore).sum().clamp(min=1)


# %% [markdown]
# The training loop uses AdamW, with a learning rate that rises and falls once.


# %%
def to_pixels(logits):
    """Logits of patches → logits of pixels."""
    return F.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)


def train_head(head, maps, labels, *, steps, lr, seed=0):
    """Train a head on stored maps. → the head, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(maps), (8,), generator=generator)
        loss = pixel_loss(to_pixels(head(maps[chosen])), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


# %% [markdown]
# ### How to measure a segmentation
#
# About 70 % of all pixels in the test scenes are background, so a useless model that always predicts "background" is right on most pixels.
# The standard measure treats all classes alike. For each class, count the pixels that are in both its true and its predicted region (the
# **intersection**), and those that are in at least one of the two (the **union**). The ratio of the two counts is the **IoU**, intersection
# over union. The mean of the IoU over the classes is the **mean IoU**. The pixels of all test images are counted together, not image by
# image.


# %%
@torch.no_grad()
def segmented(head, maps):
    """The predicted class of every pixel: `b height width`."""
    return torch.cat([to_pixels(head(part)).argmax(1) for part in maps.split(25)])


def iou(found, truth):
    """IoU of each class in percent, from the table of true and predicted classes."""
    classes = len(names)
    table = torch.bincount(truth.flatten().long() * classes + found.flatten(), minlength=classes**2).view(classes, classes)
    both = table.diagonal()
    return 100 * both / (table.sum(0) + table.sum(1) - both)


nothing = iou(torch.zeros_like(tests.semantic).long(), tests.semantic)

# %% tags=["nbval-check-output"]
print("background everywhere:", [round(float(value)) for value in nothing], "mean IoU", round(float(nothing.mean())))

# %% [markdown]
# Now train the linear head with three seeds on the maps of the pre-trained encoder, and again on the maps of the same network with random,
# frozen weights.


# %%
def linear_scores(name):
    """Mean IoU (%) of a linear head for seeds 0, 1 and 2."""
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        head = train_head(LinearHead(96, len(names)), maps[name][0], scenes.semantic, steps=300, lr=1e-2, seed=seed)
        found.append(float(iou(segmented(head, maps[name][1]), tests.semantic).mean()))
    return found


scores = {f"{name}, linear": linear_scores(name) for name in maps}
print({name: [round(value, 1) for value in values] for name, values in scores.items()})
assert min(scores["MAE, linear"]) > max(scores["untrained, linear"]) + 5

# %% [markdown]
# Even with the untrained encoder, the head scores far better than a model that predicts background everywhere. Random features of the image
# are probably enough to separate the garments from the background.
#
# ## A token for each class
#
# A linear head compares each patch with one vector of weights for each class, and these vectors are the same for every image. In the **mask
# transformer** (Segmenter, Strudel et al., 2021), the vector of a class depends on the image. The mask transformer works in three steps:
#
# 1. One learned token for each class joins the patches, as the class token does in a ViT. In the mask transformer, *class tokens* means
#    these learned tokens.
# 2. The whole sequence passes through two more blocks. In these blocks, class tokens and patches attend to each other.
# 3. The mask of a class is the similarity of its class token to every patch, computed as a dot product.
#
# Before step 1, the patches pass through `self.enter`. After step 2, all tokens pass through `self.norm`. In step 3, the patches pass
# through one linear layer and the class tokens through another. All are then scaled to length 1, so the dot product is a cosine. Cosines
# lie between −1 and 1, so no class could get a probability close to 1 in a softmax over five cosines. A LayerNorm over the five cosines of
# each patch learns a better scale.
#
# **1 ★★ The mask transformer.** All layers are already defined. Write `forward`. In the sequence, the patches come first and the class
# tokens follow.
#
# <details><summary>Hint 1</summary>
#
# `self.enter` works on the last axis, so bring the maps to `b (h w) d` first. `repeat` or `expand` gives every image its own copy of the
# class tokens.
# </details>
#
# <details><summary>Hint 2</summary>
#
# After the blocks and `self.norm`, the first `h * w` tokens are the patches. Apply `self.patch_side` to the patches and `self.class_side`
# to the class tokens. `F.normalize(x, dim=-1)` scales each token to length 1. Multiply the patches `b n d` by the class tokens, transposed
# to `b d classes`. The products are the masks `b n classes`, where n is `h * w`. Apply `self.mask_norm` to them, and rearrange the result
# to `b classes h w`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch12-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
from minimae.model.vit import Block


class MyMaskTransformer(nn.Module):
    """Maps `b d h w` → one mask of logits for each class, `b classes h w`."""

    def __init__(self, d, classes, *, heads, depth=2):
        super().__init__()
        self.enter = nn.Linear(d, d)
        self.class_tokens = nn.Parameter(torch.randn(1, classes, d) * 0.02)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(d)
        self.patch_side = nn.Linear(d, d, bias=False)
        self.class_side = nn.Linear(d, d, bias=False)
        self.mask_norm = nn.LayerNorm(classes)  # the last step: over the classes of each patch

    def forward(self, maps):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch12_mask_transformer(MyMaskTransformer)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyMaskTransformer(MyMaskTransformer):
    def forward(self, maps):
        b, _, h, w = maps.shape
        patches = self.enter(rearrange(maps, "b d h w -> b (h w) d"))
        x = torch.cat([patches, self.class_tokens.expand(b, -1, -1)], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        patches = F.normalize(self.patch_side(x[:, : h * w]), dim=-1)
        classes = F.normalize(self.class_side(x[:, h * w :]), dim=-1)
        masks = self.mask_norm(patches @ classes.transpose(1, 2))
        return rearrange(masks, "b (h w) classes -> b classes h w", h=h)


check.ch12_mask_transformer(solution_MyMaskTransformer)

# %% [markdown]
# The package's version is folded below. With the same weights, it computes the same masks as a correct solution.


# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.segmenter", "hide-input"]
class MaskTransformer(nn.Module):
    """One learned token for each class joins the patches for two more blocks; its mask is its similarity to every patch.

    Maps ``b d h w`` → logits ``b classes h w``. The similarity is the cosine, and a norm over the classes learns its scale (Segmenter,
    Strudel et al., ICCV 2021, arXiv 2105.05633, Section 3.2).
    """

    def __init__(self, d: int, classes: int, *, heads: int, depth: int = 2, drop: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Linear(d, d)
        self.class_tokens = nn.Parameter(torch.empty(1, classes, d))
        self.blocks = nn.ModuleList(Block(d, heads, drop=drop) for _ in range(depth))
        self.norm = nn.LayerNorm(d)
        self.patch_side, self.class_side = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.mask_norm = nn.LayerNorm(classes)
        for part in (self.enter, *self.blocks):
            initialise(part)
        for weight in (self.class_tokens, self.patch_side.weight, self.class_side.weight):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, maps: Tensor) -> Tensor:
        b, _, h, w = maps.shape
        patches = self.enter(rearrange(maps, "b d h w -> b (h w) d"))
        x = torch.cat([patches, repeat(self.class_tokens, "1 classes d -> b classes d", b=b)], dim=1)
        for block in self.blocks:
            x = block(x)
        patches, classes = self.norm(x).split([h * w, self.class_tokens.shape[1]], dim=1)
        patches, classes = F.normalize(self.patch_side(patches), dim=-1), F.normalize(self.class_side(classes), dim=-1)
        masks: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return rearrange(masks, "b (h w) classes -> b classes h w", h=h)


# %% tags=["nbval-check-output"]
Head = book.use(check.ch12_mask_transformer, MyMaskTransformer, MaskTransformer)

# %% [markdown]
# The linear head reached about 41 % mean IoU on the maps of the MAE. What mean IoU does the mask transformer reach?

# %%
book.predict("mask-transformer", 45,
             ask="Mean IoU (%) of the mask transformer on the frozen MAE, after 400 steps?")

# %%
torch.manual_seed(0)
head = train_head(Head(96, len(names), heads=3), maps["MAE"][0], scenes.semantic, steps=400, lr=5e-3)
found = segmented(head, maps["MAE"][1])
per_class = iou(found, tests.semantic)
assert float(per_class.mean()) > mean(scores["MAE, linear"])

# %% mystnb={"image": {"alt": "The reader's guess of 45 percent and the measured mean IoU of the mask transformer, about 62 percent, on one line."}}
book.reveal("mask-transformer", round(float(per_class.mean()), 1), unit="mean IoU (%)")

# %% [markdown]
# *Figure 12.2: your guess, and the measured mean IoU of the mask transformer (100 test scenes, one seed).*

# %% mystnb={"image": {"alt": "Four test scenes, each with its true masks and the masks that the mask transformer found. The outlines follow the garments, and most garments have the right class. Some have spots of another class, and a pair of patterned trousers is taken for a T-shirt."}}
segmentations(
    [(grey(tests, i), [tests.semantic[i].numpy(), found[i].numpy()]) for i in (1, 2, 4, 8)],
    ("scene", "truth", "found"),
    names,
)

# %% [markdown]
# *Figure 12.3: test scenes, true masks, and the masks that the mask transformer predicts (frozen encoder, 300 training scenes, 400 steps,
# seed 0).*
#
# Outlines and classes are mostly right, but three limits are visible. The outlines are coarse, because the head computes only one logit per
# class for each patch of 4 × 4 pixels. One garment can get two classes, because no part of this head groups patches into objects. A garment
# can also get a wrong class as a whole, such as the patterned trousers.
#
# ## A pyramid for objects
#
# A detector looks for small objects on a fine map and for large objects on a coarse map. A plain ViT has only one map, and the **stride**
# of this map is the patch size: one step on the map corresponds to that many pixels in the image.
#
# The **simple feature pyramid** (ViTDet, Li et al., 2022) computes all maps from the encoder's output. A transposed convolution doubles the
# height and the width of a map, and max pooling halves them. The function `doublings` returns how many times the encoder's map must be
# doubled to reach a given stride. A negative number says how many times the map must be halved.


# %% tags=["package:minimae.tasks.pyramid"]
class Norm2d(nn.LayerNorm):
    """LayerNorm over the channels at every place of a map: ``b c h w`` → ``b c h w``."""

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(super().forward(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


def doublings(patch: int, stride: int) -> int:
    """How often a map of stride ``patch`` is doubled to reach ``stride``, or the power of two nearest to it; negative: halved."""
    return round(math.log2(patch / stride))


# %% tags=["nbval-check-output"]
print("patch 16:", {stride: doublings(16, stride) for stride in (4, 8, 16, 32)})
print("patch  4:", {stride: doublings(4, stride) for stride in (4, 8, 16)})

# %% [markdown]
# Each map of the pyramid is called a *level*.
#
# **2 ★★★ The pyramid.** Write `build`: fill `self.levels` with one `nn.Sequential` for each stride. The layers of each level are, in this
# order:
#
# - if the map is halved: one `nn.MaxPool2d` that halves the map as often as needed;
# - for each doubling: `nn.ConvTranspose2d` with kernel and stride 2, which also halves the number of channels (at first `d`). Between two
#   doublings: `Norm2d`, then `nn.GELU`;
# - a 1 × 1 `nn.Conv2d` to `channels` channels, `Norm2d`, a 3 × 3 `nn.Conv2d` that keeps the size of the map, `Norm2d`. Neither of these two
#   convolutions has a bias; the transposed ones have one.
#
# <details><summary>Hint 1</summary>
#
# `times = doublings(patch, stride)`. For `times = -2` the pooling is `nn.MaxPool2d(4)`. Collect the layers in a list, and keep the current
# number of channels in a separate variable, because each stride starts again from `d`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# Store each level with `self.levels[str(stride)] = nn.Sequential(*layers)`. A 3 × 3 convolution keeps the size with `padding=1`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch12-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyPyramid(nn.Module):
    """One map of stride `patch` → a map of every stride, by name: {"4": `b channels …`, "8": …}."""

    def __init__(self, d, patch, *, strides=(4, 8, 16), channels=64):
        super().__init__()
        self.out_channels, self.levels = channels, nn.ModuleDict()
        self.build(d, patch, strides, channels)

    def forward(self, x):
        return {stride: level(x) for stride, level in self.levels.items()}

    def build(self, d, patch, strides, channels):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch12_pyramid(MyPyramid)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyPyramid(MyPyramid):
    def build(self, d, patch, strides, channels):
        for stride in strides:
            times, width, layers = doublings(patch, stride), d, []
            if times < 0:
                layers.append(nn.MaxPool2d(2**-times))
            for i in range(times):
                layers += [Norm2d(width), nn.GELU()] if i else []
                layers.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
                width //= 2
            layers += [nn.Conv2d(width, channels, 1, bias=False), Norm2d(channels)]
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), Norm2d(channels)]
            self.levels[str(stride)] = nn.Sequential(*layers)


check.ch12_pyramid(solution_MyPyramid)

# %% tags=["nbval-check-output"]
Levels = book.use(check.ch12_pyramid, MyPyramid, pyramid.Pyramid)
levels = Levels(96, 4, strides=(4, 8, 16), channels=32)
for stride, one in levels(maps["MAE"][1][:2]).items():
    print(f"stride {stride:>2}: b c h w = {tuple(one.shape)}")

# %% [markdown]
# ### Mask R-CNN on top
#
# The rest of the detector is torchvision's Mask R-CNN. First, a small network proposes boxes at every position of every map. For each of
# the best proposals, `MultiScaleRoIAlign` takes the map whose stride suits the size of the proposed box, cuts out the region of the box,
# and resizes this region to a fixed size. From such a region, one head predicts the class and a better box, and another head predicts the
# mask of the object.
#
# `minimae.tasks.detector.Detector` connects the encoder, the pyramid and Mask R-CNN. The detector below has two levels, few channels, few
# proposals and one class, "garment", so that it trains in seconds. The function `patch` (from `unittest.mock`) puts your pyramid into the
# detector if your solution is right.


# %%
def garments(scenes):
    """Scenes as pictures with objects of one class."""
    one = replace(scenes, classes=("garment",), labels=torch.zeros_like(scenes.labels))
    one = replace(one, object_labels=[torch.zeros_like(labels) for labels in scenes.object_labels])
    return DrawnInstances(name="garments", ids=one.ids, classes=one.classes, scenes=one, colours=1)


small = {"finest": 8, "levels": 2, "channels": 32, "box_width": 64, "proposals": 20, "rois": 16, "detections": 6}
recipe = Detect(image=64, scale=(1, 1), frozen=True, epochs=4, warmup_epochs=0.3, base_lr=8e-2, **small)
few = garments(scenes.subset(torch.arange(200)))
with patch("minimae.tasks.detector.Pyramid", Levels):
    detector, result = train_detector(recipe, trained.model.encoder, few, trained.statistics, quiet=True)

# %% mystnb={"image": {"alt": "Two test scenes, each with its marked garments and with those that the detector found, with scores from 40 to 80 percent. Most garments have a box of about the right size, and a mask that is rounder than the garment. Some boxes miss part of a garment, and one T-shirt is found twice."}}
targets = garments(tests)
pairs = [(tests.pixels[i], [targets.target(i), objects_in(detector, tests.pixels[i], least=0.4)]) for i in (1, 8)]
objects_figure(pairs, ("marked", "found"), targets.classes)

# %% [markdown]
# *Figure 12.4: the true boxes and masks of the garments ("marked"), and those that the detector found with a score of at least 40 % (200
# training scenes, four epochs, frozen encoder, seed 0). Colours distinguish the objects of a picture and do not stand for classes.*
#
# The masks are coarse, some boxes miss part of a garment, and a garment can be found twice. But unlike the segmentation heads, the detector
# can separate objects of the same class.
#
# Detection is scored by **average precision** (AP). For each class, a predicted box is correct when its IoU with a true box of this class
# reaches a threshold; each true box can be matched only once. *Precision* is the share of predicted boxes that are correct, and *recall* is
# the share of true boxes that are found. Both depend on the lowest score at which a box counts. Lowering this limit step by step gives a
# curve of precision against recall, and AP is the area under this curve. COCO's AP is the mean of the AP over ten IoU thresholds from 0.5
# to 0.95, and over the classes.
#
# **3 ★ Box overlap.** Return the IoU, from 0 to 1, of every box in `a` (`k 4`) with every box in `b` (`m 4`), as a tensor `k m`. A box is
# given as left, top, right and bottom. The right and bottom edges lie just beyond the last pixel.
#
# <details><summary>Hint</summary>
#
# `a[:, None]` and `b[None]` pair every box in `a` with every box in `b`. Horizontally, the intersection begins at the larger of the two
# left edges and ends at the smaller of the two right edges. The same rule holds vertically for the top and bottom edges. The intersection
# may be empty.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch12-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def box_overlap(a, b):
    """Boxes `k 4` and `m 4` (left, top, right, bottom) → IoU of every pair, `k m`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch12_box_overlap(box_overlap)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_box_overlap(a, b):
    """Boxes `k 4` and `m 4` (left, top, right, bottom) → IoU of every pair, `k m`."""
    start, end = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (end - start).clamp(min=0).prod(-1)
    areas_a, areas_b = ((boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b))
    return both / (areas_a[:, None] + areas_b - both)


check.ch12_box_overlap(solution_box_overlap)

# %% [markdown]
# ### Where this lives
#
# `minimae segment` and `minimae detect` train a segmentation model and a detector on a folder of pictures. The models are the Python
# classes `minimae.tasks.segmenter.Segmenter` and `minimae.tasks.detector.Detector`.

# %%
theirs, mine = segmenter.MaskTransformer(96, 5, heads=3), MaskTransformer(96, 5, heads=3)
mine.load_state_dict(theirs.state_dict())
assert torch.equal(theirs(by_hand), mine(by_hand))
assert isinstance(detector.pyramid, Levels) and pyramid.doublings(16, 4) == doublings(16, 4)
assert sum(p.requires_grad for p in detector.encoder.parameters()) == 0

# %% [markdown]
# ## Large pictures: attention in windows
#
# Detectors often work on large pictures. A picture of 1024 × 1024 pixels has 4,096 patches of 16 × 16 pixels, and full attention compares
# each patch with every other patch. In most blocks of ViTDet, patches attend only within **windows** of 14 × 14 patches. Four blocks,
# evenly spaced, keep full attention and carry information from window to window.
#
# **4 ★★ Who sees whom?** A grid of `h` × `w` patches is cut into windows of `side` × `side` patches, beginning at the upper left corner.
# Windows at the right and lower edges may be smaller. For the n = h · w patches, return a table `n n` of booleans that is True where two
# patches are in the same window.
#
# <details><summary>Hint</summary>
#
# Find the row and the column of each patch from its index, then the row and the column of its window. Two patches share a window when both
# the row and the column of their windows are equal.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch12-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def same_window(grid, side):
    """A grid (h, w) → bool `n n`: which patches are in the same window."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch12_same_window(same_window)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_same_window(grid, side):
    """A grid (h, w) → bool `n n`: which patches are in the same window."""
    h, w = grid
    number = torch.arange(h * w)
    row, column = number // w // side, number % w // side
    return (row[:, None] == row) & (column[:, None] == column)


check.ch12_same_window(solution_same_window)

# %% [markdown]
# The package never builds this table. It cuts the map into windows and computes attention within each window (`minimae.model.windows`).


# %% tags=["nbval-check-output"]
def sees(grid, side):
    """The same table from the package's windows. Patches count from 1 here: `cut` fills the windows at the edges with 0."""
    n = grid[0] * grid[1]
    windows = cut(1.0 + torch.arange(n).view(1, 1, n, 1), grid, (side, side))[:, 0, :, 0].long()
    table = torch.zeros(n + 1, n + 1, dtype=torch.bool)
    for members in windows:
        table[members[:, None], members[None]] = True
    return table[1:, 1:]


assert check.ch12_same_window(sees).ok
sees = book.use(check.ch12_same_window, same_window, sees)

# %% mystnb={"image": {"alt": "Three maps of 16 by 16 patches with one patch framed. Left, full attention: all patches are bright. Middle, windows of 4: a square of 4 by 4 patches that contains the framed patch is bright. Right, windows of 6: a square of 6 by 6 patches is bright, and the framed patch is its lower left corner."}}
asking = (5, 6)
visible = {f"windows of {side}": sees((16, 16), side)[asking[0] * 16 + asking[1]].view(16, 16).float().numpy() for side in (16, 4, 6)}
visible = {"full attention": visible.pop("windows of 16"), **visible}
plots.place_maps(visible, [asking] * 3, label="0: not seen · 1: seen by the framed patch")

# %% [markdown]
# *Figure 12.5: the patches that one patch (framed) attends to, on a grid of 16 × 16 patches. With windows, the framed patch cannot attend
# to any patch outside its window until the next block with full attention.*
#
# How much do windows save? The linear layers of a block cost $24\,t\,d^2$ operations for $t$ tokens of width $d$, and attention costs
# $4\,t^2\,d$ (chapter 04). With windows, each patch attends to $s + 1$ tokens instead of $t$: to the $s$ patches of its window and to the
# class token.

# %%
base = size("base", image=1024)
t, d, s = 1 + 4096, base.width, 14 * 14
assert 24 * t * d**2 + 4 * t**2 * d == block_flops(t, d)


def giga(pixels, full):
    """Layers and attention of 12 blocks, `full` of them with full attention, in 10⁹ operations."""
    tokens = 1 + (pixels // 16) ** 2
    keys = full * tokens + (12 - full) * (s + 1)
    return {"layers": 12 * 24 * tokens * d**2 / 1e9, "attention": 4 * tokens * keys * d / 1e9}


costs = {
    "224 px, full attention": giga(224, 12),
    "1024 px, full attention": giga(1024, 12),
    "1024 px, 4 full blocks": giga(1024, 4),
    "1024 px, windows only": giga(1024, 0),
}

# %% mystnb={"image": {"alt": "Horizontal bars of the operations of ViT-B. At 224 pixels 35 billion. At 1024 pixels with full attention 1,315 billion, almost half of them for attention. With four full blocks 922 billion. With windows only 726 billion, nearly all for the layers."}}
plots.cost_bars(costs, unit="operations for one image, ViT-B (10⁹)")

# %% [markdown]
# *Figure 12.6: the cost of the twelve blocks of ViT-B, computed, not measured (one multiply-add is two operations; the padding of windows
# at the edges is not counted).*
#
# At 1024 pixels, full attention accounts for almost half of the cost. With four full blocks, windows remove more than 60 % of the cost of
# attention. Windows cannot reduce the cost of the linear layers.
#
# ## How much does pre-training help?
#
# Here are the scores of the two segmentation heads on frozen encoders. The mask transformer was trained only on the maps of the MAE.

# %%
means = {name: (mean(values), stdev(values)) for name, values in scores.items()}
measured = {
    "linear head, 3 seeds": [(name, *means[f"{name}, linear"]) for name in ("untrained", "MAE")],
    "mask transformer, 1 seed": [("MAE", float(per_class.mean()), 0.0)],
}

# %% mystnb={"image": {"alt": "Mean IoU on the scenes of clothes. Linear head, three seeds: 30.7 percent on the untrained encoder and 41.3 on the MAE, with error bars below one point. Mask transformer on the MAE, one seed: about 62 percent."}}
plots.claim_panels({"mean IoU (%)": measured}, {}, axis="frozen encoder")

# %% [markdown]
# *Figure 12.7: mean IoU on 100 test scenes of clothes; error bars are one standard deviation over three seeds of the linear head. All seeds
# use the same pre-trained encoder and the same untrained encoder.*
#
# The scenes of clothes suit the encoder `fashion-nano`, which was trained on photographs of this kind. The package's experiment `dense`
# uses the data set `shapes`, which consists of scenes drawn by a program, with six kinds of shapes. The experiment pre-trains an encoder on
# such scenes for each of three seeds.

# %% mystnb={"image": {"alt": "Three panels of mean IoU. Left, measured here with one linear head for all patches: raw pixels 10.8 percent, untrained encoder 15.0, MAE 16.7, with small error bars. Below, the differences with 95 percent intervals: the MAE is 0.5 to 2.7 points above the untrained encoder and 4.6 to 7.2 above pixels. Right, the paper: MAE 48.1 and 53.6, supervised 47.4 and 49.9 for ViT-B and ViT-L."}}
dense = recorded("dense")
assert all(finding.ok for finding in dense.findings) and len(dense.seeds) == 3
picture(dense)

# %% [markdown]
# *Figure 12.8: left, mean IoU on `shapes` with a linear head on raw pixels and on frozen encoders; error bars are one standard deviation
# over three seeds (`minimae reproduce dense`). Right, the paper's Table 5: UperNet on ADE20K, different data at a different scale. Below,
# the lead of MAE over the untrained encoder and over pixels on `shapes`, with 95 % intervals. Each panel has its own axis.*

# %% tags=["nbval-check-output"]
for finding in dense.findings:
    print(finding)

# %% [markdown]
# On `shapes` the MAE is 1.6 points ahead of the untrained encoder (95 % interval 0.5 to 2.7). On the scenes of clothes, the MAE is about
# eleven points ahead. The two experiments differ in pictures, encoders and patch size, so they do not show why the gain is smaller on
# `shapes`.
#
# The paper compares *fine-tuned* encoders. On `shapes`, `minimae reproduce segmentation` compares fine-tuned and frozen encoders, with both
# heads and three seeds (in the output, "MAE" alone means fine-tuned):

# %% tags=["nbval-check-output"]
segmenters = recorded("segmentation")
for mark in segmenters.marks:
    print(f"{mark.line:18}{mark.x:16}{mark.mean:5.1f} ± {mark.std:.1f} % mean IoU")
for finding in segmenters.findings:
    print(finding)

# %% [markdown]
# With the linear head, the MAE, frozen or fine-tuned, is clearly above the frozen random encoder. With this head, the fine-tuned MAE is 1.6
# points ahead of training from scratch (computed from the unrounded means). This comparison is undecided after the correction for six
# comparisons (chapter 11), although the interval of the difference does not include zero. The mask transformer probably has too few
# training scenes: one of its runs on a frozen MAE and one of its runs from scratch predicted only background.
#
# With a linear head, the result is similar on the street scenes of CamVid. A small MAE was pre-trained on Tiny-ImageNet for six epochs; the
# table shows means over [three seeds](../docs/dense.md#semantic-segmentation):
#
# | encoder | mean IoU (%) |
# |---|---:|
# | MAE, fine-tuned | 26.4 |
# | from scratch | 25.7 |
# | MAE, frozen | 17.7 |
# | random, frozen | 15.1 |
#
# The frozen MAE is again ahead of the frozen random encoder, by 2.7 points, computed from the unrounded means (95 % interval 0.5 to 4.8,
# not corrected for two comparisons). When all weights are trained, MAE is 0.7 points ahead of training from scratch, but this comparison is
# undecided (interval −2.3 to 3.8). In detection the gain is clear: on the pedestrians of Penn-Fudan, a detector reaches 19.6 box AP with
# MAE and 8.9 from scratch (interval of the difference 6.9 to 14.5; [three seeds](../docs/dense.md#objects)).
#
# > **Paper.** Section 5 with Tables 4 and 5, Appendices A.3 and A.4. On COCO, ViT-B / ViT-L reach a box AP of 50.3 / 53.3 after MAE and
# > 47.9 / 49.3 after supervised pre-training. On ADE20K, they reach a mean IoU of 48.1 / 53.6 after MAE and 47.4 / 49.9 after supervised
# > pre-training.
# > **Our deviations**: the
# > paper feeds the outputs of four blocks to a feature pyramid network (FPN), and
# > segments with UperNet; we use ViTDet's simple pyramid and a mask transformer.
# > Our models have no relative position bias. The recipes `coco-base` and `ade20k-base` have settings for the paper's scale, but this project
# > has not run these two recipes.
#
# ## Break-it lab: a garment with a rim
#
# To save time, a colleague trains at 40 pixels instead of 64. The colleague resizes the scenes, and then the labels with the same function.
# Training runs without an error, and the loss falls.

# %%
smaller = {
    "ours": F.interpolate(tests.semantic[:, None].float(), size=40, mode="nearest")[:, 0].long(),
    "theirs": F.interpolate(tests.semantic[:, None].float(), size=40, mode="bilinear")[:, 0].round().long(),
}

# %% mystnb={"image": {"alt": "Two scenes with labels resized in two ways. Ours have garments of one colour each. In theirs, every T-shirt, boot and bag has a thin rim in the colours of other classes: the rim of a T-shirt is blue, brown and yellow. Trousers have no rim."}}
shrunk = F.interpolate(tests.pixels.float() / 255, size=40, mode="area")
segmentations(
    [(shrunk[i, 0].numpy()[..., None].repeat(3, -1), [labels[i].numpy() for labels in smaller.values()]) for i in (2, 8)],
    ("scene", *smaller),
    names,
)

# %% [markdown]
# *Figure 12.9: two scenes at 40 pixels, with the labels as resized by us ("ours") and by the colleague ("theirs"). The numbers of the
# classes are 0 background, 1 trousers, 2 bag, 3 ankle boot, 4 T-shirt.*
#
# What went wrong? Why does a T-shirt have a rim in several colours, and why do trousers have none?
#
# <details><summary>Diagnosis</summary>
#
# The colleague resized the labels with bilinear interpolation. Bilinear interpolation averages class numbers, and the average of two class
# numbers can be the number of a third class. Halfway between background (0) and T-shirt (4) is 2, the number of the bag; nearer to one of
# the two, the average is 1 or 3. So the outline of a T-shirt gets the classes 1, 2 and 3. Trousers have number 1, and there is no class
# between 0 and 1. Interpolate pictures, but resize labels by taking the nearest pixel. A simple test on many scenes finds this bug: after
# resizing, a scene must not contain a class that it did not contain before.
# </details>

# %% tags=["nbval-check-output"]
new = {
    name: sum(len(set(after.unique().tolist()) - set(before.unique().tolist())) for after, before in zip(labels, tests.semantic))
    for name, labels in smaller.items()
}
print("classes that no object of the scene has, over 100 scenes:", new)

# %% [markdown]
# ## Summary
#
# The patch tokens of a ViT form a map. One linear layer turns this map into a segmentation. In a mask transformer, a token for each class
# attends to the image, and its dot products with the patches are the mask of the class. A pyramid makes maps of several strides from the
# one map of the encoder, so that a standard detector can use a plain ViT. Windows remove most of the cost of attention in large pictures,
# and a few blocks with full attention let information pass between windows. With a linear head, a frozen MAE scores higher than a frozen
# random network in all experiments of this chapter. With all weights trained, starting from MAE is clearly better than training from
# scratch in one of the three experiments above: the detection of pedestrians.
#
# ## Five questions
#
# 1. Why is mean IoU used, and not the share of correct pixels?
# <details><summary>Answer</summary>The background covers most pixels. Predicting it everywhere gives a high share of correct pixels, but an IoU of 0 for every other class.</details>
#
# 2. What can a mask transformer do that a linear head cannot?
# <details><summary>Answer</summary>It can adapt its class vectors to the image: the class tokens attend to the patches before each token is compared with the patches.</details>
#
# 3. The patch size is 16, and you need a map of stride 4. How many transposed convolutions does this take, and how many channels does the
#    map have after them if `d` is 768?
# <details><summary>Answer</summary>Two, because log2(16 / 4) = 2. Each convolution halves the number of channels: 768, 384, 192.</details>
#
# 4. Why do windows of 14 × 14 patches save nothing for a picture of 224 × 224 pixels with patches of 16 × 16 pixels?
# <details><summary>Answer</summary>The picture has 14 × 14 = 196 patches, exactly one window, so windowed attention is the same as full attention.</details>
#
# 5. A map of class numbers from 0 to 150 is resized with bicubic interpolation. Which pixels can be wrong?
# <details><summary>Answer</summary>The pixels along the outlines. The interpolation mixes the numbers of two classes at these pixels, and the mixture can be the number of a third class or of no class.</details>
#
# Next: [13 · ImageNet on GPUs](13_imagenet_on_gpus.ipynb). All models so far are small. What does it take to train a model of the paper's
# size?
