"""Recipes as text: a summary before a run, every field on request, and one line each in the list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

from ..model.sizes import Size, parameters
from ..train.schedule import scaled_lr
from ..train.settings import Settings
from .entries import PEAK, SHARE, Entry, Knn

GPU = f"one H200 at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s"


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

    data: the images in one line. out: the folder, or None if nothing is saved.
    """
    window = recipe.batch * recipe.accumulate * processes
    steps, lr = recipe.steps(images, processes), scaled_lr(recipe.base_lr, window)
    lines = [
        f"  images   {data}",
        f"  encoder  {parameters(size)[0] / 1e6:.2f} M parameters: width {size.width}, depth {size.depth}, patch {size.patch}",
        f"  steps    {steps:,} of {window:,} images, {recipe.epochs:g} epoch{'s' * (recipe.epochs != 1)}; peak learning rate {lr:.3g}",
        f"  on       {processes} × {device}; " + (f"results in {out}" if out else "nothing is saved without --out"),
    ]
    if before is None:
        return "\n".join(lines)
    same = ("batch", "accumulate") if before.recipe.batch * before.recipe.accumulate == window else ()  # type: ignore[union-attr]
    names = [f.name for f in fields(recipe) if f.name not in same]
    changes = [f"{name} {getattr(recipe, name)}" for name in names if getattr(recipe, name) != getattr(before.recipe, name)]
    lines[3:3] = [f"  changed  {', '.join(changes)}"] if changes else []
    return "\n".join([f"{before.name}: {before.what}", *lines, f"  minimae recipes {before.name} shows the whole recipe"])


def describe_entry(entry: Entry, before: Entry | None = None, processes: int = 1) -> str:
    """The resolved recipe as text, with source, expected result and cost. before: the entry as it is in the list."""
    r = entry.recipe
    facts = {"source": entry.source, "the paper": entry.result, "run here": entry.ran or "no", "starts from": entry.start}
    facts["cost"] = f"{entry.cost} ({GPU})"
    if isinstance(r, Settings):
        window = r.batch * r.accumulate * processes
        facts["images per step"] = f"{window:,} = {r.batch:,} × {r.accumulate} accumulated × {processes} process{'es' * (processes != 1)}"
        facts["peak learning rate"] = f"{scaled_lr(r.base_lr, window):.4g}"
        facts["optimizer steps"] = f"{max(1, round(r.epochs * entry.images / window)):,}"
    lines = [f"  {name:24}{fact}" for name, fact in facts.items() if fact]
    return "\n".join([f"{entry.name}: {entry.what}", *lines, *settings_lines(r, before.recipe if before else None)])


def describe_run(before: Entry | None, recipe: Settings, *, images: int, size: Size, processes: int) -> str:
    """A recipe in full as it runs, on this many images, at this size. A recipe without a name shows only its fields."""
    if before is None:
        return "\n".join(settings_lines(recipe))
    return describe_entry(replace(before, recipe=recipe, size=size, images=images), before, processes)


def list_entries(entries: Iterable[Entry]) -> str:
    """Recipes, one per line: what they do, what the paper reports, what they cost, whether they were run here."""
    lines = [f"{'recipe':28}{'source':31}{'PFLOP':>12}{'GPU h':>9}  result"]
    for e in entries:
        result = e.ran or (e.result if e.result.startswith("none") else f"the paper: {e.result}; not run here")
        lines.append(f"{e.name:28}{e.source:31}{e.cost.total / 1e15:12,.4g}{e.cost.gpu_hours:9.3g}  {e.what}; {result}")
    note = f"PFLOP: 10^15 operations, matmuls only. GPU h: {GPU}, a share that small networks do not reach."
    return "\n".join([*lines, note])
