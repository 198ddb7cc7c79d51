//! Operation: command line, configuration, reload, TLS, health, metrics and the admin page as an operator uses them. Needs
//! root, curl, openssl, strace, skopeo, docker-registry and Prometheus.

mod admin_rights;
mod admin_safety;
mod admin_warnings;
mod adopt;
mod command_line;
mod config_check;
mod denied;
mod export;
mod foreign_archives;
mod health;
mod import;
mod import_folder;
mod metrics;
mod names;
mod owner;
mod page_names;
mod page_rights;
mod registry2;
mod reload;
mod remote;
mod service;
mod tls;
mod transfer;
mod untrusted_input;
mod wake;
