"""YAML files for the commands; a package so that an installed vmr has them.

The folder stands at the top of the repository, but its name for imports is `vmr.configs`, because an installed package
must not occupy the global module name `configs`.
"""

if __name__ != "vmr.configs":
    raise ImportError(f"this folder is imported as vmr.configs, not as {__name__}")
