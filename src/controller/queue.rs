//! The work queue: planned steps by priority, delays, and at most one action at a time per namespace. A delay is measured by
//! the monotonic clock; when the wall clock is set, [`Queue::wake_all`] ends every delay, so that each is planned again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::slots::Slot;
use crate::core::Now;
use crate::core::plan::{Observed, Step, WriteReason};

/// The lanes of the queue, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Priority {
    /// A Secret has expired, or will soon.
    Urgent,
    /// A namespace has no Secret, or requests another one.
    New,
    /// A Secret or a service account was edited.
    Repair,
    /// Something is removed.
    Delete,
    /// Service accounts are listed.
    List,
    /// Renewals are rate limited.
    Renewal,
    /// The last request in the namespace was not answered, whatever the step is.
    Slow,
}

pub const PRIORITIES: [Priority; 7] = [
    Priority::Urgent,
    Priority::New,
    Priority::Repair,
    Priority::Delete,
    Priority::List,
    Priority::Renewal,
    Priority::Slow,
];

/// The lanes that take turns among themselves, and with new steps: a tenant can keep a step in each of them all the time.
const TURNS: [Priority; 4] = [Priority::Repair, Priority::Delete, Priority::List, Priority::Renewal];

impl Priority {
    /// The priority of a step; `None` if there is nothing to do.
    pub fn of(step: &Step, now: Now) -> Option<Self> {
        match step {
            Step::Idle(_) => None,
            // A tenant can change its requests all the time while an entry of its Secrets cannot be renewed.
            Step::Write(plan) if plan.reason == WriteReason::RequestChanged => Some(Self::New),
            Step::Write(plan) if plan.is_urgent(now) => Some(Self::Urgent),
            Step::Write(plan) if plan.reason.is_repair() => Some(Self::Repair),
            Step::Write(plan) if plan.reason.is_paced() => Some(Self::Renewal),
            Step::Write(_) => Some(Self::New),
            Step::SetPullSecret(change) if change.secret.is_some() => Some(Self::Repair),
            Step::ListServiceAccounts => Some(Self::List),
            Step::Replace(replacement) if replacement.observed.is_urgent(now) => Some(Self::Urgent),
            Step::SetPullSecret(_) | Step::Delete(_) | Step::Replace(_) => Some(Self::Delete),
        }
    }
}

/// Urgent steps are in the order in which their Secrets expire, renewals in that in which they become urgent, and others in that
/// of their arrival. New ones start in turn from both ends: behind hundreds of creations that hang, another namespace does not
/// wait for all of them.
type Order = (Timestamp, u64);

/// A step in a lane.
struct Planned {
    lane: Priority,
    order: Order,
    step: Step,
}

#[derive(Default)]
struct Item {
    /// Most namespaces only wait.
    planned: Option<Box<Planned>>,
    wake: Option<Duration>,
    running: bool,
    /// The position of a step that a more urgent one replaced. It counts if that one starts nothing.
    former: Option<Box<(Priority, Order)>>,
}

pub struct Queue {
    items: HashMap<Arc<str>, Item>,
    lanes: [BTreeSet<(Order, Arc<str>)>; PRIORITIES.len()],
    arrivals: u64,
    /// Whether the next new step is the one that arrived last.
    latest_is_next: bool,
    /// Whether the last step that started was a new one.
    new_was_last: bool,
    /// The position in [`TURNS`] of the lane whose turn is next.
    next_turn: usize,
    delayed: BTreeSet<(Duration, Arc<str>)>,
    renewal_interval: Duration,
    next_renewal: Duration,
}

impl Queue {
    /// Returns an empty queue, which returns at most this many renewals per second.
    pub fn new(renewals_per_second: u32) -> Self {
        Self {
            items: HashMap::new(),
            lanes: Default::default(),
            arrivals: 0,
            latest_is_next: false,
            new_was_last: false,
            next_turn: 0,
            delayed: BTreeSet::new(),
            renewal_interval: Duration::from_secs(1) / renewals_per_second.max(1),
            next_renewal: Duration::ZERO,
        }
    }

