//! Drives the real binary over real sockets, one module for each subject.
#![expect(clippy::disallowed_methods, reason = "tests play the user, and the disk that fails")]
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test ends at what it does not expect"
)]

mod admin;
mod admin_safety;
mod admin_size;
mod admin_warnings;
mod appliance;
mod architecture;
mod auth;
mod broken_disk;
mod broken_index;
mod browser;
mod check;
mod clients;
mod clients_login;
mod collection;
mod collection_hold;
mod collection_leases;
mod collection_recovery;
mod command_line;
mod concurrency;
mod cors;
mod crash_points;
mod damaged_blobs;
mod damaged_off;
mod descriptors;
mod directory_errors;
mod discovery;
mod dry_run;
mod errors;
mod exercise;
mod fairness;
mod full_disk;
mod hanging_disk;
mod health;
mod hostile;
mod http_edges;
mod immutable;
mod large_deletes;
mod last_block;
mod last_page;
mod layout_check;
mod limits;
mod logging;
mod lost_names;
mod management;
mod many_names;
mod memory_faults;
mod metrics;
mod model;
mod obstacles;
mod power_cut;
mod proxies;
mod proxy;
mod pull;
mod push_blob;
mod push_manifest;
mod races;
mod read_only;
mod registry2;
mod resources;
mod restart;
mod retention;
mod rights;
mod strangers;
mod summaries;
mod support;
mod throttle;
mod tls;
mod tokens;
mod untrusted_content;
mod uploads;
