"""Independent pieces of work, each done once, however many claims need it.

A job is named by a hash of everything that decides its result. So claims share their pre-trainings, an interrupted command continues
where it stopped, and a second process (``minimae reproduce`` again, in another terminal) takes the jobs that the first one has not
started. A process holds a lock on its job, which is released when the process ends.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from minimae.cli.report import environment, write_json
from minimae.data.images import Images
from minimae.errors import MinimaeError
from minimae.model.mae import MAE
from minimae.tasks.pretrain import Pretrain, build, pretrain
from minimae.train.folder import can_resume
from minimae.weights import load_pretrained

from .evaluations import Question

PROTOCOL = 2  # increase it when new code changes results, so that old ones are not reused
PASTIME = ("log_every", "save_every", "keep", "keep_every", "wandb", "threads")  # settings that do not affect the weights
Load = Callable[..., Images]  # name, split, image=, channels=, limit= → images
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The encoder to be evaluated: pre-trained by a recipe, or the same network with its initial weights."""

    recipe: Pretrain
    trained: bool = True
    channels: int | None = None
    limit: int | None = None

    def essence(self) -> Start:
        """The same, without settings that make no difference: for an untrained network, only shape and seed matter."""
        usual, r = Pretrain(), self.recipe
        if self.trained:
            return replace(self, recipe=replace(r, **{name: getattr(usual, name) for name in PASTIME}))
        shape = ("data", "size", "image", "patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "seed")
        return replace(self, recipe=replace(usual, warmup_epochs=0.0, **{name: getattr(r, name) for name in shape}))

    @property
    def key(self) -> str:
        return hash_bits(self.essence())


@dataclass(frozen=True)
class Job:
    """One evaluation of one encoder."""

    start: Start
    question: Question

    @property
    def key(self) -> str:
        return hash_bits(self.start.essence(), self.question)


def hash_bits(*values: Any) -> str:
    """A name for these values, the same in every process and on every machine."""
    text = json.dumps([PROTOCOL, [[type(value).__name__, asdict(value)] for value in values]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """Where jobs keep their results: ``models/KEY/`` for pre-trainings, ``answers/KEY.json`` for answers, ``locks/``.

    load: how images are opened. device: where the work is done. say: prints progress.
    """

    folder: Path
    load: Load
    device: str = "cpu"
    say: Say = print

    def model(self, start: Start) -> Path:
        """The folder of a pre-training; it is done when ``done.json`` is in it."""
        return self.folder / "models" / start.key

    def trained(self, start: Start) -> bool:
        return not start.trained or (self.model(start) / "done.json").is_file()

    def answer(self, job: Job) -> dict[str, Any] | None:
        """The result: value, a 1 or 0 for each test image of an accuracy, seconds, environment; None if the job is not done."""
        path = self.folder / "answers" / f"{job.key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def lock(self, key: str) -> FileLock:
        """The lock that a process holds while it works on this job. Raises filelock.Timeout at once when another process holds it."""
        place = self.folder / "locks"
        place.mkdir(parents=True, exist_ok=True)
        return FileLock(place / f"{key}.lock", timeout=0)

    def images(self, start: Start) -> Callable[[str, str], Images]:
        """How the evaluations open images: at the size and in the channels of this encoder. Raises MinimaeError when there are none."""

        def opened(name: str, split: str) -> Images:
            try:
                return self.load(name, split, image=start.recipe.image, channels=start.channels, limit=start.limit)
            except OSError as error:
                raise MinimaeError(str(error)) from None

        return opened

    def train(self, start: Start) -> None:
        """Start or continue pre-training, and save weights and metrics."""
        out, images = self.model(start), self.images(start)(start.recipe.data, "train")
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "recipe.json", asdict(start))
        _, result = pretrain(start.recipe, images, out, resume=can_resume(out), device=self.device, quiet=True)
        summary = {"loss": result.loss, "seconds": result.seconds, "images seen": result.seen, "environment": environment(self.device)}
        write_json(out / "done.json", summary)

    def ask(self, job: Job) -> None:
        """Run the evaluation and save its result."""
        images = self.images(job.start)
        started = time.perf_counter()
        found = job.question.answer(self.encoder(job.start).to(self.device), images)
        right = found.tolist() if isinstance(found, Tensor) else []  # for each test image
        value = 100 * sum(right) / len(right) if right else found
        seconds = time.perf_counter() - started
        path = self.folder / "answers" / f"{job.key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        result = {"value": value, "right": "".join("01"[one] for one in right), "seconds": seconds, "environment": environment(self.device)}
        write_json(path, {**result, "start": asdict(job.start), "question": [type(job.question).__name__, asdict(job.question)]})

    def encoder(self, start: Start) -> MAE:
        """The model to evaluate."""
        if start.trained:
            return load_pretrained(self.model(start)).model
        return build(start.recipe, self.images(start)(start.recipe.data, "train"))


def run(jobs: Sequence[Job], store: Store, *, pause: float = 1.0) -> None:
    """Do all jobs that are not done yet, together with other processes on the same folder. Returns when all are done.

    Raises the errors of the jobs, and MinimaeError when the folder cannot be written.
    """
    while left := [job for job in jobs if store.answer(job) is None]:
        if not any([advance(job, store, f"{len(left) - i} of {len(jobs)} left") for i, job in enumerate(left)]):
            time.sleep(pause)  # other processes are working on all remaining jobs


def advance(job: Job, store: Store, progress: str) -> bool:
    """Finish a job → whether this process did anything: False if another process works on it or has finished it."""
    worked = False
    try:
        if not store.trained(job.start):
            with store.lock(job.start.key):
                if not store.trained(job.start):
                    store.say(f"[{progress}] pre-training {described(job.start)}")
                    store.train(job.start)
                    worked = True
        with store.lock(job.key):
            if store.answer(job) is None:
                store.ask(job)
                worked = True
    except Timeout:
        return worked
    except OSError as error:
        raise MinimaeError(f"cannot work in {store.folder} ({error}); give another folder with --out") from None
    return worked


def described(start: Start) -> str:
    """A pre-training in a few words: how it differs from the plain recipe of its size."""
    r = start.recipe
    names = ("ratio", "sampling", "target", "loss_on", "decoder_depth", "decoder_width", "mask_tokens_in_encoder", "fixed_crop", "jitter")
    odd = [f"{name} {getattr(r, name)}" for name in names if getattr(r, name) != getattr(Pretrain, name)]
    return ", ".join([f"on {r.data} for {r.epochs:g} epochs, seed {r.seed}", *odd])
