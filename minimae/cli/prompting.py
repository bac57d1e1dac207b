"""``minimae prompt``: train a promptable segmenter on pictures with instance masks, measure it, and prompt it on your own picture."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from minimae_book.figures.clicks import Prompted, prompted
from tyro.conf import OmitArgPrefixes, Positional, Suppress, UseAppendAction, arg

from ..data.folder import suffixes
from ..data.instances import open_instances
from ..data.objects import Objects, objects_of
from ..data.types import Statistics
from ..model.patches import pair
from ..model.sizes import Size
from ..recipes import for_processes
from ..tasks.prompt import Prompt, encoded, load_promptable, train_prompts
from ..tasks.promptable import NEGATIVE, NOTHING, TOP_LEFT, Promptable, Prompts
from ..tasks.prompted import PromptScores, evaluate_prompts, names_of, predict_masks, prompts_of, rounds
from ..tasks.reconstruct import read_picture
from ..train import threads
from ..train.distributed import world
from ..train.task import Result
from .dense import dispatch, encoder_of, save_figure, save_grey, shown
from .options import WeightsOptions, check_outputs
from .report import metrics_part, picture, prepare, table, write_json, write_page
from .training import RunOptions

SHOWN = 6  # objects in a report


@dataclass(frozen=True, kw_only=True)
class PromptCommand(RunOptions):
    """Predict masks from clicks and boxes: minimae prompt DATA --weights W --out RUN trains a segmenter; minimae prompt PICTURE --weights
    RUN --point x,y uses it."""

    data: Positional[Annotated[str | None, arg(metavar="DATA|PICTURE")]] = None
    """Data to train or evaluate a segmenter on: shapes, a folder with images/ and masks/, or COCO's JSON. Or a picture to prompt."""
    weights: Path = Path("photos-tiny")
    """Weights to start from: shipped weights by name, a run folder, a file of weights, or none; or the folder of a trained promptable
    segmenter."""
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    recipe: OmitArgPrefixes[Prompt] = field(default_factory=Prompt)
    name: Suppress[str] = ""
    scratch: bool = False  # Use only the size of the weights: start from a random encoder; --no-frozen trains it.
    size: str = "nano"  # With --weights none: nano, micro, tiny, small, base, large or huge.
    patch: int | None = None  # With --weights none: height and width of a patch in pixels.
    point: UseAppendAction[tuple[str, ...]] = ()  # For a picture: a point inside the object, x,y in pixels. May be repeated.
    negative: UseAppendAction[tuple[str, ...]] = ()  # A point that does not belong to the object. May be repeated.
    box: str | None = None  # A box around the object: left,top,right,bottom in pixels.
    mask: Path | None = None  # Also write the mask with the highest expected IoU to this PNG file, in black and white.

    def __call__(self) -> None:
        if self.data and Path(self.data).suffix.lower() not in suffixes() and (self.point or self.negative or self.box):
            raise ValueError(f"points and boxes need a picture, and {self.data} is not one")
        dispatch(self, (self.data,) if self.data else (), "prompt", "a promptable segmenter", load_promptable)

    def predict(self, model: Promptable, about: dict[str, Any], device: str) -> None:
        """Find the three masks for the prompts in a picture: print a line for each, and draw a figure."""
        threads.in_this_process(model.encoder.size, device=device, images=1)
        pixels = read_picture(Path(str(self.data)), model.encoder.size.channels)[0]
        points, negative = ([numbers(f"--{name}", text, 2) for text in getattr(self, name)] for name in ("point", "negative"))
        box = None if self.box is None else numbers("--box", self.box, 4)
        prompts = prompts_of(points, negative, box, (pixels.shape[1], pixels.shape[2]))
        masks, quality = predict_masks(model.to(device), pixels, prompts, about["statistics"])
        texts = [f"expected IoU {value:.2f}, {float(mask.float().mean()):.1%} of the picture" for mask, value in zip(masks, quality)]
        row = [Prompted(shown(pixels), mask.numpy(), text, **drawn(prompts)) for mask, text in zip(masks, texts)]
        out = save_figure(prompted([row]), self.out, "prompt.png", [self.data])
        if self.mask is not None:
            check_outputs(self.mask, inputs=[self.data, out])
            save_grey(255 * masks[0], self.mask)
        print(*(f"mask {i}: {text}" for i, text in enumerate(texts, 1)), sep="\n")
        print(f"{out}: three masks predicted by {self.weights}, the one with the highest expected IoU first")

    def measure(self, model: Promptable, about: dict[str, Any], device: str) -> None:
        """Print the scores of a trained segmenter on test pictures."""
        threads.in_this_process(model.encoder.size, device=device)
        test = self.objects("test", model.encoder.size, about["statistics"])
        scores = evaluate_prompts(model.to(device), test, about["statistics"])
        if world().main:
            print(in_words(scores, test))

    def train(self, device: str) -> None:
        """Train, measure, and write the report."""
        recipe = for_processes(self.recipe, world().size)
        encoder, known = encoder_of(self, recipe.image or 64)
        statistics = known or open_instances(str(self.data), "train", limit=self.where.limit).statistics
        if self.scratch or str(self.weights) == "none":
            recipe = replace(recipe, layer_decay=1.0)
        threads.in_this_process(encoder.size, device=device)
        size = replace(encoder.size, image=recipe.image or encoder.size.image)
        train, test = (self.objects(split, size, statistics) for split in ("train", "test"))
        resume = self.begin("", recipe, device, train, encoder.size)
        given: dict[str, Any] = {"resume": resume, "data": str(self.data)}
        model, result = train_prompts(recipe, encoder.to(device), train, statistics, self.out, **given)
        scores = evaluate_prompts(model, test, statistics)
        if world().main:
            self.keep(scores, model, test, statistics, result, recipe, device)

    def objects(self, split: str, size: Size, statistics: Statistics) -> Objects:
        """The objects of one split, at the size of the model; prints once what was left out or held out."""
        images = open_instances(str(self.data), split, image=max(pair(size.image)), channels=size.channels, limit=self.where.limit)
        objects = objects_of(images, pair(size.image), statistics)
        if world().main:
            notes = objects.notes if split == "train" else objects.notes[len(images.notes) :]  # the test part was announced with the other
            print(*notes, sep="\n", end="\n" * bool(notes))
        return objects

    def keep(self, scores: PromptScores, model: Promptable, test: Objects, statistics: Statistics, result: Result, recipe: Prompt,
             device: str) -> None:  # fmt: skip
        """Print the result; with a folder, write result.json, the table of clicks, and the report."""
        text = f"{in_words(scores, test)}, last epoch, {result.seconds:.0f} s of training"
        print(text)
        if self.out is None:
            return
        prepare(self.out, recipe, device, self.words, again=True)
        means = {f"{name} %": value for name, value in scores.means().items()}
        write_json(self.out / "result.json", {**means, "objects": len(test), "steps": result.steps, "seconds": result.seconds})
        cells = [(name, *(f"{scores.means()[name + what]:.1f} %" for what in ("", ", best of three"))) for name in scores.prompts]
        head = ("prompt", "mean IoU of the mask that the model picks", "of the best of the three masks")
        figure, caption = click_table(model, test, statistics)
        parts = [f"<p>{html.escape(text)}.</p>", picture(figure, self.out / "clicks.png", caption), table([head, *cells])]
        page = write_page(self.out, f"Prompts on {test.name}", [*parts, metrics_part(self.out, result)], recipe, device)
        print(f"open {page}")


