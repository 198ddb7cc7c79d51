//! Growth: every cost at three sizes of the registry, and how many times that at the smallest size it is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::load::{self, Connection, response_time};
use super::super::maintenance;
use super::super::peers::{self, Server};
use super::super::push::{self, Kind, Upload};
use super::super::report::{median, milliseconds, number};
use super::Setting;
use super::content::Content;
use super::markdown::{Grid, count};

/// Starts of each kind, and collections, of which the median counts.
const REPEATED: usize = 3;

/// The values of one registry, by the names of their rows.
type Values = Vec<(String, f64)>;

pub fn print(setting: &Setting) -> io::Result<()> {
    let full = setting.choose(1, 10);
    let sizes = |repositories: [usize; 3], tags_each: [usize; 3]| {
        [0, 1, 2].map(|size| Content { repositories: repositories[size], tags_each: tags_each[size] })
    };
    let tags = sizes([1; 3], [100, 10_000 / full, 100_000 / full]);
    let repositories = sizes([1, 1000 / full, 10_000 / full], [10; 3]);
    for (name, binary) in &setting.builds {
        let title = format!("Growth of {name}'s costs with the tags of one repository");
        let column = |content: &Content| format!("{} tags", count(content.tags_each));
        print!("{}", series(setting, binary, &tags, title, column)?);
        let title = format!("Growth of {name}'s costs with the repositories, of 10 tags each");
        let column = |content: &Content| format!("{} repositories", count(content.repositories));
        print!("{}", series(setting, binary, &repositories, title, column)?);
    }
    Ok(())
}

/// Measures three sizes, and relates each value to that of the first size.
fn series(
    setting: &Setting,
    binary: &Path,
    sizes: &[Content; 3],
    title: String,
    column: impl Fn(&Content) -> String,
) -> io::Result<Grid> {
    let mut grid = Grid::new(title, "cost", sizes.iter().map(&column).collect());
    let mut values = Vec::new();
    for content in sizes {
        eprintln!("measuring growth: {}", column(content));
        let (data, disk) = setting.place("growth")?;
        values.push(measure(setting, binary, *content, &data)?);
        if disk.is_none() {
            fs::remove_dir_all(&data)?;
        }
    }
    for (row, (name, smallest)) in values[0].iter().enumerate() {
        let cell = |values: &Values| format!("{} ({:.1}×)", number(values[row].1), values[row].1 / smallest);
        grid.row(name, values.iter().map(cell).collect());
    }
    Ok(grid)
}

fn measure(setting: &Setting, binary: &Path, content: Content, data: &Path) -> io::Result<Values> {
    content.fill(binary, data)?;
    let mut values = Values::new();
    let mut add = |name: &str, value: f64| values.push((name.to_owned(), value));
    let clean = starts(binary, data, |server| {
        drop(server);
        Ok(())
    })?;
    let crashed = starts(binary, data, Server::kill)?;
    let server = peers::build_of_holdfast(binary, data)?;
    let own_memory = || server.memory("RssAnon");
    let mut memory = vec![("after the start", own_memory())];
    pushes(setting, content, &server, &mut add)?;
    manifests(setting, content, &server, &mut add)?;
    memory.push(("after the pushes", own_memory()));
    pages(content, &server, &mut add)?;
    memory.push(("after the pages", own_memory()));
    add("collection of 50 images, ms", collection(binary, content, data, &server)?);
    memory.push(("after the collections", own_memory()));
    for (when, mebibytes) in memory {
        add(&format!("memory {when}, without mapped files, MiB"), mebibytes);
    }
    add("peak memory with mapped files, MiB", server.memory("VmHWM"));
    drop(server);
    add("start after a clean stop, ms", clean);
    add("start after kill -9, ms", crashed);
    add("size of the index, MiB", mebibytes(&data.join("index/data.mdb"))?);
    add("size of index.json, MiB", mebibytes(&data.join("index.json"))?);
    Ok(values)
}

