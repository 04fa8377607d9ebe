from collections.abc import Iterator

import pytest
from file_server import FileServer


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a file server that serves ``/file``."""
    server = FileServer()
    server.files["/file"] = b"content"
    yield server
    server.close()
