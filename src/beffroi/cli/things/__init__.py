# SPDX-License-Identifier: Apache-2.0
"""The commands over what is administered: organisations, projects, members, …, in one grammar: `beffroi THINGS VERB`.

In: the command line. Out: what the admin API answers.
"""
