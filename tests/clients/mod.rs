//! Real clients: a Docker engine, containerd, skopeo, podman, and proxies between client and registry. Needs root.

pub mod engines;
mod exercise;
mod login;
mod proxies;
mod transfer_import;
