//! Layers of keys over a complete table, checked key by key.

use std::collections::BTreeMap;
use std::path::Path;

use submask::train::settings::RunSettings;
use toml::{Table, Value};

use super::keys;
use super::layer::{Layer, Origin};
use super::preset::Preset;
use super::{renamed, tokenizer, variants};
use crate::failure::Failure;
use crate::notes;
use crate::subject::Kind;

/// The key whose value has two types.
const TEMPERATURE: &str = "sample.temperature";

/// Puts the layers over `base`, which names every key, and validates the result. Keys of earlier versions, and keys that the
/// chosen network, schedule or codes do not have, are [noted](notes::say).
pub fn merge(base: &Table, layers: &[Layer]) -> Result<RunSettings, Failure> {
    let (mut layers, upgraded): (Vec<Layer>, Vec<Vec<String>>) = layers.iter().map(renamed::upgrade).unzip();
    upgraded.concat().into_iter().chain(tokenizer::settle(base, &mut layers)?).for_each(note);
    let base = &variants::choose(base, &layers);
    let mut merged = base.clone();
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for layer in &layers {
        for (key, value) in checked(base, layer)? {
            if let (Some(before), Some(old)) = (origins.get(&key), keys::get(&merged, &key)) {
                contradiction(&key, (before, old), (&layer.origin, &value))?;
            }
            keys::put(&mut merged, &key, value);
            origins.insert(key, layer.origin.clone());
        }
    }
    let settings = deserialize(merged).map_err(Failure::usage)?;
    settings.validate().map_err(|error| with_origin(error, &origins))?;
    Ok(settings)
}

fn note(line: String) {
    notes::say("note: ", line);
}

/// Reads and validates a settings file by itself, over the first preset of its subject.
pub fn check_file(path: &Path) -> Result<RunSettings, Failure> {
    let layer = Layer::read(path)?;
    let kind = Kind::in_settings(&layer.table).unwrap_or_default();
    merge(&Preset::first_of(kind).table()?, &[layer])
}

/// Reads and validates the settings of a run.
pub fn check_run(run: &Path) -> Result<RunSettings, Failure> {
    let layer = Layer::of_run(run)?;
    let kind = Kind::in_settings(&layer.table).unwrap_or_default();
    merge(&Preset::first_of(kind).table()?, &[layer])
}

/// The keys of a layer with values of the type that `base` has.
fn checked(base: &Table, layer: &Layer) -> Result<Vec<(String, Value)>, Failure> {
    let mut given = Vec::new();
    keys::visit(&layer.table, "", &mut |key, value| given.push((key.to_owned(), value.clone())));
    given
        .into_iter()
        .filter(|(key, _)| {
            let unread = keys::get(base, key).is_none().then(|| variants::other_choice(key)).flatten();
            if let Some((choice, value)) = unread {
                note(format!("`{key}` {} is ignored: it is of {choice} = {value}", layer.origin));
            }
            unread.is_none()
        })
        .map(|(key, value)| {
            let expected =
                keys::get(base, &key).ok_or_else(|| unknown((&key, &value), base, &layer.origin))?;
            let value = of_type(&key, value, expected, &layer.origin)?;
            // A choice that there is needs no trial: the sections of `base` are those of the last one.
            let is_choice = value.as_str().is_some_and(|name| RunSettings::choices(&key).contains(&name));
            if !is_choice {
                try_alone(base, &key, &value).map_err(|problem| {
                    let given = format!("`{key}` = {value} {}", layer.origin);
                    Failure::usage(format!("{given}: {problem}")).about(&key, &value, problem)
                })?;
            }
            Ok((key, value))
        })
        .collect()
}

fn unknown((key, value): (&str, &Value), base: &Table, origin: &Origin) -> Failure {
    let suggestions: Vec<String> =
        keys::suggestions(key, base).into_iter().map(|key| format!("`{key}`")).collect();
    let meant = suggestions.join(" or ");
    Failure::usage(format!("unknown key `{key}` {origin}")).hint(format!("did you mean {meant}?")).about(
        key,
        value,
        format!("a key of settings, such as {meant}"),
    )
}

