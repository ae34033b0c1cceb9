"""Configuration: frozen typed sections, a YAML file, dotted overrides, and the help text made from them.

A room declares its section as a subclass of `Section`, field by field with `option`. A job names one top-level section;
`load` reads it from YAML and `key.sub=value` overrides, and refuses unknown keys with the nearest right one.
"""

import difflib
import json
import os
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xlst_ray.errors import ConfigError
from xlst_ray.languages import language
from xlst_ray.plain_yaml import parse_yaml


class Section(BaseModel):
    """A frozen part of the configuration. Unknown keys are refused; defaults are validated too; numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def resolved(self) -> dict[str, Any]:
        """All fields, defaults included, as JSON values: what lies beside every result."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """`resolved` without the fields that were `added` and are at their default: what fingerprints are made of.

        So a field that is new leaves the results of before what they are.
        """
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if not _is_added(field) or value != field.get_default(call_default_factory=True):
                found[name] = value.identity() if isinstance(value, Section) else self.model_dump(mode="json")[name]
        return found

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self).model_validate({**dict(self), **changes})

    def value_at(self, key: str) -> Any:
        """The JSON value at a dotted key; none for an entry that a mapping lacks.

        Raises:
            ConfigError: unknown key.
        """
        parts = _parts(type(self), key)
        _refuse_unknown(type(self), _nest(parts, None), where=key)
        value: Any = self.resolved()
        for part in parts:
            value = None if value is None else value.get(part)
        return value

    def with_keys(self, changes: Mapping[str, Any], where: str) -> Self:
        """A copy with the values at some dotted keys replaced, checked as a file's are.

        Raises:
            ConfigError: unknown key, or values that do not fit; `where` says whose they are.
        """
        values = self.resolved()
        for key, value in changes.items():
            parts = _parts(type(self), key)
            _refuse_unknown(type(self), _nest(parts, value), where=where)
            *path, last = parts
            inner = values
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = value
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error), where=where) from None


S = TypeVar("S", bound=Section)


def absolute(url: str) -> str:
    """A path as seen from everywhere: the workers of a cluster have other working folders than the job."""
    if not url.strip():
        raise ValueError("must not be empty")
    scheme, colon, place = url.partition(":/")
    if colon and scheme.isalnum() and not place.removeprefix("/").strip("/"):
        raise ValueError(f"names no bucket: write {scheme}://bucket/folder")
    if colon and scheme.isalnum() and not place.startswith("/"):
        raise ValueError(f"has one slash, which is a folder of the name {scheme}: : write {scheme}://{place}")
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def _language_code(code: str) -> str:
    try:
        return language(code).code
    except ConfigError as error:
        raise ValueError(f"{error.what}; {error.hint}") from None


_NOT_PLAIN = "'\"|>&!*"  # what a text in YAML may begin with that does not stand for itself
LanguageCode = Annotated[str, AfterValidator(_language_code)]


def one_or_several(value: Any) -> Any:
    """One text stands for a list of one."""
    return (value,) if isinstance(value, str) else value


LanguageCodes = Annotated[tuple[LanguageCode, ...], BeforeValidator(one_or_several)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what both torch and numpy take
Url = Annotated[str, AfterValidator(absolute)]


def option(
    default: Any = ..., help: str = "", *, unit: str | None = None, added: bool = False, **constraints: Any
) -> Any:
    """A field of a `Section`: its default (none: required), what it is, its unit, pydantic's constraints (`gt=0`).

    Args:
        added: after there were results without it (`Section.identity`).
    """
    extra: JsonDict = ({} if unit is None else {"unit": unit}) | ({"added": True} if added else {})
    if isinstance(default, type) and issubclass(default, Section):
        return Field(default_factory=default, description=help, json_schema_extra=extra, **constraints)
    return Field(default, description=help, json_schema_extra=extra, **constraints)


def load(kind: type[S], file: str | Path | None = None, overrides: Sequence[str] = ()) -> S:
    """The configuration from a YAML file and `key.sub=value` overrides, later ones winning.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest right one), or a value that does not fit.
    """
    values = {} if file is None else _read_yaml(Path(file))
    _refuse_unknown(kind, values, where=str(file))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(
                f"cannot read the override {override!r}", hint="write key.sub=value, such as train.lr=1e-3"
            )
        change = _nest(_parts(kind, key), _parse_value(value, override))
        _refuse_unknown(kind, change, where="override")
        values = _merge(values, change)
    places = [str(place) for place in (file, "overrides" if overrides else None) if place is not None]
    return _validate(kind, values, where=" and ".join(places) or None, hint=_HELP_HINT)


def from_values(kind: type[S], values: Any, *, where: str) -> S:
    """A section from plain values, as a YAML file of its own holds them.

    Raises:
        ConfigError: unknown key (with the nearest right one), or a value that does not fit.
    """
    _refuse_unknown(kind, values, where=where)
    return _validate(kind, values, where=where)


def _validate(kind: type[S], values: Any, *, where: str | None, hint: str | None = None) -> S:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error), where=where, hint=hint) from None


def fields(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf field below a section as (dotted key, field), in order of declaration."""
    for name, field in kind.model_fields.items():
        section = _section_of(field.annotation)
        if section is not None:
            yield from fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def describe(kind: type[Section], prefix: str = "") -> str:
    """The help text: fields with type, unit, default and meaning, the required first; of mappings what they hold."""
    lines = []
    for key, field in sorted(fields(kind, prefix), key=lambda leaf: not leaf[1].is_required()):
        lines.append(_describe_field(key, field))
        entry = _entry_of(field.annotation)
        if entry is not None:
            lines.append(describe(entry, f"{key}.<name>."))
    return "\n".join(lines)


