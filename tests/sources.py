"""The modules that are shipped, what they import, and the calls in them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.paths import REPOSITORY

MAPPED = {"vmr.retrieval": "retrieval", "vmr.eval": "eval", "vmr.configs": "configs"}


def sources() -> dict[str, Path]:
    """Module name -> file, for every module that is shipped."""
    found = {}
    for top, package in {"vmr": "vmr", **{folder: name for name, folder in MAPPED.items()}}.items():
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / top).with_suffix("").parts
            if top == "vmr" and parts[0] in MAPPED.values():
                continue  # the link to a folder that is walked in its own right
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


SOURCES = sources()


def imports_of(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The modules that a file imports; for an imported class or function, the module that defines it."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else str(node.module)


def calls(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Every call below a node, with the name of the innermost function that it stands in ("" for none)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield function, node
        yield from calls(node, node.name if isinstance(node, ast.FunctionDef) else function)


def name_of(call: ast.Call) -> str:
    """What is called, as "name" or "object.name"; the object is "" if it is not a plain name."""
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value
        return f"{owner.id if isinstance(owner, ast.Name) else ''}.{call.func.attr}"
    return call.func.id if isinstance(call.func, ast.Name) else ""
