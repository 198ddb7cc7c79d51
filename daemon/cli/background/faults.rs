//! Faults of a check as sentences.

use crate::store::{Fault, FaultFound};

/// Describes a fault, with the images that it concerns.
pub(super) fn describe(found: &FaultFound) -> String {
    let fault = describe_fault(&found.fault);
    match found.affected.images.as_slice() {
        [] => fault,
        [one] if !found.affected.has_more => format!("{fault}; of {one}"),
        [one, ..] => format!("{fault}; of {one} and others"),
    }
}

fn describe_fault(fault: &Fault) -> String {
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
