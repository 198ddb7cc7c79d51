//! `holdfast export`: images of the local registry, or of another one, to a directory, a tar or a pipe.

mod forward;
mod host;
mod receivers;
mod registry;
mod remote_registry;
mod report;
mod source;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::receivers::Differences;
use self::registry::LocalRegistry;
use self::remote_registry::RemoteRegistry;
use self::report::Report;
use self::source::Source;
use self::target::{Kind, Target};
use super::failure::Failure;
use super::offline::runtime;
use super::owner::{Access, INTERRUPTED, Invocation, Session, with_owner};
use super::remote::{HEADING, Remote, RemoteOptions, explain};
use crate::config::Config;
use crate::control::Identity;
use crate::oci::Digest;
use crate::transfer::PlatformFilter;
use crate::transfer::content_list::{CONTENT_LIST, ExportOrigin};
use crate::transfer::export::{
    ExportError, ExportPlan, ExportSelection, Meter, PartSize, StopFlag, Walk, WalkOptions, Written, fetches,
    machine_platform, plan, walk, write_archive, write_directory, write_pipe,
};
use crate::transfer::signature::{KeyError, NAMESPACE, SigningKey};

/// Shortest part of a file: shorter ones would make more files than a medium holds.
const MIN_PART: u64 = 4096;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Options {
    /// Images to export; * in repository or tag matches any text: 'team/*:v1.*'. Without a tag, all tags
    #[arg(value_name = "REPOSITORY[:TAG|@DIGEST]", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Export all images
    #[arg(long)]
    all: bool,
    /// Directory, file that ends in .tar, or - for standard output
    #[arg(short, long, value_name = "FILE|DIR|-")]
    output: PathBuf,
    /// Only these platforms of an image index; its bytes and digest stay
    #[arg(long, value_delimiter = ',', value_name = "OS/ARCH")]
    platform: Vec<String>,
    /// Leave out the content of this inventory or older export; of several, the content that all of them have
    #[arg(long = "for", value_name = "FILE|DIR")]
    receivers: Vec<PathBuf>,
    /// Cut files into parts of this size [auto: below the file size limit of the file system]
    #[arg(long, value_name = "SIZE|auto|none", default_value = "auto")]
    split: String,
    /// Host in the image names that docker and containerd show [default: that of the external URL, else docker.io]
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// Leave out signatures, SBOMs and other referrers
    #[arg(long)]
    no_referrers: bool,
    /// Write manifest.json, which docker load needs, also into a directory
    #[arg(long)]
    docker: bool,
    /// Sign the list of contents with this ed25519 key of ssh-keygen
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Comment in the list of contents
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Do not read the medium back
    #[arg(long)]
    no_verify: bool,
    /// Read at most this much per second from the registry, such as 5MiB
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Print the files that would be written
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object in each line: progress, images, and the result
    #[arg(long)]
    json: bool,
    /// Export from another registry instead of the local one
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING)]
    from: Option<String>,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// The options that were parsed.
struct Parsed {
    selections: Vec<ExportSelection>,
    walk: WalkOptions,
    target: Target,
    key: Option<SigningKey>,
    rate: Option<u64>,
}

/// Exports images.
pub(super) fn run(options: &Options, config: &Config, invocation: &Invocation) -> Result<(), Failure> {
    let parsed = parse(options)?;
    let remote = options.remote.open(("--from", options.from.as_deref()), &invocation.environment)?;
    let mut given = Vec::new();
    for path in &options.receivers {
        given.extend(receivers::of_path(path)?);
    }
    if let Some(folder) = parsed.target.folder()? {
        given.extend(receivers::on_medium(&folder)?);
    }
    let report = Report::new(options.json, parsed.target.is_pipe());
    let stop = StopFlag::default();
    let ended = match remote {
        Some(Remote { client, host, .. }) => runtime()?.block_on(async {
            // Another registry has no id that an inventory could name.
            let identity = Identity { id: None, host: Some(host) };
            let work = async {
                let opened = RemoteRegistry::open(client).await;
                let source = opened.map(Source::Remote).map_err(|error| Failure::failed(explain(&error)))?;
                export(options, parsed, given, (source, identity), (&report, &stop)).await
            };
            until_signal(Box::pin(work), &stop).await
        }),
        None => with_owner(config, invocation, Access::Any, async |client| {
            let identity = client.status().identity.clone();
            let source = Source::Local(LocalRegistry::new(Session::new(client)));
            let work = export(options, parsed, given, (source, identity), (&report, &stop));
            until_signal(Box::pin(work), &stop).await
        }),
    };
    report.end(ended)
}

