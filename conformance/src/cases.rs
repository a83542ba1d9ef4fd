//! The list of all cases, from which the macros and the plain lists are made.

use crate::{BackendFactory, Capabilities, OptionalKind, Subject};

/// One case of the suite.
#[derive(Debug)]
pub struct Case<S> {
    /// The name, `module::case`.
    pub name: &'static str,
    /// The kinds of state that the case needs; it fails on a backend without them.
    pub needs: &'static [OptionalKind],
    /// Runs the case; panics with the difference.
    pub run: fn(&S),
}

impl<S> Case<S> {
    /// Returns a kind of state that the case needs and the backend does not have.
    pub fn missing(&self, capabilities: &Capabilities) -> Option<OptionalKind> {
        self.needs.iter().copied().find(|kind| !capabilities.has(*kind))
    }
}

/// Returns every case for a backend; see [`backend_tests`](crate::backend_tests) for the usual way to run
/// them.
pub fn backend_cases<F: BackendFactory>() -> Vec<Case<Subject<F>>> {
    crate::__backend_cases!(__list_cases(crate::backend))
}

/// Returns every case for a storage; see [`storage_tests`](crate::storage_tests) for the usual way to run
/// them.
#[cfg(feature = "storage")]
pub fn storage_cases() -> Vec<Case<crate::StorageSubject>> {
    crate::__storage_cases!(__list_cases(crate::storage))
}

/// Creates one `#[test]` for every case for a storage: `storage_tests!(create)`, where `create` is the
/// argument of [`StorageSubject::new`](crate::StorageSubject::new). Use it once in a module. It needs the
/// cargo feature `storage`.
#[cfg(feature = "storage")]
#[macro_export]
macro_rules! storage_tests {
    ($create:expr $(,)?) => {
        fn conformance_subject() -> $crate::StorageSubject {
            $crate::StorageSubject::new($create)
        }

        $crate::__storage_cases!(__test_cases([], $crate::storage));
    };
}

