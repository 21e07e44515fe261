"""The commands of the runbooks as Compose and Kubernetes take them, below each block of plain ones.

    python -m deploy.runbook_lines

writes them anew; a test says when they are stale. In the plain lines, what stands behind two spaces
and a # is what the answer shows, with … for what is between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from agents.manifests.alerts.runbooks import runbook_files

_BLOCK = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)
_BEGIN, _END = "<!-- elsewhere -->", "<!-- here again -->"
_WRITTEN = re.compile(rf"\n{_BEGIN}\n.*?\n{_END}\n", re.DOTALL)

_AUDIT = "docker compose run --rm --no-deps{tty} audit {words}"
_EXEC = "kubectl -n NAMESPACE exec deployment/PIPELINE-audit -- {line}"


class Line(NamedTuple):
    """A plain command of a page, and what its answer shows."""

    command: str
    shows: list[str]
    """In this order."""


class _Elsewhere(NamedTuple):
    """The same on Compose and on Kubernetes."""

    compose: str
    kubernetes: str


def plain(page: str) -> list[list[Line]]:
    """The blocks of plain commands of a page, without those that are written from them."""
    blocks = _BLOCK.findall(_WRITTEN.sub("", page))
    return [[_line(text) for text in block.splitlines()] for block in blocks]


def _line(text: str) -> Line:
    command, _, shows = text.strip().partition("  # ")
    return Line(command.strip(), [word.strip() for word in shows.split("…") if word.strip()])


def written(page: str) -> str:
    """The page with the lines for Compose and Kubernetes below each block."""
    return _BLOCK.sub(lambda block: block[0] + _below(block[0]), _WRITTEN.sub("", page))


def _below(block: str) -> str:
    lines = [_line(text).command for text in block.splitlines()]
    same = [each for each in map(elsewhere, lines) if each is not None]
    if not same:
        return ""
    compose = "\n".join(dict.fromkeys(f"    {each.compose}" for each in same))
    kubernetes = "\n".join(dict.fromkeys(f"    {each.kubernetes}" for each in same))
    return f"\n{_BEGIN}\nIn Compose:\n\n{compose}\n\nOn Kubernetes:\n\n{kubernetes}\n{_END}\n"


def elsewhere(line: str) -> _Elsewhere | None:
    """*line* for Compose and for Kubernetes; None for what runs beside the source tree or data."""
    command, pipe, rest = line.partition(" | ")
    for pattern, forms in _FORMS:
        if match := re.fullmatch(pattern, command):
            same = forms(match, " -T" if pipe else "")
            return None if same is None else _Elsewhere(*(f"{form}{pipe}{rest}" for form in same))
    raise ValueError(f"nobody knows how Compose and Kubernetes run {command!r}")


# -- what each command is there


_Forms = Callable[[re.Match[str], str], _Elsewhere | None]


def _run(match: re.Match[str], _tty: str) -> _Elsewhere:
    """The worker of a component, also where one hangs."""
    component = match["component"]
    return _Elsewhere(
        f"docker compose up -d --no-deps --force-recreate {component}",
        f"kubectl -n NAMESPACE rollout restart statefulset/PIPELINE-{component}",
    )


def _another(match: re.Match[str], _tty: str) -> _Elsewhere:
    """One more worker of a component, beside those that run: on a port that theirs leave free."""
    component = match["component"]
    more = '{"spec":{"minReplicaCount":3}}'
    return _Elsewhere(
        f"docker compose up -d --no-deps --no-recreate --scale {component}=3 {component}",
        f"kubectl -n NAMESPACE patch scaledobject PIPELINE-{component} --type merge -p '{more}'",
    )


def _train(match: re.Match[str], _tty: str) -> _Elsewhere:
    words = re.sub(r"\b(FILE|LATER)\b", r"/data/\1", match["words"])
    return _Elsewhere(
        f"docker compose run --rm --no-deps train train {words}",
        "kubectl -n NAMESPACE create job --from=cronjob/PIPELINE-train train-now",
    )


def _create(_match: re.Match[str], _tty: str) -> _Elsewhere:
    return _Elsewhere(
        "docker compose run --rm --no-deps topics topics PIPELINE --create",
        "kubectl -n NAMESPACE apply -k OVERLAY",
    )


def _asked(match: re.Match[str], tty: str) -> _Elsewhere:
    """What the operator asks or says: in Compose by the audit's container."""
    return _Elsewhere(_AUDIT.format(tty=tty, words=match["words"]), _EXEC.format(line=match[0]))