/// Whole numbers may stand for numbers, and numbers such as 1e6 for whole numbers.
fn of_type(key: &str, value: Value, expected: &Value, origin: &Origin) -> Result<Value, Failure> {
    const EXACT: f64 = (1u64 << 53) as f64;
    match (value, expected) {
        (Value::Integer(whole), Value::Float(_)) => Ok(Value::Float(whole as f64)),
        (Value::Float(number), Value::Integer(_)) if number.fract() == 0.0 && number.abs() <= EXACT => {
            Ok(Value::Integer(number as i64))
        }
        // The temperature is a number, or the three of a function of the time.
        (value @ Value::Array(_), Value::Float(_)) | (value @ Value::Float(_), Value::Array(_))
            if key == TEMPERATURE =>
        {
            Ok(value)
        }
        (Value::Integer(whole), Value::Array(_)) if key == TEMPERATURE => Ok(Value::Float(whole as f64)),
        (value, Value::Table(_)) => {
            let message = format!("`{key}` = {value} {origin}: this is a section, not a key");
            let allowed = format!("no value: name a key of it, as in {key}.KEY");
            let failure = Failure::usage(message).hint(format!("name a key of it, as in {key}.KEY"));
            Err(failure.about(key, value, allowed))
        }
        (value, expected) if value.same_type(expected) => Ok(value),
        (value, expected) => Err(Failure::usage(format!(
            "`{key}` = {value} {origin} is {}, not {}",
            type_name(&value),
            type_name(expected)
        ))
        .hint(format!("write it like {key} = {expected}"))
        .about(key, &value, type_name(expected))),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

/// Whether the key by itself can be read.
fn try_alone(base: &Table, key: &str, value: &Value) -> Result<(), String> {
    let mut table = base.clone();
    keys::put(&mut table, key, value.clone());
    deserialize(table).map(|_| ())
}

/// The settings, or the first line of what is wrong with them, without names of Rust's types.
fn deserialize(table: Table) -> Result<RunSettings, String> {
    RunSettings::from_table(table).map_err(|error| {
        let problem = error.message();
        match problem.contains("expected u") {
            true => "a whole number of at least 0 is expected".to_owned(),
            false => problem.to_owned(),
        }
    })
}

/// Two flags may not give one key different values; a flag may change what a file says.
fn contradiction(key: &str, before: (&Origin, &Value), now: (&Origin, &Value)) -> Result<(), Failure> {
    let (Origin::Flag(first), Origin::Flag(second)) = (before.0, now.0) else { return Ok(()) };
    if before.1 == now.1 {
        return Ok(());
    }
    let message = format!("`{first}` and `{second}` give {key} two values: {} and {}", before.1, now.1);
    Err(Failure::usage(message).hint("leave out one of them").about(key, now.1, "one value"))
}

fn with_origin(error: submask::Error, origins: &BTreeMap<String, Origin>) -> Failure {
    let origin = match &error {
        submask::Error::Invalid { field, .. } => {
            origins.get(field).map(|origin| format!("{field} stands {origin}"))
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match origin {
        Some(origin) => failure.hint(origin),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use submask::model::{Assignment, NetworkConfig};
    use submask::schedule::Schedule;

    use super::*;

    fn base() -> Table {
        Preset::first_of(Kind::Text).table().unwrap()
    }

    fn file(text: &str) -> Layer {
        Layer { origin: Origin::File("my.toml".into()), table: text.parse().unwrap() }
    }

    fn flag(text: &str) -> Layer {
        super::super::assignment::parse(text, &base()).unwrap()
    }

    fn error(layers: &[Layer]) -> String {
        merge(&base(), layers).unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win_and_the_rest_stays() {
        let layers = [file("[train]\nsteps = 7\nseed = 3"), flag("train.steps=9"), flag("model.dropout=0")];
        let settings = merge(&base(), &layers).unwrap();
        let NetworkConfig::Diffusion(sizes) = &settings.network else { panic!("not of text") };
        assert_eq!((settings.train.steps, settings.train.seed, sizes.hidden), (9, 3, 192));
    }

    #[test]
    fn numbers_may_be_written_either_way() {
        let settings = merge(&base(), &[flag("train.steps=1e6"), flag("train.clip=2")]).unwrap();
        assert_eq!((settings.train.steps, settings.train.clip), (1_000_000, 2.0));
        assert!(error(&[flag("train.steps=1.5")]).contains("is a number, not a whole number"));
    }

    #[test]
    fn unknown_keys_name_the_nearest_and_where_they_stood() {
        let text = error(&[file("[train]\nstepz = 7")]);
        assert_eq!(text, "error: unknown key `train.stepz` in my.toml\nhint: did you mean `train.steps`?\n");
        assert!(error(&[flag("steps=7")]).contains("did you mean `sample.steps` or `train.steps`?"));
        assert!(error(&[flag("train.steps.more=7")]).contains("unknown key `train.steps.more`"));
    }

    #[test]
    fn wrong_types_name_key_value_and_what_is_expected() {
        let text = error(&[file("[train]\nsteps = 'many'")]);
        assert!(
            text.starts_with("error: `train.steps` = \"many\" in my.toml is text, not a whole number\n"),
            "{text}"
        );
        let text = error(&[flag("train.steps=-1")]);
        assert!(text.ends_with("--set train.steps=-1: a whole number of at least 0 is expected\n"), "{text}");
        let text = error(&[flag("train.objective=best")]);
        assert!(
            text.contains("unknown variant `best`, expected one of `joint`, `marginal`, `cross-entropy`"),
            "{text}"
        );
        assert!(error(&[flag("train=7")]).contains("this is a section"));
        assert!(error(&[flag("data.paths=[1]")]).contains("data.paths"));
    }

    #[test]
    fn flags_that_disagree_are_errors() {
        let text = error(&[flag("train.steps=1"), flag("train.steps=2")]);
        assert!(text.contains("give train.steps two values: 1 and 2"), "{text}");
        assert!(merge(&base(), &[flag("train.steps=2"), flag("train.steps=2")]).is_ok());
    }

    #[test]
    fn values_that_the_library_refuses_say_where_they_stood() {
        let text = error(&[file("[train]\nclip = 0.0")]);
        assert_eq!(
            text,
            "error: train.clip = 0 is not allowed: a number above 0\nhint: train.clip stands in my.toml\n"
        );
    }

    #[test]
    fn a_choice_brings_the_keys_of_its_own_and_keeps_those_that_both_have() {
        let chosen = ["model.network=encoder", "model.embedding=per-digit-summed", "model.query_groups=2"];
        let settings = merge(&base(), &chosen.map(flag)).unwrap();
        let NetworkConfig::Encoder(sizes) = &settings.network else { panic!("no encoder") };
        assert_eq!((sizes.hidden, sizes.query_groups, sizes.intermediate), (192, 2, 0));
        let settings = merge(&base(), &[flag("schedule.kind=log-linear")]).unwrap();
        assert_eq!(settings.schedule, Schedule::LogLinear { epsilon: 1e-3 });
        assert!(error(&[flag("schedule.kind=square")]).contains("unknown variant `square`"));
    }

    #[test]
    fn keys_of_earlier_versions_and_keys_that_are_not_read_still_work() {
        let old = ["model.subtokens=4", "model.codes=shuffled", "model.codes_seed=5", "schedule.epsilon=0.1"];
        let settings = merge(&base(), &old.map(flag)).unwrap();
        assert_eq!(settings.codes.subtokens, 4);
        assert_eq!(settings.codes.assignment, Assignment::Shuffled { seed: 5 });
        assert_eq!(settings.schedule, Schedule::Linear);
        let file =
            file("[model]\nsubtokens = 3\n[schedule]\nkind = 'polynomial'\nepsilon = 0.1\nexponent = 2.0");
        let settings = merge(&base(), &[file]).unwrap();
        assert_eq!(
            (settings.codes.subtokens, settings.schedule),
            (3, Schedule::Polynomial { exponent: 2.0 })
        );
    }
}
