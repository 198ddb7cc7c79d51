//! The names of the certificate, as the admin page changes them.

use crate::admin::{CertificateNames, NameRefusal};
use crate::tls::{Certificates, NameError};

impl CertificateNames for Certificates {
    fn added(&self) -> Vec<String> {
        self.added_names()
    }

    fn add(&self, name: &str) -> Result<(), NameRefusal> {
        self.add_name(name).map_err(|error| refusal(&error))
    }

    fn remove(&self, name: &str) -> Result<(), NameRefusal> {
        self.remove_name(name).map_err(|error| refusal(&error))
    }
}

fn refusal(error: &NameError) -> NameRefusal {
    match error {
        NameError::Tls(_) => NameRefusal::Failed(error.to_string()),
        NameError::Invalid(_) | NameError::TooMany | NameError::Unknown(_) | NameError::NotOwn => {
            NameRefusal::Invalid(error.to_string())
        }
    }
}
