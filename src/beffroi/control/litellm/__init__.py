# SPDX-License-Identifier: Apache-2.0
"""The administration verbs of a LiteLLM proxy, over the services of Beffroi: scripts that make keys and teams go on working.

In: HTTP as those scripts send it. Out: answers in the shapes that they read.
"""