    /// The number of namespaces in each lane.
    pub fn lengths(&self) -> [(&'static str, usize); PRIORITIES.len()] {
        PRIORITIES.map(|lane| (lane.into_str(), self.lanes[lane as usize].len()))
    }

    /// Queues a step. It replaces the planned step of the namespace and its delay.
    pub fn push(&mut self, namespace: &Arc<str>, lane: Priority, step: Step, now: Now) {
        self.unschedule(namespace);
        let item = self.items.entry(namespace.clone()).or_default();
        // The namespace keeps its position in the queue, unless the new step is more urgent or needs a slot of another kind.
        let is_separate = |lane| Slot::of(lane).is_separate();
        let keeps = |planned: &&mut Box<Planned>| {
            planned.lane == lane || (planned.lane < lane && !is_separate(planned.lane) && !is_separate(lane))
        };
        if let Some(planned) = item.planned.as_mut().filter(keeps) {
            planned.step = step;
            return;
        }
        self.arrivals += 1;
        let former = item.former.take().filter(|former| former.0 == lane);
        let order = match lane {
            Priority::Urgent => (expiry(&step), self.arrivals),
            Priority::Renewal => (urgent_at(&step, now), self.arrivals),
            _ => former.map_or((Timestamp::MIN, self.arrivals), |former| former.1),
        };
        let before = item.planned.replace(Box::new(Planned { lane, order, step }));
        item.former = before.as_ref().map(|before| Box::new((before.lane, before.order)));
        self.remove_from_lane(namespace, before.as_deref());
        self.lanes[lane as usize].insert((order, namespace.clone()));
    }

    fn remove_from_lane(&mut self, namespace: &Arc<str>, planned: Option<&Planned>) {
        if let Some(Planned { lane, order, .. }) = planned {
            self.lanes[*lane as usize].remove(&(*order, namespace.clone()));
        }
    }

    /// Drops the planned step of a namespace. It is reconciled at `wake`, or, if `None`, only after a change.
    pub fn schedule(&mut self, namespace: &Arc<str>, wake: Option<Timestamp>, now: Now) {
        self.unschedule(namespace);
        let wake = wake.map(|wake| now.mono + Duration::try_from(now.until(wake)).unwrap_or_default());
        let item = self.items.entry(namespace.clone()).or_default();
        let before = item.planned.take();
        (item.wake, item.former) = (wake, None);
        self.remove_from_lane(namespace, before.as_deref());
        if let Some(wake) = wake {
            self.delayed.insert((wake, namespace.clone()));
        }
        self.forget_idle(namespace);
    }

    /// Reconciles a namespace at this time even if its planned step has not started by then.
    pub fn wake_at(&mut self, namespace: &Arc<str>, wake: Timestamp, now: Now) {
        let wake = now.mono + Duration::try_from(now.until(wake)).unwrap_or_default();
        let before = self.items.get(namespace).and_then(|item| item.wake);
        if before.is_none_or(|before| wake < before) {
            self.unschedule(namespace);
            self.items.entry(namespace.clone()).or_default().wake = Some(wake);
            self.delayed.insert((wake, namespace.clone()));
        }
    }

    /// Whether an action is running in the namespace, which is reconciled when the action ends.
    pub fn is_running(&self, namespace: &str) -> bool {
        self.items.get(namespace).is_some_and(|item| item.running)
    }

    /// The most urgent step that may start now, in a lane that has room. While steps of other lanes wait, each new one is followed
    /// by one of them.
    pub fn pop(
        &mut self,
        has_room: impl Fn(Priority) -> bool,
        now: Now,
    ) -> Option<(Arc<str>, Priority, Step)> {
        self.raise_renewals(now);
        let is_open = |lane: &Priority| {
            let is_paced = *lane == Priority::Renewal && now.mono < self.next_renewal;
            !is_paced && !self.lanes[*lane as usize].is_empty() && has_room(*lane)
        };
        let lane = self.order().find(is_open)?;
        let from_end = lane == Priority::New && self.latest_is_next;
        self.latest_is_next ^= lane == Priority::New;
        let steps = &mut self.lanes[lane as usize];
        let (_, namespace) = if from_end { steps.pop_last() } else { steps.pop_first() }?;
        let planned = self.items.get_mut(&namespace)?.planned.take()?;
        if lane != Priority::Urgent {
            self.new_was_last = lane == Priority::New;
        }
        if let Some(turn) = TURNS.iter().position(|other| *other == lane) {
            self.next_turn = turn + 1;
        }
        if lane == Priority::Renewal {
            self.next_renewal = self.next_renewal.max(now.mono) + self.renewal_interval;
        }
        Some((namespace, lane, planned.step))
    }

    /// The order in which the lanes are searched.
    fn order(&self) -> impl Iterator<Item = Priority> + use<> {
        let first = if self.new_was_last { None } else { Some(Priority::New) };
        let turns = TURNS.into_iter().cycle().skip(self.next_turn).take(TURNS.len());
        let last = [Priority::New, Priority::Slow];
        [Priority::Urgent].into_iter().chain(first).chain(turns).chain(last)
    }

    /// Moves the renewals that have become urgent while they waited.
    fn raise_renewals(&mut self, now: Now) {
        let is_urgent = |step: &&Step| Priority::of(step, now) == Some(Priority::Urgent);
        while let Some((_, namespace)) = self.lanes[Priority::Renewal as usize].first() {
            let planned = self.items.get(namespace).and_then(|item| item.planned.as_ref());
            let Some(step) = planned.map(|planned| &planned.step).filter(is_urgent) else { return };
            let (namespace, step) = (namespace.clone(), step.clone());
            self.push(&namespace, Priority::Urgent, step, now);
        }
    }

    pub fn mark_running(&mut self, namespace: &Arc<str>) {
        let item = self.items.entry(namespace.clone()).or_default();
        (item.running, item.former) = (true, None);
    }

    pub fn mark_done(&mut self, namespace: &Arc<str>) {
        if let Some(item) = self.items.get_mut(namespace) {
            item.running = false;
        }
        self.forget_idle(namespace);
    }

    /// Returns the namespaces whose delay is over.
    pub fn wake(&mut self, now: Now) -> Vec<Arc<str>> {
        self.wake_until(now.mono)
    }

    /// Returns every namespace with a delay, which ends.
    pub fn wake_all(&mut self) -> Vec<Arc<str>> {
        self.wake_until(Duration::MAX)
    }

    fn wake_until(&mut self, end: Duration) -> Vec<Arc<str>> {
        let mut due = vec![];
        while self.delayed.first().is_some_and(|(wake, _)| *wake <= end) {
            let Some((_, namespace)) = self.delayed.pop_first() else { break };
            if let Some(item) = self.items.get_mut(&namespace) {
                item.wake = None;
            }
            due.push(namespace);
        }
        due
    }

    /// How long until a delay ends.
    pub fn time_to_next_wake(&self, now: Now) -> Option<Duration> {
        self.delayed.first().map(|(wake, _)| wake.saturating_sub(now.mono))
    }

    /// How long until the rate limit allows the next renewal; `None` if none is queued.
    pub fn time_to_next_renewal(&self, now: Now) -> Option<Duration> {
        let renewals = !self.lanes[Priority::Renewal as usize].is_empty();
        renewals.then(|| self.next_renewal.saturating_sub(now.mono))
    }

    /// Drops all planned steps and delays; running actions are still tracked.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(BTreeSet::clear);
        self.delayed.clear();
        self.items.retain(|_, item| item.running);
        for item in self.items.values_mut() {
            (item.planned, item.wake, item.former) = (None, None, None);
        }
    }

