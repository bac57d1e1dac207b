"""The parts of a run's report: an HTML page that contains its figures, so it opens without a server and can be mailed."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from minimae.data.images import Images
from minimae.data.types import ImageDataset
from minimae.model.patches import pair
from minimae.model.sizes import Size
from minimae.tasks.expected import judged
from minimae.tasks.loading import some
from minimae.tasks.pretrain import Pretrain, Pretrained, baseline_loss
from minimae.train.task import Result

from .figures import loss_curve, metric_panels
from .figures.style import Figure, png
from .photographs import reconstruction_figure

SHOWN = 8  # test images in a report
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100%; height: auto; background: #fff; border-radius: 6px }}
figure {{ margin: 1.5rem 0 }} figcaption {{ font-size: .9rem; opacity: .8 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8884 }}
pre {{ overflow-x: auto; background: #8881; padding: .8rem; border-radius: 6px }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def html_page(title: str, parts: Sequence[str]) -> str:
    """A page with this title and these parts, which are HTML."""
    return PAGE.format(title=html.escape(title), body="\n".join(parts))


def picture(fig: Figure, path: Path, caption: str) -> str:
    """Save a figure as PNG; → the HTML of the figure with its caption as alt text too."""
    data, shape = png(fig)
    path.write_bytes(data)
    source, text = base64.b64encode(data).decode(), html.escape(caption)
    return f'<figure><img alt="{text}" width="{shape["width"]}" src="data:image/png;base64,{source}"><figcaption>{text}</figcaption></figure>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the first row is the head."""
    cells = ["".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) for tag, row in zip(["th"] + ["td"] * len(rows), rows)]
    return "<div style='overflow-x:auto'><table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table></div>"


def metrics_part(out: Path, result: Result) -> str:
    """Every number that was logged, as a figure."""
    return picture(metric_panels(result.history), out / "metrics.png", "Every number in metrics.jsonl, by optimizer step.")


def examples(test: ImageDataset, size: Size, *, skip_corrupt: bool = False) -> Images:
    """The few test images of a report, in memory; all of them if they were already chosen. A damaged one is an error, or is replaced."""
    chosen = test if test.labels is None or len(test) <= SHOWN else test.balanced_subset(SHOWN, seed=3)
    return some(chosen, SHOWN, image=pair(size.image), skip_corrupt=skip_corrupt)


def pretraining_parts(
    out: Path, trained: Pretrained, train: ImageDataset, test: ImageDataset, result: Result, *,
    processes: int = 1, workers: int = 0, unseen: bool = True,
) -> tuple[list[str], str]:  # fmt: skip
    """The figures of a pre-training run with captions: loss, all metrics, reconstructions of ``test``; PNGs go to ``out``.

    unseen: whether the model was not trained on ``test``. → the parts of a page, and the verdict on the loss.
    """
    recipe: Pretrain = trained.recipe
    baseline = baseline_loss(trained.model, train, skip_corrupt=True, workers=workers)
    verdict = judged(result, baseline, recipe, processes=processes)
    steps, losses = ([point[name] for point in result.history] for name in ("step", "loss"))
    curve = loss_curve(steps, losses, baseline=baseline, images_per_step=recipe.batch * recipe.accumulate * processes)
    chosen = examples(test, trained.model.size, skip_corrupt=True)
    figure, caption = reconstruction_figure(trained, chosen.pixels, seed=recipe.seed, ids=chosen.ids)
    speed = f"{result.seconds:.0f} s ({result.seen / max(1e-9, result.seconds):,.0f} images/s)"
    whose = "Test images that the model never saw." if unseen else "Training images."
    parts = [
        f"<p>{result.steps:,} optimizer steps, {result.seen:,} images seen, {speed}, seed {recipe.seed}. {html.escape(verdict)}</p>",
        picture(curve, out / "loss.png", f"Loss while training: {result.loss:.3f} at the end; predicting the mean scores {baseline:.3f}."),
        picture(figure, out / "reconstructions.png", f"{whose} {caption}"),
        metrics_part(out, result),
    ]
    return parts, verdict
