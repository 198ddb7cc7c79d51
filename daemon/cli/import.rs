//! `holdfast import`: images from archives, directories and pipes, into the local registry or another one.
//!
//! The medium is read with the rights of the caller; the owner of the store gets bytes. An interruption leaves whole images,
//! and loose blobs that a collection removes after the grace period.

mod inventory;
mod no_sink;
mod output;
mod remote_images;
mod remote_sink;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::no_sink::NoSink;
use self::output::Output;
use self::remote_sink::RemoteSink;
use super::control_sink::ControlSink;
use super::failure::Failure;
use super::format::count;
use super::offline::runtime;
use super::own_import;
use super::owner::{Access, INTERRUPTED, Invocation, with_owner};
use super::remote::{HEADING, Remote, RemoteOptions};
use crate::config::Config;
use crate::control::TransferPurpose;
use crate::oci::RepositoryName;
use crate::transfer::signature::AllowedSigners;
use crate::transfer::signers_file;
use crate::transfer::{
    Compress, ImportError, ImportOptions, NameMode, NamePattern, NameRules, PlatformFilter, Policy, Report,
    Sink, SinkError, TargetName, Wording, import,
};

/// The end of the help.
pub(super) const HELP: &str = "\
Formats are recognised by their content: OCI layouts, archives of docker save, podman, ctr and nerdctl, bundles of k3s and RKE2, \
directories of skopeo, hauls, the images of zarf packages, and archives of oc-mirror v2 or of registry:2's data; also compressed with gzip or zstd, and in parts (NAME.001). Other compression: xz -dc FILE | holdfast import -

Exit status: 0 nothing is missing or was refused (tags that were kept are listed), 1 an image is missing or was refused or the medium has none, 2 wrong usage, 130 interrupted.";

/// The time in which a transfer is closed.
const CLOSING: Duration = Duration::from_secs(5);

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct Options {
    /// Archives, the first part of an archive, directories, or - for standard input
    #[arg(value_name = "FILE|DIR|-", required = true)]
    media: Vec<PathBuf>,
    /// Name of the image, if there is only one or --only selects it
    #[arg(long = "as", value_name = "REPOSITORY[:TAG]", conflicts_with = "prefix")]
    as_name: Option<String>,
    /// Folder before each repository, such as site/
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Whether names keep the host of their registry [default: import.names]
    #[arg(long, value_enum)]
    names: Option<Names>,
    /// Import only these images, by the names that --dry-run shows without --as; * matches any text
    #[arg(long, value_name = "REPOSITORY[:TAG]")]
    only: Vec<String>,
    /// Import only these platforms of an index
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Keep the tags that exist
    #[arg(long, conflicts_with = "force")]
    keep_existing: bool,
    /// Move all tags, also those that would go back to an older image
    #[arg(long)]
    force: bool,
    /// Refuse an export without a valid signature of one of these signers, a file as for ssh-keygen -Y verify
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// Uncompressed layers to compress [default: import.compress]
    #[arg(long, value_enum)]
    compress: Option<Compression>,
    /// Show the names that the images would get
    #[arg(long)]
    dry_run: bool,
    /// Print events as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Write no inventory to the medium
    #[arg(long)]
    no_inventory: bool,
    /// Import into another registry instead of the local one
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING)]
    to: Option<String>,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// The treatment of the host in a name.
#[derive(Clone, Copy, ValueEnum)]
enum Names {
    /// docker.io/library/alpine becomes alpine
    Short,
    /// docker.io/library/alpine stays as it is
    Full,
}

/// The layers that are compressed.
#[derive(Clone, Copy, ValueEnum)]
enum Compression {
    /// Those of images without a manifest
    Auto,
    /// All of them; the digests of their images change
    Gzip,
    /// None
    None,
}

/// Runs an import.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let wanted = import_options(options, config)?;
    let signers = options.signers.as_deref().map(read_signers).transpose()?;
    let remote = open_remote(options, &invocation.environment)?;
    let mut output = Output::new(options.json, signers, wanted.policy);
    let media = &options.media;
    let report = if options.dry_run {
        runtime()?.block_on(import_into(media, &wanted, &mut NoSink, &mut output))
    } else if let Some(Remote { client, .. }) = remote {
        runtime()?.block_on(async {
            let repository = wanted.names.only_name.as_ref().map(|name| name.repository.clone());
            let mut sink =
                RemoteSink::open(client, repository).await.map_err(|error| failure(error.into()))?;
            import_into(media, &wanted, &mut sink, &mut output).await
        })
    } else {
        with_owner(config, invocation, Access::Any, async |client| {
            let mut sink = ControlSink::open(client, TransferPurpose::Import)
                .await
                .map_err(|error| failure(error.into()))?;
            let imported = import_into(media, &wanted, &mut sink, &mut output).await;
            // A daemon that does not answer must not hold up the end.
            let _ = tokio::time::timeout(CLOSING, sink.close()).await;
            let report = imported?;
            if !options.no_inventory {
                inventory::write(client, media, &report.images, &mut output).await;
            }
            Ok(report)
        })
    }?;
    output.summary(&report, options.dry_run)?;
    verdict(&report, options.dry_run)
}

