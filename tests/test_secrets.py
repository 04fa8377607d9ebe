"""Passwords are masked, and nothing else of an address is."""

import pytest

from recbole_llm.secrets import mask_url


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://ann:s3cret@host:5432/db", "postgresql://ann:***@host:5432/db"),
        (
            "at postgresql+psycopg://ann:a/b@c:d@host/db.",
            "at postgresql+psycopg://ann:***@host/db.",
        ),
        ("--storage='mysql://:pw@h/db' --x=1@2", "--storage='mysql://:***@h/db' --x=1@2"),
        ("pg://h/db?user=a&password=pw&x=1", "pg://h/db?user=a&password=***&x=1"),
        ("http://u:p@a/ and http://v:q@b/?key=k", "http://u:***@a/ and http://v:***@b/?key=***"),
        (
            "postgresql://ann@host:5432/db sqlite:///a.db",
            "postgresql://ann@host:5432/db sqlite:///a.db",
        ),
        ("mail ann@host: a key=value", "mail ann@host: a key=value"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked
