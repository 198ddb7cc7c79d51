//! The build steps of an image, as a Dockerfile would say them.
//!
//! Builders write their steps in several forms: the classic builder `/bin/sh -c #(nop) CMD ["a"]`, `BuildKit`
//! `RUN |1 V=5 /bin/sh -c make # buildkit`, and both print Go values such as `map[80/tcp:{}]`. The text is untrusted
//! input: a step of no known form stays as it is.

/// Marks a step of the classic builder that ran no command.
const NOP: &str = "#(nop)";
/// Ends a step of `BuildKit`.
const BUILDKIT: &str = "# buildkit";
/// The digits that are kept of a hash in a step of the classic builder.
const HASH: usize = 12;

/// The instructions of a Dockerfile.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Returns a step of the history of an image as a line of a Dockerfile.
pub fn dockerfile_step(created_by: &str) -> String {
    let text = created_by.trim();
    let text = text.strip_suffix(BUILDKIT).unwrap_or(text).trim();
    if let Some(instruction) = after_nop(text) {
        return instruction_line(instruction);
    }
    match split_instruction(text) {
        Some(("RUN", command)) => run(command),
        Some(_) => instruction_line(text),
        None if is_shell_call(text) => run(text),
        None => text.to_owned(),
    }
}

fn run(command: &str) -> String {
    format!("RUN {}", shell_command(command)).trim_end().to_owned()
}

/// Returns the instruction after the mark of the classic builder, which a shell with few options precedes.
fn after_nop(text: &str) -> Option<&str> {
    let (shell, instruction) = text.split_once(NOP)?;
    let (arguments, call) = arguments_count(shell).unwrap_or((0, shell));
    // A command before the mark is not the builder's.
    let is_shell = find_shell(call, arguments).is_some_and(|(_, end)| call[end..].trim().is_empty());
    is_shell.then_some(instruction.trim())
}

/// Splits an instruction in capital letters from its arguments.
fn split_instruction(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    INSTRUCTIONS.contains(&name).then_some((name, rest.trim()))
}

fn instruction_line(text: &str) -> String {
    let Some((name, rest)) = split_instruction(text) else { return text.to_owned() };
    let arguments = match name {
        "CMD" | "ENTRYPOINT" | "SHELL" => command_list(rest),
        "EXPOSE" | "VOLUME" => plain_list(rest),
        "HEALTHCHECK" => health_check(rest),
        "ADD" | "COPY" => copied(rest),
        // An ONBUILD in an ONBUILD is not valid, and is not followed.
        "ONBUILD" if !rest.starts_with("ONBUILD") => Some(instruction_line(rest)),
        _ => None,
    };
    format!("{name} {}", arguments.as_deref().unwrap_or(rest)).trim_end().to_owned()
}

/// Returns true for the call of a shell, with or without build arguments before it.
fn is_shell_call(text: &str) -> bool {
    arguments_count(text).is_some() || find_shell(text, 0).is_some_and(|(start, _)| start == 0)
}

/// Strips build arguments and the shell from a command. A command without a shell stays whole.
fn shell_command(text: &str) -> &str {
    let (arguments, text) = match arguments_count(text) {
        Some((count, rest)) => (count, rest),
        None => (0, text),
    };
    match find_shell(text, arguments) {
        Some((start, command)) if arguments > 0 || start == 0 => &text[command..],
        Some(_) | None => after_words(text, arguments),
    }
    .trim()
}

/// Returns the number of build arguments that a step begins with (`|2 A=1 B=2`), and the text after the number.
fn arguments_count(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.strip_prefix('|')?.split_once(' ').unwrap_or((text.strip_prefix('|')?, ""));
    Some((number.parse().ok().filter(|count| *count < 1000)?, rest))
}

fn after_words(text: &str, words: usize) -> &str {
    let mut rest = text;
    for _ in 0..words {
        let Some((_, after)) = rest.split_once(' ') else { return text };
        rest = after;
    }
    rest
}

