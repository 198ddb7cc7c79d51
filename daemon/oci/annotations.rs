//! Annotations that Holdfast itself reads or writes.

/// The tag or the whole name of an image, in an index of a layout (image specification, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The whole name of an image in the store of containerd, and of Docker.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The name of the image from which another one was made; zarf writes the name of the image itself.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// The repository of an image in a layout of Holdfast.
pub const REPOSITORY: &str = "io.holdfast.repository";

/// The time of the push of an image, in seconds since 1970.
pub const PUSHED: &str = "io.holdfast.pushed";

/// The file name of a layer of an artifact (image specification, "Pre-Defined Annotation Keys").
pub(super) const TITLE: &str = "org.opencontainers.image.title";

/// The kind of an index entry that is not an image, such as the attestations that `BuildKit` adds.
pub(super) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Annotations that a bounded map keeps even when it is full.
pub(super) const ALWAYS_KEPT: [&str; 2] = [TITLE, REFERENCE_TYPE];
