//! The places at which the keys of a configuration are set.

use std::collections::BTreeMap;

/// The places at which keys are set, by the full names of the keys; those of rules one after the other. Two configurations
/// with the same settings are equal, wherever these are set.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<&'static str, Vec<String>>);

impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

impl Eq for Places {}

impl Places {
    /// Takes the places by the full names of the keys.
    pub(super) fn new(places: BTreeMap<&'static str, Vec<String>>) -> Self {
        Places(places)
    }

    /// Returns the places of a key; several for rules.
    pub(super) fn of_key(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}
