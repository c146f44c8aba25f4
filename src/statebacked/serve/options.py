"""The settings as command line options: made from Settings, so that flag, variable and help cannot differ."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from statebacked.settings import Settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` every setting as an option, collected in its parameter `settings`."""
    own = inspect.signature(command).parameters
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = [
        p.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, p in own.items()
        if name != "settings"
    ]
    parameters += [_parameter(name, hint) for name, hint in typing.get_type_hints(Settings).items()]

    def collected(**given: Any) -> None:  # noqa: ANN401 - typer has checked each against its option
        settings = Settings(**{f.name: given.pop(f.name) for f in fields(Settings)})
        command(settings=settings, **given)

    collected.__name__ = command.__name__
    collected.__doc__ = command.__doc__
    collected.__annotations__ = {p.name: p.annotation for p in parameters}
    collected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    return collected


def _checked(check: Callable[[str], str | None]) -> Callable[[object], object]:
    """Refuses a text or a path that cannot be one, before anything starts."""

    def checked(value: object) -> object:
        if isinstance(value, str | Path):
            text = str(value)
            wrong = "it is not valid UTF-8" if not _is_unicode(text) else check(text)
            if wrong is None and "\0" in text:
                wrong = "it holds a NUL"
            if wrong is not None:
                raise typer.BadParameter(wrong)
        return value

    return checked


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parameter(name: str, hint: Any) -> inspect.Parameter:  # noqa: ANN401 - a type, which mypy cannot name
    setting = next(f for f in fields(Settings) if f.name == name)
    option = typer.Option(
        "--" + name.replace("_", "-"),
        envvar="STATEBACKED_" + name.upper(),
        help=setting.metadata["help"],
        min=setting.metadata["min"],
        max=setting.metadata["max"],
        callback=_checked(setting.metadata["check"]),
        show_default=str(setting.default) if isinstance(setting.default, Path) else True,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=setting.default, annotation=Annotated[hint, option]
    )
