use segue_wire::{FaultKind, Loss};

use super::{
    convert,
    encoding::{self, Damage, StringHead, put_number},
    layout::{DecidedBy, Meaning, Op, Packed},
    lzf,
    notes::TEXT_BYTES_MAX,
    tape::Tape,
    walk::{Fate, Walk},
    ziplist,
};

/// A string that a [`Walk`] is in the middle of.
#[derive(Debug)]
pub struct Text {
    /// Bytes still to come, as they stand in the RDB.
    left: u64,
    lzf: Option<lzf::Decoder>,
    usage: Usage,
    pass: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    /// It passes or is left out, unseen.
    Opaque,
    /// So too, and its start is noted.
    Noted,
    /// A packed list, to be held whole and converted.
    Held(Packed),
    /// A list element that becomes the only entry of a ziplist.
    OnlyEntry,
    /// It passes or is left out, and is needed whole for what follows.
    Whole(Meaning),
}

/// LZF bytes decoded at a time where the result isn't held: they come out as up to 88 times as many.
const PACKED_STEP_BYTES: usize = 1 << 10;

/// A larger buffer is given back once it has been used.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Walk {
    /// Starts on a string; false where the input ends within its head.
    pub fn begin_text(
        &mut self,
        op: Op,
        pass: bool,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<bool, FaultKind> {
        let head = encoding::string_head(tape.rest()).map_err(|damage| self.damage(damage))?;
        let Some((head, size)) = head else { return Ok(false) };
        let usage = self.usage(op);
        if usage == Usage::Opaque
            && let StringHead::Raw { len } = head
            && let Some(whole) = usize::try_from(len).ok().and_then(|len| len.checked_add(size))
            && whole <= tape.rest().len()
        {
            tape.take(whole, pass)?;
            self.advance();
            return Ok(true);
        }
        self.advance();
        let (left, lzf) = match head {
            StringHead::Integer(value) => return self.integer(value, size, usage, pass, tape).map(|()| true),
            StringHead::Raw { len } => (len, None),
            StringHead::Lzf { packed_len, len } => (packed_len, Some((lzf::Decoder::new(len), len))),
        };
        let len = lzf.as_ref().map_or(left, |(_, len)| *len);
        match usage {
            Usage::Opaque | Usage::Noted | Usage::Whole(_) => {
                if let Usage::Whole(_) = usage {
                    self.hold_whole(len, tape)?;
                }
                if pass {
                    tape.room(left.saturating_add(size as u64))?;
                }
                tape.take(size, pass)?;
            }
            Usage::Held(kind) => {
                if !tape.holds(len) || !tape.holds(left) {
                    return Err(tape.too_large("packed value"));
                }
                tape.skip(size);
                if let Some(whole) = usize::try_from(left).ok().and_then(|left| tape.rest().get(..left))
                    && self.convert_whole(kind, whole, lzf.is_some().then_some(len), tape, losses)?
                {
                    return Ok(true);
                }
            }
            Usage::OnlyEntry => {
                tape.skip(size);
                let (front, back) = ziplist::around_single(len).map_err(|damage| self.damage(damage))?;
                let writer = tape.writer();
                put_number((front.len() + back.len()) as u64 + len, writer);
                writer.extend_from_slice(&front);
            }
        }
        self.buffer.clear();
        self.text = Some(Text { left, lzf: lzf.map(|(decoder, _)| decoder), usage, pass });
        Ok(true)
    }

    /// Goes on through the string; false where the input ends before it.
    pub fn run_text(&mut self, tape: &mut Tape<'_>, losses: &mut Vec<Loss>) -> Result<bool, FaultKind> {
        let Some(mut text) = self.text.take() else { return Ok(true) };
        let rest = tape.rest();
        let bytes = usize::try_from(text.left).ok().and_then(|left| rest.get(..left)).unwrap_or(rest);
        text.left -= bytes.len() as u64;
        match text.usage {
            Usage::Opaque => tape.take(bytes.len(), text.pass)?,
            Usage::Noted => {
                if !self.note(bytes, text.lzf.as_mut()) {
                    text.usage = Usage::Opaque;
                }
                tape.take(bytes.len(), text.pass)?;
            }
            Usage::Held(_) | Usage::Whole(_) => {
                let mut behind = bytes;
                let read = match &mut text.lzf {
                    None => {
                        self.buffer.extend_from_slice(std::mem::take(&mut behind));
                        Ok(())
                    }
                    Some(lzf) => lzf.decode(&mut behind, &mut self.buffer),
                };
                // What is behind the damage would not be here in another cut.
                let pass = text.pass && matches!(text.usage, Usage::Whole(_));
                tape.take(bytes.len() - behind.len(), pass)?;
                read.map_err(|damage| self.damage(damage))?;
            }
            Usage::OnlyEntry => match &mut text.lzf {
                None => tape.pass(bytes.len())?,
                Some(lzf) => self.stream_lzf(bytes, lzf, tape)?,
            },
        }
        if text.left > 0 {
            self.text = Some(text);
            return Ok(false);
        }
        self.end_text(&text, tape, losses)?;
        Ok(true)
    }

    fn end_text(
        &mut self,
        text: &Text,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        if let (Some(lzf), Usage::Held(_) | Usage::OnlyEntry | Usage::Whole(_)) = (&text.lzf, text.usage) {
            lzf.finish().map_err(|damage| self.damage(damage))?;
        }
        match text.usage {
            Usage::Held(kind) => {
                let blob = std::mem::take(&mut self.buffer);
                self.convert(kind, &blob, tape, losses)?;
                self.buffer = blob;
            }
            Usage::OnlyEntry => tape.put(&[ziplist::END]),
            Usage::Whole(meaning) => {
                let whole = std::mem::take(&mut self.buffer);
                self.take_whole(meaning, &whole)?;
                self.buffer = whole;
            }
            Usage::Opaque | Usage::Noted => {}
        }
        self.drop_buffer();
        Ok(())
    }

    fn usage(&self, op: Op) -> Usage {
        match op {
            Op::Text(Meaning::Key) if self.fate != Fate::Native || self.item.decided != DecidedBy::Code => {
                Usage::Noted
            }
            Op::Text(Meaning::LibraryCode) if self.fate == Fate::LeftOut => Usage::Noted,
            Op::Text(meaning @ (Meaning::TemplateField | Meaning::TemplateFields)) => Usage::Whole(meaning),
            Op::Packed(kind) if self.fate == Fate::Older => Usage::Held(kind),
            Op::PlainNode if self.fate == Fate::Older => Usage::OnlyEntry,
            _ => Usage::Opaque,
        }
    }

    /// A string that is an integer's text, whole.
    fn integer(
        &mut self,
        value: i32,
        size: usize,
        usage: Usage,
        pass: bool,
        tape: &mut Tape<'_>,
    ) -> Result<(), FaultKind> {
        match usage {
            Usage::Opaque => tape.take(size, pass),
            Usage::Noted => {
                self.notes.text.extend_from_slice(value.to_string().as_bytes());
                tape.take(size, pass)
            }
            Usage::Held(_) => Err(self.damage(Damage("an integer for a packed value"))),
            Usage::Whole(meaning) => {
                let whole = value.to_string();
                self.hold_whole(whole.len() as u64, tape)?;
                self.take_whole(meaning, whole.as_bytes())?;
                tape.take(size, pass)
            }
            Usage::OnlyEntry => {
                tape.skip(size);
                self.ziplist.start();
                self.ziplist.push_integer(value.into());
                let put = self.ziplist.finish().map(|list| encoding::put_string(list, tape.writer()));
                put.map_err(|damage| self.damage(damage))
            }
        }
    }

    /// Is there room for a part of a template?
    fn hold_whole(&self, len: u64, tape: &Tape<'_>) -> Result<(), FaultKind> {
        let held = usize::try_from(len).ok().and_then(|len| len.checked_add(self.templates.held_bytes()));
        if held.is_some_and(|held| tape.keeps(held)) {
            Ok(())
        } else {
            Err(tape.too_large("templates of hashes"))
        }
    }

    fn take_whole(&mut self, meaning: Meaning, whole: &[u8]) -> Result<(), FaultKind> {
        if meaning == Meaning::TemplateField {
            self.templates.add_field(whole);
            return Ok(());
        }
        self.templates.define_own(whole).map_err(|damage| self.damage(damage))?;
        self.notes.times = self.templates.fields();
        Ok(())
    }

    /// Notes the start of a text; false once the rest is of no interest. What is wrong with its packing
    /// is for its reader to find.
    fn note(&mut self, bytes: &[u8], lzf: Option<&mut lzf::Decoder>) -> bool {
        let text = &mut self.notes.text;
        match lzf {
            None => text.extend(bytes.iter().take(TEXT_BYTES_MAX.saturating_sub(text.len()))),
            Some(lzf) => {
                for byte in bytes {
                    if text.len() >= TEXT_BYTES_MAX
                        || lzf.decode(&mut std::slice::from_ref(byte), text).is_err()
                    {
                        return false;
                    }
                }
            }
        }
        text.len() < TEXT_BYTES_MAX
    }

    /// Takes LZF bytes, puts what they decode to, and keeps in `buffer` only what later copies can reach.
    fn stream_lzf(
        &mut self,
        bytes: &[u8],
        lzf: &mut lzf::Decoder,
        tape: &mut Tape<'_>,
    ) -> Result<(), FaultKind> {
        for piece in bytes.chunks(PACKED_STEP_BYTES) {
            let known = self.buffer.len();
            let mut behind = piece;
            let decoded = lzf.decode(&mut behind, &mut self.buffer);
            tape.skip(piece.len() - behind.len());
            tape.put(self.buffer.get(known..).unwrap_or_default());
            decoded.map_err(|damage| self.damage(damage))?;
            if let Some(gone) = self.buffer.len().checked_sub(lzf::WINDOW_BYTES) {
                self.buffer.drain(..gone);
            }
        }
        Ok(())
    }

    /// Converts a packed value that is in the input as a whole; false where its LZF is damaged.
    fn convert_whole(
        &mut self,
        kind: Packed,
        bytes: &[u8],
        unpacked_len: Option<u64>,
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<bool, FaultKind> {
        let Some(len) = unpacked_len else {
            tape.skip(bytes.len());
            return self.convert(kind, bytes, tape, losses).map(|()| true);
        };
        let mut blob = std::mem::take(&mut self.buffer);
        let unpacked = usize::try_from(len).ok().and_then(|len| lzf::decode_whole(bytes, len, &mut blob));
        if unpacked.is_some() {
            tape.skip(bytes.len());
            self.convert(kind, &blob, tape, losses)?;
        }
        self.buffer = blob;
        self.drop_buffer();
        Ok(unpacked.is_some())
    }

    fn drop_buffer(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES_MAX);
    }

    fn convert(
        &mut self,
        kind: Packed,
        blob: &[u8],
        tape: &mut Tape<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), FaultKind> {
        if kind == Packed::HashWithTtls {
            if convert::has_field_ttl(blob).map_err(|damage| self.damage(damage))? {
                self.lose_field_ttls(losses)?;
            }
            tape.settle();
        }
        let converted = match kind {
            Packed::TemplateValues => self.templates.put_hash(blob, false, tape.writer()),
            Packed::OwnTemplateValues => self.templates.put_hash(blob, true, tape.writer()),
            _ => convert::convert(kind, blob, &mut self.ziplist, tape.writer()),
        };
        converted.map_err(|damage| self.damage(damage))
    }
}
