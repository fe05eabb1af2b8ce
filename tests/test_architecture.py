"""The shape of the package: its rooms, the direction of imports, the length of functions, the docstrings.

`CONTRIBUTING.md` draws what is held here.
"""

import ast
import inspect
import re
import textwrap
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import wdsr_jax

PACKAGE = Path(wdsr_jax.__file__).parent
TESTS = Path(__file__).parent
COMMANDS = ("main", "evaluate", "upscale", "convert", "export", "summary", "reproduce")
# A room imports only rooms of later lines; rooms of one line do not import each other.
LAYERS = (
    COMMANDS,
    ("experiments",),
    ("training", "photo"),
    ("video",),
    ("evaluation",),
    ("weights",),
    ("data",),
    ("inference",),
    ("models",),
    ("image",),
    ("system",),
    ("errors",),
)
LONGEST_FUNCTION, LONGEST_COMMAND = 100, 80


@pytest.fixture(scope="module")
def graph():
    """Who imports whom, imports inside functions and below TYPE_CHECKING included."""
    graph = grimp.build_graph("wdsr_jax", include_external_packages=True, cache_dir=None)
    # The public names are imported on first use, so a room that imports `wdsr_jax` does not import them.
    for name in graph.find_modules_directly_imported_by("wdsr_jax"):
        graph.remove_import(importer="wdsr_jax", imported=name)
    return graph


def functions():
    """(file and name, AST) of every function of the package, methods and nested functions included."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE)}: {node.name}", node


def test_every_module_has_a_layer(graph):
    rooms = {name.split(".")[1] for name in graph.modules if name.startswith("wdsr_jax.")}
    assert rooms <= {room for layer in LAYERS for room in layer}


def test_no_import_goes_upwards(graph):
    layers = [grimp.Layer(*layer, independent=True) for layer in LAYERS]
    found = graph.find_illegal_dependencies_for_layers(layers, containers={"wdsr_jax"})
    assert (
        sorted(
            " > ".join([*sorted(route.heads)[:1], *route.middle, *sorted(route.tails)[:1]])
            for dependency in found
            for route in dependency.routes
        )
        == []
    )


def test_no_circle(graph):
    TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    ).prepare()


def test_nobody_imports_the_training_command(graph):
    assert graph.find_modules_that_directly_import("wdsr_jax.main") == set()


def test_orbax_is_imported_by_checkpoints_alone(graph):
    assert graph.find_modules_that_directly_import("orbax") == {"wdsr_jax.training.checkpoints"}


@pytest.mark.parametrize("outside", ["configs", "tests", "examples", "benchmarks", "torch"])
def test_the_package_does_without(graph, outside):
    if outside in graph.modules:
        assert graph.find_modules_that_directly_import(outside) == set()


def test_networks_import_only_what_lies_below(graph):
    below = ("models", "image", "system", "errors")
    graph_of_models = graph.find_descendants("wdsr_jax.models") | {"wdsr_jax.models"}
    imported = set().union(*(graph.find_modules_directly_imported_by(name) for name in graph_of_models))
    assert {n.split(".")[1] for n in imported if n.startswith("wdsr_jax.")} <= set(below)


def test_no_long_function():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in functions()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_no_module_for_odds_and_ends():
    stems = {path.stem for path in PACKAGE.rglob("*.py")} | {
        path.parent.name for path in PACKAGE.rglob("*.py")
    }
    assert not stems & {"util", "utils", "helpers", "common", "misc"}


def test_every_module_has_the_test_file_of_its_name():
    """wdsr_jax/ROOM/NAME.py has tests/ROOM/test_NAME.py; wdsr_jax/NAME.py, a command, tests/test_NAME.py."""
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    tests = [path.with_name(f"test_{path.name}") for path in modules]
    missing = sorted(str(Path("tests") / path) for path in tests if not (TESTS / path).is_file())
    assert not missing, f"modules without the test file of their name: {', '.join(missing)}"


def test_commands_are_short():
    lines = {name: len((PACKAGE / f"{name}.py").read_text().splitlines()) for name in COMMANDS}
    assert {name: count for name, count in lines.items() if count > LONGEST_COMMAND} == {}


@pytest.mark.parametrize("name", wdsr_jax.__all__)
def test_public_names_are_documented(name):
    value = getattr(wdsr_jax, name)
    text = inspect.getdoc(value) or ""
    source = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value))))
    parameters = inspect.signature(value).parameters
    assert bool(parameters) == bool(re.search(r"^Args:$", text, re.M))
    assert [p for p in parameters if not re.search(rf"^ +{p}: ", text, re.M)] == []
    assert re.search(r"^Returns:$", text, re.M)
    if any(isinstance(node, ast.Raise) for node in ast.walk(source)):
        assert re.search(r"^Raises:$", text, re.M)


def test_errors_of_public_functions_are_documented():
    silent = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.name == "main":
                continue
            raised = [n for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc]
            if raised and not re.search(r"\b[Rr]aises?\b|Error\b", ast.get_docstring(node) or ""):
                silent.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert silent == []
