//! Fair sharing of a bounded resource between its holders, such as the addresses and users that send requests.
//!
//! [`FairQueue`] is the pure logic, [`FairPool`] the semaphore that async code waits for. The room knows nothing of what
//! is shared, so that every other room can use it.

mod fair_pool;
mod fair_queue;

pub use self::fair_pool::{AcquireError, FairPermit, FairPool};
pub use self::fair_queue::{Entered, FairQueue, Limits, Ticket};