/// Waits for the end of an export, or for a signal of the terminal.
async fn until_signal(
    work: impl Future<Output = Result<report::Outcome, Failure>>,
    stop: &StopFlag,
) -> Result<report::Outcome, Failure> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [interrupt, terminate, hangup] = &mut signals;
    let (Ok(interrupt), Ok(terminate), Ok(hangup)) = (interrupt, terminate, hangup) else {
        return Err(Failure::failed("cannot listen to signals"));
    };
    tokio::select! {
        ended = work => ended,
        _ = interrupt.recv() => Err(interrupted(stop)),
        _ = terminate.recv() => Err(interrupted(stop)),
        _ = hangup.recv() => Err(interrupted(stop)),
    }
}

/// Stops the writing thread; the runtime waits for it.
fn interrupted(stop: &StopFlag) -> Failure {
    stop.stop();
    Failure { code: INTERRUPTED, line: "interrupted; the same command continues the export".into() }
}

fn parse(options: &Options) -> Result<Parsed, Failure> {
    let selections = if options.all {
        vec![ExportSelection::all()]
    } else {
        let parsed = options.names.iter().map(|text| ExportSelection::parse(text)).collect::<Result<_, _>>();
        parsed.map_err(Failure::misuse)?
    };
    let platforms = PlatformFilter::parse(options.platform.iter().map(String::as_str))
        .map_err(|reason| Failure::misuse(format!("--platform {reason}")))?;
    let walk = WalkOptions { platforms, no_referrers: options.no_referrers, max_entries: None };
    let target = Target::parse(&options.output)?;
    if target.is_pipe() && options.json {
        return Err(Failure::misuse("--json and -o - both need standard output; write to a file"));
    }
    if target.is_pipe() && size_of_parts(&options.split)?.is_some() {
        return Err(Failure::misuse("standard output cannot be cut into parts; pipe it to split(1)"));
    }
    size_of_parts(&options.split)?;
    if let Some(text) = options.host.as_deref().filter(|text| !host::is_host(text)) {
        return Err(Failure::misuse(format!("--host: {text:?} is no host such as hub.lan:5000")));
    }
    let rate = options.rate.as_deref().map(|text| parse_size("--rate", text)).transpose()?;
    let key = options.sign.as_deref().map(|path| read_key(path, &target)).transpose()?;
    Ok(Parsed { selections, walk, target, key, rate })
}

/// Returns the size of parts that the operator asks for.
fn size_of_parts(split: &str) -> Result<Option<PartSize>, Failure> {
    match split {
        "auto" | "none" => Ok(None),
        text => match parse_size("--split", text)? {
            size if size < MIN_PART => Err(Failure::misuse("--split: a part has at least 4 KiB")),
            size => Ok(Some(PartSize::of(size))),
        },
    }
}

fn parse_size(option: &str, text: &str) -> Result<u64, Failure> {
    match text.parse::<ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) | Err(_) => Err(Failure::misuse(format!("{option}: {text:?} is no size such as 5MiB"))),
    }
}

fn read_key(path: &Path, target: &Target) -> Result<SigningKey, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read the key {name}: {error}")))?;
    SigningKey::parse(&text).map_err(|error| match error {
        KeyError::Encrypted => {
            let list = match &target.kind {
                Kind::Directory(path) => path.join(CONTENT_LIST).display().to_string(),
                Kind::Archive { .. } | Kind::Pipe => format!("DIR/{CONTENT_LIST}"),
            };
            Failure::failed(format!(
                "{name} has a passphrase; export to a directory without --sign, then run: ssh-keygen -Y sign -n {NAMESPACE} -f {name} {list}"
            ))
        }
        KeyError::Algorithm(_) | KeyError::Format(_) => Failure::failed(format!("{name}: {error}")),
    })
}

