"""Functions that all commands share: options from a function's signature, errors in one line, exit statuses.

Exit status 0 is success, 2 an error that the user can repair, 3 a build that left videos out (if the user asks for it),
130 an interrupt. Imports no torch, so that `--help` is quick.
"""

import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser

from vmr.errors import VmrError
from vmr.parsing import explain, first_wrong

Command = Callable[..., None]

Commands = dict[str, tuple[Command, Sequence[str], str]]
"""Subcommand -> (function, the names of its options without a flag, an example that runs)."""

OLD_NAMES = {"num_workers": "workers", "timeout_s": "timeout"}
"""Option -> its old name in some commands. It still works, on the command line and in YAML, but no help shows it."""

LIBRARY_NAMES = {
    "window_s": "window",
    "stride_s": "stride",
    "memory_bytes": "memory",
    "rerank_depth": "rerank",
    "index_kinds": "index_kind",
}
"""Argument of a function of the library -> the option that gives it; for the library's messages."""


class Parser(ArgumentParser):
    """A parser whose errors are one line that names an option as it was typed, without the usage before it."""

    kinds: Mapping[str, Any] = MappingProxyType({})  # key of an option -> its type
    positional: Sequence[str] = ()  # the options without a flag
    typed: Sequence[str] = ()  # the command line

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line that says what is wrong, and exit with status 2."""
        said = explain(message, self.kinds, self._name_of)
        is_of_file = said.startswith(("there is no key", "not a YAML file"))
        fail(f"{f'{self._file}: {said}' if is_of_file else said} (see {self.prog} --help)")

    @property
    def _file(self) -> str:
        """The last file that --config names; an empty text if there is none."""
        words = [word for argument in self.typed for word in argument.split("=", 1)]
        return dict(pairwise(words)).get("--config", "")

    def _name_of(self, key: str) -> str:
        """The option as it was typed: a word without a flag, a flag, or a key in the file that --config names."""
        if key in self.positional:
            return key
        flags = [argument.partition("=")[0] for argument in self.typed]
        old = f"--{OLD_NAMES.get(key, '')}"
        if key != "config" and self._file and _flag(key) not in flags and old not in flags:
            return f"{self._file}: {key}"
        return old if old in flags else _flag(key)


def run(prog: str, command: Command, positional: Sequence[str], example: str, argv: Sequence[str] | None) -> None:
    """Parse a command line into the arguments of a function and call it.

    The options, their types, defaults and help texts are those of the function: its signature and docstring. A
    parameter whose type is a dataclass stands for a group of options, one for each field; the dataclass documents them
    under `Attributes:`. `--config FILE` reads any option from YAML.

    Args:
        prog: name of the command.
        command: the function.
        positional: names of options that are given without a flag.
        example: a command line that runs, shown at the end of the help.
        argv: the arguments; None for those of the process.
    """
    parser = _parser_of(prog, command, positional, example)
    parser.typed = sys.argv[1:] if argv is None else argv
    config = parser.parse_args(_words_first(parser, _renamed(command, parser.typed)))
    config.pop("config", None)
    for key, kind in parser.kinds.items():  # the parser lets null pass for every type
        if config[key] is None and (wrong := first_wrong(kind, None, key)) is not None:
            parser.error(f'Parser key "{key}": {wrong}')
    call_command(command, config)


def run_subcommands(prog: str, description: str, commands: Commands, argv: Sequence[str] | None) -> None:
    """Do the same as `run`, for a command that has subcommands.

    Args:
        prog: name of the command.
        description: the purpose of the command.
        commands: the subcommands.
        argv: the arguments; None for those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in commands:
        command, positional, example = commands[arguments[0]]
        run(f"{prog} {arguments[0]}", command, positional, example, arguments[1:])
        return
    parser = Parser(prog=prog, description=description, epilog=f"example: {next(iter(commands.values()))[2]}")
    subcommands = parser.add_subcommands(metavar="COMMAND")
    for word, (command, positional, example) in commands.items():
        subparser = _parser_of(f"{prog} {word}", command, positional, example)
        subcommands.add_subcommand(word, subparser, help=subparser.description)
    if arguments[:1] in (["-h"], ["--help"]):
        parser.parse_args(arguments[:1])
    known = " or ".join(commands)
    parser.error(f"there is no command {arguments[0]!r}: use {known}" if arguments else f"name a command: {known}")


def refuse(options: Any, reason: str, names: Sequence[str] | None = None) -> None:
    """Refuse options that a command would ignore.

    Args:
        options: a group of options.
        reason: why the command would ignore them, and what to do; it follows the name of the option.
        names: the options of the group; default, all of them.

    Raises:
        VmrError: one of these options has another value than its default.
    """
    for field in fields(options):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if (names is None or field.name in names) and getattr(options, field.name) != default:
            raise VmrError(f"{_flag(field.name)} {reason}")


def fail(message: str) -> NoReturn:
    """Print `error: message` on standard error, in one line, and exit with status 2."""
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)


