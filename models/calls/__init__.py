"""Components that ask another system: what the pipeline file's `calls:` does.

`calling_component` runs one over a batch, `questions` makes the calls about it in threads,
`answer_cache` keeps what was answered.
"""

from models.calls.calling_component import CallingComponent

__all__ = ["CallingComponent"]