def click_table(model: Promptable, objects: Objects, statistics: Statistics, *, clicks: int = 3, count: int = SHOWN) -> tuple[Any, str]:
    """Evenly spaced objects after each click of the simulated user, and for a box: a figure and its caption."""
    chosen = torch.arange(min(count, len(objects))) * len(objects) // min(count, len(objects))
    part, rows = objects.subset(chosen), [[] for _ in chosen]  # type: ignore[var-annotated]
    truth, pixels = part.masks(torch.arange(len(part))), part.pixels[part.picture]
    patches = encoded(model, pixels, statistics)
    device = patches.device
    for prompts, out in rounds(model, patches, truth.to(device), clicks):
        for i, mask in enumerate(out.chosen(part.image).cpu()):
            iou = float((mask & truth[i]).sum() / (mask | truth[i]).sum())
            given = drawn(Prompts(prompts.points[i : i + 1].cpu(), prompts.kinds[i : i + 1].cpu()))
            rows[i].append(Prompted(shown(pixels[i]), mask.numpy(), f"IoU {iou:.2f}", truth=truth[i].numpy(), **given))
    legend = "Green crosses are clicks inside, orange ones outside. The predicted mask has a blue edge; the dashed line is the truth."
    return prompted(rows, names_of(clicks)), f"Test objects. {legend}"


def drawn(prompts: Prompts) -> dict[str, Any]:
    """The prompts of one object, in the form that the figures take."""
    kinds, points = prompts.kinds[0].tolist(), prompts.points[0].tolist()
    clicks = [(x, y, kind != NEGATIVE) for (x, y), kind in zip(points, kinds, strict=True) if kind < TOP_LEFT]
    corners = [point for point, kind in zip(points, kinds, strict=True) if TOP_LEFT <= kind < NOTHING]
    return {"clicks": clicks, "box": (*corners[0], *corners[1]) if corners else None}


def in_words(scores: PromptScores, test: Objects) -> str:
    """The scores in one line."""
    return f"mean IoU of {test.counted} of {test.name}: {scores}"


def numbers(option: str, text: str, count: int) -> Any:
    """Numbers separated by commas. Raises ValueError for a wrong count or anything else."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        wanted = "x,y (120,80)" if count == 2 else "left,top,right,bottom (20,10,90,120)"
        raise ValueError(f"{option} takes {wanted} in pixels, not {text!r}")
    return values
