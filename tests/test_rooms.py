"""The rooms of the package, and which may import which: no circles, nothing imports upwards, no matplotlib below the command line."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import minimae

PACKAGE = Path(minimae.__file__).parent
FLOOR = ("errors", "lazy", "moved", "random", "devices")  # single modules below all rooms
ROOMS = ("model", "data", "train", "tasks", "weights", "recipes", "cli")
CORE = ("patches", "masking", "positions", "vit", "decoder", "targets", "mae")
# Segmentation, detection, prompts, and options of later work (issue 19), counted by themselves.
DENSE = {
    "data.joint", "data.segmentation", "data.instances", "data.coco", "model.windows", "model.units", "tasks.maps", "tasks.segment",
    "tasks.segmenter", "tasks.detect", "tasks.detect_recipe", "tasks.detector", "tasks.pyramid", "tasks.prompt", "data.objects",
    "tasks.clicks", "tasks.prompted", "tasks.promptable", "recipes.dense", "cli.dense", "cli.segmenting", "cli.detecting", "cli.prompting",
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, ours by their full name, also inside functions and for type checkers."""
    tree, package = ast.parse(path.read_text(encoding="utf-8")), list(path.relative_to(PACKAGE.parent).parts[:-1])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])]) if node.level else str(node.module)
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found


def room(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return "floor" if part in FLOOR else part


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_imports_upwards(path: Path) -> None:
    order = ["floor", *ROOMS]
    here = room(name_of(path))
    if here not in order:  # minimae itself, __main__
        return
    ours = {module for module in imports(path) if module.startswith("minimae.")}
    assert {module for module in ours if order.index(room(module)) > order.index(here)} == set()
    if here != "cli":
        assert not {m for m in imports(path) if m.split(".")[0] in ("matplotlib", "minimae_book", "tyro")}


def test_there_are_no_circles() -> None:
    """Not even by an import inside a function or for type checkers. The face of the package names what it loads on first use."""
    known = MODULES.keys() - {"minimae"}
    TopologicalSorter({name: (imports(MODULES[name]) & known) - {name} for name in known}).prepare()


def test_the_model_reads_in_order() -> None:
    """A reader meets each module of the core before another one imports it."""
    order = [f"minimae.model.{name}" for name in CORE]
    for i, name in enumerate(order):
        assert not imports(MODULES[name]) & set(order[i:]), name


SPELLINGS = ["from .mae import MAE", "from . import mae", "from minimae.model import mae", "import torch, minimae.model.mae as m"]


@pytest.mark.parametrize("line", [*SPELLINGS, "def f():\n    from .mae import MAE"])
def test_no_spelling_of_an_import_goes_unseen(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "minimae")
    (path := tmp_path / "minimae" / "model" / "new.py").parent.mkdir(parents=True)
    path.write_text(line)
    assert "minimae.model.mae" in imports(path)
    path.write_text("import torch\nfrom torch import nn\nfrom pathlib import Path")
    assert not [name for name in imports(path) if name.startswith("minimae")]


def test_training_sees_of_the_data_only_its_types() -> None:
    seen = {m for name, path in MODULES.items() if room(name) == "train" for m in imports(path) if m.startswith("minimae.data")}
    assert seen <= {"minimae.data.types"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_is_short_and_so_are_its_functions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 250
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert {f.name: length for f in functions if (length := f.end_lineno - f.lineno + 1) > 60} == {}


def test_the_core_can_be_read_in_an_hour_and_the_package_in_a_day() -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in MODULES.items()}
    assert sum(lines[f"minimae.model.{name}"] for name in CORE) <= 700
    dense = {name for name in lines if name.removeprefix("minimae.") in DENSE}
    assert sum(lines[name] for name in dense) <= 3_095
    assert sum(lines[name] for name in lines.keys() - dense) <= 13_885  # on the way to 9,000: lower it with every change that removes lines
