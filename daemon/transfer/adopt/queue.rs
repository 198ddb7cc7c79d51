//! The order of images: the one with the least missing content comes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::Digest;

/// Images that wait. What they miss becomes less with each blob that arrives.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The missing amount and the number of each image.
    waiting: BTreeSet<(u64, usize)>,
    /// The missing amount of each image.
    amounts: Vec<u64>,
    /// The size of each missing blob, and the images that need it.
    missing: BTreeMap<Digest, (u64, Vec<usize>)>,
}

impl Queue {
    /// Makes a queue of images by their blobs, and of the missing blobs by their sizes.
    pub(super) fn new<'a>(
        images: impl Iterator<Item = &'a [Digest]>,
        missing: impl Iterator<Item = (Digest, u64)>,
    ) -> Self {
        let missing = missing.map(|(digest, size)| (digest, (size, Vec::new()))).collect();
        let mut queue = Queue { missing, ..Queue::default() };
        for (number, blobs) in images.enumerate() {
            let mut amount = 0_u64;
            for blob in blobs {
                if let Some((size, images)) = queue.missing.get_mut(blob) {
                    amount = amount.saturating_add(*size);
                    images.push(number);
                }
            }
            queue.amounts.push(amount);
            queue.waiting.insert((amount, number));
        }
        queue
    }

    /// Takes the next image, with its missing amount.
    pub(super) fn pop(&mut self) -> Option<(usize, u64)> {
        self.waiting.pop_first().map(|(amount, number)| (number, amount))
    }

    /// Returns true if the sink does not have a blob.
    pub(super) fn is_missing(&self, digest: &Digest) -> bool {
        self.missing.contains_key(digest)
    }

    /// Returns the images that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().map(|(_, number)| *number)
    }

    /// Notes that the sink has a blob now.
    pub(super) fn arrived(&mut self, digest: &Digest) {
        let Some((size, images)) = self.missing.remove(digest) else { return };
        for number in images {
            let Some(amount) = self.amounts.get_mut(number) else { continue };
            let was_waiting = self.waiting.remove(&(*amount, number));
            *amount = amount.saturating_sub(size);
            if was_waiting {
                self.waiting.insert((*amount, number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_with_the_least_missing_content_is_next() {
        let digest = |fill: &str| -> Digest { format!("sha256:{}", fill.repeat(64)).parse().unwrap() };
        let (base, small, large, present) = (digest("a"), digest("b"), digest("c"), digest("d"));
        let images = [
            vec![base.clone(), small.clone()],
            vec![base.clone(), present.clone()],
            vec![large.clone()],
            vec![present],
        ];
        let missing = [(base.clone(), 100), (small, 60), (large, 110)];
        let mut queue = Queue::new(images.iter().map(Vec::as_slice), missing.into_iter());
        assert_eq!(queue.pop(), Some((3, 0)));
        assert_eq!(queue.pop(), Some((1, 100)));
        queue.arrived(&base);
        assert!(!queue.is_missing(&base));
        assert_eq!(queue.waiting().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(queue.pop(), Some((0, 60)));
        assert_eq!(queue.pop(), Some((2, 110)));
        assert_eq!(queue.pop(), None);
    }
}
