//! The hosts of Docker Hub, whose name in images is not that of its registry.

/// The host in names of images.
pub const NAME: &str = "docker.io";
/// The host of the registry.
pub const REGISTRY: &str = "registry-1.docker.io";
/// The host of the token server.
pub(super) const TOKEN_SERVER: &str = "auth.docker.io";
/// The host in the configuration of Docker.
const INDEX: &str = "index.docker.io";
/// The key of the credentials in the configuration of Docker.
pub(super) const CREDENTIALS_KEY: &str = "https://index.docker.io/v1/";

/// Returns true if a host is another name of the registry.
pub fn is_alias(host: &str) -> bool {
    [NAME, INDEX].contains(&host)
}

/// Returns true if a host is a name of the registry.
pub(super) fn is_hub(host: &str) -> bool {
    is_alias(host) || host == REGISTRY
}