def _health(_match: re.Match[str], _tty: str) -> _Elsewhere:
    asked = "python -IS /opt/anabranch/healthcheck.py 9464"
    return _Elsewhere(
        f"docker compose exec COMPONENT {asked}",
        f"kubectl -n NAMESPACE exec PIPELINE-COMPONENT-0 -- {asked}",
    )


def _gateway(_match: re.Match[str], _tty: str) -> _Elsewhere:
    """The gateway, started again."""
    return _Elsewhere(
        "docker compose up -d --no-deps --force-recreate gateway",
        "kubectl -n NAMESPACE rollout restart deployment/PIPELINE-gateway",
    )


def _another_gateway(_match: re.Match[str], _tty: str) -> _Elsewhere:
    more = '{"spec":{"minReplicas":4}}'
    asked = "gateway PIPELINE --host 0.0.0.0 --port 8080 --without-keys"
    return _Elsewhere(
        f"docker compose run -d --no-deps --publish=127.0.0.1:8081:8080 gateway {asked}",
        "kubectl -n NAMESPACE patch horizontalpodautoscaler PIPELINE-gateway --type merge "
        f"-p '{more}'",
    )


def _of_gateway(match: re.Match[str], _tty: str) -> _Elsewhere:
    """What its metrics port says."""
    asked = f"python -IS /opt/anabranch/healthcheck.py 9464 /{match['path']}"
    return _Elsewhere(
        f"docker compose exec gateway {asked}",
        f"kubectl -n NAMESPACE exec deployment/PIPELINE-gateway -- {asked}",
    )


def _gateway_log(_match: re.Match[str], _tty: str) -> _Elsewhere:
    return _Elsewhere(
        "docker compose logs --tail 100 gateway",
        "kubectl -n NAMESPACE logs deployment/PIPELINE-gateway --tail 100",
    )


def _log(_match: re.Match[str], _tty: str) -> _Elsewhere:
    return _Elsewhere(
        "docker compose logs --tail 100 COMPONENT",
        "kubectl -n NAMESPACE logs statefulset/PIPELINE-COMPONENT --tail 100",
    )


def _processes(_match: re.Match[str], _tty: str) -> _Elsewhere:
    return _Elsewhere(
        "docker compose ps --all",
        "kubectl -n NAMESPACE get pods -l app.kubernetes.io/part-of=PIPELINE",
    )


def _kafka(match: re.Match[str], _tty: str) -> _Elsewhere:
    command, words = match["command"], match["words"]
    inside = words.replace("HOST:PORT", "kafka:19092")
    return _Elsewhere(
        f"docker compose exec kafka /opt/kafka/bin/{command} {inside}",
        f"kubectl -n KAFKA exec BROKER-POD -- bin/{command} {words}",
    )


def _nowhere_else(_match: re.Match[str], _tty: str) -> None:
    """It wants the source tree, or the producers' data."""


_FORMS: tuple[tuple[str, _Forms], ...] = (
    (r"anabranch run PIPELINE --component (?P<component>\S+) --metrics-port 9464", _run),
    (r"anabranch run PIPELINE --component (?P<component>\S+) --metrics-port 9474", _another),
    (r"anabranch gateway PIPELINE --metrics-port 9464", _gateway),
    (r"anabranch gateway PIPELINE --port 8081 --metrics-port 9474", _another_gateway),
    (r"anabranch train (?P<words>.*)", _train),
    (r"anabranch topics PIPELINE --create", _create),
    (r"anabranch publish .*", _nowhere_else),
    (r"anabranch (?P<words>.*)", _asked),
    (r"curl -s http://GATEWAY:9464/(?P<path>\w+)", _of_gateway),
    (r"tail -n 100 GATEWAY\.log", _gateway_log),
    (r"curl -s http://WORKER:9464/healthz", _health),
    (r"tail -n 100 WORKER\.log", _log),
    (r"pgrep -af 'anabranch run'", _processes),
    (r"(?P<command>kafka-[a-z-]+\.sh) (?P<words>.*)", _kafka),
    (r"promtool .*", _nowhere_else),
)


def main() -> None:
    """Write all pages anew."""
    for page in runbook_files():
        page.write_text(written(page.read_text()))


if __name__ == "__main__":
    main()
