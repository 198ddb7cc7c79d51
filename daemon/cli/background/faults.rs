//! Faults of a check as sentences.

use crate::store::Fault;

/// Describes a fault.
pub(super) fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Missing { digest } => format!("{digest} is missing on the disk"),
        Fault::Length { digest, indexed, actual } => {
            format!("{digest} has {actual} bytes, but {indexed} in the index")
        }
        Fault::Corrupt { digest, .. } => format!("{digest} is corrupt"),
        Fault::Unreadable { digest, error } => format!("{digest} cannot be read: {error}"),
        Fault::MalformedManifest { repository, digest } => {
            format!("{digest} in {repository} is not a valid manifest")
        }
        Fault::Incomplete { repository, digest, missing } => {
            format!("{digest} in {repository} references {missing}, which is missing")
        }
        Fault::Index => "rows of the index are missing or contradict each other".to_owned(),
        Fault::Layout { problem } => format!("index.json: {problem}; it is rewritten from the index"),
        Fault::Dangling { repository, tag, digest } => {
            format!("{repository}:{tag} names {digest}, which is missing")
        }
        Fault::Miscounted { repository } => format!("the index has a wrong size for {repository}"),
    }
}
