"""Every setting with its worst values, as a flag and as a variable: a usage error, never a traceback."""

from dataclasses import fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from statebacked.serve.options import with_settings
from statebacked.settings import Settings

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@with_settings
def show(settings: Settings) -> None:
    """Show the settings."""
    print({field.name: getattr(settings, field.name) for field in fields(Settings)})


NUMBERS = sorted(f.name for f in fields(Settings) if f.metadata["min"] is not None)
TEXTS = sorted({f.name for f in fields(Settings) if not isinstance(f.default, bool)} - {*NUMBERS})
PATHS = {"data", "master_key_file"}
WORST = ["", " ", "-1", "99999999999999999999", "9" * 10_000, "1.5", "1e3", "x", "\0", "\udcff", "٣", "nan"]


def outcome(name: str, value: str, how: str) -> tuple[int, str]:
    """Exit code and all that was said."""
    flag, variable = "--" + name.replace("_", "-"), "STATEBACKED_" + name.upper()
    arguments = [f"{flag}={value}"] if how == "flag" else []
    env = {variable: value} if how == "variable" else {}
    result = CliRunner().invoke(app, arguments, env=env)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("how", ["flag", "variable"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_its_range_is_a_usage_error(name: str, how: str) -> None:
    setting = next(f for f in fields(Settings) if f.name == name)
    low, high = setting.metadata["min"], setting.metadata["max"]
    assert outcome(name, str(low), how)[0] == outcome(name, str(high), how)[0] == 0
    for value in (str(low - 1), str(high + 1), *WORST):
        if how == "variable" and value in {"", "\0"}:
            continue  # an empty variable counts as none; the system has none with a NUL
        code, said = outcome(name, value, how)
        if value in {"٣", "1"} and code == 0:
            continue  # a digit in any script
        assert (code, "Invalid value" in said) == (2, True), (value, said)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_cannot_be_one_is_a_usage_error(name: str) -> None:
    # An empty path is the working folder, as for every command.
    for value in ("\0", "\udcff") if name in PATHS else ("", "\0", "\udcff"):
        code, said = outcome(name, value, "flag")
        assert (code, "Invalid value" in said) == (2, True), (value, said)


@pytest.mark.parametrize(
    "url",
    ["sb.test", "ftp://sb.test", "http://", "http://[", "https://a b", "http://a:99999", "https://a/?x"],
)
def test_a_public_url_that_is_none_is_a_usage_error(url: str) -> None:
    assert outcome("public_url", url, "flag")[0] == 2
    assert outcome("public_url", "https://sb.test:8443/api", "flag")[0] == 0


def test_a_log_level_is_one_of_four() -> None:
    code, said = outcome("log_level", "loud", "variable")
    assert code == 2
    assert "debug, info, warning, error" in said
    assert outcome("log_level", "WARNING", "flag")[0] == 0


def test_every_number_has_a_smallest_and_a_largest_value() -> None:
    for setting in fields(Settings):
        is_number = isinstance(setting.default, int) and not isinstance(setting.default, bool)
        assert is_number == (setting.metadata["min"] is not None) == (setting.metadata["max"] is not None)


def test_a_folder_of_any_name_is_one(tmp_path: Path) -> None:
    assert outcome("data", str(tmp_path / "Zoë 🙂"), "flag")[0] == 0
