//! The watches of several namespaces as one. Its list is complete when each of them has listed, so that the index sees one list
//! of one target, whatever the scope is.

use std::collections::VecDeque;
use std::fmt::Debug;

use futures::stream::{BoxStream, SelectAll, select_all, unfold};
use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::watch::{BACKOFF, describe};
use crate::controller::change::WatchTarget;
use crate::core::Jitter;

/// Why the events of a watch are interrupted.
#[derive(Debug)]
pub enum Interruption {
    Watch(watcher::Error),
    /// The response with a streamed list ended before the list was complete. kube's watcher repeats the request without an error.
    ListCutOff,
}

pub type Item<K> = Result<Event<K>, Interruption>;

/// The events of all `apis`. Ends when one of several watches lists again by itself: then each must list again.
pub fn events<K>(
    apis: &[Api<K>],
    config: &watcher::Config,
    jitter: Jitter,
    target: &WatchTarget,
) -> BoxStream<'static, Item<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let one = |api: &Api<K>| {
        let events = watcher(api.clone(), config.clone());
        paused(checked(events), jitter, target.clone()).boxed()
    };
    if let [api] = apis {
        return one(api);
    }
    let numbered = |(number, api)| one(api).map(move |item| (number, item)).boxed();
    let watches = select_all(apis.iter().enumerate().map(numbered));
    unfold((watches, Merge::new(apis.len())), next).boxed()
}

/// The watches, whose items have their numbers, and what was taken of them.
type State<K> = (SelectAll<BoxStream<'static, (usize, Item<K>)>>, Merge<K>);

async fn next<K: Send + 'static>((mut watches, mut merge): State<K>) -> Option<(Item<K>, State<K>)> {
    loop {
        if let Some(item) = merge.ready.pop_front() {
            return Some((item, (watches, merge)));
        }
        let (number, item) = watches.next().await?;
        if !merge.take(number, item) {
            return None;
        }
    }
}

/// The events of one watch, with an interruption where a list begins again although it was not complete and no request failed.
fn checked<K: Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Item<K>> + Send + 'static {
    let mut is_listing = false;
    events.map(move |event| {
        let was_listing = is_listing;
        is_listing = matches!(&event, Ok(Event::Init | Event::InitApply(_)));
        match event {
            Ok(Event::Init) if was_listing => Err(Interruption::ListCutOff),
            event => event.map_err(Interruption::Watch),
        }
    })
}

/// The events of one watch. After an error it pauses before the next attempt.
fn paused<K: Send + 'static>(
    events: impl Stream<Item = Item<K>> + Send + 'static,
    jitter: Jitter,
    target: WatchTarget,
) -> impl Stream<Item = Item<K>> + Send + 'static {
    unfold((events.boxed(), 0_u32, false), move |(mut events, failures, pause)| {
        let target = target.clone();
        async move {
            if pause {
                sleep(BACKOFF.delay(failures, jitter, &target)).await;
            }
            let event = events.next().await?;
            // The start of a list does not mean that it succeeds.
            let failures = match &event {
                Ok(Event::Init | Event::InitApply(_)) => failures,
                Ok(_) => 0,
                Err(_) => failures + 1,
            };
            let pause = event.is_err();
            Some((event, (events, failures, pause)))
        }
    })
}

/// How far the list of one watch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It reported no object yet.
    Nothing,
    Some,
    Done,
    /// The API server refuses the list: the other namespaces do not wait for it.
    Refused,
}

struct Merge<K> {
    progress: Vec<Progress>,
    is_started: bool,
    is_done: bool,
    /// The items that the caller has not taken yet.
    ready: VecDeque<Item<K>>,
}

impl<K> Merge<K> {
    fn new(watches: usize) -> Self {
        let progress = vec![Progress::Nothing; watches];
        Self { progress, is_started: false, is_done: false, ready: VecDeque::new() }
    }

