//! Annotations that the daemon itself reads.

/// The file name of a layer of an artifact (image specification, "Pre-Defined Annotation Keys").
pub(super) const TITLE: &str = "org.opencontainers.image.title";

/// The kind of an index entry that is not an image, such as the attestations that `BuildKit` adds.
pub(super) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Annotations that a bounded map keeps even when it is full.
pub(super) const ALWAYS_KEPT: [&str; 2] = [TITLE, REFERENCE_TYPE];
