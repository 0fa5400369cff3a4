use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

fn facts() -> Value {
    json!({ "seed": 3, "temperature": 0.1, "model": "runs/a" })
}

/// Part i of n, whose records are the numbers of its items.
fn part(folder: &Path, shard: &str, items: u64, facts: Value) -> PathBuf {
    let path = folder.join(format!("{}.part", shard.replace('/', "-of-")));
    let shard: Shard = shard.parse().unwrap();
    write(&path, |records| {
        shard.range(items as usize).try_for_each(|item| records.push(&record(item as u64)))?;
        Description::new("eval", shard, items, "sequences", &facts)
    })
    .unwrap();
    path
}

fn record(item: u64) -> Vec<u8> {
    let nats = f64::from_bits(0x7ff8_0000_0000_0001 + item);
    Bytes::default().u64(item).f64(nats).tokens(&[7; 3]).floats(&[-0.0]).string("é".as_bytes()).into_vec()
}

fn read(fields: &mut Fields) -> Result<u64> {
    let item = fields.u64()?;
    assert_eq!(fields.f64()?.to_bits(), 0x7ff8_0000_0000_0001 + item, "bits that are not a number");
    assert_eq!(fields.tokens()?, [7; 3]);
    assert_eq!(fields.floats()?[0].to_bits(), (-0.0_f32).to_bits());
    assert_eq!(fields.text()?, "é");
    Ok(item)
}

fn parts(folder: &Path, shards: &[&str], items: u64) -> Vec<PathBuf> {
    shards.iter().map(|shard| part(folder, shard, items, facts())).collect()
}

fn refused(paths: &[PathBuf]) -> String {
    PartSet::open(paths).unwrap_err().to_string()
}

#[test]
fn parts_in_any_order_are_read_in_the_order_of_items() {
    for items in [1, 2, 10] {
        let folder = tempfile::tempdir().unwrap();
        let paths = parts(folder.path(), &["2/3", "0/3", "1/3"], items);
        let set = PartSet::open(&paths).unwrap();
        assert_eq!((set.verb(), set.items()), ("eval", items));
        assert_eq!(set.read(read).unwrap(), (0..items).collect::<Vec<_>>());
        assert_eq!(set.facts::<Value>().unwrap(), facts());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing stays beside the parts");
    }
}

#[test]
fn a_missing_or_doubled_part_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = parts(folder.path(), &["0/3", "1/3", "2/3"], 10);
    let error = refused(&paths[..2]);
    assert!(error.contains("2 of 3") && error.contains("2/3 is missing"), "{error}");
    let error = refused(&paths[2..]);
    assert!(error.contains("0/3, 1/3 are missing"), "{error}");
    let copy = folder.path().join("copy.part");
    fs::copy(&paths[1], &copy).unwrap();
    let error = refused(&[&paths[..], &[copy]].concat());
    assert!(error.contains("copy.part") && error.contains("part 1/3 is there twice"), "{error}");
    assert!(refused(&[]).contains("at least one"));
    let many = parts(folder.path(), &["99/100"], 10);
    assert!(refused(&many).contains("6/100, 7/100, … are missing"), "{}", refused(&many));
}

#[test]
fn a_part_of_other_work_is_named_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let first = part(folder.path(), "0/2", 10, facts());
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let with = |key: &str, value: Value| {
        let mut facts = facts();
        facts[key] = value;
        facts
    };
    let next = json!(0.1_f64.next_up());
    for (shard, items, facts, expected) in [
        ("1/2", 10, with("seed", json!(4)), "its seed is 4, and there 3"),
        ("1/2", 10, with("temperature", next), "its temperature is 0.10000000000000002, and there 0.1"),
        ("1/2", 10, with("draws", json!(1)), "its draws is 1, and there null"),
        ("1/2", 10, with("sampling", json!({ "top_k": 2 })), "its sampling is {\"top_k\":2}, and there null"),
        ("1/2", 11, facts(), "its number of items is 11, and there 10"),
        ("1/3", 10, facts(), "its number of parts is 3, and there 2"),
    ] {
        let second = part(&other, shard, items, facts);
        let error = refused(&[first.clone(), second.clone()]);
        assert!(error.contains(&second.display().to_string()) && error.contains(expected), "{error}");
    }
    let fewer = part(&other, "1/2", 10, json!({ "seed": 3, "temperature": 0.1 }));
    assert!(refused(&[first, fewer]).contains("its model is null, and there \"runs/a\""));
}

#[test]
fn a_truncated_or_altered_part_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = part(folder.path(), "0/1", 3, facts());
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = refused(std::slice::from_ref(&path));
        let expected = if len < 8 { "no part" } else { "truncated" };
        assert!(error.contains("0-of-1.part") && error.contains(expected), "{len}: {error}");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let error = PartSet::open([&path]).and_then(|set| set.read(read)).unwrap_err().to_string();
        assert!(error.contains("0-of-1.part"), "{bit}: {error}");
    }
    let mut newer = whole.clone();
    newer[8] = 9;
    fs::write(&path, newer).unwrap();
    assert!(refused(std::slice::from_ref(&path)).contains("part format version 9; this program reads 1"));
}

#[test]
fn records_that_are_not_what_they_should_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    let with = |records: &[Vec<u8>]| {
        write(&path, |own| {
            records.iter().try_for_each(|record| own.push(record))?;
            Description::new("eval", Shard::WHOLE, 1, "sequences", &facts())
        })
        .unwrap();
        let set = PartSet::open([&path]).map_err(|error| error.to_string())?;
        set.check_records(0).and_then(|()| set.read(read)).map_err(|error| error.to_string())
    };
    assert_eq!(with(&[record(0)]), Ok(vec![0]));
    assert!(with(&[]).unwrap_err().contains("0 records of 1 sequences"));
    assert!(with(&[record(0), record(1)]).unwrap_err().contains("2 records of 1 sequences"));
    assert!(with(&[[record(0), vec![1]].concat()]).unwrap_err().contains("1 bytes too long"));
    for len in 0..record(0).len() {
        assert!(with(&[record(0)[..len].to_vec()]).unwrap_err().contains("too short"));
    }
}

#[test]
fn work_that_fails_leaves_no_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.part");
    let failed = write(&path, |records| {
        records.push(&[1; 100])?;
        Err(Error::Interrupted)
    });
    assert!(matches!(failed, Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = write(Path::new("no/such/a.part"), |_| Err(Error::Interrupted)).unwrap_err().to_string();
    assert!(error.contains("no/such/a.part"), "{error}");
}
