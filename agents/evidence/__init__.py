"""Evidence packs: all that led to one decision in one file, and the proof that it did.

`collector` puts a pack together, of entries that `contents` names; `archive` is the file, to the
byte, `manifest` its list of digests with the `environment` that it was made in, `packed_record` a
Kafka record in it. `verifier` says whether a pack is whole, by `rederivation` whether what is in it
comes to what was decided; `errors` say why there is none.
"""

from agents.evidence.archive import write_archive
from agents.evidence.collector import EvidenceCollector
from agents.evidence.errors import PackExists, PackUnreadable
from agents.evidence.verifier import Verification, verify_pack

__all__ = [
    "EvidenceCollector",
    "PackExists",
    "PackUnreadable",
    "Verification",
    "verify_pack",
    "write_archive",
]
