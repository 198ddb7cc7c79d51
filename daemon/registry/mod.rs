//! The `/v2/` API of the distribution specification: one file for each resource.
//!
//! Each request has its permit already. A handler calls the store and turns the result into a response. Errors are
//! problems of the rooms below; `wire` turns them into a status and the standard's JSON.

mod api;
mod blobs;
mod catalog;
mod dispatch;
mod headers;
mod manifests;
mod referrers;
mod state;
mod tags;
mod upload_slots;
mod uploads;

pub use self::api::Registry;
pub use self::headers::set_api_version;
pub use self::upload_slots::UploadSlots;
