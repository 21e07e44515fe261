"""The table of a component's variants, as a model's card and `--json` have it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

FP32 = "fp32"
"""The variant that is the model itself."""


class _TablePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Speed(_TablePart):
    """Processor time of one variant, at each batch size and over all."""

    us_per_row: dict[int, float]
    """Batch size → microseconds a row, median."""
    ratio: dict[int, float]
    """Batch size → median ratio to fp32 in the same round; below 1 is faster."""
    overall: float
    """Median over the rounds of the geometric mean of the ratios over the batch sizes."""
    low: float
    """Where that median lies with 95 % confidence: from here …"""
    high: float
    """… to here."""


class Losses(_TablePart):
    """What a variant costs, on rows that it was not calibrated on."""

    rows: int
    max_delta: float
    """Largest difference of a signal to that of fp32."""
    auc: float
    auc_loss: float
    """AUC ROC of fp32 minus that of the variant; negative for a gain."""
    average_precision: float
    ap_loss: float
    flips: int
    """Decisions of the whole pipeline that are others with this variant in place."""
    moving_rows: int
    """Of `compared_rows`, those whose bits depend on the batch around them; must be 0."""
    compared_rows: int


class Variant(_TablePart):
    """One row of the table."""

    name: str
    bytes: int | None = None
    """Size of the file; None for a variant that could not be made."""
    memory: int | None = None
    """Bytes that a process grows by when it opens and runs the model; None if not known here."""
    speed: Speed | None = None
    losses: Losses | None = None
    eligible: bool = False
    """Within the pipeline's tolerances, with bits that do not depend on the batch."""
    faster: bool = False
    """Than fp32, beyond noise."""
    no_op: bool = False
    """Nothing is worked out in another way than in fp32."""
    words: list[str] = []
    """What it does, what rules it out, what it is not."""


class ComponentVariants(_TablePart):
    """The variants of one component's model."""

    component: str
    version: int
    """The version that they were made of."""
    digest: str
    noise: float
    """How far fp32 seems to be from itself here: |ratio - 1|, with 95 % confidence."""
    variants: list[Variant]
    chosen: str
    """`fp32` when nothing is both eligible and faster."""
    registered: int | None = None
    """The new version, with --apply."""

    def variant(self, name: str) -> Variant:
        """The row called *name*; KeyError when there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)


class FusionResult(_TablePart):
    """Components that the pipeline fuses: their models one by one, and in one session."""

    components: list[str]
    speed: Speed | None = None
    """Of the one session; ratios are to the models one by one, whose bits it gives."""
    refused: str | None = None
    """Why there is no such session."""


class OptimiseReport(_TablePart):
    """What `anabranch models optimise` found."""

    pipeline: str
    rows: int
    """Held-out rows that everything was judged on."""
    calibration_rows: int
    machine: str
    components: list[ComponentVariants]
    fused: list[FusionResult] = []
    """As they are without variants; only for a pipeline as a whole."""
    flips_together: int
    """Decisions that are others with all chosen variants in place at once."""
    seconds: float
