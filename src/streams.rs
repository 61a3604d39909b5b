//! Saved stream state: what a translator needs to let a follower go on where it stopped.
//!
//! One file for each (stream, follower). It is saved whole beside its place and renamed, then appended to
//! while the link runs. What is appended outlives the death of the process, not that of the host: the
//! translator counts with it. A file that can't be read says so much: its state is empty, which no
//! translator takes for a good one.
//!
//! File: 8 bytes `SEGUEST2` (format and its version), then frames: u32 BE length, u64 BE CRC-64/NVME of the
//! content, content. The first holds u16 BE length of the stream's name, the name, u16 BE length of the
//! follower's name, the name, the state; each other a piece of what was appended. The first frame that is
//! cut off or damaged ends the file.

use std::{
    collections::HashMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use segue_wire::StreamKey;

use crate::durable;

const MAGIC: &[u8; 8] = b"SEGUEST2";
const FRAME_HEAD_BYTES: usize = 12;
const SUFFIX: &str = "stream";
/// Most files kept; the oldest give way. A follower whose state is gone gets a full sync.
pub const FILES_MAX: usize = 1024;
/// A larger file is not read.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// A state of at most so much that can't be written is kept in memory; at most [`FILES_MAX`] are.
pub const UNWRITTEN_BYTES_MAX: usize = 64;

/// The folder of saved states.
#[derive(Debug)]
pub struct Streams {
    dir: PathBuf,
    files_max: usize,
    /// One writer at a time: two links of one follower may end at once. Small states that the disk would not
    /// take: a link that ends for what its next one is to know would else end the next one, too.
    unwritten: Mutex<HashMap<PathBuf, Bytes>>,
}

impl Streams {
    /// # Errors
    /// The folder can't be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make the state folder {}: {error}", dir.display()))
        })?;
        Ok(Self { dir: dir.to_owned(), files_max: FILES_MAX, unwritten: Mutex::default() })
    }

    /// Saves a state, durably: it is on disk when this returns. Earlier journals of it are void.
    ///
    /// # Errors
    /// The system's own. The earlier state, if any, is still there then; or, if it is small, the new one in
    /// memory.
    pub fn save(&self, key: &StreamKey, state: &[u8]) -> io::Result<Journal> {
        let file = self.file(key);
        let mut unwritten = self.unwritten();
        unwritten.remove(&file);
        self.write(key, &file, state).inspect_err(|_| {
            if state.len() <= UNWRITTEN_BYTES_MAX && unwritten.len() < self.files_max {
                unwritten.insert(file, Bytes::copy_from_slice(state));
            }
        })
    }

    fn write(&self, key: &StreamKey, file: &Path, state: &[u8]) -> io::Result<Journal> {
        self.make_room(file)?;
        let file = durable::write(&self.dir, file, &encode(key, state)?)?;
        Ok(Journal { file })
    }

    /// The state with all that was appended to it; empty if it can't be read, `None` if there is none.
    pub fn recall(&self, key: &StreamKey) -> Option<Bytes> {
        let file = self.file(key);
        if let Some(state) = self.unwritten().get(&file) {
            return Some(state.clone());
        }
        let bytes = match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Ok(metadata) if metadata.len() <= FILE_BYTES_MAX => fs::read(file).unwrap_or_default(),
            _ => Vec::new(),
        };
        Some(decode(key, bytes.into()).unwrap_or_default())
    }

    /// # Errors
    /// The system's own; a state that is not there is no error.
    pub fn forget(&self, key: &StreamKey) -> io::Result<()> {
        let file = self.file(key);
        self.unwritten().remove(&file);
        durable::remove(&file)
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<PathBuf, Bytes>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names can hold anything: the file is called by their checksum, and says itself whose it is.
    fn file(&self, key: &StreamKey) -> PathBuf {
        let mut names = key.stream.clone().into_bytes();
        names.push(0);
        names.extend(key.follower.as_bytes());
        self.dir.join(format!("{:016x}.{SUFFIX}", crc_fast::checksum(Crc64Nvme, &names)))
    }

    fn make_room(&self, coming: &Path) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.dir)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX) && path != coming)
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort();
        let spare = (files.len() + 1).saturating_sub(self.files_max);
        files.into_iter().take(spare).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The end of one state's file, open to append to.
#[derive(Debug)]
pub struct Journal {
    file: fs::File,
}

impl Journal {
    /// Appends to the state. The system has it when this returns.
    ///
    /// # Errors
    /// The system's own. The state is then void, as far as that can still be said.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut framed = BytesMut::with_capacity(bytes.len() + FRAME_HEAD_BYTES);
        put_frame(&mut framed, bytes)?;
        self.file.write_all(&framed).inspect_err(|_| {
            // Needs no room on the disk; if even this fails, the damaged frame ends the file.
            let _ = self.file.set_len(0);
        })
    }
}

fn encode(key: &StreamKey, state: &[u8]) -> io::Result<BytesMut> {
    let mut body = BytesMut::with_capacity(state.len() + 64);
    for name in [&key.stream, &key.follower] {
        let len = u16::try_from(name.len()).map_err(|_| io::Error::other("a name of over 64 KiB"))?;
        body.put_u16(len);
        body.put_slice(name.as_bytes());
    }
    body.put_slice(state);
    let mut file = BytesMut::with_capacity(body.len() + 32);
    file.put_slice(MAGIC);
    put_frame(&mut file, &body)?;
    Ok(file)
}

