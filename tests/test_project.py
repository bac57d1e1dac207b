"""The project around the package: what it needs, what it ships, how it is built, and the rules its modules keep."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minimae"
MODULES = sorted(PACKAGE.rglob("*.py"))
BOOK = ROOT / "notebooks" / "minimae_book"
CONDA_NAMES = {"pytorch": "torch"}
SAMPLE = {f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")}


def book_files(*, below: Path) -> set[str]:
    """The modules and the recorded results of the book's package, by their names below a folder."""
    files = [*BOOK.rglob("*.py"), *BOOK.rglob("recorded/*/*.json")]
    return {path.relative_to(below).as_posix() for path in files}


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a command prints. Fails the test, with all that it printed, when the command fails."""
    result = subprocess.run(arguments, cwd=cwd, env={**os.environ, **environment}, text=True, capture_output=True)
    assert result.returncode == 0, f"{' '.join(arguments)}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_test_modules_have_unique_names() -> None:
    """pytest refuses to collect two test modules of one name in folders that are no packages."""
    names = [path.name for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert sorted(names) == sorted(set(names))


# What it needs


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bounds(requirements: list[str]) -> dict[str, str]:
    """Requirements by name: ``["torch>=2.11"]`` → ``{"torch": ">=2.11"}``. Conda's names become PyPI's."""
    parsed = [Requirement(text) for text in requirements]
    return {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in parsed}


def test_conda_users_get_the_same_packages(project: dict) -> None:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = bounds(entries)
    extras = project["optional-dependencies"]
    names = ("book", "dense", "finetune", "logs", "hub", "onnx", "test")
    wanted = bounds([*project["dependencies"], *(line for name in names for line in extras[name])])
    assert wanted.pop("minimae") == "", "the test extra includes the book extra"
    assert conda == {**wanted, "python": project["requires-python"], "pip": ""}


def test_bounds_tell_versions_apart() -> None:
    assert bounds(["pytorch>=2.11"]) == bounds(["torch >= 2.11"]) == {"torch": ">=2.11"}
    assert bounds(["torch>=2.11"]) != bounds(["torch>=2.12"])


def test_every_dependency_has_a_lower_bound_and_no_other(project: dict) -> None:
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for name, specifier in bounds([text for group in groups for text in group]).items():
        assert re.fullmatch(r">=[\d.]+", specifier) or name == "minimae", f"{name}{specifier}"


def test_the_site_can_be_built_without_the_test_extra(project: dict) -> None:
    """``make docs`` on a fresh machine: the reference imports every module, and all that a module imports at its top is installed."""
    extras, known = project["optional-dependencies"], {"PIL": "pillow", "sklearn": "scikit-learn"}
    taken = {extra for text in extras["docs"] for extra in Requirement(text).extras}
    installed = bounds([*project["dependencies"], *(line for extra in ("docs", *taken) for line in extras[extra])])
    for module in MODULES:
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            for library in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"minimae_book"}:
                assert known.get(library, library) in installed, f"{name_of(module)} imports {library}: add it to the docs extra"


def test_the_version_is_semantic(project: dict) -> None:
    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", project["version"])
    assert Version(project["version"]).release


def test_the_readme_is_the_project_page(project: dict) -> None:
    assert (ROOT / "README.md").is_file()
    assert project.get("readme") == "README.md", 'add readme = "README.md" to pyproject.toml'


# What a module is


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))), f"{name_of(module)} needs a docstring"


# What nobody else should find in it

PRIVATE = {
    "a path of one machine": r"(?<![\w.~:/-])/(?:roo[t]|wor[k]|User[s]/\w+|hom[e]/\w+|tm[p]/(?:ipykernel|venv|pytest)\w*)/",
    "a path of one Windows machine": r"\b[A-Z]:\\+User[s]\\+\w+",
    "a package index of one's own": r"(?:index-ur[l]|find-link[s]|trusted-hos[t])[\s=:\"',]+(?!https://download\.pytorch\.org)\S*(?:://|\.)",
    "a host of one network": r"https?://[^\s/\"']*\.(?:interna[l]|loca[l]|corp|lan|intranet)\b",
    "an address of one network": r"https?://(?:[^\s/@]*@)?(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+",
    "a name and password": r"https?://[^\s/:@]+:[^\s/@]+@",
}


def private(text: str) -> list[str]:
    """What a text tells about the machine on which it was written."""
    found = [(what, re.search(pattern, text)) for what, pattern in PRIVATE.items()]
    return [f"{what}: {match.group()!r}" for what, match in found if match]


def test_nothing_tells_where_it_was_written() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    # Files not yet added are read too: an offence should be found before it is committed.
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    files = [ROOT / name for name in listed.split("\0") if name]
    assert Path(__file__).resolve() in files
    offences = {}
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        if b"\0" not in content[:8192] and (found := private(content.decode("utf-8", "replace"))):
            offences[str(file.relative_to(ROOT))] = found
    assert not offences


@pytest.mark.parametrize(
    "text",
    [
        "open('/wor" + "k/main/data')",
        'File "/roo' + 't/.cache/x.py"',
        "cd /hom" + "e/ada/minimae",
        "/User" + "s/ada/minimae",
        "C:\\User" + "s\\ada\\minimae",
        "/tm" + "p/ipykernel_17/2.py:3: UserWarning",
        "pip install --index-ur" + "l https://pypi.example.org/simple",
        "PIP_TRUSTED: trusted-hos" + "t = pypi.example.org",
        "http://mirror.interna" + "l/simple",
        "https://10" + ".0.0.7:8080/simple",
        "https://ada:secret" + "@example.org",
    ],
)
def test_a_private_text_is_noticed(text: str) -> None:
    assert len(private(text)) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/work/paper.html",
        "pip install torch --index-url https://download.pytorch.org/whl/cpu",
        "frame/work/ and data/downloads/, ~/work/minimae",
        "/usr/share/datasets/fashion-mnist",
        "torchrun --rdzv-endpoint 127.0.0.1:29500",
    ],
)
def test_a_public_text_passes(text: str) -> None:
    assert not private(text)


# What the tools say


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check")


@pytest.mark.slow
def test_mypy_finds_nothing() -> None:
    run(sys.executable, "-m", "mypy")


@pytest.mark.parametrize(("tool", "text"), [("ruff", "import os\n"), ("mypy", "def f(x):\n    return x\n")], ids=["ruff", "mypy"])
def test_the_tools_are_awake(tool: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    command = {"ruff": ["check", "--config"], "mypy": ["--config-file"]}[tool]
    with pytest.raises(AssertionError, match=r"F401|no-untyped-def"):
        run(sys.executable, "-m", tool, *command, str(ROOT / "pyproject.toml"), "bad.py", cwd=tmp_path)


# What is shipped


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built from this tree without the network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder))
    return folder


def test_the_source_distribution_holds_the_sample(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"data/fashion/{name}" for name in SAMPLE | {"LICENSE"}} | {"LICENSE", "environment.yml", "Makefile"} <= names
    assert {name_of(module).replace(os.sep, "/") for module in MODULES} | book_files(below=ROOT) <= names


def test_the_wheel_stands_alone(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(archive) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(site)
    assert {f"minimae/_sample/fashion/{name}" for name in SAMPLE | {"LICENSE"}} <= names
    assert {f"minimae/_sample/photos/{name}" for name in ("chelsea.jpg", "china.jpg", "coffee.jpg", "flower.jpg", "LICENSE.md")} <= names
    assert {name_of(module).replace(os.sep, "/") for module in MODULES} | book_files(below=BOOK.parent) <= names
    assert not [name for name in names if name.startswith(("tests/", "data/", "notebooks/"))], "only the two packages are installed"
    code = "import minimae.data as d, minimae_book as b; print(d.__file__, b.__file__, len(d.load('fashion')), sep='\\n')"
    code += "; from minimae_book.evidence import CLAIMS, recorded"
    code += "; print([recorded(name).verdict for name in CLAIMS if not CLAIMS[name].budgets])"
    *where, count, verdicts = run(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(site)).splitlines()
    assert all(Path(path).is_relative_to(site) for path in where), "the wheel was tried, not the tree"
    assert count == "10000" and verdicts.count("'") >= 2 * 13