def _is_added(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and "added" in field.json_schema_extra


_HELP_HINT = "run the job with --help for every key, its type, unit and default"


def _describe_field(key: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" [{extra['unit']}]" if "unit" in extra else ""
    if field.is_required():
        default = "required"
    else:
        value = field.get_default(call_default_factory=True, validated_data={})
        default = f"default {json.dumps(value, default=str, ensure_ascii=False)}"
    return f"  {key} : {_type_name(field.annotation)}{unit}, {default}\n      {field.description or ''}"


def _type_name(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type_name(args[0])
    if origin is typing.Literal:
        return "|".join(str(value) for value in args)
    if origin in (typing.Union, UnionType):
        return "|".join("none" if arg is type(None) else _type_name(arg) for arg in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if arg is ... else _type_name(arg) for arg in args)}]"
    return getattr(annotation, "__name__", str(annotation))


def _section_of(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _entry_of(annotation: Any) -> type[Section] | None:
    """The section that a `dict[str, Section]` field holds, else none."""
    args = typing.get_args(annotation)
    return _section_of(args[1]) if typing.get_origin(annotation) is dict and len(args) == 2 else None


def _parts(kind: type[Section], key: str) -> list[str]:
    """A dotted key's parts: what names an entry of a plain mapping may itself hold dots, such as a parameter's name."""
    name, _, rest = key.partition(".")
    field = kind.model_fields.get(name)
    if not rest:
        return [name]
    if field is None:
        return key.split(".")
    section, entry = _section_of(field.annotation), _entry_of(field.annotation)
    if section is not None:
        return [name, *_parts(section, rest)]
    if entry is not None:
        entry_name, _, rest = rest.partition(".")
        return [name, entry_name, *(_parts(entry, rest) if rest else [])]
    is_mapping = typing.get_origin(field.annotation) is dict
    return [name, rest] if is_mapping else key.split(".")


def _nest(parts: Sequence[str], value: Any) -> Any:
    for part in reversed(parts):
        value = {part: value}
    return value


def _refuse_unknown(kind: type[Section], values: Any, *, where: str, prefix: str = "") -> None:
    if not isinstance(values, Mapping):
        hint = f"write {prefix}<key>=value, or leave it out" if prefix else None
        raise ConfigError(
            f"{prefix.rstrip('.') or 'the configuration'} must be a mapping of keys", where=where, hint=hint
        )
    for key, value in values.items():
        field = kind.model_fields.get(str(key))
        if field is None:
            raise ConfigError(f"unknown key {prefix}{key}", where=where, hint=_nearest(kind, prefix, str(key)))
        section, entry = _section_of(field.annotation), _entry_of(field.annotation)
        if section is not None:
            _refuse_unknown(section, value, where=where, prefix=f"{prefix}{key}.")
        elif entry is not None and isinstance(value, Mapping):
            for name, inner in value.items():
                if name in entry.model_fields and not isinstance(inner, Mapping):
                    hint = f"entries have names: write {prefix}{key}.<name>.{name}=..."
                    raise ConfigError(f"{prefix}{key}.{name} is no entry", where=where, hint=hint)
                _refuse_dotted(entry, str(name), inner, where=where, prefix=f"{prefix}{key}")
                _refuse_unknown(entry, inner, where=where, prefix=f"{prefix}{key}.{name}.")


def _refuse_dotted(entry: type[Section], name: str, values: Any, *, where: str, prefix: str) -> None:
    """Refuse an entry whose name has dots, which a dotted key cannot tell from the keys below it."""
    whole = name
    while isinstance(values, Mapping) and len(values) == 1 and not values.keys() & entry.model_fields.keys():
        ((part, values),) = values.items()
        whole = f"{whole}.{part}"
    if whole != name and isinstance(values, Mapping) and values and values.keys() <= entry.model_fields.keys():
        inner = ", ".join(f"{key}: ..." for key in values)
        hint = f"a name with dots stands in braces: '{prefix}={{{whole}: {{{inner}}}}}'"
        raise ConfigError(f"unknown key {prefix}.{whole}", where=where, hint=hint)


def did_you_mean(name: Any, known: Collection[str], known_as: str = "known here") -> str:
    """A hint: which of the known names is nearest to one that is not known; all of them where none is near."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"{known_as}: {', '.join(known)}"


def _nearest(kind: type[Section], prefix: str, key: str) -> str:
    siblings = difflib.get_close_matches(key, kind.model_fields, n=1, cutoff=0.6)
    if siblings:
        return f"did you mean {prefix}{siblings[0]}?"
    leaves = [name for name, _ in fields(kind)]
    same_leaf = [prefix + name for name in leaves if name.rsplit(".", 1)[-1] == key]
    near = same_leaf or [prefix + name for name in difflib.get_close_matches(key, leaves, n=1, cutoff=0.5)]
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(kind.model_fields)}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror})", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start})", where=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"is not YAML: {error}", where=str(path)) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping of keys", where=str(path), hint="write key: value, one a line")
    return values


def _parse_value(text: str, override: str) -> Any:
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(
            f"cannot read the value of {override!r} as YAML: {error}",
            hint="text with special characters needs quotes that the shell leaves: 'key=\"value\"'",
        ) from None
    # Plain text stays whole: a folder may have ` #` in its name, which YAML would take for a comment.
    plain = isinstance(value, str) and text.strip()[0] not in _NOT_PLAIN
    return text.strip() if plain else value


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


_IN_OUR_WORDS: Final = {  # by pydantic's type of error
    "missing": "is required",
    "tuple_type": "must be a list, in brackets and with commas",
    "dict_type": "must be a mapping of keys",
    "string_type": "must be text, in quotes where it looks like something else",
}


def explain(error: ValidationError) -> str:
    """What is wrong with which keys, in one line."""
    found = error.errors()
    # A list with a wrong entry is reported a second time, as too short without it.
    inner = {item["loc"][:-1] for item in found if item["loc"]}
    return "; ".join(
        _explain_one(item["loc"], item) for item in found if not (item["type"] == "too_short" and item["loc"] in inner)
    )


def _explain_one(location: Iterable[int | str], item: Any) -> str:
    key = ".".join(str(part) for part in location)
    message = _IN_OUR_WORDS.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")
    hidden = (
        item["type"] == "missing" or item["input"] is PydanticUndefined or isinstance(item["input"], (Section, dict))
    )
    given = "" if hidden else f" (given {item['input']!r})"
    if item["type"] == "literal_error":
        given += _nearest_choice(item["ctx"]["expected"], item["input"])
    return f"{key}: {message}{given}" if key else f"{message}{given}"


def _nearest_choice(expected: str, value: Any) -> str:
    """Which choice of pydantic's `'a', 'b' or 'c'` is near to a value, as an end of its message."""
    near = difflib.get_close_matches(str(value), re.findall(r"'([^']*)'", expected), n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else ""
