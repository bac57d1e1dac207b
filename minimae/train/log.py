"""The logs of a run: scalars for TensorBoard and Weights & Biases, the progress bar's text, and a warning when the loss looks wrong.

metrics.jsonl is written with the checkpoint, so that both are always of the same step.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tqdm import tqdm

from ..errors import MinimaeError
from .distributed import world
from .loss_bands import Expectation, Watch

Point = dict[str, float]
EVENTS, WANDB_ID = "tensorboard", "wandb-id"
YOUNG = 200  # optimizer steps before which a loss says little


def to_terminal(text: str) -> None:
    """A line on standard error, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


class Logs:
    """Sends the points of a run to TensorBoard and Weights & Biases, and warns when the loss leaves its expected band.

    out: the run's folder; None writes nothing. window: images per optimizer step, over all processes. state: of the run, with its
    settings and the points up to now; events that an earlier process wrote after its step are removed. wandb: a project to send to.
    say: prints a warning. Only the first process logs.

    Raises MinimaeError when Weights & Biases is expected and is not installed, or does not start.
    """

    def __init__(
        self, out: Path | None, window: int, state: dict[str, Any], *, wandb: str | None = None, expected: Expectation | None = None,
        say: Callable[[str], None] = to_terminal,
    ) -> None:  # fmt: skip
        self.window, self.main, self.say = window, world().main, say
        self.watch = Watch(expected) if expected is not None and self.main else None
        self.sinks: dict[str, Sink] = {}
        for point in state["history"]:  # what was printed before the run was stopped is not printed again
            self.warning(point)
        if self.main and out is not None and importlib.util.find_spec("tensorboard"):
            self.sinks["TensorBoard"] = event_sink(out / EVENTS, state["step"])
        if self.main and wandb is not None:
            self.sinks["Weights & Biases"] = wandb_sink(wandb, out, state)

    def point(self, point: Point) -> str:
        """Log a point (step, loss, lr, images_per_s, …) → a few words for the progress bar."""
        for name in list(self.sinks):
            try:
                self.sinks[name].write(point)
            except Exception as error:  # any error: a log must not end a run of days
                self.say(f"{name} stopped accepting points ({error}); the run continues, and metrics.jsonl is still written")
                del self.sinks[name]
        warning = self.warning(point)
        if warning is not None:
            self.say(f"warning: {warning}")
        return f"loss {point['loss']:.4f}, lr {point['lr']:.2e}, {point['images_per_s']:,.0f} images/s"

    def warning(self, point: Point) -> str | None:
        """What is wrong with this loss, if that was not printed before."""
        return None if self.watch is None or point["step"] <= YOUNG else self.watch(point["step"] * self.window, point["loss"])

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in list(self.sinks):
            try:
                self.sinks.pop(name).close()
            except Exception as failed:
                self.say(f"{name} did not close ({failed}); its last points may be missing")


class Sink(NamedTuple):
    """Where points go."""

    write: Callable[[Point], None]
    close: Callable[[], None]


def event_sink(folder: Path, step: int) -> Sink:
    """TensorBoard's own files: tensorboard --logdir RUNS shows them. Events after ``step`` are removed."""
    from torch.utils.tensorboard import SummaryWriter

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # the writer finds out in a thread of its own, which prints a traceback
        writer: Any = SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise MinimaeError(f"cannot write into {folder} ({error.strerror}): change its permissions, or choose another --out") from None

    def write(point: Point) -> None:
        for name, value in point.items():
            if name != "step":
                writer.add_scalar(name, value, int(point["step"]))
        writer.flush()

    return Sink(write, writer.close)


def wandb_sink(project: str, out: Path | None, state: dict[str, Any]) -> Sink:
    """A project at Weights & Biases. A resumed run keeps its id, which is stored beside the checkpoint."""
    try:
        import wandb
    except ImportError:
        raise MinimaeError("--wandb needs the package wandb: pip install wandb, or leave --wandb out") from None
    name, folder = uuid.uuid4().hex, {}
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            name = (out / WANDB_ID).read_text(encoding="utf-8").strip() if state["step"] and (out / WANDB_ID).is_file() else name
            (out / WANDB_ID).write_text(name + "\n", encoding="utf-8")
            folder = {"name": out.name, "dir": str(out)}
        run: Any = wandb.init(project=project, id=name, resume="allow", config=state["settings"], **folder)
    except Exception as error:
        raise MinimaeError(f"Weights & Biases did not start ({error}); try WANDB_MODE=offline, or leave --wandb out") from None
    first = getattr(run, "step", 0)  # the service accepts rising steps only

    def write(point: Point) -> None:
        if point["step"] >= first:
            run.log({name: value for name, value in point.items() if name != "step"}, step=int(point["step"]))

    return Sink(write, run.finish)
