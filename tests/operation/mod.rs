//! Operation: command line, configuration, reload, TLS, health, metrics and the admin page as an operator uses them. Needs
//! root, curl, openssl, strace and Prometheus.

mod admin_rights;
mod admin_safety;
mod admin_warnings;
mod command_line;
mod config_check;
mod health;
mod metrics;
mod registry2;
mod reload;
mod service;
mod tls;
mod untrusted_input;
