# SPDX-License-Identifier: Apache-2.0
"""Who may do what to which tenant's things: organisations, projects, members, service accounts, AI systems, admin keys."""
