"""What a person wrote, as text of a Compose file."""

from __future__ import annotations

from topics.pipeline import scalar


def compose_scalar(value: str) -> str:
    """*value* as YAML of a Compose file, which would put a variable in place of $NAME.

    >>> compose_scalar("costs/$HOME")
    'costs/$$HOME'
    """
    return scalar(value.replace("$", "$$"))


def compose_mount(source: str, target: str) -> str:
    """A folder of the host for a container to read, whatever characters are in its name.

    >>> compose_mount("./a:b", "/pipelines")
    "{type: bind, source: './a:b', target: /pipelines, read_only: true}"
    """
    return (
        f"{{type: bind, source: {compose_scalar(source)}, target: {scalar(target)}, "
        "read_only: true}"
    )
