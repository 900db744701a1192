//! How many actions run at once. Their number follows how fast the API server responds, and actions that hang leave slots for
//! others.

use std::time::Duration;

use super::queue::Priority;

/// The maximum number of actions, besides lists, those of slow namespaces and those that hang.
const MAX_ACTIONS: usize = 64;
/// The maximum number of actions that hang.
const MAX_HANGING: usize = 64;
/// An action that runs for longer hangs, and gives its slot to others. If its request fails then, it was not answered; before
/// that, the API server refused it.
pub const UNANSWERED: Duration = Duration::from_secs(5);
/// The maximum number of creations: those that hang, as behind a webhook, leave slots for renewals.
const MAX_NEW: usize = 48;
/// While this many creations hang, the next ones start at least this far apart: each may hang for 40 seconds, and a namespace
/// that opts in must not wait until the first ones end.
const MANY_HANGING: usize = 48;
const NEW_INTERVAL: Duration = Duration::from_millis(1_300);
/// The maximum number of actions in namespaces whose last request was not answered.
const MAX_SLOW: usize = 16;
/// The maximum number of lists. Each holds a page of whole objects in memory, and a user determines their size.
const MAX_LISTS: usize = 2;
/// How many actions may be fresh at first, and at least.
const FIRST_LIMIT: usize = 16;
const MIN_LIMIT: usize = 8;
/// An action that runs for longer does not count as fresh.
const FRESH: Duration = Duration::from_secs(2);
/// Above this average duration, fewer actions run at once.
const SLOW_AVERAGE: Duration = Duration::from_millis(500);
/// How often the limit shrinks at most.
const SHRINK_INTERVAL: Duration = Duration::from_secs(1);

/// The kind of slot that an action takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Ordinary,
    New,
    List,
    Slow,
}

impl Slot {
    pub fn of(lane: Priority) -> Self {
        match lane {
            Priority::New => Self::New,
            Priority::List => Self::List,
            Priority::Slow => Self::Slow,
            Priority::Urgent | Priority::Repair | Priority::Delete | Priority::Renewal => Self::Ordinary,
        }
    }

    /// Whether actions of this kind leave the slots of the others free. How long they take does not show how fast the API
    /// server responds to the others.
    pub fn is_separate(self) -> bool {
        matches!(self, Self::List | Self::Slow)
    }
}

/// The actions that run.
pub struct Slots {
    /// When each running action began, by the monotonic clock.
    running: Vec<(Duration, Slot)>,
    /// How many fresh actions may run.
    limit: usize,
    /// The average duration of the latest actions.
    average: Duration,
    shrunk_at: Duration,
}

impl Slots {
    pub fn new() -> Self {
        Self { running: vec![], limit: FIRST_LIMIT, average: Duration::ZERO, shrunk_at: Duration::ZERO }
    }

    /// Whether an action of a lane may start.
    pub fn has_room(&self, lane: Priority, now: Duration) -> bool {
        let slot = Slot::of(lane);
        match slot {
            Slot::Slow => return self.count(slot) < MAX_SLOW,
            Slot::List => return self.count(slot) < MAX_LISTS,
            Slot::New | Slot::Ordinary => {}
        }
        let is_open =
            self.occupied(|_| true, now) < MAX_ACTIONS && self.younger_than(FRESH, now) < self.limit;
        let is_new_open = || now >= self.next_new(now) && self.occupied(|of| of == Slot::New, now) < MAX_NEW;
        is_open && (slot != Slot::New || is_new_open())
    }

    /// From when on the next creation may start.
    fn next_new(&self, now: Duration) -> Duration {
        let creations = || self.running.iter().filter(|(_, of)| *of == Slot::New).map(|(began, _)| *began);
        let is_paced = creations().filter(|began| now >= *began + UNANSWERED).count() >= MANY_HANGING;
        let last = creations().max().filter(|_| is_paced);
        last.map_or(Duration::ZERO, |last| last + NEW_INTERVAL)
    }

    fn count(&self, slot: Slot) -> usize {
        self.running.iter().filter(|(_, of)| *of == slot).count()
    }

    /// The number of slots that actions have taken, without those that hang.
    fn occupied(&self, is: impl Fn(Slot) -> bool, now: Duration) -> usize {
        let all = || self.running.iter().filter(|(_, of)| !of.is_separate() && is(*of));
        let hanging = all().filter(|(began, _)| now >= *began + UNANSWERED).count();
        all().count() - hanging.min(MAX_HANGING)
    }

    fn younger_than(&self, age: Duration, now: Duration) -> usize {
        self.running.iter().filter(|(began, of)| !of.is_separate() && now < *began + age).count()
    }

    /// How long until an action that runs does not count any more, if that may give room.
    pub fn time_to_room(&self, now: Duration) -> Option<Duration> {
        let running = self.running.iter().filter(|(_, of)| !of.is_separate());
        let ends = running.flat_map(|(began, _)| [*began + FRESH, *began + UNANSWERED]);
        let ends = ends.chain([self.next_new(now)]);
        ends.filter(|end| now < *end).map(|end| end.saturating_sub(now)).min()
    }

