//! Columns of parquet files by the names that users have for them: `a.b` for a field of a structure, `a[]` for the elements
//! of a list.

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::Type;

/// The names of all columns, in their order.
pub(super) fn names(schema: &Type) -> Vec<String> {
    let mut names = Vec::new();
    for field in schema.get_fields() {
        visit(field, "", &mut names);
    }
    names
}

/// Adds the columns inside a field, whose name follows `prefix`.
fn visit(field: &Type, prefix: &str, names: &mut Vec<String>) {
    let list = if repeats(field) { "[]" } else { "" };
    inside(field, &format!("{prefix}{}{list}", field.name()), names);
}

/// Adds the columns of a value that is called `name`.
fn inside(value: &Type, name: &str, names: &mut Vec<String>) {
    if !value.is_group() {
        names.push(name.to_owned());
        return;
    }
    match element(value) {
        Some(element) => inside(element, &format!("{name}[]"), names),
        None => {
            for field in value.get_fields() {
                visit(field, &format!("{name}."), names);
            }
        }
    }
}

/// The element of a list. Most writers put it into a repeated group of its own, and some older ones repeat it itself: the
/// format says how one tells.
fn element(value: &Type) -> Option<&Type> {
    let info = value.get_basic_info();
    let is_list = info.converted_type() == ConvertedType::LIST
        || matches!(info.logical_type_ref(), Some(LogicalType::List));
    let ([repeated], true) = (value.get_fields(), is_list) else { return None };
    if !repeats(repeated) {
        return None;
    }
    let is_element = !repeated.is_group()
        || repeated.get_fields().len() != 1
        || repeated.name() == "array"
        || repeated.name() == format!("{}_tuple", value.name());
    if is_element { Some(repeated) } else { repeated.get_fields().first().map(|field| &**field) }
}

/// The definition level from which on the innermost list of the column at this path has an element; 0 outside lists.
pub(super) fn list_level(schema: &Type, path: &[String]) -> i16 {
    let (mut level, mut element, mut value) = (0, 0, schema);
    for name in path {
        let fields = if value.is_group() { value.get_fields() } else { &[] };
        let Some(field) = fields.iter().find(|field| field.name() == name) else { break };
        let info = field.get_basic_info();
        if repeats(field) {
            level += 1;
            element = level;
        } else if info.has_repetition() && info.repetition() == Repetition::OPTIONAL {
            level += 1;
        }
        value = field;
    }
    element
}

fn repeats(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::schema::parser::parse_message_type;

    #[test]
    fn columns_have_the_names_of_fields_and_lists() {
        let schema = "message m {
            REQUIRED INT32 id;
            OPTIONAL group meta { OPTIONAL BYTE_ARRAY text (UTF8); }
            OPTIONAL group sentences (LIST) { REPEATED group list { OPTIONAL BYTE_ARRAY element (UTF8); } }
            OPTIONAL group messages (LIST) { REPEATED group list {
                OPTIONAL group element { OPTIONAL BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); } } }
            OPTIONAL group old (LIST) { REPEATED BYTE_ARRAY array (UTF8); }
            OPTIONAL group pairs (LIST) { REPEATED group array { OPTIONAL BYTE_ARRAY a; } }
            OPTIONAL group rows (LIST) { REPEATED group bag { OPTIONAL group array_element (LIST) {
                REPEATED group list { OPTIONAL INT64 item; } } } }
            REPEATED INT32 bare;
        }";
        let schema = parse_message_type(schema).unwrap();
        let expected = [
            "id",
            "meta.text",
            "sentences[]",
            "messages[].role",
            "messages[].content",
            "old[]",
            "pairs[].a",
            "rows[][]",
            "bare[]",
        ];
        assert_eq!(names(&schema), expected);
    }
}
