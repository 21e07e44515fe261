"""Models and weights: which are in use, what was swapped, and how a shadow compares."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    COUNT,
    ROWS,
    SECONDS,
    SHARE,
    Panel,
    Query,
    Text,
    heat,
    lines,
    listing,
)
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline",component=~"$component"'
_NAME = "{{pipeline}}/{{component}}"
_REFUSED = "AnabranchSwapRefused"
_FAILS, _OLD = "AnabranchRenewalFails", "AnabranchModelOld"
_QUARANTINED = "AnabranchStageQuarantined"
_STEPS_FAIL = "AnabranchWeightStepsFail"
_DRIFT = "AnabranchDrift"


def models(scope: Scope) -> dashboard.Dashboard:
    """Versions, weights, swaps, and shadows and canaries beside their champions."""
    return framed(
        scope,
        "models",
        "models and weights",
        "Which model each component runs, how the stages are weighed, and whether a challenger is "
        "fit to become the champion.",
        [
            ("In use", _in_use()),
            ("Swaps", _swaps()),
            ("Challengers", _challengers()),
            ("Drift", _drift()),
            ("Renewals", _renewals()),
            ("Weights that move", _live()),
        ],
        component=True,
    )


def _in_use() -> list[Panel]:
    running = Text(
        "Models",
        "What each worker runs now. Two versions of one component side by side are a swap under "
        "way, or a worker that refused it.",
        _REFUSED,
    )
    weights = Text(
        "Weights",
        "α of each stage; they sum to 1. A stage whose weight goes to 0 costs time and decides "
        "nothing: leave it out, or train it anew.",
        _REFUSED,
    )
    alpha = f"max by (pipeline, component) (anabranch_weight{{{_CHOSEN}}})"
    return [
        listing(
            running,
            Query(f"anabranch_model_info{{{_CHOSEN}}}"),
            ["endpoint", "namespace", "pod", "container", "model"],
            width=16,
        ),
        lines(weights, SHARE, Query(alpha, _NAME), width=8, stacked=True),
    ]


def _swaps() -> list[Panel]:
    version = Text(
        "Weights version",
        "The weights in use, by the workers of the weighting agent: two curves are two workers "
        "that do not agree. Restart the one that is behind.",
        _REFUSED,
    )
    policy = Text(
        "Policy version",
        "By which thresholds are applied. Two curves are two workers that do not agree.",
        _REFUSED,
    )
    swaps = Text(
        "Swaps",
        "Models and weights that were exchanged while running, or refused. A refusal leaves the "
        "old ones in place: the worker's log says why.",
        _REFUSED,
    )
    newest = 'anabranch_weights_version{pipeline=~"$pipeline"}'
    policies = 'anabranch_policy_version{pipeline=~"$pipeline"}'
    swaps_by_result = f"sum by (pipeline, component, result) (anabranch_swaps_total{{{_CHOSEN}}})"
    return [
        lines(version, COUNT, Query(newest, "{{pipeline}} {{instance}}"), width=8),
        lines(policy, COUNT, Query(policies, "{{pipeline}} {{instance}}"), width=8),
        lines(swaps, COUNT, Query(swaps_by_result, f"{_NAME} {{{{result}}}}"), width=8),
    ]


def _challengers() -> list[Panel]:
    agreement = Text(
        "Shadow: agreement",
        "Share of rows on which the shadow and the champion come to the same. Look at the rows "
        "that flip before it is promoted.",
        _REFUSED,
    )
    difference = Text(
        "Shadow: |Δ signal|",
        "How far the shadow's signal is from the champion's. A band near 0 with few rows above: "
        "the same model but for a few; a wide one: another model, or another input.",
        _REFUSED,
    )
    canary = Text(
        "Canary: rows of each arm",
        "Should stand in the ratio that was asked for. None on the canary: it was refused, or its "
        "worker is down.",
        _REFUSED,
    )
    by = "sum by (pipeline, component, version)"
    rows = f"anabranch_shadow_rows_total{{{_CHOSEN}"
    same = f'{by} (rate({rows},agreement="same"}}[$__rate_interval]))'
    every = f"{by} (rate({rows}}}[$__rate_interval])) > 0"
    gap = f"sum by (le) (rate(anabranch_shadow_difference_bucket{{{_CHOSEN}}}[$__rate_interval]))"
    arms = (
        "sum by (pipeline, component, arm) "
        f"(rate(anabranch_canary_rows_total{{{_CHOSEN}}}[$__rate_interval]))"
    )
    return [
        lines(agreement, SHARE, Query(f"{same} / ({every})", f"{_NAME} {{{{version}}}}"), width=8),
        heat(difference, gap, width=8, unit=COUNT),
        lines(canary, ROWS, Query(arms, f"{_NAME} {{{{arm}}}}"), width=8),
    ]


def _drift() -> list[Panel]:
    found = Text(
        "Drifted",
        "Fields and signals that a monitor finds outside of what is ordinary. `anabranch report` "
        "says since when, how much, and which decisions change.",
        _DRIFT,
    )
    sizes = Text(
        "Distance from training",
        "Population stability index of the newest window, as a share of what is ordinary for it.",
        _DRIFT,
    )
    learning = Text(
        "Days to learn",
        "Until the reference of a field or signal has the days that it takes to judge it.",
        _DRIFT,
    )
    of = "max by (pipeline, series)"
    chosen, name = '{pipeline=~"$pipeline"}', "{{pipeline}} {{series}}"
    share = f"{of} (anabranch_drift_psi{chosen}) / {of} (anabranch_drift_psi_limit{chosen})"
    return [
        lines(found, COUNT, Query(f"{of} (anabranch_drift_found{chosen})", name), width=8),
        lines(sizes, SHARE, Query(share, name), width=8),
        lines(
            learning, COUNT, Query(f"{of} (anabranch_drift_learning_days{chosen})", name), width=8
        ),
    ]


def _renewals() -> list[Panel]:
    step = Text(
        "Renewal: step",
        "1 for the step that the renewal which runs is at; all are 0 while none runs. A contest "
        "waits for outcomes and takes days of events; every other step takes minutes to hours.",
        _FAILS,
    )
    verdicts = Text(
        "Renewals by verdict",
        "How renewals have ended. Lost and undecided ones are in order: what is in service is as "
        "good. Failed ones are not: `anabranch renew --status` says at which step, and why.",
        _FAILS,
    )
    age = Text(
        "Age of models",
        "Event time since the newest event that the model in service was fitted on. Outcomes take "
        "their time, so it is never less than `outcomes: delay`.",
        _OLD,
    )
    steps = 'max by (pipeline, step) (anabranch_renewal_step{pipeline=~"$pipeline"})'
    ended = 'sum by (pipeline, verdict) (anabranch_renewals_total{pipeline=~"$pipeline"})'
    ages = f"max by (pipeline, component) (anabranch_model_age_seconds{{{_CHOSEN}}})"
    return [
        lines(step, COUNT, Query(steps, "{{pipeline}} {{step}}"), width=8),
        lines(verdicts, COUNT, Query(ended, "{{pipeline}} {{verdict}}"), width=8),
        lines(age, SECONDS, Query(ages, _NAME), width=8),
    ]


def _live() -> list[Panel]:
    learned = Text(
        "Learned weights",
        "What the monitor has learned from outcomes, stage by stage. In shadow this is what "
        "weights would be; hold it against the weights in use before it is made active.",
        _STEPS_FAIL,
    )
    losses = Text(
        "Log loss of weights",
        "Mean over known outcomes, in nats: of the weights that decided, of those that were "
        "learned by then, of the trained ones. Learned above trained for days: leave it off.",
        _STEPS_FAIL,
    )
    taken = Text(
        "Quarantined stages",
        "1 for a stage that fails, or says the same of every event: it weighs nothing where "
        "quarantine is active. 1 for days: its component has to be mended.",
        _QUARANTINED,
    )
    chosen = 'pipeline=~"$pipeline"'
    weight = f'max by (pipeline, stage) (anabranch_live_weight{{{chosen},of="learned"}})'
    loss = f"max by (pipeline, of) (anabranch_live_log_loss{{{chosen}}})"
    stages = f"max by (pipeline, stage) (anabranch_stage_quarantined{{{chosen}}})"
    name = "{{pipeline}} {{stage}}"
    return [
        lines(learned, SHARE, Query(weight, name), width=8, stacked=True),
        lines(losses, COUNT, Query(loss, "{{pipeline}} {{of}}"), width=8),
        lines(taken, COUNT, Query(stages, name), width=8),
    ]
