"""What each command does. A command is a dataclass: its fields are its options, their docstrings the help."""

from __future__ import annotations

from typing import Any

from minimae_book.bench.command import BenchCommand
from minimae_book.bench.threads import BenchThreadsCommand
from minimae_book.evidence.command import ReproduceCommand
from minimae_book.evidence.race import RaceCommand

from .classify import FinetuneCommand, KnnCommand, ProbeCommand, TrainProbeCommand
from .completion import CompletionCommand
from .data import BenchLoaderCommand, PackCommand, RehearsalCommand, VerifyCommand
from .evaluate import EvaluateCommand
from .looking import ConvertCommand, DataCommand, DemoCommand, ExportCommand, FlopsCommand, RecipesCommand, ReconstructCommand
from .pretraining import PretrainCommand

# A name of two words is a command of its own, so that `data pack --help` tells of packing.
COMMANDS: dict[str, type[Any]] = {
    "demo": DemoCommand,
    "recipes": RecipesCommand,
    "pretrain": PretrainCommand,
    "knn": KnnCommand,
    "probe": ProbeCommand,
    "finetune": FinetuneCommand,
    "evaluate": EvaluateCommand,
    "reconstruct": ReconstructCommand,
    "reproduce": ReproduceCommand,
    "race": RaceCommand,
    "export": ExportCommand,
    "convert": ConvertCommand,
    "data": DataCommand,
    "data pack": PackCommand,
    "data verify": VerifyCommand,
    "data rehearsal": RehearsalCommand,
    "flops": FlopsCommand,
    "bench": BenchCommand,
    "bench loader": BenchLoaderCommand,
    "completion": CompletionCommand,
    "bench threads": BenchThreadsCommand,
}

__all__ = ["COMMANDS", "FinetuneCommand", "KnnCommand", "PretrainCommand", "ProbeCommand", "TrainProbeCommand"]