fn put_frame(out: &mut BytesMut, content: &[u8]) -> io::Result<()> {
    out.put_u32(u32::try_from(content.len()).map_err(|_| io::Error::other("a frame of over 4 GiB"))?);
    out.put_u64(crc_fast::checksum(Crc64Nvme, content));
    out.put_slice(content);
    Ok(())
}

fn decode(key: &StreamKey, mut file: Bytes) -> Option<Bytes> {
    if file.len() < MAGIC.len() || file.split_to(MAGIC.len()) != MAGIC[..] {
        return None;
    }
    let mut first = take_frame(&mut file)?;
    for name in [&key.stream, &key.follower] {
        let len = usize::from((first.len() >= 2).then(|| first.get_u16())?);
        if first.len() < len || first.split_to(len) != name.as_bytes() {
            return None;
        }
    }
    let mut state = BytesMut::from(first);
    while let Some(appended) = take_frame(&mut file) {
        state.put(appended);
    }
    Some(state.freeze())
}

/// The content of a whole, undamaged frame.
fn take_frame(file: &mut Bytes) -> Option<Bytes> {
    if file.len() < FRAME_HEAD_BYTES {
        return None;
    }
    let (len, checksum) = (file.get_u32() as usize, file.get_u64());
    let content = (file.len() >= len).then(|| file.split_to(len))?;
    (crc_fast::checksum(Crc64Nvme, &content) == checksum).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(stream: &str) -> StreamKey {
        StreamKey { stream: stream.into(), follower: "n2".into() }
    }

    fn open() -> (tempfile::TempDir, Streams) {
        let dir = tempfile::tempdir().unwrap();
        let streams = Streams::open(&dir.path().join("state")).unwrap();
        (dir, streams)
    }

    #[test]
    fn a_state_is_recalled_until_it_is_forgotten() {
        let (_dir, streams) = open();
        assert_eq!(streams.recall(&key("a")), None);
        streams.save(&key("a"), b"one").unwrap();
        streams.save(&key("a"), b"two").unwrap();
        assert_eq!(streams.recall(&key("a")).unwrap(), "two");
        assert_eq!(streams.recall(&key("b")), None);
        streams.forget(&key("a")).unwrap();
        streams.forget(&key("a")).unwrap();
        assert_eq!(streams.recall(&key("a")), None);
    }

    #[test]
    fn what_is_appended_stands_behind_the_state() {
        let (_dir, streams) = open();
        let mut journal = streams.save(&key("a"), b"state").unwrap();
        journal.append(b"+1").unwrap();
        journal.append(b"+2").unwrap();
        assert_eq!(streams.recall(&key("a")).unwrap(), "state+1+2");
        streams.save(&key("a"), b"new").unwrap();
        journal.append(b"+3").unwrap();
        assert_eq!(streams.recall(&key("a")).unwrap(), "new", "a void journal was heard");
    }

    #[test]
    fn a_damaged_state_is_empty_and_a_damaged_end_is_cut_off() {
        let (_dir, streams) = open();
        streams.save(&key("a"), b"state").unwrap();
        let file = streams.file(&key("a"));
        let head = fs::read(&file).unwrap().len();
        streams.save(&key("a"), b"state").unwrap().append(b"+1").unwrap();
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let expected = if at < head { "" } else { "state" };
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(streams.recall(&key("a")).unwrap(), expected, "byte {at} damaged");
            fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(streams.recall(&key("a")).unwrap(), expected, "cut at {at}");
        }
    }

    #[test]
    fn what_the_disk_does_not_take_is_kept_if_it_is_small() {
        let (dir, streams) = open();
        streams.save(&key("a"), b"old").unwrap();
        streams.save(&key("b"), b"old").unwrap();
        let (folder, away) = (dir.path().join("state"), dir.path().join("away"));
        fs::rename(&folder, &away).unwrap();
        assert!(streams.save(&key("a"), b"new").is_err());
        assert!(streams.save(&key("b"), &[7; UNWRITTEN_BYTES_MAX + 1]).is_err());
        assert_eq!(streams.recall(&key("a")).unwrap(), "new");
        assert_eq!(streams.recall(&key("b")), None);
        fs::rename(&away, &folder).unwrap();
        assert_eq!(streams.recall(&key("a")).unwrap(), "new");
        assert_eq!(streams.recall(&key("b")).unwrap(), "old");
        streams.save(&key("a"), b"newer").unwrap();
        assert_eq!(streams.recall(&key("a")).unwrap(), "newer");
        streams.forget(&key("a")).unwrap();
        assert_eq!(streams.recall(&key("a")), None);
    }

    #[test]
    fn at_the_bound_the_oldest_gives_way() {
        let (_dir, mut streams) = open();
        streams.files_max = 2;
        for (age_s, name) in [(30, "a"), (20, "b"), (10, "c")] {
            streams.save(&key(name), b"state").unwrap();
            let at = SystemTime::now() - std::time::Duration::from_secs(age_s);
            fs::File::options().write(true).open(streams.file(&key(name))).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(streams.recall(&key("a")), None);
        assert!(streams.recall(&key("b")).is_some() && streams.recall(&key("c")).is_some());
    }
}
