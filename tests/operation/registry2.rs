//! The examples in the documentation of registry:2, word for word: each `docker run` command and compose file, with the
//! configuration of the container image.

mod container;

use std::fs;
use std::process::Command;

use self::container::{Container, Run};
use crate::support::*;

/// Returns a directory with the `certs` and `auth` that the documentation creates.
fn with_certificate_and_user() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["certs", "auth", "data"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "9",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-keyout", &at("certs/domain.key"), "-out", &at("certs/domain.crt")])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]));
    let users = run(Command::new("htpasswd").args(["-Bbn", "testuser", "testpassword"]));
    fs::write(at("auth/htpasswd"), users).unwrap();
    directory
}

const USER: [&str; 2] = ["-u", "testuser:testpassword"];

#[test]
fn a_registry_without_settings_starts_closed() {
    let here = tempfile::tempdir().unwrap();
    for command in [
        "docker run -d -p 5000:5000 --restart=always --name registry registry:3",
        "docker run -d -p 5000:5000 --restart=always --name registry registry:2",
        "docker run -d \\\n  -p 5001:5000 \\\n  --name registry-test \\\n  registry:3",
    ] {
        let container = Container::start(&Run::of_command(command, here.path()));
        // Unlike registry:2, the image without settings is closed until it has a user.
        assert_eq!(container.curl(&["http://localhost:5000/v2/"]).0, 401, "{command}");
    }
}

#[test]
fn a_variable_sets_the_port_in_the_container() {
    let here = tempfile::tempdir().unwrap();
    let command = "docker run -d \\
  -e REGISTRY_HTTP_ADDR=0.0.0.0:5001 \\
  -p 5001:5001 \\
  --name registry-test \\
  registry:3";
    let container = Container::start(&Run::of_command(command, here.path()));
    container.pushes_and_pulls("http://localhost:5001", &[]);
    assert!(
        container.log().contains("REGISTRY_AUTH is not set: the registry is open"),
        "{}",
        container.log()
    );
}

#[test]
fn a_directory_of_the_host_holds_the_content() {
    let here = tempfile::tempdir().unwrap();
    let command = "docker run -d \\
  -p 5000:5000 \\
  --restart=always \\
  --name registry \\
  -v /mnt/registry:/var/lib/registry \\
  registry:3";
    let run = Run::of_command(command, here.path()).with("REGISTRY_HTTP_ADDR", ":5000");
    let container = Container::start(&run);
    container.pushes_and_pulls("http://localhost:5000", &[]);
    let blob = here.path().join("data/blobs/sha256").join(&digest(b"content")[7..]);
    assert!(blob.exists());
}

#[test]
fn a_certificate_enables_tls_on_port_443() {
    let here = with_certificate_and_user();
    let command = "docker run -d \\
     --restart=always \\
     --name registry \\
     -v \"$(pwd)\"/certs:/certs \\
     -e REGISTRY_HTTP_ADDR=0.0.0.0:443 \\
     -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
     -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
     -p 443:443 \\
     registry:3";
    let container = Container::start(&Run::of_command(command, here.path()));
    let ca = here.path().join("certs/domain.crt");
    container.pushes_and_pulls("https://localhost", &["--cacert", ca.to_str().unwrap()]);
}

#[test]
fn variables_enable_users_and_tls() {
    let here = with_certificate_and_user();
    let command = "docker run -d \\
     -p 5000:5000 \\
     --restart=always \\
     --name registry \\
     -v \"$(pwd)\"/auth:/auth \\
     -e \"REGISTRY_AUTH=htpasswd\" \\
     -e \"REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm\" \\
     -e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd \\
     -v \"$(pwd)\"/certs:/certs \\
     -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
     -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
     registry:3";
    users_and_tls(&Run::of_command(command, here.path()), &here);
}

#[test]
fn the_compose_file_enables_users_and_tls() {
    let here = with_certificate_and_user();
    for image in ["registry:2", "registry:3"] {
        let file = format!(
            "registry:
  restart: always
  image: {image}
  ports:
    - 5000:5000
  environment:
    REGISTRY_HTTP_TLS_CERTIFICATE: /certs/domain.crt
    REGISTRY_HTTP_TLS_KEY: /certs/domain.key
    REGISTRY_AUTH: htpasswd
    REGISTRY_AUTH_HTPASSWD_PATH: /auth/htpasswd
    REGISTRY_AUTH_HTPASSWD_REALM: Registry Realm
  volumes:
    - /path/data:/var/lib/registry
    - /path/certs:/certs
    - /path/auth:/auth
"
        );
        let run = Run::of_compose(&file, here.path());
        assert_eq!((run.environment.len(), run.volumes.len()), (5, 3));
        users_and_tls(&run, &here);
        assert!(here.path().join("data/oci-layout").exists());
    }
}

#[track_caller]
fn users_and_tls(run: &Run, here: &tempfile::TempDir) {
    let container = Container::start(run);
    let ca = here.path().join("certs/domain.crt");
    let trust = ["--cacert", ca.to_str().unwrap()];
    let ping = "https://localhost:5000/v2/";
    assert_eq!(container.curl(&[&trust[..], &[ping]].concat()).0, 401);
    let (_, headers) = container.curl(&[&trust[..], &["-D", "-", ping]].concat());
    assert!(headers.contains("realm=\"Registry Realm\""), "{headers}");
    assert_eq!(container.curl(&[&trust[..], &["-u", "testuser:wrong", ping]].concat()).0, 401);
    container.pushes_and_pulls("https://localhost:5000", &[&trust[..], &USER].concat());
    assert!(!container.log().contains("has no effect"), "{}", container.log());
}

