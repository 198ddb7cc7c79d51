//! The admin page in a real browser: Debian's Chromium, over TLS, with the registry's own authority in its profile.

mod chromium;
mod hands;
mod hostile;
mod keyboard;
mod lists;
mod pages;
mod registry;
mod stored;
mod tasks;
mod upkeep;
mod watch;
mod webdriver;
mod with_script;
