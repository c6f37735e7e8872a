"""What all commands share: options from a function's signature, errors in one line, exit statuses.

Exit status 0 is success, 2 anything the user can mend, 130 an interrupt. Imports no torch, so that `--help` is quick.
"""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

import docstring_parser
from jsonargparse import ArgumentParser

from vmr.errors import VmrError

Command = Callable[..., None]


class Parser(ArgumentParser):
    """A parser whose errors are one line, without the usage before it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints one line that says what was wrong, and exits with status 2."""
        fail(f"{message} (see {self.prog} --help)")


def run(prog: str, command: Command, positional: Sequence[str], example: str, argv: Sequence[str] | None) -> None:
    """Parses `argv` into the arguments of `command` and calls it.

    The options, their types, defaults and help texts are those of the function: its signature and docstring. The names
    in `positional` are given without a flag. `--config FILE` reads any of them from YAML.
    """
    parser = _parser_of(prog, command, positional, example)
    config = parser.parse_args(argv)
    config.pop("config", None)
    call_command(command, config)


def run_subcommands(
    prog: str, description: str, commands: dict[str, tuple[Command, Sequence[str], str]], argv: Sequence[str] | None
) -> None:
    """As `run`, for a command that has several words: word -> (function, its positional names, a runnable example)."""
    parser = Parser(prog=prog, description=description, epilog=f"example: {next(iter(commands.values()))[2]}")
    subcommands = parser.add_subcommands(metavar="COMMAND")
    for word, (command, positional, example) in commands.items():
        subparser = _parser_of(f"{prog} {word}", command, positional, example)
        subcommands.add_subcommand(word, subparser, help=subparser.description)
        subparser.prog = f"{prog} {word}"
    config = parser.parse_args(argv)
    chosen = config[config.subcommand]
    chosen.pop("config", None)
    call_command(commands[config.subcommand][0], chosen)


def fail(message: str) -> NoReturn:
    """Prints `error: message` on standard error, in one line, and exits with status 2."""
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)


def _parser_of(prog: str, command: Command, positional: Sequence[str], example: str) -> Parser:
    docstring = docstring_parser.parse(inspect.getdoc(command) or "")
    helps = {parameter.arg_name: parameter.description for parameter in docstring.params}
    parser = Parser(prog=prog, description=docstring.description, epilog=f"example: {example}", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of options; what stands on the line wins")
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        flag = name if name in positional else f"--{name.replace('_', '-')}"
        if parameter.annotation is bool:
            parser.add_argument(flag, action="store_true", help=helps[name])
        elif parameter.default is inspect.Parameter.empty:
            required = {} if name in positional else {"required": True}
            parser.add_argument(flag, type=parameter.annotation, help=helps[name], **required)
        else:
            optional: dict[str, Any] = {"nargs": "?"} if name in positional else {}
            parser.add_argument(
                flag, type=parameter.annotation, default=parameter.default, help=helps[name], **optional
            )
    return parser


def call_command(command: Command, config: Any) -> None:
    """Calls `command` with what was parsed; an error of ours is one line and status 2, an interrupt status 130."""
    # Decoding processes share the cores with torch, whose OpenMP threads would otherwise burn them while they wait for
    # each other: embedding took four times as long. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no file name is worth a failure in printing it
    try:
        command(**config.as_dict())
        print(end="", flush=True)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except VmrError as error:
        fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        if error.errno is None:  # libraries derive errors of their own from OSError
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