/// Finds the first call of a shell after `skipped` words: its position, and that of its command. Values of build
/// arguments may have spaces, so that the position is not known from their number.
fn find_shell(text: &str, skipped: usize) -> Option<(usize, usize)> {
    let mut words = Words { text, at: 0 };
    let mut number = 0;
    while let Some((start, word)) = words.next() {
        if number >= skipped && is_shell(word) {
            let mut options = Words { text, at: words.at };
            // What was read as an option begins no call that succeeds, so that no word is read again.
            while let Some((_, option)) = options.next() {
                if is_command_option(option) {
                    return Some((start, options.at));
                }
                let is_option =
                    option.starts_with(['-', '/']) || matches!(option, "pipefail" | "errexit" | "nounset");
                if !is_option {
                    break;
                }
                words.at = options.at;
            }
        }
        number += 1;
        // The shell is the first word of a command without arguments.
        if skipped == 0 {
            return None;
        }
    }
    None
}

/// The words of a text between spaces, with their positions.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = &self.text[self.at..];
        let start = self.at + rest.find(|c: char| c != ' ')?;
        let end = self.text[start..].find(' ').map_or(self.text.len(), |length| start + length);
        self.at = end;
        Some((start, &self.text[start..end]))
    }
}

fn is_shell(word: &str) -> bool {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "cmd" | "powershell" | "pwsh")
        && (word.contains(['/', '\\']) || matches!(name, "cmd" | "powershell" | "pwsh"))
}

/// Returns true for the option after which the command follows: `-c`, `-ec`, `/C`, `-Command`.
fn is_command_option(option: &str) -> bool {
    let is_cluster = option.len() < 8
        && option
            .strip_prefix('-')
            .is_some_and(|flags| flags.ends_with('c') && flags.bytes().all(|byte| byte.is_ascii_lowercase()));
    is_cluster || matches!(option, "/C" | "/c" | "-Command" | "-command")
}

/// Formats a list of Go strings (`["a" "b c"]`, or `[a b]`) as a list of JSON. A list that calls a shell is the
/// command itself, as in the shell form of an instruction.
fn command_list(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let words = go_strings(inner).unwrap_or_else(|| {
        inner.split_whitespace().map(|word| word.trim_matches([',', '"']).to_owned()).collect()
    });
    if let [shell, option, command] = &words[..]
        && matches!(shell.as_str(), "/bin/sh" | "/bin/bash")
        && option == "-c"
    {
        return Some(command.clone());
    }
    let quoted: Vec<String> =
        words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
    Some(format!("[{}]", quoted.join(", ")))
}

/// Parses Go strings with spaces or commas between them; `None` if there is other text.
fn go_strings(text: &str) -> Option<Vec<String>> {
    let (mut words, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let (word, after) = go_string(rest)?;
        words.push(word);
        rest = after.trim_start_matches([' ', ',']);
    }
    Some(words)
}

/// Parses the Go string at the beginning of a text, and returns the text after it.
fn go_string(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let (mut word, mut escaped) = (String::new(), false);
    for (at, c) in inner.char_indices() {
        match c {
            'n' if escaped => word.push('\n'),
            't' if escaped => word.push('\t'),
            '"' | '\\' if escaped => word.push(c),
            _ if escaped => word.extend(['\\', c]),
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => return Some((word, &inner[at + 1..])),
            _ => word.push(c),
        }
        escaped = false;
    }
    None
}

/// Formats a Go map (`map[80/tcp:{}]`) or list (`[/data /log]`) as words. The struct of an old `BuildKit` has no
/// readable value.
fn plain_list(text: &str) -> Option<String> {
    if text.starts_with("&{") {
        return Some(String::new());
    }
    if let Some(map) = text.strip_prefix("map[").and_then(|rest| rest.strip_suffix(']')) {
        let keys: Vec<&str> =
            map.split_whitespace().map(|key| key.strip_suffix(":{}").unwrap_or(key)).collect();
        return Some(keys.join(" "));
    }
    let list = text.strip_prefix('[')?.strip_suffix(']')?;
    let words = go_strings(list).unwrap_or_else(|| list.split_whitespace().map(str::to_owned).collect());
    Some(words.join(" "))
}

