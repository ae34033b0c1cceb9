"""Fields of JSON objects, checked."""

import json
from collections.abc import Mapping
from typing import Any, Final

from xlst_ray.errors import DataError

_LONGEST: Final = 1e9  # seconds, thirty years: beyond it samples cannot be counted


def parse_object(line: str) -> dict[str, Any]:
    """The object of a JSON line. Raises `DataError` where it is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not a JSON object ({error})") from None
    if not isinstance(fields, dict):
        raise DataError("is not a JSON object")
    return fields


def text(fields: Mapping[str, Any], name: str) -> str:
    """A field that must be there and be text. Raises `DataError`."""
    if name not in fields:
        raise DataError(f"has no field {name}; it has {', '.join(fields) or 'none'}")
    value = fields[name]
    if not isinstance(value, str):
        raise DataError(f"{name} is no text but {value!r}")
    return value


def label(fields: Mapping[str, Any], name: str) -> str:
    """An id that may be written as a number; empty where it is absent or null. Raises `DataError`."""
    value = fields.get(name)
    if value is not None and not isinstance(value, (str, int)):
        raise DataError(f"{name} is no text but {value!r}")
    return "" if value is None else str(value)


def number(fields: Mapping[str, Any], name: str, *, least: float = 0.0) -> float:
    """A number of seconds that must be there. Raises `DataError`."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= _LONGEST:
        raise DataError(f"{name} is no number of seconds but {value!r}")
    return float(value)


def texts_by_language(fields: Mapping[str, Any], name: str) -> dict[str, str]:
    """A field of texts by language code; empty where it is absent. Raises `DataError`."""
    value = fields.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise DataError(f"{name} are no texts by language code but {value!r}")
    return value
