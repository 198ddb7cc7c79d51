//! The ground floor: what every room needs and no room owns. It knows nothing of registries, and calls no other room.

pub mod clock;
pub mod human;
mod lock;
mod replace;
mod stamp;

pub use clock::Clock;
pub use lock::Lock;
pub use replace::{Durability, replace_file};
pub use stamp::FileStamp;
