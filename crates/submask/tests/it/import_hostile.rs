//! The reader of PyTorch checkpoints on files that lie: an error that names the file, little memory, no panic.

use std::path::Path;

use submask::import::torch::{TensorRef, TorchFile, TorchType};
use submask::pickle::Value;
use submask::{Error, Result};

use crate::counting::peak;
use crate::fixtures::cases;
use crate::import_reader::checkpoints;
use crate::stored_zip::StoredZip;

const NAME: &str = "hostile.pt";

/// A checkpoint of this pickle (its protocol and its STOP are added) and these storages.
fn checkpoint(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", &[b"\x80\x02", pickle, b"."].concat());
    zip.file("c/byteorder", b"little");
    for (key, bytes) in storages {
        zip.file(&format!("c/data/{key}"), bytes);
    }
    zip.finish()
}

/// Opens it; asserts that memory stays below twice the file and 64 KiB, and that an error names the file.
fn open(bytes: Vec<u8>) -> Result<TorchFile> {
    let size = bytes.len();
    let (file, peak) = peak(|| TorchFile::from_bytes(Path::new(NAME), bytes));
    assert!(peak <= 2 * size + (64 << 10), "{peak} bytes for a file of {size}");
    if let Err(error) = &file {
        assert!(matches!(error, Error::Format { .. }) && error.to_string().contains(NAME), "{error}");
    }
    file
}

/// The message for a checkpoint that has this pickle.
fn message(pickle: &[u8]) -> String {
    open(checkpoint(pickle, &[])).unwrap_err().to_string()
}

