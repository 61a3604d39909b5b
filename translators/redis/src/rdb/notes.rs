use segue_wire::{Grade, Loss};

use super::layout::{Item, Role};

/// What a walk has seen of the item it is in, and of where it stands.
#[derive(Debug, Default)]
pub struct Notes {
    pub db: u64,
    /// Whether values have a key here: those of a DUMP payload have none.
    pub keyed: bool,
    /// The start of the item's key, or of its library code; not captured for every item.
    pub text: Vec<u8>,
    pub lost: bool,
    pub stream: Stream,
    /// How often steps are to be repeated that do not follow their count.
    pub times: u64,
    /// Of a hash: its earliest, and the last that was read. Unix ms; of a field −1: none.
    pub min_ttl: u64,
    pub field_ttl: i64,
}

/// What the older forms of a stream drop.
#[derive(Debug, Default)]
pub struct Stream {
    pub length: u64,
    pub entries_added: Option<u64>,
    pub max_deleted: bool,
    pub active_time: bool,
    pub idempotence: bool,
    /// Of the group under way.
    pub consumers: u64,
}

/// Most bytes that are captured of a text.
pub const TEXT_BYTES_MAX: usize = 512;

impl Notes {
    /// A new item begins.
    pub fn reset(&mut self, keyed: bool) {
        self.text.clear();
        self.keyed = keyed;
        (self.lost, self.stream) = (false, Stream::default());
    }

    pub fn loss(&self, item: &Item, kind: &'static str, grade: Grade, what: String) -> Loss {
        let key = (item.role == Role::Value && self.keyed)
            .then(|| self.text.iter().take(Loss::KEY_BYTES_MAX).copied().collect());
        Loss { kind, grade, what, key, db: self.db }
    }

    /// A module's value, or what it saved beside the keys.
    pub fn module_loss(&self, item: &Item, module: &str) -> Loss {
        let (kind, what) = match item.role {
            Role::Value if module == "vectorset" => ("vector-set", "vector set".to_owned()),
            Role::Value => ("module-type", format!("value of module type {module}")),
            _ => ("module-aux", format!("data of module {module}")),
        };
        self.loss(item, kind, Grade::Data, what)
    }

    pub fn field_ttl_loss(&self, item: &Item) -> Loss {
        self.loss(item, "hash-field-ttl", Grade::Data, "field TTLs of a hash".to_owned())
    }

    pub fn nacked_loss(&self, item: &Item) -> Loss {
        let what = "entries of a stream's group that wait for any consumer".to_owned();
        self.loss(item, "stream-nacked", Grade::Data, what)
    }

    /// What an item without an older form is called.
    pub fn name(&self, item: &Item) -> String {
        match item.name {
            "ARRAY" => "array".to_owned(),
            "KEY_META" => "what modules keep of the key that follows".to_owned(),
            "SLOT_IMPORT" => "that slots are being imported".to_owned(),
            "FUNCTION2" => match library_name(&self.text) {
                Some(name) => format!("library {name}"),
                None => "library without a readable name".to_owned(),
            },
            name => format!("value of type {name}"),
        }
    }

    /// What the older form of a stream left out. An older loader takes entries-added for the length and
    /// max-deleted-id for 0-0: where they are that, nothing is lost.
    pub fn stream_losses(&self, item: &Item) -> impl Iterator<Item = Loss> {
        let stream = &self.stream;
        let counters = stream.max_deleted || stream.entries_added.is_some_and(|added| added != stream.length);
        [
            (counters, "stream-counters", "entries-added and max-deleted-id of a stream"),
            (stream.active_time, "stream-consumer-active-time", "active-time of a stream's consumers"),
            (stream.idempotence, "stream-idempotence", "ids of a stream's producers"),
        ]
        .into_iter()
        .filter(|(lost, ..)| *lost)
        .map(|(_, kind, what)| self.loss(item, kind, Grade::Bookkeeping, what.to_owned()))
    }
}

/// The name of a module from its id: nine characters of six bits, then a ten-bit encoding version.
pub fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .rev()
        .filter_map(|place| CHARACTERS.get((id >> (10 + 6 * place)) as usize & 63))
        .map(|byte| char::from(*byte))
        .collect()
}

/// The name in `#!lua name=NAME`, the first line of a function library.
fn library_name(code: &[u8]) -> Option<String> {
    let line = code.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find_map(|word| word.strip_prefix(b"name="))?;
    let name = word.trim_ascii().escape_ascii().to_string();
    Some(name.trim_matches(['"', '\'', '\\']).to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{layout::find, versions::Codes},
        *,
    };

    #[test]
    fn module_names() {
        // `vectorset`, encoding version 0: the id that redis 8.0 writes.
        let id = b"vectorset".iter().fold(0u64, |id, byte| id << 6 | u64::from(byte - b'a' + 26)) << 10;
        assert_eq!(module_name(id), "vectorset");
        assert_eq!(module_name(0), "AAAAAAAAA");
        assert_eq!(module_name(u64::MAX), "_________");
    }

    #[test]
    fn library_names() {
        assert_eq!(library_name(b"#!lua name=mylib\nredis.x()").as_deref(), Some("mylib"));
        assert_eq!(library_name(b"#!lua  name=\"my\" \r\n").as_deref(), Some("my"));
        assert_eq!(library_name(b"#!lua\n name=no"), None);
        assert_eq!(library_name(b"return 1"), None);
    }

    #[test]
    fn a_key_in_a_loss_is_cut() {
        let notes = Notes { text: vec![b'k'; 400], keyed: true, db: 3, ..Notes::default() };
        let loss = notes.field_ttl_loss(find(Codes::Redis, 25).unwrap());
        assert_eq!((loss.key.unwrap().len(), loss.db), (Loss::KEY_BYTES_MAX, 3));
    }
}
