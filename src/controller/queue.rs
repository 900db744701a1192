//! What is to be looked at, and when: lanes by urgency, delays by the wall clock, one action at a time for each
//! namespace. It only ever holds names.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How urgent it is; the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A namespace has no Secret, or asks for another one.
    New,
    /// A Secret was edited.
    Repair,
    /// A Secret is to go.
    Delete,
    /// A token is due; paced.
    Refresh,
}

const LANES: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Item {
    lane: Option<Lane>,
    wake: Option<Timestamp>,
    running: bool,
}

/// The queue of a controller.
pub struct Queue {
    items: HashMap<Arc<str>, Item>,
    lanes: [VecDeque<Arc<str>>; LANES],
    delayed: BTreeSet<(Timestamp, Arc<str>)>,
    refresh_interval: Duration,
    next_refresh: Instant,
}

impl Queue {
    /// An empty queue that lets so many refreshes through in a second.
    pub fn new(refreshes_per_second: u32) -> Self {
        Self {
            items: HashMap::new(),
            lanes: Default::default(),
            delayed: BTreeSet::new(),
            refresh_interval: Duration::from_secs(1) / refreshes_per_second.max(1),
            next_refresh: Instant::now(),
        }
    }

    /// Puts a namespace into a lane. It leaves a less urgent one, and loses its delay.
    pub fn push(&mut self, namespace: &Arc<str>, lane: Lane) {
        self.unschedule(namespace);
        let item = self.items.entry(namespace.clone()).or_default();
        if item.lane.is_none_or(|old| lane < old) {
            item.lane = Some(lane);
            self.lanes[lane as usize].push_back(namespace.clone());
        }
    }

    /// Has a namespace looked at again at `wake`; `None`: forgets it, until something changes.
    pub fn schedule(&mut self, namespace: &Arc<str>, wake: Option<Timestamp>) {
        self.unschedule(namespace);
        let item = self.items.entry(namespace.clone()).or_default();
        item.lane = None;
        item.wake = wake;
        if let Some(wake) = wake {
            self.delayed.insert((wake, namespace.clone()));
        }
        self.forget(namespace);
    }

    /// Whether an action is running there. What comes of it is always looked at, so that a change in between is
    /// seen then.
    pub fn is_running(&self, namespace: &str) -> bool {
        self.items.get(namespace).is_some_and(|item| item.running)
    }

    /// The next namespace whose turn it is.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<str>> {
        for lane in [Lane::New, Lane::Repair, Lane::Delete, Lane::Refresh] {
            if lane == Lane::Refresh && now < self.next_refresh {
                return None;
            }
            while let Some(namespace) = self.lanes[lane as usize].pop_front() {
                // One that moved to another lane is met there.
                let Some(item) = self.items.get_mut(&namespace).filter(|item| item.lane == Some(lane)) else {
                    continue;
                };
                item.lane = None;
                if lane == Lane::Refresh {
                    self.next_refresh = self.next_refresh.max(now) + self.refresh_interval;
                }
                return Some(namespace);
            }
        }
        None
    }

    /// An action begins.
    pub fn begin(&mut self, namespace: &Arc<str>) {
        self.items.entry(namespace.clone()).or_default().running = true;
    }

    /// An action ended.
    pub fn end(&mut self, namespace: &Arc<str>) {
        if let Some(item) = self.items.get_mut(namespace) {
            item.running = false;
        }
        self.forget(namespace);
    }

    /// Takes out every namespace whose delay is over.
    pub fn due(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let mut due = vec![];
        while self.delayed.first().is_some_and(|(wake, _)| *wake <= now) {
            let Some((_, namespace)) = self.delayed.pop_first() else { break };
            if let Some(item) = self.items.get_mut(&namespace) {
                item.wake = None;
            }
            due.push(namespace);
        }
        due
    }

    /// How long until something is due, at most `longest`.
    pub fn pause(&self, now: Timestamp, instant: Instant, longest: Duration) -> Duration {
        let delayed = self
            .delayed
            .first()
            .map(|(wake, _)| wake.duration_since(now).max(jiff::SignedDuration::ZERO).unsigned_abs());
        let paced = (!self.lanes[Lane::Refresh as usize].is_empty())
            .then(|| self.next_refresh.saturating_duration_since(instant));
        // A moment later than the deadline, for sleeping has the resolution of a millisecond.
        [delayed, paced]
            .into_iter()
            .flatten()
            .map(|d| d + Duration::from_millis(1))
            .fold(longest, Duration::min)
    }

    /// Forgets all that waits; what is running is still waited for.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
        self.delayed.clear();
        self.items.retain(|_, item| item.running);
        for item in self.items.values_mut() {
            (item.lane, item.wake) = (None, None);
        }
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        self.items.values().filter(|item| item.lane.is_some()).count()
    }

    fn unschedule(&mut self, namespace: &Arc<str>) {
        if let Some(wake) = self.items.get_mut(namespace).and_then(|item| item.wake.take()) {
            self.delayed.remove(&(wake, namespace.clone()));
        }
    }

    fn forget(&mut self, namespace: &Arc<str>) {
        if self.items.get(namespace).is_some_and(|i| i.lane.is_none() && i.wake.is_none() && !i.running) {
            self.items.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[tokio::test(start_paused = true)]
    async fn new_namespaces_come_before_any_refresh_and_refreshes_are_paced() {
        let mut queue = Queue::new(10);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        queue.push(&a, Lane::Refresh);
        queue.push(&b, Lane::Refresh);
        queue.push(&c, Lane::New);
        let now = Instant::now();
        assert_eq!(queue.pop(now), Some(c.clone()));
        assert_eq!(queue.pop(now), Some(a));
        assert_eq!(queue.pop(now), None, "the second refresh has to wait");
        queue.push(&c, Lane::New);
        assert_eq!(queue.pop(now), Some(c), "a new namespace has not");
        assert_eq!(queue.pop(now + Duration::from_millis(100)), Some(b));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_in_one_place_only() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        queue.schedule(&a, Some(at(5)));
        queue.push(&a, Lane::Refresh);
        queue.push(&a, Lane::New);
        assert_eq!(queue.due(at(9)), Vec::<Arc<str>>::new());
        assert_eq!(queue.pop(Instant::now()), Some(a.clone()));
        assert_eq!(queue.pop(Instant::now()), None);
        queue.schedule(&a, Some(at(5)));
        queue.schedule(&a, Some(at(7)));
        assert_eq!(queue.due(at(6)), Vec::<Arc<str>>::new());
        assert_eq!(queue.due(at(7)), std::slice::from_ref(&a));
        queue.schedule(&a, None);
        assert!(queue.items.is_empty(), "what nobody waits for is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_can_be_forgotten_and_what_runs_cannot() {
        let mut queue = Queue::new(10);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        queue.push(&a, Lane::New);
        queue.schedule(&b, Some(at(5)));
        queue.begin(&c);
        queue.schedule(&c, Some(at(6)));
        queue.clear();
        assert_eq!((queue.waiting(), queue.pop(Instant::now())), (0, None));
        assert_eq!(queue.due(at(9)), Vec::<Arc<str>>::new());
        assert!(queue.is_running(&c));
        queue.end(&c);
        assert!(queue.items.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_action_at_a_time() {
        let mut queue = Queue::new(10);
        let a: Arc<str> = "a".into();
        assert!(!queue.is_running(&a));
        queue.begin(&a);
        assert!(queue.is_running(&a));
        queue.end(&a);
        assert!(!queue.is_running(&a) && queue.items.is_empty());
    }
}
