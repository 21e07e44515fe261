"""This installation among others: `agents`, `models` and `topics` are names that others use too.

`own_packages` starts the command line with our packages, whatever lies beside the pipeline file or
was installed; `user_modules` imports what a pipeline file names from a user's folders, also from
one that is called like ours.
"""

from topics.installation.own_packages import main
from topics.installation.user_modules import imported_attribute

__all__ = ["imported_attribute", "main"]
