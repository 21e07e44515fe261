"""A path may lead to anything: it is read in bounded time and memory, or refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.commands.models.onnx_import import rows_in
from agents.commands.report_files import ReportNotWritable, check_report_place
from models.data.datasets import read_rows
from models.data.errors import UnreadableDataset
from models.onnx.session import ModelSession, ModelUnreadable
from models.registry.errors import StoreFailed
from models.registry.store import LocalStore
from topics.errors import AnabranchError
from topics.file_content import FileTooLarge, NotAFile, check_file, read_file
from topics.pipeline.file import PipelineFileError, find_pipeline, load_pipeline

HUGE = 1 << 40


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def endless(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def listener(path: Path) -> Path:
    os.chdir(path.parent)  # a socket's whole path may be too long
    socket.socket(socket.AF_UNIX).bind(path.name)
    return path


def vast(path: Path) -> Path:
    """A file of a tebibyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


KINDS = {"pipe": fifo, "device": endless, "folder": folder, "socket": listener}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / "x")
    for step in (lambda: read_file(path, 10), lambda: check_file(path)):
        with pytest.raises(NotAFile, match=f"it is a {kind}, not a file"):
            step()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(FileTooLarge, match="it has more than 4 bytes"):
        read_file(path, 4)
    with pytest.raises(FileTooLarge, match="it has more than 1,024 MiB"):
        read_file(vast(tmp_path / "y"), 1 << 30)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 9)


def test_a_file_that_does_not_say_its_size_is_read_and_bounded() -> None:
    assert read_file("/proc/self/status", 1 << 20).startswith(b"Name:")
    with pytest.raises(FileTooLarge):
        read_file("/proc/self/status", 10)


READERS: dict[str, tuple[str, Callable[[Path], Any], type[AnabranchError]]] = {
    "model": ("x.onnx", ModelSession.open, ModelUnreadable),
    "registry": ("x.onnx", lambda each: LocalStore(each.parent).read(each.name), StoreFailed),
    "rows of a model": ("x.npy", lambda each: rows_in(str(each), ["a"]), UnreadableDataset),
    "pipeline file": (
        "x.yaml",
        lambda each: load_pipeline(find_pipeline(str(each))),
        PipelineFileError,
    ),
    **{
        f"data {suffix}": (
            f"x.{suffix}",
            lambda each: list(read_rows(str(each), columns={}, fields=["a"])),
            UnreadableDataset,
        )
        for suffix in ("csv", "jsonl", "parquet")
    },
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.timeout(20)
def test_no_path_that_is_given_makes_a_command_wait_or_grow(
    tmp_path: Path, reader: str, kind: str
) -> None:
    name, read, error = READERS[reader]
    with pytest.raises(error, match=f"a {kind}"):
        read(KINDS[kind](tmp_path / name))


@pytest.mark.parametrize("reader", ["model", "registry", "pipeline file"])
def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, reader: str) -> None:
    name, read, error = READERS[reader]
    with pytest.raises(error, match="more than"):
        read(vast(tmp_path / name))


def test_a_line_without_an_end_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"[" * (65 << 20))
    with pytest.raises(UnreadableDataset, match=r"x\.jsonl:1: .* a line has more than 64 MiB"):
        list(read_rows(str(path), columns={}, fields=["a"]))


def test_an_array_is_not_believed_to_be_as_long_as_it_says(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 1), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(3, 1)", b"(3000000000, 1)   ")[:128])
    with pytest.raises(UnreadableDataset, match=r"x\.npy"):
        rows_in(str(tmp_path / "x.npy"), ["a"])


def test_a_report_is_not_written_into_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(ReportNotWritable, match="it is a pipe, not a file"):
        check_report_place(fifo(tmp_path / "x.html"))
