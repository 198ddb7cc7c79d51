//! Real clients: a Docker engine, containerd, skopeo, podman, and proxies between client and registry. Needs root.

pub mod engines;
mod exercise;
mod formats;
mod login;
mod proxies;
mod setup_page;
mod transfer_import;
