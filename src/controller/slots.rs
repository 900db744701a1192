//! How many actions run at once. Their number follows how fast the API server responds, and actions that hang leave slots for
//! others.

use std::time::Duration;

use super::queue::Priority;

/// The maximum number of actions, besides lists and those of slow namespaces.
const MAX_ACTIONS: usize = 64;
/// The maximum number of creations: those that hang, as behind a webhook, leave slots for renewals.
const MAX_NEW: usize = 48;
/// The maximum number of actions in namespaces whose last request was not answered.
const MAX_SLOW: usize = 8;
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
    fn is_separate(self) -> bool {
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
        let count = |slot| self.running.iter().filter(|(_, of)| *of == slot).count();
        match Slot::of(lane) {
            Slot::Slow => count(Slot::Slow) < MAX_SLOW,
            Slot::List => count(Slot::List) < MAX_LISTS,
            slot => {
                let ordinary = self.running.iter().filter(|(_, of)| !of.is_separate());
                let fresh = ordinary.clone().filter(|(began, _)| now < *began + FRESH).count();
                let is_open = ordinary.count() < MAX_ACTIONS && fresh < self.limit;
                is_open && (slot != Slot::New || count(Slot::New) < MAX_NEW)
            }
        }
    }

    /// How long until an action that runs does not count as fresh any more, if that may give room.
    pub fn time_to_room(&self, now: Duration) -> Option<Duration> {
        let fresh = self.running.iter().filter(|(began, of)| !of.is_separate() && now < *began + FRESH);
        fresh.map(|(began, _)| (*began + FRESH).saturating_sub(now)).min()
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

    #[test]
    fn creations_that_hang_leave_slots_for_others_and_slow_namespaces_have_their_own() {
        let (mut slots, mut now) = (Slots::new(), Duration::from_secs(1_000));
        for _ in 0..10 {
            while slots.has_room(Priority::New, now) {
                slots.begin(Slot::New, now);
            }
            now += FRESH;
        }
        assert_eq!(slots.running.len(), MAX_NEW);
        assert!(slots.has_room(Priority::Renewal, now) && slots.has_room(Priority::Slow, now));
        for _ in 0..10 {
            while slots.has_room(Priority::Renewal, now) {
                slots.begin(Slot::Ordinary, now);
            }
            now += FRESH;
        }
        assert_eq!(slots.running.len(), MAX_ACTIONS);
        assert!(slots.has_room(Priority::Slow, now) && !slots.has_room(Priority::Urgent, now));
    }
}
