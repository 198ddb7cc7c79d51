//! Authentication of requests by their `Authorization` header or by other credentials.

use std::net::IpAddr;

use super::bearer::{Caller, Presented};
use super::credentials::{Authorization, Credentials};
use super::identity::{IdentifyError, Identity};
use super::state::Access;
use super::verify::CachePolicy;

impl Access {
    /// Identifies the client of a request by its `Authorization` header. A request without one is anonymous.
    ///
    /// # Errors
    /// Returns [`IdentifyError`] for credentials that are wrong, also where the anonymous user would be allowed.
    pub async fn identify(
        &self,
        authorization: Option<&str>,
        client: IpAddr,
    ) -> Result<Caller, IdentifyError> {
        let users = self.recent_users().await;
        let Some(header) = authorization else { return Ok(Caller::unidentified()) };
        if !users.is_readable {
            return Err(IdentifyError::Unavailable);
        }
        match Authorization::parse(header) {
            Authorization::Bearer(token) => self.verify_token(token, &users),
            Authorization::Basic(_) | Authorization::Malformed if users.needs_no_login() => {
                Ok(Caller::of(Identity::Anonymous, Presented::Password))
            }
            Authorization::Basic(credentials) => {
                // A cache hit needs no system call; `verify` reads the metadata of the htpasswd file again.
                let tag = self.cache.tag_of(&credentials);
                let user = match self.cache.verified_user(&tag, users.stamp) {
                    Some(user) => user,
                    None => self.verify(&credentials, client, CachePolicy::Trust).await?.0,
                };
                Ok(Caller::of(Identity::User(user), Presented::Password))
            }
            Authorization::Malformed => Err(IdentifyError::WrongCredentials),
        }
    }

    /// Identifies a client by credentials from elsewhere than the header, such as a form of the token endpoint.
    ///
    /// # Errors
    /// Returns [`IdentifyError`].
    pub async fn identify_by(
        &self,
        credentials: &Credentials,
        client: IpAddr,
    ) -> Result<Caller, IdentifyError> {
        if self.recent_users().await.needs_no_login() {
            return Ok(Caller::of(Identity::Anonymous, Presented::Password));
        }
        let (user, _) = self.verify(credentials, client, CachePolicy::Trust).await?;
        Ok(Caller::of(Identity::User(user), Presented::Password))
    }
}
