//! String values in all their encodings: integers, embedded, raw, compressed.

use anyhow::Result;

use super::core::Fill;
use super::writer::Writer;
use crate::command;

impl Fill {
    pub fn strings(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        for n in 0..150 * self.scale {
            writer.send(command!("SET", format!("string:{n}"), self.word(60)))?;
        }
        // Integers at the edges of the 8, 16, 32 and 64 bit encodings, and near-integers that are none.
        for n in [0, 1, -1, 127, 128, -128, -129, 32767, 32768, -32769, 2_147_483_647, -2_147_483_648] {
            writer.send(command!("SET", format!("integer:{n}"), n))?;
        }
        for (name, text) in [
            ("max", "9223372036854775807"),
            ("min", "-9223372036854775808"),
            ("beyond", "9223372036854775808"),
            ("zeros", "007"),
            ("space", " 7"),
            ("minus-zero", "-0"),
            ("float", "3.0"),
        ] {
            writer.send(command!("SET", format!("integer:{name}"), text))?;
        }
        writer.send(command!("SET", "string:empty", ""))?;
        // 44 bytes are the most that is embedded; 20 the least that is compressed; 63, 16383: RDB lengths.
        for length in [19, 20, 21, 44, 45, 63, 64, 65, 16_383, 16_384, 100_000, 1_000_000] {
            writer.send(command!("SET", format!("string:random:{length}"), self.bytes(length)))?;
            writer.send(command!("SET", format!("string:text:{length}"), self.text(length)))?;
        }
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        writer.send(command!("SET", "string:every-byte", &every_byte))?;
        writer.send(command!("SET", every_byte, "value of the key of every byte"))?;
        writer.send(command!("SET", "", "value of the empty key"))?;
        writer.send(command!("SET", b"binary:\r\n\0\xff".as_slice(), b"\r\n$3\r\n\0\xff".as_slice()))?;
        writer.send(command!("SET", format!("long-key:{}", self.text(20_000)), "value of the long key"))?;
        writer.send(command!("SET", "string:database", self.db))
    }
}