/// Creates one `#[test]` for every case for the backends of a factory: `backend_tests!(factory)`,
/// `backend_tests!(factory, capabilities)`, or `backend_tests!(factory, capabilities, kinds: [values, ..])`.
/// Use it once in a module.
///
/// `kinds` lists the kinds of state that the backend has: `values`, which all have, `lists`, `maps`,
/// `timers`. Tests of cases that need another kind are ignored, with the kind as the reason. Cases that use
/// several kinds run with those that the backend has.
#[macro_export]
macro_rules! backend_tests {
    ($factory:expr $(,)?) => {
        $crate::backend_tests!($factory, $crate::Capabilities::default());
    };
    ($factory:expr, $capabilities:expr $(,)?) => {
        $crate::backend_tests!($factory, $capabilities, kinds: [values, lists, maps, timers]);
    };
    ($factory:expr, $capabilities:expr, kinds: [values $(, $kind:ident)* $(,)?] $(,)?) => {
        fn conformance_subject() -> $crate::Subject<impl $crate::BackendFactory> {
            let kinds: &[$crate::OptionalKind] = $crate::__kinds!([$($kind)*] []);
            let capabilities = $crate::Capabilities::with_kinds($capabilities, kinds);
            $crate::Subject::new($factory).with_capabilities(capabilities)
        }

        $crate::__backend_cases!(__test_cases([$($kind)*], $crate::backend));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test_cases {
    (($has:tt, $root:path) $($module:ident $needs:tt { $($case:ident $([$($need:ident)*])?)* })*) => {$(
        mod $module {
            $(
                $crate::__test_case! { $has $needs [$($($need)*)?] ($root, $module, $case) }
            )*
        }
    )*};
}

/// Creates the test of one case, for a backend with the kinds of the first list. The other lists are the
/// needs of the module and of the case.
#[doc(hidden)]
#[macro_export]
macro_rules! __test_case {
    ($has:tt [] [] ($root:path, $module:ident, $case:ident)) => {
        #[test]
        fn $case() {
            use $root as root;
            root::$module::$case(&super::conformance_subject());
        }
    };
    ($has:tt [$need:ident $($needs:ident)*] $of_case:tt $case:tt) => {
        $crate::__search_kind! { $need $has ($has [$($needs)*] $of_case $case) }
    };
    ($has:tt [] [$need:ident $($needs:ident)*] $case:tt) => {
        $crate::__search_kind! { $need $has ($has [] [$($needs)*] $case) }
    };
}

/// Continues with `__test_case` if the list has the kind; otherwise creates an ignored test.
#[doc(hidden)]
#[macro_export]
macro_rules! __search_kind {
    (lists [lists $($rest:ident)*] ($($then:tt)*)) => { $crate::__test_case! { $($then)* } };
    (maps [maps $($rest:ident)*] ($($then:tt)*)) => { $crate::__test_case! { $($then)* } };
    (timers [timers $($rest:ident)*] ($($then:tt)*)) => { $crate::__test_case! { $($then)* } };
    ($need:ident [$other:ident $($rest:ident)*] $then:tt) => {
        $crate::__search_kind! { $need [$($rest)*] $then }
    };
    (lists [] ($has:tt $of_module:tt $of_case:tt ($root:path, $module:ident, $case:ident))) => {
        #[test]
        #[ignore = "the backend declares no lists"]
        fn $case() {}
    };
    (maps [] ($has:tt $of_module:tt $of_case:tt ($root:path, $module:ident, $case:ident))) => {
        #[test]
        #[ignore = "the backend declares no maps"]
        fn $case() {}
    };
    (timers [] ($has:tt $of_module:tt $of_case:tt ($root:path, $module:ident, $case:ident))) => {
        #[test]
        #[ignore = "the backend declares no timers"]
        fn $case() {}
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __list_cases {
    (($root:path) $($module:ident $needs:tt { $($case:ident $([$($need:ident)*])?)* })*) => {{
        use $root as root;
        vec![$($(
            $crate::Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                needs: $crate::__kinds!($needs [$($($need)*)?]),
                run: root::$module::$case,
            },
        )*)*]
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __kinds {
    ([$($a:ident)*] [$($b:ident)*]) => { &[$($crate::__kind!($a),)* $($crate::__kind!($b),)*] };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __kind {
    (lists) => {
        $crate::OptionalKind::Lists
    };
    (maps) => {
        $crate::OptionalKind::Maps
    };
    (timers) => {
        $crate::OptionalKind::Timers
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __backend_cases {
    ($then:ident $args:tt) => {
        $crate::$then! { $args
            registration [] {
                the_same_name_gives_the_same_state
                another_kind_under_a_known_name_is_refused
                another_type_under_a_known_name_is_refused
                a_conflict_names_both_types
                a_handle_of_another_backend_is_an_error
                many_states_stay_apart
                a_state_may_be_registered_late
            }
            values [] {
                put_get_clear
                modify_starts_from_the_initial_value_only_once
                update_and_take
                change_sets_replaces_and_removes
                keys_and_namespaces_stay_apart
                every_type_of_key_works
                every_type_of_value_works
                a_codec_of_its_own_is_used_for_snapshots
                big_values
                for_each_visits_each_once_and_stops_at_an_error
                prefetch_changes_nothing
            }
            lists [lists] {
                elements_come_in_the_order_in_which_they_were_added
                put_replaces_and_an_empty_list_clears
                take_empties_the_list
                keys_and_namespaces_stay_apart
                a_long_list
                prefetch_changes_nothing
            }
            maps [maps] {
                put_get_contains_remove
                modify_take_and_len
                for_each_visits_each_entry_once_and_stops_at_an_error
                range_visits_in_order
                clear_empties_one_map_only
                map_keys_of_every_kind_stay_apart
                a_large_map
            }
            timers [timers] {
                equal_timers_collapse
                pop_takes_what_is_due_in_order
                times_at_both_ends
                many_timers_of_one_time
                a_timer_that_fired_can_be_set_again
                timers_set_while_others_fire
                services_and_namespaces_stay_apart
                for_each_visits_every_timer
            }
            folding [] {
                values_are_folded_as_they_come
                namespaces_merge
                folds_survive_a_restore
            }
            keys [] {
                every_kind_tells_its_keys
                key_groups_bound_the_walk
                a_function_applied_to_all_keys
                a_foreign_key_is_the_same_error_for_all_accesses
            }
            look_ups [] {
                a_look_up_finds_what_a_snapshot_stores
            }
            expiry [] {
                the_instant_of_expiry
                every_kind_expires
                a_change_begins_anew_after_expiry
                reading_refreshes_where_it_should
                event_time_goes_by_the_watermark
                merging_leaves_out_what_has_expired
                a_time_to_live_changes_no_call_site
                a_duration_of_nothing_is_refused
            }
            cleanup [] {
                a_read_returns_an_expired_value_once
                expired_parts_are_shown_once
                only_what_is_accessed_is_removed
                what_is_shown_until_it_is_cleaned_up
                a_read_does_not_refresh_an_expired_value
                clean_up_by_records
                full_snapshots_leave_out_what_has_expired
                elements_of_a_list_leave_one_by_one [lists]
                a_snapshot_has_what_lived_at_its_barrier
            }
            cuts [] {
                an_empty_backend
                a_backend_without_states
                later_changes_are_invisible
                each_kind_of_change_is_invisible
                several_snapshots_in_flight
                several_snapshots_wait_to_be_written
                a_writer_on_another_thread
                a_state_registered_under_way
                checkpoint_ids_rise
                the_writer_is_taken_once
                a_snapshot_describes_itself
            }
            increments [] {
                bytes_are_proportional_to_the_change
                tombstones_survive
                a_cleared_map_is_filled_again [maps]
                list_deltas_add_up [lists]
                a_long_chain
                a_full_snapshot_needs_no_older_file
            }
            objects [] {
                increments_of_one_change
                increments_of_any_size
                nothing_is_stored_for_nothing
            }
            savepoints [] {
                an_increment_after_a_savepoint_stores_what_changed
                a_savepoint_stands_apart
            }
            faults [] {
                a_failed_commit_loses_nothing
                a_failed_read_loses_nothing
                many_failed_commits_in_a_row
                a_store_that_refuses_for_long
                a_failed_commit_before_others_that_are_prepared
                an_aborted_snapshot_breaks_no_later_one
                a_value_that_cannot_be_encoded_fails_one_snapshot
            }
            limits [] {
                a_value_that_no_snapshot_can_hold
                a_list_that_no_snapshot_can_hold [lists]
                a_list_that_grows_too_large [lists]
                a_map_entry_that_no_snapshot_can_hold [maps]
                a_key_that_no_snapshot_can_hold
            }
            aborts [] {
                a_dropped_snapshot_is_part_of_the_next
                drops_at_every_stage
                a_later_commit_passes_one_that_hangs
                commits_end_in_any_order
                a_full_snapshot_that_hangs
            }
            restores [] {
                nothing
                many_lives
                increments_go_on_after_a_restore
                timers_keep_their_order [timers]
                a_backend_that_is_not_empty_is_not_filled
                a_restore_after_the_writer_was_taken_names_it
                a_missing_segment_is_named
                a_changed_byte_is_detected
                a_reference_with_another_length_is_refused
            }
            rescales [] {
                any_range_of_a_snapshot
                up_and_down
                a_full_snapshot_after_a_rescale_stands_alone
                fingerprints_add_up
            }
            compatibility [] {
                another_type_than_was_stored_is_refused
                another_type_of_key_is_refused
                a_restored_state_is_registered_before_and_not_after
                unclaimed_state_is_kept_and_written_again
                unclaimed_state_survives_a_snapshot_that_fails
                unclaimed_state_in_two_forms_is_not_mixed
            }
            evolution [] {
                every_older_version_is_migrated
                a_migration_is_done_once
                a_migration_that_fails_names_the_state
                a_time_to_live_comes_and_goes
                a_state_is_renamed
                what_nobody_claims_survives_a_migration [lists maps]
                a_self_describing_type_grows
                a_field_of_another_type_is_refused
                another_form_of_a_type_is_refused
                versions_must_rise
            }
            forms [] {
                a_raised_version_writes_what_changed
                a_migration_writes_what_changed
                a_program_reads_all_forms_or_none
                older_forms_leave_in_the_end
                unclaimed_state_keeps_its_forms
                random_lives
            }
            model [] {
                random_programs
            }
        }
    };
}

#[doc(hidden)]
#[cfg(feature = "storage")]
#[macro_export]
macro_rules! __storage_cases {
    ($then:ident $args:tt) => {
        $crate::$then! { $args
            objects [] {
                an_empty_storage
                read_after_write
                ranged_reads
                put_and_delete_can_be_repeated
                readers_never_see_half_an_object
                segments_are_checked
            }
            claims [] {
                a_slot_is_created_once
                a_slot_has_a_limit
                of_eight_threads_one_wins
                readers_never_see_half_a_slot
            }
            coordinators [] {
                a_checkpoint_is_recovered
                a_stale_coordinator_is_fenced
                coordinators_that_claim_at_once
                the_first_claims_of_a_storage
                coordinators_that_race
                starts_that_complete_nothing
            }
            crashes [] {
                a_crash_at_any_operation
                a_torn_write_at_any_operation
                a_lost_answer_at_any_operation
                many_faults_at_random
            }
            damage [] {
                recovery_falls_back
                an_empty_start_is_never_silent
                a_damaged_slot_is_passed_over
            }
            retention [] {
                the_retained_count_is_kept
                savepoints_stay
                a_fallback_gives_up_what_it_passes_over
                savepoints_are_many_and_can_be_removed
                files_of_running_checkpoints_stay
                random_histories
            }
        }
    };
}
