//! `holdfast user`.

use std::io::{IsTerminal, Read};

use clap::Subcommand;

use super::{Failure, print};
use crate::access::{Htpasswd, UserName};
use crate::config::Config;

/// The longest input that is read for a password, in bytes.
const LONGEST_INPUT: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Adds a user
    Add {
        /// The name of the user
        name: String,
        /// Reads the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Changes the password of a user
    Passwd {
        /// The name of the user
        name: String,
        /// Reads the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Removes a user
    Remove {
        /// The name of the user
        name: String,
    },
    /// Lists the users
    List {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `holdfast user`.
pub(super) fn run(command: Command, config: &Config) -> Result<(), Failure> {
    super::owner::enter_for_users(config)?;
    let path = &config.auth.htpasswd;
    match command {
        Command::Add { name, password_stdin } => {
            let name = parse(&name)?;
            let known = Htpasswd::read(path).map_err(Failure::failed)?.names();
            if known.contains(&name) {
                return Err(Failure::failed(crate::access::HtpasswdError::Exists(name)));
            }
            let password = password(&name, password_stdin)?;
            Htpasswd::edit(path, |file| file.add(&name, &password)).map_err(Failure::failed)?;
            print(&format!("user {name} is added\n"))
        }
        Command::Passwd { name, password_stdin } => {
            let name = parse(&name)?;
            let password = password(&name, password_stdin)?;
            Htpasswd::edit(path, |file| file.change(&name, &password)).map_err(Failure::failed)?;
            print(&format!("the password of {name} is changed\n"))
        }
        Command::Remove { name } => {
            let name = parse(&name)?;
            Htpasswd::edit(path, |file| file.remove(&name)).map_err(Failure::failed)?;
            print(&format!("user {name} is removed\n"))
        }
        Command::List { json } => list(&Htpasswd::read(path).map_err(Failure::failed)?.names(), json),
    }
}

fn parse(name: &str) -> Result<UserName, Failure> {
    name.parse().map_err(Failure::misuse)
}

fn list(names: &[UserName], json: bool) -> Result<(), Failure> {
    let names: Vec<&str> = names.iter().map(UserName::as_str).collect();
    if json {
        return print(&format!("{}\n", serde_json::json!({ "users": names })));
    }
    print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
}

/// Asks twice on a terminal, or reads one line of standard input.
fn password(name: &UserName, from_stdin: bool) -> Result<String, Failure> {
    if !from_stdin && !std::io::stdin().is_terminal() {
        let line = "there is no terminal to ask for a password; use --password-stdin";
        return Err(Failure::misuse(line));
    }
    if from_stdin {
        let mut text = String::new();
        std::io::stdin()
            .take(LONGEST_INPUT)
            .read_to_string(&mut text)
            .map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map_err(|error| Failure::failed(format!("cannot read the password: {error}")))
    };
    let password = ask(format!("Password for {name}: "))?;
    if password != ask("Once more: ".into())? {
        return Err(Failure::failed("the two passwords differ; nothing is changed"));
    }
    Ok(password)
}
