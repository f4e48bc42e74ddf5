# SPDX-License-Identifier: Apache-2.0
"""What is said when a revocation has not reached every machine: which, since when it is silent, and what to do.

In: the replicas that are late. Out: the error that names them.
"""

from beffroi.control.fleet.replicas import Replica
from beffroi.core.errors import NotAcknowledged


def unheard_of(done: str, late: list[Replica], fleet: int) -> NotAcknowledged:
    """Args: what is done, and where; the replicas that have not confirmed it; how many there are."""
    those = ", ".join(f"{one.id} on {one.address}, last heard of {one.silent:.0f} s ago" for one in late)
    return NotAcknowledged(
        f"{done}, but {len(late)} of {fleet} replicas ({those}) have not confirmed it. One that has lost the database honours "
        "the key until it has it again, or until `server.trust_keys` is over; see to that machine, and once nothing serves "
        "there any more take it off with `beffroi fleet forget`",
        retry_after=1,
    )
