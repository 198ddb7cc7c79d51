//! What can be compared without root and other programs: links, options and keys, and the generated pages.

mod arguments;
mod links;
mod messages;
mod numbers;
mod reference;
