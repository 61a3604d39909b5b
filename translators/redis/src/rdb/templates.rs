//! What `HIMPORT` makes: hashes whose fields' names stand apart from their values.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::{
    convert::put_entry,
    encoding::{Damage, put_number, put_string},
    listpack::{Entry, Listpack},
};

/// The templates of a snapshot, and the one that is in use.
#[derive(Debug, Default)]
pub struct Templates {
    /// By id; without one, that which a hash brings itself.
    known: BTreeMap<Option<u64>, Template>,
    held_bytes: usize,
    current: Option<u64>,
    /// Fields of the current one that have been put.
    put: usize,
}

#[derive(Debug, Default)]
struct Template {
    /// As strings of an RDB, one behind the other, and where each ends.
    names: BytesMut,
    ends: Vec<u32>,
}

/// A hash of few bytes gets all its fields' names: this bounds how much more comes out than goes in.
const NAME_BYTES_AVERAGE_MAX: usize = 128;

impl Templates {
    /// A template begins; its fields follow.
    pub fn define(&mut self, id: Option<u64>) {
        let replaced = self.known.insert(id, Template::default());
        self.held_bytes -= replaced.map_or(0, |template| template.held_bytes());
        self.current = id;
    }

    /// One more field of the template that began last.
    pub fn add_field(&mut self, name: &[u8]) {
        if let Some(template) = self.known.get_mut(&self.current) {
            let before = template.held_bytes();
            put_string(name, &mut template.names);
            template.ends.push(u32::try_from(template.names.len()).unwrap_or(u32::MAX));
            self.held_bytes += template.held_bytes() - before;
        }
    }

    /// The fields of a hash that brings its template.
    pub fn define_own(&mut self, fields: &[u8]) -> Result<(), Damage> {
        self.define(None);
        for field in Listpack::parse(fields)?.entries() {
            match field? {
                Entry::Text(name) => self.add_field(name),
                Entry::Integer(name) => self.add_field(name.to_string().as_bytes()),
            }
        }
        self.choose(None)
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A hash of this template begins.
    pub fn choose(&mut self, id: Option<u64>) -> Result<(), Damage> {
        (self.current, self.put) = (id, 0);
        let template = self.known.get(&id).ok_or(Damage("a template that was not defined"))?;
        if template.names.len() > NAME_BYTES_AVERAGE_MAX * template.ends.len() {
            return Err(Damage("a template of names that are longer than 128 bytes on average"));
        }
        Ok(())
    }

    /// How many fields the chosen one has.
    pub fn fields(&self) -> u64 {
        self.known.get(&self.current).map_or(0, |template| template.ends.len() as u64)
    }

    /// The next field's name, as a string of an RDB.
    pub fn next_field(&mut self) -> Result<&[u8], Damage> {
        let template = self.known.get(&self.current);
        let name = template.and_then(|template| template.name(self.put));
        self.put += 1;
        name.ok_or(Damage("more values than its template has fields"))
    }

    /// Puts the HASH that a listpack of values stands for. Its first entry is the template's id, unless the
    /// hash brought its own.
    pub fn put_hash(&mut self, values: &[u8], brought: bool, out: &mut BytesMut) -> Result<(), Damage> {
        let list = Listpack::parse(values)?;
        let mut entries = list.entries();
        let id = match entries.next().transpose()? {
            Some(Entry::Integer(id)) => u64::try_from(id).ok(),
            _ => None,
        };
        match id {
            Some(_) if brought => self.choose(None)?,
            Some(id) => self.choose(Some(id))?,
            None => return Err(Damage("values without their template")),
        }
        if list.count()? != self.fields() + 1 {
            return Err(Damage("not as many values as its template has fields"));
        }
        put_number(self.fields(), out);
        for value in entries {
            out.extend_from_slice(self.next_field()?);
            put_entry(value?, out);
        }
        Ok(())
    }
}

impl Template {
    fn held_bytes(&self) -> usize {
        self.names.len() + self.ends.len() * size_of::<u32>()
    }

    fn name(&self, place: usize) -> Option<&[u8]> {
        let end = |place: usize| usize::try_from(*self.ends.get(place)?).ok();
        let start = place.checked_sub(1).map_or(Some(0), end)?;
        self.names.get(start..end(place)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::listpack::tests::write, *};

    fn templates() -> Templates {
        let mut templates = Templates::default();
        templates.define(Some(3));
        templates.add_field(b"a");
        templates.add_field(b"long");
        templates
    }

    #[test]
    fn a_hash_gets_the_names_of_its_template() {
        let (mut templates, mut out) = (templates(), BytesMut::new());
        let values = write(&[Entry::Integer(3), Entry::Text(b"v"), Entry::Integer(7)]);
        templates.put_hash(&values, false, &mut out).unwrap();
        assert_eq!(&out[..], b"\x02\x01a\x01v\x04long\xc0\x07");

        let mut out = BytesMut::new();
        templates.define_own(&write(&[Entry::Integer(5), Entry::Text(b"b")])).unwrap();
        templates
            .put_hash(&write(&[Entry::Integer(0), Entry::Text(b"v"), Entry::Text(b"w")]), true, &mut out)
            .unwrap();
        assert_eq!(&out[..], b"\x02\x015\x01v\x01b\x01w");
        templates.define(None);
        assert_eq!(templates.held_bytes(), 7 + 2 * size_of::<u32>(), "one's own is gone with the next");
    }

    #[test]
    fn damage_is_named() {
        let put = |values: &[Entry<'_>]| templates().put_hash(&write(values), false, &mut BytesMut::new());
        let too_few = Damage("not as many values as its template has fields");
        assert_eq!(put(&[Entry::Integer(3), Entry::Text(b"v")]), Err(too_few));
        assert_eq!(
            put(&[Entry::Integer(4), Entry::Text(b"v")]),
            Err(Damage("a template that was not defined"))
        );
        assert_eq!(put(&[Entry::Text(b"v")]), Err(Damage("values without their template")));
        assert_eq!(put(&[]), Err(Damage("values without their template")));
    }
}
