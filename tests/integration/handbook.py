"""The handbook's transactions, and the features that its authors computed from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from models.simulators import LabelledEvent

WINDOWS = (1, 7, 30)
CUSTOMER = [
    f"CUSTOMER_ID_{of}_{days}DAY_WINDOW" for of in ("NB_TX", "AVG_AMOUNT") for days in WINDOWS
]
TERMINAL = [f"TERMINAL_ID_{of}_{days}DAY_WINDOW" for of in ("NB_TX", "RISK") for days in WINDOWS]
CALENDAR = ["TX_DURING_WEEKEND", "TX_DURING_NIGHT"]


def folder() -> Path:
    """Where the data is; skips the test when it is absent."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "handbook"
    place = Path(os.environ.get("ANABRANCH_HANDBOOK", beside))
    if not (place / "features.parquet").is_file():
        pytest.skip(f"no features.parquet in {place}; set ANABRANCH_HANDBOOK to its folder")
    return place


@dataclass(frozen=True)
class Handbook:
    """N transactions from the first one on, in the order of time."""

    ids: NDArray[np.int64]
    times: NDArray[np.datetime64]
    customers: NDArray[np.int64]
    terminals: NDArray[np.int64]
    amounts: NDArray[np.float64]
    frauds: NDArray[np.bool_]
    features: dict[str, NDArray[np.float64]]
    """By column of features.parquet (N,); NaN where the file begins later."""

    @classmethod
    def until(cls, end: date) -> Handbook:
        """The transactions before *end*."""
        place = folder()
        transactions = parquet.read_table(place / "transactions.parquet")
        columns = {name: transactions[name].to_numpy() for name in transactions.column_names}
        reference = parquet.read_table(place / "features.parquet")
        missing = np.full(len(transactions) - len(reference), np.nan)
        features = {
            name: np.concatenate([missing, reference[name].to_numpy()])
            for name in (*CALENDAR, *CUSTOMER, *TERMINAL)
        }
        # Of five pairs of transactions, a customer makes both in one second. The file lists them
        # in no order that counts; the reference counted them in this one.
        counted = np.nan_to_num(features[CUSTOMER[2]])
        order = np.lexsort((columns["TRANSACTION_ID"], counted, columns["TX_DATETIME"]))
        order = order[columns["TX_DATETIME"][order] < np.datetime64(end)]
        return cls(
            columns["TRANSACTION_ID"][order], columns["TX_DATETIME"][order],
            columns["CUSTOMER_ID"][order], columns["TERMINAL_ID"][order],
            columns["TX_AMOUNT"][order], columns["TX_FRAUD"][order].astype(np.bool_),
            {name: values[order] for name, values in features.items()},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    def events(self) -> Iterator[LabelledEvent]:
        """The transactions as events of the card-fraud pipeline, with their labels."""
        times = np.datetime_as_string(self.times, unit="s", timezone="UTC").tolist()
        columns = zip(
            self.ids.tolist(), times, self.customers.tolist(), self.terminals.tolist(),
            self.amounts.tolist(), self.frauds.tolist(), strict=True,
        )  # fmt: skip
        for number, time, customer, terminal, amount, fraud in columns:
            yield LabelledEvent(
                {
                    "transaction_id": str(number), "occurred_at": time,
                    "customer_id": str(customer), "terminal_id": str(terminal), "amount": amount,
                },
                fraud,
            )  # fmt: skip
