//! Drives the real binary over real sockets; one module per subject.
#![expect(clippy::disallowed_methods, reason = "tests act as the operator, and as a failing disk")]
#![allow(clippy::pedantic, clippy::unwrap_used, missing_docs, reason = "a test panics at the unexpected")]

mod api;
mod architecture;
mod browser;
mod clients;
mod documents;
mod durability;
mod operation;
mod support;
