"""No modules of the package import each other in a circle, and no rooms of a package do; imports in functions count."""

import ast
from pathlib import Path

import synapseclr

_ROOT = Path(synapseclr.__file__).parent


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(_ROOT.rglob("*.py")):
        parts = ("synapseclr", *path.relative_to(_ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports(tree: ast.AST) -> set[str]:
    """Names that a module imports, those imported in functions too; those for type checkers are left out."""
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        children = node.orelse if _is_for_type_checkers(node) else ast.iter_child_nodes(node)
        waiting.extend(children)
    return names


def _graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Modules that each module imports; ``from package import name`` is an import of a submodule if there is one."""
    graph = {}
    for module, source in sources.items():
        targets = set()
        for name in _imports(ast.parse(source)):
            target = name if name in sources else name.rpartition(".")[0]
            if target in sources and target != module:
                targets.add(target)
        graph[module] = targets
    return graph


def _circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that reach each other (Tarjan's strongly connected components, those of one module left out)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for target in graph[module]:
            if target not in order:
                visit(target)
            if target in stack:
                lowest[module] = min(lowest[module], lowest[target])
        if lowest[module] == order[module]:
            component = stack[stack.index(module) :]
            del stack[-len(component) :]
            if len(component) > 1:
                found.add(frozenset(component))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def _between_rooms(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Circles among the modules and sub-packages that lie side by side in a package, each taken as a whole."""
    rooms: dict[str, dict[str, set[str]]] = {}
    for module, targets in graph.items():
        for target in targets:
            parts, others = module.split("."), target.split(".")
            n = next((n for n, pair in enumerate(zip(parts, others, strict=False)) if pair[0] != pair[1]), None)
            if n is not None:  # else one is the other's package
                side_by_side = rooms.setdefault(".".join(parts[:n]), {})
                room, other = ".".join(parts[: n + 1]), ".".join(others[: n + 1])
                side_by_side.setdefault(room, set()).add(other)
                side_by_side.setdefault(other, set())
    return set().union(*(_circles(side_by_side) for side_by_side in rooms.values()))


def test_package_has_no_circle() -> None:
    graph = _graph({module: path.read_text() for module, path in _modules().items()})
    assert len(graph) > 50
    circles = _circles(graph) | _between_rooms(graph)
    found = {frozenset(name.removeprefix("synapseclr.") for name in circle) for circle in circles}
    listed = "\n".join(" <-> ".join(sorted(circle)) for circle in sorted(found, key=sorted))
    assert not found, f"circles:\n{listed}"


def test_lazy_circle_is_found_and_type_checking_is_left_out() -> None:
    sources = {
        "a": "import b\n",
        "b": "def use():\n    from c import x\n",
        "c": "from p import a as q\nimport a\n",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import e\n",
        "e": "import d\n",
    }
    assert _circles(_graph(sources)) == {frozenset("abc")}


def test_circle_between_rooms_is_found() -> None:
    sources = {
        "p.a.one": "import p.b.one\n",
        "p.b.one": "",
        "p.b.two": "import p.a.two\n",
        "p.a.two": "import p\n",
        "p": "",
    }
    graph = _graph(sources)
    assert not _circles(graph)
    assert _between_rooms(graph) == {frozenset({"p.a", "p.b"})}
