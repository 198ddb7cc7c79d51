//! The configuration: file, environment and command line become one validated [`Config`].
//!
//! The precedence is: command line, `HOLDFAST_*`, `REGISTRY_*` (the names in compose files of registry:2), file,
//! default. Each key is defined once, in `keys/`; `key.rs` lists all that follows from a definition. A configuration
//! with any mistake is refused as a whole, and the error names all mistakes with their places.

mod access_log;
mod definitions;
mod effective;
mod environment;
mod file;
mod format;
mod given;
mod headers;
mod item;
mod key;
mod keys;
mod load;
mod places;
mod problem;
mod reference;
mod registry2;
mod rules;
mod settings;
mod show;
mod suggest;
mod template;
#[cfg(test)]
mod tests;
mod text_formats;
mod user_rules;
mod values;

pub use self::effective::EffectiveSetting;
pub use self::load::{Overrides, from_text, load};
pub use self::places::Places;
pub use self::problem::ConfigError;
pub use self::reference::{KeyReference, SectionReference, reference};
pub use self::registry2::DATA as REGISTRY_2_DATA;
pub use self::settings::{
    Admin, Auth, Config, DataSource, Gc, Http, Import, ImportCompression, ImportNames, Limits, Metrics,
    Registry, Service, Storage, Tls, TlsMode,
};
pub use self::template::template;
pub use self::user_rules::USER_RULES;
pub use self::values::{bytes, duration};