#[track_caller]
fn assert_says(message: &str, wanted: &str) {
    assert!(message.contains(wanted), "{message}");
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(number: usize) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

fn tuple(numbers: &[usize]) -> Vec<u8> {
    [b"(".to_vec(), numbers.iter().flat_map(|number| int(*number)).collect(), b"t".to_vec()].concat()
}

/// A tensor in storage `data/0` of `len` elements.
fn tensor(class: &str, len: usize, offset: usize, shape: &[usize], stride: &[usize]) -> Vec<u8> {
    let storage = [b"(", &text("storage")[..], b"ctorch\n", class.as_bytes(), b"\n", &text("0")];
    let storage = [storage.concat(), text("cpu"), int(len), b"tQ".to_vec()].concat();
    let begin = b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    [begin, storage, int(offset), tuple(shape), tuple(stride), b"\x89)tR".to_vec()].concat()
}

/// A file that is this tensor, and the tensor.
fn with_tensor(pickle: &[u8], storage: &[u8]) -> (TorchFile, Result<TensorRef>) {
    let file = open(checkpoint(pickle, &[("0", storage)])).unwrap();
    let tensor = file.tensor(file.root()).unwrap();
    (file, tensor)
}

#[test]
fn tensors_of_every_type_are_read() {
    let floats = |class: &str, bytes: &[u8]| {
        let (file, found) = with_tensor(&tensor(class, 2, 0, &[2], &[1]), bytes);
        file.read_f32(&found.unwrap()).unwrap()
    };
    let bytes = |numbers: [f32; 2]| numbers.map(f32::to_le_bytes).concat();
    assert_eq!(floats("FloatStorage", &bytes([1.5, -3e-40])), [1.5, -3e-40]);
    assert_eq!(floats("DoubleStorage", &[1.1f64, -2.0].map(f64::to_le_bytes).concat()), [1.1, -2.0]);
    assert_eq!(
        floats("HalfStorage", &[0x3e00u16, 0x0001].map(u16::to_le_bytes).concat()),
        [1.5, 5.960_464_5e-8]
    );
    assert_eq!(floats("BFloat16Storage", &[0x3fc0u16, 0xc000].map(u16::to_le_bytes).concat()), [1.5, -2.0]);
    let integers = |class: &str, bytes: &[u8]| {
        let (file, found) = with_tensor(&tensor(class, 2, 0, &[2], &[1]), bytes);
        let tensor = found.unwrap();
        assert_says(&file.read_f32(&tensor).unwrap_err().to_string(), "not floats");
        file.read_i64(&tensor).unwrap()
    };
    assert_eq!(integers("LongStorage", &[7i64, -8].map(i64::to_le_bytes).concat()), [7, -8]);
    assert_eq!(integers("IntStorage", &[7i32, -8].map(i32::to_le_bytes).concat()), [7, -8]);
    assert_eq!(integers("ShortStorage", &[7i16, -8].map(i16::to_le_bytes).concat()), [7, -8]);
    assert_eq!(integers("CharStorage", &[7, 0xf8]), [7, -8]);
    assert_eq!(integers("ByteStorage", &[7, 0xf8]), [7, 248]);
    assert_eq!(integers("BoolStorage", &[0, 3]), [0, 1]);
}

#[test]
fn strides_and_offsets_are_followed() {
    let storage: Vec<u8> = (0..12u8).collect();
    let read = |offset, shape: &[usize], stride: &[usize]| {
        let (file, found) = with_tensor(&tensor("ByteStorage", 12, offset, shape, stride), &storage);
        file.read_i64(&found.unwrap()).unwrap()
    };
    assert_eq!(read(0, &[3, 4], &[4, 1]), (0..12).collect::<Vec<_>>());
    assert_eq!(read(0, &[4, 3], &[1, 4]), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    assert_eq!(read(5, &[2, 1, 2], &[4, usize::MAX >> 1, 2]), [5, 7, 9, 11]);
    assert_eq!(read(11, &[], &[]), [11]);
    assert_eq!(read(3, &[0, 5], &[5, 1]), [0; 0]);
    assert_eq!(read(0, &[2, 3], &[0, 1]), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn tensors_outside_their_storage_are_refused() {
    let refused = |offset, shape: &[usize], stride: &[usize], wanted: &str| {
        let (_, found) = with_tensor(&tensor("FloatStorage", 6, offset, shape, stride), &[0; 24]);
        let message = found.unwrap_err().to_string();
        assert_says(&message, NAME);
        assert_says(&message, wanted);
    };
    let large = usize::MAX >> 1;
    refused(0, &[7], &[1], "leave its 6 elements");
    refused(1, &[2, 3], &[3, 1], "leave its 6 elements");
    refused(7, &[0], &[1], "leave its 6 elements");
    refused(large, &[2], &[large], "leave its 6 elements");
    refused(0, &[large, large], &[0, 0], "leave its 6 elements");
    refused(0, &[1 << 40], &[0], "repeats the 6 elements");
    refused(0, &[2, 3], &[1], "2 dimensions, but 1 strides");
    refused(usize::MAX, &[2], &[1], "offset is not a whole number");
    refused(0, &[usize::MAX], &[1], "shape is not");
    refused(0, &[1; 65], &[1; 65], "shape is not");
    let (_, found) = with_tensor(&tensor("FloatStorage", 5, 0, &[2], &[1]), &[0; 24]);
    assert_says(&found.unwrap_err().to_string(), "has 24 bytes, not 5 elements");
    let (_, found) = with_tensor(&tensor("FloatStorage", 1 << 62, 0, &[2], &[1]), &[0; 24]);
    assert_says(&found.unwrap_err().to_string(), "has 24 bytes, not");
    let (_, found) = with_tensor(&tensor("QInt8Storage", 1, 0, &[1], &[1]), &[0; 1]);
    assert_says(&found.unwrap_err().to_string(), "a torch.QInt8Storage, which is not read");
    let file = open(checkpoint(&tensor("FloatStorage", 0, 0, &[0], &[1]), &[])).unwrap();
    assert_says(&file.tensor(file.root()).unwrap().unwrap_err().to_string(), "is missing");
    let (_, found) = with_tensor(b"ctorch._utils\n_rebuild_sparse_tensor\n)R", &[]);
    assert_says(&found.unwrap_err().to_string(), "made by torch._utils._rebuild_sparse_tensor is not read");
    let (_, found) = with_tensor(b"ctorch._utils\n_rebuild_parameter\n)\x85R", &[]);
    assert_says(&found.unwrap_err().to_string(), "wraps is no tensor");
}

#[test]
fn a_message_says_which_tensor_is_at_fault() {
    let dict =
        [b"}".to_vec(), text("blocks.0.weight"), tensor("FloatStorage", 2, 0, &[3], &[1]), b"s".to_vec()];
    let file = open(checkpoint(&dict.concat(), &[("0", &[0; 8])])).unwrap();
    let error = file.tensor(file.root().get("blocks.0.weight").unwrap()).unwrap().unwrap_err();
    assert_says(&error.to_string(), "hostile.pt: \"blocks.0.weight\": shape [3]");
}

#[test]
fn numbers_that_take_much_more_memory_than_the_file_are_refused() {
    let (file, found) = with_tensor(&tensor("BoolStorage", 1 << 20, 0, &[1 << 20], &[1]), &[0; 1 << 20]);
    let error = file.read_i64(&found.unwrap()).unwrap_err().to_string();
    assert_says(&error, "it would take 8388608 bytes of memory; at most 2");
}

#[test]
fn altered_storages_are_found_when_they_are_read() {
    let mut bytes = checkpoint(&tensor("FloatStorage", 4, 0, &[4], &[1]), &[("0", &[7; 16])]);
    let at = bytes.windows(16).position(|window| window == [7; 16]).unwrap();
    bytes[at + 9] ^= 4;
    let file = open(bytes).unwrap();
    let tensor = file.tensor(file.root()).unwrap().unwrap();
    for _ in 0..2 {
        let message = file.read_f32(&tensor).unwrap_err().to_string();
        assert_says(&message, "\"c/data/0\" was altered: its checksum is wrong");
    }
}

#[test]
fn a_checksum_of_zero_is_not_checked() {
    let mut zip = StoredZip::default();
    zip.add("c/data.pkl", b"\x80\x02K\x05.", 0);
    assert_eq!(open(zip.finish()).unwrap().root().as_i64(), Some(5));
    let mut zip = StoredZip::default();
    zip.add("c/data.pkl", b"\x80\x02K\x05.", 1);
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "data.pkl\" was altered");
}

#[test]
fn what_is_no_checkpoint_is_refused_by_name() {
    let refused = |bytes: &[u8], wanted: &str| {
        assert_says(&open(bytes.to_vec()).unwrap_err().to_string(), wanted);
    };
    refused(b"", "the file is empty");
    refused(b"a text", "does not begin like one");
    refused(b"PK\x03\x04", "may be truncated");
    refused(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "PyTorch before 1.6");
    refused(&StoredZip::default().finish(), "without a data.pkl");
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    zip.file("c/byteorder", b"big");
    refused(&zip.finish(), "its byte order is \"big\"");
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    zip.file("d/data.pkl", b"\x80\x02N.");
    refused(&zip.finish(), "two checkpoints, \"c/data.pkl\" and \"d/data.pkl\"");
    let mut compressed = checkpoint(b"N", &[]);
    let directory = compressed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    compressed[directory + 10] = 8;
    refused(&compressed, "\"c/data.pkl\" is compressed");
    let missing = TorchFile::open(Path::new("no/such.pt")).unwrap_err();
    assert_says(&missing.to_string(), "no/such.pt");
    let folder = TorchFile::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert_says(&folder.to_string(), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn files_that_share_a_name_or_bytes_are_refused() {
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    zip.file("c/data/0", b"1234");
    zip.file("c/data/0", b"5678");
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "two files \"c/data/0\"");
    let mut inner = StoredZip::default();
    inner.file("c/data/1", b"1234");
    let inner = inner.finish();
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    let at = zip.file("c/data/0", &inner);
    zip.list("c/data/1", b"1234", crc32fast::hash(b"1234"), at);
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "\"c/data/0\" and \"c/data/1\" overlap");
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    zip.list("c/data/0", b"1234", 0, 0);
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "another name where it stands");
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    zip.list("c/data.pkl", &[0; 60], 0, 0);
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "\"c/data.pkl\" overlaps the directory");
}

#[test]
fn malformed_pickles_are_refused_with_the_place() {
    for (pickle, wanted) in [
        (
            &b"X\xff\xff\xff\xffabc"[..],
            "byte 2: opcode 0x58 'X': promises 4294967295 bytes, but the pickle has 4",
        ),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "promises 18446744073709551615 bytes"),
        (b"\x8b\xff\xff\xff\x7f", "promises 2147483647 bytes"),
        (b"\x95\x00\x00\x00\x00\x00\x00\x00\x80", "promises 9223372036854775808 bytes"),
        (b"Nr\xff\xff\xff\xff", "stores under 4294967295, but the pickle stores only 1 values"),
        (b"h\x00", "nothing was stored under 0"),
        (b"X\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
        (b"cos\nsystem", "a name whose end is missing"),
        (b"NN", "values are left over"),
        (b"", "needs 1 values on the stack, which has 0"),
        (b"N0.", "needs 1 values on the stack"),
        (b"Na", "nothing on the stack to add to"),
        (b"(Na", "nothing on the stack to add to"),
        (b"NNa", "not of a kind that can be added to"),
        (b"}(Nu", "a key without a value"),
        (b"t", "no mark"),
        (b"NNR", "the arguments are not a tuple"),
        (b"}}b", "only objects have a state"),
        (b"i", "unknown or not supported"),
        (b"\x80\x09", "pickle protocol 9"),
        (b"N.N", "follow the end"),
    ] {
        assert_says(&message(pickle), wanted);
    }
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02]");
    assert_says(&open(zip.finish()).unwrap_err().to_string(), "ends without a STOP");
}

