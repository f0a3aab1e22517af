"""How the project hangs together."""

import ast
import dataclasses
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from reid_core.methods import PAPERS
from reid_core.recipe import STATUSES

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [  # a module imports only from its own layer and from those before it
    "data_prep",
    "reid_core",  # the core: what trains and ranks, one screen of files
    "reid_core.methods",
    "reid_core.runs",
    "reid_core.analysis",
    "reid_core.report",
    "reid_core.calibrate",
]
WINGS = {"reid_core.runs", "reid_core.analysis", "reid_core.report", "reid_core.calibrate"}
CONTRACTS = {"reid_core.methods.base"}  # what the core knows of methods
PAPERS_SHARE = {"reid_core.methods.base", "reid_core.methods.baseline"}
ENTRANCES = {"data_prep.__main__", "reid_core.__main__"}
SOURCES = sorted(path for package in ("data_prep", "reid_core") for path in (ROOT / package).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
TAGS = {"parameters", "hide-input", "hide-output", "remove-cell", "nbval-check-output"}


def module_of(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def layer_of(module):
    """The deepest of LAYERS that holds a module."""
    return max((layer for layer in LAYERS if f"{module}.".startswith(f"{layer}.")), key=len)


def imports(path):
    """(line, module of the project) that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("data_prep", "reid_core")
        ):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield node.lineno, inner if inner in MODULES else node.module
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in ("data_prep", "reid_core"):
                    yield node.lineno, name.name


MODULES = {module_of(path) for path in SOURCES}
PACKAGES = {module_of(path) for path in SOURCES if path.stem == "__init__"}


def nevers(module, imported):
    """Which of the five rules an import breaks, in words, or ""."""
    layer, other = layer_of(module), layer_of(imported)
    if layer == "reid_core" and other in WINGS:
        return "the core imports no wing"
    if layer == "reid_core.methods" and (other in WINGS or imported == "reid_core.train"):
        return "methods import neither train nor a wing"
    if layer == "reid_core.runs" and other in WINGS - {"reid_core.runs"}:
        return "runs never report"
    if imported.startswith("data_prep.world") and layer not in (
        "data_prep",
        "reid_core.analysis",
        "reid_core.calibrate",
    ):
        return "only calibrate and analysis touch the synthetic world"
    papers = {one for one in MODULES if one.startswith("reid_core.methods.")} - PAPERS_SHARE
    if module in papers and imported in papers:
        return "papers never import each other"
    return ""


def broken(module, source):
    """Sentences about the imports of a file that go the wrong way."""
    found = []
    for line, imported in source:
        upwards = LAYERS.index(layer_of(imported)) > LAYERS.index(layer_of(module))
        why = nevers(module, imported) or ("a layer imports from those before it" if upwards else "")
        if why and imported not in CONTRACTS and module not in ENTRANCES:
            found.append(f"{module}, line {line}: imports {imported}, but {why}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_keep_the_seven_layers_and_the_five_nevers(path):
    assert broken(module_of(path), imports(path)) == []


@pytest.mark.parametrize(
    "module, imported, why",
    [
        ("reid_core.train", "reid_core.runs.run", "the core imports no wing"),
        ("reid_core.methods.hpl", "reid_core.report.tables", "neither train nor a wing"),
        ("reid_core.methods.hpl", "reid_core.train", "neither train nor a wing"),
        ("reid_core.methods.hpl", "reid_core.methods.promptsg", "papers never import each other"),
        ("reid_core.runs.measure", "reid_core.analysis.visuals", "runs never report"),
        ("reid_core.data", "data_prep.world.build", "only calibrate and analysis"),
        ("data_prep.manifest", "reid_core.data", "those before it"),
        ("reid_core.analysis.explain", "reid_core.report.tables", "those before it"),
    ],
)
def test_what_breaks_the_layout_is_named_with_its_line(module, imported, why):
    (said,) = broken(module, [(7, imported)])
    assert said.startswith(f"{module}, line 7: imports {imported}, but ") and why in said


def test_no_two_modules_import_each_other():
    """Neither directly nor around a corner: each can be read after what it stands on."""
    below = {module_of(path): {one for _, one in imports(path)} - PACKAGES for path in SOURCES}
    done, under_way = set(), []

    def visit(module):
        assert module not in under_way, " -> ".join([*under_way, module])
        if module in done:
            return
        under_way.append(module)
        for one in sorted(below.get(module, ())):
            visit(one)
        done.add(under_way.pop())

    for module in sorted(below):
        visit(module)


SLOW = {"pytorch_grad_cam", "scipy.stats", "sklearn", "umap"}  # each takes half a second or more to import


def at_the_top(path):
    """Every module that may stand behind the imports of a file outside its functions."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_no_command_waits_for_packages_that_only_some_commands_use():
    files = {module_of(path): path for path in SOURCES}
    seen, waiting = set(), ["reid_core.__main__"]
    while waiting:
        module = waiting.pop()
        if module not in seen and module in files:
            waiting += at_the_top(files[module])
        seen.add(module)
    assert "reid_core.analysis.explain" in seen  # one that uses such a package, in a function
    assert not seen & SLOW


def test_the_core_is_one_screen_of_files():
    files = [path.stem for path in (ROOT / "reid_core").glob("*.py") if not path.stem.startswith("__")]
    folders = [path.name for path in (ROOT / "reid_core").iterdir() if path.is_dir() and path.name[0] != "_"]
    assert len(files) <= 24 and sorted(folders) == sorted(
        ["analysis", "calibrate", "methods", "report", "runs", "weights"]
    )


@pytest.mark.parametrize("name", PAPERS)
def test_every_recipe_field_has_an_origin(name):
    for field in dataclasses.fields(PAPERS[name].recipe):
        assert field.metadata["status"] in STATUSES and field.metadata["where"], field.name


@pytest.mark.parametrize("name", [name for name, paper in PAPERS.items() if not paper.complete])
def test_the_file_of_a_planned_paper_names_every_field(name):
    """Of complete ones `test_methods` sees which fields are read."""
    recipe = PAPERS[name].recipe
    source = (ROOT / (type(recipe).__module__.replace(".", "/") + ".py")).read_text()
    read = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    later = {"fusion_alpha_new"}  # VLADR's fusion comes with its chapter
    unread = {field.name for field in dataclasses.fields(recipe)} - read - later
    assert not unread, unread


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: "/".join(path.parts[-2:]))
def test_notebooks_are_well_formed(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert (
        cells[0].cell_type == "markdown"
        and cells[0].source.startswith("# ")
        and "**Question.**" in cells[0].source
    )
    assert code[0].metadata.tags == ["parameters"]
    annotated = ast.parse(code[0].source).body
    assert [line.target.id for line in annotated[:4]] == ["profile", "data", "seed", "retrain"]
    assert all(isinstance(line, ast.AnnAssign) for line in annotated)
    assert sum("start(globals())" in cell.source for cell in code) == 1
    for cell in code:
        tags = set(cell.metadata.get("tags", []))
        assert tags <= TAGS, tags - TAGS
        assert not cell.outputs or "nbval-check-output" in tags, "only contract cells keep outputs"
        assert cell.outputs or "nbval-check-output" not in tags, "a contract cell keeps its output"
        assert len(cell.source.splitlines()) <= 15 and not re.search(
            r"^(for .* in .*epoch|class )", cell.source, re.M
        )


def test_the_table_of_contents_holds_every_notebook_and_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = {toc["root"]} | {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    pages = {str(p.relative_to(ROOT).with_suffix("")) for p in [*(ROOT / "book").glob("*.md"), *NOTEBOOKS]}
    assert files == pages | {"book/status", "book/parity", "book/decisions"}  # these are generated


def test_conda_takes_what_it_needs_from_pyproject_and_pip_has_tested_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[test]"]
    python = next(entry for entry in environment if str(entry).startswith("python="))
    assert Requirement("python" + project["requires-python"]).specifier.contains(python.split("=")[1])
    lines = (
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pins = {name(line): Requirement(line) for line in lines}
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        wanted = Requirement(line)
        version = next(iter(pins[name(line)].specifier)).version
        assert wanted.specifier.contains(version), f"{line} is tested with {version}"


def name(line):
    return re.split(r"[\s<>=!\[;]", line)[0].lower().replace("_", "-")


def test_no_machine_and_no_index_host_is_named():
    hosts = ["py" + "pi.org", "python" + "hosted", "npm" + "js.org", "deb.debian" + ".org"]
    paths = ["/" + folder + "/" for folder in ("work", "root", "farm")]
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".toml", ".yml", ".txt", ".ipynb", ".cff", ".css", "")
            and path.exists()
        ):
            text = path.read_text(errors="ignore")
            found = [word for word in hosts + paths if word in text]
            assert not found, f"{name} names {found}"
