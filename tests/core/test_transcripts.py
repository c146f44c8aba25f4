"""The golden stories are told as they are written down."""

from tests.core.stories import FOLDER, told


def test_every_story_is_told_as_it_is_written() -> None:
    stories = sorted(FOLDER.glob("*.txt"))
    assert stories
    for path in stories:
        assert told(path.read_text()) == path.read_text(), path.name
