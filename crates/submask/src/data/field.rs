//! Where in a record its text is: `text`, `meta.text`, `sentences[]`, `messages[].content`.

/// One step from a value to those inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The field of this name.
    Field(String),
    /// Each element of a list.
    Each,
}

/// The steps of a name with dots between fields and `[]` behind lists.
pub(super) fn steps(name: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in name.split('.') {
        let field = part.trim_end_matches("[]");
        steps.push(Step::Field(field.to_owned()));
        steps.extend(std::iter::repeat_n(Step::Each, (part.len() - field.len()) / 2));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_steps() {
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(steps("text"), [field("text")]);
        assert_eq!(steps("meta.text"), [field("meta"), field("text")]);
        assert_eq!(steps("messages[].content"), [field("messages"), Step::Each, field("content")]);
        assert_eq!(steps("rows[][]"), [field("rows"), Step::Each, Step::Each]);
    }
}
