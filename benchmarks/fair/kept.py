"""The plan of a comparison, `plan.json`: settings, recipes and code of all its runs, which one table must share."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import environment
from benchmarks.fair.plan import Folder, Settings, config_of
from vmr.errors import VmrError
from vmr.files import write_atomically

_ROOT = Path(__file__).parents[2]
_CODE = ("vmr", "eval", "benchmarks/fair")  # vmr/eval is a link, which is not followed
_ENDINGS = (".py", ".cpp", ".h", ".yaml")


def keep_plan(settings: Settings, folder: Folder) -> None:
    """Write the plan, or compare it with that with which the comparison was started.

    Args:
        settings: of the comparison.
        folder: its files.

    Raises:
        VmrError: they differ, the plan is damaged, or it cannot be written.
    """
    plan = {
        **json.loads(json.dumps(asdict(settings))),
        "recipes": {name: recipe_hash(config_of(name)) for name in settings.names},
        "code": code_hash(),
        "commit": environment()["commit"],
    }
    if not folder.plan.exists():
        write_atomically(folder.plan, json.dumps(plan, indent=1).encode())
        return
    before = _read(folder.plan, plan)
    changed = [name for name in asdict(settings) if plan[name] != before[name]]
    if changed:
        was = ", ".join(f"{name} {before[name]}" for name in changed)
        raise VmrError(f"{folder.out}: holds a comparison with {was}: repeat its options, or name another --out")
    recipes = [config_of(name).name for name, found in plan["recipes"].items() if found != before["recipes"].get(name)]
    if recipes:
        was = f"runs by other recipes ({', '.join(recipes)} changed)"
    elif plan["code"] != before["code"]:
        was = "runs by other code of vmr"
    else:
        return
    raise VmrError(f"{folder.out}: holds {was}: go back to commit {before['commit']}, or name another --out")


def recipe_hash(config: Path) -> str:
    """Return the hash of what a training config and the files that it is based on say, without comments.

    Args:
        config: the file.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    file: Path | None = config
    while file is not None:  # not read_config: this is called before every job, on a core where networks train
        content = yaml.safe_load(file.read_text("utf-8"))
        digest.update(json.dumps(content, sort_keys=True).encode())
        file = file.parent / content["base"] if "base" in content else None
    return digest.hexdigest()[:16]


def code_hash() -> str:
    """Return the hash of the code that trains, scores and measures: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for package in _CODE:
        for file in sorted((_ROOT / package).rglob("*")):
            if file.suffix in _ENDINGS:
                digest.update(f"{file.relative_to(_ROOT)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _read(file: Path, plan: dict[str, Any]) -> dict[str, Any]:
    try:
        before = json.loads(file.read_text("utf-8"))
    except ValueError:  # not UTF-8, or not JSON
        before = None
    if not isinstance(before, dict) or before.keys() != plan.keys() or not isinstance(before["recipes"], dict):
        raise VmrError(f"{file} is damaged, or was written by another version of vmr: name another --out")
    return before
