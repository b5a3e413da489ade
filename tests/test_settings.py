"""service.settings: from the environment, or one line that names the setting."""

from pathlib import Path

import pytest

from service.settings import ServiceSettings, SettingsError


def test_environment_sets_every_field() -> None:
    """TWOLAYERNET_<FIELD> in its own type; an empty variable is one that is not set."""
    found = ServiceSettings.from_environment(
        {
            "TWOLAYERNET_ARTIFACT": "a/b",
            "TWOLAYERNET_ARTIFACTS": "elsewhere",
            "TWOLAYERNET_EXPECT_DIGEST": "0f" * 32,
            "TWOLAYERNET_THREADS": "2",
            "TWOLAYERNET_MAX_BODY_BYTES": "",
        }
    )
    expected = ServiceSettings(artifact=Path("a/b"), artifacts=Path("elsewhere"), expect_digest="0f" * 32, threads=2)
    assert expected == found


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TWOLAYERNET_THREADS", "two", "TWOLAYERNET_THREADS: expected a whole number, found 'two'"),
        ("TWOLAYERNET_THREADS", "0", "threads: expected 1 to 1024, found 0"),
        (
            "TWOLAYERNET_EXPECT_DIGEST",
            "NOPE",
            "expect_digest: expected 64 lower-case hex digits, found 'NOPE'",
        ),
        ("TWOLAYERNET_MAX_BODY_BYTES", "-1", "TWOLAYERNET_MAX_BODY_BYTES: expected a whole number, found '-1'"),
    ],
)
def test_wrong_value(name: str, value: str, message: str) -> None:
    """A value that cannot be used is named, with what was expected and found."""
    with pytest.raises(SettingsError) as caught:
        ServiceSettings.from_environment({name: value})
    assert message == str(caught.value)
