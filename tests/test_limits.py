"""Every limit is reached by a test: here stands by which. A new limit gets a row, or this fails."""

import ast
import re
from pathlib import Path

import pytest

from statebacked.model import limits

TESTS = Path(__file__).parent

# Its number may be the product's (a policy, a setting) in a test with a smaller one; that it is this one is
# asserted by core/test_bounds.py and by the default values of PoolPolicy, ApiSettings and Egress.
REACHED_BY = {
    "NAME_CHARACTERS_MAX": "api/test_machines.py::test_a_bad_machine_name_is_refused",
    "CONTEXT_BYTES_MAX": "e2e/test_bad_machines.py::test_a_context_up_to_the_limit_is_taken",
    "BUNDLE_GZIPPED_BYTES_MAX": "api/test_versions.py::test_code_over_the_limits_is_too_large",
    "BUNDLE_BYTES_MAX": "api/test_versions.py::test_code_over_the_limits_is_too_large",
    "SOURCE_MAP_BYTES_MAX": "api/test_source_maps.py::test_a_map_is_stored_up_to_its_limit",
    "SOURCE_MAP_FILE_CHARACTERS_MAX": (
        "api/test_source_maps.py::test_a_source_root_counts_as_part_of_the_name"
    ),
    "EVENT_BODY_BYTES_MAX": "api/test_edge.py::test_a_body_over_its_limit_is_413",
    "EVENT_BODY_DEPTH_MAX": "api/test_wire.py::test_a_body_is_at_most_64_deep",
    "NUMBER_CHARACTERS_MAX": "api/test_wire.py::test_a_number_has_at_most_1000_characters",
    "JSON_BODY_BYTES_MAX": "api/test_edge.py::test_a_body_over_its_limit_is_413",
    "MIGRATION_BODY_BYTES_MAX": (
        "api/test_migrations.py::test_the_code_may_come_along_as_noise_in_the_first_request"
    ),
    "FORM_BODY_BYTES_MAX": "api/test_keys.py::test_a_bad_exchange_is_told_in_the_standards_words",
    "HEADERS_BYTES_MAX": "api/test_edge.py::test_headers_over_their_limit_are_431",
    "REQUEST_FRAMING_BYTES_MAX": (
        "api/test_connections.py::test_what_is_not_a_body_is_bounded_and_ends_the_connection"
    ),
    "REQUEST_HEAD_MS": "api/test_connections.py::test_a_head_has_10_seconds_from_the_connection_on",
    "PIPELINED_REQUESTS_MAX": (
        "api/test_connections.py::test_a_flood_of_pipelined_requests_ends_the_connection"
    ),
    "CONNECTIONS_PER_ADDRESS_MAX": (
        "api/test_connections.py::test_an_address_has_a_limited_number_of_connections"
    ),
    "QUERY_PARAMETERS_MAX": "api/test_edge.py::test_a_query_has_at_most_100_parameters",
    "BODY_READ_MS": "api/test_bodies.py::test_a_body_that_never_comes_ends_with_its_time",
    "UPLOAD_READ_MS": "api/test_bodies.py::test_a_body_that_never_comes_ends_with_its_time",
    "UPLOAD_PARTS_MAX": "api/test_versions.py::test_a_form_that_is_none_is_refused",
    "UPLOAD_FIELD_BYTES_MAX": "api/test_versions.py::test_a_form_that_is_none_is_refused",
    "UPLOADS_PENDING_MAX": "api/test_versions.py::test_an_org_has_a_limited_number_of_unfinished_uploads",
    "UPLOAD_EXPIRES_MS": "api/test_versions.py::test_an_upload_expires",
    "UPLOAD_SWEPT_MS": "store/conformance_catalogue.py::test_pending_uploads_are_swept_after_an_hour",
    "DRY_RUN_MS": "engine/test_rehearsal.py::test_a_page_ends_in_time_with_what_was_judged",
    "DRY_RUN_INSTANCES_MAX": "api/test_upgrades.py::test_a_dry_run_is_refused_like_a_wish",
    "TOKEN_BYTES_MAX": "auth/test_jwt.py::test_the_size_of_a_token_is_limited",
    "AUTH_CONTEXT_BYTES_MAX": "auth/test_context.py::test_depth_and_size_have_a_limit",
    "AUTH_CONTEXT_DEPTH_MAX": "auth/test_context.py::test_depth_and_size_have_a_limit",
    "TOKEN_LEEWAY_S": "api/test_keys.py::test_a_cached_token_ends_when_it_expires",
    "TOKEN_CACHE_ENTRIES_MAX": "auth/test_cache.py::test_the_oldest_entry_makes_room",
    "TOKEN_CACHE_MS": "api/test_keys.py::test_a_cached_token_ends_when_it_expires",
    "AUTH_REVISION_SEEN_MS": ("auth/test_cache.py::test_a_token_is_found_while_its_revision_was_seen_lately"),
    "MINTED_TOKEN_BYTES_MAX": "auth/test_exchange.py::test_the_longest_ids_fit_into_a_token",
    "SESSION_ID_CHARACTERS_MAX": "auth/test_exchange.py::test_a_sid_is_a_string_of_1_to_128_characters",
    "ANONYMOUS_TOKEN_S": "api/test_keys.py::test_an_anonymous_token_ends_with_its_day_and_leeway",
    "RT_TOKEN_GRACE_S": "api/test_socket.py::test_a_minted_token_is_taken_a_day_past_its_end_here_only",
    "IDEMPOTENCY_KEY_CHARACTERS_MAX": "api/test_lifecycle.py::test_a_key_is_at_most_255_characters",
    "IDEMPOTENCY_ANSWER_BYTES_MAX": (
        "api/test_lifecycle.py::test_a_repeat_gets_the_newest_state_where_the_answer_was_too_large_to_keep"
    ),
    "IDEMPOTENCY_MS": "api/test_lifecycle.py::test_answers_and_dead_letters_are_kept_for_their_time",
    "DEAD_LETTER_MS": "api/test_lifecycle.py::test_answers_and_dead_letters_are_kept_for_their_time",
    "DEAD_LETTERS_PER_ORG_MAX": (
        "store/test_dead_letters.py::test_over_the_count_of_an_org_heads_are_kept_and_at_last_nothing"
    ),
    "DEAD_LETTER_BYTES_PER_ORG_MAX": (
        "store/test_dead_letters.py::test_over_the_bytes_of_an_org_a_head_is_kept_and_a_short_one_still_whole"
    ),
    "DEAD_LETTER_HEADS_PER_ORG_MAX": (
        "store/test_dead_letters.py::test_over_the_count_of_an_org_heads_are_kept_and_at_last_nothing"
    ),
    "DEAD_LETTER_TYPE_CHARACTERS_MAX": (
        "store/test_dead_letters.py::test_a_head_has_the_type_of_its_event_cut_to_its_limit_and_nothing_else"
    ),
    "READINESS_SEEN_MS": (
        "api/test_instances.py::test_a_server_with_an_obstacle_is_not_ready_and_looks_once_a_second"
    ),
    "PAGE_ROWS_DEFAULT": "api/test_machines.py::test_pages_are_of_a_hundred_and_make_up_the_whole_list",
    "PAGE_ROWS_MAX": "api/test_machines.py::test_a_limit_is_1_to_1000",
    "MAILBOX_ENVELOPES_MAX": "core/test_mailbox.py::test_the_mailbox_is_bounded_for_all",
    "MAILBOX_BYTES_MAX": "core/test_mailbox.py::test_the_bytes_that_wait_are_bounded",
    "MAILBOX_PER_AUTH_CONTEXT_MAX": "core/test_mailbox.py::test_one_caller_may_not_fill_the_mailbox",
    "MAILBOX_PER_SERVICE_MAX": (
        "core/test_services.py::test_a_service_that_floods_the_mailbox_is_stopped_and_owed_an_error"
    ),
    "MAILBOX_INSIDE_BYTES_MAX": (
        "core/test_bounds.py::test_services_that_send_more_bytes_than_wait_at_once_are_stopped"
    ),
    "DELIVERY_ATTEMPTS_MAX": "core/test_timers.py::test_the_last_attempt_leaves_a_dead_letter",
    "STEP_MESSAGES_MAX": "e2e/test_bad_machines.py::test_what_throws_or_is_too_much_never_happened",
    "STEP_SPAWNS_MAX": (
        "runtime/test_children_xstate5.py::test_a_step_has_at_most_so_many_children_and_messages"
    ),
    "STEP_TIMER_OPERATIONS_MAX": "e2e/test_bad_machines.py::test_what_throws_or_is_too_much_never_happened",
    "STEP_MICROSTEPS_MAX": "runtime/test_worker_xstate5.py::test_a_raise_without_end_is_refused",
    "INSTANCE_SERVICES_MAX": "runtime/test_worker_protocol.py::test_too_many_effects_are_refused",
    "INSTANCE_TIMERS_MAX": (
        "e2e/attacks/test_bombs.py::test_an_instance_has_ten_thousand_timers_and_no_more"
    ),
    "INSTANCE_TIMERS_HELD_MAX": (
        "engine/test_bells.py::test_of_an_instance_with_many_the_rest_is_left_to_the_store_and_read_behind_the_held_ones"
    ),
    "ORG_TIMERS_HELD_MAX": (
        "engine/test_bells.py::test_an_org_holds_so_many_and_is_read_anew_when_half_of_them_are_gone"
    ),
    "INSTANCE_UNDELIVERED_MAX": "core/test_bounds.py::test_sent_events_above_the_bound_refuse_their_event",
    "RECIPIENT_MESSAGES_UNDER_WAY_MAX": (
        "engine/test_turns.py::test_a_recipient_that_hangs_keeps_nothing_from_others_of_its_org"
    ),
    "ORG_MESSAGES_UNDER_WAY_MAX": (
        "engine/test_turns.py::test_an_org_whose_recipients_hang_keeps_nothing_from_others"
    ),
    "INSTANCE_UNASKED_STEPS_PER_S": (
        "core/test_fairness.py::test_a_burst_begins_at_once_and_what_follows_waits_for_its_share"
    ),
    "INSTANCE_UNASKED_STEPS_BURST": (
        "core/test_fairness.py::test_a_pause_fills_the_bucket_no_further_than_its_burst"
    ),
    "INSTANCE_THROTTLED_MS": (
        "core/test_fairness.py::test_an_instance_without_rest_is_throttled_after_a_minute_and_its_owner_told_once"
    ),
    "SPAWN_DEPTH_MAX": "core/test_bounds.py::test_descendants_stand_only_so_deep",
    "ORG_SPAWNS_PER_MINUTE": (
        "engine/test_buckets.py::test_an_org_spawns_a_burst_at_once_and_then_so_many_a_minute"
    ),
    "ORG_SPAWNS_BURST": (
        "engine/test_buckets.py::test_an_org_spawns_a_burst_at_once_and_then_so_many_a_minute"
    ),
    "FRAME_STEP_BYTES_MAX": "runtime/test_protocol.py::test_a_frame_that_breaks_the_protocol_is_told",
    "FRAME_BYTES_MAX": "runtime/test_protocol.py::test_only_a_step_may_be_long",
    "WORKER_HEAP_MB": "e2e/attacks/test_force.py::test_it_is_refused_and_its_instance_goes_on",
    "WORKER_RESIDENT_MB_MAX": "runtime/test_watchdog.py::test_a_worker_above_its_memory_is_killed",
    "WORKER_GROUP_MB_MAX": (
        "runtime/test_cgroups.py::test_a_burst_of_memory_is_ended_by_the_kernel_and_told_as_the_workers_own_doing"
    ),
    "WORKER_TASKS_MAX": "runtime/test_cgroups.py::test_threads_are_bounded",
    "UNASKED_BYTES_MAX": (
        "runtime/test_worst_inputs.py::test_all_workers_together_are_heard_for_a_bounded_time_between_two_looks"
    ),
    "WORKER_UNASKED_BYTES_MAX": (
        "runtime/test_pool.py::test_a_worker_that_says_too_much_is_heard_later_and_in_full"
    ),
    "LOG_LINE_BYTES_MIN": "logs/test_capture.py::test_an_empty_line_counts_as_much_as_a_short_one",
    "LOG_LINE_BYTES_MAX": "logs/test_capture.py::test_an_entry_is_no_longer_than_a_line_may_be",
    "LOG_INSTANCE_MINUTE_BYTES_MAX": (
        "logs/test_capture.py::test_an_instance_over_its_minute_is_cut_short_and_one_line_says_so"
    ),
    "LOG_ORG_DAY_BYTES_MAX": (
        "logs/test_capture.py::test_an_org_over_its_day_is_cut_short_and_others_are_not"
    ),
    "LOG_QUEUE_BYTES_MAX": "logs/test_capture.py::test_a_full_queue_drops_lines_and_says_how_many",
    "LOG_BATCH_ENTRIES_MAX": (
        "logs/test_capture.py::test_a_millisecond_takes_a_batch_of_entries_and_no_more"
    ),
    "LOG_ROWS_LOOKED_AT_MAX": (
        "store/conformance_logs.py::test_a_read_looks_at_no_more_than_its_share_and_says_how_far"
    ),
    "LOG_STREAMS_MAX": "api/test_log_streams.py::test_a_server_has_so_many_streams_and_no_more",
    "LOG_STREAMS_PER_ORG_MAX": "api/test_log_streams.py::test_an_org_has_so_many_streams_and_no_more",
    "LOG_STREAM_HEARTBEAT_MS": "api/test_log_streams.py::test_a_session_that_lost_its_role_ends_its_stream",
    "LOG_STREAM_STALLED_MS": (
        "api/test_log_streams.py::test_a_slow_reader_costs_a_page_and_a_stalled_one_is_closed"
    ),
    "FETCHES_PER_INSTANCE_MAX": (
        "runtime/test_fetch_real.py::test_sixteen_requests_of_an_instance_may_be_under_way"
    ),
    "FETCHES_PER_WORKER_MAX": (
        "runtime/test_fetch_real.py::test_sixty_four_requests_of_a_machine_may_be_under_way"
    ),
    "FETCHES_PER_ORG_MAX": (
        "runtime/test_fetches.py::test_an_org_and_a_server_have_so_many_under_way_and_get_them_back"
    ),
    "FETCHES_MAX": (
        "runtime/test_fetches.py::test_an_org_and_a_server_have_so_many_under_way_and_get_them_back"
    ),
    "FETCH_BODY_BYTES_MAX": "egress/test_client.py::test_a_body_may_have_the_limit_and_not_a_byte_more",
    "FETCH_HEADERS_BYTES_MAX": "egress/test_client.py::test_headers_that_are_none_are_refused",
    "FETCH_HEADER_LINES_MAX": "egress/test_worst_inputs.py::test_many_short_lines_are_too_many",
    "FETCH_INTERIM_ANSWERS_MAX": "egress/test_worst_inputs.py::test_interim_answers_are_counted",
    "FETCH_GZIP_MEMBERS_MAX": "egress/test_worst_inputs.py::test_empty_members_are_counted",
    "FETCH_WIRE_BYTES_MAX": "egress/test_worst_inputs.py::test_an_answer_is_bounded_as_it_is_sent",
    "FETCH_HEADERS_MS": "egress/test_client.py::test_headers_that_do_not_end_are_given_up",
    "FETCH_REDIRECTS_MAX": "egress/test_client.py::test_the_sixth_redirect_is_one_too_many",
    "FETCH_REPLAY_BYTES_MAX": "egress/test_client.py::test_a_long_body_is_not_sent_twice",
    "FETCH_WINDOW_BYTES": "runtime/test_fetches.py::test_an_answer_comes_no_faster_than_it_is_taken",
    "FETCH_CHUNK_BYTES_MAX": "egress/test_client.py::test_packed_bodies_are_unpacked_in_small_pieces",
    "SOCKETS_MAX": "api/test_socket.py::test_a_server_has_a_limited_number_of_sockets",
    "SOCKETS_PER_ADDRESS_MAX": "api/test_socket.py::test_an_address_has_a_limited_number_of_sockets",
    "SOCKETS_UNAUTHENTICATED_PER_ADDRESS_MAX": (
        "api/test_socket.py::test_strangers_have_fewer_and_an_ipv6_network_is_one_address"
    ),
    "SOCKET_PIECE_BYTES_MAX": "api/test_worst_inputs.py::test_a_read_full_of_frames_is_taken_in_pieces",
    "SOCKET_IDLE_FRAMES_MAX": "api/test_worst_inputs.py::test_frames_without_a_message_end_the_socket",
    "SOCKET_IDLE_FRAMES_MS": "api/test_worst_inputs.py::test_frames_without_a_message_end_the_socket",
    "SOCKET_SUBSCRIPTIONS_MAX": "api/test_realtime.py::test_a_socket_has_a_limited_number_of_subscriptions",
    "SOCKET_MESSAGE_CHARACTERS_MAX": "api/test_realtime.py::test_the_tenth_malformed_frame_hangs_up",
    "SOCKET_MESSAGES_PER_S_MAX": (
        "api/test_socket.py::test_messages_are_read_at_once_up_to_a_burst_and_then_at_a_pace"
    ),
    "SOCKET_MESSAGES_BURST": (
        "api/test_socket.py::test_messages_are_read_at_once_up_to_a_burst_and_then_at_a_pace"
    ),
    "SOCKET_OUT_BYTES_MAX": "api/test_socket.py::test_a_slow_reader_misses_states_and_gets_the_newest",
    "SOCKET_STALLED_MS": "api/test_socket.py::test_a_reader_that_makes_no_progress_is_closed_with_1013",
    "SOCKET_SILENCE_MS": (
        "api/test_socket.py::test_a_socket_that_is_silent_for_ten_minutes_is_closed_with_1001"
    ),
    "SOCKET_MALFORMED_FRAMES_MAX": "api/test_realtime.py::test_the_tenth_malformed_frame_hangs_up",
    "MACHINE_INDEXES_MAX": "api/test_machines.py::test_a_machine_has_a_bounded_number_of_indexes",
    "INDEX_SELECTOR_CHARACTERS_MAX": "core/test_indexes.py::test_a_selector_is_short",
    "INDEX_VALUE_BYTES_MAX": "runtime/test_receipt.py::test_a_step_that_breaks_a_rule_is_refused",
    "INSTANCE_INDEX_VALUES_MAX": "runtime/test_receipt.py::test_a_step_that_breaks_a_rule_is_refused",
    "INDEX_ROWS_EXAMINED_MAX": "engine/test_readable.py::test_no_more_rows_are_looked_at_than_the_limit",
    "INDEX_STATES_BYTES_MAX": (
        "engine/test_readable.py::test_a_page_ends_where_its_states_get_too_large_for_a_frame"
    ),
    "PRINTABLE_NAME_CHARACTERS_MAX": "api/test_keys.py::test_an_orgs_name_is_printable",
    "CURSOR_CHARACTERS_MAX": "api/test_cursors.py::test_a_damaged_cursor_is_refused",
    "WAITING_CONNECTIONS_MAX": "e2e/test_restarts.py::test_connections_wait_while_there_is_no_server",
    "SERVER_START_ATTEMPTS_MAX": (
        "serve/test_supervisor.py::test_a_server_that_crashes_before_it_is_ready_is_tried_a_few_times"
    ),
    "SERVER_RESTART_FIRST_MS": (
        "serve/test_supervisor.py::test_a_server_that_crashes_before_it_is_ready_is_tried_a_few_times"
    ),
    "SERVER_RESTART_LONGEST_MS": "serve/test_supervisor.py::test_pauses_double_up_to_the_longest",
    "SERVER_QUICK_FAILURE_MS": "serve/test_supervisor.py::test_pauses_double_up_to_the_longest",
    "SERVER_STOP_GRACE_MS": (
        "serve/test_supervisor.py::test_a_server_that_does_not_stop_in_its_time_is_killed"
    ),
}


def test_every_limit_has_a_test_that_reaches_it() -> None:
    assert REACHED_BY.keys() == {name for name in vars(limits) if name.isupper()}


@pytest.mark.parametrize("place", sorted({*REACHED_BY.values()}))
def test_the_tests_that_are_named_exist(place: str) -> None:
    file, _, name = place.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    functions = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert name in functions


def test_what_a_limit_is_answered_with_is_an_error_that_is_documented() -> None:
    reference = TESTS.parent / "docs" / "reference"
    known = set(
        re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", (reference / "errors.md").read_text(), re.MULTILINE)
    )
    named = set(re.findall(r"(\d{3}) `([a-z-]+)`", (reference / "limits.md").read_text()))
    assert named <= known