/// Formats the Go struct of a health check: its test, then durations as strings, then the number of retries as a
/// character or a number.
fn health_check(value: &str) -> Option<String> {
    let (list, rest) = split_list(value.strip_prefix("&{")?.strip_suffix('}')?)?;
    let words = go_strings(list)?;
    let (kind, words) = words.split_first()?;
    let (mut durations, mut rest) = (Vec::new(), rest.trim_start());
    while let Some((duration, after)) = go_string(rest) {
        durations.push(duration);
        rest = after.trim_start();
    }
    if kind == "NONE" {
        return Some("NONE".into());
    }
    let names: &[&str] = match durations.len() {
        4 => &["interval", "timeout", "start-period", "start-interval"],
        _ => &["interval", "timeout", "start-period"],
    };
    let given = names.iter().zip(&durations).filter(|(_, value)| !value.is_empty() && *value != "0s");
    let mut line: String = given.map(|(name, value)| format!("--{name}={value} ")).collect();
    if let Some(retries) = retries(rest).filter(|retries| *retries > 0) {
        line += &format!("--retries={retries} ");
    }
    let command = if kind == "CMD-SHELL" { words.join(" ") } else { serde_json::to_string(words).ok()? };
    Some(format!("{line}CMD {command}"))
}

/// Splits a Go list from the text after it. Brackets within strings do not count.
fn split_list(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('[')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return Some((&inner[..at], &inner[at + 1..])),
            _ => {}
        }
    }
    None
}

/// Parses a number that Go prints as a character: `'\x03'`, `'\n'` or `3`.
fn retries(text: &str) -> Option<u32> {
    let Some(character) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) else {
        return text.parse().ok();
    };
    if let Some(hex) = character.strip_prefix("\\x").or_else(|| character.strip_prefix("\\u")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    let special = [("\\a", 7), ("\\b", 8), ("\\t", 9), ("\\n", 10), ("\\v", 11), ("\\f", 12), ("\\r", 13)];
    let known = special.iter().find(|(text, _)| *text == character).map(|(_, number)| *number);
    known.or_else(|| character.chars().next().map(u32::from))
}

