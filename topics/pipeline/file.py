"""Reading a pipeline file: every mistake in it with its line and field, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from topics.errors import AnabranchError
from topics.file_content import read_file
from topics.pipeline.checks import Finding, Location, check_graph
from topics.pipeline.policy import Policy
from topics.pipeline.schema import Pipeline
from topics.pipeline.unquoted_words import unquoted
from topics.pipeline.yaml_text import composed

PIPELINES = Path("deploy") / "pipelines"
"""Where `card-fraud` is looked up as `card-fraud.yaml`."""
_MOST_BYTES = 4 << 20
_LONGEST_STALL_TIMEOUT_S = 86_400.0
"""The longest that a pipeline file may name."""


class PipelineFileError(AnabranchError):
    """A pipeline file is wrong; one line per mistake: file, line, field, what to do."""

    def __init__(self, path: Path, problems: list[tuple[int, str, str]]) -> None:
        self.problems = sorted(problems)
        self._lines = [
            f"{path}:{line}: {field + ': ' if field else ''}{message}"
            for line, field, message in self.problems
        ]
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> list[str]:
        """A line for each mistake, however many lines are quoted in it."""
        first, *others = self._lines
        return [f"error: {first}", *others]


class PipelineNotFound(AnabranchError):
    """No pipeline file of that name."""

    def __init__(self, name: str, looked_in: list[Path]) -> None:
        known = sorted(path.stem for folder in looked_in for path in folder.glob("*.yaml"))
        hint = f"; known pipelines: {', '.join(known)}" if known else ""
        super().__init__(f"no pipeline file {name!r}{hint}")


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A pipeline, and where each of its fields stands in the file."""

    path: Path
    pipeline: Pipeline
    lines: Mapping[Location, int]
    content: bytes
    """As it was read: decisions name it by its digest."""
    no_deadline: bool = False
    """Nothing is decided without a stage because that is late or silent, whatever it says."""

    def without_deadline(self) -> PipelineFile:
        """The same file with `no_deadline`.

        A row that a stage fails on goes on without it, as the file says: no waiting mends that.
        """
        weighting = self.pipeline.weighting.model_copy(
            update={"late": "wait", "stall_timeout_s": _LONGEST_STALL_TIMEOUT_S}
        )
        pipeline = self.pipeline.model_copy(update={"weighting": weighting})
        return replace(self, pipeline=pipeline, no_deadline=True)

    def error(self, findings: list[Finding]) -> PipelineFileError:
        """The findings as an error that names this file and the lines."""
        return PipelineFileError(self.path, [_placed(self.lines, finding) for finding in findings])


