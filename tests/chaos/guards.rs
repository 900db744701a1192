//! Scenarios in which no oracle may report anything.

use testing::control_plane::Builder;

use crate::scenarios::{aws, listener, neighbours, replies, silence, slow, state};
use crate::world::{World, plain, violations};

fn reports_nothing(control_plane: Builder, scenario: impl AsyncFnOnce(&mut World<'_>)) {
    let Some(found) = violations(control_plane, scenario) else { return };
    assert!(found.is_empty(), "{found:#?}");
}

macro_rules! guards {
    ($($(#[$ignore:meta])* $test:ident: $control_plane:expr, $scenario:path;)*) => {
        $(#[test]
        $(#[$ignore])*
        fn $test() {
            reports_nothing($control_plane, async |world| $scenario(world).await);
        })*
    };
}

// What the model guards too is part of `make chaos` only.
guards! {
    // libtest starts tests in the order of their names, and this one takes longest.
    a_watch_request_without_a_reply_is_given_up_r7: plain(), silence::unanswered_watch;
    writes_of_four_seconds_succeed_r5: plain(), slow::writes;
    two_webhooks_that_hold_each_write_for_ten_seconds_prevent_none_b2: plain(), slow::webhooks;
    a_deployment_tool_does_not_prune_the_secrets_b3: plain(), neighbours::pruner;
    #[ignore = "the model guards it too: make chaos"]
    replies_of_a_second_about_the_lease_prevent_no_leader_r5: plain(), slow::lease;
    #[ignore = "the model guards it too: make chaos"]
    a_silent_connection_is_noticed_b6: plain(), silence::silent_watch;
    #[ignore = "the model guards it too: make chaos"]
    an_immutable_secret_is_kept_until_there_is_a_new_token_r10: plain(), state::immutable;
    #[ignore = "the model guards it too: make chaos"]
    a_wrong_time_of_day_delays_nothing_b8: plain(), aws::clock_ahead;
    #[ignore = "the model guards it too: make chaos"]
    the_late_write_of_a_dead_leader_replaces_nothing_e25: plain(), replies::late_commit;
    #[ignore = "the model guards it too: make chaos"]
    paginated_lists_respect_retry_after_r14: plain(), silence::refused_lists;
    #[ignore = "the model guards it too: make chaos"]
    a_region_with_a_line_end_is_a_region_b1: plain(), state::region_with_a_line_end;
    #[ignore = "the model guards it too: make chaos"]
    an_empty_static_source_removes_nothing_r13: plain(), state::empty_source;
    #[ignore = "the model guards it too: make chaos"]
    a_long_request_is_not_written_again_and_again_r8: plain(), state::long_requests;
    #[ignore = "the model guards it too: make chaos"]
    a_labelled_copy_is_left_alone_b9: plain(), neighbours::copier;
    #[ignore = "the model guards it too: make chaos"]
    namespaces_that_are_being_deleted_hold_nothing_back_b11: plain(), state::terminating_namespaces;
    #[ignore = "the model guards it too: make chaos"]
    no_secret_is_created_with_an_expired_token_b15: plain(), aws::away_for_longer_than_a_life;
    #[ignore = "the model guards it too: make chaos"]
    made_up_regions_delay_no_other_after_a_restart_r3: plain(), aws::made_up_regions;
    #[ignore = "with leader election the model guards it too: make chaos"]
    without_an_election_a_restored_etcd_is_noticed_b7: plain(), state::restored_storage;
    sixteen_writes_a_second_are_enough_for_60_namespaces: plain(), slow::serial_writes;
    a_stale_server_deletes_nothing_and_hides_nothing: plain().second_apiserver(true), silence::stale_server;
    a_deletion_that_overtakes_a_reply_is_repaired_r1: plain(), neighbours::deleter;
    a_lost_reply_is_not_a_foreign_change_r15: plain(), replies::lost_reply;
    a_rotated_credentials_file_is_read_again_b5: plain(), aws::rotated_file;
    a_leader_that_is_cut_off_is_replaced: plain(), neighbours::partition;
    pods_with_ipv6_only_are_probed_r11: plain(), listener::ipv6_only;
    the_network_policy_leaves_the_sources_of_credentials_open_b14: plain(), neighbours::network_policy;
}
