//! A value that nearly always equals its default.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// A type whose default is one constant.
pub trait Constant: Default + PartialEq + 'static {
    const DEFAULT: &'static Self;
}

impl<K: Ord + 'static, V: PartialEq + 'static> Constant for BTreeMap<K, V> {
    const DEFAULT: &'static Self = &Self::new();
}

impl<T: Ord + 'static> Constant for BTreeSet<T> {
    const DEFAULT: &'static Self = &Self::new();
}

/// A value that takes one word while it equals its default: there is one in the record of each namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Constant> Rare<T> {
    /// Changes the value. Only a value that differs from its default stays allocated.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.take().unwrap_or_default();
        let result = change(&mut value);
        self.0 = (*value != *T::DEFAULT).then_some(value);
        result
    }
}

impl<T: Constant> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::DEFAULT).then(|| Box::new(value)))
    }
}

impl<T: Constant> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_value_that_differs_from_its_default_is_allocated() {
        let mut map: Rare<BTreeMap<u8, u8>> = Rare::default();
        assert_eq!(map.change(|map| map.insert(1, 2)), None);
        assert_eq!((map.get(&1), map.0.is_some()), (Some(&2), true));
        assert_eq!(map.change(|map| map.remove(&1)), Some(2));
        assert!(map.is_empty() && map.0.is_none() && Rare::from(BTreeMap::<u8, u8>::new()).0.is_none());
    }
}