#[test]
fn nothing_is_called() {
    let file = open(checkpoint(b"cos\nsystem\nX\x06\x00\x00\x00reboot\x85R", &[])).unwrap();
    assert_eq!(file.root().value(), Value::Object);
    assert_eq!(file.root().class().unwrap().to_string(), "os.system");
    let argument = file.root().args().unwrap().items().unwrap().next().unwrap();
    assert_eq!(argument.as_str(), Some("reboot"));
}

#[test]
fn a_million_levels_are_no_danger() {
    const LEVELS: usize = 1_000_000;
    let room = vec![0; 120 * LEVELS];
    let lists = [b"]".repeat(LEVELS), b"a".repeat(LEVELS - 1)].concat();
    let tuples = [b"(".repeat(LEVELS), b"t".repeat(LEVELS)].concat();
    let wrapped = [&b")"[..], &b"\x85".repeat(LEVELS - 1)].concat();
    let calls =
        [b"cf\ng\n".repeat(LEVELS), b")".to_vec(), b"R\x85".repeat(LEVELS - 1), b"R".to_vec()].concat();
    for (pickle, values) in [(lists, LEVELS), (tuples, LEVELS), (wrapped, LEVELS), (calls, 3 * LEVELS)] {
        let file = open(checkpoint(&pickle, &[("0", &room)])).unwrap();
        assert_eq!(file.root().reachable().count(), values);
        assert!(format!("{:?}", file.root()).len() < 100);
        // Without the room, the file is too small for so many values.
        assert_says(&message(&pickle), "too many values");
    }
    assert_says(&message(&b"(".repeat(LEVELS)), "too many values");
}

