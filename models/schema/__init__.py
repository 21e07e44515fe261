"""A pipeline's schema from the columns of a data file, for `anabranch init`.

`sampled_columns` reads the first rows, `inferred_columns` says what each holds, `roles` which name
the event and its time, `label` which is the outcome, `feature_choice` what a column gives; `infer`
does it all.
"""

from models.schema.infer import FieldPlan, InferredSchema, SchemaOptions, infer_schema, slug
from models.schema.sampled_columns import SampledColumns, sample_columns

__all__ = [
    "FieldPlan", "InferredSchema", "SampledColumns", "SchemaOptions", "infer_schema",
    "sample_columns", "slug",
]  # fmt: skip
