"""What a run tells while it trains: scalars for TensorBoard and Weights & Biases, the time left, and a word when the loss looks wrong.

metrics.jsonl is not written here: it belongs to the checkpoint, so that both always tell of the same step.
"""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ..errors import MinimaeError
from .loss_bands import Expectation, Watch

Point = dict[str, float]
EVENTS, WANDB_ID = "tensorboard", "wandb-id"
YOUNG = 200  # optimizer steps before which a loss says little
RECENT = 0.3  # weight of the newest point in the smoothed time of a step


def to_terminal(text: str) -> None:
    """A line on standard error, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


class Logs:
    """The logs of one run; the loop calls :meth:`point` for each logged point and :meth:`close` at the end, or uses ``with``.

    out: the run's folder; None keeps nothing. total_steps and window (images per optimizer step, over all processes) give the time left.
    step: where the run goes on; events that an earlier process wrote after it are withdrawn, so no step is there twice. history: the
    points up to there. main: False on every rank but the first; then nothing is written and nothing is said. wandb: a project to send
    to. config: what belongs beside the curves there (the recipe). expected: where the loss should be. say: how to tell a person.

    Raises MinimaeError when Weights & Biases is asked for and is not installed, or does not start.
    """

    def __init__(
        self,
        out: Path | None,
        total_steps: int,
        window: int,
        *,
        step: int = 0,
        history: Iterable[Point] = (),
        main: bool = True,
        wandb: str | None = None,
        config: dict[str, Any] | None = None,
        expected: Expectation | None = None,
        say: Callable[[str], None] = to_terminal,
    ) -> None:
        self.total, self.window, self.main, self.say = total_steps, window, main, say
        self.seconds: float | None = None  # of a step, smoothed
        self.watch = None if expected is None else Watch(expected)
        self.sinks: dict[str, Any] = {}
        for point in history:  # what was told before the run was stopped is not told again
            self.warning(point)
        if not main:
            return
        if out is not None and (writer := event_writer(out, step)) is not None:
            self.sinks["TensorBoard"] = writer
        if wandb is not None:
            self.sinks["Weights & Biases"] = WandbSink(wandb, out, config or {}, step)

    def point(self, point: Point) -> str:
        """Take a point (step, loss, lr, images_per_s, …) → a few words for the progress bar, the time left among them."""
        left = self.left(point)
        if not self.main:
            return ""
        for name in list(self.sinks):
            try:
                self.sinks[name].write(point)
            except Exception as error:  # whatever it is: a log must not end a run of days
                self.say(f"{name} stopped taking points ({error}); the run goes on, and metrics.jsonl is still written")
                del self.sinks[name]
        warning = self.warning(point)
        if warning is not None:
            self.say(f"warning: {warning}")
        return f"loss {point['loss']:.4f}, lr {point['lr']:.2e}, {point['images_per_s']:,.0f} images/s, {duration(left)} left"

    def left(self, point: Point) -> float:
        """Seconds until the last step, from the recent speed."""
        now = self.window / max(point["images_per_s"], 1e-9)
        self.seconds = now if self.seconds is None else (1 - RECENT) * self.seconds + RECENT * now
        return max(0.0, self.total - point["step"]) * self.seconds

    def warning(self, point: Point) -> str | None:
        """What is wrong with this loss, if it has not been told yet."""
        return None if self.watch is None or point["step"] <= YOUNG else self.watch(point["step"] * self.window, point["loss"])

    def close(self) -> None:
        """Flush and close; what does not close is told, once."""
        for name in list(self.sinks):
            try:
                self.sinks.pop(name).close()
            except Exception as error:
                self.say(f"{name} did not close ({error}); its last points may be missing")

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Seconds in two units that a person would use: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def event_writer(out: Path, step: int) -> EventSink | None:
    """Where events for TensorBoard go, if it is installed. Events after ``step`` that are already there are withdrawn."""
    return EventSink(out / EVENTS, step) if importlib.util.find_spec("tensorboard") else None


class EventSink:
    """Scalars in TensorBoard's own files: tensorboard --logdir RUNS shows them."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            self.writer = SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise MinimaeError(f"cannot write {folder} ({error}); choose another --out") from None

    def write(self, point: Point) -> None:
        for name, value in point.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(point["step"]))  # type: ignore[no-untyped-call]
        self.writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.writer.close()  # type: ignore[no-untyped-call]


class WandbSink:
    """Scalars sent to a project at Weights & Biases. A run that goes on keeps its id, which is stored beside the checkpoint."""

    def __init__(self, project: str, out: Path | None, config: dict[str, Any], step: int) -> None:
        try:
            import wandb
        except ImportError:
            raise MinimaeError("--wandb wants the package wandb: pip install wandb, or leave --wandb out") from None
        place = None if out is None else out / WANDB_ID
        old = place.read_text(encoding="utf-8").strip() if place is not None and step and place.is_file() else ""
        name = old or uuid.uuid4().hex
        try:
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(name + "\n", encoding="utf-8")
            how: dict[str, Any] = {"project": project, "id": name, "resume": "allow", "config": config}
            self.run: Any = wandb.init(**how, name=out.name if out else None, dir=str(out) if out else None)
        except Exception as error:
            raise MinimaeError(f"Weights & Biases did not start ({error}); try WANDB_MODE=offline, or leave --wandb out") from None
        self.first = getattr(self.run, "step", 0)  # the service takes rising steps only: what it has from before is not sent again

    def write(self, point: Point) -> None:
        if point["step"] >= self.first:
            self.run.log({name: value for name, value in point.items() if name != "step"}, step=int(point["step"]))

    def close(self) -> None:
        self.run.finish()
