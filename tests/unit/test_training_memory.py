"""How much memory a training will need is known before its rows are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import TooManyRows
from models.training import training_memory
from models.training.training_memory import bytes_a_row, check_memory, free_bytes, rows_about
from tests.unit.test_training import card_fraud


def test_rows_of_a_text_file_are_guessed_from_its_first_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,amount\n" + "".join(f"t{row:07d},12.50\n" for row in range(200_000)))
    assert rows_about(str(path)) == pytest.approx(200_001, rel=0.001)
    (tmp_path / "empty.csv").touch()
    assert rows_about(str(tmp_path / "empty.csv")) is None
    assert rows_about("-") is None


def test_rows_of_parquet_are_those_of_its_footer(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    assert rows_about(str(tmp_path / "a.parquet")) == 3


def test_more_rows_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = card_fraud()
    monkeypatch.setattr(training_memory, "free_bytes", lambda: 1000 * bytes_a_row(pipeline))
    check_memory(pipeline, 1000, "a.csv")
    check_memory(pipeline, 1100, "a.csv", held=1100)
    with pytest.raises(TooManyRows, match=r"a\.csv: about 4,000 rows need .* at most 1,000 rows"):
        check_memory(pipeline, 4000, "a.csv")
    monkeypatch.setattr(training_memory, "free_bytes", lambda: None)
    check_memory(pipeline, 10**12, "nobody knows")


def test_free_memory_is_never_more_than_the_machine_has() -> None:
    found = free_bytes()
    assert found is None or 0 <= found < 2**50
