//! A table in Markdown.

use std::fmt;

/// A table: each row has its name and one cell for each column.
pub struct Grid {
    title: String,
    corner: &'static str,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Grid {
    pub fn new(title: impl Into<String>, corner: &'static str, columns: Vec<String>) -> Self {
        Grid { title: title.into(), corner, columns, rows: Vec::new() }
    }

    pub fn row(&mut self, name: impl Into<String>, cells: Vec<String>) {
        self.rows.push((name.into(), cells));
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "**{}**\n\n| {} | {} |", self.title, self.corner, self.columns.join(" | "))?;
        writeln!(out, "|---{}|", "|---:".repeat(self.columns.len()))?;
        for (name, cells) in &self.rows {
            writeln!(out, "| {name} | {} |", cells.join(" | "))?;
        }
        writeln!(out)
    }
}

/// Formats a count with a comma between thousands.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}
