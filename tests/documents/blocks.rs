//! Fenced blocks and code spans of Markdown.

/// A fenced block.
pub struct Block {
    pub language: String,
    pub text: String,
    /// The line of its first line of text, from 1.
    pub line: usize,
    pub mark: Mark,
    /// Commands that a comment has for the test: they make what the reader has already.
    pub setup: String,
}

/// The comment before a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    Nothing,
    NotRun,
    NotChecked,
    Prints(String),
    /// The text of a file of another program, which is written before the commands that follow run.
    File(String),
}

/// Languages of blocks. Only `sh` and `console` are commands.
const LANGUAGES: [&str; 13] = [
    "sh",
    "console",
    "toml",
    "json",
    "yaml",
    "ini",
    "text",
    "http",
    "powershell",
    "nginx",
    "haproxy",
    "caddy",
    "mermaid",
];

/// Reads the blocks of a page. Panics at a block without a language that is known here.
pub fn read(name: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            if line.starts_with("<!--") {
                before.push(line);
            } else if !line.trim().is_empty() {
                before.clear();
            }
            continue;
        };
        assert!(LANGUAGES.contains(&language), "{name}:{}: a block of {language:?}", number + 1);
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let text: String =
            inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
        let mut block = Block {
            language: language.to_owned(),
            text,
            line: number + 2,
            mark: Mark::Nothing,
            setup: String::new(),
        };
        before.drain(..).for_each(|comment| block.apply(name, comment));
        blocks.push(block);
    }
    blocks
}

impl Block {
    /// Applies a comment before the block.
    fn apply(&mut self, name: &str, comment: &str) {
        let comment = comment.trim_start_matches("<!--").trim_end_matches("-->").trim();
        let (kind, text) = comment.split_once(": ").unwrap_or((comment, ""));
        assert!(text.len() > 2, "{name}:{}: the comment before the block gives no reason", self.line);
        match kind {
            "not run" => self.mark = Mark::NotRun,
            "not checked" => self.mark = Mark::NotChecked,
            "prints" => self.mark = Mark::Prints(text.to_owned()),
            "file" => self.mark = Mark::File(text.to_owned()),
            "setup" => self.setup = format!("{text}\n"),
            other => panic!("{name}:{}: a comment before the block begins with {other:?}", self.line),
        }
    }

    /// Returns true for commands that run in the test.
    pub fn runs(&self) -> bool {
        self.is_commands() && self.mark != Mark::NotRun
    }

    pub fn is_commands(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "console")
    }

    /// Returns the commands: of `console` the lines after a prompt.
    pub fn commands(&self) -> String {
        if self.language == "sh" {
            return self.text.clone();
        }
        let typed = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
        typed.map(|line| format!("{line}\n")).collect()
    }
}

/// Returns the text outside of fenced blocks.
pub fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        if !inside && !is_fence {
            prose.push_str(line);
        }
        prose.push('\n');
    }
    prose
}

/// Returns the code spans of a text without fenced blocks. A span may go over the end of a line.
pub fn spans(prose: &str) -> Vec<String> {
    let words = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs = prose.split("\n\n");
    paragraphs.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2).map(words)).collect()
}
