"""Recipes as text: a few lines before a run, everything on request, and one line each in the list."""

from __future__ import annotations

from dataclasses import fields, replace

from ..model.sizes import Size, parameters
from ..train.schedule import scaled_lr
from ..train.settings import Settings
from .entries import PEAK, SHARE, Entry, Knn


def settings_lines(recipe: Settings | Knn, before: Settings | Knn | None = None) -> list[str]:
    """Every field of a recipe, one per line; those that differ from ``before`` show the old value."""
    lines = []
    for f in fields(recipe):
        value, old = getattr(recipe, f.name), getattr(before, f.name, None)
        note = f"   (recipe: {old!r})" if before is not None and value != old else ""
        lines.append(f"  {f.name:24}{value!r}{note}")
    return lines


def brief(recipe: Settings, before: Entry | None, *, data: str, images: int, size: Size, processes: int, device: str, out: object) -> str:
    """The summary printed before a run: model, data, steps, output folder, and what differs from the recipe ``before``.

    data: the images in a line. out: the folder, or None where nothing is kept.
    """
    window = recipe.batch * recipe.accumulate * processes
    steps, lr = recipe.steps(images, processes), scaled_lr(recipe.base_lr, window)
    lines = [f"{before.name}: {before.what}"] if before else []
    lines.append(f"  images   {data}")
    lines.append(f"  encoder  {parameters(size)[0] / 1e6:.2f} M parameters: width {size.width}, depth {size.depth}, patch {size.patch}")
    epochs = f"{recipe.epochs:g} epoch{'s' * (recipe.epochs != 1)}"
    lines.append(f"  steps    {steps:,} of {window:,} images, {epochs}; peak learning rate {lr:.3g}")
    parts = ("batch", "accumulate") if before and before.recipe.batch * before.recipe.accumulate == window else ()  # type: ignore[union-attr]
    changes = [f for f in fields(recipe) if before and f.name not in parts and getattr(recipe, f.name) != getattr(before.recipe, f.name)]
    if changes:
        lines.append("  changed  " + ", ".join(f"{f.name} {getattr(recipe, f.name)}" for f in changes))
    lines.append(f"  on       {processes} × {device}; " + (f"results in {out}" if out else "nothing is kept without --out"))
    lines += [f"  minimae recipes {before.name} shows the whole recipe"] if before else []
    return "\n".join(lines)


def describe_entry(entry: Entry, before: Entry | None = None, processes: int = 1) -> str:
    """The resolved recipe as text, with source, expected result and cost. before: the entry as it is in the list."""
    lines = [f"{entry.name}: {entry.what}", f"  source                  {entry.source}", f"  the paper               {entry.result}"]
    lines.append(f"  run here                {entry.ran or 'no'}")
    if entry.start:
        lines.append(f"  starts from             {entry.start}")
    lines.append(f"  cost                    {entry.cost} (one H200 at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s)")
    r = entry.recipe
    if isinstance(r, Settings):
        window = r.batch * r.accumulate * processes
        lines.append(f"  images per step         {window:,} = {r.batch:,} × {r.accumulate} accumulated × {processes} process(es)")
        lines.append(f"  peak learning rate      {scaled_lr(r.base_lr, window):.4g}")
        lines.append(f"  optimizer steps         {max(1, round(r.epochs * entry.images / window)):,}")
    return "\n".join([*lines, *settings_lines(r, before.recipe if before else None)])


def tell(before: Entry | None, recipe: Settings, *, images: int, size: Size, processes: int) -> str:
    """A recipe in full as it runs, on this many images, at this size. A run without a name has its fields only."""
    if before is None:
        return "\n".join(settings_lines(recipe))
    return describe_entry(replace(before, recipe=recipe, size=size, images=images), before, processes)
