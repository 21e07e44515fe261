"""What explanations are about: groups of features, each a player of the score.

By default a field of the event is a group: all features that are made of it. Windowed features are
of an entity's past: there is a group of them for each key. `explain: groups:` of a pipeline file
puts features together otherwise; those that it does not name stay in their groups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from topics.pipeline.component_kinds import kind_of

if TYPE_CHECKING:
    from topics.pipeline.schema import ComponentSpec, Pipeline


class GroupedFeature(NamedTuple):
    """What is in a group: a feature of a component, or all that a component says."""

    component: str
    feature: str | None = None
    """None for a component whose output is of nobody knows what: it is a player as a whole."""


class WrongMember(NamedTuple):
    """A word of `explain: groups:` that cannot be there."""

    group: str
    place: int
    message: str


def is_recorded(spec: ComponentSpec) -> bool:
    """Whether an explanation takes the component's output from its topic.

    It does of features and of components of your own; what models say is computed again, and what
    components of your own say that are declared pure.
    """
    return spec.features is not None or not (kind_of(spec).has_model or spec.pure)


def explained_groups(pipeline: Pipeline) -> dict[str, list[GroupedFeature]]:
    """Group → its members; each is in one group. Those of the file come first.

    The pipeline's own groups have been checked, see `wrong_members`.
    """
    groups = defaultdict[str, list[GroupedFeature]](list)
    taken = set[GroupedFeature]()
    for name, words in pipeline.explain.groups.items():
        for word in words:
            members = _meant(pipeline, word)
            groups[name] += members
            taken.update(members)
    for member, default in _default_groups(pipeline).items():
        if member not in taken:
            groups[default].append(member)
    return dict(groups)


def wrong_members(pipeline: Pipeline) -> Iterator[WrongMember]:
    """Every word of the pipeline's groups that names nothing, too much, or the same again."""
    taken: dict[GroupedFeature, str] = {}
    for group, words in pipeline.explain.groups.items():
        for place, word in enumerate(words):
            members = _meant(pipeline, word)
            if message := _wrong(pipeline, word, members):
                yield WrongMember(group, place, message)
                continue
            again = [member for member in members if member in taken]
            if again:
                what = again[0].feature or again[0].component
                where = f"is in {taken[again[0]]!r} already: a feature is in one group"
                yield WrongMember(group, place, f"{what!r} {where}")
            taken.update(dict.fromkeys(members, group))


def _default_groups(pipeline: Pipeline) -> dict[GroupedFeature, str]:
    """All members there are, in the order of the file, and the group that each is in by default."""
    groups: dict[GroupedFeature, str] = {}
    for spec in pipeline.components:
        if not is_recorded(spec):
            continue
        if spec.features is None:
            groups[GroupedFeature(spec.name)] = f"output of {spec.name}"
        for feature in spec.features or ():
            windowed = feature.over is not None
            default = f"past of {pipeline.entity(spec.name)}" if windowed else feature.of
            groups[GroupedFeature(spec.name, feature.name)] = default
    return groups


def _meant(pipeline: Pipeline, word: str) -> list[GroupedFeature]:
    """The members that a word of a group stands for."""
    members = [*_default_groups(pipeline)]
    of_component = [member for member in members if member.component == word]
    return of_component or [
        member for member in members if word in (member.feature, f"{member[0]}.{member[1]}")
    ]


def _wrong(pipeline: Pipeline, word: str, members: Sequence[GroupedFeature]) -> str | None:
    components = _by_component(members)
    if len(components) > 1:
        names = " or ".join(f"{name}.{word}" for name in components)
        return f"{word!r} is a feature of several components: say {names}"
    if members:
        return None
    if word in {spec.name for spec in pipeline.components}:
        return f"{word!r} is computed from other components: name the features that it reads"
    known = [member.feature or member.component for member in _default_groups(pipeline)]
    return f"no feature {word!r}; known: {', '.join(dict.fromkeys(known))}"


def _by_component(members: Sequence[GroupedFeature]) -> Mapping[str, Sequence[GroupedFeature]]:
    by_component = defaultdict[str, list[GroupedFeature]](list)
    for member in members:
        by_component[member.component].append(member)
    return by_component
