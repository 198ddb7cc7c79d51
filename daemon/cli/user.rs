//! `holdfast user`.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use clap::Subcommand;

use super::failure::Failure;
use super::output::print;
use super::{owner, privileges};
use crate::access::{Htpasswd, UserName};
use crate::config::Config;

/// Maximum length of a password on standard input, in bytes.
const MAX_INPUT: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Add a user; prompts for the password
    Add {
        /// User name
        name: String,
        /// Read the password from standard input instead
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change a user's password
    Passwd {
        /// User name
        name: String,
        /// Read the password from standard input instead
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user
    Remove {
        /// User name
        name: String,
    },
    /// List users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `holdfast user`.
pub(super) fn run(command: Command, config: &Config) -> Result<(), Failure> {
    owner::check_data(config)?;
    privileges::enter_for_users(config)?;
    let path = &config.auth.settings.htpasswd;
    match command {
        Command::Add { name, password_stdin } => {
            let name = parse(&name)?;
            if exists(path, &name)? {
                return Err(Failure::failed(crate::access::HtpasswdError::Exists(name)));
            }
            let password = password(&name, password_stdin)?;
            Htpasswd::edit(path, |file| file.add(&name, &password)).map_err(Failure::failed)?;
            print(&format!("user {name} added\n"))
        }
        Command::Passwd { name, password_stdin } => {
            let name = parse(&name)?;
            if !exists(path, &name)? {
                return Err(Failure::failed(crate::access::HtpasswdError::Unknown(name)));
            }
            let password = password(&name, password_stdin)?;
            Htpasswd::edit(path, |file| file.change(&name, &password)).map_err(Failure::failed)?;
            print(&format!("password of {name} changed\n"))
        }
        Command::Remove { name } => {
            let name = parse(&name)?;
            Htpasswd::edit(path, |file| file.remove(&name)).map_err(Failure::failed)?;
            print(&format!("user {name} removed\n"))
        }
        Command::List { json } => list(&Htpasswd::read(path).map_err(Failure::failed)?.names(), json),
    }
}

/// Returns true if the user exists: that decides before a question for the password.
fn exists(path: &Path, name: &UserName) -> Result<bool, Failure> {
    Ok(Htpasswd::read(path).map_err(Failure::failed)?.names().contains(name))
}

fn parse(name: &str) -> Result<UserName, Failure> {
    name.parse().map_err(Failure::misuse)
}

fn list(names: &[UserName], json: bool) -> Result<(), Failure> {
    let names: Vec<&str> = names.iter().map(UserName::as_str).collect();
    if json {
        return print(&format!("{}\n", serde_json::json!({ "users": names })));
    }
    if names.is_empty() {
        // A closed stderr cannot be reported anywhere.
        let _ = writeln!(std::io::stderr(), "no users yet; `holdfast user add NAME` adds one");
    }
    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
}

/// Prompts twice on a terminal, or reads one line of standard input.
fn password(name: &UserName, from_stdin: bool) -> Result<String, Failure> {
    if !from_stdin && !std::io::stdin().is_terminal() {
        let line = "no terminal to prompt for the password; use --password-stdin";
        return Err(Failure::misuse(line));
    }
    if from_stdin {
        return password_of_stdin();
    }
    let prompt = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map_err(|error| Failure::failed(format!("cannot read the password: {error}")))
    };
    let password = prompt(format!("Password for {name}: "))?;
    if password != prompt("Repeat password: ".into())? {
        return Err(Failure::failed("the passwords do not match; nothing changed"));
    }
    Ok(password)
}

/// Reads a password from standard input, one line.
pub(super) fn password_of_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
