//! Tests of the certificates with handshakes of a real client.

#![expect(clippy::disallowed_methods, reason = "tests play the operator who replaces the files")]

use rustls::crypto::ring;

use super::*;

fn auto(directory: &std::path::Path) -> Certificates {
    Certificates::open(Source::Auto { directory: directory.join("tls"), names: vec!["hub.lan".into()] })
        .unwrap()
}

/// Performs a handshake of a client that trusts `ca` and expects `name`.
fn connect(certificates: &Certificates, ca: &str, name: &'static str) -> Result<(), rustls::Error> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(certificates, client, name)
}

fn handshake(
    certificates: &Certificates,
    client: rustls::ClientConfig,
    name: &'static str,
) -> Result<(), rustls::Error> {
    let mut client = rustls::ClientConnection::new(Arc::new(client), name.try_into().unwrap())?;
    let mut server = rustls::ServerConnection::new(certificates.server_config())?;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking());
    Ok(())
}

#[test]
fn client_that_trusts_the_authority_accepts_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = auto(directory.path());
    let ca = certificates.ca_pem().unwrap().to_owned();
    for name in ["localhost", "127.0.0.1", "hub.lan"] {
        connect(&certificates, &ca, name).unwrap();
    }
    assert!(connect(&certificates, &ca, "elsewhere.lan").is_err());
    assert!(!certificates.refresh().unwrap());
    drop(certificates);
    let again = auto(directory.path());
    assert_eq!(again.ca_pem().unwrap(), ca);
    connect(&again, &ca, "localhost").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(directory.path().join("tls/ca.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn clients_need_a_certificate_of_the_configured_authority() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let directory = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), rcgen::Issuer::new(parameters, key))
    };
    let ((pem, issuer), (_, other)) = (authority("clients"), authority("others"));
    let file = directory.path().join("clients.pem");
    std::fs::write(&file, pem).unwrap();
    let source = Source::Auto { directory: directory.path().join("tls"), names: Vec::new() };
    let clients = ClientRequirements { authorities: vec![file.clone()], only_tls_1_3: true };
    let certificates = Certificates::open_for(source, &clients).unwrap();
    let ca = certificates.ca_pem().unwrap().to_owned();
    assert!(connect(&certificates, &ca, "localhost").is_err(), "no client certificate");
    let connect_with = |issuer: &rcgen::Issuer<rcgen::KeyPair>,
                        versions: &[&'static rustls::SupportedProtocolVersion]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["robot".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&key, issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        handshake(&certificates, client, "localhost")
    };
    connect_with(&issuer, &[&rustls::version::TLS13]).unwrap();
    assert!(connect_with(&other, &[&rustls::version::TLS13]).is_err(), "a certificate of another authority");
    assert!(connect_with(&issuer, &[&rustls::version::TLS12]).is_err(), "an old version of TLS");
    std::fs::write(&file, "nonsense").unwrap();
    assert!(clients.validate().unwrap_err().to_string().contains("clients.pem"));
}

#[test]
fn certificate_learns_the_addresses_that_clients_connect_to() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = auto(directory.path());
    let ca = certificates.ca_pem().unwrap().to_owned();
    assert!(connect(&certificates, &ca, "192.0.2.7").is_err());
    // In the form that a dual-stack socket reports.
    let address: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    assert!(certificates.needs_reissue_for(address));
    certificates.reissue_for(address).unwrap();
    assert!(!certificates.needs_reissue_for(address));
    connect(&certificates, &ca, "192.0.2.7").unwrap();
    assert!(!certificates.refresh().unwrap(), "the certificate stays current");
    for number in 0..200 {
        certificates.reissue_for(IpAddr::from([10, 0, 0, number])).unwrap();
    }
    assert!(
        certificates.needs_reissue_for("10.0.0.199".parse().unwrap()),
        "the number of learned addresses is bounded"
    );
    connect(&certificates, &ca, "10.0.0.1").unwrap();
}