def find_pipeline(name: str) -> Path:
    """The file of pipeline *name*: a path, or a name under deploy/pipelines."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.exists():
            raise PipelineNotFound(name, [])
        return path
    folders = [PIPELINES, Path(__file__).parents[2] / PIPELINES]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise PipelineNotFound(name, folders[1:])


def load_pipeline(path: Path) -> PipelineFile:
    """Read and check a pipeline file; PipelineFileError names every mistake in it."""
    return pipeline_of(path, _content(path))


def pipeline_of(path: Path, content: bytes, *, looks_up: bool = True) -> PipelineFile:
    """The same of what a file holds, or once held: what it names is looked up beside *path*.

    Unless it *looks_up* nothing, as of a file that anybody may have written.
    """
    if len(content) > _MOST_BYTES:
        raise PipelineFileError(path, [(1, "", f"longer than {_MOST_BYTES:,} bytes")])
    data, lines, twice = _read_yaml(path, content)
    try:
        pipeline = Pipeline.model_validate(data)
    except ValidationError as exc:
        errors = exc.errors()
        words = unquoted(content.decode(), errors)
        findings = [
            words.get(index, Finding(_in_file(error, lines), _message(error)))
            for index, error in enumerate(errors)
        ]
        findings = list(dict.fromkeys(findings))  # a key is wrong in each form that it might have
        raise PipelineFileError(path, [_placed(lines, f) for f in (*twice, *findings)]) from exc
    loaded = PipelineFile(path, pipeline, lines, content)
    if findings := [*twice, *check_graph(pipeline, path.parent if looks_up else None)]:
        raise loaded.error(findings)
    return loaded


def load_policy(path: Path) -> Policy:
    """The policy of a file: what it has below `policy:`, or else all of it.

    Raises PipelineFileError, which names every mistake in it.
    """
    data, lines, twice = _read_yaml(path, _content(path))
    at: Location = ("policy",) if "policy" in data else ()
    twice = [finding for finding in twice if finding.location[: len(at)] == at]
    try:
        policy = Policy.model_validate(data["policy"] if at else data)
    except ValidationError as exc:
        errors = [{**error, "loc": (*at, *error["loc"])} for error in exc.errors()]
        wrong = [Finding(_in_file(error, lines), _message(error)) for error in errors]
        raise PipelineFileError(path, [_placed(lines, each) for each in (*twice, *wrong)]) from exc
    if twice:
        raise PipelineFileError(path, [_placed(lines, each) for each in twice])
    return policy


def _content(path: Path) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as exc:
        raise PipelineFileError(path, [(1, "", f"not readable: {exc.strerror}")]) from exc


def _read_yaml(path: Path, content: bytes) -> tuple[Any, dict[Location, int], list[Finding]]:
    """The file's content, the line of every field in it, and keys that are given twice."""
    try:
        node = composed(content.decode())
        if not isinstance(node, yaml.MappingNode):
            raise PipelineFileError(path, [(1, "", "a pipeline file is a mapping of fields")])
        _check_keys(node)
        lines, twice = dict(_lines(node, ())), list(_duplicate_keys(node, ()))
    except yaml.YAMLError as exc:
        raise _unreadable(path, exc, 1) from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        reason = f"byte 0x{exc.object[exc.start]:02x} is not UTF-8: write the file as UTF-8"
        raise PipelineFileError(path, [(line, "", reason)]) from exc
    return _constructed(path, node), lines, twice


def _constructed(path: Path, node: yaml.MappingNode) -> dict[Any, Any]:
    """The values of a file, field by field, so that a bad one is found at its line."""
    content: dict[Any, Any] = {}
    for key, value in node.value:
        line = value.start_mark.line + 1
        try:
            whole = yaml.MappingNode(node.tag, [(key, value)])
            content.update(yaml.SafeLoader("").construct_document(whole))
        except yaml.YAMLError as exc:
            raise _unreadable(path, exc, line) from exc
        except (ValueError, TypeError) as exc:
            raise PipelineFileError(path, [(line, "", f"not a valid value: {exc}")]) from exc
    return content


def _unreadable(path: Path, exc: yaml.YAMLError, line: int) -> PipelineFileError:
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or " ".join(str(exc).split())
    at = mark.line + 1 if mark is not None else line
    return PipelineFileError(path, [(at, "", f"not readable as YAML: {problem}")])


def _in_file(error: Any, lines: Mapping[Location, int]) -> Location:
    """An error's location without pydantic's own markers, such as which form of a union."""
    at: Location = ()
    for part in error["loc"]:
        if (*at, part) in lines or (error["type"] == "missing" and part == error["loc"][-1]):
            at = (*at, part)
    return at


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return "unknown field" if error["type"] == "extra_forbidden" else message


def _check_keys(node: yaml.Node) -> None:
    """Raise yaml's ConstructorError for a key that is no word."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be a word", key.start_mark)
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)


def _lines(node: yaml.Node, at: Location) -> Iterator[tuple[Location, int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            for location, line in _lines(value, (*at, key.value)):
                if location != (*at, key.value):
                    yield location, line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*at, index))


def _duplicate_keys(node: yaml.Node, at: Location) -> Iterator[Finding]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield Finding((*at, key.value), "is given twice")
            seen.add(key.value)
            yield from _duplicate_keys(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _duplicate_keys(value, (*at, index))


def _placed(lines: Mapping[Location, int], finding: Finding) -> tuple[int, str, str]:
    """Line, field and message of a finding; pydantic's own markers are not in the file."""
    at = finding.location
    while at and at not in lines:
        at = at[:-1]
    shown = finding.location if finding.location[:-1] == at else at
    field = ""
    for part in shown:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    return lines.get(at, 1), field, finding.message
