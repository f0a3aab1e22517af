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

from reid_core.methods import METHODS, PLANNED
from reid_core.recipe import STATUSES

ROOT = Path(__file__).resolve().parents[1]
ORDER = [  # a module imports only from what stands above it
    "data_prep.world.streams", "data_prep.world.exact", "data_prep.world.render", "data_prep.world.people", "data_prep.world.vehicles",
    "data_prep.world.places", "data_prep.world.light", "data_prep.world.words", "data_prep.world.cast",
    "data_prep.world.layouts", "data_prep.world.build", "data_prep.world.truth", "data_prep.manifest", "data_prep.splits",
    "data_prep.public.counts", "data_prep.public.descriptions", "data_prep.public.places", "data_prep.public.files",
    "data_prep.public.*", "data_prep.public", "data_prep.convert", "data_prep.describe", "data_prep.doctor", "data_prep.join", "data_prep.__main__", "reid_core.threads", "reid_core.tiles", "reid_core.weights", "reid_core.draws", "reid_core.augment", "reid_core.data",
    "reid_core.clip", "reid_core.loading", "reid_core.prompts", "reid_core.layers", "reid_core.losses", "reid_core.recipe", "reid_core.schedules",
    "reid_core.methods.base", "reid_core.methods.*", "reid_core.methods", "reid_core.checkpoint", "reid_core.train",
    "reid_core.rerank", "reid_core.evaluate", "reid_core.explain", "reid_core.intervals", "reid_core.reported", "reid_core.results", "reid_core.looks", "reid_core.kept",
    "reid_core.chapters", "reid_core.tables", "reid_core.figures", "reid_core.maps", "reid_core.flow",
    "reid_core.pretrain", "reid_core.yardsticks", "reid_core.gates", "reid_core.rates", "reid_core.lengths", "reid_core.fill", "reid_core.bundle", "reid_core.notebook", "reid_core.bench", "reid_core.__main__",
]  # fmt: skip
PACKAGES = {"data_prep", "reid_core", "data_prep.world"}
SOURCES = sorted(path for package in ("data_prep", "reid_core") for path in (ROOT / package).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
TAGS = {"parameters", "hide-input", "remove-cell", "nbval-check-output"}


def module_of(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def place(module):
    if module in ORDER:
        return ORDER.index(module)
    parent = module.rpartition(".")[0] + ".*"
    assert parent in ORDER, f"{module} has no place in ORDER"
    return ORDER.index(parent)


def imports(path):
    """Modules of the project that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("data_prep", "reid_core")
        ):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module
        if isinstance(node, ast.Import):
            yield from (
                name.name for name in node.names if name.name.split(".")[0] in ("data_prep", "reid_core")
            )


MODULES = {module_of(path) for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_one_way(path):
    module = module_of(path)
    if module in PACKAGES:
        return
    for imported in imports(path):
        if imported not in PACKAGES and imported != module:
            assert place(imported) < place(module), (
                f"{module} imports {imported}, which does not stand above it"
            )


def test_papers_do_not_import_each_other():
    papers = {module for module in MODULES if re.fullmatch(r"reid_core\.methods\.(?!base)\w+", module)}
    for path in SOURCES:
        if module_of(path) in papers:
            assert not papers & set(imports(path)), f"{module_of(path)} imports another paper"


RECIPES = list(dict.fromkeys([*(module.RECIPE for module in METHODS.values()), *PLANNED.values()]))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_every_recipe_field_has_an_origin_and_is_read(recipe):
    source = (ROOT / (type(recipe).__module__.replace(".", "/") + ".py")).read_text()
    read = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    read |= {"pretrained"}  # results reads it, for the provenance
    for field in dataclasses.fields(recipe):
        assert field.metadata["status"] in STATUSES and field.metadata["where"], field.name
        planned = field.name == "fusion_alpha_new"  # VLADR's fusion comes with its chapter
        assert field.name in read or field.name == "seed" or planned, f"nothing reads {field.name}"


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
    assert files == pages | {"book/status", "book/parity"}  # these two are generated


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
