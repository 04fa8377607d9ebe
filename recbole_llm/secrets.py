"""Passwords, keys and tokens, masked before a text is printed, logged or stored."""

import functools
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any

MASK = "***"

# user:password@ of an address: up to the last @ of the word, as a password may hold @, / and :.
_PASSWORD = re.compile(r"(://[^\s/:@'\"]*):\S*@")
# A name alone before a web server is a token as often as a name.
_WEB_USER = re.compile(r"(?i)(\bhttps?://)[^\s/:@'\"?#]+@")
_NAME = r"[\w.-]*(?:key|token|secret|passwd|password|pwd|auth|sig|signature|credential)[\w.-]*"
_QUERY = re.compile(rf"(?i)([?&;]{_NAME}=)[^\s&#'\"]*")
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|passphrase|secret|api[_-]?key|(?:access|auth|hf|bearer)[_-]?token)"
    r"['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s'\",;&#)}\]]+)"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}")
_AUTHORIZATION = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:basic\s+)?)[\w.~+/=-]{6,}")
# Keys by the form that their makers gave them: OpenAI and relatives, Hugging Face, Groq, Google,
# GitHub, GitLab, Amazon, Slack.
_FORM = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{16,}|hf_\w{16,}|gsk_\w{16,}|AIza[\w-]{24,}|gh[opsur]_\w{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|AKIA[A-Z\d]{16}\b|xox[abeprs]-[\w-]{10,})"
)
# Names of a mapping whose value is a secret whatever it looks like.
_SECRET_NAME = re.compile(
    r"(?i)(?:.*[_-])?(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|token)"
    r"|PGPASSWORD"
)

_SHORTEST = 8  # shorter values, such as "none" or "ollama", are no keys and occur in other words
_variables: set[str] = set()


def remember_variable(name: str) -> None:
    """Mask the value of this environment variable from now on, whatever its name is."""
    _variables.add(name)


def mask_known(text: str) -> str:
    """Replace the keys that environment variables hold by ``***``, and nothing that looks alike."""
    for name, value in os.environ.items():
        if (name in _variables or _names_a_secret(name)) and len(value.strip()) >= _SHORTEST:
            text = text.replace(value.strip(), MASK)
    return text


@functools.cache
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name) is not None


def mask_url(text: str) -> str:
    """Replace passwords and secret query values of all addresses in a text by ``***``.

    ``postgresql://ann:pass@host/db?password=pass`` becomes
    ``postgresql://ann:***@host/db?password=***``. A name without a password is hidden where it
    stands before a web server, to which a token is often given so.
    """
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", _WEB_USER.sub(rf"\1{MASK}@", text))


def mask_secrets(text: str) -> str:
    """Replace everything in a text that is, or looks like, a secret by ``***``.

    These are passwords and query values of addresses, ``password=...`` and its relatives, bearer
    tokens, keys of a well-known form, the values of environment variables whose name says so (such
    as OPENAI_API_KEY and WANDB_API_KEY), and of those that ``remember_variable`` was told. A masked
    text stays what it is if it is masked again.
    """
    text = mask_url(mask_known(text))
    for pattern in (_ASSIGNED, _BEARER, _AUTHORIZATION):
        text = pattern.sub(rf"\1{MASK}", text)
    return _FORM.sub(MASK, text)


def mask_values(value: Any) -> Any:
    """Mask all texts inside a JSON value, and each text whose key names a secret."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, Mapping):
        return {
            key: MASK
            if isinstance(inner, str) and inner and _SECRET_NAME.fullmatch(str(key))
            else mask_values(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [mask_values(inner) for inner in value]
    return value


def print_masked(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print an error that nothing caught, without the secrets in it; for ``sys.excepthook``."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(mask_secrets(text), end="", file=sys.stderr)


class SecretsFilter(logging.Filter):
    """Masks the secrets in a handler's messages and tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its masked text; every record passes."""
        record.msg, record.args = mask_secrets(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask_secrets(record.exc_text)
        return True
