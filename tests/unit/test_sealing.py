"""A card that was changed in any byte, cut off or moved is refused; older cards are read."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from models.registry.card_files import StoredModel, StoredWeights, opened, sealed
from models.registry.registry import CardUnreadable, ModelCorrupt, Registry, digest_of
from tests.unit.registry_cards import CARD, WEIGHTS

STORED = StoredModel(of="risk@3", digest=digest_of(b"model"), card=CARD)


def test_a_card_is_json_with_the_digest_of_the_rest_in_its_first_line(tmp_path: Path) -> None:
    content = sealed(STORED)
    first, rest = content.split(b"\n", 1)
    assert json.loads(content)["card_digest"] == digest_of(rest)
    path = tmp_path / "card.json"
    path.write_bytes(content)
    shell = f"tail -n +2 {path} | sha256sum"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=True, text=True).stdout
    assert done.split()[0].encode() in first


def test_a_sealed_card_is_opened() -> None:
    assert opened(sealed(STORED), "risk@3", StoredModel, "card.json") == STORED


def test_a_flipped_bit_anywhere_is_found() -> None:
    content = sealed(STORED)
    for place in range(len(content)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(content)
            changed[place] ^= bit
            with pytest.raises(CardUnreadable, match=r"^card\.json is not readable"):
                opened(bytes(changed), "risk@3", StoredModel, "card.json")


def test_a_card_that_is_cut_off_anywhere_is_found() -> None:
    content = sealed(STORED)
    for length in range(len(content)):
        with pytest.raises(CardUnreadable):
            opened(content[:length], "risk@3", StoredModel, "card.json")


def test_a_card_that_lost_its_first_line_is_no_older_card() -> None:
    rest = b"{" + sealed(STORED).split(b"\n", 1)[1]
    with pytest.raises(CardUnreadable):
        opened(rest, "risk@3", StoredModel, "card.json")
    weights = b"{" + sealed(StoredWeights(of="@weights@1", card=WEIGHTS)).split(b"\n", 1)[1]
    with pytest.raises(CardUnreadable):
        opened(weights, "@weights@1", StoredWeights, "weights.json")


@pytest.mark.parametrize("place", ["other/1", "risk/2"])
def test_a_card_that_was_moved_is_found(tmp_path: Path, place: str) -> None:
    registry = Registry(tmp_path)
    for component in ("risk", "other"):
        registry.add("p", component, b"model", CARD)
    (tmp_path / "p" / place).mkdir(exist_ok=True)
    shutil.copy(tmp_path / "p/risk/1/card.json", tmp_path / "p" / place / "card.json")
    component, version = place.split("/")
    with pytest.raises(CardUnreadable, match=f"the card of risk@1, not of {component}@{version}"):
        registry.get("p", component, int(version))


def test_a_card_that_names_a_file_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        StoredModel(of="risk@3", digest="sha256:../../other", card=CARD)


def test_versions_of_before_there_were_digests_of_cards_are_read(tmp_path: Path) -> None:
    version = tmp_path / "p" / "risk" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(b"model")
    card = CARD.model_dump(
        include={
            "estimator", "parameters", "inputs", "n_inputs", "rows", "data_hash", "created_at",
            "metrics", "libraries", "variant", "parent",
        }
    )  # fmt: skip
    (version / "card.json").write_text(json.dumps({"digest": digest_of(b"model"), "card": card}))
    registry = Registry(tmp_path)
    found = registry.latest("p", "risk")
    assert found.card == CARD
    assert found.read() == b"model"
    assert found.probe() is None
    assert registry.add("p", "risk", b"newer", CARD).version == 2
    (version / "model.onnx").write_bytes(b"modeL")
    with pytest.raises(ModelCorrupt, match=r"risk/1/model\.onnx was changed"):
        registry.get("p", "risk", 1).read()


def test_weights_of_before_there_were_digests_of_cards_are_read(tmp_path: Path) -> None:
    version = tmp_path / "p" / "@weights" / "4"
    version.mkdir(parents=True)
    card = WEIGHTS.model_dump(exclude={"parent", "note"})
    (version / "weights.json").write_text(json.dumps(card))
    assert Registry(tmp_path).weights("p").card == WEIGHTS
    assert Registry(tmp_path).add_weights("p", WEIGHTS).version == 5
