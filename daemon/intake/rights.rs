//! The rights of a user while an archive is imported. An upload takes long, so that they are checked again before each name.

use crate::access::{Action, CurrentAccess, Operation, Permit};
use crate::oci::RepositoryName;
use crate::transfer::SinkError;

/// The rights of a user.
pub(super) struct Rights {
    access: CurrentAccess,
    /// The permit that was checked last.
    pub(super) permit: Permit,
    /// True if the import began with full rights, and so without proof of possession.
    is_administrator: bool,
}

impl Rights {
    pub(super) fn new(access: CurrentAccess, permit: Permit, is_administrator: bool) -> Self {
        Rights { access, permit, is_administrator }
    }

    /// Checks that the user may still push to a repository, with the rights that the import began with.
    ///
    /// # Errors
    /// [`SinkError::Refused`] otherwise.
    pub(super) async fn check_push(&mut self, repository: &RepositoryName) -> Result<(), SinkError> {
        let user = self.permit.identity();
        let push = Operation::Repository { name: repository.clone(), action: Action::Push };
        let Ok(permit) = self.access.renew(&self.permit, &push).await else {
            return Err(SinkError::Refused(format!("the user {user} may not push to {repository}")));
        };
        if self.is_administrator && self.access.renew(&self.permit, &Operation::Maintenance).await.is_err() {
            return Err(SinkError::Refused(format!(
                "the rights of the user {user} changed during the import; import the archive again"
            )));
        }
        self.permit = permit;
        Ok(())
    }
}
