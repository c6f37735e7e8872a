"""Training configs as YAML files: reading them with the files that they are based on, and writing them."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from vmr.errors import VmrError
from vmr.files import write_atomically
from vmr.parsing import explain, first_wrong, keys_of
from vmr.train.config import StageConfig, TrainConfig
from vmr.train.source_config import read_source

_PACKAGE = Path(__file__).parent.parent
_SOURCES = "--data.sources"
_LISTS = (_SOURCES, "--stages")


def read_config(file: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the config of a training run from a YAML file.

    A file may say `base: other.yaml`, relative to itself, and then lists only what differs; the other file may be based
    on a third. To read the config that `vmr-train FILE OVERRIDES` uses:

        config = read_config("configs/train/finetune_msrvtt.yaml", ["--run.out", "runs/mine", "--run.seed=1"])

    Args:
        file: a YAML file; None for the defaults. A path that starts with "configs/" and is not in the working directory
            is looked up among the configs that are installed with vmr.
        overrides: options as on the command line: "--SECTION.KEY=VALUE", or the option and its value as two strings.
            They win over the file. "--help" and "--print_config" print and exit.

    Returns:
        The config, checked.

    Raises:
        VmrError: the file is absent or not YAML, or a key or value does not exist or does not fit. The message is one
            line that names the file and the key.
    """
    chain = [] if file is None else _chain(Path(file))
    sources = [content["data"]["sources"] for _, content in chain if "sources" in content.get("data", {})]
    given = _read_sources(list(overrides), sources[-1] if sources else [])
    arguments = [part for option in given for part in [*_emptied([option.partition("=")[0]]), option]]
    if chain:
        named = [(path, content["model"]["tokenizer"]) for path, content in chain if _names_tokenizer(content)]
        if named and (named[-1][0].parent / str(named[-1][1])).is_file():
            path, tokenizer = named[-1]
            arguments.insert(0, f"--model.tokenizer={(path.parent / tokenizer).resolve()}")
        for path, content in reversed(chain):
            options = [f"--{name}" for name in content] + [f"--data.{name}" for name in content.get("data", {})]
            arguments = [*_emptied(options), f"--config={_parsable(path, content)}", *arguments]
    parser = ArgumentParser(
        prog="vmr-train CONFIG", description="Train a model.", exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="a YAML file; what comes later wins")
    parser.add_argument("--base", type=str | None, help="the file that a config is based on")
    parser.add_class_arguments(TrainConfig)
    parser.set_defaults(
        {"stages": [asdict(StageConfig())]}
    )  # the parser cannot print a default that consists of dataclasses
    try:
        parsed = parser.parse_args(arguments)
        for name in ("config", "base"):
            parsed.pop(name, None)
        made = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before 4.49
        return TrainConfig(**made(parsed).as_dict())
    except (ArgumentError, TypeError, ValueError) as error:  # ValueError: a value of the wrong kind
        raise VmrError(_explained(str(error), overrides)) from error


def _explained(message: str, overrides: Sequence[str]) -> str:
    """The parser's message about the command line in one line; what is in files has been checked before."""
    typed = dict(pairwise(overrides))
    typed |= {name: value for name, _, value in (option.partition("=") for option in overrides) if value}
    kinds = keys_of(TrainConfig)
    for option, value in typed.items():
        with suppress(yaml.YAMLError):
            key = option.removeprefix("--")
            if key in kinds and (wrong := first_wrong(kinds[key], yaml.safe_load(value), option)) is not None:
                return wrong
    options = {key: f"--{key}" for key in kinds}
    said = explain(message, kinds, lambda key: options[key] if options.get(key) in typed else key, options.values())
    field, _, rest = said.partition(" ")  # a dataclass that refuses one of its fields does not know the section
    sections = [option for option in typed if option.endswith(f".{field}")]
    return f"{sections[0]} {rest}" if len(sections) == 1 else said


def save_config(config: TrainConfig, file: Path) -> None:
    """Write a config with all its keys as a YAML file that `read_config` reads.

    Args:
        config: the config.
        file: the file to write.

    Raises:
        VmrError: the file cannot be written.
    """
    content = json.loads(json.dumps(asdict(config)))
    write_atomically(file, yaml.safe_dump(content, sort_keys=False).encode())


def _chain(file: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The files that a config file is based on, then the file itself, with their contents."""
    if file.parts[:1] == ("configs",) and not file.exists() and (_PACKAGE / file).exists():
        file = _PACKAGE / file
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if file.resolve() in [path.resolve() for path, _ in chain]:
            raise VmrError(f"{file}: is based on itself")
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise VmrError(f"{file}: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise VmrError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise VmrError(f"{file}: not a config: holds a {type(content).__name__}")
        _check_keys(file, content)
        chain.insert(0, (file, content))
        if content.get("base") is None:
            return chain
        file = file.parent / str(content["base"])


def _parsable(file: Path, content: dict[str, Any]) -> str:
    """Return the file, or its content with today's keys if sources have keys that the parser refuses."""
    sources = content.get("data", {}).get("sources", [])
    try:
        read = [read_source(source) for source in sources]
    except VmrError as error:
        raise VmrError(f"{file}: {error}") from None
    if read == sources:
        return str(file)
    return yaml.safe_dump({**content, "data": {**content["data"], "sources": read}})


def _read_sources(options: list[str], sources: list[Any]) -> list[str]:
    """Return command line options in which every change of the sources is a whole list of them.

    The parser alone would fill a source that is changed by one key with the keys of another kind.

    Args:
        options: the command line.
        sources: the sources of the config files.
    """
    read: list[str] = []
    waiting = iter(options)
    for option in waiting:
        name, equals, value = option.partition("=")
        if not name.startswith(_SOURCES) or name == f"{_SOURCES}.help":
            read.append(option)
            continue
        given = value if equals else next(waiting, "")
        try:
            content = yaml.safe_load(given)
        except yaml.YAMLError as error:
            raise VmrError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
        sources = [read_source(source) for source in _changed_sources(sources, name, content)]
        read.append(f"{_SOURCES}={json.dumps(sources)}")
    return read


def _changed_sources(sources: list[Any], name: str, content: Any) -> list[Any]:
    """The sources after the option `name`: all of them, one more (`+`), or one key of the last (`.KEY`)."""
    key = name.removeprefix(_SOURCES)
    if key.startswith("."):
        if not sources:
            raise VmrError(f"{name}: there is no source whose key could be changed")
        return [*sources[:-1], {**sources[-1], key.removeprefix("."): content}]
    items = content if isinstance(content, list) else [content]
    return [*sources, *items] if key == "+" else items


def _emptied(options: list[str]) -> list[str]:
    """Options that empty lists before new items are given; else the parser fills new items with keys of old ones."""
    return [f"{option}=[]" for option in options if option in _LISTS]


def _check_keys(file: Path, content: dict[str, Any]) -> None:
    """Raise VmrError about the first key or value that is wrong; sources have a check of their own."""
    own = {name: value for name, value in content.items() if name != "base"}
    if isinstance(own.get("data"), dict):
        own["data"] = {name: value for name, value in own["data"].items() if name != "sources"}
    if (wrong := first_wrong(TrainConfig, own)) is not None:
        raise VmrError(f"{file}: {wrong}")


def _names_tokenizer(content: dict[str, Any]) -> bool:
    model = content.get("model")
    return isinstance(model, dict) and "tokenizer" in model
