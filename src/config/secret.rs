//! Passwords, kept out of every log and message.

use std::{fmt, fs::File, io::Read, path::Path};

/// Longer than any password that a store takes in practice; a larger file is some other file.
pub const PASSWORD_BYTES_MAX: u64 = 4096;

/// A text that is never shown: neither `Debug` nor `Display` tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The content of a file, without its one last line end.
    ///
    /// # Errors
    /// What is wrong with the file, never its content.
    pub fn from_file(file: &Path) -> Result<Self, String> {
        let opened = File::open(file).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        let limit = PASSWORD_BYTES_MAX.saturating_add(1);
        opened.take(limit).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > PASSWORD_BYTES_MAX {
            return Err(format!("larger than {PASSWORD_BYTES_MAX} bytes"));
        }
        let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() { Err("empty".to_owned()) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Secret, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, content).unwrap();
        Secret::from_file(&file)
    }

    #[test]
    fn one_line_end_is_cut_and_no_more() {
        assert_eq!(read(b"pass word \n").unwrap().reveal(), "pass word ");
        assert_eq!(read(b"pass\r\n").unwrap().reveal(), "pass");
        assert_eq!(read(b"pass\n\n").unwrap().reveal(), "pass\n");
        assert_eq!(read(b"pass").unwrap().reveal(), "pass");
    }

    #[test]
    fn what_is_no_password_is_refused() {
        assert_eq!(read(b"\n"), Err("empty".to_owned()));
        assert_eq!(read(&[0xff]), Err("not UTF-8 text".to_owned()));
        assert!(read(&[b'a'; 4096]).is_ok());
        assert_eq!(read(&[b'a'; 4097]), Err("larger than 4096 bytes".to_owned()));
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
    }
}