/// Formats the source of a copy of the classic builder, `file:HASH in /path`: the hash is shortened, since the name
/// is unknown.
fn copied(text: &str) -> Option<String> {
    let (source, target) = text.split_once(" in ")?;
    let (kind, hash) = source.split_once(':')?;
    let is_hash = hash.len() >= HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !matches!(kind, "file" | "dir" | "multi") || !is_hash {
        return None;
    }
    Some(format!("{kind}:{} {}", &hash[..HASH], target.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)]) {
        for (text, expected) in pairs {
            assert_eq!(dockerfile_step(text), *expected, "{text}");
        }
    }

    #[test]
    fn commands_lose_their_shell_and_build_arguments() {
        check(&[
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("RUN /bin/sh -c make # buildkit", "RUN make"),
            ("RUN |1 V=5 /bin/sh -c make # buildkit", "RUN make"),
            ("|1 V=5 /bin/sh -c make", "RUN make"),
            ("|2 A=two words B=x /bin/sh -c make A=$A", "RUN make A=$A"),
            ("RUN |0 /bin/sh -c make # buildkit", "RUN make"),
            ("RUN |1 V=5 /bin/bash -o pipefail -c curl x | sh # buildkit", "RUN curl x | sh"),
            ("RUN /bin/ash -eo pipefail -c apk add x # buildkit", "RUN apk add x"),
            ("RUN make install # buildkit", "RUN make install"),
            ("RUN |1 V=5 make install # buildkit", "RUN make install"),
            ("RUN /usr/bin/env python3 -c print(1) # buildkit", "RUN /usr/bin/env python3 -c print(1)"),
            ("cmd /S /C echo hello", "RUN echo hello"),
            ("powershell -Command $x = 1", "RUN $x = 1"),
            ("RUN /bin/sh -c echo 'a # buildkit b' # buildkit", "RUN echo 'a # buildkit b'"),
        ]);
    }

    #[test]
    fn instructions_of_the_classic_builder_have_no_mark() {
        check(&[
            ("/bin/sh -c #(nop)  CMD [\"bash\"]", "CMD [\"bash\"]"),
            ("/bin/sh -c #(nop)  ENV PATH=/usr/bin:/bin", "ENV PATH=/usr/bin:/bin"),
            ("/bin/sh -c #(nop) WORKDIR /app", "WORKDIR /app"),
            ("/bin/sh -c #(nop)  EXPOSE 80", "EXPOSE 80"),
            ("/bin/sh -c #(nop)  ARG V=5", "ARG V=5"),
            ("|1 V=5 /bin/sh -c #(nop) COPY app /bin/app", "COPY app /bin/app"),
            (
                "/bin/sh -c #(nop) ADD file:5d68d27cc15a80653c93d3a0b262a28112d47a46326ff5fc2dfbf7fa3b9a0ce8 in / ",
                "ADD file:5d68d27cc15a /",
            ),
            ("/bin/sh -c #(nop) COPY --from=x in /a", "COPY --from=x in /a"),
            ("/bin/sh -c echo '#(nop) CMD x'", "RUN echo '#(nop) CMD x'"),
        ]);
    }

    #[test]
    fn values_of_go_are_written_as_in_a_dockerfile() {
        check(&[
            ("EXPOSE map[443/tcp:{} 80/tcp:{}]", "EXPOSE 443/tcp 80/tcp"),
            ("EXPOSE [8080/tcp]", "EXPOSE 8080/tcp"),
            ("EXPOSE &{[{{1 0} {1 1}}] 0xc0001}", "EXPOSE"),
            ("VOLUME [/data /log]", "VOLUME /data /log"),
            ("VOLUME [\"/data\"]", "VOLUME /data"),
            ("CMD [\"nginx\" \"-g\" \"daemon off;\"]", "CMD [\"nginx\", \"-g\", \"daemon off;\"]"),
            ("CMD [\"/bin/sh\" \"-c\" \"exec \\\"$X\\\"\"]", "CMD exec \"$X\""),
            ("ENTRYPOINT [\"/run\", \"a\"]", "ENTRYPOINT [\"/run\", \"a\"]"),
            ("SHELL [/bin/bash -c]", "SHELL [\"/bin/bash\", \"-c\"]"),
            (
                "HEALTHCHECK &{[\"CMD-SHELL\" \"curl -f [::1]/ || exit 1\"] \"30s\" \"3s\" \"0s\" '\\x03'}",
                "HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD curl -f [::1]/ || exit 1",
            ),
            (
                "HEALTHCHECK &{[\"CMD\" \"/check\" \"a\"] \"30s\" \"\" \"5s\" \"1s\" '\\n'}",
                "HEALTHCHECK --interval=30s --start-period=5s --start-interval=1s --retries=10 CMD [\"/check\",\"a\"]",
            ),
            ("HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" '\\x00'}", "HEALTHCHECK NONE"),
            ("ONBUILD CMD [\"a\" \"b\"]", "ONBUILD CMD [\"a\", \"b\"]"),
        ]);
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        check(&[
            ("", ""),
            ("bazel build //app:image", "bazel build //app:image"),
            ("# debian.sh --arch 'arm64' out/ 'bookworm'", "# debian.sh --arch 'arm64' out/ 'bookworm'"),
            ("COPY app /bin/app # buildkit", "COPY app /bin/app"),
            ("LABEL a=b c=\"d e\"", "LABEL a=b c=\"d e\""),
            ("CMD [\"unfinished", "CMD [\"unfinished"),
            ("HEALTHCHECK &{[", "HEALTHCHECK &{["),
            ("|x /bin/sh -c make", "|x /bin/sh -c make"),
            ("|9", "RUN"),
        ]);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_grows(text in "(RUN |CMD |HEALTHCHECK &|/bin/sh -c )?[\\|\\[\\]\\{\\}\"\\\\'#()a-z0-9 ä-]{0,80}") {
            let step = dockerfile_step(&text);
            prop_assert!(step.len() <= 8 * text.len() + 80);
        }
    }
}
