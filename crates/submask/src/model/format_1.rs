//! Version 1 of `config.json` and of `settings.toml`, in which text and images had sections of different keys and every
//! network the keys of all: read for ever, never written.

use serde_json::{Map, Value, json};
use toml::Table;

/// The version that this file reads.
pub const VERSION: u32 = 1;

/// Keys of `model` by network, without those that every network had.
const OWN_KEYS: [(&str, &[&str]); 5] = [
    (
        "diffusion",
        &["hidden", "heads", "blocks", "cond_dim", "seq_len", "dropout", "embedding", "time_conditioning"],
    ),
    (
        "encoder",
        &["hidden", "heads", "query_groups", "blocks", "intermediate", "seq_len", "dropout", "embedding"],
    ),
    ("autoregressive", &["hidden", "heads", "blocks", "seq_len", "dropout"]),
    (
        "unet",
        &[
            "class_conditional",
            "model_channels",
            "channel_mult",
            "res_blocks",
            "attention_resolutions",
            "head_channels",
            "dropout",
        ],
    ),
    ("toy", &["hidden", "dropout"]),
];

/// Keys of `model` that some networks did not read, and that version 1 wrote all the same.
const UNREAD: [&str; 5] = ["cond_dim", "embedding", "time_conditioning", "query_groups", "intermediate"];

/// What version 1 had in one section `model`.
struct Parts {
    model: Value,
    codes: Value,
    super_tokens: Option<Value>,
}

/// The network's own keys, the codes, and what belongs to images.
fn parts(mut model: Map<String, Value>) -> Result<Parts, String> {
    let network = model.get("network").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some((_, own)) = OWN_KEYS.iter().find(|(name, _)| *name == network) else {
        return Err(format!("model.network is {network:?}, which is no network"));
    };
    let mut take = |key: &str| model.remove(key);
    let assignment = match take("codes").as_ref().and_then(Value::as_str) {
        None | Some("plain") => json!({ "kind": "plain" }),
        Some("shuffled") => json!({ "kind": "shuffled", "seed": take("codes_seed").unwrap_or(json!(0)) }),
        Some("table") => json!({ "kind": "table", "path": take("codes_path").unwrap_or(json!("")) }),
        Some(other) => return Err(format!("model.codes is {other:?}, not plain, shuffled or table")),
    };
    let mut codes = json!({ "assignment": assignment });
    for key in ["subtokens", "carry_over"] {
        codes[key] = take(key).ok_or_else(|| format!("missing field `{key}` in model"))?;
    }
    take("codes_seed");
    take("codes_path");
    let super_tokens = take("super_tokens");
    if network == "encoder" {
        for key in ["query_groups", "intermediate"] {
            model.entry(key).or_insert(json!(0));
        }
    }
    model.retain(|key, _| !UNREAD.contains(&key.as_str()) || own.contains(&key.as_str()));
    Ok(Parts { model: Value::Object(model), codes, super_tokens })
}

/// The schedule with its own keys only.
fn schedule(mut schedule: Value) -> Value {
    if let Some(keys) = schedule.as_object_mut() {
        let kind = keys.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        keys.retain(|key, _| match key.as_str() {
            "epsilon" => kind == "log-linear",
            "exponent" => kind == "polynomial",
            _ => true,
        });
    }
    schedule
}

fn object(value: Option<Value>, section: &str) -> Result<Map<String, Value>, String> {
    match value {
        Some(Value::Object(map)) => Ok(map),
        _ => Err(format!("missing section `{section}`")),
    }
}

/// `config.json` of the present version from one of version 1.
///
/// # Errors
/// What is missing or unknown.
pub fn config(json: Value) -> Result<Value, String> {
    let mut old = object(Some(json), "config")?;
    let Parts { model, codes, super_tokens } = parts(object(old.remove("model"), "model")?)?;
    let mut subject = match old.remove("subject") {
        Some(subject) => subject,
        None => json!({
            "kind": "text",
            "vocab_size": old.remove("vocab_size").ok_or("missing field `vocab_size`")?,
            "tokenizer": old.remove("tokenizer").ok_or("missing field `tokenizer`")?,
        }),
    };
    if let Some(super_tokens) = super_tokens {
        subject["super_tokens"] = super_tokens;
    }
    old.insert("format_version".to_owned(), json!(super::FORMAT_VERSION));
    old.insert("subject".to_owned(), subject);
    old.insert("model".to_owned(), model);
    old.insert("codes".to_owned(), codes);
    let old_schedule = old.remove("schedule").ok_or("missing field `schedule`")?;
    old.insert("schedule".to_owned(), schedule(old_schedule));
    Ok(Value::Object(old))
}

/// Whether these are the settings of a run of version 1.
pub fn is_of_settings(settings: &Table) -> bool {
    settings.get("model").is_some_and(|model| model.get("subtokens").is_some())
        && !settings.contains_key("codes")
}

/// `settings.toml` of the present version from a whole one of version 1.
///
/// # Errors
/// What is missing or unknown.
pub fn settings(settings: Table) -> Result<Table, String> {
    let json = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    let mut old = object(Some(json), "settings")?;
    let Parts { model, codes, super_tokens } = parts(object(old.remove("model"), "model")?)?;
    let mut data = object(old.remove("data"), "data")?;
    data.entry("kind").or_insert(json!("text"));
    if let Some(super_tokens) = super_tokens {
        data.insert("super_tokens".to_owned(), super_tokens);
    }
    old.insert("data".to_owned(), Value::Object(data));
    old.insert("model".to_owned(), model);
    old.insert("codes".to_owned(), codes);
    let old_schedule = old.remove("schedule").ok_or("missing field `schedule`")?;
    old.insert("schedule".to_owned(), schedule(old_schedule));
    Table::try_from(Value::Object(old)).map_err(|error| error.to_string())
}
