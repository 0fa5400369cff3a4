//! The token that clients have to show.

use std::fmt;
use std::path::Path;

use submask::{Error, Result};
use subtle::ConstantTimeEq;

/// A secret that clients send as `Authorization: Bearer TOKEN`. It is never shown, and compared in constant time.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token: visible characters of ASCII, at least one.
    ///
    /// # Errors
    /// [`Error::Invalid`], which does not show it.
    pub fn new(text: &str) -> Result<Self> {
        match problem_of(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(Error::invalid("token", "(not shown)", problem)),
        }
    }

    /// The token in a file, without white space around it.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let text = text.trim();
        match problem_of(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(Error::format(file, format!("it holds no token: {problem}"))),
        }
    }

    /// Whether `given` is the token. The time taken tells nothing but whether the lengths agree.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

/// What a text would need to be a token.
fn problem_of(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("at least one character");
    }
    if text.contains(['\n', '\r']) {
        return Some("one token on one line, and here is more than one line");
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_plain).then_some("visible characters of ASCII, without spaces between them")
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = Token::new("a-long-secret").unwrap();
        assert!(token.is(b"a-long-secret"));
        for other in ["", "a-long-secres", "a-long-secret ", "A-long-secret", "a-long"] {
            assert!(!token.is(other.as_bytes()), "{other:?}");
        }
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_file_holds_one_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &[u8]| {
            std::fs::write(file.path(), text).unwrap();
            Token::read(file.path())
        };
        assert!(read(b"  a-secret\n\n").unwrap().is(b"a-secret"));
        for (wrong, problem) in [
            (&b""[..], "at least one character"),
            (b" \n", "at least one character"),
            (b"two words", "without spaces"),
            (b"two\nlines", "more than one line"),
            ("schlüssel".as_bytes(), "ASCII"),
            (b"\xff\xfe", "UTF-8"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            let name = file.path().display().to_string();
            assert!(error.contains(problem) && error.contains(&name), "{error}");
        }
        assert!(Token::read(Path::new("no/such/file")).unwrap_err().to_string().contains("no/such/file"));
        assert!(!Token::new("two words").unwrap_err().to_string().contains("two"));
    }
}
