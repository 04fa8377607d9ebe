"""The log of commands that train nothing: warnings, on the console."""

import logging

from recbole_llm.secrets import SecretsFilter


def log_warnings() -> None:
    """Print the warnings of this process, without the secrets in them."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(SecretsFilter())
