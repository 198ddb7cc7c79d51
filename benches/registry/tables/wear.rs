//! Wear: what one push, one move of a tag and one delete write, in registries of three sizes.
//!
//! Each server has a disk of its own. A reading of the counters is taken after a time without requests and a sync, so that
//! deferred writes are counted. All servers wait at the same time.

use std::io;
use std::time::Duration;

use holdfast::oci::{Algorithm, Hasher};

use super::super::load::{self, Connection};
use super::super::peers::{self, REGISTRY_2, Server};
use super::super::push::{self, Kind, Upload};
use super::super::report::number;
use super::Setting;
use super::content::Content;
use super::disk::{Disk, Written};
use super::markdown::{Grid, count};

/// The pushed image: four new files.
const IMAGE: Kind = Kind { layers: 2, upload: Upload::Docker };

/// Number of operations after which the counters are read.
const FEW: usize = 40;

/// What is done to every server.
#[derive(Clone, Copy)]
enum Operation {
    Idle,
    Push,
    Move,
    Delete,
}

/// A step of the measurement: its row, the operation, the number of operations, and the connections that share them.
type Step = (&'static str, Operation, usize, usize);

/// A server with the content of one size.
struct Subject {
    column: String,
    name: &'static str,
    content: Content,
    server: Server,
    disk: Option<Disk>,
    /// Pushed images that are not yet deleted: the path of their manifest.
    pushed: Vec<String>,
    /// Operations so far.
    done: usize,
}

pub fn print(setting: &Setting) -> io::Result<()> {
    let (few, many, quiet) = (setting.choose(FEW, 8), setting.choose(1000, 20), setting.choose(15, 1));
    let steps: [Step; 8] = [
        ("none, in the time of a measurement", Operation::Idle, 1, 1),
        ("push", Operation::Push, few, 1),
        ("push, 4 at once", Operation::Push, few, 4),
        ("move of a tag", Operation::Move, few, 1),
        ("moves of tags, 4 at once", Operation::Move, few, 4),
        ("delete of a tag", Operation::Delete, few, 1),
        ("deletes of tags, 4 at once", Operation::Delete, few, 4),
        ("push, in a long run", Operation::Push, many, 1),
    ];
    let mut subjects = subjects(setting)?;
    let columns: Vec<String> = subjects.iter().map(|subject| subject.column.clone()).collect();
    let grid = |title: &str| Grid::new(title, "operation", columns.clone());
    let mut device = grid("KiB that reached the disk per operation, with the file system's own");
    let mut flushes = grid("Flushes of the disk per operation");
    let mut content = grid("KiB of file content per operation (`write_bytes`)");
    let mut calls = grid("KiB given to system calls per operation (`wchar`, sockets included)");
    for (name, operation, times, connections) in steps {
        eprintln!("{name}: {times} operations on {} servers", subjects.len());
        let written = measure(&mut subjects, operation, times, connections, Duration::from_secs(quiet))?;
        let name = format!("{name} ({})", count(times));
        let row = |value: fn(&Written) -> Option<f64>| {
            written.iter().map(|written| cell(value(written), times)).collect::<Vec<_>>()
        };
        device.row(&name, row(|written| written.device.map(kibibytes)));
        flushes.row(&name, row(|written| written.flushes.map(|flushes| flushes as f64)));
        content.row(&name, row(|written| Some(kibibytes(written.content))));
        calls.row(&name, row(|written| Some(kibibytes(written.calls))));
    }
    device.row("clean stop", subjects.into_iter().map(stop).collect::<io::Result<_>>()?);
    print!("{device}{flushes}{content}{calls}");
    Ok(())
}

fn kibibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn cell(total: Option<f64>, times: usize) -> String {
    total.map_or_else(|| "-".to_owned(), |total| number(total / times as f64))
}

/// Starts and fills all servers.
fn subjects(setting: &Setting) -> io::Result<Vec<Subject>> {
    let each = |repositories, tags_each| Content { repositories, tags_each };
    let sizes = setting
        .choose([each(1, 10), each(100, 100), each(1000, 100)], [each(1, 10), each(2, 50), each(10, 100)]);
    let place = |name: &str, content: Content| {
        eprintln!("filling {name} with {} tags", count(content.tags()));
        setting.place(&format!("{name}-{}", content.tags()))
    };
    let mut subjects = Vec::new();
    for (name, binary) in &setting.builds {
        for content in sizes {
            let (data, disk) = place(name, content)?;
            content.fill(binary, &data)?;
            let server = peers::build_of_holdfast(binary, &data)?;
            subjects.push(Subject::new(name, content, server, disk));
        }
    }
    for content in sizes {
        let (data, disk) = place("registry", content)?;
        content.fill_registry_2(&data)?;
        let Some(server) = peers::registry_2(&data)? else { break };
        subjects.push(Subject::new(REGISTRY_2, content, server, disk));
    }
    Ok(subjects)
}

/// Lets every server do the operations, waits until all are quiet, and returns what each has written.
fn measure(
    subjects: &mut [Subject],
    operation: Operation,
    times: usize,
    connections: usize,
    quiet: Duration,
) -> io::Result<Vec<Written>> {
    let read = |subjects: &[Subject]| subjects.iter().map(Subject::written).collect::<io::Result<Vec<_>>>();
    let before = read(subjects)?;
    for subject in &mut *subjects {
        subject.operate(operation, times, connections)?;
    }
    std::thread::sleep(quiet);
    let after = read(subjects)?;
    Ok(after.into_iter().zip(before).map(|(after, before)| after.since(before)).collect())
}

/// Stops a server, and returns the KiB that this writes.
fn stop(subject: Subject) -> io::Result<String> {
    let Subject { server, disk, .. } = subject;
    let Some(disk) = disk else { return Ok("-".to_owned()) };
    let (before, _) = disk.written()?;
    drop(server);
    Ok(number(kibibytes(disk.written()?.0 - before)))
}

impl Subject {
    fn new(name: &'static str, content: Content, server: Server, disk: Option<Disk>) -> Self {
        let column = format!("{name}, {} tags", count(content.tags()));
        Subject { column, name, content, server, disk, pushed: Vec::new(), done: 0 }
    }

    fn written(&self) -> io::Result<Written> {
        Written::read(&self.server, self.disk.as_ref())
    }

    /// Does an operation `times` times on `connections` connections at once.
    fn operate(&mut self, operation: Operation, times: usize, connections: usize) -> io::Result<()> {
        let begin = self.done;
        self.done += times;
        let deleted = match operation {
            Operation::Delete => self.pushed.split_off(self.pushed.len() - times),
            Operation::Idle | Operation::Push | Operation::Move => Vec::new(),
        };
        let subject = &*self;
        let pushed = std::thread::scope(|scope| {
            let work = |first: usize| {
                let deleted = &deleted;
                move || {
                    let mut connection = Connection::open(&subject.server.target)?;
                    let mut pushed = Vec::new();
                    for number in (first..times).step_by(connections) {
                        match operation {
                            Operation::Idle => {}
                            Operation::Push => pushed.push(subject.push(&mut connection, begin + number)?),
                            Operation::Move => subject.move_tag(&mut connection, begin + number)?,
                            Operation::Delete => delete(&mut connection, &deleted[number])?,
                        }
                    }
                    Ok(pushed)
                }
            };
            let threads: Vec<_> = (0..connections).map(|first| scope.spawn(work(first))).collect();
            threads.into_iter().map(load::join).collect::<io::Result<Vec<_>>>()
        })?;
        self.pushed.extend(pushed.into_iter().flatten());
        Ok(())
    }

    /// Pushes a new image under a new tag; returns the path by which it is deleted.
    fn push(&self, connection: &mut Connection, number: usize) -> io::Result<String> {
        let repository = self.content.repository(self.content.spread(number));
        let tag = format!("pushed-{number}");
        let manifest = push::image(connection, &repository, &tag, IMAGE)?;
        // registry:2 deletes no tags, only manifests with all their tags.
        let reference = match self.name {
            REGISTRY_2 => Hasher::digest(Algorithm::Sha256, &manifest).to_string(),
            _ => tag,
        };
        Ok(format!("/v2/{repository}/manifests/{reference}"))
    }

    /// Lets a tag name the image of another tag in its repository: each time of one that it has not named just before.
    fn move_tag(&self, connection: &mut Connection, number: usize) -> io::Result<()> {
        let image = self.content.spread(number);
        let place = image % self.content.tags_each;
        let distance = 1 + number / self.content.tags();
        let other = image - place + (place + distance) % self.content.tags_each;
        let manifest = self.content.manifest(other);
        let (repository, tag) = (self.content.repository(image), self.content.tag(image));
        push::put_manifest(connection, &repository, &tag, manifest.as_bytes())
    }
}

fn delete(connection: &mut Connection, path: &str) -> io::Result<()> {
    let head = connection.head_of("DELETE", path, "");
    connection.exchange(&head, &[], 202)?;
    Ok(())
}
