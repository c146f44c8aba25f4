"""What workers tag, as the server shows it."""

import json
import subprocess
from pathlib import Path

import pytest

from statebacked.model.tagged import shown
from statebacked.model.values import Json
from statebacked.store.public_context import public_context
from tests.runtime.driver import find_deno

ROOT = Path(__file__).parents[2]
JS = ROOT / "src" / "statebacked" / "runtime" / "js"
SEEDS = 2_000


def test_the_server_and_the_worker_show_a_value_alike() -> None:
    pairs = ROOT / "tests" / "runtime" / "js" / "shown_pairs.ts"
    command = [find_deno(), "run", "--quiet", "--config", str(JS / "deno.json"), str(pairs), str(SEEDS)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * SEEDS
    for seed in range(SEEDS):
        tagged, expected = lines[2 * seed : 2 * seed + 2]
        assert _read(shown(Json(tagged))) == _read(expected), f"seed {seed}"


def _read(text: bytes) -> object:
    """A whole number is a number like any other, as in JavaScript."""
    return json.loads(text, parse_int=float)


def test_text_without_a_tag_is_the_very_same() -> None:
    text = Json(b'{"a" : 1.0, "b":1e2}')
    assert shown(text) is text


@pytest.mark.parametrize(
    "text",
    [
        b'{"$$statebacked":"Date"}',
        b'{"$$statebacked":"Uint8Array","value":"?"}',
        b'{"$$statebacked":"Uint8Array","value":5}',
        b'{"$$statebacked":"Map","value":5}',
        b'{"$$statebacked":"RegExp","value":["a"]}',
        b'{"$$statebacked":"Error","value":[]}',
        b'{"$$statebacked":"Whatever","value":1}',
        b'{"$$statebacked":7,"value":1}',
    ],
)
def test_what_only_resembles_a_tag_stays_as_it_is(text: bytes) -> None:
    assert json.loads(shown(Json(text))) == json.loads(text)


def test_a_text_that_is_no_worker_s_is_shown_as_it_is() -> None:
    text = Json(b'{"$$statebacked":"Date","value":1e400}')
    assert shown(text) == text
    digits = Json(b'{"$$statebacked":"Date","value":%b}' % (b"9" * 100_000))
    assert shown(digits) == digits


def test_the_public_part_of_a_stored_context_has_no_tags() -> None:
    stored = Json(b'{"public":{"at":{"$$statebacked":"Date","value":"2024-01-01T00:00:00.000Z"}},"x":1}')
    assert public_context(stored) == b'{"at":"2024-01-01T00:00:00.000Z"}'