#[test]
fn a_list_in_itself_and_a_doubling_memo_are_no_danger() {
    let file = open(checkpoint(b"]q\x00h\x00a", &[])).unwrap();
    assert_eq!(file.root().items().unwrap().next(), Some(file.root()));
    assert_eq!(file.root().reachable().count(), 1);
    let dict_in_itself = open(checkpoint(b"}q\x00X\x01\x00\x00\x00ah\x00s", &[])).unwrap();
    assert_eq!(dict_in_itself.root().get("a"), Some(dict_in_itself.root()));
    // 2¹⁰⁰ values if each were a copy.
    let doubling = [&b"]"[..], &b"2\x86".repeat(100)].concat();
    let file = open(checkpoint(&doubling, &[])).unwrap();
    assert_eq!(file.root().reachable().count(), 101);
}

#[test]
fn no_opcode_is_worth_much_memory() {
    const REPEATS: usize = 200_000;
    for unit in
        [&b"N"[..], b"(", b"]", b")", b"K\x00", b"Nq\x00", b"]2a", b"N\x94", b"}2", b"c\n\n)R", b"(t", b"(d"]
    {
        let pickle = [unit.repeat(REPEATS), b"(1".to_vec()].concat();
        assert_says(&message(&pickle), "too many values");
        // As many as fit beside other bytes.
        for room in [0, 8 << 20] {
            let storage = vec![0; room];
            drop(open(checkpoint(&[b"(", &pickle[..], b"t"].concat(), &[("0", &storage)])));
        }
    }
}

