"""Who owns which partition number, also while workers of two versions are side by side."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from hypothesis import given
from hypothesis import strategies as st

from topics.transport.assignor import PartitionNumberAssignor

Assignment = Mapping[str, Mapping[str, list[int]]]


class Cluster(ClusterMetadata):  # type: ignore[misc]  # aiokafka has no types
    """Topics with so many partitions."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        super().__init__()
        self._counts = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._counts[topic])) if topic in self._counts else None


def assigned(topics: Mapping[str, int], members: Mapping[str, list[str]]) -> Assignment:
    subscriptions = {who: PartitionNumberAssignor.metadata(read) for who, read in members.items()}
    found = PartitionNumberAssignor.assign(Cluster(topics), subscriptions)
    assert found.keys() == members.keys()
    return {who: dict(each.assignment) for who, each in found.items()}


def test_all_topics_of_a_partition_number_go_to_one_member() -> None:
    found = assigned({"a": 4, "b": 4}, {"m1": ["a", "b"], "m2": ["a", "b"]})
    assert found == {"m1": {"a": [0, 1], "b": [0, 1]}, "m2": {"a": [2, 3], "b": [2, 3]}}


def test_what_only_others_read_waits_for_an_owner_that_reads_it() -> None:
    found = assigned({"a": 4, "b": 4, "new": 4}, {"old": ["a", "b"], "young": ["a", "b", "new"]})
    assert found["old"] == {"a": [0, 1], "b": [0, 1]}
    assert found["young"] == {"a": [2, 3], "b": [2, 3], "new": [2, 3]}


def test_more_members_than_partitions_leave_some_with_nothing() -> None:
    found = assigned({"a": 2}, {f"m{number}": ["a"] for number in range(5)})
    owners = [who for who, topics in found.items() if topics]
    assert len(owners) == 2


def test_a_topic_that_does_not_exist_is_nobodys() -> None:
    assert assigned({"a": 1}, {"m": ["a", "gone"]}) == {"m": {"a": [0]}}


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), min_size=1),
    st.dictionaries(
        st.text("mn12", min_size=1, max_size=3), st.lists(st.sampled_from("abcdex")), min_size=1
    ),
)
def test_every_number_that_somebody_reads_has_one_owner(
    topics: dict[str, int], members: dict[str, list[str]]
) -> None:
    found = assigned(topics, members)
    owners: dict[int, set[str]] = {}
    for who, owned in found.items():
        for topic, partitions in owned.items():
            assert topic in members[who]
            assert set(partitions) <= set(range(topics[topic]))
            for number in partitions:
                owners.setdefault(number, set()).add(who)
    read = {topic for topics_read in members.values() for topic in topics_read} & topics.keys()
    wanted = {number for topic in read for number in range(topics[topic])}
    assert owners.keys() == wanted
    assert all(len(each) == 1 for each in owners.values())
    for number, (who,) in owners.items():
        for topic in set(members[who]) & topics.keys():
            assert (number in found[who].get(topic, [])) == (number < topics[topic])
