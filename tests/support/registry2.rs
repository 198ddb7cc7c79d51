//! Debian's `docker-registry` (registry:2).

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::media::Image;
use super::{Request, digest, run, unused_address};

/// A running registry:2, killed on drop.
pub struct Registry2 {
    pub child: Child,
    pub address: SocketAddr,
    directory: tempfile::TempDir,
    user: Option<(&'static str, &'static str)>,
}

impl Registry2 {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts it with a user, without whose password it answers nothing.
    pub fn with_user(name: &'static str, password: &'static str) -> Self {
        Self::start_with(Some((name, password)))
    }

    fn start_with(user: Option<(&'static str, &'static str)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = unused_address();
        let configuration = directory.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{address}'}}\n",
            directory.path().join("data").display()
        );
        if let Some((name, password)) = user {
            let users = directory.path().join("htpasswd");
            fs::write(&users, run(Command::new("htpasswd").args(["-nbB", "-C", "4", name, password])))
                .unwrap();
            text += &format!("auth:\n  htpasswd: {{realm: registry, path: {}}}\n", users.display());
        }
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("Debian's docker-registry is installed");
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "registry:2 does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry2 { child, address, directory, user }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Returns a request of its user.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let request = Request::new(self.address, method, path);
        match self.user {
            Some((name, password)) => request.login(name, password),
            None => request,
        }
    }

    pub fn push(&self, repository: &str, reference: &str, image: &Image) {
        for content in image.content.values() {
            let path = format!("/v2/{repository}/blobs/uploads/");
            let location = self.request("POST", &path).body(b"").send().expect(202);
            let location = location.required_header("location");
            let path = location.find("/v2/").map_or(&*location, |at| &location[at..]);
            let path = format!("{path}&digest={}", digest(content));
            self.request("PUT", &path).body(content).send().expect(201);
        }
        self.put(repository, reference, image);
    }

    pub fn put(&self, repository: &str, reference: &str, image: &Image) {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let request = self.request("PUT", &path).header("Content-Type", image.media_type);
        request.body(&image.manifest).send().expect(201);
    }
}

impl Drop for Registry2 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
