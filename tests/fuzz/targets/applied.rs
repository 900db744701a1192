//! The applied state that a Secret records, which anyone who may edit the Secret can forge.
//!
//! The first two lines of an input are the times, the rest is the JSON.

use std::collections::BTreeMap;

use ecr_pull_secrets::simulation::core::PREFIX;
use ecr_pull_secrets::simulation::core::request::applied::{
    APPLIED, EXPIRES_AT, MAX_APPLIED_LEN, REFRESH_AFTER, RecordedState, Times,
};
use jiff::Timestamp;

use super::{assert_bounded, assert_recorded, ours};

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let keys = [EXPIRES_AT, REFRESH_AFTER, APPLIED];
    let values = keys.iter().filter_map(|key| Some((format!("{PREFIX}{key}"), lines.next()?.to_owned())));
    let annotations: BTreeMap<_, _> = values.collect();
    let read = RecordedState::from_annotations(&annotations);

    let epoch = Times { expires_at: Timestamp::UNIX_EPOCH, refresh_after: Timestamp::UNIX_EPOCH };
    let times = read.times.unwrap_or(epoch);
    let Some((instance, state)) = &read.applied else { return };
    let given = ours(&annotations, APPLIED);
    assert!(given.len() <= MAX_APPLIED_LEN, "{} bytes are read", given.len());
    assert_bounded(&state.request);
    let entries = state.entries.len();
    assert!(entries == 0 || entries == state.request.registries.len(), "{entries} entries");
    for target in &state.request.registries {
        let entry = state.entry(target);
        assert!(entry.is_none() || entries > 0);
    }

    let canonical = state.to_annotations(instance, times);
    assert_eq!(RecordedState::from_annotations(&canonical).times, Some(times));
    assert_recorded(state, &canonical, instance);
    // The canonical form has every list and whole fingerprints, so it is longer than what was read by at most these.
    let most = given.len() + 200 + 40 * entries;
    assert!(
        ours(&canonical, APPLIED).len() <= most,
        "{} bytes from {}",
        ours(&canonical, APPLIED).len(),
        given.len()
    );
}
