"""Which tests of the suite hold each row, beside the side-by-side one here."""

from __future__ import annotations

PROCESSES = "tests/processes"
CHAOS = "tests/chaos"
CORE = "tests/unit/worker/test_core.py"

HELD_BY: dict[int, tuple[str, ...]] = {
    1: (
        f"{CHAOS}/test_outages.py::test_a_receive_that_is_never_answered_stops_neither_its_queue_nor_others",
        f"{CHAOS}/test_frozen_consumer.py::test_a_frozen_consumer_is_replaced_and_work_goes_on",
    ),
    2: (
        f"{CHAOS}/test_outages.py::test_work_goes_on_soon_after_recovery_and_nothing_is_lost_or_run_twice",
        f"{CHAOS}/test_outages.py::test_nothing_is_left_on_any_queue_and_no_process_was_started_anew",
        f"{CHAOS}/test_outages.py::test_a_queue_that_is_well_notices_nothing",
    ),
    3: (
        f"{PROCESSES}/test_leases.py::test_a_task_of_many_leases_starts_once_and_costs_a_renewal_for_a_third_of_a_lease",
        f"{PROCESSES}/test_leases.py::test_when_its_machine_is_gone_a_task_starts_elsewhere_within_a_lease_and_five_seconds",
    ),
    4: (
        f"{CHAOS}/test_bounds.py::test_a_short_delay_is_kept_to_the_second_and_holds_no_message",
        "tests/unit/worker/test_eta_fleet.py::test_each_runs_once_on_time_and_nothing_is_in_flight_meanwhile",
    ),
    5: (
        f"{PROCESSES}/test_stop.py::test_sigterm_lets_running_tasks_finish_and_gives_the_rest_back",
        f"{PROCESSES}/test_signals_by_state.py::test_a_signal_loses_nothing_whoever_gets_it_and_whatever_state_a_message_is_in",
        f"{CORE}::test_a_stop_gives_back_only_after_the_open_poll_has_returned",
    ),
    6: (
        f"{PROCESSES}/test_fate.py::test_a_native_retry_is_the_same_message_until_sqs_takes_it_away",
        f"{PROCESSES}/test_fate.py::test_a_task_that_used_up_its_own_retries_is_moved_at_once",
    ),
    7: (
        f"{PROCESSES}/test_hostile.py::test_a_task_that_only_the_newer_worker_knows_waits_for_it",
        f"{PROCESSES}/test_fate.py::test_an_unknown_task_stays_for_a_newer_worker",
    ),
    8: (
        f"{PROCESSES}/test_hostile.py::test_a_thousand_odd_messages_among_a_thousand_good_ones",
        f"{PROCESSES}/test_fate.py::test_what_nobody_can_read_is_moved_at_once_and_stops_nobody",
    ),
    9: (
        f"{PROCESSES}/test_health.py::test_the_answers_are_quick_and_cost_no_request",
        f"{PROCESSES}/test_health.py::test_frozen_and_refused_polls_are_red_in_a_minute_with_the_reason",
        f"{PROCESSES}/test_control.py::test_a_probe_of_celerys_turns_green_and_makes_no_queue",
    ),
    10: (
        f"{PROCESSES}/test_credentials.py::test_keys_of_two_seconds_cost_no_task_no_process_and_one_request_in_their_life",
        f"{PROCESSES}/test_credentials.py::test_a_web_identity_that_is_rotated_while_the_worker_runs",
    ),
    11: (
        "tests/install/test_dependencies.py::test_nothing_that_is_needed_is_compiled",
        "tests/install/test_dependencies.py::test_the_requirements_are_three",
    ),
    12: (
        "tests/architecture/test_botocore.py::test_no_private_name_of_botos_is_used",
        "tests/unit/broker/test_roundtrip.py::test_a_botocore_that_is_not_as_it_was_makes_its_requests_itself",
    ),
    13: (
        f"{CHAOS}/test_bounds.py::test_a_long_delay_goes_back_to_sqs_as_often_as_it_takes",
        "tests/unit/worker/test_eta_fleet.py::test_each_runs_once_on_time_and_nothing_is_in_flight_meanwhile",
    ),
    14: (
        f"{CORE}::test_long_tasks_leave_nothing_waiting_here",
        f"{PROCESSES}/test_drain.py::test_a_thousand_waiting_messages_run_once_for_a_quarter_request_each",
    ),
    15: (
        f"{PROCESSES}/test_least_privilege.py::test_a_worker_lives_by_its_policy_and_neither_lists_nor_creates",
        f"{PROCESSES}/test_least_privilege.py::test_those_who_only_call_need_all_of_their_policy_and_no_more",
    ),
    16: (
        f"{PROCESSES}/test_kills.py::test_a_task_that_kills_its_process_ends_in_the_dead_letter_queue",
        f"{CORE}::test_a_lost_child_costs_a_failed_delivery_with_growing_gaps",
    ),
    17: (
        f"{PROCESSES}/test_fifo.py::test_groups_keep_their_order_through_failures_and_retries_and_run_side_by_side",
        f"{PROCESSES}/test_fifo.py::test_order_holds_though_processes_are_killed",
        f"{PROCESSES}/test_fifo.py::test_a_send_whose_answer_is_lost_leaves_one_message",
    ),
    18: (
        f"{PROCESSES}/test_dedupe.py::test_side_effects_are_as_many_as_tasks",
        f"{PROCESSES}/test_dedupe.py::test_with_the_store_away_open_runs_all",
        f"{CORE}::test_the_same_message_received_again_never_runs_beside_itself",
    ),
    19: (
        f"{CHAOS}/test_outages.py::test_tasks_whose_messages_cannot_be_deleted_run_once_however_long_that_lasts",
        f"{PROCESSES}/test_health.py::test_a_refused_deletion_is_red",
    ),
    20: (
        f"{CHAOS}/test_many_queues.py::test_a_hundred_idle_queues_have_a_poll_each_and_answer_at_once",
        f"{CHAOS}/test_many_queues.py::test_a_flooded_queue_keeps_no_other_waiting",
    ),
    29: (f"{CHAOS}/test_bounds.py::test_a_receipt_hides_a_message_as_long_as_the_settings_say",),
    30: (
        f"{PROCESSES}/test_health.py::test_ecs_spares_a_task_while_it_is_busy",
        f"{PROCESSES}/test_health.py::test_a_job_ends_when_idle_with_nothing_in_flight",
    ),
    31: (f"{CHAOS}/test_bounds.py::test_tasks_that_are_due_later_fill_neither_memory_nor_the_flight",),
    32: (
        f"{CHAOS}/test_publishing.py::test_forked_children_and_their_threads_share_nothing",
        f"{CHAOS}/test_publishing.py::test_a_worker_forked_from_a_process_that_has_sent_runs_what_it_sends",
    ),
    33: (
        f"{CHAOS}/test_publishing.py::test_a_send_gives_up_in_time",
        f"{CHAOS}/test_publishing.py::test_a_send_survives_an_outage_of_four_seconds",
    ),
    36: (
        "tests/contract/test_endpoints.py::test_in_the_environment",
        "tests/contract/test_endpoints.py::test_a_worker_serves_a_queue_whose_url_names_another_host",
    ),
    40: (f"{PROCESSES}/test_kills.py::test_a_queue_that_is_said_to_be_gone_is_not_asked_without_pause",),
    41: (
        f"{CHAOS}/test_bounds.py::test_memory_and_descriptors_stay_as_they_are_over_many_tasks",
        f"{CHAOS}/test_respawns.py::test_a_thousand_replaced_children_leave_nothing_behind",
        f"{CHAOS}/test_respawns.py::test_children_replaced_after_fifty_tasks_lose_and_repeat_nothing",
    ),
    42: (f"{PROCESSES}/test_fifo.py::test_a_group_stays_on_every_way_that_a_message_is_sent",),
    43: (
        f"{CHAOS}/test_many_queues.py::test_patterns_follow_the_queues_that_come_and_go",
        f"{PROCESSES}/test_drain.py::test_a_pattern_takes_queues_that_come_and_drops_those_that_go",
    ),
}
