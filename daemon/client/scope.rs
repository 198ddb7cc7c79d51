//! Scopes of tokens. They are those of the request, never those that a challenge names.

use std::fmt;

use crate::oci::RepositoryName;

/// The permissions of a token: scopes with a space between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Scope(String);

impl Scope {
    /// Returns the scope of reading a repository.
    pub(super) fn pull(repository: &RepositoryName) -> Self {
        Scope(format!("repository:{repository}:pull"))
    }

    /// Returns the scope of reading and writing a repository.
    pub(super) fn push(repository: &RepositoryName) -> Self {
        Scope(format!("repository:{repository}:pull,push"))
    }

    /// Returns the scope of mounting a blob from another repository.
    pub(super) fn mount(repository: &RepositoryName, from: &RepositoryName) -> Self {
        Scope(format!("{} {}", Scope::push(repository), Scope::pull(from)))
    }

    /// Returns the scope of listing all repositories.
    pub(super) fn catalog() -> Self {
        Scope("registry:catalog:*".into())
    }

    /// Returns the single scopes.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|part| !part.is_empty())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
