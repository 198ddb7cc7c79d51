//! Holdfast: a container registry for the edge.
//!
//! ARCHITECTURE.md says which room calls which; `tests/architecture.rs` holds it against this code.

pub mod access;
pub mod oci;
pub mod registry;
pub mod store;
pub mod wire;
