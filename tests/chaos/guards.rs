//! Scenarios in which no oracle may report anything.

use testing::control_plane::Builder;

use crate::scenarios::{neighbours, replies, silence, slow};
use crate::world::{World, plain, violations};

fn reports_nothing(control_plane: Builder, scenario: impl AsyncFnOnce(&mut World<'_>)) {
    let Some(found) = violations(control_plane, None, scenario) else { return };
    assert!(found.is_empty(), "{found:#?}");
}

macro_rules! guards {
    ($($test:ident: $control_plane:expr, $scenario:path;)*) => {
        $(#[test]
        fn $test() {
            reports_nothing($control_plane, async |world| $scenario(world).await);
        })*
    };
}

guards! {
    sixteen_writes_a_second_are_enough_for_60_namespaces: plain(), slow::serial_writes;
    a_stale_server_deletes_nothing_and_hides_nothing: plain().second_apiserver(true), silence::stale_server;
    a_deletion_that_overtakes_a_reply_is_repaired_r1: plain(), neighbours::deleter;
    a_lost_reply_is_not_a_foreign_change_r15: plain(), replies::lost_reply;
    a_leader_that_is_cut_off_is_replaced: plain(), neighbours::partition;
}
