"""The commands, one module each. A module parses the options, calls one function of the library, and prints.

`common` turns a function into a command, `output` prints results. Nothing outside this package imports it.
No module imports torch at its top, so that `--help` is quick.
"""
