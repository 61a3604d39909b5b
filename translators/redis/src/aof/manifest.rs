use segue_wire::FaultKind;

/// The files of an AOF folder, in the order in which they are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// In the manifest's own folder.
    pub name: String,
    pub sequence: u64,
    pub kind: FileKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Base,
    Increment,
    /// Replaced by a rewrite, and about to be deleted: its content is in the base.
    History,
}

impl Manifest {
    /// A folder that holds more is one whose rewrites have failed for long.
    pub const FILES_MAX: usize = 256;
    pub const BYTES_MAX: usize = 256 << 10;

    /// Reads `file <name> seq <number> type b|h|i`, one a line. Releases add words of their own behind it
    /// (`startoffset`, from 8.0 on), and skip those that they don't know.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Malformed`] with the line; [`FaultKind::TooLarge`].
    pub fn parse(text: &[u8]) -> Result<Self, FaultKind> {
        if text.len() > Self::BYTES_MAX {
            let (limit, max) = ("manifest_bytes_max", Self::BYTES_MAX);
            return Err(FaultKind::TooLarge { what: "an AOF manifest", limit, max });
        }
        let text = std::str::from_utf8(text).map_err(|_| malformed(None, "it is not text"))?;
        let mut manifest = Self { files: Vec::new() };
        for (line, number) in text.lines().zip(1..) {
            if !line.is_empty() && !line.starts_with('#') {
                let file = file(line).ok_or_else(|| malformed(Some(number), line))?;
                manifest.add(file).map_err(|why| malformed(Some(number), why))?;
            }
        }
        if manifest.files.is_empty() {
            return Err(malformed(None, "it names no file"));
        }
        Ok(manifest)
    }

    /// As the servers do: one base, increments in growing order.
    fn add(&mut self, file: File) -> Result<(), &'static str> {
        if self.files.len() == Self::FILES_MAX {
            return Err("more than 256 files: let the store rewrite them first (BGREWRITEAOF)");
        }
        if self.files.iter().any(|other| other.name == file.name) {
            return Err("a file that was named before");
        }
        let last = self.files.iter().rev().find(|other| other.kind == file.kind);
        match (file.kind, last) {
            (FileKind::Base, Some(_)) => return Err("a second base"),
            (FileKind::Increment, Some(last)) if last.sequence >= file.sequence => {
                return Err("an increment out of order");
            }
            _ => {}
        }
        self.files.push(file);
        Ok(())
    }

    /// What a server loads: the base, then the increments.
    pub fn loaded(&self) -> impl Iterator<Item = &File> {
        let of = |kind| self.files.iter().filter(move |file| file.kind == kind);
        of(FileKind::Base).chain(of(FileKind::Increment))
    }

    /// The manifest of what is loaded, in the words that every release knows.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |file: &File| {
            let kind = if file.kind == FileKind::Base { 'b' } else { 'i' };
            format!("file {} seq {} type {kind}\n", file.name, file.sequence)
        };
        self.loaded().map(line).collect()
    }
}

fn file(line: &str) -> Option<File> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let value = |key: &str| {
        let mut pairs = words.chunks_exact(2);
        pairs.find_map(|pair| pair.first()?.eq_ignore_ascii_case(key).then(|| pair.get(1).copied())?)
    };
    let name = value("file").filter(|name| is_plain(name))?;
    let kind = match value("type")? {
        "b" => FileKind::Base,
        "i" => FileKind::Increment,
        "h" => FileKind::History,
        _ => return None,
    };
    let sequence = value("seq")?.parse().ok().filter(|sequence| *sequence > 0)?;
    words.len().is_multiple_of(2).then(|| File { name: name.to_owned(), sequence, kind })
}

/// A name in this folder. One that has to be quoted is none that a server makes by itself.
fn is_plain(name: &str) -> bool {
    !name.contains(['/', '"', '\'', '\\', '\0']) && !matches!(name, "." | "..")
}

fn malformed(line: Option<u32>, detail: &str) -> FaultKind {
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    FaultKind::Malformed { what: "AOF manifest", detail: format!("{place}{detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 8.0.6 wrote after a rewrite, with the leavings of the one before.
    const SEEN: &[u8] = b"file appendonly.aof.2.base.rdb seq 2 type b\n\
        file appendonly.aof.1.incr.aof seq 1 type h\n\
        file appendonly.aof.2.incr.aof seq 2 type i startoffset 3\n";

    #[test]
    fn what_is_loaded_is_written_in_common_words() {
        let manifest = Manifest::parse(SEEN).unwrap();
        let names: Vec<_> = manifest.loaded().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof"]);
        let text =
            "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n";
        assert_eq!(manifest.text(), text);
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().text(), text);
    }

    #[test]
    fn damage_is_said_with_its_line() {
        for (text, said) in [
            ("", "it names no file"),
            ("# only a remark\n", "it names no file"),
            ("\nfile a seq 1\n", "line 2: file a seq 1"),
            ("file a seq 0 type b\n", "line 1: file a seq 0 type b"),
            ("file a seq 1 type b more\n", "line 1: file a seq 1 type b more"),
            ("file ../a seq 1 type b\n", "line 1: file ../a seq 1 type b"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", "line 2: a second base"),
            ("file a seq 2 type i\nfile b seq 2 type i\n", "line 2: an increment out of order"),
            ("file a seq 1 type b\nfile a seq 2 type i\n", "line 2: a file that was named before"),
        ] {
            let said = format!("malformed AOF manifest: {said}");
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn the_number_of_files_and_bytes_has_a_bound() {
        let line = |n: usize| format!("file {n} seq {n} type i\n");
        let most: String = (1..=Manifest::FILES_MAX).map(line).collect();
        assert_eq!(Manifest::parse(most.as_bytes()).unwrap().loaded().count(), Manifest::FILES_MAX);
        assert!(Manifest::parse((most + &line(9999)).as_bytes()).is_err());
        let long = vec![b'#'; Manifest::BYTES_MAX + 1];
        assert_eq!(Manifest::parse(&long).unwrap_err().label(), "too-large");
    }
}