/// Starts the daemon and ends it, a few times; returns the median time of the starts after the first, in milliseconds.
fn starts(binary: &Path, data: &Path, end: impl Fn(Server) -> io::Result<()>) -> io::Result<f64> {
    end(peers::build_of_holdfast(binary, data)?)?;
    let mut times = Vec::new();
    for _ in 0..REPEATED {
        let server = peers::build_of_holdfast(binary, data)?;
        times.push(milliseconds(server.start));
        end(server)?;
    }
    Ok(median(times))
}

/// Measures pushes under new tags, spread over the repositories: alone, and 4 at once.
fn pushes(
    setting: &Setting,
    content: Content,
    server: &Server,
    add: &mut impl FnMut(&str, f64),
) -> io::Result<()> {
    let total = setting.choose(200, 20);
    let kind = Kind { layers: 2, upload: Upload::Docker };
    let push = |connections: usize| {
        let place = |number| (content.repository(content.spread(number)), format!("{connections}-{number}"));
        push::images_at(&server.target, connections, total, kind, place)
    };
    let before = server.cpu_seconds();
    add("push of a small image, ms", median(push(1)?));
    add("CPU time of it, ms", (server.cpu_seconds() - before) * 1000.0 / total as f64);
    let begun = Instant::now();
    push(4)?;
    add("push, 4 at once, ms for each", milliseconds(begun.elapsed()) / total as f64);
    Ok(())
}

/// Measures requests for manifests, as the time of one at full load.
fn manifests(
    setting: &Setting,
    content: Content,
    server: &Server,
    add: &mut impl FnMut(&str, f64),
) -> io::Result<()> {
    let middle = content.tags() / 2;
    let path = [content.manifest_path(middle)];
    let time = Duration::from_secs(setting.choose(2, 1));
    for (name, method) in [("HEAD of a manifest, µs", "HEAD"), ("GET of a manifest, µs", "GET")] {
        add(name, 1e6 / load::manifest_rate(&server.target, method, &path, 32, time)?);
    }
    Ok(())
}

/// Measures the lists of the API, and the pages.
fn pages(content: Content, server: &Server, add: &mut impl FnMut(&str, f64)) -> io::Result<()> {
    let middle = content.tags() / 2;
    let (repository, tag) = (content.repository(middle), content.tag(middle));
    let paths = [
        ("tags list, n=10, ms", format!("/v2/{repository}/tags/list?n=10")),
        ("the same from the middle, ms", format!("/v2/{repository}/tags/list?n=10&last={tag}")),
        ("catalog, n=100, ms", "/v2/_catalog?n=100".to_owned()),
        ("the same from the middle, ms", format!("/v2/_catalog?n=100&last={repository}")),
        ("page: overview, ms", "/".to_owned()),
        ("page: repositories, ms", "/repositories".to_owned()),
        ("page: repositories by size, ms", "/repositories?sort=size&dir=down".to_owned()),
        ("page: repositories searched, ms", "/repositories?q=app00".to_owned()),
        ("page: tags of a repository, ms", format!("/repository/{repository}")),
        ("page: an image, ms", format!("/image/{repository}:{tag}")),
    ];
    for (name, path) in paths {
        add(name, response_time(&server.target, &path)?);
    }
    Ok(())
}

/// Deletes 50 tags and collects their images without a grace period, a few times; returns the median of the collections,
/// in milliseconds.
fn collection(binary: &Path, content: Content, data: &Path, server: &Server) -> io::Result<f64> {
    let mut connection = Connection::open(&server.target)?;
    let mut times = Vec::new();
    for _ in 0..REPEATED {
        for number in 0..50 {
            let (repository, tag) = (content.repository(content.spread(number)), format!("deleted-{number}"));
            push::small_image(&mut connection, &repository, &tag)?;
            let head = connection.head_of("DELETE", &format!("/v2/{repository}/manifests/{tag}"), "");
            connection.exchange(&head, &[], 202)?;
        }
        times.push(maintenance::run_gc(binary, data)?);
    }
    Ok(median(times))
}

fn mebibytes(file: &Path) -> io::Result<f64> {
    Ok(fs::metadata(file)?.len() as f64 / f64::from(1 << 20))
}
