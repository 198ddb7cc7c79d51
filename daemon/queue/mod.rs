//! Fair sharing of a bounded resource between the users and client addresses that request it.
//!
//! [`FairQueue`] is the pure scheduling logic: round robin between holders, with bounded queues and two lanes.
//! [`FairPool`] is the semaphore over it that async code awaits. The room does not know what is shared, so any room can
//! use it.

mod fair_pool;
mod fair_queue;

pub use self::fair_pool::{AcquireError, FairPermit, FairPool};
pub use self::fair_queue::{Entered, FairQueue, Lane, Limits, Ticket};
