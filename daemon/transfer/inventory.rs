//! Inventories: the digests of all content that a registry has, as a text file that travels on a medium.
//!
//! ```text
//! # holdfast inventory 1 id=UUID host=hub.lan:5000 time=1764102667
//! sha256:...
//! wanted team/app sha256:...
//! ```
//!
//! One head line, one digest per line, then content that an import missed, with the image that needs it.

use std::collections::BTreeSet;
use std::fmt;

use crate::oci::Digest;

/// The first words of an inventory.
const MAGIC: &str = "# holdfast inventory";
/// The format that this release writes and reads.
const FORMAT: &str = "1";
/// The folder of inventories on a medium.
pub const FOLDER: &str = "holdfast/have";
/// Maximum length of an inventory, in bytes: 400,000 digests.
pub const MAX_INVENTORY: usize = 32 << 20;

/// An inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The id of the registry; `-` if it has none.
    pub id: String,
    /// Its host.
    pub host: Option<String>,
    /// The time at which it was written by the clock of that machine, in seconds since 1970.
    pub time: u64,
    /// The content that the registry has.
    pub digests: BTreeSet<Digest>,
    /// The content that it misses.
    pub wanted: Vec<WantedContent>,
}

/// Content that a registry misses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedContent {
    /// The image that needs it: its repository, or `REPOSITORY:TAG`, or `REPOSITORY@DIGEST`.
    pub image: String,
    /// Its digest.
    pub digest: Digest,
}

/// The reason why a text is not an inventory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// The first line is not that of an inventory.
    #[error("the first line is not that of an inventory")]
    Head,
    /// A later release wrote it.
    #[error("the inventory has format {0}, which needs a later release of holdfast")]
    Format(String),
    /// A line is malformed.
    #[error("line {0} of the inventory is malformed")]
    Line(usize),
    /// The text is longer than [`MAX_INVENTORY`].
    #[error("the inventory is longer than 32 MiB")]
    TooLong,
}

impl Inventory {
    /// Parses an inventory. Line ends may be those of other systems.
    ///
    /// # Errors
    /// [`InventoryError`] with the number of the malformed line.
    pub fn parse(text: &str) -> Result<Self, InventoryError> {
        if text.len() > MAX_INVENTORY {
            return Err(InventoryError::TooLong);
        }
        let mut lines = text.lines();
        let mut inventory = Self::parse_head(lines.next().unwrap_or_default())?;
        for (number, line) in lines.enumerate() {
            let malformed = InventoryError::Line(number + 2);
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            match line.strip_prefix("wanted ") {
                Some(wanted) => {
                    let (image, digest) = wanted.split_once(' ').ok_or_else(|| malformed.clone())?;
                    let digest = digest.parse().map_err(|_| malformed)?;
                    inventory.wanted.push(WantedContent { image: image.to_owned(), digest });
                }
                None => drop(inventory.digests.insert(line.parse().map_err(|_| malformed)?)),
            }
        }
        Ok(inventory)
    }

    /// Parses the head line, without the content.
    ///
    /// # Errors
    /// [`InventoryError::Head`] or [`InventoryError::Format`].
    pub fn parse_head(line: &str) -> Result<Self, InventoryError> {
        let mut words = line.strip_prefix(MAGIC).ok_or(InventoryError::Head)?.split_whitespace();
        match words.next() {
            Some(FORMAT) => {}
            format => {
                return Err(InventoryError::Format(format.unwrap_or_default().chars().take(20).collect()));
            }
        }
        let mut inventory = Inventory::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "id" => value.clone_into(&mut inventory.id),
                "host" => inventory.host = Some(value.to_owned()),
                "time" => inventory.time = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        if inventory.id.is_empty() { Err(InventoryError::Head) } else { Ok(inventory) }
    }

    /// Formats the head line, without a line break. A host that would not be one word is left out.
    pub fn head(&self) -> String {
        let is_word = |host: &&String| !host.is_empty() && !host.contains(char::is_whitespace);
        let host = self.host.as_ref().filter(is_word);
        let host = host.map(|host| format!(" host={host}")).unwrap_or_default();
        format!("{MAGIC} {FORMAT} id={}{host} time={}", self.id, self.time)
    }
}

impl fmt::Display for WantedContent {
    /// Formats its line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "wanted {} {}", self.image, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn inventory() -> Inventory {
        let digest = |text: &[u8]| Hasher::digest(Algorithm::Sha256, text);
        Inventory {
            id: "0b2e".into(),
            host: Some("hub".into()),
            time: 7,
            digests: [digest(b"a"), digest(b"b")].into(),
            wanted: vec![WantedContent { image: "team/app".into(), digest: digest(b"c") }],
        }
    }

    fn text_of(inventory: &Inventory) -> String {
        let digests = inventory.digests.iter().map(ToString::to_string);
        let lines = digests.chain(inventory.wanted.iter().map(ToString::to_string));
        std::iter::once(inventory.head()).chain(lines).map(|line| line + "\n").collect()
    }

    #[test]
    fn inventory_reads_back_also_with_other_line_ends() {
        let text = text_of(&inventory());
        assert_eq!(Inventory::parse(&text), Ok(inventory()));
        assert_eq!(Inventory::parse(&text.replace('\n', "\r\n")), Ok(inventory()));
    }

    #[test]
    fn head_has_one_word_for_each_value() {
        let of = |host: &str| Inventory { host: Some(host.into()), ..inventory() }.head();
        assert_eq!(of("hub:5000"), "# holdfast inventory 1 id=0b2e host=hub:5000 time=7");
        assert_eq!(of("a b"), "# holdfast inventory 1 id=0b2e time=7");
        assert_eq!(of(""), of("a b"));
    }

    #[test]
    fn malformed_lines_are_named() {
        let text = text_of(&inventory());
        assert_eq!(Inventory::parse(&format!("{text}sha256:1\n")), Err(InventoryError::Line(5)));
        assert_eq!(Inventory::parse(&format!("{text}wanted x\n")), Err(InventoryError::Line(5)));
        assert_eq!(Inventory::parse(""), Err(InventoryError::Head));
        assert_eq!(Inventory::parse("# holdfast inventory 2 id=x"), Err(InventoryError::Format("2".into())));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = Inventory::parse(&text);
            let _ = Inventory::parse(&format!("# holdfast inventory 1 id=x\n{text}"));
        }
    }
}
