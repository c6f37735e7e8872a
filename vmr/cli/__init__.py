"""The commands, one module each: it parses the options, makes one call of the library, and prints.

`common` turns a function into a command, `output` prints results. Nothing outside this package imports it.
No module imports torch at its top, so that `--help` is quick.
"""
