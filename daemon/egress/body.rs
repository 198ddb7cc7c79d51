//! Bodies of requests.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// The body of a request.
pub type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// Makes the body of a request from bytes in memory.
pub fn whole_body(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
