"""Install the wheel in an empty environment of each Python that is named, and use it; then the source distribution in its place.

The first installation is done by the install cell of chapter 00, as on Colab, and the chapter is run.

``python tests/installs/check_install.py python3.10 python3.14`` builds both files with hatchling, and needs a package index for the rest.
Prints one line for each installation, and removes the environment (up to 7 GB, with the CUDA libraries of PyTorch).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "pretrain fashion-demo --limit 40 --batch 20 --epochs 1 --warmup-epochs 0 --device cpu --out run"
COMMANDS = ["--version", "recipes fashion-demo", TRAIN, "knn --weights run --limit 200", "reconstruct", "convert run run.pth --to official"]
BOOK = """
from pathlib import Path
import minimae, minimae_book
from minimae_book.evidence import CLAIMS

minimae.load("photos-tiny"), minimae_book.check
print(len(CLAIMS), Path(minimae.__file__).parents[1])
"""

OPEN = """
import os, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
if sys.argv[3:]:
    notebook.cells = notebook.cells[: int(sys.argv[3])]
install = next(cell for cell in notebook.cells if "install" in cell.metadata.get("tags", []))
address = install.source.partition(" @ ")[2].partition("'")[0]
assert address.startswith("git+https://"), address
install.source = install.source.replace(address, sys.argv[2])
notebook.cells.append(nbformat.v4.new_code_cell("import minimae; print(minimae.__file__)"))
os.environ["MINIMAE_STATIC"] = "1"
NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints. Ends this script with its output when it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=clean, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def open_chapter(python: Path, wheel: Path, used: Path, *cells: str) -> str:
    """Run chapter 00 as Colab opens it, in a folder with nothing in it: its install cell installs the wheel. → where minimae then is.

    python: of an environment with ipykernel and nbclient. cells: how many cells; without it, all.
    """
    chapter = next((ROOT / "notebooks").glob("00_*.ipynb"))
    return run(python, "-c", OPEN, chapter, wheel.as_uri(), *cells, cwd=used)


def check(archive: Path, bin: Path, used: Path, *options: str) -> str:
    """Install one file into an environment and use it → the versions."""
    started = time.perf_counter()
    run(bin / "python", "-m", "pip", "install", "--quiet", *options, archive, cwd=used)
    for words in COMMANDS:
        run(bin / "minimae", *words.split(), cwd=used)
    assert (used / "reconstruction.png").stat().st_size > 10_000 and (used / "run" / "report.html").is_file()
    assert run(bin / "python", "-c", BOOK, cwd=used).endswith("site-packages"), "what was installed is used, not this folder"
    versions = run(bin / "python", "-c", "import sys, torch; print(sys.version.split()[0] + ', torch', torch.__version__)", cwd=used)
    return f"{archive.name}: Python {versions}, {len(COMMANDS)} commands, {time.perf_counter() - started:.0f} s"


def main() -> None:
    with tempfile.TemporaryDirectory() as dist:
        run(sys.executable, "-m", "hatchling", "build", "-d", dist, cwd=ROOT)
        (wheel,), (source,) = Path(dist).glob("*.whl"), Path(dist).glob("*.tar.gz")
        for python in sys.argv[1:] or [sys.executable]:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                run(python, "-m", "venv", folder / "venv", cwd=folder)
                bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
                (empty := folder / "empty").mkdir()
                run(bin / "python", "-m", "pip", "install", "--quiet", "ipykernel", "nbclient", cwd=empty)
                started = time.perf_counter()
                print(f"chapter 00, opened without this folder: {open_chapter(bin / 'python', wheel, empty)}", end=", ")
                print(f"{time.perf_counter() - started:.0f} s", flush=True)
                for archive, options in ((wheel, ()), (source, ("--force-reinstall", "--no-deps"))):
                    (used := folder / archive.suffix[1:]).mkdir()
                    print(check(archive, bin, used, *options), flush=True)


if __name__ == "__main__":
    main()
