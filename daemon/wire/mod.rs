//! HTTP as types: routes, the stages of a request, responses, errors, and the policies against CSRF and DNS rebinding.
//!
//! A request is [`Parsed`] first and gives access to its route only; a permit turns it into [`Permitted`], which has
//! the body. Errors are problems without HTTP (`oci`), and [`status_of`] is the one table that maps them to statuses.
//! Any request gets a response, or its connection is closed; malformed input never panics.

mod addresses;
pub mod audit;
mod challenge;
pub mod conditional;
mod confine;
mod cors;
mod error;
mod forwarded;
mod framing;
mod host;
mod origin;
mod origin_policy;
mod pace;
mod range;
mod request;
mod response;
mod route;
mod status;

pub use self::addresses::{Addresses, TargetOrigin};
pub use self::challenge::{Challenge, TOKEN_PATH, TokenEndpoint};
pub use self::confine::{confine, describes_one_response, mark_as_download};
pub use self::cors::Cors;
pub use self::error::ApiError;
pub use self::forwarded::is_forwarded;
pub use self::framing::check_framing;
pub use self::host::{check_host, requested_name};
pub use self::origin_policy::{CsrfPolicy, RebindingPolicy, is_sent_by_page};
pub use self::pace::Pace;
pub use self::range::{ByteRange, ContentRange, ParseRangeError, RangeOutcome, resolve_range};
pub use self::request::{Parsed, Permitted, RequestBody};
pub use self::response::{BodyError, Chunks, Response, ResponseBody, empty, json, with_bytes};
pub use self::route::{Query, Route, RouteError};
pub use self::status::status_of;
