//! The definitions of all keys, one file for each group of sections.

pub(super) mod access;
pub(super) mod admin;
pub(super) mod events;
pub(super) mod import;
pub(super) mod limits;
pub(super) mod network;
pub(super) mod operation;
pub(super) mod storage;
pub(super) mod tags;
