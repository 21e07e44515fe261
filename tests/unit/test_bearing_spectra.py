"""The wide example: its pipeline file, its data, and two stages in one session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.training_data import from_file
from models.component import Batch
from models.estimators import fit, load_estimator
from models.export import export
from models.session import ModelSession
from tests.benchmarks.bearing_spectra import BINS, Levels, spectra, written
from tests.benchmarks.fusing import ASSESSORS, both_in_one, fused, one_after_the_other
from topics.pipeline_file import load_pipeline

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
    peaks = [it[:, 176:272].max(axis=1) / np.median(it[:, 176:272], axis=1) for it in found]
    assert np.median(peaks[1]) > np.median(peaks[0])


def test_two_stages_in_one_session_say_the_same_to_the_bit() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 15)).astype(np.float32)
    labels = x[:, 0] + rng.normal(size=400) > 0
    path, parameters = ASSESSORS["forest of 30"]
    first = export(fit(load_estimator(path, parameters, 1), x, labels), x)
    risk = ModelSession.of(first, Path("first.onnx"))
    signal = risk.signal(x)[:, None]
    second = export(fit(load_estimator(*ASSESSORS["linear"], 1), signal, labels), signal)
    apart = one_after_the_other(risk, ModelSession.of(second, Path("second.onnx")))(x)
    together = both_in_one(fused(first, second))(x)
    assert (apart.view(np.int32) == together.view(np.int32)).all()