    #[cfg(feature = "simulation")]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a step is queued.
    pub fn has_steps(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_empty())
    }

    /// Whether a namespace is to be reconciled later.
    pub fn has_wakes(&self) -> bool {
        !self.delayed.is_empty()
    }

    fn unschedule(&mut self, namespace: &Arc<str>) {
        if let Some(wake) = self.items.get_mut(namespace).and_then(|item| item.wake.take()) {
            self.delayed.remove(&(wake, namespace.clone()));
        }
    }

    fn forget_idle(&mut self, namespace: &Arc<str>) {
        let idle = |item: &Item| item.planned.is_none() && item.wake.is_none() && !item.running;
        if self.items.get(namespace).is_some_and(idle) {
            self.items.remove(namespace);
        }
    }
}

/// When the Secret of a step expires.
fn expiry(step: &Step) -> Timestamp {
    observed(step).and_then(|observed| observed.times).map_or(Timestamp::MIN, |times| times.expires_at)
}

/// When a step becomes urgent.
fn urgent_at(step: &Step, now: Now) -> Timestamp {
    // One whose times are not known must not hide others that become urgent.
    observed(step).and_then(|observed| observed.urgent_at(now)).unwrap_or(now.wall)
}

fn observed(step: &Step) -> Option<&Observed> {
    if let Step::Write(plan) = step { plan.observed.as_deref() } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;

    use super::*;
    use crate::core::plan::WritePlan;
    use crate::core::request::Times;
    use crate::core::testing::{HOST, HOUR, at, observed, request, settings, wall};

    fn push(queue: &mut Queue, namespace: &Arc<str>, priority: Priority) {
        queue.push(namespace, priority, Step::Idle(None), at(0));
    }

    fn pop(queue: &mut Queue, now: Now) -> Option<Arc<str>> {
        queue.pop(|_| true, now).map(|(namespace, ..)| namespace)
    }

    #[test]
    fn new_namespaces_come_before_any_renewal_and_renewals_are_paced() {
        let mut queue = Queue::new(10);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        push(&mut queue, &a, Priority::Renewal);
        push(&mut queue, &b, Priority::Renewal);
        push(&mut queue, &c, Priority::New);
        let now = at(0);
        assert_eq!(pop(&mut queue, now), Some(c.clone()));
        assert_eq!(pop(&mut queue, now), Some(a));
        assert_eq!(pop(&mut queue, now), None, "the second renewal waits");
        push(&mut queue, &c, Priority::New);
        assert_eq!(pop(&mut queue, now), Some(c), "a new namespace does not wait");
        let later = Now { mono: now.mono + Duration::from_millis(100), ..now };
        assert_eq!(queue.time_to_next_renewal(now), Some(Duration::from_millis(100)));
        assert_eq!(pop(&mut queue, later), Some(b));
    }

    /// The renewal of a Secret that expires then, with a token of 12 hours.
    fn renewal(expires_at: Timestamp) -> Step {
        renewal_of(expires_at, 12 * HOUR)
    }

    /// The same with a token that lives for this many seconds.
    fn renewal_of(expires_at: Timestamp, life: i64) -> Step {
        let (granted, _) = settings().grants.assign("team-a", &request(&[HOST])).expect("granted");
        let times =
            Some(Times { expires_at, refresh_after: expires_at - SignedDuration::from_secs(life / 2) });
        let observed = Observed { times, applied: None, ..observed(&request(&[HOST])) };
        let (reason, granted) = (WriteReason::RenewalDue, Arc::new(granted));
        Step::Write(Box::new(WritePlan::new(reason, granted, BTreeMap::new(), Some(observed))))
    }

    #[test]
    fn secrets_that_expire_within_half_an_hour_come_first_and_unpaced_and_the_others_by_expiry() {
        let mut queue = Queue::new(1);
        let now = at(0);
        let half = HOUR / 2;
        // Arrival and expiry are in different orders.
        for expiry in [2 * HOUR, half + 1, half, 5 * HOUR, -HOUR, half - 1, -1, HOUR] {
            let step = renewal(wall(expiry));
            let lane = Priority::of(&step, now).expect("a write");
            queue.push(&expiry.to_string().into(), lane, step, now);
        }
        let mut pop_expiry = |now| queue.pop(|_| true, now).map(|(name, lane, _)| (name.to_string(), lane));
        for expiry in [-HOUR, -1, half - 1, half] {
            assert_eq!(pop_expiry(now), Some((expiry.to_string(), Priority::Urgent)), "at once");
        }
        for (second, expiry) in (0..).zip([half + 1, HOUR, 2 * HOUR, 5 * HOUR]) {
            let later = Now { mono: now.mono + Duration::from_secs(second), ..now };
            assert_eq!(pop_expiry(later), Some((expiry.to_string(), Priority::Renewal)), "one in a second");
            assert_eq!(pop_expiry(later), None, "the next renewal waits");
        }
    }

    #[test]
    fn while_others_wait_each_new_step_is_followed_by_one_of_them() {
        let mut queue = Queue::new(10);
        for n in 0..4 {
            push(&mut queue, &format!("new-{n}").into(), Priority::New);
        }
        for (name, lane) in [("a", Priority::Renewal), ("b", Priority::Delete)] {
            push(&mut queue, &name.into(), lane);
        }
        let order: Vec<_> = (0..6).filter_map(|_| pop(&mut queue, at(0))).collect();
        let order: Vec<_> = order.iter().map(|name| &**name).collect();
        assert_eq!(order, ["new-0", "b", "new-3", "a", "new-1", "new-2"]);
    }

    /// N41
    #[test]
    fn no_lane_that_always_has_a_step_keeps_another_one_waiting() {
        let lanes = [Priority::New, Priority::Repair, Priority::Delete, Priority::List, Priority::Renewal];
        for busy in lanes {
            let mut queue = Queue::new(1_000);
            for lane in lanes {
                push(&mut queue, &lane.into_str().into(), lane);
            }
            for second in 0..10 {
                for (name, lane) in [("urgent", Priority::Urgent), ("one", busy), ("two", busy)] {
                    push(&mut queue, &name.into(), lane);
                }
                pop(&mut queue, at(second));
                pop(&mut queue, at(second));
            }
            let waits = |lane: &Priority| *lane != busy && !queue.lanes[*lane as usize].is_empty();
            assert_eq!(lanes.into_iter().find(waits), None, "behind {busy:?}");
        }
    }

    /// N44: a step in the position of one with another kind of slot would take such a slot.
    #[test]
    fn a_list_and_the_step_of_a_slow_namespace_wait_in_their_own_lanes() {
        for (before, lane) in [
            (Priority::Delete, Priority::List),
            (Priority::List, Priority::Slow),
            (Priority::List, Priority::Renewal),
            (Priority::Urgent, Priority::Slow),
        ] {
            let mut queue = Queue::new(10);
            let a: Arc<str> = "a".into();
            push(&mut queue, &a, before);
            push(&mut queue, &a, lane);
            assert_eq!(queue.pop(|_| true, at(0)).map(|(_, lane, _)| lane), Some(lane));
            assert_eq!(pop(&mut queue, at(0)), None);
        }
    }

    /// As for an urgent renewal whose token is not at hand.
    #[test]
    fn a_step_keeps_its_position_if_a_more_urgent_one_that_replaced_it_starts_nothing() {
        let mut queue = Queue::new(10);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        push(&mut queue, &a, Priority::List);
        push(&mut queue, &b, Priority::List);
        push(&mut queue, &a, Priority::Urgent);
        assert_eq!(pop(&mut queue, at(0)), Some(a.clone()));
        push(&mut queue, &a, Priority::List);
        assert_eq!(pop(&mut queue, at(0)), Some(a.clone()));
        push(&mut queue, &a, Priority::List);
        push(&mut queue, &a, Priority::Urgent);
        assert_eq!(pop(&mut queue, at(0)), Some(a.clone()));
        queue.mark_running(&a);
        push(&mut queue, &a, Priority::List);
        assert_eq!(pop(&mut queue, at(0)), Some(b), "it was started meanwhile");
    }

    /// N41: a tenant can edit the annotations with the times again and again.
    #[test]
    fn renewals_of_secrets_without_times_do_not_hide_one_that_becomes_urgent() {
        let mut queue = Queue::new(50);
        queue.push(&"victim".into(), Priority::Renewal, renewal(wall(HOUR)), at(0));
        let Step::Write(mut plan) = renewal(wall(HOUR)) else { panic!("a write") };
        plan.observed.as_mut().expect("a Secret").times = None;
        let mut found = None;
        for second in 0..HOUR {
            for name in ["one", "two"] {
                queue.push(&name.into(), Priority::Renewal, Step::Write(plan.clone()), at(second));
            }
            let popped = queue.pop(|_| true, at(second)).map(|(name, lane, _)| (name, lane));
            found = found.or(popped.filter(|(name, _)| **name == *"victim").map(|(_, lane)| (lane, second)));
        }
        let (lane, second) = found.expect("it is not hidden");
        assert!(lane == Priority::Urgent && second <= HOUR / 2 + 2, "{lane:?} after {second} s");
    }

    /// N41: tokens that live shortly become urgent later than others that expire at the same time.
    #[test]
    fn renewals_of_short_lived_tokens_do_not_hide_one_that_becomes_urgent() {
        let mut queue = Queue::new(1);
        let half = HOUR / 2;
        for (name, expiry, life) in [("short", half - 600, 15 * 60), ("long", half + 60, 12 * HOUR)] {
            queue.push(&name.into(), Priority::Renewal, renewal_of(wall(expiry), life), at(0));
        }
        let later = Now { wall: wall(61), ..at(0) };
        let found = queue.pop(|_| true, later).map(|(namespace, lane, _)| (namespace, lane));
        assert_eq!(found, Some(("long".into(), Priority::Urgent)));
    }

    #[test]
    fn a_renewal_that_becomes_urgent_while_it_waits_is_no_longer_paced() {
        let mut queue = Queue::new(1);
        for name in ["a", "b"] {
            queue.push(&name.into(), Priority::Renewal, renewal(wall(HOUR)), at(0));
        }
        assert_eq!(pop(&mut queue, at(0)), Some("a".into()));
        assert_eq!(pop(&mut queue, at(0)), None, "the second one waits");
        let later = Now { wall: wall(HOUR / 2), ..at(0) };
        let found = queue.pop(|_| true, later).map(|(namespace, lane, _)| (namespace, lane));
        assert_eq!(found, Some(("b".into(), Priority::Urgent)));
    }

    #[test]
    fn new_namespaces_start_in_turn_from_both_ends() {
        let mut queue = Queue::new(10);
        let names: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).into();
        for name in &names {
            push(&mut queue, name, Priority::New);
        }
        let order: Vec<_> = (0..4).filter_map(|_| pop(&mut queue, at(0))).collect();
        assert_eq!(order, [0, 3, 1, 2].map(|index| names[index].clone()));
    }

    #[test]
    fn a_namespace_is_in_one_place_only() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        queue.schedule(&a, Some(wall(5)), at(0));
        push(&mut queue, &a, Priority::Renewal);
        push(&mut queue, &a, Priority::New);
        assert_eq!(queue.wake(at(9)), Vec::<Arc<str>>::new());
        assert_eq!(pop(&mut queue, at(9)), Some(a.clone()));
        assert_eq!(pop(&mut queue, at(9)), None);
        queue.schedule(&a, Some(wall(5)), at(0));
        queue.schedule(&a, Some(wall(7)), at(0));
        assert_eq!(queue.wake(at(6)), Vec::<Arc<str>>::new());
        assert_eq!(queue.wake(at(7)), std::slice::from_ref(&a));
        queue.schedule(&a, None, at(0));
        assert!(queue.items.is_empty(), "an idle namespace is forgotten");
    }

    #[test]
    fn a_delay_counts_by_the_monotonic_clock_and_ends_when_the_wall_clock_is_set() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        queue.schedule(&a, Some(wall(5)), at(0));
        let set_back = Now { wall: wall(-10_000), ..at(6) };
        assert_eq!(queue.wake(set_back), std::slice::from_ref(&a));
        queue.schedule(&a, Some(wall(5)), at(0));
        assert_eq!(queue.wake(Now { wall: wall(10_000), ..at(1) }), Vec::<Arc<str>>::new());
        assert_eq!(queue.wake_all(), std::slice::from_ref(&a));
        assert_eq!((queue.time_to_next_wake(at(1)), queue.time_to_next_renewal(at(1))), (None, None));
    }

    #[test]
    fn a_later_plan_replaces_an_earlier_one() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        queue.push(&a, Priority::New, Step::Idle(None), at(0));
        queue.push(&a, Priority::Delete, Step::Idle(Some(wall(1))), at(0));
        assert_eq!(queue.pop(|_| true, at(0)), Some((a, Priority::New, Step::Idle(Some(wall(1))))));
        assert!(queue.pop(|_| true, at(0)).is_none() && !queue.has_steps());
    }

    #[test]
    fn planned_steps_can_be_dropped_and_running_actions_cannot() {
        let mut queue = Queue::new(10);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        push(&mut queue, &a, Priority::New);
        queue.schedule(&b, Some(wall(5)), at(0));
        queue.mark_running(&c);
        queue.schedule(&c, Some(wall(6)), at(0));
        queue.clear();
        assert!(!queue.has_steps() && pop(&mut queue, at(9)).is_none());
        assert_eq!(queue.wake(at(9)), Vec::<Arc<str>>::new());
        assert!(queue.is_running(&c));
        queue.mark_done(&c);
        assert!(queue.items.is_empty());
    }

    #[test]
    fn a_lane_without_room_does_not_delay_the_next_one() {
        let mut queue = Queue::new(10);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        push(&mut queue, &a, Priority::New);
        push(&mut queue, &b, Priority::Repair);
        let found = queue.pop(|lane| lane != Priority::New, at(0));
        assert_eq!(found.map(|(namespace, lane, _)| (namespace, lane)), Some((b, Priority::Repair)));
        assert_eq!(pop(&mut queue, at(0)), Some(a));
    }

    #[test]
    fn one_action_runs_at_a_time() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        assert!(!queue.is_running(&a));
        queue.mark_running(&a);
        assert!(queue.is_running(&a));
        queue.mark_done(&a);
        assert!(!queue.is_running(&a) && queue.items.is_empty());
    }
}
