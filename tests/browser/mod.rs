//! The admin page in Chromium, over TLS, with a profile that trusts the registry's own authority.

mod chromium;
mod injection;
mod inspection;
mod interaction;
mod keyboard;
mod lists;
mod maintenance;
mod pages;
mod registry;
mod stored_content;
mod tasks;
mod webdriver;
mod with_script;
