//! The ground floor: helpers that every room uses and no room owns. It knows nothing of registries and calls no other
//! room.
//!
//! Clocks (`clock`), sizes, counts and durations as text (`human`), a mutex without poisoning (`lock`), atomic file
//! replacement (`replace`), and detection of changed files (`stamp`).

pub mod clock;
pub mod human;
mod lock;
mod replace;
mod stamp;

pub use clock::Clock;
pub use lock::Lock;
pub use replace::{Durability, replace_file, write_output};
pub use stamp::FileStamp;
