//! Examples of the commands, for --help and for holdfast(1), and the groups in which `holdfast --help` lists the commands.

/// The groups of commands, in the order of the help.
pub(super) const GROUPS: [(&str, &[&str]); 6] = [
    ("Service", &["serve", "status", "metrics", "wake"]),
    ("Users", &["user"]),
    ("Images", &["ls", "rm"]),
    ("Transfer", &["import", "export", "inventory", "adopt"]),
    ("Maintenance", &["gc", "check", "jobs"]),
    ("Configuration", &["config", "completions", "man"]),
];

/// An example: the command that it is about, the line to type, and its purpose.
pub(super) struct Example {
    pub(super) command: &'static str,
    pub(super) line: &'static str,
    pub(super) purpose: &'static str,
}

const fn example(command: &'static str, line: &'static str, purpose: &'static str) -> Example {
    Example { command, line, purpose }
}

/// The number of examples that `holdfast --help` shows: the first ones.
pub(super) const FIRST: usize = 3;

pub(super) const EXAMPLES: &[Example] = &[
    example(
        "serve",
        "holdfast serve --listen :5000 --data /srv/registry",
        "Run a registry on port 5000, without systemd.",
    ),
    example(
        "user",
        "sudo holdfast user add alice",
        "Add the first user; a registry without users refuses all clients of other machines.",
    ),
    example("ls", "sudo holdfast ls team/app", "List the tags of a repository, newest first."),
    example("ls", "sudo holdfast ls", "List all repositories."),
    example("rm", "sudo holdfast rm team/app:1.4", "Delete a tag; asks first."),
    example("status", "sudo holdfast status --wait", "Wait until the registry is ready, for scripts."),
    example(
        "adopt",
        "sudo holdfast adopt /var/lib/docker-registry",
        "Copy the images of registry:2 from its data directory, which may be in use.",
    ),
    example(
        "import",
        "sudo holdfast import /media/usb",
        "Import the images of a medium; see --dry-run for their names.",
    ),
    example(
        "export",
        "sudo holdfast export 'team/*' --platform linux/arm64 -o /media/usb/",
        "Write images to a stick, for a registry without a network, or for docker, podman, skopeo and containerd.",
    ),
    example(
        "export",
        "sudo holdfast export app:1 -o - | ssh site docker load",
        "Send an image to another machine.",
    ),
    example(
        "gc",
        "sudo holdfast gc --dry-run",
        "Show what a collection would free, and what waits until when.",
    ),
    example(
        "check",
        "sudo holdfast check --repair",
        "Move corrupt blobs aside, and show which images to push again.",
    ),
    example("jobs", "sudo holdfast jobs run check", "Start a check now, and show its progress."),
    example(
        "config",
        "holdfast config check /etc/holdfast/holdfast.toml",
        "Check a configuration before a reload.",
    ),
    example(
        "completions",
        "holdfast completions bash | sudo tee /etc/bash_completion.d/holdfast",
        "Complete commands and options in bash.",
    ),
    example("man", "holdfast man | man -l -", "Read the manual page of a binary without a package."),
    example(
        "",
        "sudo systemctl try-reload-or-restart holdfast",
        "Apply a changed configuration without interrupting a transfer.",
    ),
    example(
        "",
        "sudo systemctl edit holdfast-wake.timer",
        "Change when a service that sleeps is started for background jobs that are due.",
    ),
    example(
        "",
        "journalctl -u holdfast REPOSITORY=team/app",
        "Show the requests to a repository and their users.",
    ),
];
