//! Writes zip archives of stored files, proper ones and improper ones.

/// An archive that is being written.
#[derive(Default)]
pub struct StoredZip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    files: u16,
}

impl StoredZip {
    /// Adds a file with the checksum given; says where its content begins.
    pub fn add(&mut self, name: &str, content: &[u8], checksum: u32) -> usize {
        let at = self.bytes.len();
        self.bytes.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0");
        self.bytes.extend(sizes(name, content, checksum));
        self.bytes.extend([0; 2]);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(content);
        self.list(name, content, checksum, at);
        self.bytes.len() - content.len()
    }

    /// Adds a file with its checksum; says where its content begins.
    pub fn file(&mut self, name: &str, content: &[u8]) -> usize {
        self.add(name, content, crc32fast::hash(content))
    }

    /// Adds an entry to the directory only, for a file that stands at `at`.
    pub fn list(&mut self, name: &str, content: &[u8], checksum: u32, at: usize) {
        self.directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
        self.directory.extend(sizes(name, content, checksum));
        self.directory.extend([0; 12]);
        self.directory.extend((at as u32).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.files += 1;
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        let at = self.bytes.len() as u32;
        self.bytes.extend(&self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend([self.files.to_le_bytes(), self.files.to_le_bytes()].concat());
        self.bytes.extend((self.directory.len() as u32).to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes
    }
}

/// Checksum, size, size again and length of the name.
fn sizes(name: &str, content: &[u8], checksum: u32) -> Vec<u8> {
    let size = (content.len() as u32).to_le_bytes();
    [&checksum.to_le_bytes(), &size, &size, &(name.len() as u16).to_le_bytes()[..]].concat()
}
