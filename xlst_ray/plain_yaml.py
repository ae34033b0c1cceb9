"""YAML without its traps: the plain values of version 1.2, and no key twice in a mapping.

In version 1.1, which PyYAML reads, `no` (Norwegian) is false, `1e-3` a text, `010` eight and `2024-01-01` a date.
"""

import re
from typing import Any, Final

import yaml

_PLAIN_VALUES: Final = (  # (tag, pattern, characters that such a value may begin with); all else is text
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML document; null where it is empty.

    Raises:
        ValueError: no YAML, or a key twice; the message says where.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        context = "" if error.context is None else f"{error.context}, "
        raise ValueError(f"{context}{error.problem}{place}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    by_first_character: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for name, pattern, beginnings in _PLAIN_VALUES:
        for character in beginnings:
            rule = f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$")
            by_first_character.setdefault(character, []).append(rule)
    return by_first_character


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in names:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            names.add(key.value)
        return node
