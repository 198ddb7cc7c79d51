//! The values that the sources give, by the full name of their key. A later source replaces the value of an earlier
//! one.

use std::collections::BTreeMap;

use super::item::{Entry, Item, Place, Value};

/// The values that the sources give.
#[derive(Default)]
pub(super) struct Given(BTreeMap<String, Item>);

impl Given {
    pub(super) fn set(&mut self, key: impl Into<String>, item: Item) {
        self.0.insert(key.into(), item);
    }

    /// Sets one entry of a table; the others stay.
    pub(super) fn set_entry(&mut self, key: &str, entry: Entry) {
        let place = entry.place.clone();
        let table = || Item { value: Value::Table(Vec::new()), place };
        let item = self.0.entry(key.to_owned()).or_insert_with(table);
        if let Value::Table(entries) = &mut item.value {
            entries.retain(|known| known.key != entry.key);
            entries.push(entry);
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.0.get(key)
    }

    /// Returns the keys that are set, each with its place.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&String, &Place)> {
        self.0.iter().map(|(key, item)| (key, &item.place))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn place(&self, key: &str) -> Option<Place> {
        self.get(key).map(|item| item.place.clone())
    }
}
