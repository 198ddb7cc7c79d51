//! `holdfast rm`: deletes tags and whole repositories, after a confirmation.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use http::Method;

use super::failure::Failure;
use super::format::{count, short_digest, size};
use super::ls;
use super::name::ImageName;
use super::output::{print, print_line, remark};
use super::owner::{Access, Client, Event, Invocation, with_owner};
use crate::config::Config;
use crate::control::{DeleteNames, DeletedName, NameToDelete, RepositoryItem};
use crate::oci::Reference;
use crate::store::describe_tags;

#[derive(Args)]
pub(super) struct Options {
    /// Tag, or repository with all its tags and manifests
    #[arg(value_name = "REPOSITORY[:TAG]", required = true)]
    names: Vec<String>,
    /// Delete without asking
    #[arg(long, short)]
    yes: bool,
}

/// Deletes names.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let names: Vec<ImageName> =
        options.names.iter().map(|name| ImageName::parse(name)).collect::<Result<_, _>>()?;
    if let Some(name) = names.iter().find(|name| matches!(name.reference, Some(Reference::Digest(_)))) {
        return Err(Failure::misuse(format!(
            "{}@... names a manifest by its digest; delete the tags that name it, and a collection removes it",
            name.repository
        )));
    }
    let deleted = with_owner(config, invocation, Access::Any, async |client| {
        let plan = plan(client, &names).await?;
        // A name that does not exist is the better error.
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if !options.yes && !can_ask {
            return Err(Failure::misuse("no terminal to ask whether to delete; pass --yes"));
        }
        if !options.yes && !confirm(&plan)? {
            return Ok(None);
        }
        delete(client, plan).await.map(Some)
    })?;
    match deleted {
        None => print("nothing was deleted\n"),
        Some(0) => print(
            "the space is freed after the grace period (gc.grace); `holdfast gc` says when, `holdfast gc --grace 0s` frees it at once\n",
        ),
        Some(failed) => Err(Failure::failed(format!("{} not deleted, see above", count(failed, "name")))),
    }
}

/// A name to delete, and the line that tells what goes with it.
struct Planned {
    name: NameToDelete,
    line: String,
}

/// Looks up what goes; a name that does not exist fails before anything is deleted.
async fn plan(client: &mut Client, names: &[ImageName]) -> Result<Vec<Planned>, Failure> {
    let mut plan = Vec::with_capacity(names.len());
    for ImageName { repository, reference } in names {
        let repository = repository.to_string();
        let planned = match reference {
            None => {
                let list: Vec<RepositoryItem> =
                    ls::items(client, &format!("repositories?repository={repository}")).await?;
                let Some(one) = list.first() else {
                    return Err(Failure::failed(format!(
                        "the repository {repository} does not exist; `holdfast ls` lists the repositories"
                    )));
                };
                let tags = describe_tags(one.tags, one.manifests, one.emptied);
                let manifests = count(one.manifests, "manifest");
                let line =
                    format!("{repository}: the whole repository, {tags}, {manifests}, {}", size(one.size));
                Planned { name: NameToDelete { repository, tag: None, digest: None }, line }
            }
            Some(reference) => {
                let tag = reference.to_string();
                let list = ls::tags(client, &repository, Some(&tag)).await?;
                let Some(one) = list.first() else {
                    return Err(Failure::failed(format!(
                        "{repository}:{tag} does not exist; `holdfast ls {repository}` lists the tags"
                    )));
                };
                let line = format!(
                    "{repository}:{tag} ({}), {}",
                    short_digest(&one.digest),
                    others(one.shared.unwrap_or(1))
                );
                let digest = Some(one.digest.clone());
                Planned { name: NameToDelete { repository, tag: Some(tag), digest }, line }
            }
        };
        plan.push(planned);
    }
    Ok(plan)
}

fn others(shared: usize) -> String {
    match shared.saturating_sub(1) {
        0 => "and its manifest, which no other tag names, after the grace period".into(),
        1 => "while 1 other tag keeps its manifest".into(),
        more => format!("while {} keep its manifest", count(more, "other tag")),
    }
}

/// Asks at the terminal.
fn confirm(plan: &[Planned]) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot ask at the terminal: {error}"));
    let mut terminal = std::io::stderr().lock();
    writeln!(terminal, "To be deleted:").map_err(failed)?;
    for planned in plan {
        writeln!(terminal, "  {}", planned.line).map_err(failed)?;
    }
    write!(terminal, "Delete? [y/N] ").and_then(|()| terminal.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Deletes; prints a line for each name, and returns the number of names that were not deleted.
async fn delete(client: &mut Client, plan: Vec<Planned>) -> Result<u64, Failure> {
    let body = DeleteNames { names: plan.into_iter().map(|planned| planned.name).collect() };
    let mut observe = |event| match event {
        Event::Item(item) => {
            if let Ok(DeletedName { name, manifests, error }) = serde_json::from_value(item) {
                report(&name, manifests, error.map(|error| error.message));
            }
        }
        Event::Progress(_) => {}
    };
    let fields = client.stream(Method::DELETE, "names", Some(&body), &mut observe).await?;
    Ok(fields.get("failed").and_then(serde_json::Value::as_u64).unwrap_or_default())
}

/// Prints the result for a name.
fn report(name: &NameToDelete, manifests: u64, error: Option<String>) {
    let text = match &name.tag {
        Some(tag) => format!("{}:{tag}", name.repository),
        None => format!("{} ({})", name.repository, count(manifests, "manifest")),
    };
    match error {
        None => print_line(&format!("deleted {text}")),
        Some(error) => remark(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmation_says_what_happens_to_the_manifest() {
        assert!(others(1).starts_with("and its manifest"));
        assert_eq!(others(2), "while 1 other tag keeps its manifest");
        assert_eq!(others(3), "while 2 other tags keep its manifest");
    }
}
