# SPDX-License-Identifier: Apache-2.0
"""One-line breakages of the source, each with the test that must turn red (decision D26).

In: nothing. Out: `MUTANTS`. `old` stands exactly once in `file`; where the code moves on, its mutant must move with it.
"""

from typing import NamedTuple

GATEWAY = "src/beffroi/gateway"
UPSTREAM = f"{GATEWAY}/upstream"


class Mutant(NamedTuple):
    """A breakage. `test` is a node id below `tests/`; several are separated by blanks, and one must turn red."""

    name: str
    file: str
    old: str
    new: str
    test: str


ORDER, CUTS, ATTEMPTS = "gateway/test_order.py", "gateway/upstream/test_cuts.py", "gateway/routing/test_attempts.py"
ACCESS, WRONG, BOUNDS = "gateway/test_access.py", "gateway/upstream/test_misbehaviour.py", "gateway/test_bounds.py"
WHOLE, FORMS, SENT = (
    "gateway/upstream/test_plain.py",
    "gateway/upstream/test_dialects.py",
    "gateway/upstream/test_requests.py",
)
WINDOWS, READER, SPOOL = "gateway/quota/test_windows.py", "gateway/test_reader.py", "gateway/journal/test_spool.py"
SHIPPING, ROTATION, KEYRING = (
    "control/test_shipping.py",
    "control/test_rotation.py",
    "src/beffroi/control/keyring.py",
)

