# SPDX-License-Identifier: Apache-2.0
"""The limits that there are, as options of `keys`, `quotas` and `tiers` say them.

In: nothing. Out: their names, what heads a column, a sentence for each.
"""

LIMITS = {
    "requests_per_minute": ("requests/min", "Most requests in any minute."),
    "requests_per_hour": ("requests/h", "Most requests in any hour."),
    "requests_per_day": ("requests/day", "Most requests in any 24 hours."),
    "tokens_per_minute": ("tokens/min", "Most tokens, in and out, in any minute."),
    "input_tokens_per_minute": ("input/min", "Most input tokens in any minute."),
    "input_tokens_per_hour": ("input/h", "Most input tokens in any hour."),
    "input_tokens_per_day": ("input/day", "Most input tokens in any 24 hours."),
    "output_tokens_per_minute": ("output/min", "Most output tokens in any minute."),
    "output_tokens_per_hour": ("output/h", "Most output tokens in any hour."),
    "output_tokens_per_day": ("output/day", "Most output tokens in any 24 hours."),
    "concurrency": ("at once", "Most requests at once."),
}
BUDGETS = {
    "hard_budget": "Money per period that is never passed, such as 10.50.",
    "soft_budget": "Money per period after which requests are refused.",
    "monthly_cap": "Money per calendar month that is never passed, beside the budgets.",
}
PERIODS = ("day", "month", "total")
