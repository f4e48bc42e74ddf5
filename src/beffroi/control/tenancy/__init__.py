# SPDX-License-Identifier: Apache-2.0
"""Who may do what to which tenant's things: organisations, projects, members, service accounts, AI systems, admin keys.

In: an actor and what it asks. Out: rows of its own organisation, events, and which tenants gateways refuse.
"""