MUTANTS = (
    # what must be written before what may leave
    Mutant("no intent", f"{GATEWAY}/flow.py", "await intend(x, house)", "x.attempt += 1",
           f"{ORDER}::test_every_intent_has_one_settlement"),
    Mutant("the intent is not waited for", f"{GATEWAY}/journal/records.py", "        await PAUSE\n", "        _ = PAUSE\n",
           f"{ORDER}::test_no_byte_leaves_for_an_engine_before_its_intent_is_written"),
    Mutant("no settlement", f"{GATEWAY}/flow.py", "record(x, house) ", "x.recorded(None) ",
           f"{ORDER}::test_every_intent_has_one_settlement"),
    Mutant("a failed attempt is not settled", f"{GATEWAY}/flow.py",
           "house.journal.settle(failed_attempt(x, house, failure), None)", "pass",
           f"{ORDER}::test_the_second_attempt_has_an_intent_of_its_own_before_its_engine_hears"),
    Mutant("the last byte before the settlement", f"{GATEWAY}/journal/records.py",
           "    house.journal.settle(_settlement(x, house, x.outcome, x.status, x.code, x.tokens, x.cost), x.recorded)",
           "    x.recorded(None); house.journal.settle(_settlement(x, house, x.outcome, x.status, x.code, x.tokens, x.cost), None)",
           f"{ORDER}::test_the_last_bytes_wait_for_the_settlement"),
    Mutant("served whole though not recorded", f"{GATEWAY}/server.py",
           "if x.begun or not isinstance(error, JournalUnavailable):", "if False:",
           f"{ORDER}::test_what_was_not_recorded_is_not_served_whole"),
    Mutant("no sync", f"{GATEWAY}/journal/sync.py", "os.fdatasync(segment.fd)", "pass",
           f"{SPOOL}::test_a_sync_starts_within_ten_milliseconds_and_never_on_the_loop"),
    Mutant("told before it is written", f"{GATEWAY}/journal/spool.py",
           "        done, error = self._tape.write(frames, self._next - len(frames))",
           "        self._call(thens, None); thens = [None] * len(thens); done, error = self._tape.write(frames, self._next - len(frames))",
           f"{SPOOL}::test_then_runs_after_the_record_is_in_the_file"),
    Mutant("no space held back for settlements", f"{GATEWAY}/journal/spool.py",
           "if self._room - size < (self.open + 1) * MAX_RECORD:", "if self._room - size < 0:",
           f"{SPOOL}::test_space_to_settle_everything_in_flight_is_held_back"),
    Mutant("settlements are heard of before the counters are written", f"{GATEWAY}/journal/spool.py",
           "            self._before_then()", "            pass",
           "gateway/journal/test_turn.py::test_what_else_belongs_to_a_turn_is_done_before_anybody_hears_of_it"),
    # counters
    Mutant("the reservation is not given back", f"{GATEWAY}/quota/admit.py",
           "        house.counters.settle(x.ticket, Used(tokens.input + tokens.cached + made, made, x.cost.total))", "        pass",
           f"{ORDER}::test_counters_are_settled_once_for_every_request_that_was_admitted"),
    Mutant("settled, but not written back", f"{GATEWAY}/quota/counters.py",
           "self._table.give(plan, ticket, tokens, output, cost)", "pass",
           f"{WINDOWS}::test_what_was_estimated_too_high_can_be_used_at_once"),
    Mutant("concurrency is not given back", f"{GATEWAY}/quota/table.py",
           "words[base + RUNNING] = running - 1", "words[base + RUNNING] = running",
           f"{WINDOWS}::test_concurrency_counts_what_is_open"),
    Mutant("a held bound is not given back", f"{GATEWAY}/quota/table.py",
           "words[base + BOUND] = bound - ticket.bound", "pass",
           "gateway/quota/test_budgets.py::test_what_settling_returns_can_be_spent_at_once"),
    Mutant("what is spent is not counted", f"{GATEWAY}/quota/table.py",
           "words[base + SPENT] = spent + cost", "words[base + SPENT] = spent",
           "gateway/quota/test_budgets.py::test_a_total_budget_never_renews"),
    # the bound of a hard budget
    Mutant("a bound for one answer where n are asked", f"{GATEWAY}/quota/admit.py",
           "(bound or most or spec.default_max_tokens) * request.n", "(bound or most or spec.default_max_tokens)",
           f"{BOUNDS}::test_the_bound_is_what_the_page_says"),
    Mutant("no bound is injected", f"{GATEWAY}/quota/admit.py", "if bound is None and must:", "if False:",
           f"{SENT}::test_the_bound_on_an_answer_is_injected_clamped_or_left_out"),
    Mutant("another name undoes the bound", f"{UPSTREAM}/dialect.py", "changes.update(dict.fromkeys(UNDOING))", "pass",
           f"{SENT}::test_no_other_spelling_gets_past_the_bound_of_a_hard_budget"),
    Mutant("reasoning is bound at the price of output", "src/beffroi/core/price.py",
           "return max(self.output, self.reasoning)", "return self.output",
           f"{BOUNDS}::test_no_answer_within_its_limits_costs_more_than_its_bound"),
    # usage and price
    Mutant("usage from the wrong chunk", f"{UPSTREAM}/events.py", "        self.usage = usage\n", "        self.usage = self.usage or usage\n",
           f"{WRONG}::test_the_last_usage_is_the_one_that_counts"),
    Mutant("usage is not hidden", f"{UPSTREAM}/events.py", 'raw = chunk.pop("usage", None)', 'raw = chunk.get("usage")',
           f"{WRONG}::test_the_last_usage_is_the_one_that_counts"),
    Mutant("usage is not asked of the engine", f"{UPSTREAM}/dialect.py", "if request.stream and not request.asked_usage:", "if False:",
           f"{WRONG}::test_a_client_who_did_not_ask_never_sees_the_engines_usage_chunk"),
    Mutant("another usage is shown than billed", f"{UPSTREAM}/stream.py",
           "counted_usage(self.ratios.lowest_input(self.model, len(x.body)), self.counted)", "counted_usage(x.input_estimate, self.counted)",
           f"{WRONG}::test_usage_that_never_comes_is_counted_and_shown_as_billed"),
    Mutant("a cut stream costs nothing", f"{GATEWAY}/flow.py", 'x.relay.counted if x.begun and x.source != "engine" else 0', "0",
           f"{CUTS}::test_after_k_tokens_the_client_has_k_and_pays_for_k"),
    Mutant("the first chunk counts as a token", f"{UPSTREAM}/stream.py", "self.seen += count - (not self.voiced)", "self.seen += count",
           f"{CUTS}::test_after_k_tokens_the_client_has_k_and_pays_for_k"),
    Mutant("price rounded twice", "src/beffroi/core/money.py",
           "return (tokens * nano_per_million + MILLION // 2) // MILLION",
           "return ((tokens * nano_per_million + 500) // 1000 + 500) // 1000",
           "core/test_money.py"),
    Mutant("cached input for nothing", "src/beffroi/core/price.py",
           "amount(cached, price.input if price.cached is None else price.cached) if cached else 0", "0",
           "core/test_price.py::test_cached_input_costs_as_much_as_input_unless_it_is_listed"),
    Mutant("reasoning billed as output", "src/beffroi/core/price.py", "amount(reasoning, price.reasoning)", "amount(reasoning, price.output)",
           "core/test_price.py::test_a_million_tokens_of_each_class_cost_the_listed_price"),
    Mutant("a price before its date", f"{GATEWAY}/quota/admit.py", "always = len(prices) == 1 and not prices[0].effective", "always = len(prices) == 1",
           f"{BOUNDS}::test_a_price_of_tomorrow_is_not_held_and_not_charged_today"),
    # who may ask
    Mutant("any secret will do", f"{GATEWAY}/authn/bearer.py",
           "if pepper is None or not hmac.compare_digest(hashlib.blake2b(token, digest_size=32, key=pepper).digest(), key.hash):",
           "if pepper is None:",
           f"{ACCESS}::test_neither_is_one_whose_public_part_is_right_and_whose_secret_is_not"),
    Mutant("expiry is not checked", f"{GATEWAY}/authn/bearer.py",
           "if key.expires_at is not None and key.expires_at * 1_000_000_000 <= x.wall_ns:", "if False:",
           f"{ACCESS}::test_a_key_lives_until_the_second_it_expires"),
    Mutant("revocation is not looked at", f"{GATEWAY}/authn/bearer.py", "if key.revoked:", "if False:",
           f"{ACCESS}::test_a_revoked_key_is_refused_with_the_next_request"),
    Mutant("revocation is not pushed", "src/beffroi/control/bus.py",
           "        for peer in self._all:\n            peer.send(bus.Delta(delta))", "        pass",
           "gateway/test_link.py::test_a_change_reaches_every_worker_and_returns_when_all_hold_it"),
    Mutant("a gap in the deltas is overlooked", f"{GATEWAY}/house.py", "if delta.revision != self.revision + 1:", "if False:",
           f"{ACCESS}::test_a_delta_that_does_not_follow_is_not_applied"),
    Mutant("any model for any key", f"{GATEWAY}/read.py",
           "if key is not None and key.models is not None and model.spec.id not in key.models:", "if False:",
           f"{ACCESS}::test_a_key_is_let_in_to_its_models_alone"),
    # one reading
    Mutant("repeated keys are not looked for", f"{GATEWAY}/read.py", "if not structure.is_single(body, fields):", "if False:",
           f"{ACCESS}::test_a_body_that_two_readers_could_read_differently_reaches_no_engine"),
    Mutant("keys in another case pass", f"{GATEWAY}/read.py", "structure.check_case(fields)", "pass",
           f"{ACCESS}::test_a_body_that_two_readers_could_read_differently_reaches_no_engine"),
    Mutant("two Hosts", f"{GATEWAY}/reader.py", "elif self.hosts > 1 or (self.hosts == 0 and not x.http10):", "elif self.hosts == 0 and not x.http10:",
           "gateway/test_server_vectors.py"),
    Mutant("both length headers", f"{GATEWAY}/reader.py",
           "elif self.encodings > 1 or self.lengths > 1 or (self.encodings and (self.lengths or x.http10)):",
           "elif self.encodings > 1 or self.lengths > 1:",
           "gateway/test_server_vectors.py"),
    # what a client gets
    Mutant("the engine's id", f"{UPSTREAM}/spelling.py", "return self.renamed(self.common)", "return self.common",
           f"{WRONG}::test_without_done_the_reason_to_end_is_the_end"),
    Mutant("the engine's name of the model in streams", f"{UPSTREAM}/spelling.py",
           "return data.replace(self.old_model, self.new_model) if self.old_model else data", "return data",
           f"{FORMS}::test_a_stream_may_come_byte_by_byte_or_all_at_once"),
    Mutant("the engine's name of the model in answers", f"{UPSTREAM}/plain.py",
           'changes: dict[str, Any] = {"model": x.model.spec.id}', "changes: dict[str, Any] = {}",
           f"{WHOLE}::test_an_answer_gets_our_id_the_public_name_usage_and_backend_and_keeps_the_rest"),
    Mutant("events cut across two writes", f"{UPSTREAM}/stream.py", 'cut = data.rfind(b"\\n\\n") + 2 if b"\\n\\n" in data else 0', "cut = len(data)",
           f"{FORMS}::test_a_stream_may_come_byte_by_byte_or_all_at_once"),
    Mutant("the error event is followed by [DONE]", f"{UPSTREAM}/stream.py",
           "self.out.append(openai_event(error, x.id, self.id, created, self.model, chat=self.chat))",
           "self.out += [openai_event(error, x.id, self.id, created, self.model, chat=self.chat), DONE]",
           f"{CUTS}::test_after_k_tokens_the_client_has_k_and_pays_for_k"),
    Mutant("a traceback is passed on", "src/beffroi/wire/openai/answer.py", "if not message or _INSIDE.search(message):", "if not message:",
           f"{WHOLE}::test_an_engines_complaint_is_passed_on_unless_it_shows_its_inside"),
    Mutant("the engine's own credentials are told of", f"{UPSTREAM}/plain.py", "if status in (401, 403):", "if False:",
           f"{WHOLE}::test_an_engines_error_is_the_requests_fault_or_its_own"),
    Mutant("half a character is passed on", f"{UPSTREAM}/stream.py", "        return False\n    return True\n", "        return True\n    return True\n",
           f"{WRONG}::test_half_a_character_is_never_passed_on"),
    # engines
    Mutant("another engine after the first byte", f"{UPSTREAM}/stream.py", "        if not self.begun:\n            x.resume(self, error)", "        if True:\n            x.resume(self, error)",
           f"{CUTS}::test_a_first_byte_that_was_delivered_is_never_followed_by_another_engine"),
    Mutant("retries without end", f"{GATEWAY}/routing/pool.py", "        if sum(self._retries) >= max(RETRY_FLOOR, RETRY_SHARE * sum(self._requests)):", "        if False:",
           f"{ATTEMPTS}::test_all_engines_failing_get_few_attempts_more_than_requests"),
    Mutant("a failing engine is asked on", f"{GATEWAY}/routing/pool.py", "self.ejected_until = now + self.penalty", "pass",
           f"{ATTEMPTS}::test_three_failures_of_different_requests_leave_an_engine_aside"),
    Mutant("an engine left aside is never tried again", f"{GATEWAY}/routing/pool.py", "if each.ejected_until and each.open(now):", "if False:",
           "gateway/routing/test_pool.py::test_it_is_tried_again_by_one_request_at_a_time"),
    Mutant("an engine that hangs is asked a second time", f"{UPSTREAM}/relay.py", "if not reused or connection.saw_bytes or isinstance(failure, EngineTimeout):", "if not reused or connection.saw_bytes:",
           f"{ATTEMPTS}::test_a_first_token_that_does_not_come_sends_the_request_elsewhere"),
    Mutant("a plain answer that was late is asked for again", f"{GATEWAY}/routing/choose.py", "late_answer = isinstance(failure, EngineTimeout) and not x.request.stream and x.relay is not None", "late_answer = False",
           f"{ATTEMPTS}::test_a_plain_answer_that_does_not_come_in_time_is_not_asked_again"),
    Mutant("the engine goes on when its client has left", f"{GATEWAY}/flow.py", "            x.relay.stop()\n", "            pass\n",
           f"{CUTS}::test_a_client_who_leaves_is_billed_for_what_it_was_sent"),
    Mutant("no back-pressure", f"{UPSTREAM}/stream.py", "            self.connection.pause_reading()", "            pass",
           f"{CUTS}::test_a_slow_reader_pauses_its_engine_and_is_not_late_for_it"),
    # the ledger
    Mutant("a recovered intent stays open, and is billed again", "src/beffroi/control/rows.py", "        self.closed.extend(orphans)\n", "",
           f"{SHIPPING}::test_a_living_boot_keeps_its_open_exchanges"),
    Mutant("the place of shipping is not stored", "src/beffroi/control/shipping.py",
           "                save_places(connection, self._statements.mark, list(haul.places.values()), now)", "                pass",
           f"{SHIPPING}::test_an_exchange_is_joined_across_looks_restarts_and_progress"),
    Mutant("checksums are not compared", "src/beffroi/control/segments.py",
           "        if checksum_of(data[at + _SUMMED_FROM : end]) != checksum:", "        if False:",
           "control/test_damage.py::test_damage_in_the_middle_is_said_aloud_and_the_file_kept"),
    # keys
    Mutant("a successor counts by itself", KEYRING, "new = msgspec.structs.replace(old, **fresh, ",
           "new = msgspec.structs.replace(old, **fresh, slot=old.slot + 1000, ",
           f"{ROTATION}::test_a_successor_may_do_the_same_and_counts_in_the_same_place"),
    Mutant("workers are not told of the old key's end", "src/beffroi/control/keys.py",
           "delta = self._files.append(upsert=(old, new))", "delta = self._files.append(upsert=(new,))",
           f"{ROTATION}::test_the_old_key_ends_after_a_day_unless_told_otherwise"),
    Mutant("a rotation makes a key live longer", KEYRING,
           "ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)", "ends = now + overlap",
           f"{ROTATION}::test_the_old_key_ends_after_a_day_unless_told_otherwise"),
    Mutant("a revoked app keeps the key before", "src/beffroi/control/keys.py",
           "*(old for old in keyring.predecessors(connection, row) if old.revoked or living(old, now))", "*()",
           f"{ROTATION}::test_revoking_a_successor_revokes_what_is_left_of_its_predecessors"),
    Mutant("a budget restored to one key's spending", "src/beffroi/control/budgets.py",
           "totals[slots[key_id]] += int(total)", "totals[slots[key_id]] = int(total)",
           "control/test_budgets.py::test_what_a_key_and_its_successor_spent_is_restored_as_one"),
    # the configuration
    Mutant("a broken configuration is served", "src/beffroi/cli/serve.py", "source = examined.sound()", "source = examined.source",
           "config/test_mutations.py::test_serve_starts_nothing_from_a_broken_file"),
    Mutant("faults of sense hide behind faults of form", "src/beffroi/config/examine.py",
           "        *compiled.problems,\n", "        *([] if reading.problems else compiled.problems),\n",
           "config/test_examine.py::test_form_sense_files_and_environment_are_told_together"),
    Mutant("a secret is shown", "src/beffroi/config/secrets.py", "return reference if reference.startswith((\"env:\", \"file:\")) else MASKED", "return reference",
           "config/test_effective.py::test_a_secret_is_shown_as_the_reference_it_is"),
)  # fmt: skip
