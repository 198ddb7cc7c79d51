//! The words in which the reasons of an import name the remedies of its front end.

/// The front end of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wording {
    /// The command line, with its options.
    #[default]
    CommandLine,
    /// The form of the admin page, with its fields.
    Form,
}

impl Wording {
    /// Returns the remedy for an image without a name.
    pub(super) fn name_it(self) -> &'static str {
        match self {
            Wording::CommandLine => "name it with --as REPOSITORY:TAG",
            Wording::Form => "give it a name in the form",
        }
    }

    /// Returns the reason why one name cannot be that of several images.
    pub(super) fn one_name_for(self, images: usize) -> String {
        match self {
            Wording::CommandLine => format!(
                "--as names one image, but there are {images}; choose one with --only, or use --prefix"
            ),
            Wording::Form => {
                format!(
                    "a name is for one image, but there are {images}; leave the name empty, or use a folder"
                )
            }
        }
    }

    /// Returns the reason why images with the same name are refused.
    pub(super) fn same_name(self) -> &'static str {
        match self {
            Wording::CommandLine => {
                "several images have this name; choose one with --only, or rename them with --as"
            }
            Wording::Form => "several images have this name; neither is imported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_names_no_options_of_the_command_line() {
        let form = Wording::Form;
        for text in [form.name_it(), &form.one_name_for(2), form.same_name()] {
            assert!(!text.contains("--"), "{text}");
        }
    }
}
