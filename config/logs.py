"""Logs: plain lines, or with LOG_FORMAT=json one JSON object a line. Nothing in a message begins a line of its own."""

import contextlib
import io
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

FORMATS = ("plain", "json")
PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Fields that a line may have beside its message. All others of a record stay out: Django adds whole requests.
FIELDS = ("job", "node", "request_id", "user_id", "method", "route", "path", "status", "ms")
# What opens something for whoever has it: parts of addresses, values of queries, tokens.
SECRETS = (
    re.compile(r"(/collections/shared/|/accounts/reset/[^/\s]*/)[^/\s?'\"]+"),
    re.compile(r"((?:^|[?&\s])(?:key|token|collection)=)[^&\s'\"]+"),
    re.compile(r"(\bcc_)[\w-]{20,}"),
)
logger = logging.getLogger(__name__)
_known: ContextVar[dict[str, Any]] = ContextVar("known", default={})  # noqa: B039  # never changed, only replaced


def configuration(form: str, level: str) -> dict[str, Any]:
    """Django's LOGGING. Every logger's records go to one handler; JSON goes to what stderr was at the start."""
    stream = {"stream": "ext://sys.__stderr__"} if form == "json" else {}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"()": "config.logs.Lines", "fmt": PLAIN}, "json": {"()": "config.logs.JsonLines"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": form} | stream},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": "INFO"},  # not Django's own handler too
            "jobs": {"level": "INFO"},
            "waitress": {"level": "INFO"},
            "printed": {"level": "INFO"},
            "config.observed": {"level": "INFO" if form == "json" else "WARNING"},
        },
    }


def without_secrets(text: str) -> str:
    """The text with what is in SECRETS left out."""
    for secret in SECRETS:
        text = secret.sub(r"\1…", text)
    return text


def one_line(text: str) -> str:
    """The text with every character escaped that ends a line, or steers a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Lines(logging.Formatter):
    """A line a record; what follows of it, such as a traceback, is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """As a line, with the traceback below it."""
        record.message, record.asctime = record.getMessage(), self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        if record.stack_info:
            lines += record.stack_info.splitlines()
        return "\n    ".join(one_line(without_secrets(line)) for line in lines)


class JsonLines(JsonFormatter):
    """One JSON object a record: time, level, logger, message, and of FIELDS what is known."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill it; only ASCII is written, so that nothing ends the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data |= {"time": time, "level": record.levelname, "logger": record.name}
        log_data["message"] = without_secrets(record.getMessage())
        own = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        log_data |= _known.get() | own
        for name in ("exc_info", "stack_info"):
            if message_dict.get(name):
                log_data[name] = without_secrets(str(message_dict[name]))


@contextlib.contextmanager
def known(**fields: Any) -> Iterator[None]:
    """Add these fields to every line that this thread logs meanwhile."""
    token = _known.set(_known.get() | fields)
    try:
        yield
    finally:
        _known.reset(token)


def begin(**fields: Any) -> None:
    """Give these fields, and no earlier ones, to every line that this thread logs from here on."""
    _known.set(fields)


def take_over(form: str) -> None:
    """For a process whose output is its log: errors that nobody caught, warnings and, in JSON, whatever is printed
    become records.
    """
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    logging.captureWarnings(True)
    if form == "json":
        sys.stdout, sys.stderr = _Printed("stdout", logging.INFO), _Printed("stderr", logging.WARNING)


def _uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logger.critical("nobody caught: %s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


def _uncaught_in_thread(said: threading.ExceptHookArgs) -> None:
    if said.exc_value and not issubclass(said.exc_type, SystemExit):
        _uncaught(said.exc_type, said.exc_value, said.exc_traceback)


class _Printed(io.TextIOBase):
    """Stands for stdout or stderr: each line that is printed becomes a record."""

    def __init__(self, name: str, level: int):
        self._logger, self._level = logging.getLogger(f"printed.{name}"), level
        self._local = threading.local()  # each thread's beginning of a line, and whether it is logging now

    def write(self, text: str) -> int:
        """Log the lines that are whole. What logging itself prints, when it cannot write, is dropped."""
        if getattr(self._local, "busy", False):
            return len(text)
        *lines, self._local.rest = (getattr(self._local, "rest", "") + text).split("\n")
        self._local.busy = True
        try:
            for line in filter(str.strip, lines):
                self._logger.log(self._level, "%s", line)
        finally:
            self._local.busy = False
        return len(text)

    def flush(self) -> None:
        """Log what has no end yet."""
        if getattr(self._local, "rest", ""):
            self.write("\n")
