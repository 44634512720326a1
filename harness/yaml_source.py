"""Driver. A YAML file as plain values with their places, read so that nothing in it can surprise or hurt.

1. Every scalar stays the text that a person wrote: ``1.10`` and ``2026-11-04`` are strings. Only an empty plain scalar,
   ``~`` and ``null`` are None. What a text means is decided by the type that receives it.
2. Duplicate keys, tags, merge keys and tabs as indentation are problems; so is what makes a file a bomb (size, depth,
   count of values, aliases of aliases).
3. Problems are collected, each with its file, line and column, and told together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from harness.errors import InputError

#: PyYAML's own two: its Python reader's and its C reader's.
Mark: TypeAlias = "yaml.error.Mark | yaml._yaml.Mark"
#: What a file may contain, once read.
Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"
#: Where a value lies in a file: keys and list indexes from the top.
Location: TypeAlias = "tuple[str | int, ...]"

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000

#: Problems that one report shows.
MAX_SHOWN = 100

_MAP = "tag:yaml.org,2002:map"
_SEQ = "tag:yaml.org,2002:seq"
_STR = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "<<"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(slots=True)
class Problems:
    """Everything that is wrong with a file and the files that it refers to."""

    found: dict[tuple[Place, str], None] = field(default_factory=dict)

    def add(self, place: Place, text: str) -> None:
        """Note one problem; the same one at the same place counts once."""
        self.found[place, text] = None

    def raise_if_any(self, file: str) -> None:
        """Raise all problems as one error about the file that a person named.

        Raises:
            InputError: There is at least one problem. ``detail`` has one problem a line, sorted by place; the first
                hundred are shown.
        """
        if not self.found:
            return
        ordered = sorted(self.found, key=lambda problem: (problem[0].file != file, problem))
        others = len({place.file for place, _ in ordered} - {file})
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        where = f" or {'a file' if others == 1 else f'{others} files'} that it refers to" if others else ""
        lines = [f"{place}: {text}" for place, text in ordered[:MAX_SHOWN]]
        more = len(ordered) - MAX_SHOWN
        raise InputError(
            f"{file}{where} has {count}.",
            detail="\n".join([*lines, *([f"... and {more} more"] if more > 0 else [])]),
            hint="Nothing was started; correct the lines above and run the command again.",
        )


@dataclass(frozen=True, slots=True)
class _Marked:
    """Where a value begins, and where the key before it does (the value's own place for a list's item)."""

    value: Place
    key: Place


class Source:
    """One file that was read: its data, and the place of every value in it."""

    def __init__(self, path: Path, data: Value, marks: dict[Location, _Marked]) -> None:
        self.path = path
        self.file = display(path)
        self.data = data
        self._marks = marks

    def at(self, *location: str | int, key: bool = False) -> Place:
        """Give the place of a value, or of the key before it; of its nearest holder when it is not in the file.

        Parts that name no key of the file (a validator's own) are passed over.
        """
        found: Location = ()
        for part in location:
            longer = (*found, part)
            if longer in self._marks:
                found = longer
        mark = self._marks[found]
        return mark.key if key else mark.value

    def get(self, *location: str | int) -> Value:
        """Give a value by its location; None when the file has none there."""
        value = self.data
        for part in location:
            match value:
                case dict() if part in value:
                    value = value[str(part)]
                case list() if isinstance(part, int) and part < len(value):
                    value = value[part]
                case _:
                    pass
        return value

    def beside(self, relative: str) -> Path:
        """Give the path of something that the file names relative to itself."""
        return self.path.parent / relative


def display(path: Path) -> str:
    """Give a path as people call it: relative to the current folder when it lies below."""
    absolute = path.absolute()
    clean = Path(*_without_dots(absolute))
    here = Path.cwd()
    return str(clean.relative_to(here)) if clean.is_relative_to(here) else str(clean)


def _without_dots(path: Path) -> Iterator[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        else:
            parts.append(part)
    return iter(parts)


def read_source(path: Path, problems: Problems, *, asked_at: Place | None = None) -> Source | None:
    """Read a YAML file.

    Args:
        path: Any path that a person wrote.
        problems: Takes what is wrong.
        asked_at: Where another file names this one; a file that cannot be opened is a problem of that place.

    Returns:
        The file; None when it could not be read, and ``problems`` then says why.

    Source:
        YAML 1.1 as PyYAML 6 composes it. Section 5.2 allows a byte order mark; we refuse it, because tools that
        write one often write the rest in another encoding too.
    """
    file = display(path)
    raw = _read_bytes(path, problems, asked_at or Place(file), is_named_elsewhere=asked_at is not None)
    if raw is None:
        return None
    text = _decode(raw, file, problems)
    if text is None:
        return None
    try:
        node = _Composer(text).get_single_node()
    except _TooMuch as error:
        problems.add(_place(file, error.mark), error.text)
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(_place(file, mark), _syntax_text(error, text, mark))
        return None
    except yaml.YAMLError as error:  # the reader's: a character that YAML does not allow
        problems.add(_position(file, text, getattr(error, "position", 0)), "a control character; YAML allows text only")
        return None
    if node is None:
        problems.add(Place(file), "the file is empty")
        return None
    reading = _Reading(file, problems)
    data = reading.value(node, ())
    return Source(path, data, reading.marks)


def _read_bytes(path: Path, problems: Problems, place: Place, *, is_named_elsewhere: bool) -> bytes | None:
    name = f"the file '{display(path)}'" if is_named_elsewhere else "the file"
    try:
        if path.exists() and not path.is_file():
            problems.add(place, f"{name} is a folder or a device, not a YAML file")
            return None
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.add(place, f"{name} does not exist")
        return None
    except (OSError, ValueError) as error:
        problems.add(place, f"{name} cannot be read ({getattr(error, 'strerror', None) or error})")
        return None
    if len(raw) > MAX_BYTES:
        problems.add(place, f"{name} is larger than {MAX_BYTES >> 20} MiB")
        return None
    return raw


def _decode(raw: bytes, file: str, problems: Problems) -> str | None:
    if raw.startswith(_UTF16_BOMS):
        problems.add(Place(file), "the file is UTF-16; save it as UTF-8")
        return None
    if raw.startswith(_UTF8_BOM):
        problems.add(Place(file), "the file begins with a byte order mark (BOM); save it as UTF-8 without one")
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = Place(file, before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1)
        problems.add(place, f"the file is not UTF-8{_looks_like(raw)}; save it as UTF-8")
        return None


def _looks_like(raw: bytes) -> str:
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        return ""
    return "; it looks like CP949 (Korean Windows)" if any("가" <= c <= "힣" for c in text) else ""


def _place(file: str, mark: Mark | None) -> Place:
    if mark is None:
        return Place(file)
    return Place(file, mark.line + 1, mark.column + 1)


def _position(file: str, text: str, position: int) -> Place:
    before = text[:position]
    return Place(file, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _syntax_text(error: yaml.MarkedYAMLError, text: str, mark: Mark | None) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return "a tab indents this line; YAML wants spaces"
    said = " ".join((error.problem or error.context or "it does not parse").split())
    if "expected a single document" in (error.context or ""):
        return "the file has more than one YAML document ('---'); write one"
    if "undefined alias" in said or "duplicate anchor" in said:
        return said
    return f"not YAML: {said}"


class _TooMuch(yaml.YAMLError):
    """The file is nested or large beyond what a person writes."""

    def __init__(self, mark: Mark | None, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


class _Composer(yaml.SafeLoader):
    """Composes nodes with limits on depth and count, and guesses no types."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, object]]] = {}  # noqa: RUF012 - PyYAML's own class attribute

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one value, as PyYAML does, unless there are too many or they lie too deep."""
        self._count += 1
        self._depth += 1
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise _TooMuch(event.start_mark, f"nested more than {MAX_DEPTH} levels deep")
        if self._count > MAX_VALUES:
            raise _TooMuch(event.start_mark, f"more than {MAX_VALUES} values in one file")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reading:
    """Nodes -> values and places. Aliases are followed, and what they multiply is counted."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._open: set[int] = set()
        self._count = 0
        self.marks: dict[Location, _Marked] = {}

    def value(self, node: yaml.Node, location: Location, key: Place | None = None) -> Value:
        place = _place(self._file, node.start_mark)
        self.marks[location] = _Marked(place, key or place)
        self._count += 1
        if id(node) in self._open:
            self._problems.add(place, "an anchor that contains itself")
            return None
        if self._count > MAX_VALUES:
            self._problems.add(Place(self._file), f"aliases multiply to more than {MAX_VALUES} values; write them out")
            return None
        if len(self._open) > MAX_DEPTH:
            self._problems.add(place, f"aliases nest more than {MAX_DEPTH} levels deep")
            return None
        self._open.add(id(node))
        try:
            return self._by_kind(node, location, place)
        finally:
            self._open.discard(id(node))

    def _by_kind(self, node: yaml.Node, location: Location, place: Place) -> Value:
        if node.tag not in {_MAP, _SEQ, _STR, _NULL}:
            self._problems.add(place, f"the tag '{node.tag}'; tags are not used here")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        text = str(node.value)
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return None if node.tag == _NULL or (is_plain and text in {"", "~", "null"}) else text

    def _mapping(self, node: yaml.MappingNode, location: Location) -> Value:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            place = _place(self._file, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add(place, "a key must be plain text")
                continue
            name = str(key_node.value)
            if name == _MERGE:
                self._problems.add(place, "merge keys (<<) are not used here; write the keys out")
            elif name in result:
                first = self.marks[(*location, name)].key
                self._problems.add(place, f"the key '{name}' is here twice; the first is at line {first.line}")
            else:
                result[name] = self.value(value_node, (*location, name), place)
        return result
