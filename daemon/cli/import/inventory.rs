//! The inventory on the medium, from which the next export leaves out what this registry has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::failure::Failure;
use super::super::owner::Client;
use super::output::Output;
use crate::transfer::Row;
use crate::transfer::export::{ExportError, Medium};
use crate::transfer::inventory::{FOLDER, WantedContent};

/// Writes the inventory to each medium that is a directory. An inventory that cannot be written is a remark.
pub(super) async fn write(client: &mut Client, media: &[PathBuf], rows: &[Row], output: &mut Output) {
    let directories: Vec<&PathBuf> = media.iter().filter(|path| path.is_dir()).collect();
    if directories.is_empty() {
        return;
    }
    let (id, mut text) = match read(client).await {
        Ok(inventory) => inventory,
        Err(reason) => {
            return output.note(&format!("the medium has no inventory of this registry: {reason}"));
        }
    };
    let mut lines = BTreeSet::new();
    for row in rows {
        for item in row.missing.iter() {
            lines.insert(WantedContent { image: row.name.clone(), digest: item.digest.clone() }.to_string());
        }
    }
    let known: BTreeSet<&str> = text.lines().collect();
    let new: String =
        lines.iter().filter(|line| !known.contains(line.as_str())).map(|line| format!("{line}\n")).collect();
    text += &new;
    for directory in directories {
        if let Err(error) = write_to(directory, &id.to_string(), &text) {
            let place = directory.display();
            output.note(&format!("{place} has no inventory of this registry: {error}"));
        }
    }
}

/// Reads the inventory; returns the id of the registry, and the text.
async fn read(client: &mut Client) -> Result<(Uuid, String), String> {
    let bytes = client.bytes("inventory").await.map_err(|error| Failure::from(error).line)?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
    let head = text.lines().next().unwrap_or_default();
    let mut ids = head.split_whitespace().filter_map(|word| word.strip_prefix("id="));
    let id = ids.find_map(|id| Uuid::try_parse(id).ok()).ok_or("it does not name the registry")?;
    Ok((id, text))
}

fn write_to(directory: &Path, id: &str, text: &str) -> Result<(), ExportError> {
    let medium = Medium::open(directory)?;
    medium.create_folder(FOLDER)?;
    medium.replace(&format!("{FOLDER}/{id}.txt"), text.as_bytes())
}
