"""Live quality: how good decisions are by their outcomes, window by window.

`quality_watcher` says when which window is judged, `window_quality` judges one, `promises` knows
what the cards of models and weights have promised, `metrics` shows the newest window.
"""

from agents.quality.quality_watcher import QualityWatcher

__all__ = ["QualityWatcher"]
