//! HTTP as types: routes, the stages of a request, responses, and the one place where errors become statuses.
//!
//! A request is [`Parsed`] first and gives nothing but its route; with a permit it becomes [`Permitted`], and
//! only that has a body. Whatever arrives, it gets an answer or the connection ends; nothing here panics.

pub mod audit;
pub mod conditional;
mod confine;
mod cors;
mod error;
mod events;
mod framing;
mod host;
mod location;
mod origin;
mod pace;
mod range;
mod request;
mod response;
mod route;

pub use self::confine::{as_download, confine, is_of_one_answer};
pub use self::cors::Cors;
pub use self::error::ApiError;
pub use self::events::{Deed, Event, Events};
pub use self::framing::check_framing;
pub use self::host::check_host;
pub use self::location::Locations;
pub use self::origin::is_of_other_origin;
pub use self::pace::Pace;
pub use self::range::{ByteRange, ContentRange, ParseRangeError, RangeOutcome, resolve_range};
pub use self::request::{Parsed, Permitted, RequestBody};
pub use self::response::{BodyError, Chunks, Response, ResponseBody, empty, json, with_bytes};
pub use self::route::{Query, Route, RouteError};
