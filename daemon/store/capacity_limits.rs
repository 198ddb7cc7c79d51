//! The limits of pushes that the configuration sets.

/// Limits of the space and the names that pushes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapacityLimits {
    /// The bytes of the file system that pushes leave free. Default: a twentieth of it, at most 256 MiB.
    pub reserve: Option<u64>,
    /// The maximum size of blobs and unfinished uploads together, in bytes.
    pub quota: Option<u64>,
    /// The maximum number of names.
    pub names: NameLimits,
    /// The maximum number of unfinished uploads on the disk.
    pub unfinished_uploads: Option<u64>,
}

/// Limits of the names that pushes create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLimits {
    /// The maximum number of tags of one repository.
    pub tags_per_repository: u64,
    /// The maximum number of tags and manifests of all repositories together.
    pub names: u64,
}

impl Default for NameLimits {
    /// Returns no limits.
    fn default() -> Self {
        NameLimits { tags_per_repository: u64::MAX, names: u64::MAX }
    }
}