/// Imports into a sink until the end or a signal of the terminal.
async fn import_into<S: Sink>(
    media: &[PathBuf],
    wanted: &ImportOptions,
    sink: &mut S,
    output: &mut Output,
) -> Result<Report, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let imported = tokio::select! {
        imported = import(media.to_vec(), wanted, sink, output) => imported,
        _ = interrupt.recv() => Err(SinkError::Interrupted.into()),
        _ = terminate.recv() => Err(SinkError::Interrupted.into()),
    };
    imported.map_err(failure)
}

/// Returns the other registry of `--to`. Options that have no effect there are refused.
fn open_remote(options: &Options, environment: &[(String, String)]) -> Result<Option<Remote>, Failure> {
    let remote = options.remote.open(("--to", options.to.as_deref()), environment)?;
    let Some(Remote { has_read_stdin, .. }) = &remote else { return Ok(None) };
    if *has_read_stdin && options.media.iter().any(|path| path.as_os_str() == "-") {
        return Err(Failure::misuse(
            "--password-stdin and - both need standard input; store the archive in a file",
        ));
    }
    if options.force {
        return Err(Failure::misuse(
            "--force has no effect with --to: another registry does not remember imports, and its tags move anyway",
        ));
    }
    Ok(remote)
}

fn verdict(report: &Report, is_dry: bool) -> Result<(), Failure> {
    let undone = report.images.iter().filter(|row| !row.outcome.is_done()).count();
    if undone == 0 {
        return Ok(());
    }
    let all = report.images.len();
    // A dry run reports only the images that are refused.
    if is_dry {
        return Err(Failure::failed(format!("{} cannot be imported", count(undone, "image"))));
    }
    let others = if undone < all { "; the others are in the registry" } else { "" };
    Err(Failure::failed(format!("{undone} of {} could not be imported{others}", count(all, "image"))))
}

fn failure(error: ImportError) -> Failure {
    match error {
        ImportError::Sink(SinkError::Interrupted) => Failure {
            code: INTERRUPTED,
            line: "interrupted; images that were finished are in the registry, and the next import continues"
                .into(),
        },
        ImportError::Usage(reason) => Failure::misuse(reason),
        error @ (ImportError::Source(_)
        | ImportError::Sink(_)
        | ImportError::Unsigned(_)
        | ImportError::Empty(_)) => Failure::failed(error),
    }
}

fn import_options(options: &Options, config: &Config) -> Result<ImportOptions, Failure> {
    let only_name = options.as_name.as_deref().map(TargetName::parse).transpose();
    let platforms = PlatformFilter::parse(options.platform.iter().map(String::as_str));
    if options.media.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::misuse("standard input can be named once"));
    }
    let configured = own_import::options(config);
    Ok(ImportOptions {
        names: NameRules {
            mode: match options.names {
                Some(Names::Short) => NameMode::Short,
                Some(Names::Full) => NameMode::Full,
                None => configured.names.mode,
            },
            prefix: prefix(options.prefix.as_deref().unwrap_or_default())?,
            only_name: only_name.map_err(|reason| Failure::misuse(format!("--as {reason}")))?,
            only: options.only.iter().map(|text| NamePattern::parse(text)).collect(),
            wording: Wording::CommandLine,
        },
        platforms: platforms.map_err(|reason| Failure::misuse(format!("--platform {reason}")))?,
        policy: Policy { keep_existing: options.keep_existing, force: options.force },
        compress: match options.compress {
            Some(Compression::Auto) => Compress::Auto,
            Some(Compression::Gzip) => Compress::Gzip,
            Some(Compression::None) => Compress::None,
            None => configured.compress,
        },
        dry_run: options.dry_run,
    })
}

/// Returns the prefix with its slash.
fn prefix(text: &str) -> Result<String, Failure> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let folder = text.strip_suffix('/').unwrap_or(text);
    let name: Result<RepositoryName, _> = folder.parse();
    name.map_err(|error| Failure::misuse(format!("--prefix {text}: {error}")))?;
    Ok(format!("{folder}/"))
}

fn read_signers(path: &Path) -> Result<AllowedSigners, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::misuse(format!("--signers {}: {error}", path.display()));
    signers_file::read(path).map_err(|error| failed(&error))
}
