//! `holdfast inventory`: the digests of all content, for exports that leave it out.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::Method;

use super::failure::Failure;
use super::output::print_verbatim;
use super::owner::{Access, Invocation, Session, with_owner};
use crate::base::write_output;
use crate::config::Config;
use crate::transfer::inventory::MAX_INVENTORY;

/// The path of the inventory in the local API.
const PATH: &str = "/_holdfast/v1/inventory";

#[derive(Args)]
pub(super) struct Options {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or writes the inventory.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let text = with_owner(config, invocation, Access::Any, async |client| {
        let mut session = Session::new(client);
        let answer = session.send(Method::GET, PATH, 0, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal().await.into());
        }
        let text = answer.bytes(MAX_INVENTORY).await?;
        text.ok_or_else(|| Failure::failed("the inventory is longer than 32 MiB, which no export reads"))
    })?;
    match options.output.as_deref() {
        Some(path) if path.as_os_str() != "-" => {
            let written = write_output(path, &text);
            written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
        }
        Some(_) | None => print_verbatim(&String::from_utf8_lossy(&text)),
    }
}
