"""The claims. The paper's numbers come from the recipes, or name their table."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from itertools import pairwise

from minimae.errors import nearest

from .budgets import Budget
from .claims import (
    CROPS,
    IOU,
    LOSSES,
    MAE_LINE,
    PROBE,
    SCRATCH_LINE,
    TARGETS,
    TUNED,
    WITH,
    WITHOUT,
    Claim,
    Expect,
    X,
    by_labels,
    changes_in,
    decoder_depths,
    decoder_widths,
    dense,
    lengths,
    lines,
    mae,
    mask_tokens,
    partially,
    ratios,
    samplings,
    sweep,
    table,
    transfers,
)


def named(x: X) -> str:
    return x if isinstance(x, str) else f"{x:g}"


def every_pair(measure: str, *xs: float | str, unit: str = "") -> list[Expect]:
    """Each is above the one that follows it."""
    return [Expect(f"{measure.split(' (')[0]}: {named(a)}{unit} above {named(b)}", mae(measure, a), mae(measure, b)) for a, b in pairwise(xs)]


def judged(b: Budget, *expects: Expect) -> list[Expect]:
    """The measures that this budget uses."""
    return [e for e in expects if e.first[0] in b.judges]


def beats_scratch(b: Budget) -> list[Expect]:
    return [Expect(f"with {n:,} labels", (TUNED, MAE_LINE, n), (TUNED, SCRATCH_LINE, n)) for n in b.ladder]


def high_ratio(b: Budget) -> list[Expect]:
    """The paper's optimum is 75 %, for both; low ratios are clearly worse, especially for the probe, and so is 90 %."""
    low, high = b.ratios[0], b.ratios[-1]
    ends = [x for x in (low, high) if x != 75]
    return [Expect(f"{m.split(' (')[0]}: 75 % above {x} %", mae(m, 75), mae(m, x)) for m in b.judges for x in ends]


def random_best(b: Budget) -> list[Expect]:
    others = [name for name in samplings(b) if name != "random 75 %"]
    return [Expect(f"{m.split(' (')[0]}: random above {x}", mae(m, "random 75 %"), mae(m, x)) for m in b.judges for x in others]


def no_mask_tokens(b: Budget) -> list[Expect]:
    costs = [Expect(f"{m.split(' (')[0]}: at least twice as much with them", mae(m, WITH), mae(m, WITHOUT), by=1.0)
             for m in ("FLOPs (× without)", "time of a step (× without)")]  # fmt: skip
    return [*(e for m in b.judges for e in every_pair(m, WITHOUT, WITH)), *costs]


def light_decoder(b: Budget) -> list[Expect]:
    shallow, *_, deep = sorted(b.depths)
    return judged(
        b,
        Expect(f"fine-tuned: depth {shallow} within a point of {deep}", mae(TUNED, shallow), mae(TUNED, deep), within=1.0),
        Expect(f"linear probe: depth {deep} above {shallow}", mae(PROBE, deep), mae(PROBE, shallow)),
    )


def narrow_decoder(b: Budget) -> list[Expect]:
    narrow, wide = b.widths[0], b.widths[-1]
    return judged(
        b,
        Expect(f"fine-tuned: width {narrow} at most a point below {wide}", mae(TUNED, narrow), mae(TUNED, wide), slack=1.0),
        Expect(f"linear probe: a wider decoder above {narrow}", mae(PROBE, b.widths[1]), mae(PROBE, narrow)),
    )


def normalised_best(b: Budget) -> list[Expect]:
    return [Expect(f"{m.split(' (')[0]}: normalised above {x}", mae(m, "normalised"), mae(m, x))
            for m in b.judges for x in ("pixels", "pca")]  # fmt: skip


def crops_suffice(b: Budget) -> list[Expect]:
    """Cropping helps, colour jitter does not, and even without any augmentation it works decently."""
    return judged(
        b,
        *(Expect(f"{m.split(' (')[0]}: random-size crop above none", mae(m, "random-size crop"), mae(m, "none")) for m in b.judges),
        *(Expect(f"{m.split(' (')[0]}: without colour jitter at most half a point below with it", mae(m, "random-size crop"), mae(m, "+ colour jitter"), slack=0.5)
          for m in b.judges),
        Expect("fine-tuned: none at most two points below random-size crop", mae(TUNED, "none"), mae(TUNED, "random-size crop"), slack=2.0),
    )  # fmt: skip


def longer_better(b: Budget) -> list[Expect]:
    return [e for m in b.judges for e in every_pair(m, *reversed(b.epochs), unit=" epochs")]


