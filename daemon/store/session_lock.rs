//! The lock of the upload sessions: [`crate::base::Lock`]. Unit tests have one of the same interface in its place, which
//! lets a scheduler decide which thread gets it next; see `interleaving.rs`.

#[cfg(not(test))]
pub(super) use std::sync::MutexGuard as Guard;

#[cfg(test)]
pub(super) use super::interleaving::{Guard, Lock};
#[cfg(not(test))]
pub(super) use crate::base::Lock;
