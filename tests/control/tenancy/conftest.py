# SPDX-License-Identifier: Apache-2.0
"""A database that is empty but for two organisations, `a` and `b`, with the projects `p` and `q`; on both backings."""

import pytest
from sqlalchemy import Engine

from beffroi.control.tenancy import organisations, projects
from beffroi.control.tenancy.scope import EVERY, SOCKET, acting
from beffroi.control.tenancy.shapes import OrganisationAsk, ProjectAsk


@pytest.fixture
def engine(emptied: Engine) -> Engine:
    """The two organisations and nothing else."""
    with acting(emptied, SOCKET, EVERY) as scope:
        for organisation in ("a", "b"):
            organisations.create(scope, OrganisationAsk(name="Same", id=organisation))
            with scope.within(organisation) as inner:
                for project in ("p", "q"):
                    projects.create(inner, ProjectAsk(name="Same", id=project))
    return emptied
