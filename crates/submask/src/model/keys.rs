//! Keys of files that nothing reads.

use serde_json::Value;

/// Refuses a key of `given` that is not in `known`, which is what was read from it.
///
/// Serde refuses unknown keys itself, but for those beside the tag of a variant that has no keys of its own, such as a
/// linear schedule.
///
/// # Errors
/// The name of the first such key.
pub(crate) fn refuse_unread(given: &Value, known: &Value) -> Result<(), String> {
    match first_unread(given, known) {
        Some(key) => Err(format!("unknown key `{key}`")),
        None => Ok(()),
    }
}

fn first_unread(given: &Value, known: &Value) -> Option<String> {
    given.as_object()?.iter().find_map(|(key, value)| match known.get(key) {
        Some(known) => first_unread(value, known).map(|below| format!("{key}.{below}")),
        // Null is how some programs write what is absent.
        None => (!value.is_null()).then(|| key.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_unread_key_is_named_with_its_sections() {
        let known = json!({ "schedule": { "kind": "linear" }, "sample": { "warp": [1, 0, 0] } });
        assert_eq!(refuse_unread(&known, &known), Ok(()));
        assert_eq!(refuse_unread(&json!({ "sample": { "corrector": null } }), &known), Ok(()));
        let given = json!({ "schedule": { "kind": "linear", "epsilon": 0.1 } });
        assert_eq!(refuse_unread(&given, &known), Err("unknown key `schedule.epsilon`".to_owned()));
        assert_eq!(refuse_unread(&json!({ "seed": 1 }), &known), Err("unknown key `seed`".to_owned()));
    }
}
