"""The table of commands. Their modules are imported on use, so that a command loads only what it needs."""

from __future__ import annotations

import pkgutil
from typing import Any

COMMANDS = {  # a name of two words is a command of its own, with its own --help
    "demo": "minimae_book.demo:DemoCommand",
    "recipes": "minimae.cli.show:RecipesCommand",
    "pretrain": "minimae.cli.pretraining:PretrainCommand",
    "knn": "minimae.cli.classify:KnnCommand",
    "probe": "minimae.cli.classify:ProbeCommand",
    "finetune": "minimae.cli.training:FinetuneCommand",
    "evaluate": "minimae.cli.classify:EvaluateCommand",
    "segment": "minimae.cli.segmenting:SegmentCommand",
    "detect": "minimae.cli.detecting:DetectCommand",
    "prompt": "minimae.cli.prompting:PromptCommand",
    "reconstruct": "minimae.cli.show:ReconstructCommand",
    "reproduce": "minimae_book.evidence.command:ReproduceCommand",
    "race": "minimae_book.evidence.race:RaceCommand",
    "export": "minimae.cli.convert:ExportCommand",
    "convert": "minimae.cli.convert:ConvertCommand",
    "data": "minimae.cli.data:DataCommand",
    "data pack": "minimae.cli.data:PackCommand",
    "data verify": "minimae.cli.data:VerifyCommand",
    "data sample": "minimae.cli.data:SampleCommand",
    "flops": "minimae.cli.show:FlopsCommand",
    "bench": "minimae_book.bench.command:BenchCommand",
    "bench loader": "minimae_book.bench.loader:BenchLoaderCommand",
    "bench threads": "minimae_book.bench.threads:BenchThreadsCommand",
    "completion": "minimae.cli.completion:CompletionCommand",
}
TRAIN_PROBE = "minimae.cli.training:TrainProbeCommand"  # minimae probe, when a recipe is named
DATA_FIRST = ("segment", "detect", "prompt")  # their first word is the data, and a recipe comes as --recipe NAME
RECIPE_KINDS = {name: (name,) for name in ("pretrain", "probe", "knn", *DATA_FIRST)} | {"finetune": ("finetune", "partial", "scratch")}
RENAMED = {"data rehearsal": "data sample", "--rehearse": "--dry-run"}  # old names, until version 0.8


def command_for(entry: Any) -> str:
    """The command that runs a recipe."""
    return next(name for name, kinds in RECIPE_KINDS.items() if entry.kind in kinds)


def command_class(name: str) -> Any:
    """The class of a command: a dataclass; its fields are the options, their docstrings the help. Call an instance to run it."""
    return pkgutil.resolve_name(COMMANDS[name])
