"""The files of a run for its reader: numbers as JSON, figures as PNG, and one page with everything."""

from __future__ import annotations

import base64
import html
import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from minimae_book.figures import loss_curve, metric_panels, reconstructions

from .. import __version__
from ..data.images import Images
from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..model.patches import pair
from ..model.sizes import Size
from ..tasks.expected import judged
from ..tasks.loading import some
from ..tasks.pretrain import Pretrain, Pretrained, baseline_loss
from ..tasks.reconstruct import TITLES, reconstruct_batch
from ..train.task import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8  # test images in a report
ENVIRONMENT, COMMAND = "environment.json", "command"  # the file in the run's folder, and its entry for the command line
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


def environment(device: str) -> dict[str, str]:
    """The machine and the versions: what a reader needs to judge a measurement."""
    return {
        "minimae": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def processor() -> str:
    """The processor's name, with its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.processor() or 'unknown'}, {os.cpu_count()} cores"


def write_json(path: Path, value: Any) -> None:
    """JSON, indented, written whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def prepare(out: Path, recipe: Any, device: str, words: Sequence[str] = (), *, text: str = "", again: bool = False) -> None:
    """Make the run folder and note recipe, environment and the ``words`` of the command. Raises MinimaeError if it cannot be written.

    text: the recipe with source and cost, for recipe.txt. again: after the last step of a run, which may have been resumed; the words
    stay those that started it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        words = (first_words(out) if again else []) or words
        write_json(out / "recipe.json", asdict(recipe))
        write_json(out / ENVIRONMENT, environment(device) | ({COMMAND: shlex.join(["minimae", *words])} if words else {}))
        if text:
            (out / "recipe.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MinimaeError(f"cannot write into {out} ({error.strerror}); choose another folder with --out") from None


def first_words(folder: Path, command: str | None = None) -> list[str]:
    """The arguments that started the run in a folder; none if they are unknown or belong to another command."""
    try:
        words = shlex.split(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))[COMMAND])[1:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # an older run, or an edited file
        return []
    return words if command is None or words[:1] == [command] else []


def picture(fig: Figure, path: Path, caption: str) -> str:
    """Save a figure as PNG; → the HTML of the figure with its caption as alt text too."""
    fig.savefig(path)
    data, text = base64.b64encode(path.read_bytes()).decode(), html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the first row is the head."""
    cells = ["".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) for tag, row in zip(["th"] + ["td"] * len(rows), rows)]
    return "<div style='overflow-x:auto'><table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table></div>"


def write_page(out: Path, title: str, parts: Sequence[str], recipe: Any, device: str) -> Path:
    """One page with these parts, the recipe and the environment, which opens without a server and can be mailed; → its path."""
    facts = {"Recipe": {name: str(value) for name, value in asdict(recipe).items()}, "Environment": environment(device)}
    folded = [f"<details><summary>{name}</summary>{table([('name', 'value'), *rows.items()])}</details>" for name, rows in facts.items()]
    path = out / "report.html"
    path.write_text(PAGE.format(title=html.escape(title), body="\n".join([*parts, *folded])), encoding="utf-8")
    return path


def metrics_part(out: Path, result: Result) -> str:
    """Every number that was logged, as a figure."""
    what = "Every number in metrics.jsonl, by optimizer step."
    return picture(metric_panels(result.history), out / "metrics.png", what) if result.history else ""


def reconstruction_figure(trained: Pretrained, pixels: Any, **masks: Any) -> tuple[Figure, str]:
    """The figure and caption of :func:`minimae.tasks.reconstruct.reconstruct_batch`: original, what the model saw, reconstruction."""
    rows, caption = reconstruct_batch(trained, pixels, **masks)
    return reconstructions(rows, TITLES, pairs=1 if len(rows) < 4 else 2), caption


def examples(test: ImageDataset, size: Size, *, skip_corrupt: bool = False) -> Images:
    """The few test images of a report, in memory; all of them if they were chosen already. A damaged one is an error, or replaced."""
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


def report_pretraining(
    out: Path, trained: Pretrained, train: ImageDataset, test: ImageDataset, result: Result, *, device: str, **given: Any
) -> tuple[Path, str]:
    """Write the page of a pre-training run, with its figures; → its path, and the verdict on the loss.

    The trained model is moved to the CPU. given: the options of :func:`pretraining_parts`.
    """
    trained.model.cpu()
    parts, verdict = pretraining_parts(out, trained, train, test, result, **given)
    return write_page(out, f"Pre-training on {train.name}", parts, trained.recipe, device), verdict
