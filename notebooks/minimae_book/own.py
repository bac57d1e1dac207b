"""The reader's own parts: later cells use those that are right, and the capstone of chapter 07 builds a whole MAE from them."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import einops
import torch
import torch.nn.functional as F

from minimae.model.mae import MAE
from minimae.model.sizes import Size, resolve
from minimae.model.vit import Encoder

from .verdict import Verdict

T = TypeVar("T")
PARTS = {  # of a MAE and its training that readers write, and the chapter of each
    "patchify": "01", "unpatchify": "01", "mask_from_noise": "02", "take": "02", "Attention": "03", "Block": "03", "sincos_2d": "03",
    "Encoder": "04", "Decoder": "05", "patch_statistics": "06", "MAE": "06",
    "lr_at": "07", "training_step": "07",
}  # fmt: skip
FOLDER = Path("mine")  # in the folder of the notebook: one file for each part, NAME.py, its first line the check
MODULES = [f"minimae.model.{name}" for name in ("patches", "masking", "positions", "vit", "decoder", "targets", "mae")]
MODULES += ["minimae.train.schedule", "minimae.train.optim"]


def use(check: Callable[..., Verdict], own: T, package: T) -> T:
    """The reader's function or class if it passes the check, otherwise the package's; a printed line says which.

    check: from ``minimae_book.check``. own: the reader's code. If it is right, it is also kept in the folder ``mine``, for the capstone.
    """
    name, verdict = package.__name__, check(own)  # type: ignore[attr-defined]
    if verdict.ok:
        print(f"From here on, {name} is yours.")
        with suppress(OSError, TypeError):  # no source: code typed at a prompt
            source = source_of(own)
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{name}.py").write_text(f"# {check.__name__} {own.__name__}\n{source}", encoding="utf-8")  # type: ignore[attr-defined]
        # The package's block passes queries to attention, and its decoder to a block; a reader's part may not take them.
        return with_queries(own) if name in ("Attention", "Block") else own  # type: ignore[type-var, return-value, arg-type]
    state = "not right yet" if verdict.written else "not written yet"
    print(f"From here on, {name} is the package's: yours is {state}.")
    return package


def source_of(own: Any) -> str:
    """The source of a function or class; also of a class in a notebook, where ``inspect.getsource`` finds only functions."""
    if not inspect.isclass(own):
        return inspect.getsource(own)
    method = next((value for value in vars(own).values() if inspect.isfunction(value)), own)
    text = "".join(inspect.findsource(method)[0])
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name == own.__name__]
    return str(ast.get_source_segment(text, found[-1]))


def own_parts(folder: Path = FOLDER) -> dict[str, Any]:
    """The reader's parts that are right, by their names in the package; each is checked again.

    A part may use torch, einops, the names of the package, and the reader's other parts. A line is printed for each part that is left out.
    """
    from . import check

    names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": F, **vars(einops)}
    for module in map(importlib.import_module, MODULES):
        names |= {**vars(module), module.__name__.rpartition(".")[2]: module}
    found = {}
    for file in sorted(folder.glob("*.py")):
        try:
            source = file.read_text(encoding="utf-8")
            test, own = source.splitlines()[0].removeprefix("# ").split()
            exec(compile(source, str(file), "exec"), names)  # the reader's own code, as in the notebook that wrote it
            verdict = getattr(check, test)(names[own])
            if verdict.ok:
                found[file.stem] = names[file.stem] = ADAPTED.get(file.stem, lambda part: part)(names[own])
            else:  # for instance a helper that was defined in another cell
                print(f"{file} is not used: {verdict.text}")
        except Exception as error:  # the reader's code may raise any error
            print(f"{file} is not used: {type(error).__name__}: {error}")
    return found


def whose(parts: dict[str, Any]) -> None:
    """Print whose each part is: the reader's if it is among ``parts``, otherwise the package's."""
    for name, chapter in PARTS.items():
        print(f"{name:16} chapter {chapter}   {'yours' if name in parts else 'the package’s'}")
    print(f"{len(PARTS.keys() & parts.keys())} of {len(PARTS)} parts are yours.")


def with_queries(own: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """Adds the argument ``queries``, with which the package's decoder saves work, to the reader's attention or block."""

    def forward(self: Any, x: torch.Tensor, queries: int | None = None) -> torch.Tensor:
        tokens: torch.Tensor = own.forward(self, x)
        return tokens if queries is None else tokens[:, -queries:]

    return type(own.__name__, (own,), {"forward": forward})


def as_decoder(own: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """Adds the arguments that the package's MAE passes to the reader's decoder, which takes only a size."""

    def start(self: Any, size: Size | str, *, values: int | None = None, mask_token: bool = True) -> None:
        own.__init__(self, resolve(size))
        if not mask_token or values not in (None, self.predict.out_features):
            raise ValueError("your decoder predicts the pixels of masked patches: other targets need the package's decoder")

    def forward(self: Any, latent: torch.Tensor, mask: Any, *, grid: Any = None, every: bool = False) -> torch.Tensor:
        if every or grid not in (None, self.size.grid):
            raise ValueError("your decoder predicts the masked patches of images of one size: for others, use the package's decoder")
        predicted: torch.Tensor = own.forward(self, latent, mask)
        return predicted

    return type(own.__name__, (own,), {"__init__": start, "forward": forward})


def as_encoder(own: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """Adds the arguments that the package's MAE passes to the reader's encoder, which takes only a size."""

    def start(self: Any, size: Size | str, *, drop: float = 0.0, mask_tokens: bool = False) -> None:
        if drop or mask_tokens:
            raise ValueError("your encoder has no drop path and no mask tokens: use the package's encoder")
        own.__init__(self, resolve(size))

    return type(own.__name__, (own,), {"__init__": start, "features": Encoder.features})


def as_mae(own: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """Lets the reader's MAE take what the package's takes: the name of a size, changes of it, and no mask."""

    def start(self: Any, size: Size | str, *, target: str = "normalised", **changes: Any) -> None:
        own.__init__(self, resolve(size, **changes), target)

    def forward(self: Any, images: torch.Tensor, mask: Any = None, **options: Any) -> Any:
        return own.forward(self, images, MAE.draw(self, images, **options) if mask is None else mask)

    return type(own.__name__, (own,), {"__init__": start, "forward": forward, "draw": MAE.draw, "grid": MAE.grid})


ADAPTED: dict[str, Callable[[Any], Any]] = {
    "Attention": with_queries, "Block": with_queries, "Encoder": as_encoder, "Decoder": as_decoder, "MAE": as_mae
}  # fmt: skip


@contextmanager
def assembled(parts: dict[str, Any]) -> Iterator[None]:
    """Inside, the package is built from these parts: ``minimae.MAE`` uses the reader's patchify, Attention, Block …"""
    with ExitStack() as patches:
        for module in [importlib.import_module(name) for name in MODULES]:  # all are imported before the first is changed
            for name in parts.keys() & vars(module).keys():
                patches.enter_context(patch.object(module, name, parts[name]))
        yield
