//! Accepts connections, speaks TLS or plain HTTP on them, answers their requests, and drains them at shutdown.
//!
//! A connection passes `accept` (listeners), `slots` (admission and eviction), `connection` (TLS and HTTP) and `refusal`
//! (responses that hyper makes by itself). A request passes `answer` (dispatch), `origin_check` (DNS rebinding and CSRF),
//! `authorize` (identity and permit) and the registry, the token endpoint or the admin page.
//!
//! A reload of the configuration replaces the [`RequestServices`]; requests in progress keep those that they began with.

mod accept;
mod access_log;
mod activity;
mod admission;
mod answer;
mod authorize;
mod certificate_names;
mod connection;
mod early;
mod endpoints;
mod heads;
mod health;
mod in_place;
mod liveness;
mod origin_check;
mod refusal;
mod services;
mod slots;
mod socket;
mod state;
mod tcp_info;
mod token;
mod transport;
mod waiting;

pub use self::access_log::OWN_AGENT;
pub use self::activity::Activity;
pub use self::early::{EarlyConnections, serve_health_during};
pub use self::services::{Limits, MetricsAccess, RequestServices};
pub use self::state::{Capacity, Server};
