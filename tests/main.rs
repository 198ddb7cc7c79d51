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
mod collection;
mod command_line;
mod concurrency;
mod cors;
mod crash_points;
mod damaged_off;
mod descriptors;
mod discovery;
mod errors;
mod exercise;
mod fairness;
mod full_disk;
mod hanging_disk;
mod hostile;
mod http_edges;
mod immutable;
mod last_block;
mod last_page;
mod limits;
mod logging;
mod lost_names;
mod management;
mod many_names;
mod model;
mod power_cut;
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
mod support;
mod tls;
mod untrusted_content;
mod uploads;
