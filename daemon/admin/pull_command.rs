//! The commands that pull an image or an artifact, one for each client.

use std::collections::BTreeSet;

use super::format::shell_argument;
use crate::oci::{Attachment, Signer};

/// A command in a tab.
pub(super) struct PullCommand {
    pub(super) client: &'static str,
    /// The identifier of the tab, which the browser remembers.
    pub(super) id: &'static str,
    pub(super) command: String,
}

/// The kind of content, which decides the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    Image,
    Chart,
    Artifact,
}

impl Pulled {
    /// Returns the kind of an artifact type; images have none.
    pub(super) fn of(artifact_type: Option<&str>) -> Self {
        match artifact_type {
            None => Pulled::Image,
            Some(text) if text.starts_with("application/vnd.cncf.helm") => Pulled::Chart,
            Some(_) => Pulled::Artifact,
        }
    }
}

/// Returns the commands for `image`, the host and the repository, with `reference`: `:TAG` or `@DIGEST`. Its
/// attachments decide the tools that verify it.
pub(super) fn pull_commands(
    image: &str,
    reference: &str,
    pulled: Pulled,
    attached: &BTreeSet<Attachment>,
) -> Vec<PullCommand> {
    let whole = shell_argument(&format!("{image}{reference}"));
    let command = |client, id, command: String| PullCommand { client, id, command };
    let mut commands = match pulled {
        Pulled::Image => vec![
            command("Docker", "docker", format!("docker pull {whole}")),
            command("Podman", "podman", format!("podman pull {whole}")),
            command("containerd", "containerd", format!("sudo ctr images pull {whole}")),
            command("k3s", "k3s", format!("sudo k3s crictl pull {whole}")),
        ],
        Pulled::Chart => vec![
            command("Helm", "helm", chart(image, reference, &whole)),
            command("ORAS", "oras", format!("oras pull {whole}")),
        ],
        Pulled::Artifact => vec![command("ORAS", "oras", format!("oras pull {whole}"))],
    };
    if attached.contains(&Attachment::Signature(Signer::Cosign)) {
        commands.push(command("cosign", "cosign", format!("cosign verify --key cosign.pub {whole}")));
    }
    if attached.contains(&Attachment::Signature(Signer::Notation)) {
        commands.push(command("Notation", "notation", format!("notation verify {whole}")));
    }
    commands
}

/// Returns the command for a chart. Tags have an underscore where versions of charts have a plus sign.
fn chart(image: &str, reference: &str, whole: &str) -> String {
    match reference.strip_prefix(':') {
        Some(tag) => {
            let chart = shell_argument(&format!("oci://{image}"));
            format!("helm pull {chart} --version {}", tag.replace('_', "+"))
        }
        None if whole.starts_with('\'') => format!("helm pull 'oci://{}", &whole[1..]),
        None => format!("helm pull oci://{whole}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_fits_the_content() {
        let lines = |reference, pulled, attached: &[Attachment]| {
            let attached = attached.iter().copied().collect();
            let commands = pull_commands("pi:5000/app", reference, pulled, &attached);
            commands.into_iter().map(|one| one.command).collect::<Vec<_>>()
        };
        let [cosign, notation, other] =
            [Signer::Cosign, Signer::Notation, Signer::Other].map(Attachment::Signature);
        assert_eq!(lines(":1", Pulled::Image, &[other])[0], "docker pull pi:5000/app:1");
        assert_eq!(lines(":1", Pulled::Image, &[other, Attachment::Sbom]).len(), 4);
        let verify = "cosign verify --key cosign.pub pi:5000/app:1";
        assert_eq!(lines(":1", Pulled::Image, &[cosign])[4..], [verify]);
        assert_eq!(lines(":1", Pulled::Image, &[notation])[4..], ["notation verify pi:5000/app:1"]);
        let both = [cosign, notation];
        assert_eq!(lines(":1", Pulled::Image, &both)[4..], [verify, "notation verify pi:5000/app:1"]);
        assert_eq!(lines(":1_2", Pulled::Chart, &[])[0], "helm pull oci://pi:5000/app --version 1+2");
        assert_eq!(lines("@sha256:0", Pulled::Chart, &[])[0], "helm pull oci://pi:5000/app@sha256:0");
        assert_eq!(lines(":1", Pulled::Artifact, &[]), ["oras pull pi:5000/app:1"]);
        let ipv6 = pull_commands("[::1]:5000/app", ":1", Pulled::Image, &BTreeSet::new());
        assert_eq!(ipv6[0].command, "docker pull '[::1]:5000/app:1'");
        assert_eq!(Pulled::of(Some("application/vnd.cncf.helm.config.v1+json")), Pulled::Chart);
    }
}