def call_command(command: Command, config: Any) -> None:
    """Call a function with the parsed options.

    A VmrError, an error of the system, or a lack of memory becomes one line and status 2, an interrupt status 130.

    Args:
        command: the function.
        config: the namespace of its options.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # print even a file name that cannot be encoded
    try:
        command(**_arguments(command, config.as_dict()))
        print(end="", flush=True)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except VmrError as error:
        fail(_as_typed(str(error), command, config.as_dict()))
    except OSError as error:  # a full disk, a folder that may not be written
        if error.errno is None:  # libraries derive their own errors from OSError
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    except (MemoryError, RuntimeError) as error:  # torch raises the latter
        if not isinstance(error, MemoryError) and not re.search(r"allocate memory|out of memory", str(error)):
            raise
        fail("there is not enough memory: use smaller sizes, fewer at once, or a machine with more memory")
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:  # else the command has said what it did
            print("interrupted", file=sys.stderr)
        sys.exit(130)


def _as_typed(message: str, command: Command, values: dict[str, Any]) -> str:
    """A message of the library in which arguments of functions are called by the options that give them."""
    options = {option.name: option.name for option in _options_of(command)}
    options |= {name: option for name, option in LIBRARY_NAMES.items() if option in options}
    for name, option in options.items():
        if "_" in name and name not in values.values():  # a file may be called as an option is
            message = re.sub(rf"(?<![\w./-]){name}(?![\w./-])", _flag(option), message)
    return message


@dataclass(frozen=True)
class _Option:
    """An option of a command; `default` is MISSING if the option is required."""

    name: str
    type: Any
    default: Any
    help: str


def _parser_of(prog: str, command: Command, positional: Sequence[str], example: str) -> Parser:
    description = docstring_parser.parse(inspect.getdoc(command) or "").description
    parser = Parser(prog=prog, description=description, epilog=f"example: {example}", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of options; options on the command line win")
    parser.kinds, parser.positional = {option.name: option.type for option in _options_of(command)}, positional
    for option in _options_of(command):
        flag = option.name if option.name in positional else _flag(option.name)
        settings: dict[str, Any] = {"type": option.type, "help": option.help}
        if option.name in positional and option.type == str | None:
            settings["type"] = str  # the word null is a word
        if option.type is bool:
            settings = {"action": "store_true", "help": option.help}
        elif option.name in positional and option.type in (list[str], list[str] | None):
            settings = {"type": str, "nargs": "+", "help": option.help}
            if option.default is not MISSING:
                settings |= {"nargs": "*", "default": option.default}
        elif option.default is not MISSING:
            settings |= {"default": option.default} | ({"nargs": "?"} if option.name in positional else {})
        elif option.name not in positional:
            settings["required"] = True
        parser.add_argument(flag, **settings)
    return parser


def _options_of(command: Command) -> Iterator[_Option]:
    """The options in the order of the signature; a group is replaced by its options."""
    helps = _helps(command)
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            yield from _options_of_group(parameter.annotation)
        else:
            default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            yield _Option(name, parameter.annotation, default, helps[name])


def _options_of_group(group: Any) -> Iterator[_Option]:
    helps, types = _helps(group), get_type_hints(group)
    for field in fields(group):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        yield _Option(field.name, types[field.name], default, helps[field.name])


def _helps(documented: Any) -> dict[str, str]:
    """Argument or attribute -> its description in the docstring of a function or dataclass."""
    params = docstring_parser.parse(inspect.getdoc(documented) or "").params
    return {param.arg_name: param.description or "" for param in params}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _words_first(parser: Parser, arguments: list[str]) -> list[str]:
    """The command line with the words without a flag before the options.

    Before Python 3.13, argparse takes an optional word for absent if an option stands before it.
    """
    words: list[str] = []
    options: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            continue
        action = parser._option_string_actions.get(argument.partition("=")[0])
        if action is None:  # an unknown option, or --
            return arguments
        options.append(argument)
        if action.nargs != 0 and "=" not in argument:
            options += itertools.islice(rest, 1)
    return words + options


def _renamed(command: Command, arguments: Sequence[str]) -> list[str]:
    """The command line with today's names of options, also in the files that `--config` names."""
    known = {option.name for option in _options_of(command)}
    names = {old: new for new, old in OLD_NAMES.items() if new in known and old not in known}
    renamed: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag == "--config" and equals:
            renamed.append(f"{flag}={_renamed_config(value, names)}")
        elif renamed and renamed[-1] == "--config":
            renamed.append(_renamed_config(argument, names))
        elif flag.startswith("--") and flag.removeprefix("--") in names:
            renamed.append(_flag(names[flag.removeprefix("--")]) + equals + value)
        else:
            renamed.append(argument)
    return renamed


def _renamed_config(file: str, names: dict[str, str]) -> str:
    """The name of a YAML file, or its content with today's names if it has old ones."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return file  # the parser reports what is wrong
    if not isinstance(content, dict) or not names.keys() & content.keys():
        return file
    return yaml.safe_dump({names.get(name, name): value for name, value in content.items()})


def _arguments(command: Command, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `command`: the options of a group are put into its dataclass."""
    parameters = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {name: one.annotation for name, one in parameters.items() if is_dataclass(one.annotation)}
    for name, group in groups.items():
        options = {field.name: values.pop(field.name) for field in fields(group)}
        try:
            values[name] = group(**options)
        except VmrError as error:  # which names the field, not the option as it is typed
            named, _, rest = str(error).partition(" ")
            raise VmrError(f"{_flag(named)} {rest}" if named in options else str(error)) from error
    return values
