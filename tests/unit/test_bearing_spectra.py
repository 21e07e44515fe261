"""The wide example: its pipeline file and its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.commands.labelled_events import from_file
from models.component import Batch
from tests.benchmarks.bearing_spectra import BINS, Levels, spectra, written
from topics.pipeline.file import load_pipeline

PIPELINE = Path(__file__).parents[1] / "benchmarks" / "bearing-spectra.yaml"


def test_its_file_is_what_its_pipeline_reads(tmp_path: Path) -> None:
    pipeline = load_pipeline(PIPELINE).pipeline
    written(tmp_path / "spectra.parquet", 400, seed=3)
    data = from_file(pipeline, str(tmp_path / "spectra.parquet"))
    assert data.columns["spectrum"].shape == (400, BINS)
    assert 0.04 < data.labels.mean() < 0.18
    made = Levels().transform(Batch(400, columns=data.columns))
    assert made.output.shape == (400, BINS)
    assert (made.signal >= 0).all()
    assert (made.signal <= 1).all()


def test_only_damage_strikes_around_the_resonance() -> None:
    found = [spectra(np.random.default_rng(1), np.full(300, damaged)) for damaged in (False, True)]
    peaks = [each[:, 176:272].max(axis=1) / np.median(each[:, 176:272], axis=1) for each in found]
    assert np.median(peaks[1]) > np.median(peaks[0])
