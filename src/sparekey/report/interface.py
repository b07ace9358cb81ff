"""What an output format is: a module here with `NAME` and the functions of the subjects that it offers.

A subject is rendered by a function of its name, which yields text: `audit(Audit, RenderOptions)`,
`plan(Plan, RenderOptions)`, `run(RunRecord, RenderOptions)`, `runs(tuple[RunRecord, ...], RenderOptions)`,
`root_keys((tuple[RootKeys, ...], now), RenderOptions)` and `usage(tuple[Usage, ...], RenderOptions)`. A format that
lacks one of them does not offer it. `NAME` is the module's own name.
"""

from typing import Literal

from sparekey.model import Value

Subject = Literal["audit", "plan", "run", "runs", "root_keys", "usage"]


class RenderOptions(Value, frozen=True):
    """How it is wanted: columns, whether colour is shown, whether what passes is. Files get the defaults.

    `brief` asks for the closing lines only: of a run, how it ended and what to do next (`undo`: how its undo ended); of
    an audit, the counts.

    `region` is where finding formats say that the finding is; empty for the partition's first.
    """

    width: int = 100
    color: bool = False
    show_all: bool = False
    brief: bool = False
    undo: bool = False
    region: str = ""


DEFAULT_OPTIONS = RenderOptions()
