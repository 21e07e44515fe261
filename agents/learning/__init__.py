"""Weights that move while events flow: learned from outcomes, and without stages that err.

`weights_watcher` is what the monitor feeds, and says what holds; `weights_in_service` is what it
starts from, `weights_step` what it comes to, and puts into service. What is computed is in
`models.live_weights`, the settings are `learning:` and `quarantine:` of the pipeline file.
"""

from agents.learning.weights_watcher import weights_watcher

__all__ = ["weights_watcher"]
