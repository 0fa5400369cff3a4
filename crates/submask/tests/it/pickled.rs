//! Writes files as `torch.save` does: values, and tensors in storages of their own.

use crate::stored_zip::StoredZip;

/// A value to be saved.
#[derive(Clone, Debug)]
pub enum Saved {
    Int(i64),
    Flag(bool),
    Text(String),
    List(Vec<Saved>),
    Dict(Vec<(String, Saved)>),
    /// Shape and 32-bit floats.
    Tensor(Vec<usize>, Vec<f32>),
}

/// A dict of these entries.
pub fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Saved)>) -> Saved {
    Saved::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The file of a value.
pub fn save(value: &Saved) -> Vec<u8> {
    let (mut pickle, mut storages) = (b"\x80\x02".to_vec(), Vec::new());
    write(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    let mut zip = StoredZip::default();
    zip.file("archive/data.pkl", &pickle);
    zip.file("archive/byteorder", b"little");
    for (key, bytes) in storages.iter().enumerate() {
        zip.file(&format!("archive/data/{key}"), bytes);
    }
    zip.finish()
}

fn write(value: &Saved, pickle: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    match value {
        Saved::Int(number) => int(*number, pickle),
        Saved::Flag(value) => pickle.push(if *value { 0x88 } else { 0x89 }),
        Saved::Text(value) => text(value, pickle),
        Saved::List(items) => {
            pickle.extend(b"](");
            items.iter().for_each(|item| write(item, pickle, storages));
            pickle.push(b'e');
        }
        Saved::Dict(entries) => {
            pickle.extend(b"}(");
            for (key, value) in entries {
                text(key, pickle);
                write(value, pickle, storages);
            }
            pickle.push(b'u');
        }
        Saved::Tensor(shape, values) => {
            let stride: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text("storage", pickle);
            pickle.extend(b"ctorch\nFloatStorage\n");
            text(&storages.len().to_string(), pickle);
            text("cpu", pickle);
            int(values.len() as i64, pickle);
            pickle.extend(b"tQ");
            int(0, pickle);
            for sizes in [shape, &stride] {
                pickle.push(b'(');
                sizes.iter().for_each(|size| int(*size as i64, pickle));
                pickle.push(b't');
            }
            pickle.extend(b"\x89}tR");
            storages.push(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
    }
}

fn text(text: &str, pickle: &mut Vec<u8>) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn int(number: i64, pickle: &mut Vec<u8>) {
    pickle.extend(b"\x8a\x08");
    pickle.extend(number.to_le_bytes());
}