def few_blocks(b: Budget) -> list[Expect]:
    none, _, one, *_, whole = b.blocks
    middle = b.blocks[len(b.blocks) // 2]
    return [
        Expect("fine-tuned: one block above none", mae(TUNED, one), mae(TUNED, none)),
        Expect(f"fine-tuned: {middle:g} block{'s' if middle > 1 else ''} at most a point below all", mae(TUNED, middle), mae(TUNED, whole), slack=1.0),
    ]


def transfers_well(b: Budget) -> list[Expect]:
    found = []
    for target in dict.fromkeys((b.pretrain.data, "shapes")):
        for source in dict.fromkeys((*b.sources, b.pretrain.data)):
            if source != target:
                place = (TUNED, f"learns {target}")
                found.append(Expect(f"{target}: pre-trained on {source} above from scratch", (*place, source), (*place, "nothing")))
    return found


def knows_places(b: Budget) -> list[Expect]:
    head = (IOU, "linear head")
    return [Expect(f"MAE above {x}", (*head, "MAE"), (*head, x)) for x in ("untrained", "pixels")]


RATIO, SAMPLING, DEPTH, WIDTH = "mask ratio (Figure 5)", "sampling (Table 1f)", "decoder depth (Table 1a)", "decoder width (Table 1b)"
LENGTH, CROP = "epochs (Figure 7)", "augmentation (Table 1e)"
PARTIAL: dict[str, list[tuple[X, float]]] = {  # Figure 9
    MAE_LINE: list(zip((0, 0.5, 1, 2, 4, 6, 12, 18, 24), (73.5, 79.1, 81.0, 83.1, 84.2, 84.4, 84.6, 84.7, 84.9))),
    "MoCo v3": list(zip((0, 1, 2, 4, 6, 12, 18, 24), (77.6, 79.9, 80.8, 81.6, 81.9, 83.2, 83.8, 84.1))),
}

_ALL = (
    Claim("pre-training", "Pre-training beats training from scratch, whatever the number of labels.", "Tables 3 and 11", "labelled images",
          by_labels, beats_scratch, {TUNED: lines(MAE=(83.6, 85.9, 86.9), from_scratch=(82.3, 82.6, 83.1))}, "model, all labels"),
    Claim("mask-tokens", "Without mask tokens the encoder is better, and cheaper by a factor.", "Tables 1c and 2", "the encoder sees",
          mask_tokens, no_mask_tokens,
          {**table("mask tokens in the encoder (Table 1c)", (WITH, WITHOUT)),
           "FLOPs (× without)": {MAE_LINE: [(WITH, 3.3), (WITHOUT, 1.0)]},
           "time of a step (× without)": {MAE_LINE: [(WITH, 2.8), (WITHOUT, 1.0)]}}),
    Claim("decoder-depth", "A deep decoder matters for the probe, and hardly for fine-tuning.", "Table 1a", "decoder blocks",
          lambda b: sweep(b, decoder_depths(b)), light_decoder, table(DEPTH, changes_in(DEPTH, "decoder_depth"))),
    Claim("decoder-width", "A narrow decoder is enough for fine-tuning, and costs the probe a little.", "Table 1b", "decoder width",
          lambda b: sweep(b, decoder_widths(b)), narrow_decoder, table(WIDTH, changes_in(WIDTH, "decoder_width"))),
    Claim("target", "Normalised pixels are the best of the pixel targets.", "Table 1d", "target",
          lambda b: sweep(b, TARGETS), normalised_best, table("target (Table 1d)", list(TARGETS))),
    Claim("loss", "The loss should count masked patches only: with all patches, it costs about half a point.", "Section 3", "loss on",
          lambda b: sweep(b, LOSSES), lambda b: [e for m in b.judges for e in every_pair(m, "masked", "all")],
          {TUNED: {MAE_LINE: [("masked", 84.9), ("all", 84.4)]}}),
    Claim("augmentation", "Crops are all the augmentation it needs; colour jitter hurts, and without any it still works.", "Table 1e",
          "augmentation", lambda b: sweep(b, CROPS), crops_suffice, table(CROP, list(CROPS))),
    Claim("partial", "Tuning one block helps a lot, and some blocks nearly as much as all.", "Figure 9", "blocks tuned", partially,
          few_blocks, {TUNED: PARTIAL}),
    Claim("transfer", "Features that were learned on one set of images help on another.", "Table 6", "pre-trained on", transfers, transfers_well,
          {TUNED: lines(iNaturalist_2018=(75.4, 80.1, 83.0), Places365=(57.9, 59.4, 59.8))}, "model, pre-trained on ImageNet"),
    Claim("dense", "Each token describes its own place in the image: dense tasks profit from pre-training.", "Table 5", "the head sees", dense, knows_places,
          {IOU: lines(MAE=(48.1, 53.6), supervised=(47.4, 49.9))}, "model, UperNet on ADE20K", lambda b: b.dense),
    Claim("longer", "Longer pre-training is better, and has not saturated.", "Figure 7", "epochs of pre-training",
          lambda b: sweep(b, lengths(b)), longer_better, table(LENGTH, changes_in(LENGTH, "epochs"))),
    Claim("sampling", "Random patches are better hidden than blocks or a grid.", "Table 1f and Figure 6", "sampling",
          lambda b: sweep(b, samplings(b)), random_best,
          table(SAMPLING, ("random 75 %", "block 50 %", "block 75 %", "grid 75 %"))),
    Claim("mask-ratio", "A high mask ratio, 75 %, is best for both probing and fine-tuning.", "Figure 5", "mask ratio (%)",
          lambda b: sweep(b, ratios(b)), high_ratio, table(RATIO, [round(100 * r) for r in changes_in(RATIO, "ratio")])),
)  # fmt: skip


def claims_of_modules() -> list[Claim]:
    """The claims that have a module in this folder: ``claim_NAME.py``, in which the claim is called CLAIM."""
    package = sys.modules[__package__ or ""]
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name.startswith("claim_"))
    return [import_module(f"{__package__}.{name}").CLAIM for name in names]


CLAIMS: dict[str, Claim] = {claim.name: claim for claim in (*_ALL, *claims_of_modules())}


def claim_named(name: str) -> Claim:
    """A claim by name. Raises ValueError with the nearest known name."""
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}{nearest(name, CLAIMS)}")
    return CLAIMS[name]