/// The file in the image of registry:2, with users.
const FILE: &str = "version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
auth:
  htpasswd:
    realm: basic-realm
    path: /auth/htpasswd
http:
  addr: :5002
  headers:
    X-Content-Type-Options: [nosniff]
    X-Custom: ['a value']
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

#[test]
fn a_mounted_or_named_configuration_file_is_read() {
    let here = with_certificate_and_user();
    fs::write(here.path().join("config.yml"), FILE).unwrap();
    for command in [
        "docker run -d -p 5000:5000 --restart=always --name registry \\
             -v `pwd`/config.yml:/etc/distribution/config.yml \\
             registry:3",
        "docker run -d -p 5000:5000 --restart=always --name registry \\
             -v `pwd`/config.yml:/etc/docker/registry/config.yml \\
             registry:2",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 /config.yml",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 serve /config.yml",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 --config /config.yml",
    ] {
        let mut run = Run::of_command(command, here.path());
        run.volumes.push((here.path().join("auth").to_str().unwrap().to_owned(), "/auth".into()));
        let container = Container::start(&run);
        let ping = "http://localhost:5002/v2/";
        let (status, headers) = container.curl(&["-D", "-", ping]);
        assert_eq!(status, 401, "{command}");
        assert!(
            headers.contains("basic-realm") && headers.to_lowercase().contains("x-custom: a value"),
            "{headers}"
        );
        container.pushes_and_pulls("http://localhost:5002", &USER);
        assert!(container.root().join("var/lib/registry/oci-layout").exists(), "{command}");
        let warnings = container.log();
        assert_eq!(warnings.matches("has no effect").count(), 1, "{warnings}");
        assert!(warnings.contains("config.yml: log.fields has no effect"), "{warnings}");
    }
}

#[test]
fn the_daemon_does_not_start_with_settings_that_must_not_be_ignored() {
    let here = tempfile::tempdir().unwrap();
    for (setting, expected) in [
        ("REGISTRY_PROXY_REMOTEURL=https://hub.example", "pull-through"),
        ("REGISTRY_STORAGE=s3", "directory of this machine"),
        ("REGISTRY_AUTH_TOKEN_REALM=https://auth.example/token", "tokens of another server"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS=[/ca.pem]", "tls.client_ca"),
    ] {
        let run = Run::of_command(&format!("docker run -e {setting} registry:2"), here.path());
        let log = Container::try_start(&run).err().expect(setting);
        assert!(log.contains(expected) && log.lines().count() == 1, "{setting}: {log}");
    }
}

#[test]
fn clients_need_a_certificate_if_a_client_ca_is_set() {
    let here = with_certificate_and_user();
    let at = |name: &str| here.path().join(name).to_str().unwrap().to_owned();
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", "9", "-subj", "/CN=clients"])
        .args(ec)
        .args(["-keyout", &at("clients.key"), "-out", &at("certs/clients.pem")]));
    run(Command::new("openssl").args(["req", "-subj", "/CN=robot"]).args(ec).args([
        "-keyout",
        &at("robot.key"),
        "-out",
        &at("robot.csr"),
    ]));
    fs::write(at("extensions"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", "9", "-in", &at("robot.csr"), "-out", &at("robot.crt")])
        .args([
            "-CA",
            &at("certs/clients.pem"),
            "-CAkey",
            &at("clients.key"),
            "-CAcreateserial",
            "-extfile",
            &at("extensions"),
        ]));
    let command = "docker run -v \"$(pwd)\"/certs:/certs \\
        -e REGISTRY_HTTP_ADDR=0.0.0.0:443 \\
        -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
        -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
        -e REGISTRY_HTTP_TLS_CLIENTCAS_0=/certs/clients.pem \\
        registry:2";
    let container = Container::start(&Run::of_command(command, here.path()));
    let trust = ["--cacert", &at("certs/domain.crt")];
    let own = ["--cert", &at("robot.crt"), "--key", &at("robot.key")];
    container.pushes_and_pulls("https://localhost", &[&trust[..], &own].concat());
    let mut without = Command::new("nsenter");
    without.args(["--target", &container.child.id().to_string(), "--net", "curl", "-sS", "--max-time", "20"]);
    assert!(!without.args(trust).arg("https://localhost/v2/").output().unwrap().status.success());
}

#[test]
fn content_of_registry_2_causes_one_warning() {
    let here = tempfile::tempdir().unwrap();
    fs::create_dir_all(here.path().join("data/docker/registry/v2/repositories/app")).unwrap();
    let command = "docker run -v /mnt/registry:/var/lib/registry -e REGISTRY_HTTP_ADDR=:5000 registry:2";
    let container = Container::start(&Run::of_command(command, here.path()));
    let log = container.log();
    assert_eq!(log.matches("has content of registry:2").count(), 1, "{log}");
    assert!(log.contains("neither serves nor changes") && log.contains("skopeo sync"), "{log}");
    container.pushes_and_pulls("http://localhost:5000", &[]);
    assert!(here.path().join("data/docker/registry/v2/repositories/app").exists());
}
