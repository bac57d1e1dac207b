"""``minimae pretrain``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, Suppress

from .. import threads
from ..options import RecipeName, Where, begin, describe
from ..recipes import for_processes, tell
from ..rehearse import rehearse
from ..report import examples, prepare, report_pretraining
from ..sizes import parameters
from ..tasks.agreement import check_images
from ..tasks.pretrain import Pretrain, Pretrained, pretrain
from ..tasks.start import load_start
from ..training.distributed import world
from ..training.state import locked


@dataclass(frozen=True, kw_only=True)
class PretrainCommand:
    """Pre-train a masked autoencoder from a named recipe: minimae pretrain RECIPE [--option …]"""

    recipe: OmitArgPrefixes[Pretrain]
    where: OmitArgPrefixes[Where] = field(default_factory=Where)
    name: RecipeName = ""
    out: Path | None = None
    """Folder for checkpoint, metrics, figures and report; by default runs/RECIPE."""
    resume: Path | None = None
    """Continue the run in this folder, with its own recipe; the number of processes may be another."""
    auto_resume: bool = False
    """Continue the run in --out if there is one, otherwise start it: for jobs that are put back into a queue."""
    rehearse: bool = False
    """Instead: a few steps of pre-training, report, probe and fine-tuning at the model's true size, with the options given, on a few
    images of --data or, where ImageNet is not at hand, on a small folder made from photographs; says what the real run would take."""
    words: Suppress[tuple[str, ...]] = ()

    def __call__(self) -> None:
        device = self.where.join()
        if self.rehearse:
            rehearse(self.name, self.recipe, self.where, device=device, out=self.out)
            return
        out = self.resume or self.out or Path("runs") / (self.name or "pretrain")
        resume = begin(out, resume=self.resume is not None, auto=self.auto_resume, option=f"--resume {out}")
        recipe = for_processes(self.recipe, world().size)
        train = self.where.open(recipe.data, "train", image=recipe.image, channels=recipe.channels)
        size = recipe.size_for(train)
        if recipe.init is not None and not resume:
            load_start(recipe, size)  # an error here, and not after the folder is made
        threads.in_this_process(size, recipe, device=device)
        print(tell(self.name, recipe, images=len(train), size=size, processes=world().size))
        print(f"{describe(train)}\n{parameters(size)[0] / 1e6:.2f} M parameters in the encoder; on {world().size} × {device}; to {out}")
        recipe.steps(len(train), world().size)  # an error here, and not after the folder is made
        if world().main:
            test = self.where.test_images(recipe.data, train, image=recipe.image, channels=train.channels)
            test = examples(test, size, skip_corrupt=self.where.skip_corrupt)
            check_images(train, test, channels=size.channels)
        with locked(out):
            if world().main and not resume:
                prepare(out, recipe, device, self.words)
        model, result = pretrain(recipe, train, out, resume=resume, device=device, reading=self.where.reading)
        if not world().main:
            return
        prepare(out, recipe, device, self.words, again=True)
        how: dict[str, Any] = {"device": device, "processes": world().size, "workers": self.where.reading.processes()}
        page = report_pretraining(out, Pretrained(model, recipe, train.statistics), train, test, result, **how)
        print(f"loss {result.loss:.4f} after {result.seen:,} images in {result.seconds:.0f} s; open {page}")
