"""Hands over to the package `vmr`, if Python is started in the folder above a clone named `vmr`.

There the name `vmr` means this folder. Without this file, `import vmr` would succeed and give an empty module. An
installed package is taken before the one in the clone, which may lack the compiled kernels.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

CLONE = Path(__file__).resolve().parent


def find_package() -> ModuleSpec | None:
    """Find the package as if the folder above the clone were not searched."""
    elsewhere = [place for place in sys.path if Path(place).resolve() != CLONE.parent]
    for finder in sys.meta_path:
        found = finder.find_spec("vmr", elsewhere if finder is PathFinder else None)
        if found is not None and found.has_location and found.origin != __file__:
            return found
    inner = CLONE / "vmr"
    return spec_from_file_location("vmr", inner / "__init__.py", submodule_search_locations=[str(inner)])


if __name__ == "vmr":
    spec = find_package()
    assert spec is not None and spec.loader is not None
    sys.modules["vmr"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["vmr"])
