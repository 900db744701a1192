//! A queue of items in turn by namespace, so that none waits for the items of a noisy one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Items in turn by namespace; those of one namespace are in the order of their arrival.
#[derive(Debug)]
pub struct Turns<T> {
    /// The namespaces with items; the first one is next.
    order: VecDeque<Arc<str>>,
    lanes: HashMap<Arc<str>, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), lanes: HashMap::new(), len: 0 }
    }
}

impl<T> Turns<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of items of a namespace.
    pub fn len_of(&self, namespace: &str) -> usize {
        self.lanes.get(namespace).map_or(0, VecDeque::len)
    }

    /// The first item of a namespace that `is` the one.
    pub fn find(&mut self, namespace: &str, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.lanes.get_mut(namespace)?.iter_mut().find(|item| is(item))
    }

    pub fn push(&mut self, namespace: &Arc<str>, item: T) {
        let lane = self.lanes.entry(namespace.clone()).or_default();
        if lane.is_empty() {
            self.order.push_back(namespace.clone());
        }
        lane.push_back(item);
        self.len += 1;
    }

    /// The next item.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_where(1, |_| true)
    }

    /// The next item that `may` be returned, of at most this many namespaces.
    pub fn pop_where(&mut self, namespaces: usize, may: impl Fn(&T) -> bool) -> Option<T> {
        for _ in 0..self.order.len().min(namespaces) {
            let namespace = self.order.pop_front()?;
            let lane = self.lanes.get_mut(&namespace)?;
            let found = lane.iter().position(&may).and_then(|index| lane.remove(index));
            if lane.is_empty() {
                self.lanes.remove(&namespace);
            } else {
                self.order.push_back(namespace);
            }
            if found.is_some() {
                self.len -= 1;
                return found;
            }
        }
        None
    }

    /// Removes the first item of a namespace that `is` the one.
    pub fn remove(&mut self, namespace: &str, is: impl Fn(&T) -> bool) -> Option<T> {
        let lane = self.lanes.get_mut(namespace)?;
        let found = lane.iter().position(is).and_then(|index| lane.remove(index))?;
        self.len -= 1;
        if lane.is_empty() {
            self.lanes.remove(namespace);
            self.order.retain(|next| **next != *namespace);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns_and_keep_the_order_of_their_items() {
        let mut queue = Turns::default();
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        for n in 0..3 {
            queue.push(&a, ("a", n));
        }
        queue.push(&b, ("b", 0));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [("a", 0), ("b", 0), ("a", 1), ("a", 2)]);
        assert!(queue.is_empty() && queue.lanes.is_empty() && queue.order.is_empty());
    }

    #[test]
    fn a_search_looks_at_a_bounded_number_of_namespaces_and_goes_on_there() {
        let mut queue = Turns::default();
        for n in 0..10 {
            queue.push(&format!("team-{n}").into(), n);
        }
        assert_eq!(queue.pop_where(4, |n| *n == 5), None);
        assert_eq!(queue.pop_where(4, |n| *n == 5), Some(5));
        assert_eq!(queue.len(), 9);
    }

    #[test]
    fn an_item_can_be_removed_or_changed_in_its_place() {
        let mut queue = Turns::default();
        let a: Arc<str> = "a".into();
        queue.push(&a, 1);
        queue.push(&a, 2);
        *queue.find("a", |n| *n == 2).expect("it is queued") = 20;
        assert_eq!((queue.remove("a", |n| *n == 1), queue.remove("b", |_| true)), (Some(1), None));
        assert_eq!((queue.len_of("a"), queue.len_of("b"), queue.pop()), (1, 0, Some(20)));
        assert!(queue.order.is_empty());
    }
}
