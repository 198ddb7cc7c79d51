//! Pages of a list in an order that no table has, in memory that does not grow with the list.

use std::cmp::Ordering;

use crate::store::error::StoreError;

/// The most items that one pass keeps; twice as many are in memory.
const KEPT: usize = 4096;

/// Returns `count` items after the first `skip`, in this order, in which no two items are equal. Each pass over `items`, which
/// calls its argument with every item of the list, finds the next [`KEPT`]: pages at the beginning take one pass.
pub(super) fn ranked<T: Clone>(
    items: impl Fn(&mut dyn FnMut(T)) -> Result<(), StoreError>,
    (mut skip, count): (usize, usize),
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, StoreError> {
    let mut after: Option<T> = None;
    loop {
        let is_last = skip.saturating_add(count) <= KEPT.max(count);
        let wanted = if is_last { skip + count } else { skip.min(KEPT) };
        let mut first = First { items: Vec::new(), wanted, bound: None, order: &order };
        items(&mut |item| {
            if after.as_ref().is_none_or(|after| order(&item, after).is_gt()) {
                first.add(item);
            }
        })?;
        let mut found = first.into_sorted();
        if is_last {
            return Ok(found.split_off(skip.min(found.len())));
        }
        skip -= wanted;
        after = found.pop();
        if after.is_none() {
            return Ok(Vec::new());
        }
    }
}

/// The first items of a list, in memory for twice as many.
struct First<'a, T, O> {
    items: Vec<T>,
    wanted: usize,
    /// The last of them, once there are more.
    bound: Option<T>,
    order: &'a O,
}

impl<T: Clone, O: Fn(&T, &T) -> Ordering> First<'_, T, O> {
    fn add(&mut self, item: T) {
        if self.bound.as_ref().is_some_and(|bound| (self.order)(&item, bound).is_gt()) {
            return;
        }
        self.items.push(item);
        if self.items.len() >= self.wanted.saturating_mul(2).max(1) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.items.len() > self.wanted && self.wanted > 0 {
            self.items.select_nth_unstable_by(self.wanted - 1, self.order);
        }
        self.items.truncate(self.wanted);
        if self.items.len() == self.wanted {
            self.bound = self.items.last().cloned();
        }
    }

    fn into_sorted(mut self) -> Vec<T> {
        self.shrink();
        self.items.sort_unstable_by(self.order);
        self.items
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn page_is_sorted_at_any_offset() {
        const COUNT: usize = 3 * KEPT + 100;
        let list: Vec<usize> = (0..COUNT).map(|number| number * 7919 % COUNT).collect();
        let passes = Cell::new(0);
        let page = |part| {
            passes.set(0);
            let items = |visit: &mut dyn FnMut(usize)| {
                passes.set(passes.get() + 1);
                list.iter().copied().for_each(visit);
                Ok(())
            };
            ranked(items, part, Ord::cmp).unwrap()
        };
        for skip in [0, 1, 95, KEPT - 3, KEPT - 2, KEPT, KEPT + 1, 2 * KEPT, COUNT - 3, COUNT - 1] {
            let expected: Vec<usize> = (skip..COUNT.min(skip + 3)).collect();
            assert_eq!(page((skip, 3)), expected, "{skip}");
            assert!(passes.get() <= skip / KEPT + 2);
        }
        assert_eq!((page((0, 3)).len(), passes.get()), (3, 1));
        assert!(page((COUNT, 3)).is_empty() && page((usize::MAX, 3)).is_empty() && page((5, 0)).is_empty());
        assert_eq!(page((0, 2 * KEPT)).len(), 2 * KEPT, "a page that is longer than a pass");
    }
}