#[test]
fn certificate_of_a_machine_without_a_clock_is_valid_for_clients_with_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(auto(directory.path()));
    // The mark shows that the real time is later than the clock, but not by how much.
    let later = time::OffsetDateTime::now_utc() + time::Duration::days(20);
    std::fs::write(directory.path().join("tls/clock"), later.unix_timestamp().to_string()).unwrap();
    let certificates = auto(directory.path());
    connect(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
    assert!(!certificates.refresh().unwrap(), "a clock that is behind renews nothing");
}

#[test]
fn wrongly_recorded_time_breaks_no_handshake() {
    let directory = tempfile::tempdir().unwrap();
    drop(auto(directory.path()));
    let wrong = time::OffsetDateTime::now_utc() + time::Duration::days(3650);
    std::fs::write(directory.path().join("tls/clock"), wrong.unix_timestamp().to_string()).unwrap();
    let certificates = auto(directory.path());
    assert!(certificates.info().clock_is_behind);
    connect(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
    assert!(
        !certificates.refresh().unwrap() && !certificates.needs_reissue_for("127.0.0.1".parse().unwrap())
    );
}

#[test]
fn interrupted_creation_of_the_authority_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    drop(auto(directory.path()));
    let (certificate, key) = (directory.path().join("tls/ca.crt"), directory.path().join("tls/ca.key"));
    let before = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(&certificate).unwrap();
    let certificates = auto(directory.path());
    assert_eq!(std::fs::read_to_string(&key).unwrap(), before);
    connect(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
    std::fs::remove_file(&key).unwrap();
    let source = Source::Auto { directory: directory.path().join("tls"), names: Vec::new() };
    assert!(Certificates::open(source).err().unwrap().to_string().contains("ca.key"));
}

#[test]
fn changed_files_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    };
    let first = write("one.lan");
    let source = Source::Files { certificate: certificate.clone(), key: key.clone() };
    let certificates = Certificates::open(source).unwrap();
    connect(&certificates, &first, "one.lan").unwrap();
    let second = write("another.lan");
    assert!(certificates.refresh().unwrap());
    connect(&certificates, &second, "another.lan").unwrap();
    std::fs::write(&key, "nonsense").unwrap();
    assert!(certificates.refresh().unwrap_err().to_string().contains("k.pem"));
    assert!(!certificates.refresh().unwrap(), "files with invalid content are read once");
    connect(&certificates, &second, "another.lan").unwrap();
    // A file that cannot be read is retried, even if it does not change.
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    for _ in 0..2 {
        assert!(certificates.refresh().unwrap_err().to_string().contains("cannot read"));
    }
}

#[test]
fn added_name_is_served_at_once_and_after_a_restart_until_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = auto(directory.path());
    let ca = certificates.ca_pem().unwrap().to_owned();
    assert!(connect(&certificates, &ca, "elsewhere.lan").is_err());
    certificates.add_name("Elsewhere.LAN.").unwrap();
    connect(&certificates, &ca, "elsewhere.lan").unwrap();
    assert!(matches!(certificates.add_name("*.lan"), Err(NameError::Invalid(_))));
    assert!(!certificates.refresh().unwrap(), "the certificate is current");
    drop(certificates);
    let again = auto(directory.path());
    assert_eq!(
        (again.added_names(), again.configured_names()),
        (vec!["elsewhere.lan".into()], &["hub.lan".to_owned()][..])
    );
    connect(&again, &ca, "elsewhere.lan").unwrap();
    assert!(matches!(again.remove_name("hub.lan"), Err(NameError::Unknown(_))));
    // A name that the configuration has as well stays in the certificate.
    again.add_name("hub.lan").unwrap();
    again.remove_name("hub.lan").unwrap();
    again.remove_name("elsewhere.lan").unwrap();
    connect(&again, &ca, "hub.lan").unwrap();
    assert!(connect(&again, &ca, "elsewhere.lan").is_err());
    assert!(auto(directory.path()).added_names().is_empty());
}
