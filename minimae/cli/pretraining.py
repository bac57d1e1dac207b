"""``minimae pretrain``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minimae_book.page import examples
from tyro.conf import OmitArgPrefixes, Suppress

from ..recipes import brief, describe_run, for_processes, known
from ..tasks.evaluation import check_images
from ..tasks.pretrain import Pretrain, Pretrained, pretrain
from ..train import threads
from ..train.distributed import world
from ..train.folder import locked
from ..weights.start import starter
from .dry_run import dry_run
from .options import DataOptions, RecipeName, check_outside, describe, read_statistics, resumes
from .report import prepare, report_pretraining
from .watching import WatchOptions


@dataclass(frozen=True, kw_only=True)
class PretrainCommand:
    """Pre-train a masked autoencoder from a named recipe: minimae pretrain RECIPE [--option …]"""

    recipe: OmitArgPrefixes[Pretrain]
    where: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    name: RecipeName = ""
    out: Path | None = None  # Folder for checkpoint, metrics, figures and report; by default runs/RECIPE.
    resume: Path | None = None  # Continue the run in this folder, with its own recipe; the number of processes may differ.
    auto_resume: bool = False  # Continue the run in --out if there is one, otherwise start it; for jobs that may be requeued.
    statistics: Path | None = None
    """Normalise by the mean and standard deviation in this file, as minimae data NAME --statistics FILE writes it."""
    dry_run: bool = False
    """Instead: a few steps of pre-training, report, probe and fine-tuning at the model's true size, with the options given, on a few
    images of --data or, without ImageNet, on a small folder made from photographs; prints how long the real run would take."""
    watching: OmitArgPrefixes[WatchOptions] = field(default_factory=WatchOptions)
    words: Suppress[tuple[str, ...]] = ()

    def __call__(self) -> None:
        device = self.where.join()
        if self.dry_run:
            dry_run(self.name, self.recipe, self.where, device=device, out=self.out)
            return
        out = self.resume or self.out or Path("runs") / (self.name or "pretrain")
        resume = resumes(out, resume=self.resume is not None, auto=self.auto_resume, option=f"--resume {out}")
        check_outside(out, self.recipe.data)
        recipe = for_processes(self.recipe, world().size)
        train = self.where.open(recipe.data, "train", image=recipe.image, channels=recipe.channels)
        if self.statistics is not None:
            train = replace(train, fixed_statistics=read_statistics(self.statistics, train.channels))  # type: ignore[type-var]
        size = recipe.size_for(train)
        start = None if recipe.init is None or resume else starter(recipe, train)  # an error here, and not after the folder is made
        threads.in_this_process(size, recipe, device=device)
        before = known(self.name, len(train))
        about: dict[str, Any] = {"images": len(train), "size": size, "processes": world().size}
        print(brief(recipe, before, data=describe(train), device=device, out=out, **about))
        callbacks: list[Any] = []
        if world().main:
            all_test = self.where.test_images(recipe.data, train, image=recipe.image, channels=train.channels)
            unseen, test = all_test is not train, examples(all_test, size, skip_corrupt=self.where.skip_corrupt)
            check_images(train, test, channels=size.channels)
            callbacks = self.watching.callbacks(recipe, size, train, all_test if unseen else None, out, self.where)
        with locked(out):
            if world().main and not resume:
                prepare(out, recipe, device, self.words, text=describe_run(before, recipe, **about))
        given: dict[str, Any] = {"reading": self.where.reading, "start": start, "callbacks": callbacks}
        model, result = pretrain(recipe, train, out, resume=resume, device=device, **given)
        if not world().main:
            return
        prepare(out, recipe, device, self.words, again=True)
        about = {"processes": world().size, "workers": self.where.reading.processes(), "unseen": unseen}
        page, verdict = report_pretraining(out, Pretrained(model, recipe, train.statistics), train, test, result, device=device, **about)
        print(f"loss {result.loss:.4f} after {result.seen:,} images in {result.seconds:.0f} s; open {page}\n{verdict}")
