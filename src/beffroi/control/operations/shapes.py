# SPDX-License-Identifier: Apache-2.0
"""Long work as the admin API has it.

In: nothing. Out: structs.
"""

from typing import Any

import msgspec


class Work(msgspec.Struct, frozen=True):
    """Long work.

    Attributes:
        state: `running`, `done`, `failed`.
        progress: 0 to 100.
        result: of what is done; fault: `code` and `detail` of what failed.
    """

    id: str
    organisation: str
    kind: str
    state: str
    progress: int
    result: Any
    fault: Any
    created_by: str
    created_at: int
    updated_at: int
