//! Holdfast: a container registry for the edge. Each module is a room; ARCHITECTURE.md defines which rooms call which, and
//! docs/explanation/architecture.md is a guided tour: a push, a pull and a configuration key, from file to file.

pub mod access;
pub mod admin;
pub mod base;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod egress;
pub mod intake;
pub mod jobs;
pub mod metrics;
pub mod oci;
pub mod queue;
pub mod registry;
pub mod server;
pub mod service;
pub mod store;
pub mod tls;
pub mod transfer;
pub mod wire;