#[test]
fn directories_of_tiny_files_are_not_worth_much_memory() {
    let mut zip = StoredZip::default();
    zip.file("c/data.pkl", b"\x80\x02N.");
    for i in 0..60_000u32 {
        zip.file(&format!("{i:x}"), b"");
    }
    open(zip.finish()).unwrap();
}

#[test]
fn sets_and_ordered_dicts_read_as_such_in_every_protocol() {
    let kinds = [
        (&b"ccollections\nOrderedDict\n)RK\x01K\x02s"[..], Value::Dict, 1),
        (b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RK\x01K\x02s", Value::Dict, 1),
        (b"c__builtin__\nset\n](K\x01K\x02e\x85R", Value::Set, 2),
        (b"\x8f(K\x01K\x02K\x03\x90", Value::Set, 3),
        (b"(K\x01K\x02\x91", Value::Set, 2),
        (b"(K\x01K\x02l", Value::List, 2),
        (b"(K\x01K\x02d", Value::Dict, 1),
        (b"\x95\x09\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x8c\x01b\x93)\x81", Value::Object, 0),
    ];
    for (pickle, kind, len) in kinds {
        let file = open(checkpoint(pickle, &[])).unwrap();
        let root = file.root();
        assert_eq!(root.value(), kind);
        let found = root.entries().map(Iterator::count).or_else(|| root.items().map(Iterator::count));
        assert_eq!(found.unwrap_or(0), len);
    }
    let long = [&b"\x8a\x09"[..], &[0xff; 9]].concat();
    assert_eq!(open(checkpoint(&long, &[])).unwrap().root().value(), Value::Long(&[0xff; 9]));
    assert_eq!(open(checkpoint(b"\x8a\x01\xfe", &[])).unwrap().root().as_i64(), Some(-2));
    assert_eq!(open(checkpoint(b"\x8a\x00", &[])).unwrap().root().as_i64(), Some(0));
    assert_eq!(open(checkpoint(b"C\x02\xff\x00", &[])).unwrap().root().as_bytes(), Some(&[0xff, 0][..]));
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let storage = 1.5f32.to_le_bytes().repeat(6);
    let whole = checkpoint(&tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1]), &[("0", &storage)]);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(file) = open(bytes) else { continue };
        let Some(tensor) = file.tensor(file.root()) else { panic!("bit {bit}") };
        match tensor.and_then(|tensor| file.read_f32(&tensor)) {
            Ok(numbers) => assert_eq!(numbers, [1.5; 6], "bit {bit}"),
            Err(error) => assert_says(&error.to_string(), NAME),
        }
    }
}

#[test]
fn truncated_checkpoints_are_refused_by_name() {
    let whole = checkpoint(&tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1]), &[("0", &[0; 24])]);
    for len in 0..whole.len() {
        open(whole[..len].to_vec()).unwrap_err();
    }
}

/// The numbers of all tensors of a file.
fn numbers(file: &TorchFile) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for tensor in file.values().filter_map(|value| file.tensor(value)) {
        let tensor = tensor?;
        match tensor.dtype() {
            TorchType::F32 => all.extend(file.read_f32(&tensor)?.into_iter().map(f64::from)),
            _ => all.extend(file.read_i64(&tensor)?.into_iter().map(|x| x as f64)),
        }
    }
    Ok(all)
}

#[test]
fn truncated_fixtures_are_refused_by_name() {
    for path in cases("").iter().flat_map(checkpoints) {
        let whole = std::fs::read(&path).unwrap();
        // Every 97th byte; fewer of the large files.
        let step = whole.len().div_ceil(2000).max(97);
        for len in (0..whole.len()).step_by(step) {
            open(whole[..len].to_vec()).unwrap_err();
        }
    }
}

#[test]
fn fixtures_with_flipped_bits_are_refused_or_read_as_before() {
    for path in cases("").iter().flat_map(checkpoints) {
        let whole = std::fs::read(&path).unwrap();
        let original = TorchFile::open(&path).unwrap();
        let expected = numbers(&original).unwrap();
        for at in (0..whole.len()).step_by(whole.len().div_ceil(100)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            match open(bytes).and_then(|file| numbers(&file)) {
                Ok(numbers) => assert!(numbers == expected, "byte {at}"),
                Err(error) => assert_says(&error.to_string(), NAME),
            }
        }
    }
}
