use bytes::BytesMut;
use segue_redis::aof::{Ending, Rewriter};
use segue_wire::{FaultKind, Limits, Loss, LossPolicy};

/// The smallest snapshot of 8.0: one string, no checksum.
pub const SNAPSHOT: &[u8] = b"REDIS0012\xfe\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0";

/// `SET k v`, as a server writes it.
pub fn command(text: &str) -> String {
    let words: Vec<_> = text.split(' ').collect();
    let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n", words.len()) + &words.iter().map(bulk).collect::<String>()
}

pub fn commands(texts: &[&str]) -> String {
    texts.iter().map(|text| command(text)).collect()
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// What each file gives, all that was put out.
    pub files: Vec<BytesMut>,
    pub endings: Vec<Ending>,
    pub losses: Vec<Loss>,
}

impl Outcome {
    pub fn text(&self) -> String {
        self.files.iter().map(|file| String::from_utf8_lossy(file)).collect()
    }
}

pub fn rewriter(to: &str, policy: LossPolicy, limits: Limits) -> Rewriter {
    Rewriter::new(&"redis-8.0".parse().unwrap(), &to.parse().unwrap(), policy, limits).unwrap()
}

pub fn rewrite(files: &[&[u8]], to: &str, policy: LossPolicy) -> Result<Outcome, FaultKind> {
    let mut rewriter = rewriter(to, policy, Limits::default());
    let mut outcome = Outcome::default();
    for file in files {
        let (mut input, mut out) = (BytesMut::from(*file), BytesMut::new());
        rewriter.feed(&mut input, &mut out, &mut outcome.losses)?;
        outcome.endings.push(rewriter.end_file(&input)?);
        outcome.files.push(out);
    }
    Ok(outcome)
}

pub fn degraded(files: &[&str], to: &str) -> Outcome {
    let files: Vec<_> = files.iter().map(|file| file.as_bytes()).collect();
    rewrite(&files, to, LossPolicy::Degrade).unwrap()
}