    /// Takes an item of a watch. Returns whether the merged watch goes on.
    fn take(&mut self, number: usize, item: Item<K>) -> bool {
        let before = self.progress[number];
        match &item {
            Ok(Event::Init) => {
                if !self.is_started {
                    self.is_started = true;
                    self.ready.push_back(item);
                }
                // A list that begins again no longer reports what was deleted in between.
                return matches!(before, Progress::Nothing | Progress::Refused);
            }
            Ok(Event::InitApply(_)) if before == Progress::Nothing => self.progress[number] = Progress::Some,
            Ok(Event::InitDone) => {
                self.progress[number] = Progress::Done;
                self.finish();
                return before != Progress::Refused;
            }
            Err(error) if before == Progress::Nothing && describe(error).0 == 403 => {
                self.progress[number] = Progress::Refused;
                self.ready.push_back(item);
                self.finish();
                return true;
            }
            _ => {}
        }
        self.ready.push_back(item);
        true
    }

    fn finish(&mut self) {
        let is_listed = |progress: &Progress| matches!(progress, Progress::Done | Progress::Refused);
        let has_list = self.progress.contains(&Progress::Done);
        if !self.is_done && has_list && self.progress.iter().all(is_listed) {
            self.is_done = true;
            self.ready.push_back(Ok(Event::InitDone));
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::Status;

    use super::*;

    enum Sent {
        Init,
        Object,
        Done,
        Forbidden,
        Unavailable,
    }

    fn item(sent: &Sent) -> Item<Secret> {
        let error = |code| {
            let status = Status { code, ..Status::default() };
            let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
            Err(Interruption::Watch(error))
        };
        match sent {
            Sent::Init => Ok(Event::Init),
            Sent::Object => Ok(Event::InitApply(Secret::default())),
            Sent::Done => Ok(Event::InitDone),
            Sent::Forbidden => error(403),
            Sent::Unavailable => error(503),
        }
    }

    /// The merged events of two watches, and whether the merged watch goes on after the last one.
    fn merged(sent: &[(usize, Sent)]) -> (String, bool) {
        let (mut merge, mut goes_on) = (Merge::new(2), true);
        for (number, sent) in sent {
            assert!(goes_on, "nothing is taken after the end");
            goes_on = merge.take(*number, item(sent));
        }
        let name = |item: &Item<Secret>| match item {
            Ok(Event::Init) => 'I',
            Ok(Event::InitApply(_)) => 'o',
            Ok(Event::InitDone) => 'D',
            Ok(_) => '?',
            Err(_) => 'e',
        };
        (merge.ready.iter().map(name).collect(), goes_on)
    }

    #[test]
    fn the_list_begins_once_and_ends_when_both_have_listed() {
        use Sent::{Done, Init, Object};
        let sent = [(0, Init), (0, Object), (0, Done), (1, Init), (1, Object)];
        assert_eq!(merged(&sent), ("Ioo".to_owned(), true));
        let sent = [(0, Init), (1, Init), (1, Done), (0, Object), (0, Done)];
        assert_eq!(merged(&sent), ("IoD".to_owned(), true));
    }

    #[test]
    fn a_refused_list_delays_no_other_but_one_that_fails_is_awaited() {
        use Sent::{Done, Forbidden, Init, Unavailable};
        let sent = [(0, Init), (1, Init), (1, Forbidden), (0, Done)];
        assert_eq!(merged(&sent), ("IeD".to_owned(), true));
        let sent = [(0, Init), (1, Init), (1, Unavailable), (0, Done), (1, Init)];
        assert_eq!(merged(&sent), ("Ie".to_owned(), true));
        let sent = [(0, Init), (0, Forbidden), (1, Init), (1, Forbidden)];
        assert_eq!(merged(&sent), ("Iee".to_owned(), true), "without any list nothing is known");
    }

    #[test]
    fn all_list_again_if_one_does_after_it_reported_objects_or_once_it_is_allowed() {
        use Sent::{Done, Forbidden, Init, Object, Unavailable};
        for sent in [
            &[(0, Init), (0, Object), (0, Unavailable), (0, Init)][..],
            &[(0, Init), (0, Done), (1, Init), (1, Done), (0, Init)],
            &[(0, Init), (1, Init), (1, Forbidden), (0, Done), (1, Init), (1, Object), (1, Done)],
        ] {
            assert!(!merged(sent).1);
        }
    }
}