    pub fn begin(&mut self, slot: Slot, now: Duration) {
        self.running.push((now, slot));
    }

    /// An action ended that began at this time. `is_overload` is set if the API server refused it because it is busy.
    pub fn end(&mut self, began: Duration, slot: Slot, is_overload: bool, now: Duration) {
        let is_used = self.running.len() * 2 >= self.limit;
        if let Some(index) = self.running.iter().position(|running| *running == (began, slot)) {
            self.running.swap_remove(index);
        }
        if slot.is_separate() {
            return;
        }
        let duration = now.saturating_sub(began);
        if duration < FRESH {
            self.average = (self.average * 7 + duration) / 8;
        }
        if is_overload || self.average > SLOW_AVERAGE {
            if now >= self.shrunk_at + SHRINK_INTERVAL {
                self.shrunk_at = now;
                self.limit = (self.limit * 3 / 4).max(MIN_LIMIT);
            }
        } else if is_used && duration < FRESH {
            self.limit = (self.limit + 1).min(MAX_ACTIONS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Runs as many actions as have room for each of `turns` times, each with this duration.
    fn run(slots: &mut Slots, turns: u32, duration: Duration, is_overload: bool, now: &mut Duration) {
        for _ in 0..turns {
            let began = *now;
            let mut count = 0;
            while slots.has_room(Priority::Renewal, *now) {
                slots.begin(Slot::Ordinary, *now);
                count += 1;
            }
            *now += duration;
            for _ in 0..count {
                slots.end(began, Slot::Ordinary, is_overload, *now);
            }
        }
    }

    #[test]
    fn the_limit_grows_while_answers_are_fast_and_shrinks_while_they_are_slow_or_refused() {
        let (mut slots, mut now) = (Slots::new(), Duration::from_secs(1_000));
        run(&mut slots, 10, 4 * MILLISECOND, false, &mut now);
        assert_eq!(slots.limit, MAX_ACTIONS);
        run(&mut slots, 20, 1_500 * MILLISECOND, false, &mut now);
        assert_eq!(slots.limit, MIN_LIMIT);
        run(&mut slots, 30, 4 * MILLISECOND, false, &mut now);
        assert_eq!(slots.limit, MAX_ACTIONS);
        run(&mut slots, 20, 1_000 * MILLISECOND, true, &mut now);
        assert_eq!(slots.limit, MIN_LIMIT);
    }

    /// Starts actions that never end, as many as have room, until the time is over.
    fn hang(slots: &mut Slots, lane: Priority, time: Duration, now: &mut Duration) {
        let end = *now + time;
        while *now < end {
            while slots.has_room(lane, *now) {
                slots.begin(Slot::of(lane), *now);
            }
            *now += NEW_INTERVAL;
        }
    }

    #[test]
    fn creations_that_hang_leave_slots_for_others_and_slow_namespaces_have_their_own() {
        let (mut slots, mut now) = (Slots::new(), Duration::from_secs(1_000));
        hang(&mut slots, Priority::New, Duration::from_mins(3), &mut now);
        assert_eq!(slots.running.len(), MAX_NEW + MAX_HANGING);
        assert!(slots.has_room(Priority::Renewal, now) && slots.has_room(Priority::Slow, now));
        hang(&mut slots, Priority::Renewal, Duration::from_secs(20), &mut now);
        assert_eq!(slots.running.len(), MAX_ACTIONS + MAX_HANGING);
        assert!(slots.has_room(Priority::Slow, now) && !slots.has_room(Priority::Urgent, now));
    }

    #[test]
    fn behind_creations_that_hang_for_forty_seconds_another_one_starts_every_few_seconds() {
        let (mut slots, mut now) = (Slots::new(), Duration::from_secs(1_000));
        let (mut started, mut longest) = (now, Duration::ZERO);
        while now < Duration::from_mins(20) {
            let limit = Duration::from_secs(40);
            let ended = slots.running.iter().filter(|(began, _)| now >= *began + limit).copied();
            for (began, slot) in ended.collect::<Vec<_>>() {
                slots.end(began, slot, false, now);
            }
            while slots.has_room(Priority::New, now) {
                slots.begin(Slot::New, now);
                longest = longest.max(now.saturating_sub(started));
                started = now;
            }
            now += 100 * MILLISECOND;
        }
        assert!(longest <= Duration::from_secs(3), "{longest:?}");
    }

    #[test]
    fn a_creation_that_hangs_gives_its_slot_to_another_one() {
        let (mut slots, now) = (Slots::new(), Duration::from_secs(1_000));
        slots.limit = MAX_ACTIONS;
        (0..MAX_NEW).for_each(|_| slots.begin(Slot::New, now));
        let later = now + Duration::from_secs(4);
        assert!(!slots.has_room(Priority::New, later));
        assert_eq!(slots.time_to_room(later), Some(UNANSWERED.saturating_sub(Duration::from_secs(4))));
        assert!(slots.has_room(Priority::New, now + UNANSWERED));
    }
}