async fn export(
    options: &Options,
    parsed: Parsed,
    given: Vec<receivers::Receiver>,
    (mut registry, identity): (Source<'_>, Identity),
    (report, stop): (&Report, &StopFlag),
) -> Result<report::Outcome, Failure> {
    let differences = Differences::of(given, identity.id.as_deref());
    let walked = walk(&mut registry, &parsed.selections, &parsed.walk, &differences.wanted).await;
    let walked = walked.map_err(Failure::failed)?;
    if walked.is_empty() {
        return Err(Failure::failed(walked.missing.join("; ")));
    }
    let contents = walked.contents().map(|(digest, size)| (digest.clone(), size)).collect();
    let ended = match registry.lease(contents).await {
        Ok(()) => {
            leased(options, parsed, differences, identity, &walked, &mut registry, (report, stop)).await
        }
        Err(failure) => Err(failure),
    };
    registry.end_lease().await;
    ended
}

/// Exports content while a lease holds it.
async fn leased(
    options: &Options,
    parsed: Parsed,
    differences: Differences,
    identity: Identity,
    walked: &Walk,
    registry: &mut Source<'_>,
    (report, stop): (&Report, &StopFlag),
) -> Result<report::Outcome, Failure> {
    let Identity { id, host: own_host } = identity;
    let split = match (options.split.as_str(), &parsed.target.kind) {
        ("auto", Kind::Directory(_) | Kind::Archive { .. }) if !options.dry_run => parsed
            .target
            .medium()?
            .map(|medium| medium.part_size())
            .transpose()
            .map_err(Failure::failed)?
            .flatten(),
        (split, _) => size_of_parts(split)?,
    };
    let is_directory = matches!(parsed.target.kind, Kind::Directory(_));
    let mut platforms = parsed.walk.platforms.platforms().map(ToOwned::to_owned);
    let plan_options = crate::transfer::export::Options {
        host: options.host.clone().or_else(|| own_host.clone()),
        platform: platforms.next().unwrap_or_else(machine_platform),
        docker: options.docker || !is_directory,
        origin: ExportOrigin { registry: id, host: own_host, version: env!("CARGO_PKG_VERSION").into() },
        comment: options.comment.clone(),
        key: parsed.key,
        have: differences.have,
        wanted: differences.wanted.iter().map(|wanted| wanted.digest.clone()).collect(),
        blob_parts: split.filter(|_| is_directory),
    };
    let work = Work {
        walk: walked,
        options: &plan_options,
        target: &parsed.target,
        parts: split,
        verify: !options.no_verify,
        rate: parsed.rate,
        report,
        stop,
    };
    report.sources(&differences.sources);
    if options.dry_run {
        let plan = plan(walked, &plan_options, &BTreeMap::new()).map_err(Failure::failed)?;
        report.plan(&plan);
        return Ok(report::Outcome::planned(walked, &plan));
    }
    let (plan, written) = work.run(registry).await?;
    Ok(report::Outcome::written(walked, &plan, written, &parsed.target))
}

/// The writing of an export.
struct Work<'a> {
    walk: &'a Walk,
    options: &'a crate::transfer::export::Options,
    target: &'a Target,
    parts: Option<PartSize>,
    verify: bool,
    rate: Option<u64>,
    report: &'a Report,
    stop: &'a StopFlag,
}

impl Work<'_> {
    /// Writes the export; begins again without the images whose content turns out to be unreadable.
    async fn run(&self, registry: &mut Source<'_>) -> Result<(Arc<ExportPlan>, Written), Failure> {
        let mut damaged: BTreeMap<Digest, String> = BTreeMap::new();
        loop {
            let plan = Arc::new(plan(self.walk, self.options, &damaged).map_err(Failure::failed)?);
            if plan.images.is_empty() && plan.bytes == 0 {
                let reasons: BTreeSet<String> = plan
                    .excluded
                    .iter()
                    .map(|one| format!("{}: {}", one.image, one.reason))
                    .chain(self.walk.missing.iter().cloned())
                    .collect();
                let reasons = reasons.into_iter().collect::<Vec<_>>().join("; ");
                return Err(Failure::failed(format!("nothing can be exported: {reasons}")));
            }
            match self.write(registry, Arc::clone(&plan)).await? {
                Ok(written) => return Ok((plan, written)),
                Err(ExportError::Unreadable { digest, why })
                    if !self.target.is_pipe() && !damaged.contains_key(&digest) =>
                {
                    self.report.damaged(&digest, &why);
                    damaged.insert(digest, why);
                }
                Err(error @ ExportError::Unreadable { .. }) if self.target.is_pipe() => {
                    return Err(Failure::failed(format!(
                        "{error}; the archive on standard output is incomplete; -o FILE.tar leaves its images out"
                    )));
                }
                Err(error) => return Err(Failure::failed(error)),
            }
        }
    }

    /// Writes a plan on a blocking thread, and serves its requests for content.
    async fn write(
        &self,
        registry: &mut Source<'_>,
        plan: Arc<ExportPlan>,
    ) -> Result<Result<Written, ExportError>, Failure> {
        let (fetcher, mut requests) = fetches();
        let mut meter = Meter::new(self.stop.clone(), self.rate, self.report.observer());
        let (parts, verify, target) = (self.parts, self.verify, self.target.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let medium = target.create()?;
            match (&target.kind, medium) {
                (Kind::Directory(_), Some(medium)) => {
                    write_directory(&medium, &plan, verify, &fetcher, &mut meter)
                }
                (Kind::Archive { name, .. }, Some(medium)) => {
                    write_archive(&medium, name, &plan, (parts, verify), &fetcher, &mut meter)
                }
                (Kind::Pipe | Kind::Directory(_) | Kind::Archive { .. }, _) => {
                    write_pipe(&mut std::io::stdout().lock(), &plan, &fetcher, &mut meter)
                }
            }
        });
        registry.serve(&mut requests).await;
        let ended = writing.await.map_err(Failure::failed);
        self.report.end_progress();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_parts_are_parsed() {
        let parts = |text| size_of_parts(text).map_err(|failure| failure.code);
        assert_eq!((parts("auto"), parts("none")), (Ok(None), Ok(None)));
        assert_eq!(parts("1MiB"), Ok(Some(PartSize::of(1 << 20))));
        assert_eq!((parts("7"), parts("x")), (Err(2), Err(2)));
    }
}
