//! The escaper of the templates: HTML in which text of clients neither becomes markup nor hides or reorders the text
//! around it. Every value of a template passes through it.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};

use crate::base::human::is_deceptive;

/// Escapes HTML, and replaces characters without a shape by U+FFFD.
#[derive(Clone, Copy)]
pub(super) struct VisibleHtml;

impl Escaper for VisibleHtml {
    fn write_escaped_str<W: Write>(&self, mut dest: W, string: &str) -> fmt::Result {
        let mut parts = string.split(is_hidden);
        Html.write_escaped_str(&mut dest, parts.next().unwrap_or_default())?;
        for part in parts {
            dest.write_char(char::REPLACEMENT_CHARACTER)?;
            Html.write_escaped_str(&mut dest, part)?;
        }
        Ok(())
    }
}

/// Returns true for a character that pages do not show; line breaks and tabs are white space.
pub(super) fn is_hidden(c: char) -> bool {
    !matches!(c, '\n' | '\r' | '\t') && is_deceptive(c)
}

#[cfg(test)]
mod tests {
    use askama::Template;
    use askama::filters::Safe;

    #[derive(Template)]
    #[template(source = "<p title=\"{{ text }}\">{{ text }}{{ letter }}{{ icon }}", ext = "html")]
    struct Page {
        text: &'static str,
        letter: char,
        icon: Safe<&'static str>,
    }

    #[test]
    fn values_are_neither_markup_nor_hidden() {
        let page = Page { text: "<b>\u{202e}\"\u{0}\u{200b}ä\n", letter: '\u{2066}', icon: Safe("<svg>") }
            .render()
            .unwrap();
        let text = "&#60;b&#62;\u{fffd}&#34;\u{fffd}\u{fffd}ä\n";
        assert_eq!(page, format!("<p title=\"{text}\">{text}\u{fffd}<svg>"));
    }
}
