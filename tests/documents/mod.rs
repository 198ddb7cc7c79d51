//! The documents: README.md and `docs/`. Their commands run, their configuration is valid, their links resolve, and the
//! reference pages agree with the program. Running needs root, a Docker engine, skopeo, pebble, lego and certbot.
//!
//! A block of commands that cannot run here has a comment before it that says why: `<!-- not run: REASON -->`. A block whose
//! output matters has `<!-- prints: TEXT -->`, one that uses what the reader has already `<!-- setup: COMMANDS -->`, and a
//! configuration that cannot be checked `<!-- not checked: REASON -->`. A file of another program that the commands after it need has
//! `<!-- file: PATH -->`.

pub mod blocks;
pub mod commands;
mod quick;

use std::fs;
use std::path::{Path, PathBuf};

use self::blocks::Block;

/// A document in Markdown.
pub struct Page {
    /// Its path, from the top of the sources.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
}

pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns README.md and all pages of `docs/`, by name.
pub fn pages() -> Vec<Page> {
    let mut files = vec![source().join("README.md")];
    collect(&source().join("docs"), &mut files);
    files.sort();
    let page = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
        Page { blocks: blocks::read(&name, &text), name, text }
    };
    files.into_iter().map(page).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}
