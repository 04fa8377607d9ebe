"""Passwords in addresses, masked before a text is printed, logged or stored."""

import re

_PASSWORD = re.compile(r"(?<=://)([^\s/:@'\"]*):[^\s'\"]*@")
_QUERY = re.compile(r"(?i)([?&](?:password|passwd|pwd|token|secret|api_?key|key)=)[^\s&#'\"]*")


def mask_url(text: str) -> str:
    """Replace the passwords of all addresses in a text by ``***``.

    ``postgresql://ann:pass@host/db?password=pass`` becomes
    ``postgresql://ann:***@host/db?password=***``. A password that holds ``@``, ``/`` or ``:`` is
    masked as well, so that what follows ``user:`` is hidden up to the last ``@`` of the word.
    """
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
