# SPDX-License-Identifier: Apache-2.0
"""The commands over what is administered: organisations, projects, members, …, in one grammar: `beffroi THINGS VERB`."""
